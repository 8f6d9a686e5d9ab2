"""What becomes of images in cameras and files, after Hendrycks & Dietterich 2019; functions as in
`noise`."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from faultline.stresses.noise import Generators, Images, drawn


def contrast(images: Images, severity: int, generators: Generators) -> Images:
    """Each channel's distance from its mean times 0.4 to 0.05."""
    means = images.mean(axis=(1, 2), keepdims=True)
    return (images - means) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + means


def saturate(images: Images, severity: int, generators: Generators) -> Images:
    """Saturation times 0.3, 0.1, 2, 5 and 20, of the latter two plus 0.1 and 0.2; what is grey
    becomes red, whose hue it has."""
    times, plus = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    value, least = images.max(-1, keepdims=True), images.min(-1, keepdims=True)
    whole = np.where(value > 0, value, 1)
    saturation = (value - least) / whole
    after = (saturation * times + plus).clip(0, 1)
    lack = (value - images) / whole
    grey = np.broadcast_to([0.0, 1.0, 1.0], images.shape)  # what red lacks
    lack = np.where(saturation > 0, lack / np.where(saturation > 0, saturation, 1), grey)
    return value * (1 - lack * after)


def elastic_transform(images: Images, severity: int, generators: Generators) -> Images:
    """Stretched and squeezed here and there."""
    amount = 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[severity - 1]
    height, width, channels = images.shape[1:]
    most, sigma = 0.005 * height, (0.01 * height, 0.01 * width)

    def shifts(rng: np.random.Generator) -> np.ndarray:
        uneven = rng.uniform(-most, most, (height, width))
        return amount * ndimage.gaussian_filter(uneven, sigma, mode="reflect", truncate=3)

    across, down = drawn(shifts, generators), drawn(shifts, generators)
    rows, columns = np.mgrid[:height, :width]
    made = np.empty_like(images)
    for i, image in enumerate(images):
        at = [rows + down[i], columns + across[i]]
        for channel in range(channels):
            made[i, ..., channel] = ndimage.map_coordinates(
                image[..., channel], at, order=1, mode="reflect"
            )
    return made


def pixelate(images: Images, severity: int, generators: Generators) -> Images:
    """60 to 25 % of the pixels along each side."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width, channels = images.shape[1:]
    size = max(int(width * share), 1), max(int(height * share), 1)
    made = np.empty_like(images)
    for i, image in enumerate(images):
        for channel in range(channels):
            whole = Image.fromarray(image[..., channel].astype(np.float32))
            small = whole.resize(size, Image.Resampling.BOX)
            made[i, ..., channel] = small.resize((width, height), Image.Resampling.NEAREST)
    return made


def jpeg_compression(images: Images, severity: int, generators: Generators) -> Images:
    """JPEG of quality 25 to 7; channels one by one, where they are not three."""
    quality = (25, 18, 15, 10, 7)[severity - 1]
    levels = (images.clip(0, 1) * 255).round().astype(np.uint8)
    if images.shape[-1] == 3:
        return np.stack([_packed(one, quality) for one in levels])
    channels = np.ascontiguousarray(levels.transpose(3, 0, 1, 2))
    return np.stack([[_packed(one, quality) for one in of] for of in channels], axis=-1)


def _packed(picture: np.ndarray, quality: int) -> np.ndarray:
    """A picture of bytes, [height, width] or with three channels, from its JPEG, in 0..1."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255
