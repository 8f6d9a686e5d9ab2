import numpy as np
import pandas as pd
import pytest
import yaml
from support import TINY, error_of

from faultline.base.columns import RUN
from faultline.studies.config import resolve
from faultline.studies.criteria import figures as draw
from faultline.studies.criteria.agreement import agreements, predictions
from faultline.studies.criteria.names import CONTROLS, CRITERIA
from faultline.studies.criteria.section import findings, section, verdict
from faultline.studies.criteria.tables import TABLES

PLACE = dict(zip(RUN, ("digits", "small_conv", "standard"), strict=True))
LAYERS = [f"conv{number}" for number in range(9)]


def config_of(**criteria) -> dict:
    config = yaml.safe_load(TINY)
    config["criteria"] = {"methods": ["all"]} | criteria
    return config


@pytest.fixture
def config():
    return resolve(config_of())


def make_tables(*, seeds=(0, 1, 2)) -> dict[str, pd.DataFrame]:
    """fisher ranks layers as their removal does, clean; clat the other way round, the rest do not
    know; filters are two layers of 4. Under pgd there is nothing to lose."""
    rng, scores, removals = np.random.default_rng(0), [], []
    units = [(layer, None) for layer in LAYERS]
    units += [(layer, unit) for layer in LAYERS[:2] for unit in range(4)]
    layer, unit = (pd.Series(column) for column in zip(*units, strict=True))
    for seed in seeds:
        place = PLACE | {"seed": seed, "epoch": 2}
        loss = rng.permutation(len(units)) / 20
        truth = pd.DataFrame({"layer": layer, "filter": unit.astype("Int64"), "loss": loss})
        for images, above in (("clean", True), ("pgd", False)):
            halves = {"loss_even": loss, "loss_odd": loss}
            more = halves | {"images": images, "n": 30, "above_chance": above}
            removals.append(truth.assign(**more, **place))
        for name in (*CRITERIA, *CONTROLS):
            score = {"fisher": loss, "clat": -loss}.get(name, rng.random(len(units)))
            part = truth.drop(columns="loss").assign(criterion=name, score=score, passes=60, n=20)
            scores.append(part.assign(**place))
    scores, removals = pd.concat(scores, ignore_index=True), pd.concat(removals, ignore_index=True)
    return {
        "criteria": scores,
        "removals": removals,
        "predictions": predictions(
            scores,
            removals[removals["above_chance"]],
            share=0.25,
            permutations=999,
            confidence=0.95,
        ),
        "criteria_agreement": agreements(scores, confidence=0.95),
    }


def test_the_section_says_which_criterion_predicts(config):
    tables = make_tables()
    assert set(tables) < set(TABLES)
    (block,) = section(tables, config).blocks
    (figure,) = block.figures
    assert "9 layers, 8 filters" in figure.caption and "30 test images, 3 seeds" in figure.caption
    tests = tables["predictions"].query("level == 'all seeds'")["p_value"].notna().sum()
    assert f"over {tests} predictions" in figure.caption
    assert ["Not compared: pgd" in note for note in block.notes] == [True]
    numbers, alike = block.tables
    assert numbers.source == "predictions.tsv" and alike.source == "criteria_agreement.tsv"
    ((heading, text, rest),) = findings(tables, config)
    assert heading.endswith(", small_conv")
    assert "Of 8 criteria, these tell better than chance which layers cost most: on clean" in text
    assert "images fisher (1.0" in text and "(at best: 1.000)" in text
    assert "but so do" not in text and rest.startswith("3 seeds; q is")
    assert "pgd" not in text  # nothing to lose
    tables["predictions"]["ceiling"] = np.nan
    ((_, text, _),) = findings(tables, config)
    assert "(at best: cannot be told)" in text
    assert section(tables, config).blocks


def test_the_first_screen_names_the_best_criterion(config):
    tables = make_tables() | {"referee": pd.DataFrame()}
    found = verdict(tables, config)
    cell = found["which criterion finds what matters?"]
    assert cell.text == "fisher" and cell.link == "#criteria"
    assert cell.small.startswith("Spearman 1.000")
    assert "; layers, clean; 8 criteria" in cell.small
    told = tables["predictions"].assign(apart_q=0.01)
    told.loc[told["criterion"] == "clat", "apart_q"] = 0.2
    cell = verdict(tables | {"predictions": told}, config)["which criterion finds what matters?"]
    assert cell.small.endswith("; 8 criteria; not told from clat")
    ((_, text, _),) = findings(tables | {"predictions": told}, config)
    assert "the first not told from clat (at best" in text
    assert found["worth training?"] == ""
    unknown = tables["predictions"].assign(q_value=0.5)
    cell = verdict(tables | {"predictions": unknown}, config)["which criterion finds what matters?"]
    assert (cell.text, cell.small) == ("none told", "8 criteria, layers")


def test_layers_that_cannot_be_ranked_are_told(config):
    tables = make_tables()
    assert not [n for n in section(tables, config).blocks[0].notes if "Layers are" in n]
    alike = tables["predictions"].query("units == 'filters'")
    (block,) = section(tables | {"predictions": alike}, config).blocks
    assert "Layers are not compared: there are fewer than 3" in block.notes[-1]


def test_nothing_judged_is_no_block(config):
    shown = section({name: pd.DataFrame() for name in TABLES}, config)
    assert not shown.blocks and shown.needs == "criteria.methods"
    assert not [*findings({name: pd.DataFrame() for name in TABLES}, config)]


def test_one_seed_has_no_interval_and_still_a_chart(config):
    tables = make_tables(seeds=(0,))
    whole = tables["predictions"].query("level == 'all seeds'")
    assert whole["spearman_low"].isna().all() and whole["chance_low"].notna().any()
    assert section(tables, config).blocks


def test_the_chart_puts_the_best_first_and_controls_last():
    found = make_tables()["predictions"]
    names = draw.ranked(found[found["units"] == "layers"])
    assert names[0] == "fisher" and names[-4:] == sorted(names[-4:], key=names.index)
    assert set(names[-4:]) == {*CONTROLS} and names[-5] == "clat"
    figure = draw.prediction_chart(found, level=0.05)
    assert [ax.get_title() for ax in figure.axes] == ["layers, clean", "filters, clean"]


# The config


def test_the_study_is_off_by_default_and_all_means_all():
    tiny = yaml.safe_load(TINY)
    del tiny["criteria"]
    assert resolve(tiny).dump()["criteria"]["methods"] == []
    found = resolve(config_of(methods=["all", "fisher"])).dump()["criteria"]
    assert found["methods"] == [*CRITERIA, *CONTROLS]
    assert found["attack"] == "pgd" and found["judged_under"] == ["pgd"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": ["fihser"]}, "'fihser' is not known; did you mean 'fisher'?, or file.py:func"),
        ({"methods": ["gone.py:mine"]}, "config key criteria.methods: no such file: gone.py"),
        ({"attack": "apgd"}, "config key criteria.attack: 'apgd' is not under attacks; did you"),
        ({"judged_under": ["cw"]}, "config key criteria.judged_under: 'cw' is not under attacks"),
        ({"layers": ["conv9"]}, "config key criteria.layers: no network has a layer 'conv9'"),
        ({"epochs": [7]}, "config key criteria.epochs: 7 is no checkpoint epoch"),
    ],
)
def test_mistakes(given, said):
    assert said in error_of(resolve, config_of(**given))


def test_mistakes_that_are_about_other_sections(tmp_path):
    config = config_of(methods=["clat"])
    del config["mending"]  # which cannot be in such units either
    config["attacks"]["pgd"]["normalised_units"] = True
    assert "clat is not defined in normalised units" in error_of(resolve, config)
    config["criteria"]["methods"] = ["all"]
    assert "clat" not in resolve(config).dump()["criteria"]["methods"]
    (tmp_path / "mine.py").write_text("def fisher(network, data):\n    return {}\n")
    config["criteria"]["methods"] = [f"{tmp_path}/mine.py:fisher"]
    assert "two criteria would be called fisher; rename" in error_of(resolve, config)
    config = config_of() | {"retraining": {"from_epochs": []}, "mending": {}}
    config["datasets"]["digits"]["validation"] = 50
    assert "50 images are too few for criteria" in error_of(resolve, config)
