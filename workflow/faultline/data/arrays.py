"""The user's own arrays of images, signals, features or tokens in one file. No torch."""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from faultline.base.errors import UserError, printable
from faultline.data.decode import Pool, array_pool, in_one_line
from faultline.data.sources import PIXELS, VALIDATION, Source, named_splits

EXPECTED = {
    "images": "uint8, uint16 or float [n, height, width], [n, channels, height, width] or "
    "[n, height, width, channels]",
    "signals": "numbers [n, channels, steps]",
    "features": "numbers [n, features]",
    "tokens": "whole numbers [n, tokens]",
}
"""What an array is called after its split -> what it must be."""

LARGEST = 1e100
"""Of signals and features; the range of larger ones is beyond floats."""

DARK = 0.25
"""Share of the range that some pixel is above, or it is warned (ours)."""

_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, RuntimeError),
    *(MemoryError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
_DEFLATE = 1032
"""How many times smaller a member of a zip file can at most be than what it holds."""


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name -> (shape, dtype) of the arrays in a .npz file, without their content; ValueError where
    one would be larger than what the file can hold of it, as no memory is taken before."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
                stated, held = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
            name = entry.filename.removesuffix(".npy")
            if not dtype.hasobject and (stated != held or stated > _DEFLATE * entry.compress_size):
                raise ValueError(f"{name} says it has {stated} bytes and holds {held}")
            headers[name] = shape, dtype
    return headers


def _arrays(path: Path, *keys: str) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[key] for key in keys]
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: cannot be read ({in_one_line(error)}); write it with numpy.savez, without objects"
    )


class _Content(NamedTuple):
    """What a .npz file holds of use, by its headers.

    what: one of `EXPECTED`. called: split -> how the names of its arrays begin. shapes: split ->
    the shape of its array of samples. keras: whether these are called x_train and y_train.
    """

    path: Path
    what: str
    called: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    keras: bool

    def keys(self, split: str) -> tuple[str, str]:
        """The names of the arrays of samples and of labels."""
        if self.keras:
            return f"x_{self.called[split]}", f"y_{self.called[split]}"
        return f"{self.called[split]}_{self.what}", f"{self.called[split]}_labels"


def _content(dataset: Mapping[str, Any], *, name: str) -> _Content:
    """What the file of a data set holds, checked."""
    if not dataset.get("file"):
        raise UserError(f"config key datasets.{name}.file: missing; name the .npz file")
    path = Path(dataset["file"]).expanduser()
    if not path.is_file():
        raise UserError(f"config key datasets.{name}.file: no such file: {path}")
    try:
        headers = _headers(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if keras := "x_train" in headers and "train_labels" not in headers:
        headers = {_of_keras(key, headers["x_train"][0]): of for key, of in headers.items()}
    kinds = [what for what in EXPECTED if f"train_{what}" in headers]
    if len(kinds) > 1:
        raise UserError(
            f"{path}: holds train_{kinds[0]} and train_{kinds[1]}; give each a file of its own"
        )
    what = (kinds or ["images"])[0]
    sets = [
        each
        for each in ("test", *VALIDATION)
        if f"{each}_{what}" in headers or f"{each}_labels" in headers
    ]
    called = named_splits(["train", *sets], origin=str(path), form="{}_" + what)
    content = _Content(path, what, called, {}, keras)
    for split in called:
        keys = content._replace(keras=False).keys(split)
        if missing := [key for key in keys if key not in headers]:
            raise UserError(
                f"{path}: there is no array {missing[0]}, only {', '.join(sorted(headers))}; "
                f"expected train_{what} and train_labels, and both or none of test and validation"
                + ("" if kinds else f" (in place of images: {', '.join(list(EXPECTED)[1:])})")
            )
        (shape, dtype), (label_shape, label_dtype) = (headers[key] for key in keys)
        if not _fits(what, dtype, shape):
            raise UserError(
                f"{path}: {keys[0]} is {dtype} {list(shape)}, expected {EXPECTED[what]}"
            )
        if label_dtype.kind not in "iu" or len(label_shape) != 1 + (label_shape[1:] == (1,)):
            raise UserError(
                f"{path}: {keys[1]} is {label_dtype} {list(label_shape)}, expected whole numbers "
                "[n], the class of each image from 0"
            )
        if shape[0] != label_shape[0] or shape[0] < 1:
            raise UserError(
                f"{path}: {keys[0]} holds {shape[0]} {what}, but {keys[1]} {label_shape[0]} "
                "labels; give as many of both, at least one"
            )
        content.shapes[split] = shape
        first = content.shapes["train"], headers[f"train_{what}"][1]
        if (shape[1:], dtype) != (first[0][1:], first[1]):
            raise UserError(
                f"{path}: {keys[0]} holds {dtype} {list(shape[1:])}, but train_{what} {first[1]} "
                f"{list(first[0][1:])}; give all the same"
            )
    return content


def _of_keras(key: str, shape: tuple[int, ...]) -> str:
    """What an array that keras calls x_train or y_train is called here; shape: that of x_train."""
    letter, _, split = key.partition("_")
    what = {"x": "images" if len(shape) > 2 else "features", "y": "labels"}.get(letter)
    return f"{split}_{what}" if what and split else key


def _fits(what: str, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether an array of this name may be of this type and shape."""
    if min(shape[1:], default=0) < 1:
        return False
    if what == "images":
        return (dtype in (np.uint8, np.uint16) or dtype.kind == "f") and len(shape) in (3, 4)
    kinds = "iu" if what == "tokens" else "iuf"
    return len(shape) == (3 if what == "signals" else 2) and dtype.kind in kinds


def _channel_axis(path: Path, shape: tuple[int, ...]) -> int | None:
    """Which axis of images [n, ...] holds the channels: the one of 4 or fewer, the first of two;
    of more channels the one beside two sides that are equal."""
    if len(shape) == 3:
        return None
    for axis in (1, 3):
        if shape[axis] <= 4:
            return axis
    square = [axis for axis, sides in ((1, shape[2:]), (3, shape[1:3])) if sides[0] == sides[1]]
    if len(square) == 1:
        return square[0]
    raise UserError(
        f"{path}: images of shape {list(shape[1:])} do not show which axis holds the channels; "
        "expected [n, channels, height, width] or [n, height, width, channels], of 1 to 4 channels "
        "or of square images"
    )


def describe_arrays(dataset: Mapping[str, Any], *, name: str) -> Source:
    """Shape and classes of a data set of source `npz`, from the headers and the labels.

    Without the key `classes` there are as many as the largest label says.
    """
    content = _content(dataset, name=name)
    path, what, shapes = content.path, content.what, content.shapes
    keys = {split: content.keys(split) for split in shapes}
    shape, vocabulary = shapes["train"][1:], None
    if what == "images":
        axis, (*sides,) = _channel_axis(path, shapes["train"]), shape
        shape = (sides.pop(axis - 1) if axis else 1, *sides)
    elif what == "tokens":
        vocabulary = 1 + max(
            int(_numbers(path, key, tokens).max())
            for key, _ in keys.values()
            for tokens in _arrays(path, key)
        )
    of_splits = [labels.ravel() for labels in _arrays(path, *(key for _, key in keys.values()))]
    labels = dict(zip(keys, of_splits, strict=True))
    classes = dataset["classes"] or int(max(each.max() for each in labels.values())) + 1
    for split, of_split in labels.items():
        if of_split.min() < 0 or of_split.max() >= classes:
            worst = of_split.min() if of_split.min() < 0 else of_split.max()
            raise UserError(
                f"{path}: {keys[split][1]} holds the label {worst}, expected 0 to {classes - 1}; "
                f"mend the labels or the config key datasets.{name}.classes"
            )
    if not dataset["classes"]:
        _check_numbered([*labels.values()], path=path, name=name)
    if classes < 2:
        raise UserError(f"{path}: all labels are 0; expected at least two classes")
    learned = np.zeros(classes, bool)
    learned[labels["train"]] = True
    return Source(
        shape=shape,
        classes=classes,
        bounds=None if what == "tokens" else PIXELS,
        official_test="test" in shapes,
        train=shapes["train"][0],
        test=shapes.get("test", (0,))[0],
        official_validation="validation" in shapes,
        vocabulary=vocabulary,
        unlearned=tuple(np.flatnonzero(~learned).tolist()),
    )


def _check_numbered(labels: list[np.ndarray], *, path: Path, name: str) -> None:
    """UserError where labels that no key tells the number of do not seem to be numbered from 0."""
    used = np.unique(np.concatenate(labels))
    largest, key = int(used[-1]), f"the config key datasets.{name}.classes"
    if largest >= (count := sum(map(len, labels))):
        raise UserError(
            f"{path}: the largest of {count} labels is {largest}, so most classes would have no "
            f"sample; mend the labels, or give {key}"
        )
    if lowest := int(used[0]):
        remedy = f"labels - {lowest} in place of labels"
        if largest - lowest >= len(used):
            remedy = f"numbers from 0 to {len(used) - 1} in place of labels"
        raise UserError(
            f"{path}: labels run from {lowest} to {largest}, so a network would have "
            f"{largest + 1} outputs for {len(used)} classes; write the file anew with {remedy}, or "
            f"give {key} if it is meant, classes: {largest + 1}"
        )


def array_pools(dataset: Mapping[str, Any], *, name: str) -> dict[str, Pool]:
    """Pool of each split of a .npz file: images uint8 [n, c, h, w], or float32 in 0..1, of uint16
    as shares of 65535; signals and features float64 [n, ...] as they are; tokens int32 [n, t]."""
    content = _content(dataset, name=name)
    path, what, shapes = content.path, content.what, content.shapes
    axis, pools = _channel_axis(path, shapes["train"]) if what == "images" else None, {}
    used = [key for split in shapes for key in content.keys(split)]
    of_channels = f"; axis of the channels: {axis or 'none'}" if what == "images" else ""
    print(f"{path}: {', '.join(used)}{of_channels}")
    if others := sorted(set(_headers(path)) - set(used)):
        print(f"{path}: not used: {printable(', '.join(others))}")
    for split in shapes:
        key, key_of_labels = content.keys(split)
        images, labels = _arrays(path, key, key_of_labels)
        labels = labels.ravel()
        if what != "images":
            pools[split] = array_pool(_numbers(path, key, images), labels)
            continue
        if images.dtype == np.uint16:
            images = images.astype(np.float32) / 65535
        elif images.dtype != np.uint8:
            images = images.astype(np.float32)
            low, high = images.min(), images.max()
            if not (low >= 0 and high <= 1):  # NaN is in no range
                raise UserError(
                    f"{path}: {key} holds values from {low:g} to {high:g}, expected 0 to 1; give "
                    "pixels as uint8 or in 0..1 (networks normalise them themselves)"
                )
        top = 255 if images.dtype == np.uint8 else 1
        if split == "train" and (brightest := images.max()) < DARK * top:
            print(
                f"warning: {path}: no pixel of {key} is above {brightest:g}, of {top}, to which "
                "attacks are relative; if they have another range, scale them and write them anew"
            )
        pools[split] = array_pool(np.moveaxis(images, axis, 1) if axis else images[:, None], labels)
    return pools


def _numbers(path: Path, key: str, values: np.ndarray) -> np.ndarray:
    """Signals, features or tokens as they are kept in memory, checked."""
    if key.endswith("_tokens"):
        if values.min() < 0 or values.max() >= 2**31:
            worst = values.min() if values.min() < 0 else values.max()
            raise UserError(f"{path}: {key} holds {worst}, expected 0 to {2**31 - 1}")
        return values.astype(np.int32)
    values = values.astype(np.float64)
    if not (np.abs(values) <= LARGEST).all():  # NaN is not
        raise UserError(
            f"{path}: {key} holds values that are not finite, or beyond {LARGEST:g}; leave their "
            "samples out"
        )
    return values
