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
from faultline.data.sources import ALSO, PIXELS, VALIDATION, Source, named_splits

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


Header = tuple[tuple[int, ...], np.dtype]
Headers = dict[str, Header]
"""Name of an array -> its shape and type."""


def _headers(path: Path) -> Headers:
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
    """What .npz files hold of use, by their headers.

    path: of the file of the data set. what: one of `EXPECTED`. shapes: split of that file -> the
    shape of its array of samples. places: split, of a further test set, too -> its file, and the
    names of its arrays of samples and of labels.
    """

    path: Path
    what: str
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, tuple[Path, tuple[str, str]]]


def _content(dataset: Mapping[str, Any], *, name: str) -> _Content:
    """What the file of a data set holds, checked."""
    if not dataset.get("file"):
        raise UserError(f"config key datasets.{name}.file: missing; name the .npz file")
    path, headers = _opened(dataset["file"], key=f"datasets.{name}.file")
    x = next((key for key in ("x_train", "x_test") if key in headers), "")
    if keras := bool(x) and f"{x[2:]}_labels" not in headers:
        headers = {_of_keras(key, headers[x][0]): of for key, of in headers.items()}
    first = "train"
    if dataset.get("train") == 0:  # whatever is there tells what it is
        there = (each for each in (first, "test", *VALIDATION) if f"{each}_labels" in headers)
        first = next(there, "test")
    kinds = [what for what in EXPECTED if f"{first}_{what}" in headers]
    if len(kinds) > 1:
        raise UserError(
            f"{path}: holds {first}_{kinds[0]} and {first}_{kinds[1]}; give each a file of its own"
        )
    what = (kinds or ["images"])[0]
    sets = [
        each
        for each in ("test", *VALIDATION)
        if f"{each}_{what}" in headers or f"{each}_labels" in headers
    ]
    called = named_splits(dict.fromkeys([first, *sets]), origin=str(path), form="{}_" + what)
    content = _Content(path, what, {}, {})
    for split, begin in called.items():
        keys = f"{begin}_{what}", f"{begin}_labels"
        expected = (
            f"expected {first}_{what} and {first}_labels, and both or none of test and validation"
        )
        others = "" if kinds else f" (in place of images: {', '.join(list(EXPECTED)[1:])})"
        _check_there(path, headers, keys, expected + others)
        learned = f"{first}_{what}", headers[f"{first}_{what}"]
        content.shapes[split] = _checked(path, headers, keys, what, *learned)
        in_file = (f"x_{begin}", f"y_{begin}") if keras else keys
        content.places[split] = path, in_file
    keys = f"test_{what}", "test_labels"
    for further, file in (dataset.get("also") or {}).items():
        other, headers = _opened(file, key=f"datasets.{name}.also.{further}")
        _check_there(other, headers, keys, f"a further test set holds {keys[0]} and {keys[1]}")
        _checked(other, headers, keys, what, *learned)
        content.places[ALSO.format(further)] = other, keys
    return content


def _opened(file: str | Path, *, key: str) -> tuple[Path, Headers]:
    """A .npz file that a key of the config names, and its headers."""
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"config key {key}: no such file: {path}")
    try:
        return path, _headers(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _check_there(path: Path, headers: Headers, keys: tuple[str, str], expected: str) -> None:
    """UserError where an array is missing, with what was expected."""
    if missing := [key for key in keys if key not in headers]:
        raise UserError(
            f"{path}: there is no array {missing[0]}, only {', '.join(sorted(headers))}; {expected}"
        )


def _checked(
    path: Path, headers: Headers, keys: tuple[str, str], what: str, first: str, learned: Header
) -> tuple[int, ...]:
    """The shape of an array of samples that fits its labels, and what is learned from; first: what
    that is called."""
    (shape, dtype), (label_shape, label_dtype) = (headers[key] for key in keys)
    if not _fits(what, dtype, shape):
        raise UserError(f"{path}: {keys[0]} is {dtype} {list(shape)}, expected {EXPECTED[what]}")
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
    if (shape[1:], dtype) != (learned[0][1:], learned[1]):
        raise UserError(
            f"{path}: {keys[0]} holds {dtype} {list(shape[1:])}, but {first} {learned[1]} "
            f"{list(learned[0][1:])}; give all the same"
        )
    return shape


def _of_keras(key: str, shape: tuple[int, ...]) -> str:
    """What an array that keras calls x_train or y_train is called here; shape: that of samples."""
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
    first = next(iter(shapes))
    shape, vocabulary = shapes[first][1:], None
    if what == "images":
        axis, (*sides,) = _channel_axis(path, shapes[first]), shape
        shape = (sides.pop(axis - 1) if axis else 1, *sides)
    elif what == "tokens":
        vocabulary = 1 + max(
            int(_numbers(place, key, *_arrays(place, key)).max())
            for place, (key, _) in content.places.values()
        )
    labels = {
        split: _arrays(place, key)[0].ravel() for split, (place, (_, key)) in content.places.items()
    }
    classes = dataset["classes"] or int(max(labels[split].max() for split in shapes)) + 1
    for split, of_split in labels.items():
        if of_split.min() < 0 or of_split.max() >= classes:
            worst = of_split.min() if of_split.min() < 0 else of_split.max()
            place, (_, key) = content.places[split]
            raise UserError(
                f"{place}: {key} holds the label {worst}, expected 0 to {classes - 1}; "
                f"mend the labels or the config key datasets.{name}.classes"
            )
    if not dataset["classes"]:
        _check_numbered([labels[split] for split in shapes], path=path, name=name)
    if classes < 2:
        raise UserError(f"{path}: all labels are 0; expected at least two classes")
    learned = np.zeros(classes, bool)
    learned[labels[first]] = True
    return Source(
        shape=shape,
        classes=classes,
        bounds=None if what == "tokens" else PIXELS,
        official_test="test" in shapes,
        train=shapes.get("train", (0,))[0],
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
    first = next(iter(shapes))
    axis, pools = _channel_axis(path, shapes[first]) if what == "images" else None, {}
    used = [key for split in shapes for key in content.places[split][1]]
    of_channels = f"; axis of the channels: {axis or 'none'}" if what == "images" else ""
    print(f"{path}: {', '.join(used)}{of_channels}")
    if others := sorted(set(_headers(path)) - set(used)):
        print(f"{path}: not used: {printable(', '.join(others))}")
    for split, (path, keys) in content.places.items():
        key = keys[0]
        images, labels = _arrays(path, *keys)
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
        if split == first and (brightest := images.max()) < DARK * top:
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
