"""What training the picks of criteria gains: against a naive computation, and in the report."""

import numpy as np
import pandas as pd
import pytest
import yaml
from support import TINY, error_of

from faultline.attacks.checks import masked
from faultline.attacks.checks import row as check
from faultline.base.columns import RUN
from faultline.studies.config import resolve
from faultline.studies.criteria import figures as draw
from faultline.studies.criteria.section import answer, answer_findings, answered
from faultline.studies.criteria.tables import TABLES
from faultline.studies.criteria.use import REFEREE, fixed_tests, gains, referee

PLACE = dict(zip(RUN, ("digits", "small_conv", "standard"), strict=True)) | {"epoch": 2}
N, SEEDS = 60, range(4)
SHARES = {"none": 0.5, "full": 0.8, "random-0": 0.6, "random-1": 0.6, "fisher": 0.9, "depth": 0.6}
DEPTHS = {
    "none": np.nan,
    "full": 0.6,
    "random-0": 0.5,
    "random-1": 0.7,
    "fisher": 0.3,
    "depth": 0.0,
}
TESTS = [("fisher", "random")]


def config_of(**use) -> dict:
    config = yaml.safe_load(TINY)
    config["criteria"]["use"] |= use
    return config


def judged(recipes=("standard", "at-pgd"), seeds=SEEDS):
    """(image set -> bool [N], place) of each training; fisher is better than random by far."""
    rng = np.random.default_rng(0)
    for recipe in recipes:
        for criterion, share in SHARES.items():
            for seed in seeds:
                place = PLACE | {"seed": seed, "recipe": recipe, "criterion": criterion}
                yield {name: rng.random(N) < share for name in ("clean", "apgd")}, place


def found(**given) -> pd.DataFrame:
    return gains(*map(list, zip(*judged(**given), strict=True)), confidence=0.95)


def test_a_gain_is_over_the_mean_of_the_draws_seed_by_seed():
    table = found()
    hits = {
        (place["recipe"], place["criterion"], place["seed"]): correct["apgd"].mean()
        for correct, place in judged()
    }
    whole = table[(table["level"] == "all seeds") & (table["images"] == "apgd")]
    assert set(whole["criterion"]) == {"none", "full", "fisher", "depth"}
    assert (table["reference"] == "random").all() and set(whole["seeds"]) == {len(SEEDS)}
    for row in whole.to_dict("records"):
        of = [row["recipe"]]
        each = [
            hits[*of, row["criterion"], seed]
            - (hits[*of, "random-0", seed] + hits[*of, "random-1", seed]) / 2
            for seed in SEEDS
        ]
        mean, error = np.mean(each), np.std(each, ddof=1) / np.sqrt(len(each))
        assert row["difference"] == pytest.approx(mean)
        assert row["ci_high"] - mean == pytest.approx(3.182446 * error)  # t of 3 degrees
    # Benjamini-Hochberg over both recipes and image sets
    for _, rows in table.groupby("level"):
        p = np.sort(rows["p_value"])
        least = [min(p[j] * len(p) / (j + 1) for j in range(i, len(p))) for i in range(len(p))]
        assert np.sort(rows["q_value"]) == pytest.approx(least)


def test_the_referee_puts_side_by_side_what_is_known():
    known = {"units": "layers", "images": "apgd", "level": "all seeds", "seeds": 4, "n": 5}
    known |= {"spearman": 0.7, "spearman_low": 0.5, "spearman_high": 0.9, "q_value": 0.01}
    rows = [known | {"units": "filters", "spearman": 0.1, "passes": 40}, known | {"passes": 40}]
    predictions = pd.DataFrame(rows).assign(**PLACE, criterion="fisher")
    table = referee(predictions, found())
    assert list(table) == REFEREE and set(table["criterion"]) == {"fisher", "depth"}
    assert len(table) == 2 * 2 * 2
    one = table.set_index(["criterion", "images", "recipe"]).sort_index()
    assert one.loc[("fisher", "apgd", "at-pgd"), ["agreement", "passes"]].tolist() == [0.7, 40]
    assert np.isnan(one.loc[("fisher", "clean", "at-pgd"), "agreement"])
    assert one.loc[("fisher", "clean", "at-pgd"), "passes"] == 40
    assert np.isnan(one.loc[("depth", "apgd", "standard"), "passes"])
    gained = found().query("level == 'all seeds' and criterion == 'fisher' and images == 'apgd'")
    assert sorted(one.loc[("fisher", "apgd"), "gain"]) == sorted(gained["difference"])


def test_tests_that_were_fixed_beforehand_are_corrected_over_themselves():
    tests = [("fisher", "random"), ("fisher", "depth")]
    hits, places = map(list, zip(*judged(), strict=True))
    table = fixed_tests(hits, places, tests, confidence=0.95)
    whole = table[table["level"] == "all seeds"]
    told = whole[["recipe", "images", "criterion", "reference"]].to_numpy().tolist()
    both = [["apgd", *pair] for pair in tests]
    assert told == [[recipe, *test] for recipe in ("standard", "at-pgd") for test in both]
    same = whole.merge(found(), on=["recipe", "images", "criterion", "reference", "level"])
    assert (same["difference_x"] == same["difference_y"]).all() and len(same) == 2
    p = np.sort(whole["p_value"])
    holm = np.maximum.accumulate(p * (4 - np.arange(4))).clip(max=1)
    assert np.sort(whole["q_value"]) == pytest.approx(holm)
    assert not len(fixed_tests(hits, places, [], confidence=0.95))


def make_tables(**given) -> dict[str, pd.DataFrame]:
    used = [
        place
        | {
            "images": name,
            "n": N,
            "trained": 20,
            "trainable": 100,
            "depth": DEPTHS[place["criterion"]],
        }
        | {"correct": int(correct[name].sum()), "accuracy": correct[name].mean()}
        for correct, place in judged(**given)
        for name in correct
    ]
    columns = [*RUN, "epoch", "units", "criterion", "images", "level", "seeds", "n"]
    columns += ["spearman", "spearman_low", "spearman_high", "p_value", "q_value", "passes"]
    predictions, table = pd.DataFrame(columns=columns), found(**given)
    return {
        "criteria_use": pd.DataFrame(used),
        "criteria_gains": table,
        "criteria_tests": fixed_tests(
            *map(list, zip(*judged(**given), strict=True)), TESTS, confidence=0.95
        ),
        "predictions": predictions,
        "referee": referee(predictions, table),
    }


def test_the_answer_names_what_is_better_than_random_and_how_it_was_corrected():
    config, tables = resolve(config_of()), make_tables()
    assert set(tables) < set(TABLES)
    (_, text), (_, fixed) = answer_findings(tables, config)
    assert fixed == (
        "Trained with at-pgd, accuracy under apgd of what fisher picks, minus random: +33.8 "
        "points [+29.6, +37.9], better (p < 0.001). 4 seeds; Holm over 2 tests. "
        "Trained with standard, accuracy under apgd of what fisher picks, minus random: +27.9 "
        "points [+21.0, +34.8], "
        "better (p = 0.001). 4 seeds; Holm over 2 tests."
    )
    assert "Trained with at-pgd, 2 better (fisher on digits \u00b7 small_conv" in text
    assert "and 0 worse than random layers, of 4 comparisons. " in text
    assert "60 test images, 4 seeds; q: Benjamini-Hochberg over 16 comparisons" in text
    block, of_run = answer(tables, config).blocks
    assert of_run.notes == [] and of_run.tables[0].source == "criteria_tests.tsv"
    assert len(of_run.figures) == 2 and "Diamond" in of_run.figures[0].read
    (figure,) = block.figures
    assert "4 seeds" in figure.caption and "1 draw at random" in figure.caption
    assert block.notes == ["Picked: 20.0 to 20.0 % of the parameters."]
    numbers, references = block.tables
    assert numbers.source == "referee.tsv" and numbers.total == 8
    assert references.total == 8 and references.rows[0][3] == "nothing"


def test_one_seed_has_an_answer_for_these_images():
    tables = make_tables(seeds=[0])
    (_, text), _ = answer_findings(tables, resolve(config_of()))
    assert "1 seed; q: Benjamini-Hochberg over 16 comparisons" in text
    assert "of 4 comparisons" in text and "n/a" not in text
    block, _ = answer(tables, resolve(config_of())).blocks
    numbers = pd.DataFrame(block.tables[0].rows, columns=block.tables[0].columns)
    assert not (numbers[["its interval", "q"]] == "n/a").any(axis=None)


def test_without_trainings_there_is_no_answer():
    config = resolve(config_of(recipes=[]))
    tables = {name: pd.DataFrame() for name in TABLES}
    assert not answer(tables, config).blocks and not [*answer_findings(tables, config)]
    assert answer(tables, config).needs == "criteria.use.recipes"


def test_the_chart_has_a_panel_per_recipe_and_image_set():
    table = make_tables()["referee"].assign(run="digits", told=False)
    figure = draw.answer_chart(table, level=0.05)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:3] == ["agreement, clean", "gain by standard, clean", "gain by at-pgd, clean"]
    assert titles[3] == "agreement, under apgd"


def test_picks_stand_by_depth_behind_nothing_and_everything():
    used = make_tables()["criteria_use"].query("recipe == 'at-pgd'")
    clean, apgd = draw.picks_chart(used).axes
    labels = [text.get_text() for text in clean.get_yticklabels()]
    assert labels == ["nothing", "everything", "depth, 0.00", "fisher, 0.30", "random, 0.60"]
    assert [clean.get_title(), apgd.get_title()] == ["clean", "under apgd"]


# The config


def test_what_a_pick_goes_by():
    methods = ["fisher", "module_robust_criticality", "depth"]
    given = {"methods": methods, "opposite": methods[1:], "random_draws": 2, "matched_draws": 1}
    given |= {"tests": ["random", "matched", "depth_opposite", "full"]}
    use = resolve(config_of(**given)).criteria.use
    opposite = ["module_robust_criticality_opposite", "depth_opposite"]
    assert use.picks == ["none", "full", "random-0", "random-1", "matched-0", *methods, *opposite]
    ranked = {pick: [*use.ranked(pick).values()] for pick in use.picks}
    assert ranked == {
        **{key: ["", False] for key in ("none", "full", "random-0", "random-1")},
        **{"matched-0": ["fisher", False], "fisher": ["fisher", False], "depth": ["depth", False]},
        "module_robust_criticality": ["module_robust_criticality", True],  # as its authors do
        "module_robust_criticality_opposite": ["module_robust_criticality", False],
        "depth_opposite": ["depth", True],
    }


def test_it_is_off_by_default_and_takes_all_criteria_but_random():
    config = yaml.safe_load(TINY)
    del config["criteria"]["use"]
    use = resolve(config).dump()["criteria"]["use"]
    assert use["recipes"] == [] and "random" not in use["methods"] and "depth" in use["methods"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": ["fihser"]}, "criteria.use.methods: 'fihser' scores no layers here"),
        ({"methods": ["random"]}, "criteria.use.methods: 'random' scores no layers here"),
        ({"methods": ["dropout_clean"]}, "criteria.use.methods: 'dropout_clean' scores no layers"),
        ({"lowest": ["clta"]}, "criteria.use.lowest: 'clta' scores no layers here"),
        ({"opposite": ["clat"]}, "criteria.use.opposite: 'clat' scores no layers here"),
        (
            {"tests": ["fisher"]},
            "criteria.use.tests: 'fisher' is nothing that the first of methods",
        ),
        ({"tests": ["matched"]}, "criteria.use.tests: 'matched' is nothing that the first of"),
        ({"recipes": ["at-fgsm"]}, "criteria.use.recipes"),
    ],
)
def test_mistakes(given, said):
    assert said in error_of(resolve, config_of(**given))


def test_mistakes_that_are_about_other_sections(tmp_path):
    config = config_of(methods=["full"])
    (tmp_path / "mine.py").write_text("def full(network, data):\n    return {}\n")
    config["criteria"]["methods"] = [f"{tmp_path}/mine.py:full"]
    assert "full stands for what is compared; rename" in error_of(resolve, config)
    config = config_of()
    config["retraining"] = {"from_epochs": []}
    schedule = {"kind": "cosine", "epochs": 2}
    config["trainings"]["standard"]["schedule"] = schedule
    said = error_of(resolve, config)
    assert (
        "config key criteria.epochs: at epoch 2 the cosine schedule of trainings.standard" in said
    )
    config = config_of()
    del config["mending"]  # which cannot be in such units either
    config["attacks"]["pgd"]["normalised_units"] = True
    config["criteria"]["methods"] = ["fisher", "depth"]
    assert "criteria.attack is in normalised units" in error_of(resolve, config)


def test_no_gain_under_attack_is_told_where_a_sign_of_masking_stands():
    config, tables = resolve(config_of()), make_tables()
    why = masked([check("false_gradients", False, "")])
    used = tables["criteria_use"]
    here = (used["criterion"] == "random-0") & (used["recipe"] == "at-pgd") & (used["seed"] == 1)
    tables["criteria_use"] = used.assign(masked=[why if masks else np.nan for masks in here])
    table = answered(tables, level=0.05).set_index(["recipe", "images"]).sort_index()
    assert set(table.loc[("at-pgd", "apgd"), "doubt"]) == {why}
    assert not table.loc[("at-pgd", "apgd"), "told"].any()
    for trusted in (("at-pgd", "clean"), ("standard", "apgd")):
        assert set(table.loc[trusted, "doubt"]) == {""} and table.loc[trusted, "told"].any()
    (_, text), (_, fixed) = answer_findings(tables, config)
    assert f"minus random: {why}" in fixed and fixed.count("better (p ") == 1
    assert "Trained with at-pgd, 1 better" in text and text.endswith(f"small_conv: {why}")
    checks = pd.DataFrame([check("false_gradients", False, "")]).assign(**PLACE, seed=0)
    (_, text), (_, fixed) = answer_findings(make_tables() | {"checks": checks}, config)
    assert fixed.count(f"minus random: {why}") == 2
    assert why in text and "under apgd" not in text and "apgd:" not in text
