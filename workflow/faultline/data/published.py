"""The published data sets and the made ones: their files, found, checked and read."""

import gzip
import hashlib
import io
import math
import pickle
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faultline.base.errors import UserError, printable
from faultline.data.decode import Pool, array_pool, file_pool, in_one_line
from faultline.data.sources import SOURCES, DataSettings
from faultline.networks.vision import load_torchvision

if TYPE_CHECKING:
    import PIL.Image

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
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
}


def published_pools(settings: DataSettings, *, threads: int, name: str) -> dict[str, Pool]:
    """ "train" and, where there is an official test set, "test" of a source of `sources.SOURCES`.

    threads, name: as for `splits.prepare`. Raises UserError.
    """
    source = settings.source
    if source == "digits":
        return {"train": _digits()}
    if source in ("breast_cancer", "wine"):
        return {"train": _table(source)}
    if source == "moons":
        return {"train": _moons(settings.samples, noise=settings.noise, seed=settings.split_seed)}
    if settings.folder is None:
        raise UserError(f"datasets.{name}.folder: missing; {source} is read from files, name where")
    folder = Path(settings.folder).expanduser()
    if source == "tiny_imagenet":
        pools = _tiny_imagenet(folder, download=settings.download, threads=threads, name=name)
    else:
        files = _files(source, folder, download=settings.download, name=name)
        print(f"{source}: read from {files[0].parent}")
        is_cifar = source in ("cifar10", "cifar100")
        pools = _cifar(files, source) if is_cifar else _idx_pools(source, files)
    return dict(zip(("train", "test"), pools, strict=True))


def _digits() -> Pool:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return array_pool(digits.images.astype(np.uint8)[:, None], digits.target)


def _table(source: str) -> Pool:
    import sklearn.datasets

    return array_pool(*getattr(sklearn.datasets, f"load_{source}")(return_X_y=True))


def _moons(samples: int, *, noise: float, seed: int) -> Pool:
    from sklearn.datasets import make_moons

    points, labels = make_moons(samples, noise=noise, random_state=seed % 2**32)
    points = (points - points.mean(0)) / points.std(0)
    return array_pool(points.astype(np.float32), labels)


def _files(source: str, folder: Path, *, download: bool, name: str) -> list[Path]:
    """The files of a source in the order of `_MD5`, plain or gzipped; downloaded if asked for."""
    names = list(_MD5[source])
    if source == "cifar10":
        pickles, binaries = names[:6], names[6:]
        layouts = [
            *((folder / "cifar-10-batches-py", pickles), (folder, pickles)),
            *((folder / "cifar-10-batches-bin", binaries), (folder, binaries)),
        ]
    elif source == "cifar100":
        layouts = [(folder / "cifar-100-python", names), (folder, names)]
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
            "cifar100": datasets.CIFAR100,
        }[source]
        fetch(folder, train=False, download=True)  # fetches all files, loads only the test images
    except Exception as error:  # whatever it is, it means that there are no files
        raise UserError(
            f"datasets.{name}.download: {source} could not be downloaded to {folder} "
            f"({in_one_line(error)}); put the files there by hand"
        ) from error


def _read(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzipped."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        why = in_one_line(error)
        raise UserError(f"{path}: cannot be read ({why}); get the file anew") from error


def _check(path: Path, data: bytes, *, images: int, official: int | None, source: str) -> None:
    """Compares a file of the official number of images with its checksum."""
    if images != official:
        print(
            f"{printable(path)}: {images} images, not the official {official}: no checksum to "
            "compare"
        )
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


def _idx_pools(source: str, files: list[Path]) -> list[Pool]:
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
        pools.append(array_pool(images[:, None], labels))
    return pools


class _Array:
    """Stands in for numpy's ndarray and keeps what a pickle says about it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def uint8(self) -> np.ndarray:
        """Its content; ValueError where it is of another type."""
        _, shape, dtype, fortran, content = self.state
        if dtype.code != "u1":
            raise ValueError(f"the images are of type {dtype.code!r}, expected 'u1'")
        if isinstance(content, str):  # pickled by Python 2
            content = content.encode("latin1")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Type:
    """Stands in for numpy's dtype."""

    def __init__(self, code: str, *_: object):
        self.code = code

    def __setstate__(self, state: object) -> None:
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

    def find_class(self, module: str, name: str) -> Any:
        """Our stand-in for a class or a function that a file asks for."""
        wanted = f"{module}.{name}"
        if wanted not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {wanted!r}, which is refused")
        return _STAND_INS[wanted]


def _cifar(files: list[Path], source: str) -> list[Pool]:
    """Of CIFAR-10, or of CIFAR-100 by its 100 classes; the last file holds the test images."""

    def join(batches: list[Path]) -> Pool:
        images, labels = zip(*(_cifar_batch(path, source) for path in batches), strict=True)
        return array_pool(np.concatenate(images), np.concatenate(labels))

    return [join(files[:-1]), join(files[-1:])]


def _cifar_batch(path: Path, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels [n] of one file of the python version, or of the
    binary one of CIFAR-10."""
    facts = SOURCES[source]
    ten = source == "cifar10"
    data = _read(path)
    try:
        if ".bin" in path.suffixes:
            if not data or len(data) % 3073:
                raise ValueError(f"{len(data)} bytes are no multiple of 1 + 3072")
            rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
            images, labels = rows[:, 1:], rows[:, 0]
        else:
            batch = _Unpickler(io.BytesIO(data), encoding="latin1").load()
            images, labels = batch["data"].uint8(), batch["labels" if ten else "fine_labels"]
            if images.ndim != 2 or images.shape[1] != 3072 or not len(images):
                raise ValueError(f"its data are {images.shape}, expected n x 3072")
            if len(labels) != len(images) or {type(label) for label in labels} != {int}:
                raise ValueError(f"its labels are not {len(images)} integers")
            labels = np.array(labels)
    except Exception as error:  # a broken pickle can raise anything
        raise UserError(
            f"{path}: is no {'CIFAR-10' if ten else 'CIFAR-100'} batch ({in_one_line(error)}); get "
            "the file anew"
        ) from error
    _check_labels(path, labels, classes=facts.classes)
    official = facts.train if path.name.startswith("train") else facts.test  # of a file
    _check(path, data, images=len(images), official=official, source=source)
    return images.reshape(-1, 3, 32, 32), labels


def _tiny_imagenet(folder: Path, *, download: bool, threads: int, name: str) -> list[Pool]:
    """The `train` and `val` images; a label is the line of the class in wnids.txt, from 0."""
    places = (folder / "tiny-imagenet-200", folder)
    root = next((place for place in places if (place / "wnids.txt").is_file()), None)
    if root is None:
        hint = "there is no download for it; unpack" if download else "unpack"
        raise UserError(
            f"datasets.{name}.folder: wnids.txt of Tiny ImageNet not found; looked in "
            f"{places[0]} or {places[1]}; {hint} tiny-imagenet-200.zip there yourself"
        )
    print(f"tiny_imagenet: read from {root}")
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
            print(f"{printable(root)}: {len(part)} images, not the official {official}")
    return [_jpeg_pool(part, label_of, threads=threads) for part in (train, test)]


def _jpeg_pool(listed: list[tuple[Path, str]], label_of: dict[str, int], *, threads: int) -> Pool:
    shape = SOURCES["tiny_imagenet"].shape

    def convert(image: "PIL.Image.Image") -> np.ndarray:
        if image.size != shape[:0:-1]:
            size, expected = (" x ".join(map(str, s)) for s in (image.size, shape[:0:-1]))
            raise ValueError(f"is {size}, expected {expected}")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)

    return file_pool(
        [path for path, _ in listed],
        np.array([label_of[wnid] for _, wnid in listed]),
        convert=convert,
        shape=shape,
        formats=["JPEG"],
        threads=threads,
        remedy="unpack the archive anew",
    )
