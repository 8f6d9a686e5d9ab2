from itertools import combinations
from itertools import permutations as every_order

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, permutation_test, rankdata, spearmanr, ttest_rel

from faultline.ablation.facts import Facts
from faultline.base.columns import RUN
from faultline.base.statistics import benjamini_hochberg, mean_interval
from faultline.studies.criteria.agreement import (
    agreements,
    by_seed,
    ceiling,
    dealt,
    kendall,
    precision,
    predictions,
    spearman,
    top,
)
from faultline.studies.criteria.earlier import earlier
from faultline.studies.criteria.removal import losses

PLACE = dict(zip(RUN, ("digits", "small_conv", "standard"), strict=True))
LAYERS = ["conv1", "conv2", "conv3", "conv4", "fc"]
SETTINGS = {"share": 0.25, "permutations": 199, "confidence": 0.95}


def test_correlations_against_scipy():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.integers(0, 5, (2, 9)).astype(float)  # with ties
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
        assert kendall(one, other) == pytest.approx(kendalltau(one, other).statistic)
    assert np.isnan(spearman(one, 0 * one)) and np.isnan(kendall(one, 0 * one))
    assert np.isnan(spearman(one[:2], other[:2])) and np.isnan(spearman(one, one * np.nan))


def test_precision_by_hand():
    one, other = np.array([4.0, 3, 2, 1]), np.array([4.0, 1, 2, 3])
    assert precision(one, other, share=0.25) == 1.0
    assert precision(one, other, share=0.5) == 0.5
    assert precision(one, other[::-1], share=0.5) == 0.5
    assert precision(one, one[::-1], share=0.5) == 0.0
    # one place left for three that are tied: each has a third of it
    tied = np.array([5.0, 1, 1, 1])
    assert precision(tied, np.array([0.0, 1, 2, 3]), share=0.5) == pytest.approx(
        (1 / 3 + 1 / 3) / 2
    )
    assert [top(n, 0.25) for n in (3, 4, 16)] == [1, 1, 4]


def test_precision_by_chance_is_the_share():
    truth = np.array([0.0, 1, 2, 3, 4])
    found = [precision(np.array(order), truth, share=0.4) for order in every_order(range(5))]
    assert np.mean(found) == pytest.approx(0.4)


def test_chance_is_that_of_scipy_in_one_seed():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 1, 12))
    other += 0.5 * one
    null = dealt({"": one}, {"": other}, permutations=9999, seed=0)
    value = spearman(one[0], other[0])
    p = (1 + np.count_nonzero(np.abs(null) >= abs(value))) / (1 + null.size)
    ranks = [rankdata(values[0]) - 6.5 for values in (one, other)]
    expected = permutation_test(
        ranks[:1], lambda x: x @ ranks[1], permutation_type="pairings", rng=np.random.default_rng(3)
    )
    assert p == pytest.approx(expected.pvalue, abs=0.015)
    assert null.std() == pytest.approx(1 / np.sqrt(11), rel=0.03)


def test_seeds_that_repeat_each_other_are_no_more_evidence():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 1, 10))
    alone = dealt({"": one}, {"": other}, permutations=999, seed=0)
    thrice = dealt(
        {"": np.repeat(one, 3, 0)}, {"": np.repeat(other, 3, 0)}, permutations=999, seed=0
    )
    assert thrice.mean(0) == pytest.approx(alone[0])
    fresh = dealt(
        {"": rng.normal(size=(50, 10))},
        {"": rng.normal(size=(50, 10))},
        permutations=999,
        seed=0,
    )
    assert fresh.mean(0).std() < 0.5 * alone.std()


def test_filters_are_compared_within_their_layer():
    # both rank all filters of one layer above all of the other; within, they agree and disagree
    one = {"a": np.array([[1.0, 2, 3]]), "b": np.array([[11.0, 12, 13]])}
    other = {"a": np.array([[1.0, 2, 3]]), "b": np.array([[13.0, 12, 11]])}
    found = by_seed(one, other, share=0.3)
    assert found["spearman"].tolist() == [0.0] and found["n"].tolist() == [6]
    one["c"], other["c"] = np.array([[1.0, 1, 1]]), np.array([[1.0, 2, 3]])  # tells nothing apart
    assert by_seed(one, other, share=0.3)["n"].tolist() == [6]


def make(criteria: dict, loss: dict, *, seeds=(0, 1, 2)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores by criterion, and losses by image set, of LAYERS: seed -> values."""
    scores, removals = [], []
    for seed in seeds:
        place = PLACE | {"seed": seed, "epoch": 2, "layer": LAYERS, "filter": np.nan}
        for name, of in criteria.items():
            scores.append(
                pd.DataFrame(place | {"criterion": name, "score": of(seed), "n": 9, "passes": 7})
            )
        for images, of in loss.items():
            halves = {"loss_even": of(seed), "loss_odd": of(seed)[[1, 0, 2, 3, 4]]}
            removals.append(pd.DataFrame(place | {"images": images, "loss": of(seed)} | halves))
    return pd.concat(scores, ignore_index=True), pd.concat(removals, ignore_index=True)


def test_predictions_and_agreements_of_a_run():
    up, down = np.arange(5.0), -np.arange(5.0)
    swapped = np.array([1.0, 0, 2, 3, 4])
    scores, removals = make(
        {"good": lambda s: swapped if s else up, "bad": lambda s: down, "flat": lambda s: 0 * up},
        {"clean": lambda s: up**2, "fgsm": lambda s: up if s == 0 else np.full(5, np.nan)},
    )
    found = predictions(scores, removals, **SETTINGS)
    whole = found[found["level"] == "all seeds"].set_index(["criterion", "images"])
    values = [spearmanr(x, up).statistic for x in (up, swapped, swapped)]
    good = whole.loc["good", "clean"]
    mean, low, high = mean_interval(values, confidence=0.95)
    assert good[["spearman", "spearman_low", "spearman_high"]].tolist() == pytest.approx(
        [mean, low, min(high, 1)]
    )
    assert good[["n", "seeds", "passes", "precision", "chance"]].tolist() == pytest.approx(
        [5, 3, 7, 1, 0.2]
    )
    assert whole.loc["bad", "clean"]["kendall"] == pytest.approx(-1)
    assert whole.loc["good", "fgsm"][["seeds", "spearman"]].tolist() == pytest.approx([1, 1])
    assert "flat" not in set(found["criterion"])
    h = spearmanr(swapped, up).statistic
    assert good["ceiling"] == pytest.approx((2 * h / (1 + h)) ** 0.5)
    assert good["chance_low"] < -0.5 and good["chance_high"] > 0.5
    assert whole["q_value"].to_numpy() == pytest.approx(
        benjamini_hochberg(whole["p_value"]), nan_ok=True
    )
    seed = found[(found["level"] == "seed") & (found["criterion"] == "good")]
    assert seed.loc[seed["images"] == "clean", "spearman"].tolist() == pytest.approx(values)

    alike = agreements(scores, confidence=0.95)
    assert set(zip(alike["criterion"], alike["other"], strict=True)) == {("good", "bad")}
    assert alike.loc[alike["level"] == "all seeds", "spearman"].item() == pytest.approx(-mean)


def test_criteria_are_told_apart_within_seeds_and_corrected_for_all_pairs():
    up, loss = np.arange(5.0), {"clean": lambda s: np.arange(5.0)}
    swaps = {  # seed by seed
        "good": [[0, 1, 2, 3, 4]] * 2 + [[1, 0, 2, 3, 4]] * 2,
        "near": [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 3, 4], [1, 0, 3, 2, 4]],
        "bad": [[4, 3, 2, 1, 0], [4, 3, 2, 0, 1], [4, 3, 2, 1, 0], [3, 4, 2, 0, 1]],
        "depth": [[4, 3, 2, 1, 0]] * 3 + [[4, 3, 2, 0, 1]],  # a control
    }
    scores, removals = make(
        {name: lambda s, of=of: up[of[s]] for name, of in swaps.items()}, loss, seeds=range(4)
    )
    found = predictions(scores, removals, **SETTINGS)
    values = {name: [spearmanr(up[x], up).statistic for x in of] for name, of in swaps.items()}
    pairs = list(combinations(swaps, 2))
    q = benjamini_hochberg([ttest_rel(values[a], values[b]).pvalue for a, b in pairs])
    expected = {b: q[i] for i, (a, b) in enumerate(pairs) if a == "good"}
    whole = found[found["level"] == "all seeds"].set_index("criterion")["apart_q"]
    assert np.isnan(whole["good"]) and whole.drop("good").to_dict() == pytest.approx(expected)
    assert whole["near"] > 0.05 > whole["bad"]
    assert found.loc[found["level"] == "seed", "apart_q"].isna().all()


def test_nothing_judged_gives_empty_tables_with_their_columns():
    found = predictions(pd.DataFrame(), pd.DataFrame(), **SETTINGS)
    assert not len(found) and "q_value" in found
    assert not len(agreements(pd.DataFrame(), confidence=0.95))


def test_the_ceiling_is_what_the_true_loss_reaches():
    """Of true losses that are measured with noise on images of their own."""
    rng = np.random.default_rng(4)
    true = rng.normal(size=2000)
    even, odd = true + 1.5 * rng.normal(size=(2, 2000))
    h = spearman(even, odd)
    assert ceiling(np.array([h, np.nan]), 0, [0, 1]) == pytest.approx(
        spearman(true, (even + odd) / 2), abs=0.03
    )
    assert np.isnan(ceiling(np.array([h, np.nan]), 1, [0, 1]))
    assert ceiling(np.array([0.2, 0.4]), "all", [0, 1]) == pytest.approx((0.6 / 1.3) ** 0.5)
    assert np.isnan(ceiling(np.array([-0.2]), "all", [0]))


def test_losses_by_hand():
    base = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0], bool)
    without = np.array([base, np.zeros(10, bool), [1] * 5 + [0] * 2 + [1] + [0] * 2], bool)
    facts = Facts(
        variants={"filter": np.array([-1, 0, 1])},
        base={"clean": base, "pgd": ~base},
        correct={"clean": without, "pgd": without},
        changed={"clean": np.zeros(3, int), "pgd": np.zeros(3, int)},
        chance=0.3,
    )
    found = losses(facts, confidence=0.95)
    clean = found[found["images"] == "clean"]
    assert clean["filter"].isna().tolist() == [True, False, False]
    assert clean["loss"].tolist() == pytest.approx([0.0, 0.7, 0.1])
    assert clean["loss_even"].tolist() == pytest.approx([0.0, 0.8, 0.2])  # images 0, 2, 4, 6, 8
    assert clean["loss_odd"].tolist() == pytest.approx([0.0, 0.6, 0.0])
    assert clean["accuracy"].tolist() == pytest.approx([0.7, 0.0, 0.6])
    assert (clean["ci_low"] < clean["loss"]).all() and (clean["loss"] < clean["ci_high"]).all()
    assert clean["above_chance"].all() and not found.loc[3:, "above_chance"].any()


def test_what_other_studies_say_is_turned_to_matter_where_it_is_high():
    layers = pd.DataFrame(
        {
            "scope": ["local"] * 4 + ["global"],
            "layer": ["conv1", "conv1", "fc", "fc", "all layers"],
            "filter": ["combined", "pulse", "combined", "combined", "combined"],
            "score": ["S_clean", "S_clean", "S_adv", "S_adv", "S_clean"],
            "attack": ["none", "none", "fgsm", "pgd", "none"],
            "value": [-0.5, 9, 9, 0.25, 9],
            "n": 10,
        }
    )
    filters = pd.DataFrame(
        {"layer": "conv1", "filter": [0, 1], "score": "S_clean", "attack": "none", "n": 10}
        | {"value": [-0.1, 0.0]}
    )
    perturbed = pd.DataFrame(
        {"layer": ["conv1", "fc", "fc"], "kind": ["synapse_knockout"] * 2 + ["gaussian"]}
        | {"parameter": "weight", "images": "clean", "top": 1, "value": [0.2, 0.9, 0.0], "n": 10}
    )
    probes = pd.DataFrame(
        {"perturber": ["pgd", "pgd", "fgsm"], "probe": ["conv1", "conv1:2", "conv1"]}
        | {"value": [1.0, 3.0, 9.0], "n": 10}
    )
    tables = {"layers": layers, "filters": filters, "perturbed": perturbed, "probes": probes}
    found = earlier(tables, attack="pgd").set_index(["criterion", "layer"])
    assert found.loc[("synaptic_clean", "conv1"), "score"].item() == 0.5
    assert found.loc[("synaptic_adversarial", "fc"), "score"].item() == -0.25
    assert found.loc["dropout_clean"]["score"].tolist() == [0.1, 0.0]
    assert found.loc["dropout_clean"]["filter"].tolist() == [0, 1]
    assert found.loc["knockout"]["score"].tolist() == [-0.2, -0.9]
    assert found.loc[("relative_error", "conv1"), "score"].item() == 2.0
    assert not len(earlier({}, attack="pgd"))
    assert not len(earlier({"layers": pd.DataFrame({"layer": []})}, attack="pgd"))
