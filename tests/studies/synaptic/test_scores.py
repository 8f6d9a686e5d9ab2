import numpy as np
import pandas as pd
import pytest
from scipy.integrate import simpson
from scipy.stats import binomtest, norm

from faultline.ablation.facts import Facts
from faultline.studies.synaptic.scores import (
    band_scores,
    curves,
    filter_scores,
    integrate,
    layer_scores,
)

LAYER = {"baseline": "unfiltered", "integration": "trapezoid", "confidence": 0.95}
NUMBERS = ["value", "standard_error", "ci_low", "ci_high", "p_value"]


def bools(*rows):
    return np.array([[c == "1" for c in row] for row in rows])


# Four images, three thresholds. Clean: p0 3/4; p/p0 = 1, 2/3, 1/3; trapezoid weights 1/4, 1/2, 1/4:
# integral 1/4 + 1/3 + 1/12 = 2/3, S_clean = -1/3. FGSM: q0 1/2; q/q0 = 1, 3/2, 1: 5/4, S_adv = 1/4.
# S_diff = 1/4 + 1/3 = 7/12.
BASE = {"clean": bools("1110")[0], "fgsm": bools("1010")[0]}
CORRECT = {"clean": bools("1110", "1100", "0001"), "fgsm": bools("1010", "1110", "1100")}


def one_sweep(name="high_pass", order=(0, 1, 2), **columns):
    order = np.array(order)
    variants = {
        "filter": np.array([name] * 3),
        "threshold": np.array([-1.0, 0.0, 1.0]),
        "normalised": np.array([0.0, 0.5, 1.0]),
        "kept": np.array([1.0, 0.6, 0.0]),
        "changed_weights": np.array([0, 4, 10]),
        **columns,
    }
    return Facts(
        variants={k: v[order] for k, v in variants.items()},
        base=BASE,
        correct={k: v[order] for k, v in CORRECT.items()},
        changed={"clean": np.array([0, 2, 4])[order], "fgsm": np.array([0, 1, 3])[order]},
    )


def random_facts(seed=0, n=60, filters=("high_pass", "low_pass", "pulse"), thresholds=5):
    rng = np.random.default_rng(seed)
    v = len(filters) * thresholds
    normalised = np.tile(np.linspace(0, 1, thresholds), len(filters))
    return Facts(
        variants={
            "filter": np.repeat(filters, thresholds),
            "threshold": 2 * normalised - 1,
            "normalised": normalised,
            "kept": rng.uniform(size=v),
            "changed_weights": rng.integers(1, 9, size=v),
        },
        base={k: rng.uniform(size=n) < p for k, p in (("clean", 0.9), ("fgsm", 0.5), ("pgd", 0.3))},
        correct={k: rng.uniform(size=(v, n)) < 0.6 for k in ("clean", "fgsm", "pgd")},
        changed={k: np.full(v, 3) for k in ("clean", "fgsm", "pgd")},
    )


def nodal(base, correct, *, weights=None, activations=None, changed=None):
    v = len(correct["clean"])
    return Facts(
        variants={
            "filter": np.arange(v),
            "changed_weights": np.full(v, 9) if weights is None else np.array(weights),
            "changed_activations": np.full(v, 9) if activations is None else np.array(activations),
        },
        base=base,
        correct=correct,
        changed={k: np.full(v, 9) for k in base} if changed is None else changed,
    )


def row(table, **columns):
    for name, value in columns.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_integrate_by_hand():
    # x^2 on 0, .5, 1. Trapezoid: (0 + .25) / 4 + (.25 + 1) / 4 = .375. Simpson is exact: 1/3
    grid = np.array([0, 0.5, 1])
    assert integrate(grid**2, grid, rule="trapezoid") == pytest.approx(0.375)
    assert integrate(grid**2, grid, rule="simpson") == pytest.approx(1 / 3)


@pytest.mark.parametrize("points", [4, 5, 24, 25])
def test_simpson_is_exact_for_parabolas_on_uneven_grids_and_that_of_scipy(points):
    grid = np.sort(np.random.default_rng(points).uniform(size=points))
    primitive = grid**3 / 3 - grid
    assert integrate(grid**2 - 1, grid, rule="simpson") == pytest.approx(
        primitive[-1] - primitive[0]
    )
    values = np.random.default_rng(1).uniform(size=(points, 3)) < 0.5
    expected = [simpson(column, x=grid) for column in values.T.astype(float)]
    assert integrate(values, grid, rule="simpson") == pytest.approx(expected)


def test_layer_scores_by_hand():
    table = layer_scores(one_sweep(), **LAYER)
    assert list(table["filter"].unique()) == ["high_pass", "combined"]
    assert len(table) == 6
    for name in ("high_pass", "combined"):
        assert row(table, filter=name, score="S_clean").value == pytest.approx(-1 / 3)
        assert row(table, filter=name, score="S_adv").value == pytest.approx(1 / 4)
        assert row(table, filter=name, score="S_diff").value == pytest.approx(7 / 12)
    assert set(table["attack"]) == {"none", "fgsm"}
    assert (table["n"] == 4).all() and not table["untouched"].any()


def test_layer_standard_error_by_hand():
    # Integrated changes J: -1/4, -1/4, -3/4, 1/4. Influences (J + c0/3) / (3/4): 1/9, 1/9, -5/9,
    # 3/9, squares 36/81. Sum of J^2 3/4, all four changed: (1 + 3/4) / (1 + 4) / (3/4)^2 is added.
    clean = row(layer_scores(one_sweep(), **LAYER), filter="high_pass", score="S_clean")
    error = np.sqrt(36 / 81 + 0.35 / 0.5625) / (4 + 2)
    assert clean.standard_error == pytest.approx(error)
    assert clean.ci_low == pytest.approx(-1 / 3 - 1.959964 * error)
    assert clean.ci_high == pytest.approx(-1 / 3 + 1.959964 * error)
    assert clean.p_value == pytest.approx(2 * norm.sf(1 / 3 / error))


def test_order_of_storage_does_not_flip_the_integral():
    ascending = layer_scores(one_sweep("low_pass"), **LAYER)
    for order in ((2, 1, 0), (1, 0, 2)):
        for rule in ("trapezoid", "simpson"):
            arguments = {**LAYER, "integration": rule}
            stored = layer_scores(one_sweep("low_pass", order), **arguments)
            expected = layer_scores(one_sweep("low_pass"), **arguments)
            pd.testing.assert_frame_equal(stored, expected)
    assert row(ascending, filter="low_pass", score="S_clean").value < 0
    pd.testing.assert_frame_equal(
        curves(one_sweep("low_pass", (2, 1, 0)), confidence=0.95),
        curves(one_sweep("low_pass"), confidence=0.95),
    )


def test_simpson_layer_score_by_hand():
    # weights 1/6, 4/6, 1/6 on p/p0 - 1 = 0, -1/3, -2/3: -4/18 - 2/18
    table = layer_scores(one_sweep(), **{**LAYER, "integration": "simpson"})
    assert row(table, filter="high_pass", score="S_clean").value == pytest.approx(-1 / 3)
    assert row(table, filter="high_pass", score="S_adv").value == pytest.approx(0.5 * 4 / 6)


def test_kept_fraction_shifts_clean_and_adversarial_scores_only():
    # The integral of 1 - kept = 0, .4, 1: .4/2 + 1/4 = .45
    plain = layer_scores(one_sweep(), **LAYER)
    kept = layer_scores(one_sweep(), **{**LAYER, "baseline": "kept_fraction"})
    shift = np.where(plain["score"] == "S_diff", 0, 0.45)
    assert kept["value"].to_numpy() == pytest.approx(plain["value"] + shift)
    assert kept["ci_low"].to_numpy() == pytest.approx(plain["ci_low"] + shift)
    assert (kept["standard_error"] == plain["standard_error"]).all()


def test_combined_is_the_mean_over_synaptic_filters():
    table = layer_scores(random_facts(), **LAYER)
    single = table[table["filter"] != "combined"].groupby(["attack", "score"])["value"].mean()
    combined = table[table["filter"] == "combined"].set_index(["attack", "score"])["value"]
    pd.testing.assert_series_equal(single, combined.sort_index())
    # Three times the same sweep: combining adds nothing, so the error is that of one.
    same = Facts.concatenate([one_sweep(name) for name in ("high_pass", "low_pass", "pulse")])
    table = layer_scores(same, **LAYER)
    for _, group in table.groupby("score"):
        assert np.allclose(group[NUMBERS], group[NUMBERS].iloc[0])


def test_difference_is_adversarial_minus_clean():
    table = layer_scores(random_facts(), **LAYER)
    for name, group in table.groupby("filter"):
        for attack in ("fgsm", "pgd"):
            clean = row(group, score="S_clean").value
            expected = row(group, score="S_adv", attack=attack).value - clean
            assert row(group, score="S_diff", attack=attack).value == pytest.approx(expected), name


def test_standard_error_is_that_of_the_influences_for_many_images():
    facts = random_facts(n=4000)
    table = layer_scores(facts, **LAYER)
    v = facts.variants["filter"] == "pulse"
    influence = {}
    for images in ("clean", "pgd"):
        base = facts.base[images]
        correct = facts.correct[images][v].astype(float)
        integral = np.trapezoid(correct, facts.variants["normalised"][v], axis=0)
        ratio = integral.mean() / base.mean()
        influence[images] = (integral - ratio * base) / base.mean()
    expected = {
        "S_clean": influence["clean"],
        "S_adv": influence["pgd"],
        "S_diff": influence["pgd"] - influence["clean"],
    }
    for score, u in expected.items():
        attack = "none" if score == "S_clean" else "pgd"
        got = row(table, filter="pulse", score=score, attack=attack)
        assert got.standard_error == pytest.approx(u.std(ddof=1) / np.sqrt(4000), rel=2e-3)


def test_permuting_images_changes_nothing():
    facts = random_facts()
    order = np.random.default_rng(1).permutation(60)
    permuted = Facts(
        variants=facts.variants,
        base={k: v[order] for k, v in facts.base.items()},
        correct={k: v[:, order] for k, v in facts.correct.items()},
        changed=facts.changed,
    )
    for score in (
        lambda f: layer_scores(f, **LAYER),
        lambda f: band_scores(f, baseline="unfiltered", confidence=0.95),
        lambda f: curves(f, confidence=0.95),
    ):
        pd.testing.assert_frame_equal(score(facts), score(permuted))


@pytest.mark.slow
@pytest.mark.parametrize(("q0", "slack"), [(0.5, 0.02), (0.03, 0.03)])
def test_interval_covers_the_score_of_the_population(q0, slack):
    # A population of eight kinds of images, of which 1000 test sets are drawn: the coverage seen
    # has a standard deviation of .007. An adversarial base accuracy of .03 is 12 images.
    rng = np.random.default_rng(3)
    kinds, n = 8, 400
    share = rng.dirichlet(np.full(kinds, 5))
    sweep = {
        "clean": rng.uniform(size=(3, kinds)) < 0.7,
        "fgsm": rng.uniform(size=(3, kinds)) < 0.5,
    }
    base = {"clean": np.array([1] * 7 + [0], bool), "fgsm": np.array([1] * 4 + [0] * 4, bool)}
    share[:4] *= q0 / share[:4].sum()
    share[4:] *= (1 - q0) / share[4:].sum()
    weights = np.array([0.25, 0.5, 0.25])
    ratio = {k: weights @ sweep[k] @ share / (base[k] @ share) for k in base}
    truth = {"S_clean": ratio["clean"] - 1, "S_adv": ratio["fgsm"] - 1}
    truth["S_diff"] = truth["S_adv"] - truth["S_clean"]
    hits, repeats = dict.fromkeys(truth, 0), 1000
    for _ in range(repeats):
        kind = rng.choice(kinds, p=share, size=n)
        facts = Facts(
            variants=one_sweep().variants,
            base={k: b[kind] for k, b in base.items()},
            correct={k: c[:, kind] for k, c in sweep.items()},
            changed=one_sweep().changed,
        )
        table = layer_scores(facts, **LAYER).query("filter == 'high_pass'").set_index("score")
        for score, value in truth.items():
            hits[score] += table.loc[score, "ci_low"] <= value <= table.loc[score, "ci_high"]
    for score, hit in hits.items():
        assert abs(hit / repeats - 0.95) < slack, (score, hit / repeats)


def unchanged(facts, weights=3, outputs=0):
    v = len(facts.variants["filter"])
    return Facts(
        variants={**facts.variants, "changed_weights": np.full(v, weights)},
        base=facts.base,
        correct={k: np.tile(b, (v, 1)) for k, b in facts.base.items()},
        changed={k: np.full(v, outputs) for k in facts.base},
    )


@pytest.mark.parametrize("integration", ["trapezoid", "simpson"])
def test_nothing_changed_is_exactly_zero_with_an_interval(integration):
    facts = unchanged(random_facts(thresholds=7), outputs=1)
    table = layer_scores(facts, **{**LAYER, "integration": integration})
    assert (table["value"] == 0).all() and (table["p_value"] == 1).all()
    assert (table["ci_low"] < 0).all() and (table["ci_high"] > 0).all()
    assert not table["untouched"].any()


def test_a_layer_that_loses_all_has_an_interval_and_a_small_p_value():
    facts = random_facts()
    lost = {k: np.zeros_like(c) for k, c in facts.correct.items()}
    table = layer_scores(Facts(facts.variants, facts.base, lost, facts.changed), **LAYER)
    clean = table[table["score"] == "S_clean"]
    assert np.allclose(clean["value"], -1)
    assert (clean["standard_error"] > 0).all() and (clean["p_value"] < 1e-6).all()


def test_untouched_layers():
    facts = random_facts()
    for quiet in (unchanged(facts, weights=0, outputs=0), unchanged(facts, weights=3, outputs=0)):
        assert layer_scores(quiet, **LAYER)["untouched"].all()
    # One synaptic filter untouched: its rows are, "combined" is not.
    weights = np.where(facts.variants["filter"] == "pulse", 0, 1)
    some = Facts(
        {**facts.variants, "changed_weights": weights}, facts.base, facts.correct, facts.changed
    )
    table = layer_scores(some, **LAYER)
    assert (table["untouched"] == (table["filter"] == "pulse")).all()
    # No output changed on the clean images only: S_clean is untouched, S_diff is not.
    quiet = {**facts.changed, "clean": np.zeros_like(facts.changed["clean"])}
    table = layer_scores(Facts(facts.variants, facts.base, facts.correct, quiet), **LAYER)
    assert (table["untouched"] == (table["score"] == "S_clean")).all()


def without_adversarial_accuracy(facts):
    base = {**facts.base, "fgsm": np.zeros_like(facts.base["fgsm"])}
    return Facts(facts.variants, base, facts.correct, facts.changed)


def test_nothing_to_lose_is_nan():
    for table in (
        layer_scores(without_adversarial_accuracy(random_facts()), **LAYER),
        band_scores(
            without_adversarial_accuracy(random_facts()), baseline="kept_fraction", confidence=0.95
        ),
        filter_scores(
            without_adversarial_accuracy(nodal(random_facts().base, random_facts().correct)),
            confidence=0.95,
        ),
    ):
        undefined = table["attack"] == "fgsm"
        assert undefined.any()
        assert table.loc[undefined, NUMBERS].isna().all(axis=None)
        assert table.loc[~undefined, NUMBERS].notna().all(axis=None)


def test_curves_by_hand():
    table = curves(one_sweep(), confidence=0.95)
    clean = table[table["images"] == "clean"]
    assert list(clean["correct"]) == [3, 2, 1]
    assert list(clean["accuracy"]) == [0.75, 0.5, 0.25]
    assert list(clean["threshold"]) == [-1, 0, 1]
    assert list(clean["kept"]) == [1, 0.6, 0]
    assert (clean["base_accuracy"] == 0.75).all() and (clean["n"] == 4).all()
    low, high = binomtest(2, 4).proportion_ci(method="wilson")
    assert (clean["ci_low"].iloc[1], clean["ci_high"].iloc[1]) == pytest.approx((low, high))


def test_band_scores_by_hand():
    # Three bands over -1..1: half width 2 / (2 * 3) = 1/3. Clean p/p0 - 1 = 0, -1/3, -2/3.
    # Band 2 loses images 0, 1, 2 and gains 3: McNemar of 3 and 1 is 2 * 5/16.
    other = one_sweep("high_pass")
    facts = Facts.concatenate([other, one_sweep("pulse", (2, 0, 1))])
    table = band_scores(facts, baseline="unfiltered", confidence=0.95)
    clean = table[table["score"] == "S_clean"]
    assert set(table["filter"]) == {"pulse"} and len(table) == 9
    assert list(clean["band"]) == [0, 1, 2]
    assert clean["value"].to_numpy() == pytest.approx([0, -1 / 3, -2 / 3])
    assert clean["low"].to_numpy() == pytest.approx([-4 / 3, -1 / 3, 2 / 3])
    assert clean["high"].to_numpy() == pytest.approx([-2 / 3, 1 / 3, 4 / 3])
    assert clean["p_value"].to_numpy() == pytest.approx([1, 1, 0.625])
    assert list(clean["weights"]) == [0, 4, 10]
    assert list(clean["untouched"]) == [True, False, False]
    difference = table[table["score"] == "S_diff"]["value"].to_numpy()
    assert difference == pytest.approx([0, 1 / 2 + 1 / 3, 0 + 2 / 3])


def test_band_scores_with_the_kept_fraction():
    facts = one_sweep("pulse")
    table = band_scores(facts, baseline="kept_fraction", confidence=0.95)
    clean = table[table["score"] == "S_clean"]
    assert clean["value"].to_numpy() == pytest.approx([0, -1 / 3 + 0.4, -2 / 3 + 1])
    z = clean["value"] / clean["standard_error"]
    assert clean["p_value"].to_numpy() == pytest.approx(2 * norm.sf(np.abs(z)))


def test_no_pulse_no_bands():
    table = band_scores(one_sweep("high_pass"), baseline="unfiltered", confidence=0.95)
    assert len(table) == 0 and "band" in table


def test_filter_scores_by_hand():
    # Ten images; clean p0 .8, adversarial q0 .5. Filter 0 loses three images and gains one clean
    # (p .6), loses two adversarial (q .3); filter 1 changes nothing.
    base = {"clean": bools("1111111100")[0], "fgsm": bools("1111100000")[0]}
    correct = {
        "clean": bools("0001111110", "1111111100"),
        "fgsm": bools("0011100000", "1111100000"),
    }
    table = filter_scores(nodal(base, correct), confidence=0.95)
    clean = row(table, filter=0, score="S_clean")
    assert clean.value == pytest.approx(0.6 / 0.8 - 1)
    assert (clean.lost, clean.gained) == (3, 1)
    assert clean.accuracy_lost == pytest.approx(0.2)
    assert clean.p_value == pytest.approx(0.625)
    # Agresti & Min: (1.5 - 3.5) / 12 -+ z sqrt(5 - 4/12) / 12, divided by p0
    margin = 1.959964 * np.sqrt(5 - 4 / 12) / 12
    assert clean.ci_low == pytest.approx((-2 / 12 - margin) / 0.8)
    assert clean.ci_high == pytest.approx((-2 / 12 + margin) / 0.8)

    adversarial = row(table, filter=0, score="S_adv")
    assert adversarial.value == pytest.approx(0.3 / 0.5 - 1)
    assert adversarial.accuracy_lost == pytest.approx(0.2)
    assert adversarial.p_value == pytest.approx(0.5)

    # Influences clean (change + c0/4) / .8: three -.9375, five .3125, one 1.25, one 0;
    # adversarial (change + .4 c0) / .5: two -1.2, three .8, five 0.
    difference = row(table, filter=0, score="S_diff")
    u = np.array([-1.2, -1.2, 0.8, 0.8, 0.8, 0, 0, 0, 0, 0])
    u = u - np.array([-0.9375] * 3 + [0.3125] * 5 + [1.25, 0])
    error = np.sqrt(u @ u + 1 / 0.8**2 + 1 / 0.5**2) / 12
    assert difference.value == pytest.approx(-0.4 + 0.25)
    assert difference.standard_error == pytest.approx(error)
    assert difference.p_value == pytest.approx(2 * norm.sf(0.15 / error))
    assert pd.isna(difference.lost) and np.isnan(difference.accuracy_lost)

    still = table[table["filter"] == 1]
    assert (still["value"] == 0).all() and (still["p_value"] == 1).all()
    assert (still["ci_low"] < 0).all() and (still["ci_high"] > 0).all()


def test_permuting_filters_permutes_their_scores():
    rng = np.random.default_rng(0)
    base = {"clean": rng.uniform(size=50) < 0.9, "pgd": rng.uniform(size=50) < 0.4}
    correct = {k: rng.uniform(size=(6, 50)) < 0.7 for k in base}
    order = rng.permutation(6)
    table = filter_scores(nodal(base, correct), confidence=0.95)
    facts = nodal(base, {k: c[order] for k, c in correct.items()})
    facts.variants["filter"] = facts.variants["filter"][order]
    permuted = filter_scores(facts, confidence=0.95)
    expected = table.set_index(["filter", "score"]).sort_index()
    pd.testing.assert_frame_equal(permuted.set_index(["filter", "score"]).sort_index(), expected)
    assert list(permuted["filter"].unique()) == list(order)


def test_untouched_filters():
    base = {"clean": bools("1110")[0], "fgsm": bools("1000")[0]}
    correct = {k: np.tile(b, (5, 1)) for k, b in base.items()}
    changed = {"clean": np.array([2, 2, 2, 0, 0]), "fgsm": np.array([2, 2, 2, 0, 1])}
    # 0: a dead filter's weights; 1: never active; 2: touched, at "activation" (-1); 3: no output
    # moves; 4: adversarial outputs only.
    facts = nodal(
        base, correct, weights=[0, 7, -1, 7, 7], activations=[0, 0, 3, 3, 3], changed=changed
    )
    table = filter_scores(facts, confidence=0.95).pivot_table(
        index="filter", columns="score", values="untouched", aggfunc="first"
    )
    assert list(table["S_clean"]) == [True, True, False, True, True]
    assert list(table["S_adv"]) == [True, True, False, True, False]
    assert list(table["S_diff"]) == [True, True, False, True, False]
