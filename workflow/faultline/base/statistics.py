"""Intervals, tests and agreement for counts and for paired, image-by-image comparisons. No torch.

Every interval is two-sided. Inputs broadcast where they are counts.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import (
    bdtr,
    bdtrik,
    betainc,
    chdtri,
    gammaln,
    nctdtrinc,
    ndtr,
    ndtri,
    stdtr,
    stdtrit,
    xlog1py,
    xlogy,
)

Interval = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(estimate, low, high), of one shape."""


def normal_quantile(confidence: float) -> float:
    """z such that a standard normal lies within -z..z with probability `confidence`."""
    return float(ndtri((1 + confidence) / 2))


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Adjusted p-values of one family, shape as `p` [m] (Benjamini & Hochberg 1995).

    NaN stays NaN and does not count as a member of the family.
    """
    from scipy.stats import false_discovery_control  # slow to import, and for few stages only

    adjusted = np.array(p, float)
    there = ~np.isnan(adjusted)
    adjusted[there] = false_discovery_control(adjusted[there])
    return adjusted


def holm(p: ArrayLike) -> np.ndarray:
    """Adjusted p-values of one family of tests that were fixed beforehand, shape as `p` [m] (Holm
    1979). NaN stays NaN and does not count as a member of the family."""
    adjusted = np.array(p, float)
    there = np.flatnonzero(~np.isnan(adjusted))
    ordered = there[np.argsort(adjusted[there])]
    raised = adjusted[ordered] * (len(ordered) - np.arange(len(ordered)))
    adjusted[ordered] = np.minimum(np.maximum.accumulate(raised), 1)
    return adjusted


def mcnemar(b: ArrayLike, c: ArrayLike) -> np.ndarray:
    """Exact two-sided p-value of McNemar's test; b, c: the two discordant counts (b = c = 0: 1)."""
    b, c = np.asarray(b, np.int64), np.asarray(c, np.int64)
    p: np.ndarray = np.minimum(1.0, 2 * bdtr(np.minimum(b, c), b + c, 0.5))
    return p


def pseudo_change(total_square: float, changed: int) -> float:
    """What to add to a sum of squared changes so that no interval degenerates (ours).

    Half an image that improves and half an image that worsens are added, each by the mean squared
    change of the images that changed and of one that changed wholly (by 1). Where changes are whole
    this is 1: the 0.5 that Agresti & Min 2005 add to each cell.

    total_square: sum over images of the squared change, a change lying in [-1, 1].
    changed:      images whose change is not zero.
    """
    return (1 + total_square) / (1 + changed)


def _adjusted_wald(
    total: np.ndarray, total_square: np.ndarray, n: np.ndarray | int, confidence: float
) -> Interval:
    margin = normal_quantile(confidence) * np.sqrt(total_square - total**2 / (n + 2)) / (n + 2)
    centre = total / (n + 2)
    return total / n, np.maximum(centre - margin, -1.0), np.minimum(centre + margin, 1.0)


def paired_difference_interval(
    b: ArrayLike, c: ArrayLike, n: ArrayLike, *, confidence: float
) -> Interval:
    """(difference, low, high) of two paired proportions, (b - c) / n; b, c discordant of n pairs.

    The adjusted Wald interval of Agresti & Min 2005: 0.5 is added to each of the four cells, so the
    interval has a width even where b = c = 0.
    """
    gained, lost, pairs = (np.asarray(x, float) for x in (b, c, n))
    return _adjusted_wald(gained - lost, gained + lost + 1, pairs, confidence)


def paired_mean_interval(changes: ArrayLike, *, confidence: float) -> Interval:
    """(mean, low, high) of per-image changes in [-1, 1], [n]; for -1, 0, 1 as
    `paired_difference_interval`, and ours for what lies between (means over draws or seeds)."""
    changes = np.asarray(changes, float)
    squares = changes @ changes
    squares += pseudo_change(squares, int(np.count_nonzero(changes)))
    return _adjusted_wald(changes.sum(), squares, len(changes), confidence)


def paired_ratio_tails(
    lost: ArrayLike, gained: ArrayLike, either: ArrayLike, ratio: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """How well paired counts go with a ratio of two proportions: two one-sided p-values.

    lost, gained: images correct only before, only after; either: those correct before or after;
    ratio: of the second accuracy to the first, above 0. Returns (below, above): the probability, if
    that were the ratio, of a difference, after - ratio * before, as low, and as high, as was seen.
    It is exact given the shares of lost and gained images, for which the most likely ones under
    that ratio are put (those of Nam & Blackwelder 2002; such a p-value: Lloyd 2008). So it holds
    where counts are small and far out in the tails, where normal approximations do not.
    """
    counts = np.broadcast_arrays(*(np.asarray(x, float) for x in (lost, gained, either, ratio)))
    lost, gained, either, ratio = counts
    sides = (np.full(ratio.shape, below) for below in (True, False))
    tails = [_paired_ratio_tail(lost, gained, either, ratio, side) for side in sides]
    return tails[0], tails[1]


def _paired_ratio_tail(
    lost: np.ndarray, gained: np.ndarray, either: np.ndarray, ratio: np.ndarray, below: np.ndarray
) -> np.ndarray:
    """One of the two of `paired_ratio_tails`, each of which takes half of its time: where `below`
    is true, that of a difference as low as was seen."""
    lost, gained, either, ratio, below = (
        x[..., None] for x in (lost, gained, either, ratio, below)
    )
    loses, gains = _likeliest(lost / either, gained / either, ratio)
    # Of the images in `either` a binomial number is gained and, of the rest, another is lost; after
    # - ratio * before = (1 - ratio) * either + ratio * gained - lost.
    reach = np.ceil(7 * np.sqrt(either * gains * (1 - gains)) + 8)
    g = np.maximum(np.floor(either * gains) - reach, 0) + np.arange(
        2 * np.max(reach, initial=0) + 1
    )
    inside, g = g <= either, np.minimum(g, either)
    ways = gammaln(either + 1) - gammaln(g + 1) - gammaln(either - g + 1)
    weight = inside * np.exp(ways + xlogy(g, gains) + xlog1py(either - g, -gains))
    rest = either - g
    share = np.clip(loses / np.maximum(1 - gains, np.finfo(float).tiny), 0, 1)

    bound = ratio * (g - gained) + lost
    k = np.where(below, np.ceil(bound - 1e-9) - 1, np.floor(bound + 1e-9))
    k = np.clip(k, -1, rest)
    at_most = betainc(np.maximum(rest - k, 0.5), np.maximum(k, 0) + 1, 1 - share)
    at_most = np.where(k < 0, 0.0, np.where(k == rest, 1.0, at_most))  # of k lost images
    tail = (weight * np.where(below, 1 - at_most, at_most)).sum(-1)
    return np.asarray(np.minimum(tail, 1.0))


def _likeliest(
    lost: np.ndarray, gained: np.ndarray, ratio: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The shares (lost, gained) of greatest likelihood where the ratio of accuracies is given, from
    those seen; all are shares of the images correct before or after."""
    before, after = 1 - gained, 1 - lost
    root = np.sqrt(np.maximum((after - ratio**2 * before) ** 2 + 4 * ratio**2 * gained * lost, 0))
    gains = ratio**2 * (before + 2 * gained) - after + root
    gains = np.clip(gains / (2 * ratio * (ratio + 1)), 0, 1)
    return np.clip(ratio * gains + 1 - ratio, 0, 1), gains


def paired_ratio_interval(
    lost: ArrayLike, gained: ArrayLike, either: ArrayLike, *, confidence: ArrayLike
) -> Interval:
    """(ratio, low, high) of two paired proportions, after / before: the ratios that neither tail of
    `paired_ratio_tails` rejects. All broadcast; NaN where nothing was correct before."""
    from scipy.optimize import elementwise  # slow to import, and for few stages only

    counts = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (lost, gained, either, confidence))
    )
    distinct, where = np.unique(np.stack([x.ravel() for x in counts]), axis=1, return_inverse=True)
    defined = distinct[2] > distinct[1]
    minus, plus, n, level = distinct[:, defined]
    ratio = (n - minus) / (n - plus)

    def log_p(
        t: np.ndarray,
        minus: np.ndarray,
        plus: np.ndarray,
        n: np.ndarray,
        tail: np.ndarray,
        upper: np.ndarray,
    ) -> np.ndarray:
        p = _paired_ratio_tail(minus, plus, n, t / (1 - t), upper.astype(bool))
        p = np.maximum(p, np.finfo(float).tiny)
        return np.asarray(np.log(p / tail))

    # Ratios 0 to infinity become 0 to 1, in which low lies on one side of what is seen, high on
    # the other.
    tiny, at = 1e-9, ratio / (1 + ratio)
    ends = np.stack([0 * at + tiny, np.clip(at, 2 * tiny, 1 - 2 * tiny), 0 * at + 1 - tiny])
    args = [np.stack([x, x]) for x in (minus, plus, n, (1 - level) / 2)]
    args.append(np.stack([0 * at, 0 * at + 1]))
    limits = elementwise.find_root(
        log_p, (ends[:2], ends[1:]), args=args, tolerances={"xatol": 1e-9, "xrtol": 1e-9}
    ).x
    interval = np.full((3, len(defined)), np.nan)
    interval[:, defined] = ratio, *(limits / (1 - limits))
    interval[1, defined] = np.where(ratio > 0, interval[1, defined], 0)
    ratio, low, high = interval[:, where.ravel()].reshape(3, *counts[0].shape)
    return ratio, low, high


def wilson_interval(k: ArrayLike, n: ArrayLike, *, confidence: float) -> Interval:
    """(share, low, high) of a proportion, k of n (Wilson 1927)."""
    k, n = np.asarray(k, float), np.asarray(n, float)
    share, z2 = k / n, normal_quantile(confidence) ** 2
    centre = (k + z2 / 2) / (n + z2)
    margin = np.sqrt(z2 * (share * (1 - share) * n + z2 / 4)) / (n + z2)
    return share, np.maximum(centre - margin, 0.0), np.minimum(centre + margin, 1.0)


def difference_interval(
    first: ArrayLike,
    second: ArrayLike,
    n_first: ArrayLike,
    n_second: ArrayLike,
    *,
    confidence: float,
) -> Interval:
    """(difference, low, high) of two proportions on images of their own, second less first.

    first, second: the shares; n_first, n_second: of how many images. The hybrid score interval of
    Newcombe 1998 (his method 10), from the two intervals of `wilson_interval`.
    """
    first, second, n_first, n_second = (
        np.asarray(x, float) for x in (first, second, n_first, n_second)
    )
    _, low, high = wilson_interval(first * n_first, n_first, confidence=confidence)
    _, second_low, second_high = wilson_interval(second * n_second, n_second, confidence=confidence)
    difference = second - first
    below = np.hypot(second - second_low, high - first)
    above = np.hypot(second_high - second, first - low)
    return difference, difference - below, difference + above


def _vary(values: np.ndarray) -> bool:
    """Whether values [n] differ by more than the rounding of sums that should be equal."""
    return len(values) > 1 and bool(np.ptp(values) > 1e-12 * np.abs(values).max())


def mean_interval(values: ArrayLike, *, confidence: float) -> tuple[float, float, float]:
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


def mean_p_value(values: ArrayLike) -> float:
    """Two-sided p-value of a t test that the mean of a few values [n], such as seeds, is 0.

    NaN for fewer than two values and where all are equal, as then nothing is known of the spread.
    """
    values = np.asarray(values, float)
    if not _vary(values):
        return np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(2 * stdtr(len(values) - 1, -abs(values.mean()) / error))


def fleiss_kappa(table: ArrayLike) -> float:
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


def mean_agreement(table: ArrayLike) -> float:
    """Share of pairs of raters that agree, mean over units; table as in `fleiss_kappa`."""
    table = np.asarray(table, float)
    raters = table.sum(1)
    return float(((table**2).sum(1) - raters).dot(1 / (raters * (raters - 1))) / len(table))


POWER = 0.8
"""With which a difference that counts as detectable is told from 0 (ours)."""


def detectable_difference(values: ArrayLike, *, confidence: float, power: float = POWER) -> float:
    """The smallest true mean that values [n] as these would have told from 0.

    With that mean, and the spread of these values, a two-sided t test at level 1 - confidence
    rejects 0 on its side with probability `power` (noncentral t, n - 1 degrees). NaN where the
    spread is unknown, as in `mean_interval`.
    """
    values = np.asarray(values, float)
    if not _vary(values):
        return np.nan
    degrees = len(values) - 1
    errors = nctdtrinc(degrees, 1 - power, stdtrit(degrees, (1 + confidence) / 2))
    return float(errors * values.std(ddof=1) / np.sqrt(len(values)))


def mcnemar_power(
    difference: ArrayLike, changed: ArrayLike, n: ArrayLike, *, level: float
) -> np.ndarray:
    """With what probability `mcnemar` at `level` tells a gain of a true difference of accuracies.

    changed: of how many of n images one answer alone is right, as was seen; where the difference
    asks for more, it is so many. Exact, over how many change and how many of these are gained.
    """
    arrays = (np.asarray(x, float)[..., None] for x in (difference, changed, n))
    difference, changed, n = np.broadcast_arrays(*arrays)
    share = np.maximum(changed / n, difference)
    lost = np.divide(share - difference, 2 * share, out=np.zeros_like(share), where=share > 0)
    reach = np.ceil(6 * np.sqrt(n * share * (1 - share)) + 8)
    changes = np.maximum(np.floor(n * share) - reach, 0)
    changes = changes + np.arange(2 * np.max(reach, initial=0) + 1)
    inside, changes = changes <= n, np.minimum(changes, n).astype(np.int64)
    ways = gammaln(n + 1) - gammaln(changes + 1) - gammaln(n - changes + 1)
    weight = inside * np.exp(ways + xlogy(changes, share) + xlog1py(n - changes, -share))
    most = _most_lost(int(np.max(n, initial=0)), level)[changes]
    told = np.where(most < 0, 0.0, bdtr(np.maximum(most, 0), changes, lost))
    return np.asarray((weight * told).sum(-1))


@cache
def _most_lost(n: int, level: float) -> np.ndarray:
    """Of 0..n images that change, how many at most are lost where `mcnemar` at `level` tells a
    gain; -1 where it never does."""
    changes = np.arange(n + 1)
    most = np.maximum(np.floor(bdtrik(level / 2, np.maximum(changes, 1), 0.5)), 0)
    return np.where(2 * bdtr(most, changes, 0.5) <= level, most, -1)


def both_power(
    difference: ArrayLike,
    over_seeds: ArrayLike,
    over_images: ArrayLike,
    seeds: ArrayLike,
    *,
    confidence: float,
    level: float,
) -> np.ndarray:
    """With what probability a gain of a true difference is told both over seeds, by a two-sided t
    test at `level`, and over images, by a normal interval at `confidence` (ours).

    over_seeds, over_images: the standard errors of the difference. They are taken as independent of
    each other: where seeds change the same images, it is more. Without an error over images this is
    the noncentral t.
    """
    arrays = (np.asarray(x, float) for x in (difference, over_seeds, over_images))
    difference, over_seeds, over_images = (x[..., None] for x in arrays)
    counts, which = np.unique(np.asarray(seeds), return_inverse=True)
    degrees = counts[:, None] - 1
    # how far the seeds must be from 0, over what they may show of their spread
    errors = stdtrit(degrees, 1 - level / 2) * np.sqrt(chdtri(degrees, _SHARES) / degrees)
    least = np.maximum(errors[which] * over_seeds, normal_quantile(confidence) * over_images)
    told: np.ndarray = ndtr((difference - least) / np.hypot(over_seeds, over_images)).mean(-1)
    return told


_SHARES = (np.arange(400) + 0.5) / 400


def least_told(
    power: Callable[..., np.ndarray], highest: ArrayLike, *args: ArrayLike
) -> np.ndarray:
    """The smallest difference, up to `highest`, at which power(difference, *args) is POWER;
    infinite where it is so nowhere. All broadcast."""
    from scipy.optimize import elementwise  # slow to import, and for few stages only

    def above(difference: np.ndarray, *args: np.ndarray) -> np.ndarray:
        return power(difference, *args) - POWER

    highest, *of = np.broadcast_arrays(highest, *args)
    ends, close = (0 * highest, highest), {"xrtol": 1e-6, "xatol": 1e-9}
    found = elementwise.find_root(above, ends, args=tuple(of), tolerances=close).x
    return np.where(above(highest, *of) < 0, np.inf, found)
