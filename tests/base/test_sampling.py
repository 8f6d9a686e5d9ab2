import numpy as np
import pytest

from faultline.base.sampling import ALIKE, Strata
from faultline.base.statistics import mcnemar, normal_quantile, wilson_interval

# Two images of 4, and three of 16: weights .2 / 2 and .8 / 3.
SMALL = Strata(np.array([1, 0, 1, 0, 1]), np.array([4, 16]))
VALUES = np.array([1.0, 0.0, 0.0, 2.0, 5.0])


def equal(n, total=10_000):
    """n images of one stratum: a simple random sample."""
    return Strata(np.zeros(n, int), np.array([total]))


def test_mean_and_variance_by_hand():
    assert SMALL.total == 20 and SMALL.drawn.tolist() == [2, 3]
    assert SMALL.weights == pytest.approx(np.array([4, 1.5, 4, 1.5, 4]) / 15)
    # means 1 and 2, variances 2 and 7: 1/5 + 8/5, and .04 * 2/2 + .64 * 7/3 within the strata;
    # between them (.2 * .8^2 + .8 * .2^2) / 20
    assert SMALL.mean(VALUES) == pytest.approx(1.8)
    assert SMALL.parts(VALUES).sum() == pytest.approx(1.8)
    expected = 0.04 + 0.64 * 7 / 3 + (0.2 * 0.64 + 0.8 * 0.04) / 20
    assert SMALL.variance(SMALL.parts(VALUES)) == pytest.approx(expected)
    assert SMALL.base_variance(VALUES) == pytest.approx(expected)
    assert SMALL.covariance(SMALL.parts(VALUES[None]), VALUES) == pytest.approx([expected])
    assert SMALL.mean(np.stack([VALUES, 3 * VALUES])[None], (1, 2)) == pytest.approx([3.6])


def test_the_variance_is_that_of_means_over_samples_of_samples():
    # A population of two kinds of images, a set of 60 of it, a sample by strata of that.
    rng, means, told = np.random.default_rng(0), [], []
    for _ in range(4000):
        values = rng.normal(np.repeat([0.0, 3.0], [20, 40]), np.repeat([1.0, 2.0], [20, 40]))
        kind = rng.random(60) < 2 / 3
        values = np.where(kind, rng.normal(3, 2, 60), rng.normal(0, 1, 60))
        sizes = np.bincount(kind, minlength=2)
        drawn = [
            rng.choice(np.flatnonzero(kind == h), min(10, size), replace=False)
            for h, size in enumerate(sizes)
        ]
        index = np.concatenate(drawn)
        strata = Strata(kind[index].astype(int), sizes)
        means.append(strata.mean(values[index]))
        told.append(strata.variance(strata.parts(values[index])))
    assert np.mean(means) == pytest.approx(2, abs=4 * np.std(means) / 4000**0.5)
    assert np.mean(told) == pytest.approx(np.var(means), rel=0.1)


def test_one_stratum_is_a_simple_random_sample():
    rng = np.random.default_rng(1)
    hits, change = rng.random(500) < 0.7, rng.integers(-1, 2, (3, 500)).astype(float)
    one = equal(500)
    assert one.mean(change) == pytest.approx(ALIKE.mean(change))
    assert one.parts(change, 0.5) == pytest.approx(ALIKE.parts(change, 0.5))
    assert one.unit(500, 0.5) == pytest.approx(ALIKE.unit(500, 0.5))
    centred = ALIKE.parts(change - change.mean(1, keepdims=True))
    base = hits / hits.mean()
    for name, arguments in (
        ("variance", (centred,)),
        ("covariance", (centred, base)),
        ("base_variance", (base,)),
        ("error", (change[0] - change[0].mean(), 1.0)),
    ):
        found, expected = (getattr(design, name)(*arguments) for design in (one, ALIKE))
        assert found == pytest.approx(expected, rel=6e-3, abs=1e-7), name
    found = one.share_interval(hits, confidence=0.95)
    assert found == pytest.approx(wilson_interval(hits.sum(), 500, confidence=0.95), abs=1e-4)


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_none_or_all_has_an_interval(share):
    found, low, high = SMALL.share_interval(np.full(5, bool(share)), confidence=0.95)
    assert found == pytest.approx(share)
    _, least, most = wilson_interval(5 * share, 5, confidence=0.95)
    assert high - low > most - least and low >= 0 and high <= 1


def test_a_change_by_hand():
    lost, gained = (np.array([[c == "1" for c in row]]) for row in ("10000", "00001"))
    value, low, high, p = SMALL.change(lost, gained, confidence=0.95)
    assert (value, p) == (pytest.approx([0]), pytest.approx([1]))
    assert -low == pytest.approx(high)
    value, low, high, p = equal(400).change(
        np.arange(400)[None] < 40, np.arange(400)[None] >= 390, confidence=0.95
    )
    assert value == pytest.approx([-30 / 400])
    margin = normal_quantile(0.95) * np.sqrt((50 - 30**2 / 400) / 400**2)
    assert margin < (high - low)[0] / 2 < 1.1 * margin  # ten images are few
    assert p == pytest.approx(mcnemar(10, 40), rel=0.5)


@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_nothing_seen_to_change_is_told_as_by_the_weights(confidence):
    none = np.zeros((1, 400), bool)
    value, low, high, p = equal(400).change(none, none, confidence=confidence)
    assert value == 0 and p == 1 and -low == pytest.approx(high)
    # the exact limit of a share of which none is seen in 400
    assert high == pytest.approx(1 - ((1 - confidence) / 2) ** (1 / 400), rel=0.05)
