"""How the images that networks are judged on were drawn: means over them, and how these vary.

`ALIKE`: each stands for as many as any other. `Strata`: drawn at random within strata of a larger
set, so that an image of a large stratum stands for more. Both answer alike; "parts" are what each
image adds to a mean, [..., n]. No torch.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import gammaincinv, ndtr

from faultline.base.statistics import Interval, normal_quantile, wilson_interval


class Alike:
    """A simple random sample, as any first images of a split are."""

    def mean(self, values: np.ndarray, axis: int | tuple[int, ...] = -1) -> np.ndarray:
        """Mean over images, the last of the axes, and over those of the others that are named."""
        means: np.ndarray = values.mean(axis)
        return means

    def parts(self, values: np.ndarray, over: float | np.ndarray = 1.0) -> np.ndarray:
        """What each image adds to the mean of values [..., n] over a number."""
        parts: np.ndarray = values / (values.shape[-1] * over)
        return parts

    def unit(self, n: int, over: float) -> tuple[float, float]:
        """The part of one of n images that changes wholly, and its square."""
        return 1 / (n * over), (1 / (n * over)) ** 2

    def variance(self, parts: np.ndarray) -> np.ndarray:
        """Of the sums of parts [..., n], where these are 0."""
        variance: np.ndarray = (parts**2).sum(-1)
        return variance

    def covariance(self, parts: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Of the sums of parts [F, n], where these are 0, and the mean of base [n]."""
        covariance: np.ndarray = parts @ base / parts.shape[1]
        return covariance

    def base_variance(self, base: np.ndarray) -> float:
        """Of the mean of base [n], which is 1."""
        return np.float64((base @ base / len(base) - 1) / len(base))

    def error(self, influence: np.ndarray, pseudo: float) -> float:
        """Of the mean of an influence [n], with the square of an image that was not seen added."""
        return np.float64(np.sqrt(influence @ influence + pseudo) / (len(influence) + 2))

    def share_interval(self, hits: np.ndarray, *, confidence: float) -> Interval:
        """(share, low, high) of hits, bool [..., n] (Wilson 1927)."""
        return wilson_interval(hits.sum(-1), hits.shape[-1], confidence=confidence)


ALIKE = Alike()


@dataclass(frozen=True)
class Strata:
    """Images drawn at random, without replacement, within the strata of a larger set.

    stratum: int [n], that of each image; sizes: int [H], how many images of the set are in each.
    The set is taken as a sample itself (double sampling for stratification, Cochran 1977, 12.2): an
    image of stratum h has the weight W_h / n_h, W_h its share of the set, and a mean the variance

        sum over h of W_h^2 s_h^2 / n_h + sum over h of W_h (mean_h - mean)^2 / N

    So strata that are drawn whole leave the uncertainty that the whole set has.
    """

    stratum: np.ndarray
    sizes: np.ndarray

    @property
    def total(self) -> int:
        """N, the images of the set."""
        return int(self.sizes.sum())

    @cached_property
    def drawn(self) -> np.ndarray:
        """n_h, [H]."""
        return np.bincount(self.stratum, minlength=len(self.sizes))

    @cached_property
    def weights(self) -> np.ndarray:
        """[n], their sum 1."""
        weights: np.ndarray = (self.sizes / np.maximum(self.drawn, 1) / self.total)[self.stratum]
        return weights

    @cached_property
    def _unseen(self) -> float:
        """Mean square weight of an image."""
        return float(self.weights @ self.weights / len(self.weights))

    def mean(self, values: np.ndarray, axis: int | tuple[int, ...] = -1) -> np.ndarray:
        """As `Alike.mean`; the last of the axes is that of the images."""
        means: np.ndarray = values @ self.weights
        others = np.atleast_1d(axis)[:-1]
        if len(others):
            means = means.mean(tuple(others))
        return means

    def parts(self, values: np.ndarray, over: float | np.ndarray = 1.0) -> np.ndarray:
        """As `Alike.parts`."""
        parts: np.ndarray = values * (self.weights / over)
        return parts

    def unit(self, n: int, over: float) -> tuple[float, float]:
        """What is not seen may be anywhere, in any stratum at the same rate: of such images the
        mean weight and the mean square weight are taken (as Tiwari et al. 2006 do)."""
        return 1 / (n * over), self._unseen / over**2

    def _moments(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Covariance of the sums of two parts, [..., n] and [n] or of the same shape."""
        inside = np.eye(len(self.sizes))[self.stratum]  # [n, H]
        weight = self.sizes / np.maximum(self.drawn, 1) / self.total  # [H]
        sums = one @ inside, other @ inside
        within = (one * other) @ inside - sums[0] * sums[1] / np.maximum(self.drawn, 1)
        within = (within * self.drawn / np.maximum(self.drawn - 1, 1)).sum(-1)
        between = (sums[0] * sums[1] / (np.maximum(self.drawn, 1) * weight)).sum(-1)
        moments: np.ndarray = within + (between - one.sum(-1) * other.sum(-1)) / self.total
        return moments

    def variance(self, parts: np.ndarray) -> np.ndarray:
        """As `Alike.variance`."""
        variance: np.ndarray = np.maximum(self._moments(parts, parts), 0.0)  # 0 but for rounding
        return variance

    def covariance(self, parts: np.ndarray, base: np.ndarray) -> np.ndarray:
        """As `Alike.covariance`."""
        return self._moments(parts, self.parts(base))

    def base_variance(self, base: np.ndarray) -> float:
        """As `Alike.base_variance`."""
        return float(self.variance(self.parts(base)))

    def error(self, influence: np.ndarray, pseudo: float) -> float:
        """As `Alike.error`."""
        variance = self.variance(self.parts(influence)) + pseudo * self._unseen
        return np.float64(np.sqrt(variance))

    def share_interval(self, hits: np.ndarray, *, confidence: float) -> Interval:
        """(share, low, high) of hits, bool [..., n]: Wilson's interval of as many images as would
        give this variance, and at most as many as have that of the weights (after Korn & Graubard
        1998)."""
        share = self.mean(hits)
        variance, most = self.variance(self.parts(hits)), 1 / (self.weights @ self.weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            n = np.fmin(np.where(variance > 0, share * (1 - share) / variance, most), most)
        return wilson_interval(share * n, n, confidence=confidence)

    def change(
        self,
        lost: np.ndarray,
        gained: np.ndarray,
        *,
        confidence: float,
        base: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(change, low, high, p) of paired shares, from which images are lost and which gained,
        bool [F, n]; where base [n] is given, over its mean: the ratio of the two less 1.

        The limits are those by the variance, in which the parts of lost and of gained images are
        exchanged for the limits of each alone (as MOVER does, Zou & Donner 2008), so that they hold
        where either are few (ours). p, two-sided, of no change, is McNemar's by the weights: of the
        variance that holds if each change might as well have gone the other way, with one image
        more.
        """
        z2, n = normal_quantile(confidence) ** 2, lost.shape[-1]
        minus, fewest_lost, most_lost, spread_lost = self._count(lost, confidence)
        plus, fewest_gained, most_gained, spread_gained = self._count(gained, confidence)
        parts, square = self.parts(gained.astype(float) - lost), self.unit(n, 1.0)[1]
        p = 2 * ndtr(-np.abs(plus - minus) / np.sqrt((parts**2).sum(-1) + square))
        over, value = np.asarray(1.0), plus - minus
        if base is not None:
            over = self.mean(base)
            value = value / over
            parts = parts - value[:, None] * self.parts(base)
        rest = z2 * (self.variance(parts) - spread_lost - spread_gained)
        below = (plus - fewest_gained) ** 2 + (most_lost - minus) ** 2
        above = (most_gained - plus) ** 2 + (minus - fewest_lost) ** 2
        low, high = (np.sqrt(np.maximum(rest + m, square)) / over for m in (below, above))
        return value, value - low, value + high, p

    def _count(
        self, hits: np.ndarray, confidence: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(mean, low, high, variance) of hits, bool [F, n]: the limits that gamma distributions
        give a weighted sum of Poisson numbers (Fay & Feuer 1997), where the weight of one more is
        the mean (Tiwari et al. 2006)."""
        tail = (1 - np.asarray(confidence)) / 2
        mean, variance = self.mean(hits), self.variance(self.parts(hits))
        unit, square = self.unit(hits.shape[-1], 1.0)

        def limit(mean: np.ndarray, variance: np.ndarray, p: np.ndarray) -> np.ndarray:
            few = variance / np.maximum(mean, np.finfo(float).tiny)
            with np.errstate(divide="ignore", invalid="ignore"):
                quantile = few * gammaincinv(mean**2 / variance, p)
            return np.where(variance > 0, quantile, mean)

        low, high = limit(mean, variance, tail), limit(mean + unit, variance + square, 1 - tail)
        return mean, np.minimum(low, mean), np.maximum(high, mean), variance
