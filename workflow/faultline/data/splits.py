"""Data sets as resident tensors with the bounds of their values, split reproducibly."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from faultline.base.errors import UserError, some
from faultline.data.arrays import array_pools
from faultline.data.decode import Pool
from faultline.data.describe import describe
from faultline.data.folders import folder_pools
from faultline.data.published import published_pools
from faultline.data.sources import ALSO, SOURCE_NAMES, DataSettings
from faultline.networks.architectures import TokenNetwork

SPLITS = ("train", "validation", "test")

Labelled = tuple[torch.Tensor, torch.Tensor]
"""Images [n, ...] and their labels [n]."""

Ranges = tuple[tuple[float, ...], tuple[float, ...]]
"""The lowest and the highest value of each feature or channel."""

Bounds = tuple[float, float] | tuple[torch.Tensor, torch.Tensor] | None
"""(lowest, highest) value of images, two numbers or two tensors that broadcast over one image; None
where they have none."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and labels of the three splits, and of further test sets.

    name:      as in the config.
    classes:   number of classes.
    bounds:    (lowest, highest) pixel value, or None. Tensors that broadcast over one sample where
               some feature is the same in all of the train split: its bounds are equal.
    levels:    a pixel is stored value / levels; None where values are stored as they are.
    mean, std: per channel (or feature), in pixel units: of the train split, or as given; None of
               tokens.
    splits:    "train", "validation", "test", and `sources.ALSO` -> (images, labels). Images are
               uint8 [n, c, h, w] with levels, or float32 [n, ...] without; tokens int32 [n, t];
               labels are int64 [n]. Any first images of a split hold the classes in proportion.
    ranges:    of features or channels: the lowest and the highest value of each in the train split,
               in the units of their source. Images hold shares of it, which serve as pixel units;
               None where they hold values as they are.
    columns:   of tokens of a network: how many its embedding has, see `fitted`; else None.
    own_moments: whether mean and std are those of the config, not of the train split.
    """

    name: str
    classes: int
    bounds: Bounds
    levels: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    splits: dict[str, Labelled]
    ranges: Ranges | None = None
    columns: int | None = None
    own_moments: bool = False

    @property
    def moments_key(self) -> str | None:
        """The key of the config that mean and std are from; None: of the train split."""
        return f"datasets.{self.name}.mean" if self.own_moments else None

    @property
    def seen(self) -> torch.Tensor:
        """Stored images that statistics may be measured on: those of the train split; where there
        are none, of validation."""
        return next(s for split in SPLITS if len(s := self.splits[split][0]))

    @property
    def also(self) -> list[str]:
        """The names of further test sets."""
        start = ALSO.format("")
        return [split.removeprefix(start) for split in self.splits if split.startswith(start)]

    def fitted(self, network: nn.Module) -> "DataSet":
        """The same; for a network of tokens with its number of columns, so that `pixels` has the
        form of adversarial ones, and with bounds that hold the tokens themselves."""
        if not isinstance(network, TokenNetwork):
            return self
        columns = network.embedding.embedding_dim
        free = torch.full((1 + columns,), torch.inf, device=self.splits["train"][1].device)
        free[0] = 0.0
        return replace(self, columns=columns, bounds=(-free, free))

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Stored images as float32 pixels, on the same device; tokens as int64 [n, t], or with
        columns as float32 [n, t, 1 + columns]: tokens, and nothing that is added."""
        if images.dtype == torch.int32:
            if self.columns is None:
                return images.long()
            return F.pad(images[..., None].float(), (0, self.columns))
        if self.levels is None:
            return images.float()
        return images.to(torch.float32, copy=True).div_(self.levels)  # of large sets no third copy

    def to_tensors(self) -> dict[str, Any]:
        """A flat dict for torch.save that torch.load(weights_only=True) reads back."""
        apart = ("splits", "ranges", "columns", "own_moments")
        flat = {key: value for key, value in vars(self).items() if key not in apart}
        flat |= {"ranges": self.ranges} if self.ranges else {}
        flat |= {"own_moments": True} if self.own_moments else {}
        for split, (images, labels) in self.splits.items():
            flat |= {f"{split}_images": images, f"{split}_labels": labels}
        return flat

    @classmethod
    def from_tensors(cls, flat: Mapping[str, Any]) -> "DataSet":
        """The inverse of `to_tensors`."""
        fields = ("name", "classes", "bounds", "levels", "mean", "std")
        names = [key.removesuffix("_images") for key in flat if key.endswith("_images")]
        splits = {split: (flat[f"{split}_images"], flat[f"{split}_labels"]) for split in names}
        kept = {field: flat[field] for field in fields} | {"ranges": flat.get("ranges")}
        return cls(**kept, splits=splits, own_moments=flat.get("own_moments", False))


def prepare(source: str, *, name: str | None = None, threads: int = 1, **others: Any) -> DataSet:
    """The images of a source of the catalogue, in disjoint, stratified, seeded splits (ours).

    others: see `DataSettings`; validation and split_seed must be given.
    name: of the data set in the config; the source if not given. threads: that decode images.

    Raises UserError, which names the key or the file at fault.
    """
    name = name or source
    if source not in SOURCE_NAMES:
        raise UserError(
            f"datasets.{name}.source: {source!r} is unknown; choose one of "
            f"{', '.join(SOURCE_NAMES)}"
        )
    settings = DataSettings(source=source, **others)
    facts = describe(vars(settings), name=name)
    if facts.unlearned and settings.train != 0:
        print(f"train: no sample of class {some(facts.unlearned)}, of {facts.classes} classes")
    pools = _pools(settings, name=name, threads=threads)
    splits = _dealt(pools, settings, name=name)
    bounds: Bounds = facts.bounds
    ranges: Ranges | None = None
    mean, std = settings.mean, settings.std
    if facts.ranged:
        splits, bounds, ranges = _in_ranges(splits)
        low, width = ranges[0], _widths(ranges)
        mean = mean and [(m - at) / w for m, at, w in zip(mean, low, width, strict=True)]
        std = std and [s / w for s, w in zip(std, width, strict=True)]
    images = splits["train"][0]
    levels = {"digits": 16}.get(source, 255) if images.dtype == torch.uint8 else None
    given = facts.kind == "token" or mean  # without training images they must be
    computed = (None, None) if given else _moments(images, levels)
    return DataSet(
        name=name,
        classes=facts.classes,
        bounds=bounds,
        levels=levels,
        mean=tuple(mean) if mean else computed[0],
        std=tuple(std) if std else computed[1],
        splits={split: splits[split] for split in SPLITS} | splits,
        ranges=ranges,
        own_moments=bool(mean),
    )


def _pools(settings: DataSettings, *, name: str, threads: int) -> dict[str, Pool]:
    """The images of a source that are apart: split -> pool, of "train" at least, or of "test" where
    there are none to train on."""
    if settings.source == "image_folder":
        return folder_pools(settings, threads=threads, name=name)
    if settings.source == "npz":
        return array_pools(vars(settings), name=name)
    return published_pools(settings, threads=threads, name=name)


def _dealt(pools: Mapping[str, Pool], settings: DataSettings, *, name: str) -> dict[str, Labelled]:
    """The pools dealt out to the splits; a split without a pool has its images from "train", or
    from "test" where there is no such pool."""
    sizes = {"test": settings.test, "validation": settings.validation, "train": settings.train}
    splits, rest = {}, "train" if "train" in pools else "test"
    for stream, (pool, (labels, read)) in enumerate(pools.items()):
        if pool not in sizes:  # a further test set, of all that is there
            sizes = {**sizes, pool: None}
        share = [pool, *(s for s in sizes if pool == rest and s not in pools)]
        counts = _counts(
            {split: count for split, count in sizes.items() if split in share},
            len(labels),
            name=name,
        )
        order = stratified_order(labels, np.random.default_rng([settings.split_seed, stream]))
        for split, count in counts.items():
            chosen, order = order[:count], order[count:]
            pixels, numbers = map(np.ascontiguousarray, read(chosen))
            # Not NumPy's strides: with those of one channel, torch takes channels for the last.
            images = torch.from_numpy(pixels.ravel()).view(pixels.shape)
            if settings.size is not None and settings.source != "image_folder":
                images = scaled(images, settings.size)
            splits[split] = images, torch.from_numpy(numbers.astype(np.int64))
    return splits


def _widths(ranges: Ranges) -> list[float]:
    """highest - lowest of each feature or channel; 1 where both are the same."""
    return [high - low or 1.0 for low, high in zip(*ranges, strict=True)]


def _in_ranges(splits: Mapping[str, Labelled]) -> tuple[dict[str, Labelled], Bounds, Ranges]:
    """(splits, bounds, ranges): values float64 [n, d, ...] as float32 shares of the range that each
    feature or channel has in the train split (ours). Values of other splits beyond it are put to
    its end, and how many is told."""
    values = splits["train" if len(splits["train"][1]) else "validation"][0]
    every = [axis for axis in range(values.ndim) if axis != 1]
    low, high = values.amin(every), values.amax(every)
    ranges = tuple(low.tolist()), tuple(high.tolist())
    place = [-1, *[1] * (len(every) - 1)]
    width = torch.tensor(_widths(ranges), dtype=torch.double).reshape(place)
    low, high = low.reshape(place), high.reshape(place)
    shares = {}
    for split, (values, labels) in splits.items():
        inside = values.clamp(low, high)
        if beyond := (inside != values).sum().item():
            print(
                f"{split}: {beyond} of {values.numel()} values lie beyond the range of their "
                "feature in the train split and are put to its end"
            )
        shares[split] = ((inside - low) / width).float().clamp(0, 1), labels
    varies = (high > low).float()
    constant = int((varies == 0).sum())
    if not constant:
        return shares, (0.0, 1.0), ranges
    print(f"{constant} of {varies.numel()} features are the same in all of the train split")
    return shares, (torch.zeros_like(varies), varies), ranges


def scaled(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 images [n, c, h, w] as uint8 [n, c, size, size]: bilinear, antialiased, rounded."""
    if not len(images):
        return images.new_empty(*images.shape[:2], size, size)
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True).round().byte()
        for part in torch.split(images, 1000)
    ]
    return torch.cat(parts)


def stratified_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of the indices of labels [n] with the classes spread evenly along it (ours).

    With classes of about the same size, any first k hold each class in proportion, give or take
    one, and any k in a row give or take two.
    """
    order = rng.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[order] == label)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(position, kind="stable")]


def _counts(wanted: dict[str, int | None], available: int, *, name: str) -> dict[str, int]:
    """The number of images of each split, with None resolved."""
    rest = [split for split, count in wanted.items() if count is None]
    if len(rest) > 1:
        raise UserError(
            f"datasets.{name}.{rest[0]}: give a number; {' and '.join(rest)} come from the same "
            f"{available} images and cannot both be all that are left"
        )
    left = available
    for split, count in wanted.items():
        if count is None:
            continue
        if count < (split == "test"):
            raise UserError(f"datasets.{name}.{split}: {count} images are too few; give more")
        if count > left:
            raise UserError(
                f"datasets.{name}.{split}: {count} images wanted, but of {available} only {left} "
                "are left; give a smaller number"
            )
        left -= count
    if not left and rest and rest != ["validation"]:
        raise UserError(
            f"datasets.{name}.{rest[0]}: none of {available} images is left for it; "
            "make the other splits smaller"
        )
    return {split: left if count is None else count for split, count in wanted.items()}


def _moments(
    images: torch.Tensor, levels: int | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation per channel, in pixel units."""
    mean, std = [], []
    for channel in images.unbind(1):
        if levels is None:
            values = channel.double().flatten()
            weights = torch.ones(len(values), dtype=torch.double)
        else:  # a histogram: exact, and small where float copies of the images are not
            weights = channel.flatten().bincount(minlength=256).double()
            values = torch.arange(256, dtype=torch.double) / levels
        centre = ((values * weights).sum() / weights.sum()).item()
        variance = ((values - centre) ** 2 * weights).sum() / weights.sum()
        mean.append(centre)
        std.append(math.sqrt(variance) or 1.0)  # a constant channel: nothing to scale
    return tuple(mean), tuple(std)


def images_of(dataset: DataSet, split: str, count: int | None = None) -> Labelled:
    """(images in pixel units, labels) of a split, the first `count` of them: a fair sample, as
    splits are in a stratified order."""
    images, labels = (part[:count] for part in dataset.splits[split])
    return dataset.pixels(images), labels


def test_images(dataset: DataSet) -> Labelled:
    """(images in pixel units, labels) of the test split."""
    return images_of(dataset, "test")
