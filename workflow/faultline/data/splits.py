"""Data sets as resident tensors with the bounds of their values, split reproducibly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from faultline.base.errors import UserError, some
from faultline.data.arrays import array_pools
from faultline.data.describe import describe
from faultline.data.folders import folder_pools
from faultline.data.published import published_pools
from faultline.data.sources import SOURCE_NAMES
from faultline.networks.architectures import TokenNetwork

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and labels of the three splits.

    name:      as in the config.
    classes:   number of classes.
    bounds:    (lowest, highest) pixel value, or None. Tensors that broadcast over one sample where
               some feature is the same in all of the train split: its bounds are equal.
    levels:    a pixel is stored value / levels; None where values are stored as they are.
    mean, std: per channel (or feature), in pixel units: of the train split, or as given; None of
               tokens.
    splits:    "train", "validation", "test" -> (images, labels). Images are uint8 [n, c, h, w] with
               levels, or float32 [n, ...] without; tokens int32 [n, t]; labels are int64 [n]. Any
               first images of a split hold the classes in proportion.
    ranges:    of features or channels: the lowest and the highest value of each in the train split,
               in the units of their source. Images hold shares of it, which serve as pixel units;
               None where they hold values as they are.
    columns:   of tokens of a network: how many its embedding has, see `fitted`; else None.
    own_moments: whether mean and std are those of the config, not of the train split.
    """

    name: str
    classes: int
    bounds: tuple[float, float] | tuple[torch.Tensor, torch.Tensor] | None
    levels: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    splits: dict[str, tuple[torch.Tensor, torch.Tensor]]
    ranges: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    columns: int | None = None
    own_moments: bool = False

    @property
    def moments_key(self) -> str | None:
        """The key of the config that mean and std are from; None: of the train split."""
        return f"datasets.{self.name}.mean" if self.own_moments else None

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
        return images.float() if self.levels is None else images.float() / self.levels

    def to_tensors(self) -> dict:
        """A flat dict for torch.save that torch.load(weights_only=True) reads back."""
        apart = ("splits", "ranges", "columns", "own_moments")
        flat = {key: value for key, value in vars(self).items() if key not in apart}
        flat |= {"ranges": self.ranges} if self.ranges else {}
        flat |= {"own_moments": True} if self.own_moments else {}
        for split, (images, labels) in self.splits.items():
            flat |= {f"{split}_images": images, f"{split}_labels": labels}
        return flat

    @classmethod
    def from_tensors(cls, flat: dict) -> "DataSet":
        """The inverse of `to_tensors`."""
        fields = ("name", "classes", "bounds", "levels", "mean", "std")
        splits = {split: (flat[f"{split}_images"], flat[f"{split}_labels"]) for split in SPLITS}
        kept = {field: flat[field] for field in fields} | {"ranges": flat.get("ranges")}
        return cls(**kept, splits=splits, own_moments=flat.get("own_moments", False))


def prepare(
    source: str,
    *,
    validation: int | None,
    split_seed: int,
    train: int | None = None,
    test: int | None = None,
    folder: str | Path | None = None,
    file: str | Path | None = None,
    download: bool = False,
    noise: float = 0.2,
    samples: int = 3000,
    size: int | None = None,
    channels: int | None = 3,
    classes: int | None = None,
    on_bad_image: str = "stop",
    mean: list[float] | None = None,
    std: list[float] | None = None,
    threads: int = 1,
    name: str | None = None,
) -> DataSet:
    """The images of a source of the catalogue, in disjoint, stratified, seeded splits (ours).

    train, validation, test: numbers of images; None takes all that are left. Where a source has a
        test or validation set of its own, that split is a sample of it, and else of the train set.
        The test split does not depend on the size of the others. Images that are skipped as
        undecodable are not made up for.
    folder: where the files of fashion_mnist, mnist, cifar10 and tiny_imagenet are. Files of other
        than the official number of images are read too, but only official ones have a checksum.
        Of image_folder: the folder that holds train/, and perhaps test/ and validation/ (val/,
        valid/), which is the test set where there is no test/.
    file: of npz. classes: of npz; None counts them.
    download: fetch missing files into the folder with torchvision.
    noise, samples: of moons, which are drawn with split_seed and standardised over all samples.
    size: images are made size x size: those of image_folder by their shorter side and a cut of the
        centre, others as a whole; None leaves them as they are. channels: of image_folder.
    on_bad_image: what to do with an image of image_folder that cannot be decoded: stop or skip.
    mean, std: per channel in pixel units, or per feature in those of the source, to normalise with;
        None: computed from the train split.
    threads: that decode images.
    name: of the data set in the config; the source if not given.

    Raises UserError, which names the key or the file at fault.
    """
    name = name or source
    if source not in SOURCE_NAMES:
        raise UserError(
            f"datasets.{name}.source: {source!r} is unknown; choose one of "
            f"{', '.join(SOURCE_NAMES)}"
        )
    own = {"source": source, "folder": folder, "file": file, "size": size}
    own |= {"channels": channels, "classes": classes}
    facts = describe(own, name=name)
    if facts.unlearned:
        print(f"train: no sample of class {some(facts.unlearned)}, of {facts.classes} classes")
    if source == "image_folder":
        pools = folder_pools(
            folder,
            size=size,
            channels=channels,
            on_bad_image=on_bad_image,
            threads=threads,
            name=name,
        )
    elif source == "npz":
        pools = array_pools(own, name=name)
    else:
        pools = published_pools(
            source,
            folder=folder,
            download=download,
            noise=noise,
            samples=samples,
            seed=split_seed,
            threads=threads,
            name=name,
        )

    wanted = {"test": test, "validation": validation, "train": train}
    splits = {}
    for stream, (pool, (labels, read)) in enumerate(pools.items()):
        share = [pool, *(s for s in wanted if pool == "train" and s not in pools)]
        counts = {split: count for split, count in wanted.items() if split in share}
        counts = _counts(counts, len(labels), name=name)
        order = stratified_order(labels, np.random.default_rng([split_seed, stream]))
        for split, count in counts.items():
            chosen, order = order[:count], order[count:]
            images, found = map(np.ascontiguousarray, read(chosen))
            # Not NumPy's strides: with those of one channel, torch takes channels for the last.
            images = torch.from_numpy(images.ravel()).view(images.shape)
            if size is not None and source != "image_folder":
                images = scaled(images, size)
            splits[split] = images, torch.from_numpy(found.astype(np.int64))
    bounds, ranges = facts.bounds, None
    if facts.ranged:
        splits, bounds, ranges = _in_ranges(splits)
        low, width = ranges[0], _widths(ranges)
        mean = mean and [(m - at) / w for m, at, w in zip(mean, low, width, strict=True)]
        std = std and [s / w for s, w in zip(std, width, strict=True)]
    images = splits["train"][0]
    levels = {"digits": 16}.get(source, 255) if images.dtype == torch.uint8 else None
    computed = (None, None) if facts.kind == "token" else _moments(images, levels)
    return DataSet(
        name=name,
        classes=facts.classes,
        bounds=bounds,
        levels=levels,
        mean=tuple(mean) if mean else computed[0],
        std=tuple(std) if std else computed[1],
        splits={split: splits[split] for split in SPLITS},
        ranges=ranges,
        own_moments=bool(mean),
    )


def _widths(ranges: tuple[Sequence[float], Sequence[float]]) -> list[float]:
    """highest - lowest of each feature or channel; 1 where both are the same."""
    return [high - low or 1.0 for low, high in zip(*ranges, strict=True)]


def _in_ranges(splits: dict) -> tuple[dict, tuple, tuple]:
    """(splits, bounds, ranges): values float64 [n, d, ...] as float32 shares of the range that each
    feature or channel has in the train split (ours). Values of other splits beyond it are put to
    its end, and how many is told."""
    every = [axis for axis in range(splits["train"][0].ndim) if axis != 1]
    low, high = (end(splits["train"][0], dim=every) for end in (torch.amin, torch.amax))
    ranges = tuple(low.tolist()), tuple(high.tolist())
    place = [-1, *[1] * (len(every) - 1)]
    width = torch.tensor(_widths(ranges), dtype=torch.double).reshape(place)
    low, high = low.reshape(place), high.reshape(place)
    found = {}
    for split, (values, labels) in splits.items():
        inside = values.clamp(low, high)
        if beyond := (inside != values).sum().item():
            print(
                f"{split}: {beyond} of {values.numel()} values lie beyond the range of their "
                "feature in the train split and are put to its end"
            )
        found[split] = ((inside - low) / width).float().clamp(0, 1), labels
    varies = (high > low).float()
    constant = int((varies == 0).sum())
    if not constant:
        return found, (0.0, 1.0), ranges
    print(f"{constant} of {varies.numel()} features are the same in all of the train split")
    return found, (torch.zeros_like(varies), varies), ranges


def scaled(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 images [n, c, h, w] as uint8 [n, c, size, size]: bilinear, antialiased, rounded."""
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True).round().byte()
        for part in images.split(1000)
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
        if count < (split != "validation"):
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


def _moments(images: torch.Tensor, levels: int | None) -> tuple[tuple, tuple]:
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


def images_of(
    dataset: DataSet, split: str, count: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(images in pixel units, labels) of a split, the first `count` of them: a fair sample, as
    splits are in a stratified order."""
    images, labels = (part[:count] for part in dataset.splits[split])
    return dataset.pixels(images), labels


def test_images(dataset: DataSet) -> tuple[torch.Tensor, torch.Tensor]:
    """(images in pixel units, labels) of the test split."""
    return images_of(dataset, "test")
