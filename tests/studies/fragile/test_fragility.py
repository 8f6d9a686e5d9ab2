from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from faultline.studies.fragile.fragility import association, detectable, join, overlaps

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
            "share": np.asarray(t, float) / (np.sum(t) or np.nan),
            "relative": np.asarray(t, float) ** 2,
            "excess": np.asarray(t, float) - np.mean(t),
            "fragility": d,
            "class": np.where(untouched, "untouched", np.where(fragile, "fragile", "robust")),
            "untouched": untouched,
        }
    )


def found(table, statistic, seed="all", *, measure="share", **options):
    rows = association(table, **{"permutations": 999, "confidence": 0.95} | options)
    rows = rows[(rows["statistic"] == statistic) & (rows["seed"] == str(seed))]
    rows = rows[rows["measure"] == measure]
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
    row = found(joined(D, T), "on_fragile", seed=0, permutations=9999)  # fragile: 0, 2, 4 and 6
    assert row["value"] == pytest.approx((7 + 5 + 2 + 4) / 28) and row["fragile"] == 4
    assert row["chance"] == pytest.approx(4 / 7)
    null = [sum(chosen) / 28 for chosen in combinations(T, 4)]
    beyond = np.mean(np.abs(np.array(null) - 4 / 7) >= abs(18 / 28 - 4 / 7) - 1e-9)
    assert row["p_value"] == pytest.approx(beyond, abs=0.015)


def test_untouched_filters_are_counted_and_left_out():
    dead = joined([*D, 0, 0, 0], [*T, 0, 0, 0], untouched=[False] * 7 + [True] * 3)
    for statistic in ("spearman", "pearson", "on_fragile"):
        row, without = (found(table, statistic, seed=0) for table in (dead, joined(D, T)))
        assert row["value"] == pytest.approx(without["value"])
        assert row["chance"] == pytest.approx(without["chance"])
        assert (row["n"], row["untouched"]) == (7, 3)


def test_what_is_undefined_is_nan():
    constant = joined([0.02] * 4, [1, 2, 3, 4])
    assert np.isnan(found(constant, "spearman")["value"])
    assert np.isnan(found(constant, "on_fragile")["p_value"])  # all are fragile
    still = joined(D, [0.0] * 7)
    assert found(still, "pearson").loc[["value", "chance", "p_value"]].isna().all()
    assert np.isnan(found(still, "on_fragile", seed=0)["value"])
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
    alone, family = found(parts[1], "spearman", seed=1), ["q_value", "tests", "detectable"]
    pd.testing.assert_series_equal(each[1].drop(family), alone.drop(family), check_names=False)
    low, high = stats.t.interval(0.95, 2, whole["value"], stats.sem([row["value"] for row in each]))
    assert (whole["ci_low"], whole["ci_high"]) == pytest.approx((low, high))


def test_each_measure_has_its_own_association():
    table = joined(D, T)
    table["relative"] = [1, 2, 3, 4, 5, np.nan, 7]  # a dead filter has no clean norm
    table["excess"] = -table["share"]
    rows = association(table, permutations=999, confidence=0.95)
    kinds = rows.drop_duplicates(["measure", "statistic"])
    assert kinds.groupby("measure", sort=False)["statistic"].agg(list).to_dict() == {
        "share": ["spearman", "pearson", "on_fragile"],
        "relative": ["spearman", "pearson"],
        "excess": ["spearman", "pearson", "on_fragile"],
    }
    share, excess = (found(table, "spearman", measure=name) for name in ("share", "excess"))
    assert excess["value"] == pytest.approx(-share["value"])
    row = found(table, "spearman", measure="relative")
    expected = stats.spearmanr(D, table["relative"], nan_policy="omit").statistic
    assert row["value"] == pytest.approx(expected) and row["n"] == 6


def test_p_values_are_corrected_for_all_that_is_shown_together():
    rng = np.random.default_rng(1)
    parts = [
        joined(rng.random(9), rng.random(9), seed=seed, attack=attack).assign(layer=layer)
        for seed in (0, 1)
        for attack in ("fgsm", "pgd")
        for layer in ("a", "b")
    ]
    earlier = parts[0].assign(epoch=1)
    rows = association(pd.concat([*parts, earlier]), permutations=99, confidence=0.95)
    for _, part in rows.groupby(["level", "epoch"]):
        known = part["p_value"].notna()
        assert (part["tests"] == known.sum()).all()
        expected = stats.false_discovery_control(part.loc[known, "p_value"])
        assert np.allclose(part.loc[known, "q_value"], expected)
        assert part.loc[~known, "q_value"].isna().all()
    assert rows.loc[rows["statistic"] != "spearman", "detectable"].isna().all()


def test_the_critical_correlation_of_n_filters():
    # the tables of the t approximation; n = 10: 0.632 at 5 %, 0.765 at 1 %
    assert detectable([10], level=0.05, power=0.5) == pytest.approx(0.632, abs=5e-4)
    assert detectable([10], level=0.01, power=0.5) == pytest.approx(0.765, abs=5e-4)
    # for several seeds, near the quantile of the mean over permutations
    rng = np.random.default_rng(0)
    ranks = stats.zscore(np.arange(12)) / np.sqrt(12)
    each = [rng.permuted(np.tile(ranks, (20000, 1)), axis=1) @ ranks for _ in range(3)]
    mean = np.mean(each, axis=0)
    assert detectable([12] * 3, level=0.05, power=0.5) == pytest.approx(
        np.quantile(np.abs(mean), 0.95), rel=0.03
    )


def test_the_smallest_correlation_that_n_filters_can_tell():
    assert np.isnan(detectable([3], level=0.05)) and np.isnan(detectable([], level=0.05))
    row = found(joined(D, T), "spearman", seed=0)
    assert row["detectable"] == pytest.approx(detectable([7], level=0.05 / row["tests"]))
    n, seeds, level = 16, 3, 0.05 / 64
    size = detectable([n] * seeds, level=level)

    def mean(r):  # of Spearman's correlation, where that of normal variables is r (Moran 1948)
        return (6 / np.pi) * (np.arcsin(r) + (n - 2) * np.arcsin(r / 2)) / (n + 1)

    r = brentq(lambda r: mean(r) - size, 0, 1)
    rng = np.random.default_rng(0)
    one = rng.normal(size=(10_000, seeds, n))
    other = r * one + np.sqrt(1 - r**2) * rng.normal(size=one.shape)
    one, other = (stats.zscore(of.argsort().argsort(), axis=-1) for of in (one, other))
    seen = (one * other).mean((1, 2))
    assert seen.mean() == pytest.approx(size, abs=0.005)
    told = seen > detectable([n] * seeds, level=level, power=0.5)
    assert told.mean() == pytest.approx(0.83, abs=0.03)


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
    targeting = targeting.assign(excess=[-0.2, 0.1, 0.1], excess_error=0.05)
    other = targeting.assign(layer="fc")
    table = join(pd.concat([targeting, other]), pd.concat([filters, noise]), confidence=0.95)
    assert list(table["class"]) == ["robust", "fragile", "robust", *["unknown"] * 3]
    assert list(table["fragility"][:3]) == [0, 0, 0] and table["fragility"][3:].isna().all()
    assert table["untouched"].dtype == bool and not table["decided"].any()
    assert table["ci_low"][0] == 0 and table["ci_high"][2] == pytest.approx(0.6 + 0.196, abs=1e-3)
    margin = pytest.approx(1.96 * 0.05, abs=1e-3)
    assert table["excess_high"][1] - 0.1 == margin and -0.2 - table["excess_low"][0] == margin
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
