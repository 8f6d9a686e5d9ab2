"""What parsing the workflow must know about data sets, without importing torch."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

from faultline.errors import UserError


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


_PIXELS = (0.0, 1.0)

SOURCES = {
    "digits": Source((1, 8, 8), 10, _PIXELS, False, 1797, 0),
    "fashion_mnist": Source((1, 28, 28), 10, _PIXELS, True, 60000, 10000),
    "mnist": Source((1, 28, 28), 10, _PIXELS, True, 60000, 10000),
    "cifar10": Source((3, 32, 32), 10, _PIXELS, True, 50000, 10000),
    # The published test images carry no labels, so `val` is the test set, as is usual.
    "tiny_imagenet": Source((3, 64, 64), 200, _PIXELS, True, 100000, 10000),
    "moons": Source((2,), 2, None, False, None, None),
}
# The user's own images; what these hold is read from the files.
SOURCE_NAMES = (*SOURCES, "image_folder", "npz")


def describe(dataset: dict, *, name: str) -> Source:
    """What is known of a data set of the config: it has a source of `SOURCE_NAMES`, perhaps a size.

    Raises UserError where files are missing or do not fit together, and where a size is given to
    what cannot be scaled.
    """
    source, size = dataset["source"], dataset.get("size")
    if source == "image_folder":
        from faultline import images  # with NumPy, which parsing a workflow can do without

        return images.describe_folder(dataset, name=name)
    if size is not None and (source == "npz" or len(SOURCES[source].shape) == 1):
        what = "arrays, which are taken as they are" if source == "npz" else "vectors"
        raise UserError(f"config key datasets.{name}.size: {source} holds {what}; leave it out")
    if source == "npz":
        from faultline import images

        return images.describe_arrays(dataset, name=name)
    known = SOURCES[source]
    return known if size is None else replace(known, shape=(known.shape[0], size, size))


@functools.cache
def registry() -> dict:
    """What `networks` holds, of the built-in networks alone."""
    return json.loads(Path(__file__).with_name("networks.json").read_text(encoding="utf-8"))


_own: dict[str, dict] = {}


def add(name: str, facts: dict) -> None:
    """Makes a network of the user's own known to `networks`."""
    _own[name] = facts


def networks() -> dict:
    """Input kind, smallest image size and layers of every network, built in or added.

    {network: {"input", "min_size", "layers": [[name, "conv" or "linear", filters], ...]}}, written
    by `python -m faultline.networks`; filters is "classes" for the output layer.
    """
    return registry() | _own
