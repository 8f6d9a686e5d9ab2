"""Intervals, tests and agreement for counts and for paired, image-by-image comparisons. No torch.

Every interval is two-sided. Inputs broadcast where they are counts.
"""

import numpy as np
from scipy.special import bdtr, ndtri, stdtr, stdtrit


def normal_quantile(confidence: float) -> float:
    """z such that a standard normal lies within -z..z with probability `confidence`."""
    return float(ndtri((1 + confidence) / 2))


def benjamini_hochberg(p) -> np.ndarray:
    """Adjusted p-values of one family, shape as `p` [m] (Benjamini & Hochberg 1995).

    NaN stays NaN and does not count as a member of the family.
    """
    from scipy.stats import false_discovery_control  # slow to import, and for few stages only

    adjusted = np.array(p, float)
    known = ~np.isnan(adjusted)
    adjusted[known] = false_discovery_control(adjusted[known])
    return adjusted


def mcnemar(b, c) -> np.ndarray:
    """Exact two-sided p-value of McNemar's test; b, c: the two discordant counts (b = c = 0: 1)."""
    b, c = np.asarray(b, np.int64), np.asarray(c, np.int64)
    return np.minimum(1.0, 2 * bdtr(np.minimum(b, c), b + c, 0.5))


def pseudo_change(total_square, changed):
    """What to add to a sum of squared changes so that no interval degenerates (ours).

    Half an image that improves and half an image that worsens are added, each by the mean squared
    change of the images that changed and of one that changed wholly (by 1). Where changes are whole
    this is 1: the 0.5 that Agresti & Min 2005 add to each cell.

    total_square: sum over images of the squared change, a change lying in [-1, 1].
    changed:      images whose change is not zero.
    """
    return (1 + total_square) / (1 + changed)


def _adjusted_wald(total, total_square, n, confidence):
    margin = normal_quantile(confidence) * np.sqrt(total_square - total**2 / (n + 2)) / (n + 2)
    centre = total / (n + 2)
    return total / n, np.maximum(centre - margin, -1.0), np.minimum(centre + margin, 1.0)


def paired_difference_interval(b, c, n, *, confidence: float):
    """(difference, low, high) of two paired proportions, (b - c) / n; b, c discordant of n pairs.

    The adjusted Wald interval of Agresti & Min 2005: 0.5 is added to each of the four cells, so the
    interval has a width even where b = c = 0.
    """
    b, c, n = (np.asarray(x, float) for x in (b, c, n))
    return _adjusted_wald(b - c, b + c + 1, n, confidence)


def paired_mean_interval(changes, *, confidence: float):
    """(mean, low, high) of per-image changes in [-1, 1], [n]; for -1, 0, 1 as
    `paired_difference_interval`, and ours for what lies between (means over draws or seeds)."""
    changes = np.asarray(changes, float)
    squares = changes @ changes
    squares += pseudo_change(squares, np.count_nonzero(changes))
    return _adjusted_wald(changes.sum(), squares, len(changes), confidence)


def wilson_interval(k, n, *, confidence: float):
    """(share, low, high) of a proportion, k of n (Wilson 1927)."""
    k, n = np.asarray(k, float), np.asarray(n, float)
    share, z2 = k / n, normal_quantile(confidence) ** 2
    centre = (k + z2 / 2) / (n + z2)
    margin = np.sqrt(z2 * (share * (1 - share) * n + z2 / 4)) / (n + z2)
    return share, np.maximum(centre - margin, 0.0), np.minimum(centre + margin, 1.0)


def _vary(values: np.ndarray) -> bool:
    """Whether values [n] differ by more than the rounding of sums that should be equal."""
    return len(values) > 1 and bool(np.ptp(values) > 1e-12 * np.abs(values).max())


def mean_interval(values, *, confidence: float):
    """(mean, low, high) of a few values [n], such as seeds: Student's t with n - 1 degrees.

    The interval is NaN for fewer than two values and where all are equal, as then nothing is known
    of the spread; everything of none is NaN.
    """
    values = np.asarray(values, float)
    n = len(values)
    mean = values.mean() if n else np.nan
    if not _vary(values):
        return mean, np.nan, np.nan
    margin = stdtrit(n - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(n)
    return mean, mean - margin, mean + margin


def mean_p_value(values) -> float:
    """Two-sided p-value of a t test that the mean of a few values [n], such as seeds, is 0.

    NaN for fewer than two values and where all are equal, as then nothing is known of the spread.
    """
    values = np.asarray(values, float)
    if not _vary(values):
        return np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(2 * stdtr(len(values) - 1, -abs(values.mean()) / error))


def fleiss_kappa(table) -> float:
    """Fleiss' kappa; table [units, classes]: raters who put the unit in the class, the rows' sums
    equal. NaN where it is undefined: no unit, one rater, or one class for all."""
    table = np.asarray(table, float)
    if not table.size or (raters := table[0].sum()) < 2:
        return np.nan
    agreement = mean_agreement(table)
    shares = table.sum(0) / (len(table) * raters)
    if np.count_nonzero(shares) == 1:
        return np.nan
    by_chance = shares @ shares
    return float((agreement - by_chance) / (1 - by_chance))


def mean_agreement(table) -> float:
    """Share of pairs of raters that agree, mean over units; table as in `fleiss_kappa`."""
    table = np.asarray(table, float)
    raters = table.sum(1)
    return float(((table**2).sum(1) - raters).dot(1 / (raters * (raters - 1))) / len(table))


POWER = 0.8
"""With which a difference that counts as detectable is told from 0 (ours)."""


def detectable_difference(values, *, confidence: float, power: float = POWER) -> float:
    """The smallest true mean that values [n] as these would have told from 0.

    (t((1 + confidence) / 2) + t(power)) standard errors, both quantiles Student's t with n - 1
    degrees (Bloom 1995): a two-sided test at level 1 - confidence tells a mean of this size with
    probability `power`. NaN where the spread is unknown, as in `mean_interval`.
    """
    values = np.asarray(values, float)
    if not _vary(values):
        return np.nan
    quantiles = stdtrit(len(values) - 1, [(1 + confidence) / 2, power])
    return float(quantiles.sum() * values.std(ddof=1) / np.sqrt(len(values)))
