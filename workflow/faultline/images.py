"""Images from files: decoding in general, and the user's own folders and arrays. No torch."""

import os
import zipfile
import zlib
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from faultline.catalogue import Source
from faultline.errors import UserError

SPLITS = ("train", "test", "validation")
_PIXELS = (0.0, 1.0)


class Pool(NamedTuple):
    """Labelled images of which splits take their share.

    labels: int [n]. read: indices into them -> (images, labels) at these indices, without those
    images that are skipped because they cannot be read.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def array_pool(images: np.ndarray, labels: np.ndarray) -> Pool:
    """A pool of images [n, ...] that are in memory."""
    return Pool(labels, lambda chosen: (images[chosen], labels[chosen]))


def file_pool(paths: list[Path], labels: np.ndarray, **how) -> Pool:
    """A pool of image files; `how`: the keywords of `decode`."""

    def read(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, good = decode([paths[index] for index in chosen], **how)
        return images, labels[chosen[good]]

    return Pool(labels, read)


def in_one_line(error: BaseException) -> str:
    """What an exception says, short and without line ends."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def decode(
    paths: list[Path],
    *,
    convert: Callable,
    shape: tuple[int, int, int],
    formats: Collection[str],
    threads: int,
    remedy: str,
    skip: bool = False,
) -> tuple[np.ndarray, list[int]]:
    """(uint8 images [n, *shape], their indices in `paths`), decoded by that many threads.

    convert: PIL image -> array of that shape. formats: of PIL, that are tried. skip: leave out the
    images that cannot be decoded, and print which. Else raises UserError, which ends in `remedy`.
    """
    from PIL import Image

    Image.init()  # not safe to leave to the threads

    def attempt(path: Path) -> np.ndarray | str:
        try:
            with Image.open(path, formats=formats) as image:
                return convert(image)
        except MemoryError:
            raise
        except Exception as error:  # a broken image can raise anything
            return f"{path}: cannot be decoded ({in_one_line(error)})"

    images, good, bad = np.empty((len(paths), *shape), np.uint8), [], []
    with ThreadPoolExecutor(threads) as pool:
        for index, found in enumerate(pool.map(attempt, paths)):
            if isinstance(found, np.ndarray):
                images[len(good)] = found
                good.append(index)
            elif skip:
                bad.append(found)
            else:
                raise UserError(f"{found}; {remedy}")
            if (index + 1) % 1000 == 0 or index + 1 == len(paths):
                print(f"decoded {index + 1} of {len(paths)} images", flush=True)
    if bad:
        print("\n".join([f"skipped {len(bad)} of {len(paths)} images:", *bad]))
    if bad and not good:
        raise UserError(f"{bad[0]}, nor can any other of {len(paths)} images; {remedy}")
    return images[: len(good)], good


# A folder of class folders


def class_folders(folder: str | Path, *, name: str) -> dict[str, list[str]]:
    """Split -> its class folders in alphabetical order, for the splits that `folder` has.

    A class is numbered by its place in that order, as in torchvision's ImageFolder. Raises
    UserError without train/, with fewer than two classes, or where the splits differ in them.
    """
    root = Path(folder).expanduser()
    found = {}
    for split in SPLITS:
        if (root / split).is_dir():
            with os.scandir(root / split) as entries:
                names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
            found[split] = sorted(names)
    if "train" not in found:
        raise UserError(
            f"config key datasets.{name}.folder: there is no folder {root / 'train'}; name the "
            "folder that holds train/ (and test/), each with one folder per class"
        )
    if len(found["train"]) < 2:
        raise UserError(
            f"{root / 'train'}: {len(found['train'])} class folders; expected at least two, each "
            "with the images of one class"
        )
    for split, classes in found.items():
        if odd := sorted(set(classes) ^ set(found["train"])):
            more = f" and {len(odd) - 3} more" * (len(odd) > 3)
            raise UserError(
                f"{root / split}: its classes differ from those of {root / 'train'} "
                f"({', '.join(odd[:3])}{more} in one of them only); give both the same folders"
            )
    return found


def folders(folder: str | Path, *, name: str) -> list[str]:
    """The class folders of every split: they change when an image is added, removed or renamed."""
    root = Path(folder).expanduser()
    splits = class_folders(folder, name=name)
    return [str(root / split / c) for split, classes in splits.items() for c in classes]


def describe_folder(dataset: dict, *, name: str) -> Source:
    """Shape and classes of a data set of source `image_folder`, from the names of its folders."""
    for key in ("folder", "size"):
        if not dataset.get(key):
            raise UserError(
                f"config key datasets.{name}.{key}: missing; an image_folder needs its folder and "
                "the size that images are brought to, in pixels"
            )
    splits = class_folders(dataset["folder"], name=name)
    return Source(
        shape=(dataset["channels"], dataset["size"], dataset["size"]),
        classes=len(splits["train"]),
        bounds=_PIXELS,
        official_test="test" in splits,
        train=None,
        test=None,
        official_validation="validation" in splits,
    )


def folder_pools(
    folder: str | Path, *, size: int, channels: int, on_bad_image: str, threads: int, name: str
) -> dict[str, Pool]:
    """Pool of each split that the folder has. Files that PIL does not know by name are left out."""
    from PIL import Image

    known = Image.registered_extensions()
    # PIL hands PostScript to a program that executes it
    formats = sorted(Image.OPEN.keys() - {"EPS"})
    pools = {}
    for split, classes in class_folders(folder, name=name).items():
        paths, labels, others = [], [], []
        for label, of_class in enumerate(classes):
            place = Path(folder).expanduser() / split / of_class
            files = sorted(path for path in place.rglob("*") if path.is_file())
            images = [path for path in files if known.get(path.suffix.lower()) in formats]
            if not images:
                raise UserError(
                    f"{place}: there is no image in it (of {len(files)} files); put some there, or "
                    f"remove the class {of_class} from every split"
                )
            others += sorted(set(files) - set(images))
            paths += images
            labels += [label] * len(images)
        print(f"{split}: {len(paths)} images of {len(classes)} classes")
        if others:
            print(f"{split}: {len(others)} other files left out, such as {others[0]}")
        pools[split] = file_pool(
            paths,
            np.array(labels),
            convert=partial(square, size=size, channels=channels),
            shape=(channels, size, size),
            formats=formats,
            threads=threads,
            remedy=f"mend or remove it, or set datasets.{name}.on_bad_image to skip",
            skip=on_bad_image == "skip",
        )
    return pools


def square(image, *, size: int, channels: int) -> np.ndarray:
    """A PIL image as uint8 [channels, size, size].

    The shorter side is resized to `size`, bilinear with antialiasing, and the centre is cut out of
    the longer one: the numbers of torchvision's Resize and CenterCrop.
    """
    from PIL import Image

    if image.mode.startswith("I;16"):  # PIL would clip all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its 32-bit pixels have no known range; expected 8 or 16 bits")
    image = image.convert("L" if channels == 1 else "RGB")
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)


# One file of arrays

_UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name -> (shape, dtype) of the arrays in a .npz file, without their content."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            with archive.open(entry) as file:
                shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
                found[entry.removesuffix(".npy")] = shape, dtype
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


def _array_shapes(dataset: dict, *, name: str) -> tuple[Path, dict[str, tuple[int, ...]]]:
    """(the file, split -> shape of its images), from the headers of a .npz file, checked."""
    if not dataset.get("file"):
        raise UserError(f"config key datasets.{name}.file: missing; name the .npz file")
    path = Path(dataset["file"]).expanduser()
    if not path.is_file():
        raise UserError(f"config key datasets.{name}.file: no such file: {path}")
    try:
        headers = _headers(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    shapes = {}
    for split in SPLITS:
        keys = f"{split}_images", f"{split}_labels"
        missing = [key for key in keys if key not in headers]
        if len(missing) == 2 and split != "train":
            continue
        if missing:
            raise UserError(
                f"{path}: there is no array {missing[0]}, only {', '.join(sorted(headers))}; "
                "expected train_images and train_labels, and both or none of test and validation"
            )
        (shape, dtype), (label_shape, label_dtype) = (headers[key] for key in keys)
        if (dtype != np.uint8 and dtype.kind != "f") or len(shape) not in (3, 4):
            raise UserError(
                f"{path}: {keys[0]} is {dtype} {list(shape)}, expected uint8 or float "
                "[n, height, width], [n, channels, height, width] or [n, height, width, channels]"
            )
        if label_dtype.kind not in "iu" or len(label_shape) != 1:
            raise UserError(
                f"{path}: {keys[1]} is {label_dtype} {list(label_shape)}, expected whole numbers "
                "[n], the class of each image from 0"
            )
        if shape[0] != label_shape[0] or not shape[0]:
            raise UserError(
                f"{path}: {keys[0]} holds {shape[0]} images, but {keys[1]} {label_shape[0]} "
                "labels; give as many of both, at least one"
            )
        shapes[split] = shape
        first = shapes["train"], headers["train_images"][1]
        if (shape[1:], dtype) != (first[0][1:], first[1]):
            raise UserError(
                f"{path}: {keys[0]} holds {dtype} {list(shape[1:])}, but train_images {first[1]} "
                f"{list(first[0][1:])}; give all the same"
            )
    return path, shapes


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
    path, shapes = _array_shapes(dataset, name=name)
    axis, (_, *shape) = _channel_axis(path, shapes["train"]), shapes["train"]
    channels = shape.pop(axis - 1) if axis else 1
    labels = _arrays(path, *(f"{split}_labels" for split in shapes))
    classes = dataset["classes"] or int(max(of_split.max() for of_split in labels)) + 1
    for split, of_split in zip(shapes, labels, strict=True):
        if of_split.min() < 0 or of_split.max() >= classes:
            worst = of_split.min() if of_split.min() < 0 else of_split.max()
            raise UserError(
                f"{path}: {split}_labels holds the label {worst}, expected 0 to {classes - 1}; "
                f"mend the labels or the config key datasets.{name}.classes"
            )
    if classes < 2:
        raise UserError(f"{path}: all labels are 0; expected at least two classes")
    return Source(
        shape=(channels, *shape),
        classes=classes,
        bounds=_PIXELS,
        official_test="test" in shapes,
        train=shapes["train"][0],
        test=shapes.get("test", (0,))[0],
        official_validation="validation" in shapes,
    )


def array_pools(dataset: dict, *, name: str) -> dict[str, Pool]:
    """Pool of each split of a .npz file: uint8 [n, c, h, w], or float32 in 0..1."""
    path, shapes = _array_shapes(dataset, name=name)
    axis, pools = _channel_axis(path, shapes["train"]), {}
    used = [f"{split}_{part}" for split in shapes for part in ("images", "labels")]
    print(f"{path}: {', '.join(used)}; axis of the channels: {axis or 'none'}")
    if others := sorted(set(_headers(path)) - set(used)):
        print(f"{path}: not used: {', '.join(others)}")
    for split in shapes:
        images, labels = _arrays(path, f"{split}_images", f"{split}_labels")
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
