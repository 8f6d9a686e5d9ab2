"""Weather, after Hendrycks & Dietterich 2019; functions as in `noise`."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from faultline.stresses.blur import enlarged, in_motion, smoothed
from faultline.stresses.noise import Generators, Images, drawn

GREY = np.array([0.299, 0.587, 0.114])
"""How bright red, green and blue are."""


def brightest(images: Images) -> Images:
    """The brightness of images, [n, height, width, 1]."""
    return images @ GREY[:, None] if images.shape[-1] == 3 else images.mean(-1, keepdims=True)


def clouds(side: int, decay: float, rng: Generator) -> np.ndarray:
    """A height map [side, side] in 0..1 by the diamond-square algorithm; side: a power of two."""
    heights, step, size = np.zeros((side, side), np.float32), side, 100.0

    def ragged(total: np.ndarray) -> np.ndarray:
        return total / 4 + size * rng.uniform(-size, size, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = ragged(total + np.roll(total, -1, 1))
        middles, corners = heights[half::step, half::step], heights[::step, ::step]
        beside = middles + np.roll(middles, 1, 0)
        heights[::step, half::step] = ragged(beside + (corners + np.roll(corners, -1, 1)))
        beside = middles + np.roll(middles, 1, 1)
        heights[half::step, ::step] = ragged(beside + (corners + np.roll(corners, -1, 0)))
        step, size = half, size / decay
    heights -= heights.min()
    return heights / heights.max()


def _side(images: Images) -> int:
    return 1 << (max(images.shape[1:]) - 1).bit_length()


def fog(images: Images, severity: int, generators: Generators) -> Images:
    """Clouds are added, and all is scaled to the image's brightest value."""
    thick, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    height, width = images.shape[1:3]
    maps = drawn(lambda rng: clouds(_side(images), decay, rng), generators)
    most = images.max(axis=(1, 2, 3), keepdims=True)
    return (images + thick * maps[:, :height, :width, None]) * most / (most + thick)


def frost(images: Images, severity: int, generators: Generators) -> Images:
    """Crystals are laid over the image; these are drawn (ours), not photographs as those of
    Hendrycks & Dietterich, whose two weights are kept."""
    kept, laid = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    height, width = images.shape[1:3]

    def crystals(rng: Generator) -> np.ndarray:
        ridges = 1 - 2 * np.abs(clouds(_side(images), 1.8, rng) - 0.5)
        return np.asarray(ridges[:height, :width] ** 3)

    return kept * images + laid * drawn(crystals, generators)[..., None]


def snow(images: Images, severity: int, generators: Generators) -> Images:
    """Flakes that fall aslant, over an image that is whitened."""
    mean, spread, zoom, least, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = images.shape[1:3]
    layers = drawn(lambda rng: rng.normal(mean, spread, (height, width)), generators)
    layers = enlarged(layers, zoom)
    layers = np.where(layers < least, 0, layers).clip(0, 1)
    fallen = [
        in_motion(layer, radius=radius, sigma=sigma, angle=rng.uniform(-135, -45))
        for layer, rng in zip(layers, generators, strict=True)
    ]
    flakes = (np.stack(fallen) * 255).round()[:, :height, :width, None] / 255
    white = np.maximum(images, brightest(images) * 1.5 + 0.5)
    falling = np.zeros_like(images[..., :1])
    falling[:, : flakes.shape[1], : flakes.shape[2]] = flakes + np.rot90(flakes, 2, (1, 2))
    return kept * images + (1 - kept) * white + falling


def brightness(images: Images, severity: int, generators: Generators) -> Images:
    """Brighter by 0.1 to 0.5, hue and saturation kept."""
    more = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    if images.shape[-1] != 3:
        return images + more
    value = images.max(-1, keepdims=True)
    brighter = (value + more).clip(0, 1)
    return np.where(value > 0, images / np.where(value > 0, value, 1), 1.0) * brighter


WATER, MUD = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255
"""Colours of drops."""


def spatter(images: Images, severity: int, generators: Generators) -> Images:
    """Drops of water, at severities 4 and 5 of mud. Of water the edge of a drop is where it ends
    (ours), where Hendrycks & Dietterich seek it by Canny's filter."""
    mean, spread, sigma, least, strength, mud = (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    )[severity - 1]
    shape, grey = images.shape[1:3], images.shape[-1] != 3
    drops = smoothed(drawn(lambda rng: rng.normal(mean, spread, shape), generators), sigma)
    drops = np.where(drops < least, 0, drops)
    if mud:
        cover = smoothed((drops > least).astype(float), strength)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        colour = MUD @ GREY if grey else MUD
        return images * (1 - cover) + colour * cover
    shine = np.stack([_shine(layer) for layer in drops])[..., None] * strength
    return images + shine * (WATER @ GREY if grey else WATER)


def _shine(drops: np.ndarray) -> np.ndarray:
    """How much of its colour water adds, in 0..1, [height, width]: most at the edges of drops."""
    inside = drops > 0
    edge = inside & ~ndimage.binary_erosion(inside, border_value=1)
    if not edge.any():
        return np.zeros_like(drops)
    far = np.minimum(ndimage.distance_transform_edt(~edge), 20)
    far = ndimage.uniform_filter(far, 3, mode="mirror")
    ranks = np.searchsorted(np.sort(far, axis=None), far, side="right") / far.size
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], float)
    lit = ndimage.correlate(ranks, emboss, mode="mirror").clip(0, 1)
    shine = drops * ndimage.uniform_filter(lit, 3, mode="mirror")
    return shine / shine.max() if shine.max() > 0 else shine
