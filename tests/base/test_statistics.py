from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.special import xlogy
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.inter_rater import fleiss_kappa as sm_fleiss_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from faultline.base.statistics import (
    benjamini_hochberg,
    both_power,
    detectable_difference,
    difference_interval,
    fleiss_kappa,
    holm,
    least_told,
    mcnemar,
    mcnemar_power,
    mean_agreement,
    mean_interval,
    mean_p_value,
    paired_difference_interval,
    paired_mean_interval,
    paired_ratio_interval,
    paired_ratio_tails,
    pseudo_change,
    wilson_interval,
)


def test_benjamini_hochberg_by_hand():
    # sorted .01 .02 .04 times 3/1 3/2 3/3 = .03 .03 .04, already ascending
    assert np.allclose(benjamini_hochberg([0.04, 0.01, 0.02]), [0.04, 0.03, 0.03])


def test_benjamini_hochberg_is_that_of_statsmodels_and_skips_nan():
    p = np.random.default_rng(0).uniform(size=40) ** 3
    expected = multipletests(p, method="fdr_bh")[1]
    assert np.allclose(benjamini_hochberg(p), expected)
    holed = np.insert(p, [0, 7, 40], np.nan)
    adjusted = benjamini_hochberg(holed)
    assert np.isnan(adjusted[np.isnan(holed)]).all()
    assert np.allclose(adjusted[~np.isnan(holed)], expected)
    assert np.isnan(benjamini_hochberg([np.nan])).all()
    assert benjamini_hochberg([]).shape == (0,)


def test_mcnemar_is_the_exact_test_of_statsmodels():
    b, c = np.array([0, 0, 3, 5, 12, 700]), np.array([0, 1, 10, 5, 4, 600])
    expected = [sm_mcnemar([[9, i], [j, 9]], exact=True).pvalue for i, j in zip(b, c, strict=True)]
    assert np.allclose(mcnemar(b, c), expected)
    assert np.allclose(mcnemar(c, b), expected)
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 3) == pytest.approx(2 / 8)  # three coins alike, two-sided


def test_difference_interval_is_that_of_newcombe():
    found = difference_interval(48 / 80, 56 / 70, 80, 70, confidence=0.95)
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)  # his table II, method 10
    for k, n, other, m in ((0, 10, 0, 12), (5, 5, 3, 9), (17, 40, 90, 200)):
        low, high = confint_proportions_2indep(other, m, k, n, method="newcomb", compare="diff")
        _, *got = difference_interval(k / n, other / m, n, m, confidence=0.95)
        assert got == pytest.approx([low, high])


def test_paired_difference_interval_by_hand():
    # b 7, c 2, n 98: cells 7.5 and 2.5 of 100: centre .05, variance (10 - 25/100) / 100^2
    difference, low, high = paired_difference_interval(7, 2, 98, confidence=0.95)
    margin = 1.959964 * np.sqrt(10 - 0.25) / 100
    assert difference == pytest.approx(5 / 98)
    assert (low, high) == pytest.approx((0.05 - margin, 0.05 + margin))


def test_paired_difference_interval_never_degenerates_and_stays_in_range():
    difference, low, high = paired_difference_interval([0, 0, 50], [0, 50, 0], 50, confidence=0.95)
    assert np.all(low < high) and np.all(low >= -1) and np.all(high <= 1)
    assert np.all(low <= difference) and np.all(difference <= high)


def test_paired_mean_interval_of_whole_changes_is_the_interval_of_the_counts():
    changes = np.array([1] * 7 + [-1] * 2 + [0] * 30)
    assert np.allclose(
        paired_mean_interval(changes, confidence=0.9),
        paired_difference_interval(7, 2, 39, confidence=0.9),
    )


def test_pseudo_change():
    assert pseudo_change(0.0, 0) == 1  # nothing seen: an image could change wholly
    assert pseudo_change(5.0, 5) == 1
    assert pseudo_change(9 * 0.01, 9) == pytest.approx(0.109)  # (1 + .09) / 10


def test_wilson_interval_is_that_of_statsmodels():
    k, n = np.array([0, 3, 99, 100]), 100
    share, low, high = wilson_interval(k, n, confidence=0.9)
    expected = proportion_confint(k, n, alpha=0.1, method="wilson")
    assert np.allclose(share, k / 100)
    assert np.allclose((low, high), expected)


def test_mean_interval():
    # mean 2, standard deviation 1, t(.975, 2) = 4.302653
    margin = 4.302653 / np.sqrt(3)
    assert mean_interval([1, 2, 3], confidence=0.95) == pytest.approx((2, 2 - margin, 2 + margin))
    values = np.random.default_rng(0).normal(size=9)
    low, high = stats.t.interval(0.8, 8, values.mean(), stats.sem(values))
    assert mean_interval(values, confidence=0.8) == pytest.approx((values.mean(), low, high))


def test_mean_interval_of_one_and_of_none():
    assert mean_interval([0.5], confidence=0.95) == pytest.approx(
        (0.5, np.nan, np.nan), nan_ok=True
    )
    assert np.isnan(mean_interval([], confidence=0.95)).all()


@pytest.mark.parametrize("values", [[0.0] * 3, [71.4] * 4, [0.1 + 0.2, 0.3]])
def test_equal_values_tell_nothing_of_their_spread(values):
    mean, low, high = mean_interval(values, confidence=0.95)
    assert mean == pytest.approx(values[0]) and np.isnan([low, high]).all()
    assert np.isnan(mean_p_value(values))
    assert np.isnan(detectable_difference(values, confidence=0.95))


@pytest.mark.parametrize(("n", "tests"), [(2, 1), (2, 12), (3, 2), (5, 36), (40, 1)])
def test_a_detectable_difference_is_told_with_its_power(n, tests):
    values, level = np.random.default_rng(n).normal(size=n), 0.05 / tests
    found = detectable_difference(values, confidence=1 - level)
    size = found / values.std(ddof=1)
    power = TTestPower().power(size, n, level / 2, alternative="larger")
    assert power == pytest.approx(0.8, abs=1e-4)
    # and by making such tests: means of seeds, with that spread, around that difference
    rng = np.random.default_rng(0)
    made = rng.normal(size, 1, (20_000, n))
    t = made.mean(1) / (made.std(1, ddof=1) / np.sqrt(n))
    assert np.mean(t > stats.t.ppf(1 - level / 2, n - 1)) == pytest.approx(0.8, abs=0.01)


def test_nothing_is_detectable_by_one_value():
    assert np.isnan(detectable_difference([1], confidence=0.95))


@pytest.mark.parametrize(("difference", "changed", "level"), [(0.4, 3, 0.05), (0.7, 9, 0.005)])
def test_power_of_mcnemar_is_that_of_all_outcomes(difference, changed, level):
    n, share = 12, max(changed / 12, difference)
    told = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            shares = (share + difference) / 2, (share - difference) / 2, 1 - share
            counts = gained, lost, n - gained - lost
            if gained > lost and mcnemar(gained, lost) <= level:
                told += stats.multinomial.pmf(counts, n, shares)
    assert mcnemar_power(difference, changed, n, level=level) == pytest.approx(told)


def test_what_mcnemar_tells_at_least():
    def power(difference, changed, n):
        return mcnemar_power(difference, changed, n, level=0.05)

    # where nothing changed, six images must be gained and none lost: p = 2 / 2^6
    found = least_told(power, 0.5, [0, 40, 0], [200, 200, 5])
    assert stats.binom.sf(5, 200, found[0]) == pytest.approx(0.8)
    assert found[1] > found[0] and np.isinf(found[2])
    assert power(found[1], 40, 200) == pytest.approx(0.8)


@pytest.mark.parametrize("images", [0, 0.7, 1.4, 5])
def test_power_over_seeds_and_images_at_once(images):
    rng, seeds, level = np.random.default_rng(0), 4, 0.05 / 6
    given = {"confidence": 0.95, "level": level}
    found = least_told(lambda *of: both_power(*of, **given), 100, 1.0, images, seeds)
    seen = found + rng.normal(size=100_000) + images * rng.normal(size=100_000)
    spread = np.sqrt(rng.chisquare(seeds - 1, 100_000) / (seeds - 1))
    told = (seen > stats.t.ppf(1 - level / 2, seeds - 1) * spread) & (seen > 1.959964 * images)
    assert told.mean() == pytest.approx(0.8, abs=0.005)
    if not images:  # the noncentral t
        assert stats.nct.sf(stats.t.ppf(1 - level / 2, 3), 3, found) == pytest.approx(0.8, abs=1e-4)


def test_fleiss_kappa_by_hand():
    # Two units, three raters. Agreement: unit 0 all, 1; unit 1 one pair of three, 1/3: mean 2/3.
    # Shares 5/6 and 1/6, by chance 26/36. (24/36 - 26/36) / (10/36) = -0.2
    table = [[3, 0], [2, 1]]
    assert mean_agreement(table) == pytest.approx(2 / 3)
    assert fleiss_kappa(table) == pytest.approx(-0.2)


def test_fleiss_kappa_is_that_of_statsmodels():
    table = np.random.default_rng(0).multinomial(5, [0.5, 0.3, 0.2], size=30)
    assert fleiss_kappa(table) == pytest.approx(sm_fleiss_kappa(table))
    assert fleiss_kappa(np.c_[table, np.zeros(30)]) == pytest.approx(sm_fleiss_kappa(table))


@pytest.mark.parametrize("table", [[[3, 0], [3, 0]], [[1, 0], [0, 1]], np.zeros((0, 3))])
def test_fleiss_kappa_is_nan_where_undefined(table):
    assert np.isnan(fleiss_kappa(table))


def likeliest(lost, gained, either, ratio):
    """Shares lost and gained of greatest likelihood where after = ratio * before, by search."""

    def log_likelihood(gains):
        shares = np.array([ratio * gains + 1 - ratio, gains])
        shares = np.array([*shares, 1 - shares.sum()])
        counts = np.array([lost, gained, either - lost - gained])
        if (shares < 0).any() or ((shares == 0) & (counts > 0)).any():
            return -np.inf
        return float(xlogy(counts, shares).sum())

    # the share gained lies between these, or another share would be negative
    grid = np.linspace(max(0, 1 - 1 / ratio), ratio / (1 + ratio), 20001)
    best = grid[np.argmax([log_likelihood(gains) for gains in grid])]
    return ratio * best + 1 - ratio, best


CASES = [(5, 3, 60, 0.9), (5, 3, 60, 1.0), (0, 0, 40, 0.95), (3, 0, 40, 1.05), (20, 5, 30, 0.4)]


@pytest.mark.parametrize(("lost", "gained", "either", "ratio"), [*CASES, (1, 7, 30, 1.4)])
def test_paired_ratio_tails_are_sums_over_every_pair_of_counts(lost, gained, either, ratio):
    loses, gains = likeliest(lost, gained, either, ratio)
    population = stats.multinomial(either, [gains, loses, 1 - gains - loses])
    seen, below, above = ratio * gained - lost, 0.0, 0.0
    for up, down in product(range(either + 1), repeat=2):
        if up + down <= either:
            p = population.pmf([up, down, either - up - down])
            below += p * (ratio * up - down <= seen + 1e-9)
            above += p * (ratio * up - down >= seen - 1e-9)
    found = paired_ratio_tails(lost, gained, either, ratio)
    assert found == pytest.approx((below, above), abs=2e-3)


def test_paired_ratio_tails_by_hand():
    # Nothing lost of 40, though 5 % are: none is as likely as .95^40, and as high as can be.
    below, above = paired_ratio_tails(0, 0, 40, 0.95)
    assert below == pytest.approx(1)
    assert above == pytest.approx(0.95**40)
    # Three lost of three changed at ratio 1: each is as likely lost as gained, (3, 0) of 40.
    below, _ = paired_ratio_tails(3, 0, 40, 1.0)
    counts = stats.multinomial(40, [1.5 / 40, 1.5 / 40, 37 / 40])
    expected = sum(
        counts.pmf([down, up, 40 - down - up])
        for down, up in product(range(41), repeat=2)
        if down + up <= 40 and down - up >= 3
    )
    assert below == pytest.approx(expected)


def test_paired_ratio_interval_is_where_the_tails_reject():
    lost, gained, either = np.array([[5, 0, 30, 8], [3, 0, 2, 30], [60, 400, 90, 75]])
    ratio, low, high = paired_ratio_interval(lost, gained, either, confidence=0.9)
    assert ratio == pytest.approx((either - lost) / (either - gained))
    assert np.all(low < ratio) and np.all(ratio < high)
    for limit, side, out in ((low, 1, -1), (high, 0, 1)):
        beyond, within = (
            paired_ratio_tails(lost, gained, either, limit * (1 + sign * out * 1e-3))[side]
            for sign in (1, -1)
        )
        assert np.all(beyond <= 0.05) and np.all(within > 0.05)


def test_paired_ratio_interval_at_the_ends():
    # all lost; nothing correct before; nothing changed, which has probability x^n at ratio x < 1
    ratio, low, high = paired_ratio_interval([40, 0, 0], [0, 9, 0], [40, 9, 40], confidence=0.9)
    assert (ratio[0], low[0]) == (0, 0) and 0 < high[0] < 0.2
    assert np.isnan([ratio[1], low[1], high[1]]).all()
    assert low[2] == pytest.approx(0.05 ** (1 / 40))
    assert high[2] == pytest.approx(1 / 0.05 ** (1 / 40))  # the same with before and after swapped


def test_paired_ratio_interval_of_large_counts_is_that_of_the_delta_method():
    lost, gained, either = 300, 200, 4000
    ratio, low, high = paired_ratio_interval([lost], [gained], [either], confidence=0.95)
    before, after = either - gained, either - lost
    error = np.sqrt((lost + gained) / (before * after))  # of the logarithm, Nam & Blackwelder 2002
    assert np.log(low[0] / ratio[0]) == pytest.approx(-1.96 * error, rel=0.02)
    assert np.log(high[0] / ratio[0]) == pytest.approx(1.96 * error, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "before", "score", "churn"),
    [
        *((500, 0.15, 0.3, 0.03), (500, 0.15, 1.0, 0.01), (500, 0.15, 2.0, 0.01)),
        *((500, 0.9, -0.01, 0.0), (500, 0.9, -0.01, 0.004), (500, 0.15, -0.05, 0.0)),
    ],
)
@pytest.mark.parametrize("confidence", [0.95, 0.998])
def test_paired_ratio_interval_covers_on_either_side(n, before, score, churn, confidence):
    # Ablations of a score, the limit of a class among them, where changes are few and one-sided;
    # churn: images lost and as many gained beside. 8000 test sets: misses on a side are rarer
    # than half of what the confidence leaves, but for three standard deviations.
    lost, gained = max(-score, 0) * before + churn, max(score, 0) * before + churn
    shares = [lost, gained, before - lost, 1 - before - gained]
    counts = np.random.default_rng(3).multinomial(n, shares, size=8000)[:, :3].T
    lost, gained, _ = counts
    given = lost, gained, counts.sum(0)
    half = (1 - confidence) / 2
    # An interval takes 50 times as long to find as the tails at the score: those are found where a
    # tail is not far from rejecting it, and of some others, none of which may miss.
    near = np.minimum(*paired_ratio_tails(*given, 1 + score)) < 2 * half
    some = near | (np.arange(8000) < 200)
    _, low, high = paired_ratio_interval(*(count[some] for count in given), confidence=confidence)
    missed = np.stack([high < 1 + score, low > 1 + score])
    assert not missed[:, ~near[some]].any()
    assert (missed.sum(1) / 8000 < half + 3 * np.sqrt(half / 8000)).all()


def test_holm_beside_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.array([0.03, 0.2, 0.01, 0.01, 0.9, 0.04])
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])
    np.testing.assert_allclose(holm([0.04, np.nan, 0.03]), [0.06, np.nan, 0.06])
