"""What parsing the workflow must know about data sets, without importing torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from faultline.base.errors import UserError
from faultline.data.sources import SOURCES, Source

ENOUGH = 200
"""Validation images that classes must at least come from (ours)."""


def describe(dataset: Mapping[str, Any], *, name: str) -> Source:
    """What is known of a data set of the config: it has a source of `SOURCE_NAMES`, perhaps a size.

    Raises UserError where files are missing or do not fit together, where a size is given to what
    cannot be scaled, and where there is nothing to compute a mean from.
    """
    facts = _facts(dataset, name=name)
    if dataset.get("train") == 0 and not dataset.get("mean") and facts.kind != "token":
        raise UserError(
            f"config key datasets.{name}.mean: missing; there are no training images (train: 0) to "
            "compute it from, so give the mean and std that the weights expect"
        )
    return facts


def _facts(dataset: Mapping[str, Any], *, name: str) -> Source:
    source, size = dataset["source"], dataset.get("size")
    if source == "image_folder":
        from faultline.data import folders  # with NumPy, which parsing a workflow can do without

        return folders.describe_folder(dataset, name=name)
    if size is not None and (source == "npz" or len(SOURCES[source].shape) == 1):
        what = "arrays, which are taken as they are" if source == "npz" else "vectors"
        raise UserError(f"config key datasets.{name}.size: {source} holds {what}; leave it out")
    if source == "npz":
        from faultline.data import arrays

        return arrays.describe_arrays(dataset, name=name)
    facts = SOURCES[source]
    return facts if size is None else replace(facts, shape=(facts.shape[0], size, size))


def check_enough(dataset: str, count: int, images: int | None) -> None:
    """UserError where a validation split of `count` images is too small to judge ablated networks
    on, by itself or for the `images` asked for."""
    key = f"config key datasets.{dataset}.validation: {count} images"
    if count < ENOUGH:
        raise UserError(
            f"{key} are too few to judge ablated networks on (ablation.split: validation); give at "
            f"least {ENOUGH}"
        )
    if count < (images or 0):
        raise UserError(
            f"{key}, but ablation.images asks for {images} (ablation.split: validation); raise the "
            "one or lower the other"
        )
