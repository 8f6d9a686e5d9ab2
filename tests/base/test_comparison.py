import numpy as np
import pandas as pd
import pytest
from scipy import stats

from faultline.base.columns import RUN
from faultline.base.comparison import compare, compare_apart, compare_policies, with_correction
from faultline.base.statistics import (
    both_power,
    difference_interval,
    mcnemar_power,
    paired_difference_interval,
    paired_mean_interval,
)


def bools(text):
    return np.array([c == "1" for c in text])


SEEDS = {
    1: {"regular": bools("1111100000"), "selective": bools("1111111100")},  # .5 -> .8
    2: {"regular": bools("1111110000"), "selective": bools("0111111000")},  # .6 -> .6
    3: {"regular": bools("1111000000"), "selective": bools("1111100000")},  # .4 -> .5
}


def row(table, **columns):
    for name, value in columns.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_seeds_are_compared_image_by_image():
    table = compare(SEEDS, confidence=0.95)
    assert list(table["level"]) == ["seed"] * 3 + ["all seeds"]
    assert list(table["seed"])[:3] == [1, 2, 3] and pd.isna(table["seed"].iloc[3])
    expected = {1: (3, 0, 0.25), 2: (1, 1, 1.0), 3: (1, 0, 1.0)}  # gained, lost, 2 / 2^changed
    for seed, (gained, lost, p) in expected.items():
        got = row(table, seed=seed)
        interval = paired_difference_interval(gained, lost, 10, confidence=0.95)
        assert (got.difference, got.ci_low, got.ci_high) == pytest.approx(interval)
        assert got.p_value == p
        assert got.n == 10 and got.seeds == 1
    assert row(table, seed=1).accuracy == pytest.approx(0.8)
    assert row(table, seed=1).reference_accuracy == pytest.approx(0.5)


def test_all_seeds_by_hand():
    got = row(compare(SEEDS, confidence=0.95), level="all seeds")
    # Differences .3, 0, .1: mean .4/3
    differences = [0.3, 0.0, 0.1]
    low, high = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    assert got.difference == pytest.approx(0.4 / 3)
    assert (got.ci_low, got.ci_high) == pytest.approx((low, high))
    assert got.p_value == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert (got.accuracy, got.reference_accuracy) == pytest.approx((1.9 / 3, 0.5))
    assert got.seeds == 3
    # Mean changes in thirds: image 0 -1, 4 +1, 5 +1, 6 +2, 7 +1, the others 0.
    # Sum 4/3, squares 8/9; (1 + 8/9) / 6 added; n + 2 = 12.
    squares = 8 / 9 + 17 / 54
    margin = 1.959964 * np.sqrt(squares - (4 / 3) ** 2 / 12) / 12
    assert got.image_ci_low == pytest.approx(4 / 36 - margin)
    assert got.image_ci_high == pytest.approx(4 / 36 + margin)


def many(gained, lost, n=400):
    """Policies of which so many images change, of n, half of them right before."""
    before = np.arange(n) % 2 == 0
    after = before.copy()
    after[1 : 2 * gained : 2], after[: 2 * lost : 2] = True, False
    return {"regular": before, "selective": after}


def test_what_could_have_been_detected():
    seeds = {1: many(30, 10), 2: many(26, 12), 3: many(20, 10)}
    table = compare(seeds, confidence=0.95)
    one, whole = row(table, seed=1), row(table, level="all seeds")
    assert one.changed == 40 and whole.changed == 108
    assert mcnemar_power(one.detectable, 40, 400, level=0.05) == pytest.approx(0.8)
    over_seeds = stats.sem([20 / 400, 14 / 400, 10 / 400])
    over_images = (whole.image_ci_high - whole.image_ci_low) / 2 / 1.959964
    given = {"confidence": 0.95, "level": 0.05}
    power = both_power(whole.detectable, over_seeds, over_images, 3, **given)
    assert power == pytest.approx(0.8, abs=1e-5)
    # of 11 comparisons together each must be told at a smaller level
    both = with_correction(pd.concat([table] * 11, ignore_index=True), confidence=0.95)
    given["level"] = 0.05 / 11
    corrected = both[both["level"] == "all seeds"].iloc[0].detectable
    assert both_power(corrected, over_seeds, over_images, 3, **given) == pytest.approx(0.8)
    assert mcnemar_power(both.detectable[0], 40, 400, level=0.05 / 33) == pytest.approx(0.8)
    # seeds that agree tell nothing of their spread: the images' stands alone; one seed: nothing
    alike = row(compare({1: seeds[1], 2: seeds[1]}, confidence=0.95), level="all seeds")
    width = alike.image_ci_high - alike.image_ci_low
    share = (1.959964 + 0.841621) / 1.959964  # normal quantiles of 0.975 and 0.8
    assert np.isnan(alike.ci_low) and alike.detectable == pytest.approx(share * width / 2)
    assert np.isnan(row(compare({1: seeds[1]}, confidence=0.95), level="all seeds").detectable)


def test_what_exceeds_what_accuracy_can_differ_by_is_not_detectable():
    # from 0.5 accuracy can differ by 0.5; 12.706 and more standard errors of 0.125 are beyond that
    few = {seed: SEEDS[seed] for seed in (1, 2)}
    table = compare(few, confidence=0.95)
    assert np.isinf(table["detectable"]).all()  # nor can ten images of one seed tell anything


def test_draws_are_told_by_a_z_test():
    seeds = {1: many(30, 10), 2: many(26, 12)}
    for of in seeds.values():
        of |= {"random-0": of["regular"], "random-1": ~of["regular"]}
    table = compare(seeds, confidence=0.95)
    one = row(table, seed=1, policy="random")
    share = (1.959964 + 0.841621) / 1.959964
    assert pd.isna(one.changed)
    assert one.detectable == pytest.approx(share * (one.ci_high - one.ci_low) / 2)


def test_image_interval_is_the_paired_one_for_many_images():
    rng = np.random.default_rng(0)
    n = 5000
    seeds = {s: {k: rng.uniform(size=n) < 0.7 for k in ("regular", "x")} for s in range(3)}
    got = row(compare(seeds, confidence=0.95), level="all seeds")
    mean = np.mean([of["x"].astype(float) - of["regular"] for of in seeds.values()], axis=0)
    margin = 1.959964 * mean.std(ddof=1) / np.sqrt(n)
    assert got.image_ci_high - got.image_ci_low == pytest.approx(2 * margin, rel=1e-3)


def test_draws_of_random_are_averaged_image_by_image():
    regular = bools("1100")
    draws = {"random-0": bools("1110"), "random-1": bools("0110"), "random-10": bools("0110")}
    table = compare({0: {"regular": regular, **draws}}, confidence=0.95)
    got = row(table, level="seed")
    # Changes: image 0 -2/3, image 2 +1
    assert got.policy == "random" and got.draws == 3
    assert got.difference == pytest.approx(1 / 12)
    assert got.accuracy == pytest.approx(7 / 12)
    interval = paired_mean_interval([-2 / 3, 0, 1, 0], confidence=0.95)
    assert (got.difference, got.ci_low, got.ci_high) == pytest.approx(interval)
    z = (1 / 3) / np.sqrt(13 / 9 + (22 / 9) / 3 - (1 / 9) / 6)
    assert got.p_value == pytest.approx(2 * stats.norm.sf(z))


def test_what_is_controlled_is_compared_with_its_control_too():
    seeds = {
        1: {"regular": bools("1100"), "random-0": bools("1110"), "random-1": bools("0110")},
        2: {"regular": bools("1110"), "random-0": bools("1010"), "random-1": bools("1010")},
        3: {"regular": bools("1110"), "selective": bools("1111")},  # without a control
    }
    seeds[1] |= {"selective": bools("1111"), "fragile_only": bools("0000")}
    seeds[2] |= {"selective": bools("1011"), "fragile_only": bools("0000")}
    table = compare(seeds, confidence=0.95)
    ours = table[table["reference"] == "random"]
    assert set(table["reference"]) == {"regular", "random"} and set(ours["policy"]) == {"selective"}
    assert list(ours.index) == [*table.index[-3:]]  # behind all others
    one, other, whole = ours.to_dict("records")
    # changes: images 0 and 3 by 1/2 and 1 in seed 1, image 3 by 1 in seed 2
    for got, seed, changes in ((one, 1, [0.5, 0, 0, 1]), (other, 2, [0, 0, 0, 1])):
        assert (got["seed"], got["level"], got["draws"]) == (seed, "seed", 2)
        interval = paired_mean_interval(changes, confidence=0.95)
        assert (got["difference"], got["ci_low"], got["ci_high"]) == pytest.approx(interval)
    assert other["p_value"] == 1 and one["p_value"] < 1
    assert (one["reference_accuracy"], one["accuracy"]) == pytest.approx((0.625, 1))
    assert (whole["level"], whole["seeds"], whole["draws"]) == ("all seeds", 2, 4)
    low, high = stats.t.interval(0.95, 1, 0.3125, stats.sem([0.375, 0.25]))
    got = whole["difference"], whole["ci_low"], whole["ci_high"]
    assert got == pytest.approx((0.3125, low, high))
    images = paired_mean_interval([0.25, 0, 0, 1], confidence=0.95)[1:]
    assert (whole["image_ci_low"], whole["image_ci_high"]) == pytest.approx(images)


def test_one_seed_says_nothing_of_other_seeds():
    got = row(compare({7: SEEDS[1]}, confidence=0.95), level="all seeds")
    assert got.difference == pytest.approx(0.3) and got.seeds == 1
    assert np.isnan([got.ci_low, got.ci_high, got.p_value]).all()
    assert got.image_ci_low < 0.3 < got.image_ci_high


def test_equal_policies_differ_by_nothing_with_an_interval_over_images():
    same = {s: {**of, "selective": of["regular"]} for s, of in SEEDS.items()}
    table = compare(same, confidence=0.95)
    assert (table["difference"] == 0).all()
    seed = table[table["level"] == "seed"]
    assert (
        (seed["ci_low"] < 0).all() and (seed["ci_high"] > 0).all() and (seed["p_value"] == 1).all()
    )
    assert np.isnan(row(table, level="all seeds").p_value)


def test_other_reference_and_policies_in_some_seeds_only():
    seeds = {**SEEDS, 4: {"regular": bools("1111100000")}, 5: {"selective": bools("1111111100")}}
    pd.testing.assert_frame_equal(compare(seeds, confidence=0.95), compare(SEEDS, confidence=0.95))
    turned = compare(SEEDS, reference="selective", confidence=0.95)
    assert set(turned["policy"]) == {"regular"}
    assert row(turned, seed=1).difference == pytest.approx(-0.3)


def test_permuting_images_changes_nothing():
    order = np.random.default_rng(0).permutation(10)
    permuted = {s: {k: v[order] for k, v in of.items()} for s, of in SEEDS.items()}
    pd.testing.assert_frame_equal(compare(permuted, confidence=0.9), compare(SEEDS, confidence=0.9))


def test_policies_judged_on_images_of_their_own():
    counts = {0: {"a": (50, 100), "b": (140, 200)}, 1: {"a": (60, 100), "b": (130, 200)}}
    table = compare_apart(counts, policy="b", reference="a", confidence=0.95)
    assert list(table.columns) == list(compare(SEEDS, confidence=0.95).columns)
    one = row(table, seed=0)
    assert (one.reference_accuracy, one.accuracy, one.difference) == pytest.approx((0.5, 0.7, 0.2))
    assert one.p_value == pytest.approx(stats.fisher_exact([[140, 60], [50, 50]]).pvalue)
    assert one.ci_low < 0.2 < one.ci_high and one.n == 100
    whole = row(table, level="all seeds")
    low, high = stats.t.interval(0.95, 1, 0.125, stats.sem([0.2, 0.05]))
    assert (whole.ci_low, whole.ci_high) == pytest.approx((low, high))
    assert (whole.reference_accuracy, whole.accuracy) == pytest.approx((0.55, 0.675))
    _, low, high = difference_interval(0.55, 0.675, 100, 200, confidence=0.95)
    assert (whole.image_ci_low, whole.image_ci_high) == pytest.approx((low, high))
    by_seed = with_correction(table, confidence=0.95).query("level == 'seed'")
    assert list(by_seed["q_value"]) == pytest.approx(
        stats.false_discovery_control(by_seed["p_value"])
    )
    assert not len(compare_apart({}, policy="b", reference="a", confidence=0.95))


def test_tests_that_were_fixed_beforehand_are_corrected_over_themselves():
    rng = np.random.default_rng(0)
    hits, places = [], []
    for seed in range(4):
        for policy, share in (("regular", 0.5), ("selective", 0.8), ("fragile_only", 0.4)):
            places.append({**dict.fromkeys(RUN, "a"), "epoch": 2, "seed": seed, "policy": policy})
            hits.append({key: rng.random(100) < share for key in ("clean", "pgd")})
        for draw in range(2):
            policy = f"random-{draw}"
            places.append({**dict.fromkeys(RUN, "a"), "epoch": 2, "seed": seed, "policy": policy})
            hits.append({key: rng.random(100) < 0.5 for key in ("clean", "pgd")})
    every = compare_policies(hits, places, confidence=0.95)
    table = compare_policies(
        hits, places, confidence=0.95, tests=[("selective", "regular"), ("selective", "random")]
    )
    whole = table[table["level"] == "all seeds"]
    assert whole[["images", "policy", "reference"]].to_numpy().tolist() == [
        ["pgd", "selective", "regular"],
        ["pgd", "selective", "random"],
    ]
    columns = ["images", "policy", "reference", "level", "seed"]
    same = table.merge(every, on=columns, suffixes=("", "_every"))
    assert len(same) == len(table) == 2 + 2 * 4
    np.testing.assert_array_equal(same["p_value"], same["p_value_every"])
    p = whole["p_value"].to_numpy()
    np.testing.assert_allclose(np.sort(whole["q_value"]), [2 * p.min(), max(2 * p.min(), p.max())])
