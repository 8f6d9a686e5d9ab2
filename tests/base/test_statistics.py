import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.inter_rater import fleiss_kappa as sm_fleiss_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from faultline.base.statistics import (
    benjamini_hochberg,
    detectable_difference,
    fleiss_kappa,
    mcnemar,
    mean_agreement,
    mean_interval,
    mean_p_value,
    paired_difference_interval,
    paired_mean_interval,
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


def test_detectable_difference_by_hand():
    # t(.975, 2) = 4.302653, t(.8, 2) = 1.060660, standard error 1 / sqrt(3)
    found = detectable_difference([1, 2, 3], confidence=0.95)
    assert found == pytest.approx((4.302653 + 1.060660) / np.sqrt(3))
    assert np.isnan(detectable_difference([1], confidence=0.95))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_a_detectable_difference_is_told_with_its_power(n):
    values = np.random.default_rng(n).normal(size=n)
    found = detectable_difference(values, confidence=0.95, power=0.8)
    noncentral = found / stats.sem(values)
    power = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, noncentral)
    assert power == pytest.approx(0.8, abs=0.07)


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
