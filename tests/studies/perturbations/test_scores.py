from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from faultline.ablation.choosing import choose, expected_changes
from faultline.ablation.facts import Facts
from faultline.networks.facts import networks
from faultline.studies.perturbations.scores import (
    corrected,
    curves,
    depth_test,
    falls_to,
    headline,
    layer_losses,
    places,
    relative,
    score_tables,
)

COMMON = {"chance": 0.25, "confidence": 0.95}


def facts_of(correct, base, *, kind="synapse_knockout", parameter="weight", images="clean"):
    """correct: strength -> one list of 0 and 1 per repeat."""
    rows = [(s, r, hits) for s, repeats in correct.items() for r, hits in enumerate(repeats)]
    hits = np.array([row[2] for row in rows], bool)
    base = np.array(base, bool)
    return Facts(
        variants={
            "kind": np.array([kind] * len(rows)),
            "parameter": np.array([parameter] * len(rows)),
            "strength": np.array([row[0] for row in rows], float),
            "repeat": np.array([row[1] for row in rows]),
        },
        base={images: base},
        correct={images: hits},
        changed={images: (hits != base).sum(1)},
    )


# 8 images, chance 1/4, 6 correct: 2 images above chance are 1/2, so an image is 1/4 of it
BASE = [1, 1, 1, 1, 1, 1, 0, 0]
BY_HAND = {
    0.5: [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 1]],  # 4 and 6 of 8
    1.0: [[1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 1]],  # 2 and 2: chance
}


def test_curve_by_hand():
    table = curves(facts_of(BY_HAND, BASE), **COMMON).set_index("strength")
    assert table.index.tolist() == [0, 0.5, 1]
    assert table["value"].tolist() == [1, 0.75, 0]
    assert table["std"].tolist() == pytest.approx([0, np.std([0.5, 1], ddof=1), 0])
    assert table["accuracy"].tolist() == [0.75, 0.625, 0.25]
    assert table["accuracy_std"][0.5] == pytest.approx(np.std([0.5, 0.75], ddof=1))
    assert table["base_accuracy"].tolist() == [0.75] * 3 and set(table["chance"]) == {0.25}
    assert table.loc[0, ["ci_low", "ci_high"]].tolist() == [1, 1]
    assert (table["ci_low"] < table["value"])[1:].all() and table["n"].tolist() == [8] * 3


def test_draws_with_outputs_that_are_not_finite_are_counted():
    flips = facts_of(BY_HAND, BASE, kind="bit_flip")
    flips.nonfinite["clean"] = np.array([3, 8, 0, 1])
    table = curves(flips, **COMMON).set_index("strength")
    assert table["nonfinite"].tolist() == [0, 2, 1]
    assert "nonfinite" not in curves(facts_of(BY_HAND, BASE), **COMMON)


def test_the_order_of_the_variants_means_nothing():
    facts = facts_of({s: BY_HAND[s] for s in (1.0, 0.5)}, BASE)
    pd.testing.assert_frame_equal(
        curves(facts, **COMMON), curves(facts_of(BY_HAND, BASE), **COMMON)
    )


def test_layer_by_hand():
    (row,) = layer_losses(facts_of(BY_HAND, BASE), **COMMON).to_dict("records")
    assert row["value"] == pytest.approx((1 + 0.75) / 4 + 0.75 / 4)  # two trapezoids
    by_repeat = [(1 + 0.5) / 4 + 0.5 / 4, (1 + 1) / 4 + 1 / 4]
    assert row["std"] == pytest.approx(np.std(by_repeat, ddof=1))
    assert row["loss_strength"] == pytest.approx(0.5 + 0.5 * 0.05 / 0.75)
    assert row["largest"] == 1 and row["repeats"] == 2


def test_a_layer_that_loses_nothing():
    facts = facts_of({0.0: [BASE, BASE], 0.9: [BASE, BASE]}, BASE)
    (row,) = layer_losses(facts, **COMMON).to_dict("records")
    assert row["value"] == 1 and row["std"] == 0 and np.isnan(row["loss_strength"])
    assert row["ci_low"] < 1 < row["ci_high"]  # eight images cannot prove that


@pytest.mark.parametrize("base", [[0] * 8, [1, 1, 0, 0, 0, 0, 0, 0]])
def test_undefined_where_the_base_is_no_better_than_chance(base):
    facts = facts_of(BY_HAND, base)
    undefined = ["value", "std", "ci_low", "ci_high"]
    assert curves(facts, **COMMON)[undefined].isna().all(axis=None)
    assert layer_losses(facts, **COMMON)[[*undefined, "loss_strength"]].isna().all(axis=None)
    found = headline(facts, ["dense"], almost_chance=0.1, **COMMON)
    assert found["seen"].tolist() == ["undefined"]


def test_interval_against_a_jackknife_and_a_t_interval():
    rng = np.random.default_rng(0)
    n, chance = 2000, 0.1
    base = rng.uniform(size=n) < 0.8
    harm = rng.uniform(size=n) < 0.4  # the same images in every repeat: no spread over repeats
    change = np.repeat(-(base & harm)[None].astype(int), 3, axis=0)
    found = relative(change, base, chance=chance, confidence=0.95)
    whole = 1 + change[0].sum() / (base.sum() - n * chance)
    assert found["value"] == pytest.approx(whole) and found["std"] == pytest.approx(0)
    left = np.arange(n)
    without = np.array(
        [
            1 + change[0, left != i].sum() / (base[left != i].sum() - (n - 1) * chance)
            for i in range(n)
        ]
    )
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = (found["ci_high"] - found["ci_low"]) / 2
    assert half == pytest.approx(norm.ppf(0.975) * error, rel=0.01)

    lost = [100, 300, 500, 120]  # of images that are all correct: many, so repeats decide
    base = np.ones(n, bool)
    change = np.array([-(np.arange(n) < k).astype(int) for k in lost])
    found = relative(change, base, chance=chance, confidence=0.95)
    by_repeat = 1 - np.array(lost) / n / 0.9
    low, high = t.interval(0.95, 3, by_repeat.mean(), by_repeat.std(ddof=1) / 2)
    assert found["ci_low"] == pytest.approx(low, abs=0.002) and found["ci_low"] < low
    assert found["ci_high"] == pytest.approx(high, abs=0.002) and found["ci_high"] > high


@pytest.mark.parametrize("repeats", [3, 10])
@pytest.mark.parametrize("share", [0.002, 0.03, 0.3])
@pytest.mark.parametrize("near", [0.03, 0.2, None])
def test_intervals_of_images_drawn_by_margin_cover_the_population(near, share, repeats):
    """Repeats differ in how much they change, images in how near they are to a boundary, in whose
    order they are; near: how near those are that change, None: all change equally often."""
    rng, n, chance, times = np.random.default_rng(3), 4000, 0.1, 200
    rank, outside = (np.arange(n) + 0.5) / n, np.zeros(2)
    wrong = 0.5 * np.exp(-rank / 0.3)
    rate = np.ones(n) if near is None else np.exp(-rank / near)
    rate = np.minimum(share * rate / rate.mean(), 0.6)
    after = (1 - wrong) * (1 - rate) + 0.3 * wrong * rate
    truth = (after.mean() - chance) / ((1 - wrong).mean() - chance)
    for draw in range(times):
        base = rng.random(n) >= wrong
        often = rate * rng.uniform(0.4, 1.6, size=(repeats, 1))
        correct = rng.random((repeats, n)) < np.where(base, 1 - often, 0.3 * often)
        index, strata = choose(expected_changes({"clean": np.arange(n * 1.0)}), 400, seed=draw)
        change = correct[:, index].astype(np.int8) - base[index]
        found = relative(change, base[index], chance=chance, confidence=0.95, design=strata)
        outside += [found["ci_high"] < truth, truth < found["ci_low"]]
    assert (outside / times <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / times)).all(), outside / times


@pytest.mark.parametrize(
    ("y", "x"),
    [([1, 0.8, 0.6], 0.75), ([1, 0.7, 0.9], 0.5), ([1, 0.6, 0.9], 0.375), ([1, 0.9, 0.8], np.nan)],
)
def test_where_a_line_first_falls_to_a_level(y, x):
    assert falls_to(0.7, np.array([0, 0.5, 1]), np.array(y)) == pytest.approx(x, nan_ok=True)


def test_top_5_has_its_own_chance():
    # five times the same images, as 6 of 8 are not above a chance of 1/2 beyond doubt
    often = {strength: [hits * 5 for hits in repeats] for strength, repeats in BY_HAND.items()}
    one = facts_of(often, BASE * 5, images="clean@2")
    table = curves(one, **COMMON)
    assert set(table["images"]) == {"clean"} and set(table["top"]) == {2}
    assert set(table["chance"]) == {0.5}
    assert table["value"].tolist() == [1, 0.5, -1]
    few = curves(facts_of(BY_HAND, BASE, images="clean@2"), **COMMON)
    assert few["value"].isna().all()  # Wilson: .41 to .93


def many(kept, *, n=2000, base=0.9, repeats=3):
    """Facts in which a share `kept[strength]` of the correct images stays correct."""
    right = np.arange(n) < base * n
    return facts_of(
        {s: [right & (np.arange(n) < k * base * n)] * repeats for s, k in kept.items()}, right
    )


def test_headline_is_interpolated_and_judged():
    # base 0.9 and chance 0.1: keeping a share k of the correct images is (0.9 k - 0.1) / 0.8
    facts = many({0.6: 1.0, 0.8: 0.9})
    roles = ["first conv", "top conv", "dense"]
    table = headline(facts, roles, almost_chance=0.1, chance=0.1, confidence=0.95)
    assert table["role"].tolist() == roles and set(table["strength"]) == {0.7}
    assert table["value"].tolist() == pytest.approx([(0.9 * 0.95 - 0.1) / 0.8] * 3)
    assert table["seen"].tolist() == ["no", "yes", "yes"]

    for kept, seen in ((0.12, ["yes", "no"]), (0.73, ["no", "undecided"]), (0.6, ["no", "no"])):
        table = headline(
            many({0.7: kept}), roles[:2], almost_chance=0.1, chance=0.1, confidence=0.95
        )
        assert table["seen"].tolist() == seen
    settings = {"almost_chance": 0.1, "chance": 0.1, "confidence": 0.95}
    for kept, role, limit in ((0.19, "first conv", 0.1), (0.73, "top conv", 0.7)):
        p_value = headline(many({0.7: kept}), [role], **settings)["p_value"].item()
        at = headline(many({0.7: kept}), [role], **settings | {"confidence": 1 - p_value})
        assert at["ci_high"].item() == pytest.approx(limit, abs=1e-6)
    assert not len(headline(many({0.6: 0.5}), roles, **settings))  # not so far
    assert not len(headline(many({0.7: 0.5}), [], **settings))
    assert not len(headline(facts_of(BY_HAND, BASE, kind="resample"), roles, **settings))
    assert not len(headline(facts_of(BY_HAND, BASE, parameter="bias"), roles, **settings))


def test_claims_are_decided_where_they_are_told_once_corrected():
    table = pd.DataFrame(
        {"p_value": [0.01, 0.04, 0.5, np.nan], "seen": ["yes", "no", "undecided", "undefined"]}
    )
    found = corrected(table, confidence=0.95)
    assert found["q_value"].tolist() == pytest.approx([0.03, 0.06, 0.5, np.nan], nan_ok=True)
    assert found["seen"].tolist() == ["yes", "undecided", "undecided", "undefined"]
    assert not len(corrected(table.iloc[:0], confidence=0.95))


def test_places():
    table = places(networks()["alexnet"]["layers"])
    assert table["depth"].iloc[[0, -1]].tolist() == [0, 1] and len(table) == 8
    roles = table["role"][table["role"].map(bool)].to_dict()
    assert roles == {
        "features.0": ["first conv"],
        "features.10": ["top conv"],
        **{f"classifier.{i}": ["dense"] for i in (1, 4, 6)},
    }
    assert places([("fc", "linear", 3)])["depth"].tolist() == [0]
    assert places([("conv", "conv", 3)])["role"].tolist() == [["first conv", "top conv"]]
    with_norms = [("n", "norm", 4), ("a", "conv", 4), ("b", "linear", 4), ("m", "norm", 4)]
    assert places([*with_norms, ("c", "linear", 2)])["depth"].tolist() == [0, 0, 0.5, 0.5, 1]
    without_convs = [("embed", "embedding", 8), ("lstm", "recurrent", 4), ("fc", "linear", 2)]
    assert places(without_convs)["role"].tolist() == [[], [], ["dense"]]


def losses(values):
    depth = np.arange(len(values)) / (len(values) - 1)
    head = {"kind": "gaussian", "parameter": "weight", "images": "clean", "top": 1}
    return pd.DataFrame({"depth": depth, "value": values, **head})


def test_depth_test_against_all_orders():
    values = [0.2, 0.5, 0.3, 0.1, 0.9, 0.4, 0.6, 0.8]  # first 0.2 0.5 0.3, last 0.4 0.6 0.8
    (row,) = depth_test(losses(values), ends=0.34).to_dict("records")
    first, last = values[:3], values[-3:]

    def wins(later, former):
        return sum(x > y for x in later for y in former)

    def distance(later, former):
        return abs(wins(later, former) - 4.5)

    both = first + last
    orders = [([both[i] for i in c], [both[i] for i in range(6) if i not in c])
              for c in combinations(range(6), 3)]  # fmt: skip
    extreme = sum(distance(*order) >= distance(last, first) for order in orders) / len(orders)
    assert row["value"] == wins(last, first) / 9 and row["p_value"] == pytest.approx(extreme)
    assert row["first_mean"] == pytest.approx(1 / 3) and row["last_mean"] == pytest.approx(0.6)
    assert (row["first_layers"], row["last_layers"]) == (3, 3)


def test_depth_test_leaves_out_what_is_undefined():
    values = [0.2, np.nan, 0.3, 0.1, 0.9, 0.4, np.nan, 0.8]
    (row,) = depth_test(losses(values), ends=0.34).to_dict("records")
    assert (row["first_layers"], row["last_layers"]) == (2, 2)
    assert not len(depth_test(losses([np.nan, 0.5, 0.6]), ends=0.34))
    assert not len(depth_test(losses([np.nan] * 3), ends=0.34))


def test_tables_of_a_checkpoint_say_of_which_layer():
    layers = [("a", "conv", 4), ("b", "conv", 4), ("c", "linear", 3)]
    facts = {"c": many({0.7: 0.9}), "a": many({0.7: 0.6})}
    common = {"chance": 0.0, "confidence": 0.9}
    tables = score_tables(facts, layers, confidence=0.9, almost_chance=0.2, ends=0.3)
    heads = [("c", "linear", 1.0, ["dense"]), ("a", "conv", 0.0, ["first conv"])]
    parts = {"curves": [], "layers": [], "headline": []}
    for layer, kind, depth, roles in heads:
        head = {"layer": layer, "layer_kind": kind, "depth": depth}
        parts["curves"].append(curves(facts[layer], **common).assign(**head))
        parts["layers"].append(layer_losses(facts[layer], **common).assign(**head))
        of_roles = headline(facts[layer], roles, almost_chance=0.2, **common)
        parts["headline"].append(of_roles.assign(**head))
    expected = {name: pd.concat(of, ignore_index=True) for name, of in parts.items()}
    expected["depth"] = depth_test(expected["layers"], ends=0.3)
    assert len(expected["depth"]) and {*tables} == {*expected}
    for name, table in expected.items():
        pd.testing.assert_frame_equal(tables[name], table, check_like=True)
        if name != "depth":
            assert [*tables[name]][:3] == ["layer", "layer_kind", "depth"]
