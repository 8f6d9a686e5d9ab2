"""Data sets: real ones where they can be had, else small files of the true format."""

import gzip
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import support
import torch
from PIL import Image
from sklearn.datasets import load_digits
from support import Code, idx

from faultline.base.errors import UserError
from faultline.base.memory import batch_size
from faultline.data import describe
from faultline.data.sources import SOURCES
from faultline.data.splits import DataSet, prepare, scaled, stratified_order

DEBIAN = "/usr/share/datasets/fashion-mnist"
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def error_of(source, **settings) -> str:
    return support.error_of(prepare, source, **{"validation": 2, "split_seed": 0, **settings})


def same(one: DataSet, other: DataSet) -> bool:
    return all(
        torch.equal(a, b)
        for split in one.splits
        for a, b in zip(one.splits[split], other.splits[split], strict=True)
    )


def rows(images) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)


# --- small files of the true formats ---


def write_idx(folder, *, train=60, test=20, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("t10k", test)):
        for file, array in (
            (f"{part}-images-idx3-ubyte", rng.integers(256, size=(n, 28, 28))),
            (f"{part}-labels-idx1-ubyte", np.arange(n) % 10),
        ):
            if packed:
                (folder / f"{file}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
            else:
                (folder / file).write_bytes(idx(array))
    return folder


def cifar_arrays(n=10):
    rng = np.random.default_rng(0)
    return {
        name: (rng.integers(256, size=(n, 3072), dtype=np.uint8), np.arange(n)) for name in BATCHES
    }


def write_cifar_py(folder, protocol=2):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in cifar_arrays().items():
        content = {
            "batch_label": name,
            "labels": labels.tolist(),
            "data": images,
            "filenames": ["a.png"],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return folder


def write_cifar_bin(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in cifar_arrays().items():
        content = np.hstack([labels[:, None].astype(np.uint8), images])
        (folder / f"{name}.bin").write_bytes(content.tobytes())
    return folder


WNIDS = ["n02", "n01", "n03"]


def write_tiny(root, *, per_class=4, val=6):
    """One colour per class, so that the pixels tell the class; the last train image is grey."""
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    root.mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    for label, wnid in enumerate(WNIDS):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for i in range(per_class):
            image = Image.new("RGB", (64, 64), colours[label])
            image.save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
    image.convert("L").save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for i in range(val):
        Image.new("RGB", (64, 64), colours[i % 3]).save(root / "val" / "images" / f"val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


# --- splits ---


def test_catalogue_needs_no_torch():
    path = str(Path(describe.__file__).parents[2])
    code = "import sys, faultline.data.describe; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": path}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_digits():
    data = prepare("digits", validation=200, test=360, split_seed=3, name="mine")
    assert (data.name, data.classes, data.bounds, data.levels) == ("mine", 10, (0.0, 1.0), 16)
    sizes = {split: len(labels) for split, (_, labels) in data.splits.items()}
    assert sizes == {"train": 1237, "validation": 200, "test": 360}
    for images, labels in data.splits.values():
        assert images.dtype == torch.uint8 and images.shape[1:] == (1, 8, 8)
        assert labels.dtype == torch.int64 and len(labels) == len(images)
    original = load_digits()
    everything = torch.cat([images for images, _ in data.splits.values()])
    assert rows(everything) == sorted(i.astype(np.uint8).tobytes() for i in original.images)
    pixels = data.pixels(data.splits["train"][0])
    assert pixels.dtype == torch.float32 and pixels.min() == 0 and pixels.max() == 1
    assert data.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-6)
    assert data.std[0] == pytest.approx(pixels.std(correction=0).item(), abs=1e-6)


@pytest.mark.parametrize("size", [None, 12])
def test_images_of_one_channel_are_laid_out_as_others(size):
    """So that a network's convolutions give what its forward may view as vectors."""
    images = prepare("digits", train=20, validation=5, test=9, split_seed=0, size=size).splits
    for split, _ in images.values():
        assert split.stride() == torch.empty(split.shape).stride()


def test_labels_stay_with_their_images():
    original = load_digits()
    label_of = {
        image.astype(np.uint8).tobytes(): label
        for image, label in zip(original.images, original.target, strict=True)
    }
    data = prepare("digits", validation=200, test=360, split_seed=3)
    for images, labels in data.splits.values():
        assert labels.tolist() == [label_of[image.numpy().tobytes()] for image in images]


def test_splits_are_stratified():
    data = prepare("digits", validation=200, test=360, split_seed=3)
    share = np.bincount(load_digits().target) / 1797
    for _, labels in data.splits.values():
        for k in (len(labels), 50):  # any first images hold the classes in proportion, too
            assert np.abs(np.bincount(labels[:k], minlength=10) - k * share).max() < 2


def test_stratified_order_is_a_permutation():
    labels = np.array([0] * 6 + [1] * 3)
    order = stratified_order(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(9))
    # positions (1, 3, 5, 7, 9, 11)/12 and (2, 6, 10)/12: the only order of the classes
    assert labels[order].tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0]


def test_scaled_images_by_hand():
    images = torch.tensor([[[[0, 8], [16, 0]]]], dtype=torch.uint8)
    # centres at 0.25, 0.75, 1.25, 1.75: the outer ones lie beyond the old centres
    expected = [[0, 2, 6, 8], [4, 4.5, 5.5, 6], [12, 9.5, 4.5, 2], [16, 12, 4, 0]]
    larger = scaled(images, 4)
    assert larger.dtype == torch.uint8
    assert larger[0, 0].tolist() == [[round(v) for v in row] for row in expected]
    assert scaled(images.expand(1, 3, 2, 2), 1).flatten().tolist() == [6, 6, 6]
    assert torch.equal(scaled(images, 2), images) and scaled(images[:0], 4).shape == (0, 1, 4, 4)


def test_scaled_data_set():
    settings = {"validation": 50, "test": 100, "split_seed": 1}
    small, large = prepare("digits", **settings), prepare("digits", size=20, **settings)
    for (images, labels), (scaled_images, same_labels) in zip(
        small.splits.values(), large.splits.values(), strict=True
    ):
        assert torch.equal(scaled_images, scaled(images, 20)) and torch.equal(labels, same_labels)
    pixels = large.pixels(large.splits["train"][0])
    assert large.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-6)


def test_the_seed_decides_the_split():
    one, again, other = (
        prepare("digits", validation=50, test=100, split_seed=s) for s in (1, 1, 2)
    )
    assert same(one, again) and not same(one, other)


def test_test_images_do_not_depend_on_the_other_splits():
    one = prepare("digits", validation=50, test=100, split_seed=1)
    other = prepare("digits", validation=80, train=300, test=100, split_seed=1)
    assert torch.equal(one.splits["test"][0], other.splits["test"][0])
    assert len(other.splits["train"][0]) == 300


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("test", {"test": 1798}),
        ("test", {"test": 0}),
        ("test", {"test": -5}),
        ("test", {}),  # train and test cannot both be all that are left
        ("train", {"test": 100, "train": 1696}),
        ("train", {"test": 100, "train": -1}),
        ("train", {"test": 1795}),
        ("validation", {"test": 100, "validation": 1698}),
        ("validation", {"test": 100, "validation": -1}),
    ],
)
def test_impossible_numbers(key, settings):
    assert error_of("digits", name="mine", **settings).startswith(f"datasets.mine.{key}: ")


def test_moons():
    data = prepare("moons", samples=500, validation=100, test=100, split_seed=0)
    assert (data.classes, data.bounds, data.levels) == (2, None, None)
    images = torch.cat([images for images, _ in data.splits.values()])
    assert images.dtype == torch.float32 and images.shape == (500, 2)
    assert torch.allclose(images.double().mean(0), torch.zeros(2).double(), atol=1e-6)
    assert torch.allclose(images.double().std(0, correction=0), torch.ones(2).double(), atol=1e-6)
    assert len(set(rows(images))) == 500
    assert [labels.sum().item() for _, labels in data.splits.values()] == [150, 50, 50]
    train = data.splits["train"][0].double()
    assert data.mean == pytest.approx(train.mean(0).tolist())
    assert data.std == pytest.approx(train.std(0, correction=0).tolist())
    assert torch.equal(data.pixels(images), images)
    assert same(data, prepare("moons", samples=500, validation=100, test=100, split_seed=0))


@pytest.mark.parametrize(("source", "samples"), [("breast_cancer", 569), ("wine", 178)])
def test_tables(source, samples):
    data = prepare(source, validation=40, test=60, split_seed=0)
    assert sum(len(labels) for _, labels in data.splits.values()) == samples
    assert data.bounds == (0.0, 1.0) and data.levels is None
    low, high = map(np.array, data.ranges)
    theirs, labels = getattr(sklearn.datasets, f"load_{source}")(return_X_y=True)
    shares = ((theirs - low) / (high - low)).astype(np.float32)
    known = {(*row.tolist(), label) for row, label in zip(shares, labels, strict=True)}
    images, of = data.splits["train"]
    assert images.dtype == torch.float32
    assert (images.amin(0) == 0).all() and (images.amax(0) == 1).all()
    assert all(
        (*row, label) in known for row, label in zip(images.tolist(), of.tolist(), strict=True)
    )
    for images, _ in data.splits.values():
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("source", ["digits", "moons", "wine"])
def test_round_trip(source, tmp_path):
    data = prepare(source, validation=50, test=100, split_seed=0)
    torch.save(data.to_tensors(), tmp_path / "data.pt")
    back = DataSet.from_tensors(torch.load(tmp_path / "data.pt", weights_only=True))
    assert same(data, back)
    for field in ("name", "classes", "bounds", "levels", "mean", "std", "ranges"):
        assert getattr(back, field) == getattr(data, field)


def test_large_images_go_in_smaller_batches():
    assert (
        batch_size(500, (1, 28, 28)) == batch_size(500, (3, 64, 64)) == batch_size(500, (2,)) == 500
    )
    assert batch_size(500, (3, 128, 128)) == 125 and batch_size(10, (3, 2000, 2000)) == 1


def test_unknown_source():
    assert error_of("minst").startswith("datasets.minst.source: ")


# --- IDX files ---


def test_fashion_mnist():
    if not Path(DEBIAN).is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    data = prepare("fashion_mnist", folder=DEBIAN, train=2000, validation=500, split_seed=0)
    sizes = {split: tuple(images.shape) for split, (images, _) in data.splits.items()}
    assert sizes == {
        "train": (2000, 1, 28, 28),
        "validation": (500, 1, 28, 28),
        "test": (10000, 1, 28, 28),
    }
    assert np.bincount(data.splits["train"][1]).tolist() == [200] * 10
    assert np.bincount(data.splits["test"][1]).tolist() == [1000] * 10
    # over all 60000 images the mean is 0.2860 and the standard deviation 0.3530
    assert data.mean[0] == pytest.approx(0.286, abs=0.01)
    assert data.std[0] == pytest.approx(0.353, abs=0.01)


def test_checksum_of_an_official_file(tmp_path):
    if not Path(DEBIAN).is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    for file in Path(DEBIAN).iterdir():
        (tmp_path / file.name).symlink_to(file)
    labels = tmp_path / "t10k-labels-idx1-ubyte"  # found before the .gz
    content = bytearray(gzip.decompress((tmp_path / f"{labels.name}.gz").read_bytes()))
    content[8] = (content[8] + 1) % 10
    labels.write_bytes(content)
    message = error_of("fashion_mnist", folder=tmp_path)
    assert str(labels) in message and "checksum" in message


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("source", "inside"),
    [("mnist", ""), ("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")],
)
def test_idx_layouts(source, inside, packed, tmp_path):
    write_idx(tmp_path / inside, packed=packed)
    data = prepare(source, folder=tmp_path, validation=20, test=10, split_seed=0)
    assert [len(labels) for _, labels in data.splits.values()] == [40, 20, 10]
    for _, labels in data.splits.values():
        assert np.bincount(labels).tolist() == [len(labels) // 10] * 10
    # the images as numpy makes them: the train ones are the first draw
    first = np.random.default_rng(0).integers(256, size=(60, 28, 28)).astype(np.uint8)
    images = torch.cat([data.splits["train"][0], data.splits["validation"][0]])
    assert rows(images) == sorted(image.tobytes() for image in first)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


ZEROS = idx(np.zeros((60, 28, 28)))
PACKED = gzip.compress(ZEROS, mtime=0)  # else it holds the second it was made in
CORRUPT_IDX = {
    "empty": (IMAGES, b"", "IDX"),
    "cut in the header": (IMAGES, b"\0\0\x08\x03\0\0", "IDX"),
    "a page": (IMAGES, b"<html>not found</html>", "IDX"),
    "labels in place of images": (IMAGES, idx(np.zeros(60)), "IDX"),
    "too short": (IMAGES, ZEROS[:-1], "header"),
    "too long": (IMAGES, ZEROS + b"\0", "header"),
    "a huge size": (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100), "header"),
    "larger images": (IMAGES, idx(np.zeros((60, 32, 32))), "28 x 28"),
    "no image": (IMAGES, idx(np.zeros((0, 28, 28))), "28 x 28"),
    "packed and cut": (IMAGES, PACKED[:-20], "cannot be read"),
    "packed and damaged": (IMAGES, PACKED[:12] + b"\xff" * 30, "cannot be read"),
    "packed with a wrong checksum": (IMAGES, PACKED[:-8] + bytes(8), "cannot be read"),
    "a label too few": (LABELS, idx(np.zeros(59)), "59 labels"),
    "a label too high": (LABELS, idx([10] * 60), "label 10"),
    "labels with an axis too many": (LABELS, idx(np.zeros((60, 1))), "IDX"),
}


@pytest.mark.parametrize("damage", CORRUPT_IDX)
def test_corrupt_idx(damage, tmp_path):
    file, content, word = CORRUPT_IDX[damage]
    write_idx(tmp_path)
    (tmp_path / file).write_bytes(content)
    message = error_of("mnist", folder=tmp_path)
    assert message.startswith(f"{tmp_path / file}: ") and word in message


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10", "tiny_imagenet"])
def test_missing_files(source, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        message = error_of(source, folder=folder, name="mine")
        assert message.startswith("datasets.mine.folder: ") and str(folder) in message
    assert error_of(source, name="mine").startswith("datasets.mine.folder: ")


def test_how_to_get_fashion_mnist(tmp_path):
    write_idx(tmp_path)
    (tmp_path / LABELS).unlink()
    message = error_of("fashion_mnist", folder=tmp_path)
    assert LABELS in message and IMAGES not in message
    assert "download to true" in message and "dataset-fashion-mnist" in message


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10"])
def test_failed_download(source, tmp_path):
    folder = tmp_path / "file"
    folder.write_text("no folder, so nothing can be put there")
    message = error_of(source, folder=folder, download=True, name="mine")
    assert message.startswith("datasets.mine.download: ") and str(folder) in message


def test_nothing_is_downloaded_where_the_files_are(tmp_path):
    write_idx(tmp_path)
    prepare("mnist", folder=tmp_path, download=True, validation=20, split_seed=0)
    assert len(list(tmp_path.iterdir())) == 4


# --- CIFAR-10 ---


@pytest.mark.parametrize("inner", ["", "cifar-100-python"])
def test_cifar100_by_its_hundred_classes(inner, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(240, 3072), dtype=np.uint8)
    labels = np.arange(240) % 100
    (tmp_path / inner).mkdir(exist_ok=True)
    for name, part in (("train", slice(200)), ("test", slice(200, 240))):
        content = {"data": images[part], "fine_labels": labels[part].tolist()}
        content |= {"coarse_labels": (labels[part] // 5).tolist()}
        (tmp_path / inner / name).write_bytes(pickle.dumps(content, protocol=2))
    data = prepare("cifar100", folder=tmp_path, validation=100, split_seed=0)
    assert data.classes == 100 and [len(x) for x, _ in data.splits.values()] == [100, 100, 40]
    of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for stored, numbers in data.splits.values():
        assert [of[image.numpy().tobytes()] for image in stored] == numbers.tolist()
    (tmp_path / inner / "test").write_bytes(b"text")
    message = error_of("cifar100", folder=tmp_path, validation=100)
    assert "is no CIFAR-100 batch" in message


def test_cifar10_layouts(tmp_path):
    settings = {"validation": 10, "split_seed": 0}
    folders = [
        (tmp_path / "a", write_cifar_py(tmp_path / "a" / "cifar-10-batches-py")),
        (tmp_path / "b", write_cifar_py(tmp_path / "b", protocol=4)),
        (tmp_path / "c", write_cifar_bin(tmp_path / "c" / "cifar-10-batches-bin")),
        (tmp_path / "d", write_cifar_bin(tmp_path / "d")),
    ]
    first, *others = (prepare("cifar10", folder=folder, **settings) for folder, _ in folders)
    assert all(same(first, other) for other in others)
    assert first.splits["train"][0].shape == (40, 3, 32, 32)
    arrays = cifar_arrays()
    expected = arrays["test_batch"][0]
    images, labels = first.splits["test"]
    for image, label in zip(images, labels, strict=True):  # the label is the row
        assert image.flatten().tolist() == expected[label].tolist()
    red = np.concatenate([arrays[name][0] for name in BATCHES[:5]])[:, :1024]
    assert len(first.mean) == 3
    assert first.mean[0] == pytest.approx(red.mean() / 255, abs=0.01)


def test_a_batch_pickled_by_python_2(tmp_path):
    write_cifar_py(tmp_path)
    images, labels = cifar_arrays()["test_batch"]
    raw = images.tobytes()
    # written opcode by opcode, as Python 2 did: texts and bytes are both SHORT_/BINSTRING
    text = lambda s: b"U" + bytes([len(s)]) + s  # noqa: E731
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
        + text(b"b")
        + b"tR(K\x01(K\x0aM\x00\x0ctcnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb"
    )
    numbers = b"(" + b"".join(b"K" + bytes([label]) for label in labels) + b"l"
    content = b"\x80\x02(" + text(b"data") + array + text(b"labels") + numbers + b"d."
    (tmp_path / "test_batch").write_bytes(content)
    data = prepare("cifar10", folder=tmp_path, validation=10, split_seed=0)
    assert rows(data.splits["test"][0]) == sorted(image.tobytes() for image in images)


def test_a_pickle_executes_nothing(tmp_path):
    write_cifar_py(tmp_path)
    images, labels = cifar_arrays()["data_batch_2"]
    marker = tmp_path / "executed"
    content = {"data": images, "labels": labels.tolist(), "evil": Code(marker)}
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(content))
    message = error_of("cifar10", folder=tmp_path)
    assert not marker.exists()
    assert message.startswith(f"{tmp_path / 'data_batch_2'}: ") and "mkdir" in message
    pickle.loads(pickle.dumps(content))
    assert marker.exists()  # so it would have


GOOD = np.zeros((10, 3072), np.uint8)
ROW = bytes(3073)


def batch(images=GOOD, labels=(0,) * 10) -> bytes:
    return pickle.dumps({"data": images, "labels": list(labels)})


PICKLE, BINARY = "data_batch_3", "test_batch.bin"
CORRUPT_CIFAR = {
    "empty": (PICKLE, b"", "no CIFAR-10 batch"),
    "cut": (PICKLE, batch()[:-5000], "no CIFAR-10"),
    "a list": (PICKLE, pickle.dumps([1, 2]), "no CIFAR-10 batch"),
    "no images": (PICKLE, pickle.dumps({"labels": [0] * 10}), "data"),
    "a label too few": (PICKLE, batch(labels=[0] * 9), "labels"),
    "labels of text": (PICKLE, batch(labels=["0"] * 10), "labels"),
    "a label too high": (PICKLE, batch(labels=[0] * 9 + [10]), "label 10"),
    "a label below zero": (PICKLE, batch(labels=[0] * 9 + [-1]), "label -1"),
    "images too short": (PICKLE, batch(GOOD[:, :3000]), "3072"),
    "no row": (PICKLE, batch(GOOD[:0], []), "3072"),
    "floats": (PICKLE, batch(GOOD.astype("f8")), "f8"),
    "objects": (PICKLE, batch(GOOD.astype("O")), "O"),
    "other images": (PICKLE, batch(np.zeros((10000, 3072), np.uint8), [0] * 10000), "checksum"),
    "binary, empty": (BINARY, b"", "3072"),
    "binary, too long": (BINARY, ROW * 2 + b"\0", "3072"),
    "binary, a label too high": (BINARY, ROW + b"\x0a" + ROW[1:], "label 10"),
    "binary, other images": (BINARY, ROW * 10000, "checksum"),
}


@pytest.mark.parametrize("damage", CORRUPT_CIFAR)
def test_corrupt_cifar10(damage, tmp_path):
    file, content, word = CORRUPT_CIFAR[damage]
    (write_cifar_bin if file.endswith(".bin") else write_cifar_py)(tmp_path)
    (tmp_path / file).write_bytes(content)
    message = error_of("cifar10", folder=tmp_path)
    assert message.startswith(f"{tmp_path / file}: ") and word in message


def test_a_missing_batch(tmp_path):
    (write_cifar_bin(tmp_path) / "data_batch_4.bin").unlink()
    message = error_of("cifar10", folder=tmp_path)
    assert "data_batch_4.bin" in message and "data_batch_3" not in message


# --- Tiny ImageNet ---


def claim_a_huge_size(path):
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")  # then length (2 bytes), precision (1), height, width
    content[frame + 5 : frame + 9] = b"\xff" * 4
    path.write_bytes(content)


@pytest.mark.parametrize("inside", ["tiny-imagenet-200", ""])
def test_tiny_imagenet(inside, tmp_path):
    write_tiny(tmp_path / "set" / inside)
    data = prepare("tiny_imagenet", folder=tmp_path / "set", validation=3, split_seed=0)
    assert data.classes == 200
    shapes = [tuple(images.shape) for images, _ in data.splits.values()]
    assert shapes == [(9, 3, 64, 64), (3, 3, 64, 64), (6, 3, 64, 64)]
    grey = 0
    for images, labels in data.splits.values():
        for image, label in zip(images.float().mean((2, 3)), labels, strict=True):
            if image.max() - image.min() < 2:  # the grey one, of the last class
                grey += 1
                assert label == 2
            else:
                assert image.argmax() == label  # wnids.txt, not the alphabet, numbers the classes
    assert grey == 1


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("wnids.txt", lambda p: p.write_text(""), "0 classes"),
        ("wnids.txt", lambda p: p.write_text("n02\nn01\nn02\n"), "different"),
        ("wnids.txt", lambda p: p.write_text("\n".join(map(str, range(201)))), "201 classes"),
        ("train", lambda p: (p.parent / "wnids.txt").write_text("n02\nn01\n"), "n03"),
        ("train", lambda p: (p / "n01").rename(p / "n09"), "n09"),
        ("train/n01/images/n01_0.JPEG", lambda p: p.write_bytes(b"no image"), "decoded"),
        ("train/n01/images/n01_0.JPEG", lambda p: p.write_bytes(p.read_bytes()[:500]), "decoded"),
        ("train/n01/images/n01_0.JPEG", claim_a_huge_size, "decoded"),
        (
            "val/images/val_3.JPEG",
            lambda p: Image.new("RGB", (32, 64)).save(p),
            "32 x 64",
        ),
        ("val/val_annotations.txt", lambda p: p.unlink(), "cannot be read"),
        ("val/val_annotations.txt", lambda p: p.write_text(""), "0 images"),
        ("val/val_annotations.txt", lambda p: p.write_text("val_0.JPEG\tn77\n"), "line 1"),
        ("val/val_annotations.txt", lambda p: p.write_text(p.read_text() * 2), "twice"),
        (
            "val/val_annotations.txt",
            lambda p: (p.parent / "images" / "val_5.JPEG").unlink(),
            "val_5.JPEG",
        ),
    ],
)
def test_corrupt_tiny_imagenet(file, change, word, tmp_path):
    change(write_tiny(tmp_path / "tiny-imagenet-200") / file)
    message = error_of("tiny_imagenet", folder=tmp_path)
    assert message.startswith(f"{tmp_path / 'tiny-imagenet-200' / file}: ") and word in message


def test_tiny_imagenet_has_no_download(tmp_path):
    assert "no download" in error_of("tiny_imagenet", folder=tmp_path, download=True)


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("digits", None),
        ("moons", None),
        ("breast_cancer", None),
        ("wine", None),
        ("mnist", write_idx),
        ("cifar10", write_cifar_bin),
        ("tiny_imagenet", lambda folder: write_tiny(folder / "tiny-imagenet-200")),
    ],
)
def test_images_have_the_shape_in_the_catalogue(source, write, tmp_path):
    if write:
        write(tmp_path)
    data = prepare(source, validation=0, test=6, folder=tmp_path, split_seed=0)
    facts = SOURCES[source]
    assert all(images.shape[1:] == facts.shape for images, _ in data.splits.values())
    assert (data.classes, data.bounds) == (facts.classes, facts.bounds)
    assert len(data.splits["validation"][0]) == 0
    assert len(data.mean) == len(data.std) == facts.shape[0]


def test_without_training_images_the_test_images_are_dealt_out(tmp_path):
    """Of a file and of digits; with `train: 0` an array is not asked for, and without it is."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    images = rng.integers(0, 256, (60, 5, 4), np.uint8)
    path = tmp_path / "test.npz"
    np.savez(path, test_images=images, test_labels=labels)
    moments = {"mean": [0.5], "std": [0.25]}
    of = {"name": "own", "file": str(path), "validation": 15, "split_seed": 0} | moments
    with pytest.raises(UserError, match="there is no array train_images"):
        prepare("npz", **of)
    with pytest.raises(UserError, match=r"datasets\.own\.mean: missing"):
        prepare("npz", train=0, **of | {"mean": None, "std": None})
    dataset = prepare("npz", train=0, **of)
    assert {split: len(of[1]) for split, of in dataset.splits.items()} == {
        "train": 0,
        "validation": 15,
        "test": 45,
    }
    assert (dataset.mean, dataset.std, dataset.classes) == ((0.5,), (0.25,), 3)
    assert dataset.splits["train"][0].shape == (0, 1, 5, 4)
    assert dataset.splits["train"][0].dtype == torch.uint8
    dealt = torch.cat([dataset.splits[split][0] for split in ("validation", "test")])[:, 0].numpy()
    assert {image.tobytes() for image in dealt} == {image.tobytes() for image in images}
    assert torch.equal(dataset.seen, dataset.splits["validation"][0])
    digits = prepare("digits", train=0, validation=200, test=100, split_seed=0, **moments)
    small = prepare("digits", train=0, validation=200, test=100, split_seed=0, size=5, **moments)
    assert small.splits["train"][0].shape == (0, 1, 5, 5)
    usual = prepare("digits", train=500, validation=200, test=100, split_seed=0)
    for split in ("validation", "test"):
        assert torch.equal(digits.splits[split][0], usual.splits[split][0])


@pytest.mark.parametrize("array", ["features", "signals"])
def test_without_training_samples_ranges_are_those_of_validation(tmp_path, array):
    values = np.random.default_rng(0).normal(size=(40, 3) + (6,) * (array == "signals"))
    np.savez(tmp_path / "a.npz", **{f"test_{array}": values, "test_labels": np.tile([0, 1], 20)})
    of = {"mean": [0.0] * 3, "std": [1.0] * 3, "validation": 10, "split_seed": 0, "train": 0}
    dataset = prepare("npz", name="own", file=str(tmp_path / "a.npz"), **of)
    low, high = dataset.ranges
    found = dataset.splits["validation"][0]
    assert found.min() == 0 and found.max() == 1 and len(low) == len(high) == 3
    assert dataset.mean == pytest.approx([-a / (b - a) for a, b in zip(low, high, strict=True)])
