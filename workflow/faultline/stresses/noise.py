"""Noise, after Hendrycks & Dietterich 2019 (arXiv 1903.12261); see `registry`.

Each function takes images [n, height, width, channels] in 0..1, a severity of 1 to 5 and a
generator for each image, and gives images of the same shape, in 0..1 where `registry` clips them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

Images = np.ndarray
Generators = Sequence[Generator]


def drawn(draw: Callable[[Generator], np.ndarray], generators: Generators) -> np.ndarray:
    """What each image's generator gives, [n, ...]."""
    return np.stack([draw(generator) for generator in generators])


def gaussian_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Normal noise is added, of standard deviation 0.08 to 0.38."""
    scale = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return images + drawn(lambda rng: rng.normal(0, scale, images.shape[1:]), generators)


def shot_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Poisson noise of 60 to 3 photons for white."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    counts = [rng.poisson(image * photons) for rng, image in zip(generators, images, strict=True)]
    return np.stack(counts) / photons


def impulse_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Salt and pepper, half and half, on 3 to 27 % of the values."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    hit, salt = (drawn(lambda rng: rng.random(images.shape[1:]), generators) for _ in range(2))
    return np.where(hit <= share, np.where(salt <= 0.5, 1.0, 0.0), images)


def speckle_noise(images: Images, severity: int, generators: Generators) -> Images:
    """Each value times 1 plus normal noise of standard deviation 0.15 to 0.6."""
    scale = (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]
    return images * (1 + drawn(lambda rng: rng.normal(0, scale, images.shape[1:]), generators))
