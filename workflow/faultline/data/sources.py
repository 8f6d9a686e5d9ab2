"""The data sets that are known by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where images come from.

    shape:         of one image: (channels, height, width), or (features,).
    classes:       number of classes.
    bounds:        (lowest, highest) pixel value, or None where values are unbounded.
    official_test: whether a test set is published apart from the train set.
    train, test:   images in the official sets (train: all of them where there is no test set);
                   None where any number can be drawn, or they have not been counted.
    official_validation: whether there is a validation set apart from the train set.
    """

    shape: tuple[int, ...]
    classes: int
    bounds: tuple[float, float] | None
    official_test: bool
    train: int | None
    test: int | None
    official_validation: bool = False


PIXELS = (0.0, 1.0)
"""Bounds of images."""

SOURCES = {
    "digits": Source((1, 8, 8), 10, PIXELS, False, 1797, 0),
    "fashion_mnist": Source((1, 28, 28), 10, PIXELS, True, 60000, 10000),
    "mnist": Source((1, 28, 28), 10, PIXELS, True, 60000, 10000),
    "cifar10": Source((3, 32, 32), 10, PIXELS, True, 50000, 10000),
    # The published test images carry no labels, so `val` is the test set, as is usual.
    "tiny_imagenet": Source((3, 64, 64), 200, PIXELS, True, 100000, 10000),
    "moons": Source((2,), 2, None, False, None, None),
}

# The user's own images; what these hold is read from the files.
SOURCE_NAMES = (*SOURCES, "image_folder", "npz")
