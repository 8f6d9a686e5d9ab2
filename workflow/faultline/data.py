"""Data sets as resident tensors with their pixel bounds, split reproducibly; files are checked."""

import gzip
import hashlib
import io
import math
import pickle
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from faultline.catalogue import SOURCES
from faultline.errors import UserError
from faultline.vision import load_torchvision

SPLITS = ("train", "validation", "test")

# MD5 of the published files, unpacked; files with another number of images are not compared.
_MD5 = {
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
}

# Labels of a set of images, and a function that gives the images at some indices.
_Pool = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and labels of the three splits.

    name:      as in the config.
    classes:   number of classes.
    bounds:    (lowest, highest) pixel value, or None.
    levels:    a pixel is stored value / levels; None where values are stored as they are.
    mean, std: per channel (or feature) over the train split, in pixel units.
    splits:    "train", "validation", "test" -> (images, labels). Images are uint8 [n, c, h, w] with
               levels, or float32 [n, features] without; labels are int64 [n]. Any first images
               of a split hold the classes in proportion.
    """

    name: str
    classes: int
    bounds: tuple[float, float] | None
    levels: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    splits: dict[str, tuple[torch.Tensor, torch.Tensor]]

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Stored images as float32 pixels, on the same device."""
        return images.float() if self.levels is None else images.float() / self.levels

    def to_tensors(self) -> dict:
        """A flat dict for torch.save that torch.load(weights_only=True) reads back."""
        flat = {key: value for key, value in vars(self).items() if key != "splits"}
        for split, (images, labels) in self.splits.items():
            flat |= {f"{split}_images": images, f"{split}_labels": labels}
        return flat

    @classmethod
    def from_tensors(cls, flat: dict) -> "DataSet":
        """The inverse of `to_tensors`."""
        fields = ("name", "classes", "bounds", "levels", "mean", "std")
        splits = {split: (flat[f"{split}_images"], flat[f"{split}_labels"]) for split in SPLITS}
        return cls(**{field: flat[field] for field in fields}, splits=splits)


def prepare(
    source: str,
    *,
    validation: int | None,
    split_seed: int,
    train: int | None = None,
    test: int | None = None,
    folder: str | Path | None = None,
    download: bool = False,
    noise: float = 0.2,
    samples: int = 3000,
    size: int | None = None,
    name: str | None = None,
) -> DataSet:
    """The images of a source of `catalogue.SOURCES`, in disjoint, stratified, seeded splits (ours).

    train, validation, test: numbers of images; None takes all that are left. With an official test
        set, test images are a sample of it, the others of the official train set; else all three
        come from the one set. The test split does not depend on the size of the others.
    folder: where the files of fashion_mnist, mnist, cifar10 and tiny_imagenet are. Files of other
        than the official number of images are read too, but only official ones have a checksum.
    download: fetch missing files into the folder with torchvision.
    noise, samples: of moons, which are drawn with split_seed and standardised over all samples.
    size: images are scaled to size x size; None leaves them as they are.
    name: of the data set in the config; the source if not given.

    Raises UserError, which names the key or the file at fault.
    """
    name = name or source
    if source not in SOURCES:
        raise UserError(
            f"datasets.{name}.source: {source!r} is unknown; choose one of {', '.join(SOURCES)}"
        )
    if source == "digits":
        pools = [_digits()]
    elif source == "moons":
        pools = [_moons(samples, noise=noise, seed=split_seed)]
    elif folder is None:
        raise UserError(f"datasets.{name}.folder: missing; {source} is read from files, name where")
    elif source == "tiny_imagenet":
        pools = _tiny_imagenet(Path(folder).expanduser(), download=download, name=name)
    else:
        files = _files(source, Path(folder).expanduser(), download=download, name=name)
        pools = _cifar10(files) if source == "cifar10" else _idx_pools(source, files)

    wanted = {"test": test, "validation": validation, "train": train}
    shares = [("validation", "train"), ("test",)] if len(pools) == 2 else [tuple(wanted)]
    levels = {"digits": 16, "moons": None}.get(source, 255)
    splits = {}
    for stream, ((labels, read), share) in enumerate(zip(pools, shares, strict=True)):
        counts = _counts({split: wanted[split] for split in share}, len(labels), name=name)
        order = stratified_order(labels, np.random.default_rng([split_seed, stream]))
        for split, count in counts.items():
            chosen, order = order[:count], order[count:]
            images = torch.from_numpy(read(chosen))
            splits[split] = (
                images if size is None else scaled(images, size),
                torch.from_numpy(labels[chosen].astype(np.int64)),
            )
    mean, std = _moments(splits["train"][0], levels)
    return DataSet(
        name=name,
        classes=SOURCES[source].classes,
        bounds=SOURCES[source].bounds,
        levels=levels,
        mean=mean,
        std=std,
        splits={split: splits[split] for split in SPLITS},
    )


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
            values, weights = channel.double(), torch.ones(len(channel), dtype=torch.double)
        else:  # a histogram: exact, and small where float copies of the images are not
            weights = channel.flatten().bincount(minlength=256).double()
            values = torch.arange(256, dtype=torch.double) / levels
        centre = ((values * weights).sum() / weights.sum()).item()
        variance = ((values - centre) ** 2 * weights).sum() / weights.sum()
        mean.append(centre)
        std.append(math.sqrt(variance) or 1.0)  # a constant channel: nothing to scale
    return tuple(mean), tuple(std)


def _digits() -> _Pool:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.target, digits.images.astype(np.uint8)[:, None].__getitem__


def _moons(samples: int, *, noise: float, seed: int) -> _Pool:
    from sklearn.datasets import make_moons

    points, labels = make_moons(samples, noise=noise, random_state=seed % 2**32)
    points = (points - points.mean(0)) / points.std(0)
    return labels, points.astype(np.float32).__getitem__


def _files(source: str, folder: Path, *, download: bool, name: str) -> list[Path]:
    """The files of a source in the order of `_MD5`, plain or gzipped; downloaded if asked for."""
    names = list(_MD5[source])
    if source == "cifar10":
        pickles, binaries = names[:6], names[6:]
        layouts = [
            *((folder / "cifar-10-batches-py", pickles), (folder, pickles)),
            *((folder / "cifar-10-batches-bin", binaries), (folder, binaries)),
        ]
    else:
        torchvisions = {"fashion_mnist": "FashionMNIST", "mnist": "MNIST"}[source]
        layouts = [(folder, names), (folder / torchvisions / "raw", names)]

    def find() -> tuple[list[Path], list[Path]]:
        """The files of the first complete layout; else those missing from the fullest one."""
        lacking = []
        for directory, layout in layouts:
            plain = [directory / file for file in layout]
            paths = [p if p.is_file() else p.with_name(p.name + ".gz") for p in plain]
            if all(path.is_file() for path in paths):
                return paths, []
            lacking.append([p for p, path in zip(plain, paths, strict=True) if not path.is_file()])
        return [], min(lacking, key=len)

    files, missing = find()
    if missing and download:
        _download(source, folder, name=name)
        files, missing = find()
    if missing:
        also = {
            "fashion_mnist": " or name the folder of Debian's package dataset-fashion-mnist"
        }.get(source, "")
        places = " or ".join(dict.fromkeys(str(directory) for directory, _ in layouts))
        raise UserError(
            f"datasets.{name}.folder: {', '.join(path.name for path in missing)} (plain or .gz) "
            f"not found; looked in {places}; set datasets.{name}.download to true{also}"
        )
    return files


def _download(source: str, folder: Path, *, name: str) -> None:
    try:
        datasets = load_torchvision().datasets
        fetch = {
            "fashion_mnist": datasets.FashionMNIST,
            "mnist": datasets.MNIST,
            "cifar10": datasets.CIFAR10,
        }[source]
        fetch(folder, train=False, download=True)  # fetches all files, loads only the test images
    except Exception as error:  # whatever it is, it means that there are no files
        raise UserError(
            f"datasets.{name}.download: {source} could not be downloaded to {folder} "
            f"({_line(error)}); put the files there by hand"
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzipped."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({_line(error)}); get the file anew") from error


def _check(path: Path, data: bytes, *, images: int, official: int, source: str) -> None:
    """Compares a file of the official number of images with its checksum."""
    if images != official:
        print(f"{path}: {images} images, not the official {official}: no checksum to compare")
    elif (
        hashlib.md5(data, usedforsecurity=False).hexdigest()
        != _MD5[source][path.name.removesuffix(".gz")]
    ):
        raise UserError(
            f"{path}: the checksum is not that of the official {source} file; get the file anew"
        )


def _check_labels(path: Path, labels: np.ndarray, *, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(
            f"{path}: holds the label {worst}, expected 0 to {classes - 1}; get the file anew"
        )


def _idx(path: Path, data: bytes, *, dimensions: int) -> np.ndarray:
    """The uint8 array [...] in the content of an IDX file with that many dimensions."""
    magic, header = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if data[:4] != magic or len(data) < header:
        raise UserError(
            f"{path}: is no IDX file of bytes in {dimensions} dimensions (it begins with "
            f"{data[:4].hex() or 'nothing'}, expected {magic.hex()}); get the file anew"
        )
    shape = np.frombuffer(data, ">u4", count=dimensions, offset=4).tolist()
    if len(data) - header != math.prod(shape):
        raise UserError(
            f"{path}: its header says {' x '.join(map(str, shape))} bytes, "
            f"but {len(data) - header} follow; get the file anew"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _idx_pools(source: str, files: list[Path]) -> list[_Pool]:
    facts = SOURCES[source]
    pools = []
    for (image_file, label_file), official in zip(
        (files[:2], files[2:]), (facts.train, facts.test), strict=True
    ):
        contents = _read(image_file), _read(label_file)
        images = _idx(image_file, contents[0], dimensions=3)
        labels = _idx(label_file, contents[1], dimensions=1)
        if images.shape[1:] != facts.shape[1:] or not len(images):
            raise UserError(
                f"{image_file}: {' x '.join(map(str, images.shape))} are no images of "
                f"{' x '.join(map(str, facts.shape[1:]))}; get the file anew"
            )
        if len(images) != len(labels):
            raise UserError(
                f"{label_file}: {len(labels)} labels for the {len(images)} images of {image_file}; "
                "get both files anew"
            )
        _check_labels(label_file, labels, classes=facts.classes)
        for path, data in zip((image_file, label_file), contents, strict=True):
            _check(path, data, images=len(images), official=official, source=source)
        pools.append((labels, images[:, None].__getitem__))
    return pools


class _Array:
    """Stands in for numpy's ndarray and keeps what a pickle says about it."""

    def __setstate__(self, state):
        self.state = state

    def uint8(self) -> np.ndarray:
        _, shape, dtype, fortran, content = self.state
        if dtype.code != "u1":
            raise ValueError(f"the images are of type {dtype.code!r}, expected 'u1'")
        if isinstance(content, str):  # pickled by Python 2
            content = content.encode("latin1")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Type:
    """Stands in for numpy's dtype."""

    def __init__(self, code, *_):
        self.code = code

    def __setstate__(self, state):
        pass


_STAND_INS = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Type,
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy._core.multiarray._reconstruct": lambda *_: _Array(),
    "_codecs.encode": lambda text, _: text.encode("latin1"),
}


class _Unpickler(pickle.Unpickler):
    """Reads containers, numbers, texts and byte arrays; no class or function of the file's choice.

    Not even numpy's own classes: their state can be forged to point at any memory.
    """

    def find_class(self, module, name):
        wanted = f"{module}.{name}"
        if wanted not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {wanted!r}, which is refused")
        return _STAND_INS[wanted]


def _cifar10(files: list[Path]) -> list[_Pool]:
    def join(batches: list[Path]) -> _Pool:
        images, labels = zip(*map(_cifar10_batch, batches), strict=True)
        return np.concatenate(labels), np.concatenate(images).__getitem__

    return [join(files[:5]), join(files[5:])]


def _cifar10_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels [n] of one file of the python or binary version."""
    data = _read(path)
    try:
        if ".bin" in path.suffixes:
            if not data or len(data) % 3073:
                raise ValueError(f"{len(data)} bytes are no multiple of 1 + 3072")
            rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
            images, labels = rows[:, 1:], rows[:, 0]
        else:
            batch = _Unpickler(io.BytesIO(data), encoding="latin1").load()
            images, labels = batch["data"].uint8(), batch["labels"]
            if images.ndim != 2 or images.shape[1] != 3072 or not len(images):
                raise ValueError(f"its data are {images.shape}, expected n x 3072")
            if len(labels) != len(images) or {type(label) for label in labels} != {int}:
                raise ValueError(f"its labels are not {len(images)} integers")
            labels = np.array(labels)
    except Exception as error:  # a broken pickle can raise anything
        raise UserError(
            f"{path}: is no CIFAR-10 batch ({_line(error)}); get the file anew"
        ) from error
    _check_labels(path, labels, classes=10)
    _check(path, data, images=len(images), official=10000, source="cifar10")
    return images.reshape(-1, 3, 32, 32), labels


def _tiny_imagenet(folder: Path, *, download: bool, name: str) -> list[_Pool]:
    """The `train` and `val` images; a label is the line of the class in wnids.txt, from 0."""
    places = (folder / "tiny-imagenet-200", folder)
    root = next((place for place in places if (place / "wnids.txt").is_file()), None)
    if root is None:
        hint = "there is no download for it; unpack" if download else "unpack"
        raise UserError(
            f"datasets.{name}.folder: wnids.txt of Tiny ImageNet not found; looked in "
            f"{places[0]} or {places[1]}; {hint} tiny-imagenet-200.zip there yourself"
        )
    facts = SOURCES["tiny_imagenet"]
    wnids = _read(root / "wnids.txt").decode("ascii", "replace").split()
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    if not 0 < len(wnids) <= facts.classes or len(label_of) < len(wnids):
        raise UserError(
            f"{root / 'wnids.txt'}: {len(wnids)} classes, {len(label_of)} different, "
            f"expected up to {facts.classes} different ones; unpack the archive anew"
        )
    listed = sorted((root / "train").glob("*/images/*.JPEG"))
    train = [(path, path.parts[-3]) for path in listed]
    odd = sorted(label_of.keys() ^ {wnid for _, wnid in train})
    if odd:
        raise UserError(
            f"{root / 'train'}: the classes that have images and those of wnids.txt differ "
            f"({', '.join(odd[:3])}); unpack the archive anew"
        )
    annotations, images = root / "val" / "val_annotations.txt", root / "val" / "images"
    rows = [line.split() for line in _read(annotations).decode("ascii", "replace").splitlines()]
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or row[1] not in label_of:
            raise UserError(
                f"{annotations}: line {number} does not give an image and a class of wnids.txt; "
                "unpack the archive anew"
            )
    odd = sorted({row[0] for row in rows} ^ {path.name for path in images.glob("*.JPEG")})
    if odd or not rows or len({row[0] for row in rows}) < len(rows):
        raise UserError(
            f"{annotations}: its {len(rows)} images and those of {images} differ "
            f"({', '.join(odd[:3]) or 'some are listed twice'}); unpack the archive anew"
        )
    test = [(images / row[0], row[1]) for row in rows]
    for part, official in ((train, facts.train), (test, facts.test)):
        if len(part) != official:
            print(f"{root}: {len(part)} images, not the official {official}")
    return [_jpeg_pool(part, label_of) for part in (train, test)]


def _jpeg_pool(listed: list[tuple[Path, str]], label_of: dict[str, int]) -> _Pool:
    paths = [path for path, _ in listed]
    labels = np.array([label_of[wnid] for _, wnid in listed])
    return labels, lambda chosen: _decode([paths[index] for index in chosen])


def _decode(paths: list[Path]) -> np.ndarray:
    """64 x 64 JPEG files as uint8 [n, 3, 64, 64], grey ones as RGB."""
    from PIL import Image

    _, height, width = SOURCES["tiny_imagenet"].shape

    def decode(path: Path) -> np.ndarray:
        try:
            with Image.open(path, formats=("JPEG",)) as image:
                size = image.size
                if size == (width, height):
                    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{path}: cannot be decoded ({_line(error)}); unpack the archive anew"
            ) from error
        raise UserError(
            f"{path}: is {size[0]} x {size[1]}, expected {width} x {height}; "
            "unpack the archive anew"
        )

    images = np.empty((len(paths), 3, height, width), np.uint8)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for done, image in enumerate(pool.map(decode, paths), 1):
            images[done - 1] = image
            if done % 10000 == 0 or done == len(paths):
                print(f"decoded {done} of {len(paths)} images", flush=True)
    return images
