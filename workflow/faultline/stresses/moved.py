"""Where things lie, and inputs that are no images; functions as in `noise`, of the inputs that
`registry` names: signals [n, length, channels], rows of features [n, features], both in the units
that attacks have; tokens [n, length], whole numbers (ours)."""

import numpy as np
from scipy import ndimage

from faultline.stresses.noise import Generators, Images, drawn


def rotation(images: Images, severity: int, generators: Generators) -> Images:
    """By 5 to 30 degrees, to either side; what comes from outside is 0."""
    degrees = (5, 10, 15, 20, 30)[severity - 1]
    return np.stack(
        [
            ndimage.rotate(
                image, degrees * rng.choice([-1, 1]), reshape=False, order=1, prefilter=False
            )
            for image, rng in zip(images, generators, strict=True)
        ]
    )


def shift(images: Images, severity: int, generators: Generators) -> Images:
    """By 4 to 20 % of either side, at least a pixel, each way at random; what comes from outside is
    0."""
    share = (0.04, 0.08, 0.12, 0.16, 0.2)[severity - 1]
    far = [max(round(share * side), 1) for side in images.shape[1:3]]
    made = np.zeros_like(images)
    for i, rng in enumerate(generators):
        ways = [(one * rng.choice([-1, 1])) for one in far]
        to, of = zip(*(_slices(way) for way in ways), strict=True)
        made[i][to] = images[i][of]
    return made


def _slices(way: int) -> tuple[slice, slice]:
    """Where to and where from, along an axis."""
    return (
        (slice(way, None), slice(None, -way)) if way > 0 else (slice(None, way), slice(-way, None))
    )


def added_noise(values: Images, severity: int, generators: Generators) -> Images:
    """Normal noise with a standard deviation of 2 to 20 % of the range."""
    scale = (0.02, 0.04, 0.08, 0.12, 0.2)[severity - 1]
    return values + drawn(lambda rng: rng.normal(0, scale, values.shape[1:]), generators)


def gain(signals: Images, severity: int, generators: Generators) -> Images:
    """Each channel's distance from its mean times 1.1 to 2, or divided by as much."""
    times = (1.1, 1.2, 1.4, 1.6, 2.0)[severity - 1]
    channels = signals.shape[-1]
    factors = drawn(lambda rng: times ** rng.choice([-1.0, 1.0], channels), generators)[:, None]
    means = signals.mean(1, keepdims=True)
    return means + (signals - means) * factors


def drift(signals: Images, severity: int, generators: Generators) -> Images:
    """A line is added that ends 5 to 50 % of the range above or below, channel by channel."""
    end = (0.05, 0.1, 0.2, 0.3, 0.5)[severity - 1]
    ways = drawn(lambda rng: rng.choice([-1.0, 1.0], signals.shape[-1]), generators)[:, None]
    return signals + end * ways * np.linspace(0, 1, signals.shape[1])[:, None]


def dropped_stretch(signals: Images, severity: int, generators: Generators) -> Images:
    """5 to 50 % of the length, in one piece, holds the value before it."""
    share = (0.05, 0.1, 0.2, 0.3, 0.5)[severity - 1]
    length = max(round(share * signals.shape[1]), 1)
    made = signals.copy()
    for one, rng in zip(made, generators, strict=True):
        start = int(rng.integers(0, len(one) - length + 1))
        one[start : start + length] = one[max(start - 1, 0)]
    return made


def missing(rows: Images, severity: int, generators: Generators) -> Images:
    """5 to 50 % of the features hold the mean of those that are given here."""
    share = (0.05, 0.1, 0.2, 0.3, 0.5)[severity - 1]
    gone = drawn(lambda rng: rng.random(rows.shape[1:]) < share, generators)
    return np.where(gone, rows.mean(0), rows)


def exchanged(tokens: Images, severity: int, generators: Generators) -> Images:
    """5 to 50 % of the tokens become others of the same sequences."""
    share = (0.05, 0.1, 0.2, 0.3, 0.5)[severity - 1]
    every = np.unique(tokens)
    made = tokens.copy()
    for one, rng in zip(made, generators, strict=True):
        hit = rng.random(one.shape) < share
        one[hit] = rng.choice(every, hit.sum())
    return made


def dropped_tokens(tokens: Images, severity: int, generators: Generators) -> Images:
    """5 to 50 % of the tokens are left out, and those behind them move up; the last one is repeated
    at the end."""
    share = (0.05, 0.1, 0.2, 0.3, 0.5)[severity - 1]
    made = tokens.copy()
    for one, rng in zip(made, generators, strict=True):
        left = one[rng.random(one.shape) >= share]
        if len(left):
            one[: len(left)], one[len(left) :] = left, left[-1]
    return made
