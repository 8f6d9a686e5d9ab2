from itertools import product

import numpy as np
import pandas as pd
import pytest

from faultline.ablation.facts import Facts
from faultline.base.errors import UserError
from faultline.base.statistics import benjamini_hochberg
from faultline.studies.synaptic.classes import (
    classify,
    classify_units,
    images_needed,
    invariance,
    match_layers,
    most_common_class,
)
from faultline.studies.synaptic.scores import filter_scores, layer_scores


def scores(*rows, score="S_adv"):
    """Rows of (value, margin, p, untouched)."""
    value, margin, p, untouched = map(np.array, zip(*rows, strict=True))
    return pd.DataFrame(
        {
            "layer": [f"l{i}" for i in range(len(rows))],
            "score": score,
            "value": value,
            "ci_low": value - margin / 2,
            "ci_high": value + margin / 2,
            "family_low": value - margin,
            "family_high": value + margin,
            "p_value": p,
            "untouched": untouched.astype(bool),
        }
    )


def test_classes_and_decisions():
    table = classify(
        scores(
            (-0.5, 0.1, 0.001, False),
            (-0.15, 0.1, 0.001, False),  # reaches into robust, if not taken alone (to -.1)
            (0.0, 0.05, 0.9, False),
            (0.1, 0.0, 0.9, False),  # the limit itself is robust
            (-0.05, 0.1, 0.9, False),  # reaches into fragile
            (0.05, 0.1, 0.9, False),  # reaches into antifragile
            (0.2, 0.05, 0.001, False),
            (0.2, 0.15, 0.01, False),
            (0.0, 0.001, 1.0, True),
            (np.nan, 0.0, np.nan, False),
        ),
        tau={"S_adv": 0.1},
        by=["score"],
    )
    assert list(table["class"]) == [
        *(
            "fragile",
            "fragile",
            "robust",
            "robust",
            "robust",
            "robust",
            "antifragile",
            "antifragile",
        ),
        *("untouched", "undefined"),
    ]
    assert list(table["decided"]) == [
        *(True, False, True, True, False, False, True, False),
        *(False, False),
    ]
    # alone, with half of the margin; -.15 + .05 does not lie below -.1
    assert list(table["decided_alone"]) == [
        *(True, False, True, True, True, True, True, True),
        *(False, False),
    ]
    assert (table["tau"] == 0.1).all()


def test_q_values_are_per_family_and_leave_out_what_was_not_tested():
    first = scores((-1, 0, 0.01, False), (0, 0, 0.04, False), (0, 0, 1.0, True))
    second = scores((1, 0, 0.03, False), (np.nan, 0, np.nan, False), score="S_clean")
    mixed = pd.concat([first, second], ignore_index=True).iloc[[3, 0, 4, 1, 2]]
    table = classify(mixed, tau={"S_adv": 0.1, "S_clean": 0.2}, by=["score"])
    # S_adv: a family of two, .01 * 2 and .04; S_clean: a family of one.
    assert list(table["q_value"]) == pytest.approx([0.03, 0.02, np.nan, 0.04, np.nan], nan_ok=True)
    assert list(table["tau"]) == [0.2, 0.1, 0.2, 0.1, 0.1]
    assert "class" not in mixed


def test_families_of_several_columns_and_one_of_untouched_rows_only():
    rng = np.random.default_rng(0)
    table = scores(*((0.0, 0.1, p, False) for p in rng.uniform(size=12)))
    table["filter"] = ["high_pass", "low_pass", "pulse"] * 4
    table.loc[table["filter"] == "pulse", "untouched"] = True
    table = classify(table, tau={"S_adv": 0.1}, by=["filter", "score"])
    for name, family in table.groupby("filter"):
        expected = benjamini_hochberg(family["p_value"])
        expected = np.full(4, np.nan) if name == "pulse" else expected
        assert list(family["q_value"]) == pytest.approx(list(expected), nan_ok=True)


def test_untouched_is_never_robust_from_facts_to_class():
    facts = Facts(
        variants={
            "filter": np.array(["pulse"] * 2),
            "threshold": np.array([0.0, 1.0]),
            "normalised": np.array([0.0, 1.0]),
            "kept": np.ones(2),
            "changed_weights": np.zeros(2, int),
        },
        base={"clean": np.ones(9, bool)},
        correct={"clean": np.ones((2, 9), bool)},
        changed={"clean": np.zeros(2, int)},
    )
    table = layer_scores(facts, baseline="unfiltered", integration="trapezoid", confidence=0.95)
    table = classify(table, tau={"S_clean": 0.9}, by=["filter", "attack", "score"])
    assert set(table["class"]) == {"untouched"} and not table["decided"].any()
    assert table["q_value"].isna().all()


def test_a_score_without_a_limit_is_the_users_mistake():
    with pytest.raises(UserError, match=r"tau.*S_adv"):
        classify(scores((0, 0, 1.0, False)), tau={"S_clean": 0.1}, by=["score"])


@pytest.mark.parametrize(("compared", "tau", "accuracy"), [(16, 0.01, 0.95), (12, 0.05, 0.5)])
def test_images_needed_are_the_fewest_that_decide_a_unit_that_changes_nothing(
    compared, tau, accuracy
):
    # 16 filters: ln(2 * 16 / .05) / ln 1.01 = 649.3 correct images, 683.5 at 95 %
    given = {"accuracy": accuracy, "compared": compared, "confidence": 0.95}
    n = int(images_needed(tau, **given))
    assert n == {16: 684, 12: 254}[compared]
    decided = []
    for images in (n - 2, n):
        base = np.arange(images) < images * accuracy
        correct = {"clean": np.tile(base, (compared, 1))}
        variants = {"filter": np.arange(compared), "changed_weights": np.full(compared, 9)}
        facts = Facts(variants, {"clean": base}, correct, {"clean": np.full(compared, 9)})
        table = filter_scores(facts, confidence=0.95)
        classes = classify(table, tau={"S_clean": tau}, by=["score"])
        assert set(classes["class"]) == {"robust"}
        decided.append(set(classes["decided"]))
    assert decided == [{False}, {True}]
    assert images_needed(0.0, **given) == np.inf
    assert images_needed([tau, tau], **given).tolist() == [n, n]


def judged(**raters):
    letters = {"f": "fragile", "r": "robust", "a": "antifragile", "u": "undefined"}
    return pd.DataFrame(
        [
            {"layer": f"l{unit}", "seed": seed, "class": letters[letter]}
            for seed, word in raters.items()
            for unit, letter in enumerate(word)
            if letter != "-"
        ]
    )


def test_invariance_by_hand():
    # Three raters. Units frr, fra: agreement 1/3, 0; twice rrr: 1. Mean 7/12, unchanged 1/2.
    # Shares f 2/12, r 9/12, a 1/12: by chance 86/144; kappa (84 - 86) / (144 - 86).
    result = invariance(judged(a="ffrr", b="rrrr", c="rarr"), unit="layer", over="seed").iloc[0]
    assert (result.units, result.raters, result.dropped) == (4, 3, 0)
    assert result.unchanged == 0.5
    assert result.agreement == pytest.approx(7 / 12)
    assert result.kappa == pytest.approx(-2 / 58)
    assert result.note == ""


def test_invariance_drops_and_counts_units_without_a_class_from_every_rater():
    table = judged(a="frfr", b="frr-", c="fru-").sample(frac=1, random_state=0)
    result = invariance(table, unit=["layer"], over=["seed"]).iloc[0]
    assert (result.units, result.raters, result.dropped) == (2, 3, 2)
    assert result.unchanged == 1 and result.agreement == 1 and result.kappa == 1


@pytest.mark.parametrize(
    ("raters", "note", "unchanged"),
    [
        ({"a": "rr", "b": "rr"}, "one class", 1.0),
        ({"a": "rf"}, "one rater", np.nan),
        ({"a": "r-", "b": "-r"}, "no unit", np.nan),
        ({"a": "rf", "b": "uu"}, "no unit", np.nan),
    ],
)
def test_invariance_says_why_kappa_is_missing(raters, note, unchanged):
    result = invariance(judged(**raters), unit="layer", over="seed").iloc[0]
    assert np.isnan(result.kappa) and note in result.note
    assert result.unchanged == pytest.approx(unchanged, nan_ok=True)


def test_invariance_refuses_two_classes_from_one_rater():
    with pytest.raises(ValueError, match="duplicate"):
        invariance(pd.concat([judged(a="rf")] * 2), unit="layer", over="seed")


@pytest.mark.parametrize(
    ("depth", "thirds"), [(1, "m"), (2, "el"), (3, "eml"), (4, "emml"), (5, "eemll"), (6, "eemmll")]
)
def test_match_layers(depth, thirds):
    kinds = ["conv"] * (depth - 1) + ["linear"]
    table = match_layers(pd.DataFrame({"position": range(depth), "kind": kinds}))
    words = {"e": "early", "m": "middle", "l": "late"}
    expected = [f"{k} {words[t]}" for k, t in zip(kinds, thirds, strict=True)]
    assert list(table["matched"]) == expected


def test_most_common_class_and_invariance_across_networks():
    classes = pd.DataFrame(
        {
            "network": ["x"] * 5 + ["y"] * 3,
            "matched": ["early", "early", "early", "late", "late", "early", "late", "late"],
            "class": [
                *("robust", "fragile", "robust", "robust", "fragile"),  # late: a tie, the worse
                *("robust", "undefined", "antifragile"),
            ],
        }
    )
    common = most_common_class(classes, by=["network", "matched"])
    assert list(common["class"]) == ["robust", "fragile", "robust", "antifragile"]
    result = invariance(common, unit="matched", over="network").iloc[0]
    assert (result.units, result.raters, result.unchanged) == (2, 2, 0.5)
    only = pd.DataFrame({"matched": ["early"], "class": ["undefined"]})
    assert list(most_common_class(only, by="matched")["class"]) == ["undefined"]


def test_limits_and_columns_that_make_no_sense_are_refused():
    table = pd.DataFrame({"score": ["S_clean"], "value": [0.1], "untouched": [False]})
    with pytest.raises(UserError, match=r"tau: S_clean: -0.1; expected a finite number from 0 on"):
        classify(table, tau={"S_clean": -0.1}, by=["score"])
    with pytest.raises(UserError, match="classify: by: 'scores' is unknown; did you mean 'score'"):
        classify(table, tau={"S_clean": 0.1}, by=["scores"])


@pytest.mark.parametrize(
    ("unit", "families"),
    [
        ("layers", ["scope", "filter", "attack", "score"]),
        ("filters", ["layer", "attack", "score"]),
        ("bands", ["layer", "attack", "score"]),
    ],
)
def test_q_values_go_by_the_family_of_a_unit(unit, families):
    columns = dict.fromkeys(("scope", "layer", "filter", "attack", "score"), "xy")
    table = pd.DataFrame([*product(*columns.values())], columns=[*columns])
    rng = np.random.default_rng(0)
    for column in ("value", "ci_low", "ci_high", "family_low", "family_high"):
        table[column] = rng.normal(size=len(table))
    table = table.assign(p_value=rng.random(len(table)), untouched=False)
    classes = classify_units(table, unit, tau={"x": 0.1, "y": 0.2})
    for _, rows in classes.groupby(families):
        assert len(rows) == 2 ** (5 - len(families))
        assert rows["q_value"].tolist() == benjamini_hochberg(rows["p_value"]).tolist()
    assert (classes["tau"] == classes["score"].map({"x": 0.1, "y": 0.2})).all()
    assert not len(classify_units(table[:0], unit, tau={}))
