from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from faultline.studies.fragile.fragility import association, join, overlaps

PLACE = {"dataset": "digits", "network": "small_conv", "training": "standard", "epoch": 2}


def joined(d, t, *, seed=0, fragile=None, untouched=None, attack="pgd"):
    """One seed's filters as `join` makes them."""
    d = np.asarray(d, float)
    fragile = d > 0.01 if fragile is None else np.asarray(fragile, bool)
    untouched = np.zeros(len(d), bool) if untouched is None else np.asarray(untouched, bool)
    return pd.DataFrame(
        {
            **PLACE,
            "seed": seed,
            "layer": "conv1",
            "attack": attack,
            "filter": range(len(d)),
            "targeting": np.asarray(t, float),
            "fragility": d,
            "class": np.where(untouched, "untouched", np.where(fragile, "fragile", "robust")),
            "untouched": untouched,
        }
    )


def found(table, statistic, seed="all", **options):
    rows = association(table, **{"permutations": 999, "confidence": 0.95} | options)
    rows = rows[(rows["statistic"] == statistic) & (rows["seed"] == str(seed))]
    assert len(rows) == 1
    return rows.iloc[0]


D = [0.05, 0.01, 0.03, 0.0, 0.02, 0.002, 0.04]
T = [7.0, 3.0, 5.0, 1.0, 2.0, 6.0, 4.0]
CORRELATIONS = [("spearman", stats.rankdata), ("pearson", np.array)]


@pytest.mark.parametrize(("name", "scale"), CORRELATIONS)
def test_correlations_and_every_permutation(name, scale):
    row = found(joined(D, T), name, seed=0, permutations=9999)
    other = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[name]
    assert row["value"] == pytest.approx(other(D, T).statistic)
    d, t = (stats.zscore(scale(values)) / np.sqrt(7) for values in (D, T))
    null = np.array(list(permutations(t))) @ d  # all 5,040
    p_value = np.mean(np.abs(null) >= abs(row["value"]) - 1e-9)
    assert row["p_value"] == pytest.approx(p_value, abs=0.015)
    low, high = np.quantile(null, [0.025, 0.975])
    assert (row["chance_low"], row["chance_high"]) == pytest.approx((low, high), abs=0.04)
    assert row["chance"] == 0 and row["n"] == 7


def test_share_of_the_attack_on_the_fragile_filters():
    row = found(joined(D, T), "share", seed=0, permutations=9999)  # fragile: 0, 2, 4 and 6
    assert row["value"] == pytest.approx((7 + 5 + 2 + 4) / 28) and row["fragile"] == 4
    assert row["chance"] == pytest.approx(4 / 7)
    null = [sum(chosen) / 28 for chosen in combinations(T, 4)]
    beyond = np.mean(np.abs(np.array(null) - 4 / 7) >= abs(18 / 28 - 4 / 7) - 1e-9)
    assert row["p_value"] == pytest.approx(beyond, abs=0.015)


def test_untouched_filters_are_counted_and_left_out():
    dead = joined([*D, 0, 0, 0], [*T, 0, 0, 0], untouched=[False] * 7 + [True] * 3)
    for statistic in ("spearman", "pearson", "share"):
        row, without = (found(table, statistic, seed=0) for table in (dead, joined(D, T)))
        assert row["value"] == pytest.approx(without["value"])
        assert row["chance"] == pytest.approx(without["chance"])
        assert (row["n"], row["untouched"]) == (7, 3)


def test_what_is_undefined_is_nan():
    constant = joined([0.02] * 4, [1, 2, 3, 4])
    assert np.isnan(found(constant, "spearman")["value"])
    assert np.isnan(found(constant, "share")["p_value"])  # all are fragile
    still = joined(D, [0.0] * 7)
    assert found(still, "pearson").loc[["value", "chance", "p_value"]].isna().all()
    assert np.isnan(found(still, "share", seed=0)["value"])
    gone = joined(D, T, untouched=[True] * 7)
    assert np.isnan(found(gone, "spearman", seed=0)["value"])
    unknown = joined(D, T)
    unknown["fragility"] = np.nan
    assert not len(association(unknown, permutations=99, confidence=0.95))
    assert not len(association(pd.DataFrame(), permutations=99, confidence=0.95))


def test_seeds_are_averaged_and_permuted_on_their_own():
    rng = np.random.default_rng(0)
    # a common level per seed would correlate over the pooled filters, but not within a seed
    parts = [joined(0.1 * s + rng.random(12), 10 * s + rng.random(12), seed=s) for s in range(3)]
    table = pd.concat(parts)
    each = [found(table, "spearman", seed=s) for s in range(3)]
    whole = found(table, "spearman")
    assert whole["value"] == pytest.approx(np.mean([row["value"] for row in each]))
    assert (
        whole["chance_high"] - whole["chance_low"] < each[0]["chance_high"] - each[0]["chance_low"]
    )
    assert whole["p_value"] > 0.05 and (whole["seeds"], whole["n"]) == (3, 36)
    pd.testing.assert_series_equal(each[1], found(parts[1], "spearman", seed=1), check_names=False)
    low, high = stats.t.interval(0.95, 2, whole["value"], stats.sem([row["value"] for row in each]))
    assert (whole["ci_low"], whole["ci_high"]) == pytest.approx((low, high))


def classified(sets, *, n=8, untouched=()):
    """A table of classified filters: (seed, epoch) -> indices of the fragile ones."""
    parts = [
        pd.DataFrame(
            {
                **PLACE,
                "epoch": epoch,
                "seed": seed,
                "layer": "conv1",
                "filter": range(n),
                "score": "S_clean",
                "attack": "none",
                "accuracy_lost": 0.0,
                "class": ["fragile" if i in chosen else "robust" for i in range(n)],
                "decided": False,
                "untouched": [i in untouched for i in range(n)],
            }
        )
        for (seed, epoch), chosen in sets.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_join_takes_the_class_of_the_clean_score():
    filters = classified({(0, 2): {1}}, n=3)
    noise = filters.assign(score="S_adv", attack="pgd", accuracy_lost=0.5, **{"class": "robust"})
    targeting = joined([0, 0, 0], [1, 2, 3]).drop(columns=["fragility", "class", "untouched"])
    targeting = targeting.assign(share=[0.1, 0.3, 0.6], share_error=0.1)
    other = targeting.assign(layer="fc")
    table = join(pd.concat([targeting, other]), pd.concat([filters, noise]), confidence=0.95)
    assert list(table["class"]) == ["robust", "fragile", "robust", *["unknown"] * 3]
    assert list(table["fragility"][:3]) == [0, 0, 0] and table["fragility"][3:].isna().all()
    assert table["untouched"].dtype == bool and not table["decided"].any()
    assert table["ci_low"][0] == 0 and table["ci_high"][2] == pytest.approx(0.6 + 0.196, abs=1e-3)
    assert not len(join(pd.DataFrame(), filters, confidence=0.95))


@pytest.mark.parametrize(("a", "b"), [({0, 1, 2}, {1, 2, 5, 6}), ({0}, {7}), ({0, 1}, set())])
def test_overlap_against_every_pair_of_sets(a, b):
    (row,) = overlaps(classified({(0, 1): a, (0, 2): b}), confidence=0.9).to_dict("records")
    jaccard = np.array([len(a & set(c)) / len(a | set(c)) for c in combinations(range(8), len(b))])
    assert row["over"] == "epoch" and (row["fragile"], row["other_fragile"]) == (len(a), len(b))
    assert row["value"] == pytest.approx(len(a & b) / len(a | b))
    assert row["chance"] == pytest.approx(jaccard.mean())
    assert row["p_value"] == pytest.approx(np.mean(jaccard >= row["value"] - 1e-9))
    low, high = np.quantile(jaccard, [0.05, 0.95], method="inverted_cdf")
    assert (row["chance_low"], row["chance_high"]) == pytest.approx((low, high))


def test_overlap_pairs_epochs_of_a_seed_and_seeds_of_an_epoch():
    sets = {(seed, epoch): {0, seed, epoch} for seed in (0, 1) for epoch in (1, 2, 5)}
    table = overlaps(classified(sets), confidence=0.95)
    assert table["over"].value_counts().to_dict() == {"epoch": 6, "seed": 3}
    same = table["seed"] == table["other_seed"]
    assert (same == (table["over"] == "epoch")).all()


def test_overlap_leaves_out_what_is_untouched_in_either():
    table = overlaps(
        classified({(0, 1): {0, 1}, (0, 2): {1, 2}}, untouched=[5, 6, 7]), confidence=0.95
    )
    assert (table["n"][0], table["left_out"][0]) == (5, 3)
    hypergeometric = stats.hypergeom(5, 2, 2)
    assert table["p_value"][0] == pytest.approx(hypergeometric.sf(0))


def test_overlap_of_empty_sets_is_nan():
    table = overlaps(classified({(0, 1): set(), (0, 2): set()}), confidence=0.95)
    assert table[["value", "chance", "p_value"]].isna().all(axis=None)
    assert not len(overlaps(classified({(0, 1): {1}}), confidence=0.95))
    assert not len(overlaps(pd.DataFrame(), confidence=0.95))
