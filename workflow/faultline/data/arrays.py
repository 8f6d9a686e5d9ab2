"""The user's own arrays of images, signals, features or tokens in one file. No torch."""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from faultline.base.errors import UserError, printable
from faultline.data.decode import SPLITS, Pool, array_pool, in_one_line
from faultline.data.sources import PIXELS, Source

EXPECTED = {
    "images": "uint8 or float [n, height, width], [n, channels, height, width] or "
    "[n, height, width, channels]",
    "signals": "numbers [n, channels, steps]",
    "features": "numbers [n, features]",
    "tokens": "whole numbers [n, tokens]",
}
"""What an array is called after its split -> what it must be."""

LARGEST = 1e100
"""Of signals and features; the range of larger ones is beyond floats."""

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
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
                told, held = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
            name = entry.filename.removesuffix(".npy")
            if not dtype.hasobject and (told != held or told > _DEFLATE * entry.compress_size):
                raise ValueError(f"{name} says it has {told} bytes and holds {held}")
            found[name] = shape, dtype
    return found


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


def _array_shapes(dataset: dict, *, name: str) -> tuple[Path, str, dict[str, tuple[int, ...]]]:
    """(the file, of `EXPECTED` what it holds, split -> its shape), from the headers, checked."""
    if not dataset.get("file"):
        raise UserError(f"config key datasets.{name}.file: missing; name the .npz file")
    path = Path(dataset["file"]).expanduser()
    if not path.is_file():
        raise UserError(f"config key datasets.{name}.file: no such file: {path}")
    try:
        headers = _headers(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    found = [what for what in EXPECTED if f"train_{what}" in headers]
    if len(found) > 1:
        raise UserError(
            f"{path}: holds train_{found[0]} and train_{found[1]}; give each a file of its own"
        )
    what, shapes = (found or ["images"])[0], {}
    for split in SPLITS:
        keys = f"{split}_{what}", f"{split}_labels"
        missing = [key for key in keys if key not in headers]
        if len(missing) == 2 and split != "train":
            continue
        if missing:
            raise UserError(
                f"{path}: there is no array {missing[0]}, only {', '.join(sorted(headers))}; "
                f"expected train_{what} and train_labels, and both or none of test and validation"
                + ("" if found else f" (in place of images: {', '.join(list(EXPECTED)[1:])})")
            )
        (shape, dtype), (label_shape, label_dtype) = (headers[key] for key in keys)
        if not _fits(what, dtype, shape):
            raise UserError(
                f"{path}: {keys[0]} is {dtype} {list(shape)}, expected {EXPECTED[what]}"
            )
        if label_dtype.kind not in "iu" or len(label_shape) != 1:
            raise UserError(
                f"{path}: {keys[1]} is {label_dtype} {list(label_shape)}, expected whole numbers "
                "[n], the class of each image from 0"
            )
        if shape[0] != label_shape[0] or shape[0] < 1:
            raise UserError(
                f"{path}: {keys[0]} holds {shape[0]} {what}, but {keys[1]} {label_shape[0]} "
                "labels; give as many of both, at least one"
            )
        shapes[split] = shape
        first = shapes["train"], headers[f"train_{what}"][1]
        if (shape[1:], dtype) != (first[0][1:], first[1]):
            raise UserError(
                f"{path}: {keys[0]} holds {dtype} {list(shape[1:])}, but train_{what} {first[1]} "
                f"{list(first[0][1:])}; give all the same"
            )
    return path, what, shapes


def _fits(what: str, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether an array of this name may be of this type and shape."""
    if min(shape[1:], default=0) < 1:
        return False
    if what == "images":
        return (dtype == np.uint8 or dtype.kind == "f") and len(shape) in (3, 4)
    kinds = "iu" if what == "tokens" else "iuf"
    return len(shape) == (3 if what == "signals" else 2) and dtype.kind in kinds


def _channel_axis(path: Path, shape: tuple[int, ...]) -> int | None:
    """Which axis of images [n, ...] holds the channels: the one of 4 or fewer, the first of two."""
    if len(shape) == 3:
        return None
    for axis in (1, 3):
        if shape[axis] <= 4:
            return axis
    raise UserError(
        f"{path}: images of shape {list(shape[1:])} have no axis of 1 to 4 channels; expected "
        "[n, channels, height, width] or [n, height, width, channels]"
    )


def describe_arrays(dataset: dict, *, name: str) -> Source:
    """Shape and classes of a data set of source `npz`, from the headers and the labels.

    Without the key `classes` there are as many as the largest label says.
    """
    path, what, shapes = _array_shapes(dataset, name=name)
    shape, vocabulary = shapes["train"][1:], None
    if what == "images":
        axis, (*sides,) = _channel_axis(path, shapes["train"]), shape
        shape = (sides.pop(axis - 1) if axis else 1, *sides)
    elif what == "tokens":
        vocabulary = 1 + max(
            int(_numbers(path, key, tokens).max())
            for key in [f"{split}_tokens" for split in shapes]
            for tokens in _arrays(path, key)
        )
    labels = _arrays(path, *(f"{split}_labels" for split in shapes))
    classes = dataset["classes"] or int(max(of_split.max() for of_split in labels)) + 1
    for split, of_split in zip(shapes, labels, strict=True):
        if of_split.min() < 0 or of_split.max() >= classes:
            worst = of_split.min() if of_split.min() < 0 else of_split.max()
            raise UserError(
                f"{path}: {split}_labels holds the label {worst}, expected 0 to {classes - 1}; "
                f"mend the labels or the config key datasets.{name}.classes"
            )
    if not dataset["classes"] and classes > (count := sum(map(len, labels))):
        raise UserError(
            f"{path}: the largest of {count} labels is {classes - 1}, so most classes would have "
            f"no sample; mend the labels, or give the config key datasets.{name}.classes"
        )
    if classes < 2:
        raise UserError(f"{path}: all labels are 0; expected at least two classes")
    return Source(
        shape=shape,
        classes=classes,
        bounds=None if what == "tokens" else PIXELS,
        official_test="test" in shapes,
        train=shapes["train"][0],
        test=shapes.get("test", (0,))[0],
        official_validation="validation" in shapes,
        vocabulary=vocabulary,
    )


def array_pools(dataset: dict, *, name: str) -> dict[str, Pool]:
    """Pool of each split of a .npz file: images uint8 [n, c, h, w], or float32 in 0..1; signals and
    features float64 [n, ...] as they are; tokens int32 [n, t]."""
    path, what, shapes = _array_shapes(dataset, name=name)
    axis, pools = _channel_axis(path, shapes["train"]) if what == "images" else None, {}
    used = [f"{split}_{part}" for split in shapes for part in (what, "labels")]
    of_channels = f"; axis of the channels: {axis or 'none'}" if what == "images" else ""
    print(f"{path}: {', '.join(used)}{of_channels}")
    if others := sorted(set(_headers(path)) - set(used)):
        print(f"{path}: not used: {printable(', '.join(others))}")
    for split in shapes:
        images, labels = _arrays(path, f"{split}_{what}", f"{split}_labels")
        if what != "images":
            pools[split] = array_pool(_numbers(path, f"{split}_{what}", images), labels)
            continue
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
            low, high = images.min(), images.max()
            if not (low >= 0 and high <= 1):  # NaN is in no range
                raise UserError(
                    f"{path}: {split}_images holds values from {low:g} to {high:g}, expected 0 to "
                    "1; give pixels as uint8 or in 0..1 (networks normalise them themselves)"
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
