"""What stresses cost, against a naive computation; and the section of the report."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_tables import make_config
from scipy import stats
from support import error_of

from faultline.base.columns import PLACE
from faultline.base.statistics import difference_interval, paired_mean_interval
from faultline.studies.config import resolve
from faultline.studies.stresses.judged import judge_stresses, stress_set
from faultline.studies.stresses.names import ALL, FURTHER
from faultline.studies.stresses.section import findings, section
from faultline.studies.stresses.tables import accuracies, losses

N, SEEDS = 50, (4, 7, 9)


def made():
    rng, hits = np.random.default_rng(0), []
    for seed in SEEDS:
        place = dict(zip(PLACE, ("digits", "small_conv", "standard", seed, 3), strict=True))
        shares = {"clean": 0.9, "fog@1": 0.8, "fog@5": 0.3, "noise@2": 0.85}
        hits.append((place, {name: rng.random(N) < share for name, share in shares.items()}))
    return hits


def test_accuracies_begin_with_the_inputs_as_they_are():
    table = accuracies(made(), confidence=0.95)
    rows = table[(table["seed"] == 7) & (table["stress"] == "fog")]
    assert rows["severity"].tolist() == [0, 1, 5]
    sets = made()[1][1]
    assert rows["correct"].tolist() == [sets[k].sum() for k in ("clean", "fog@1", "fog@5")]
    assert len(table) == 3 * 5


def test_losses_are_means_over_severities_paired_by_image():
    table = losses(made(), confidence=0.9)
    changes = {
        seed: {
            "fog": (sets["fog@1"] + sets["fog@5"].astype(float)) / 2 - sets["clean"],
            "noise": sets["noise@2"].astype(float) - sets["clean"],
        }
        for seed, (_, sets) in zip(SEEDS, made(), strict=True)
    }
    for of in changes.values():
        of[ALL] = (of["fog"] + of["noise"]) / 2
    for row in table[table["level"] == "seed"].to_dict("records"):
        expected = paired_mean_interval(changes[row["seed"]][row["stress"]], confidence=0.9)
        assert (row["difference"], row["ci_low"], row["ci_high"]) == pytest.approx(expected)
    for row in table[table["level"] == "all seeds"].to_dict("records"):
        of = [changes[seed][row["stress"]] for seed in SEEDS]
        means = [change.mean() for change in of]
        ends = stats.t.interval(0.9, 2, np.mean(means), stats.sem(means))
        assert row["difference"] == pytest.approx(np.mean(means)) and row["seeds"] == 3
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(ends)
        _, *image_ends = paired_mean_interval(np.mean(of, axis=0), confidence=0.9)
        assert (row["image_ci_low"], row["image_ci_high"]) == pytest.approx(image_ends)
    assert set(table["stress"]) == {"fog", "noise", ALL}
    whole = table[table["level"] == "all seeds"]
    assert np.array_equal(whole["q_value"], stats.false_discovery_control(whole["p_value"]))
    p = [
        stats.ttest_1samp([changes[s][name].mean() for s in SEEDS], 0).pvalue
        for name in whole["stress"]
    ]
    assert whole["p_value"].to_numpy() == pytest.approx(p) and (whole["detectable"] > 0).all()


def test_a_further_test_set_is_compared_as_images_of_its_own():
    hits = made()
    for number, (_, sets) in enumerate(hits):
        sets["night" + FURTHER] = np.arange(80) < 50 + number
    table = losses(hits, confidence=0.95)
    rows = table[(table["stress"] == "night") & (table["level"] == "seed")]
    for row, (_, sets) in zip(rows.to_dict("records"), hits, strict=True):
        night, clean = sets["night" + FURTHER], sets["clean"]
        _, low, high = difference_interval(clean.mean(), night.mean(), N, 80, confidence=0.95)
        assert row["difference"] == pytest.approx(night.mean() - clean.mean())
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high)) and row["n"] == N
    assert set(table["stress"]) == {"fog", "noise", ALL, "night"}
    mean = losses(made(), confidence=0.95)
    for name in ("fog", ALL):  # which it changes nothing of
        both = [of.loc[of["stress"] == name, "difference"].tolist() for of in (table, mean)]
        assert both[0] == both[1]
    shown = accuracies(hits, confidence=0.95)
    assert shown.loc[shown["stress"] == "night", "n"].tolist() == [N, 80] * 3


def make_tables():
    hits = made()
    columns = ["dataset", "stress", "severity", "moved", "saturated"]
    return {
        "stresses": accuracies(hits, confidence=0.95),
        "stress_losses": losses(hits, confidence=0.95),
        "stress_sets": pd.DataFrame([["digits", "fog", 1, 0.2, 0.01]], columns=columns),
    }


def test_the_section_tells_what_costs_most():
    config = make_config(stresses={"fog": {"kind": "fog"}})
    ((name, text),) = findings(make_tables(), config)
    assert name == "Under other stresses, small_conv"
    assert text.startswith("fog costs most: 53.0 % left, \u221235.7 points [\u221241.2, ")
    assert "; the mean of 2 stresses, " in text and "over 50 test images, 3 seeds)" in text
    (block,) = section(make_tables(), config).blocks
    assert len(block.figures) == 1 and [len(t.rows) for t in block.tables] == [3, 1]
    empty = {name: pd.DataFrame() for name in make_tables()}
    assert not section(empty, config).blocks and not [*findings(empty, config)]


def test_a_network_is_judged_on_further_test_sets_too():
    from trainings import dataset_of, network_of

    dataset, network = dataset_of(test=40), network_of().eval()
    images, labels = (part[:7] for part in dataset.splits["test"])
    dataset = replace(dataset, splits=dataset.splits | {"also night": (images, labels)})
    found = judge_stresses(network, dataset, {})
    assert [*found] == ["clean", "night" + FURTHER]
    assert np.array_equal(found["night" + FURTHER], found["clean"][:7])


def test_a_network_is_judged_on_what_is_stored():
    from trainings import dataset_of, network_of

    dataset, network = dataset_of(test=40), network_of().eval()
    settings = {"kind": "contrast", "severities": [1, 4], "options": {}}
    stored, about = stress_set(dataset, "dull", settings)
    assert about["severity"].tolist() == [1, 4] and (about["moved"].diff().dropna() > 0).all()
    correct = judge_stresses(network, dataset, {"dull": stored})
    assert [*correct] == ["clean", "dull@1", "dull@4"]
    _, labels = dataset.splits["test"]
    expected = network(dataset.pixels(stored["4"])).argmax(1) == labels
    assert np.array_equal(correct["dull@4"], expected.numpy())


@pytest.mark.parametrize(
    ("stress", "said"),
    [
        ({"kind": "fogg"}, "config key stresses.it.kind: 'fogg' is no"),
        ({"kind": "gain"}, "gain is for signals, and data set digits holds images; take gaussian"),
        ({"kind": "saturate"}, "saturate needs red, green and blue, and images of digits have 1"),
        ({"kind": "fog", "severities": [6]}, "config key stresses.it.severities"),
        ({"kind": "fog", "epochs": [7]}, "config key stresses.it.epochs: 7 is no checkpoint"),
        ({"kind": "fog", "options": {"x": 1}}, "config key stresses.it.options"),
        ({"kind": "nowhere.py:fog"}, "nowhere.py"),
    ],
)
def test_mistakes(stress, said):
    config = make_config().dump() | {"stresses": {"it": stress}}
    assert said in error_of(resolve, config)


def test_names_and_severities_that_are_others():
    config = make_config().dump() | {"stresses": {"clean": {"kind": "fog"}}}
    assert "config key stresses.clean: this name means" in error_of(resolve, config)
    config["stresses"] = {"pgd": {"kind": "fog"}}
    assert "config key stresses.pgd: this name means an attack" in error_of(resolve, config)
    config["stresses"] = {"fog": {"kind": "fog", "severities": [1, 4]}}
    for swept, said in (
        ({"fogg": 4}, "did you mean 'fog'"),
        ({"fog": 3}, "3 is none of stresses.fog"),
    ):
        config["ablation"]["stresses"] = swept
        assert said in error_of(resolve, config)
    config["ablation"]["stresses"] = {"fog": 4}
    assert resolve(config).ablation.stresses == {"fog": 4}
