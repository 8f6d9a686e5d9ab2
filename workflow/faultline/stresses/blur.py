"""Blur, after Hendrycks & Dietterich 2019; functions as in `noise`."""

import math

import numpy as np
from scipy import ndimage

from faultline.stresses.noise import Generators, Images

TRUNCATE = 4.0
"""Standard deviations at which a Gaussian ends."""


def smoothed(images: Images, sigma: float) -> Images:
    """Images [n, height, width, ...] blurred by a Gaussian, edges repeated."""
    sigmas = (0, sigma, sigma, *(0 for _ in range(images.ndim - 3)))
    return ndimage.gaussian_filter(images, sigmas, mode="nearest", truncate=TRUNCATE)


def gaussian_blur(images: Images, severity: int, generators: Generators) -> Images:
    """By a Gaussian with a standard deviation of 1 to 6 pixels."""
    return smoothed(images, (1, 2, 3, 4, 6)[severity - 1])


def defocus_blur(images: Images, severity: int, generators: Generators) -> Images:
    """By a disk with a radius of 3 to 10 pixels whose edge is soft."""
    radius, soft = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    at = np.arange(-reach, reach + 1)
    disk = (at[:, None] ** 2 + at**2 <= radius**2).astype(float)
    edge = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * soft**2))
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, edge / edge.sum(), axis=axis, mode="mirror")
    disk /= (at[:, None] ** 2 + at**2 <= radius**2).sum()
    return ndimage.correlate(images, disk[None, :, :, None], mode="mirror")


def glass_blur(images: Images, severity: int, generators: Generators) -> Images:
    """Blurred, each pixel taken from up to 1 to 4 pixels beside it, and blurred again."""
    settings = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    sigma, reach, times = settings[severity - 1]
    images = np.floor(smoothed(images, sigma) * 255) / 255
    n, height, width = images.shape[:3]
    rows, columns = (np.arange(side - reach, reach, -1) for side in (height, width))
    sizes = times, len(rows), len(columns), 2
    moves = np.stack([rng.integers(-reach, reach, sizes) for rng in generators], axis=-1)
    every = np.arange(n)
    for once in moves:
        for row, of_row in zip(rows, once, strict=True):
            for column, (across, down) in zip(columns, of_row, strict=True):
                images[:, row, column] = images[every, row + down, column + across]
    return smoothed(images, sigma)


def moved(image: np.ndarray, down: int, across: int) -> np.ndarray:
    """An image [height, width, ...] shifted by whole pixels, its edge repeated behind it."""
    rows, columns = (np.arange(side) for side in image.shape[:2])
    return image[(rows - down).clip(0, len(rows) - 1)][
        :, (columns - across).clip(0, len(columns) - 1)
    ]


def in_motion(image: np.ndarray, *, radius: int, sigma: float, angle: float) -> np.ndarray:
    """An image [height, width, ...] blurred to one side, along an angle in degrees."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    direction = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    blurred = np.zeros_like(image)
    for step, weight in enumerate(weights / weights.sum()):
        down, across = (-math.ceil(step * along - 0.5) for along in direction)
        if abs(down) >= image.shape[0] or abs(across) >= image.shape[1]:
            break
        blurred += weight * moved(image, down, across)
    return blurred


def motion_blur(images: Images, severity: int, generators: Generators) -> Images:
    """Along a random direction, at most 45 degrees from the horizontal, over 10 to 20 pixels."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    return np.stack(
        [
            in_motion(image, radius=radius, sigma=sigma, angle=rng.uniform(-45, 45))
            for image, rng in zip(images, generators, strict=True)
        ]
    )


def enlarged(images: Images, zoom: float) -> Images:
    """The middle of images [n, height, width, ...], enlarged, as large as it becomes."""
    parts = [math.ceil(side / zoom) for side in images.shape[1:3]]
    starts = [(side - part) // 2 for side, part in zip(images.shape[1:3], parts, strict=True)]
    down, across = (slice(a, a + b) for a, b in zip(starts, parts, strict=True))
    zooms = (1, zoom, zoom, *(1 for _ in range(images.ndim - 3)))
    return ndimage.zoom(images[:, down, across], zooms, order=1)


def zoom_blur(images: Images, severity: int, generators: Generators) -> Images:
    """The mean of images enlarged step by step, by up to 10 to 30 %."""
    last, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[
        severity - 1
    ]
    zooms, total = np.arange(1, last, step), images.copy()
    height, width = images.shape[1:3]
    for zoom in zooms:
        larger = enlarged(images, float(zoom))[:, :height, :width]
        total[:, : larger.shape[1], : larger.shape[2]] += larger
    return total / (len(zooms) + 1)
