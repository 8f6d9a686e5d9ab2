"""The user's own images: folders and arrays, against torchvision and NumPy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from support import ROOT, TINY, error_of

from faultline.data.describe import describe
from faultline.data.folders import folders, square
from faultline.data.splits import DataSet, prepare
from faultline.networks.vision import load_torchvision
from faultline.studies.config import resolve


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def write_folder(root: Path, *, splits=("train", "test"), classes=("ant", "bee", "cat"), n=4):
    """Images of a class all have one grey value, 10 x the class; formats and modes are mixed."""
    for split in splits:
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                image = Image.new(
                    "L" if i % 2 else "RGB", (9, 12), 10 * label * (1 if i % 2 else 0x10101)
                )
                image.save(root / split / name / f"{i}.{('png', 'BMP', 'tif', 'gif')[i % 4]}")
    return root


def folder(root: Path, **settings):
    settings = {"size": 6, "validation": 3, "split_seed": 0} | settings
    return prepare("image_folder", folder=root, name="mine", **settings)


# One image


@pytest.mark.parametrize("sides", [(30, 30), (31, 20), (20, 33), (7, 5), (16, 16), (17, 64)])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("L", 3), ("RGB", 1)])
def test_square_gives_the_pixels_of_torchvision(sides, mode, channels):
    width, height = sides
    image = Image.fromarray(noise(height, width, *[3] * (mode == "RGB")))
    transforms = load_torchvision().transforms
    reference = image.convert({1: "L", 3: "RGB"}[channels])
    for step in (transforms.Resize(16), transforms.CenterCrop(16)):
        reference = step(reference)
    expected = np.asarray(reference).reshape(16, 16, channels).transpose(2, 0, 1)
    assert np.array_equal(square(image, size=16, channels=channels), expected)


def test_what_is_transparent_becomes_white():
    pixels = np.full((4, 4, 4), 100, np.uint8)
    pixels[:, :2, 3], pixels[:, 2:, 3] = 0, 255
    for channels in (1, 3):
        made = square(Image.fromarray(pixels, "RGBA"), size=4, channels=channels)
        assert (made[:, :, :2] == 255).all() and (made[:, :, 2:] == 100).all()


def test_images_are_turned_as_their_camera_was(tmp_path):
    pixels = noise(8, 8, 3)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        made = square(turned, size=8, channels=3)
    assert np.array_equal(made.transpose(1, 2, 0), np.rot90(pixels, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode(mode, channels):
    image = Image.new("RGB", (8, 8), (255, 255, 255))
    pixels = square(image.convert(mode), size=8, channels=channels)
    assert pixels.shape == (channels, 8, 8) and pixels.dtype == np.uint8 and pixels.min() > 250


def test_16_bits_are_scaled_not_clipped():
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]] * 4, np.uint16))
    assert square(deep, size=4, channels=1)[0, 0].tolist() == [0, 1, 128, 255]


# A folder


def test_folder(tmp_path, capsys):
    data = folder(write_folder(tmp_path))
    assert (data.name, data.classes, data.levels, data.bounds) == ("mine", 3, 255, (0.0, 1.0))
    sizes = {split: tuple(images.shape) for split, (images, _) in data.splits.items()}
    assert sizes == {"train": (9, 3, 6, 6), "validation": (3, 3, 6, 6), "test": (12, 3, 6, 6)}
    for pixels, labels in data.splits.values():
        assert torch.equal(pixels.amin((1, 2, 3)), 10 * labels)
        assert torch.equal(pixels.amax((1, 2, 3)), 10 * labels)
    reference = load_torchvision().datasets.ImageFolder(str(tmp_path / "train"))
    assert reference.class_to_idx == {"ant": 0, "bee": 1, "cat": 2}
    said = capsys.readouterr().out
    assert "train: 12 images of 3 classes" in said and "decoded 12 of 12 images" in said


def test_splits_that_a_folder_has_and_has_not(tmp_path):
    only = folder(write_folder(tmp_path / "a", splits=("train",)), test=6, channels=1)
    assert [len(labels) for _, labels in only.splits.values()] == [3, 3, 6]
    assert only.splits["train"][0].shape[1:] == (1, 6, 6)
    every = folder(
        write_folder(tmp_path / "b", splits=("train", "test", "validation")), validation=None
    )
    assert [len(labels) for _, labels in every.splits.values()] == [12, 12, 12]


def test_further_test_sets_are_read_as_a_whole(tmp_path, capsys):
    root = write_folder(tmp_path / "photos")
    night = write_folder(tmp_path, splits=("night",), n=2) / "night"
    shutil.rmtree(night / "bee")
    settings = {"also": {"dark": night}}
    data, plain = folder(root, **settings), folder(root)
    assert data.also == ["dark"] and plain.also == []
    images, labels = data.splits["also dark"]
    assert sorted(labels.tolist()) == [0, 0, 2, 2]
    assert torch.equal(images.amin((1, 2, 3)), 10 * labels)
    for split, (pixels, numbers) in plain.splits.items():  # nothing else is another
        assert torch.equal(data.splits[split][0], pixels)
        assert torch.equal(data.splits[split][1], numbers)
    again = DataSet.from_tensors(data.to_tensors())
    assert again.also == ["dark"] and torch.equal(again.splits["also dark"][0], images)
    assert "also dark: no image of bee" in capsys.readouterr().out
    assert str(night / "cat") in folders(root, name="mine", **settings)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("ant", "dog"), "its classes differ from those of"),
        ((), "its classes differ from those of"),
        (None, "config key datasets.mine.also.dark: there is no folder"),
    ],
)
def test_a_further_test_set_has_the_same_classes(classes, said, tmp_path):
    root = write_folder(tmp_path / "photos")
    if classes is not None:
        (tmp_path / "night").mkdir()
        write_folder(tmp_path, splits=("night",), classes=classes)
    message = error_of(folder, root, also={"dark": tmp_path / "night"})
    assert said in message and str(tmp_path / "night") in message


VALIDATION = ("val", "valid", "validation")


def write_digits(root: Path, *, splits: dict[str, int], first: int = 0) -> dict[str, set[bytes]]:
    """Split -> the pixels of as many digits as are asked for, which are written as PNG files."""
    digits, found, at = load_digits(), {}, 0
    pixels = (digits.images * 255 / 16).astype(np.uint8)
    for split, count in splits.items():
        found[split] = {image.tobytes() for image in pixels[at : at + count]}
        for index in range(at, at + count):
            place = root / split / str(digits.target[index])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(place / f"{index}.png")
        at += count
    return found


def drawn_from(data, splits: dict[str, set[bytes]]) -> dict[str, set[str]]:
    """Split -> where the images of it were written."""
    return {
        split: {
            name for name, of in splits.items() for image in images if image.numpy().tobytes() in of
        }
        for split, (images, _) in data.splits.items()
    }


@pytest.mark.parametrize("name", VALIDATION)
def test_a_validation_folder_judges_where_there_is_no_test_folder(name, tmp_path, capsys):
    files = write_digits(tmp_path, splits={"train": 300, name: 120})
    data = folder(tmp_path, size=8, channels=1, validation=50)
    assert drawn_from(data, files) == {"train": {"train"}, "validation": {"train"}, "test": {name}}
    assert [len(labels) for _, labels in data.splits.values()] == [250, 50, 120]
    assert f"test: 120 images of 10 classes, of {tmp_path / name}" in capsys.readouterr().out
    facts = describe(
        {"source": "image_folder", "folder": tmp_path, "size": 8, "channels": 1}, name="x"
    )
    assert facts.official_test and not facts.official_validation
    assert folders(tmp_path, name="x")[-1] == str(tmp_path / name / "9")


@pytest.mark.parametrize("name", VALIDATION)
def test_a_validation_folder_beside_a_test_folder(name, tmp_path):
    files = write_digits(tmp_path, splits={"train": 300, "test": 120, name: 110})
    data = folder(tmp_path, size=8, channels=1, validation=None)
    assert drawn_from(data, files) == {"train": {"train"}, "validation": {name}, "test": {"test"}}


@pytest.mark.parametrize(
    "others", [("val", "valid"), ("validation", "valid"), ("val", "validation")]
)
@pytest.mark.parametrize("test", [(), ("test",)])
def test_several_validation_folders_are_refused(others, test, tmp_path):
    write_folder(tmp_path, splits=("train", *test, *others))
    message = error_of(folder, tmp_path)
    assert message.startswith(f"{tmp_path}: ") and all(f"{name}/" in message for name in others)


def test_a_folder_under_two_names(tmp_path):
    files = write_digits(tmp_path, splits={"train": 300, "val": 120})
    (tmp_path / "test").symlink_to("val")
    data = folder(tmp_path, size=8, channels=1, validation=50)
    assert drawn_from(data, files)["test"] == {"val"} and len(data.splits["test"][1]) == 120
    (tmp_path / "test").unlink()
    (tmp_path / "test").symlink_to("train")
    message = error_of(folder, tmp_path)
    assert message.startswith(f"{tmp_path / 'test'}: is the folder {tmp_path / 'train'} itself")


def test_folders_that_are_not_read_are_told(tmp_path, capsys):
    write_folder(tmp_path, splits=("train", "test", "eval", "Val"))
    folder(tmp_path)
    assert f"{tmp_path}: not read: Val, eval\n" in capsys.readouterr().out


def test_threads_change_nothing(tmp_path):
    write_folder(tmp_path)
    one, four = (folder(tmp_path, threads=n) for n in (1, 4))
    for split in one.splits:
        assert all(map(torch.equal, one.splits[split], four.splits[split]))


def test_only_what_is_asked_for_is_decoded(tmp_path, capsys):
    folder(write_folder(tmp_path), train=3, test=3)
    assert capsys.readouterr().out.count("decoded 3 of 3 images") == 3


def test_other_files_are_left_out_and_named(tmp_path, capsys):
    write_folder(tmp_path)
    (tmp_path / "train/bee/notes.txt").write_text("none")
    (tmp_path / "train/.cache").mkdir()
    (tmp_path / "train/bee/more").mkdir()
    Image.new("L", (9, 9), 10).save(tmp_path / "train/bee/more/5.JPG")
    data = folder(tmp_path)
    assert len(data.splits["train"][1]) == 10
    said = capsys.readouterr().out
    assert "train: 1 other files left out" in said and "notes.txt" in said


def break_image(root: Path, content: bytes) -> Path:
    path = root / "train/bee/0.png"
    path.write_bytes(content)
    return path


BROKEN = [
    b"",
    b"no image",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 12,
    b"GIF89a" + b"\xff" * 20,
    b"II*\0" + b"\xff" * 40,
    b"RIFF\x10\0\0\0WEBPVP8 " + bytes(20),
]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_broken_image(content, tmp_path):
    path = break_image(write_folder(tmp_path), content)
    message = error_of(folder, tmp_path)
    assert message.startswith(f"{path}: cannot be decoded (") and "on_bad_image" in message


def test_truncated_image_and_one_of_unknown_range(tmp_path):
    path = write_folder(tmp_path) / "train/bee/0.png"
    Image.fromarray(noise(50, 50)).save(path)
    path.write_bytes(path.read_bytes()[:800])
    assert "cannot be decoded" in error_of(folder, tmp_path)
    path.unlink()
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "train/bee/0.tiff")
    assert "32-bit" in error_of(folder, tmp_path)


def test_broken_images_can_be_skipped(tmp_path, capsys):
    path = break_image(write_folder(tmp_path), b"no image")
    data = folder(tmp_path, on_bad_image="skip")
    kept = torch.cat([data.splits["train"][1], data.splits["validation"][1]])
    assert torch.bincount(kept).tolist() == [4, 3, 4]
    for pixels, labels in data.splits.values():  # each label still stands by its image
        assert torch.equal(pixels.amin((1, 2, 3)), 10 * labels)
    said = capsys.readouterr().out
    assert "skipped 1 of " in said and f"\n{path}: cannot be decoded" in said
    for file in (tmp_path / "test").glob("*/*"):
        file.write_bytes(b"")
    assert "nor can any other of 12" in error_of(folder, tmp_path, on_bad_image="skip")


def test_the_name_of_a_file_is_one_line_of_the_log(tmp_path, capsys):
    path = break_image(write_folder(tmp_path), b"no image")
    path.rename(path.with_name("x\nerror: \x1b[2J.png"))
    (path.parent / "y\nerror: y.txt").touch()
    folder(tmp_path, on_bad_image="skip")
    said = capsys.readouterr().out
    assert r"/x\nerror: \x1b[2J.png: cannot be decoded" in said and r"/y\nerror: y.txt" in said
    assert not [line for line in said.splitlines() if line.startswith("error")]
    assert "\x1b" not in said


def make_odd(root: Path, change: str) -> None:
    if change == "renamed":
        (root / "test/bee").rename(root / "test/bea")
    elif change == "empty":
        for file in (root / "test/cat").iterdir():
            file.unlink()
    elif change == "flat":
        (root / "train").rename(root / "images")
    elif change == "one":
        (root / "train").rename(root / "all")
        (root / "train").mkdir()
        (root / "all/ant").rename(root / "train/ant")


def test_a_class_without_test_images_is_told_of(tmp_path, capsys):
    root = write_folder(tmp_path)
    shutil.rmtree(root / "test/bee")
    data = folder(tmp_path)
    assert data.classes == 3 and {*data.splits["test"][1].tolist()} == {0, 2}
    for pixels, labels in data.splits.values():
        assert torch.equal(pixels.amin((1, 2, 3)), 10 * labels)
    assert "test: no image of bee, so nothing is judged on these" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("renamed", ["/test: ", "bea, bee"]),
        ("empty", ["/test/cat: ", "no image", "0 files"]),
        ("flat", ["config key datasets.mine.folder", "/train"]),
        ("one", ["/train: 1 class folders", "at least two"]),
    ],
)
def test_folder_that_does_not_fit(change, parts, tmp_path):
    make_odd(write_folder(tmp_path), change)
    message = error_of(folder, tmp_path)
    assert str(tmp_path) in message and all(part in message for part in parts)


# A file of arrays


def arrays(n=12, shape=(8, 8), dtype=np.uint8, **others) -> dict[str, np.ndarray]:
    pixels = noise(n, *shape)
    if dtype != np.uint8:
        pixels = (pixels / 255).astype(dtype)
    found = {"train_images": pixels, "train_labels": np.arange(n) % 3}
    return found | {key: value for key, value in others.items() if value is not None}


def npz(path: Path, content: dict, *, compressed=False, **settings):
    file = path / "images.npz"
    (np.savez_compressed if compressed else np.savez)(file, **content)
    settings = {"validation": 3, "test": 3, "split_seed": 0} | settings
    return prepare("npz", file=file, name="mine", **settings)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("shape", "expected", "axis"),
    [
        ((8, 9), (1, 8, 9), None),
        ((1, 8, 9), (1, 8, 9), 0),
        ((3, 8, 9), (3, 8, 9), 0),
        ((8, 9, 3), (3, 8, 9), 2),
        ((8, 9, 1), (1, 8, 9), 2),
        ((8, 3, 4), (4, 8, 3), 2),
        ((3, 8, 3), (3, 8, 3), 0),  # both could be: the first is taken
    ],
)
def test_layouts(shape, expected, axis, compressed, tmp_path):
    content = arrays(shape=shape)
    data = npz(tmp_path, content, compressed=compressed)
    stored = torch.cat([images for images, _ in data.splits.values()])
    assert stored.shape == (12, *expected) and stored.dtype == torch.uint8 and data.levels == 255
    given = content["train_images"]
    given = given[:, None] if axis is None else np.moveaxis(given, axis + 1, 1)
    label_of = {g.tobytes(): label for g, label in zip(given, content["train_labels"], strict=True)}
    for images, labels in data.splits.values():
        assert images.is_contiguous()
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()


@pytest.mark.parametrize(("shape", "axis"), [((6, 8, 8), 0), ((8, 8, 6), 2)])
def test_more_than_four_channels_of_square_images(shape, axis, tmp_path):
    content = arrays(shape=shape)
    data = npz(tmp_path, content)
    stored = torch.cat([images for images, _ in data.splits.values()])
    given = np.moveaxis(content["train_images"], axis + 1, 1)
    assert {image.numpy().tobytes() for image in stored} == {image.tobytes() for image in given}
    for odd in ((6, 8, 9), (8, 9, 6), (6, 6, 6)):
        assert "do not show which axis" in error_of(npz, tmp_path, arrays(shape=odd))


def test_sixteen_bits_are_shares_of_the_range(tmp_path):
    content = arrays() | {"train_images": noise(12, 8, 8).astype(np.uint16) * 257}
    data = npz(tmp_path, content)
    stored = torch.cat([images for images, _ in data.splits.values()])
    known = {(image / 255).astype(np.float32).tobytes() for image in noise(12, 8, 8)}
    assert data.levels is None and {image[0].numpy().tobytes() for image in stored} <= known


def test_arrays_as_keras_and_medmnist_call_them(tmp_path):
    given = arrays(test_images=noise(6, 8, 8, seed=1), test_labels=np.arange(6) % 3)
    expected = npz(tmp_path, given, test=None)
    names = {"images": "x", "labels": "y"}
    keras = {f"{names[k.partition('_')[2]]}_{k.partition('_')[0]}": v for k, v in given.items()}
    column = {key: v[:, None] if key.endswith("labels") else v for key, v in given.items()}
    for content in (keras, column):
        found = npz(tmp_path, content, test=None)
        for split, parts in expected.splits.items():
            assert all(torch.equal(*pair) for pair in zip(found.splits[split], parts, strict=True))
    features = {key: v.reshape(len(v), -1) / 255 if "x" in key else v for key, v in keras.items()}
    assert npz(tmp_path, features, test=None).splits["train"][0].shape == (9, 64)
    two = given | {"train_labels": np.zeros((12, 2), int)}
    assert "train_labels is int64 [12, 2]" in error_of(npz, tmp_path, two)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_kept(dtype, tmp_path):
    content = arrays(dtype=dtype)
    data = npz(tmp_path, content)
    train = data.splits["train"][0]
    assert data.levels is None and train.dtype == torch.float32 and train.shape == (6, 1, 8, 8)
    assert torch.equal(data.pixels(train), train)
    known = {image.tobytes() for image in content["train_images"].astype(np.float32)}
    assert all(image.numpy().tobytes() in known for image in train)
    assert data.mean[0] == pytest.approx(train.double().mean().item())
    assert data.std[0] == pytest.approx(train.double().std(correction=0).item())


def test_splits_of_arrays(tmp_path, capsys):
    more = {
        "test_images": noise(6, 8, 8, seed=1),
        "test_labels": np.arange(6, dtype=np.uint8) % 3,
        "validation_images": noise(5, 8, 8, seed=2),
        "validation_labels": np.full(5, 4),
        "more_images": noise(5, 8, 8),
    }
    data = npz(tmp_path, arrays(**more), validation=None, test=None)
    assert {s: len(labels) for s, (_, labels) in data.splits.items()} == {
        "train": 12,
        "validation": 5,
        "test": 6,
    }
    assert data.classes == 5  # the largest label of all
    assert "not used: more_images" in capsys.readouterr().out


@pytest.mark.parametrize("name", VALIDATION)
@pytest.mark.parametrize("test", [False, True])
def test_validation_arrays_by_any_name(name, test, tmp_path):
    digits = load_digits()
    pixels = (digits.images * 255 / 16).astype(np.uint8)
    parts = {"train": slice(300), name: slice(300, 420)} | (
        {"test": slice(420, 520)} if test else {}
    )
    files = {split: {image.tobytes() for image in pixels[part]} for split, part in parts.items()}
    content = {}
    for split, part in parts.items():
        content |= {f"{split}_images": pixels[part], f"{split}_labels": digits.target[part]}
    data = npz(tmp_path, content, validation=None if test else 50, test=None)
    judged, chosen = ("test", name) if test else (name, "train")
    assert drawn_from(data, files) == {"train": {"train"}, "validation": {chosen}, "test": {judged}}


@pytest.mark.parametrize("part", ["images", "labels"])
def test_several_validation_arrays_are_refused(part, tmp_path):
    more = {"val_images": noise(3, 8, 8), "val_labels": np.arange(3), f"valid_{part}": np.arange(3)}
    message = error_of(npz, tmp_path, arrays(**more))
    assert "holds val_images and valid_images" in message


def labelled(labels, **settings) -> dict:
    digits = load_digits()
    pixels = (digits.images * 255 / 16).astype(np.uint8)
    return arrays(train_images=pixels, train_labels=labels(digits.target), **settings)


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (lambda y: y + 1, ["run from 1 to 10", "11 outputs for 10", "labels - 1", "classes: 11"]),
        (lambda y: y.astype(np.uint8) + 3, ["run from 3 to 12", "labels - 3", "classes: 13"]),
        (lambda y: 2 * y + 1, ["run from 1 to 19", "numbers from 0 to 9", "classes: 20"]),
    ],
)
def test_labels_that_do_not_begin_at_0(labels, parts, tmp_path):
    message = error_of(npz, tmp_path, labelled(labels))
    assert message.startswith(f"{tmp_path / 'images.npz'}: labels ")
    assert all(part in message for part in parts) and "datasets.mine.classes" in message
    count = int(parts[-1].split()[-1])
    assert npz(tmp_path, labelled(labels), classes=count).classes == count  # if it is meant


def test_labels_that_begin_at_0_in_another_split_are_whole(tmp_path):
    more = {"test_images": noise(3, 8, 8), "test_labels": np.arange(3)}
    data = npz(tmp_path, labelled(lambda y: y + 1, **more))
    assert data.classes == 11


def test_a_class_in_the_middle_without_samples_is_told(tmp_path, capsys):
    data = npz(tmp_path, labelled(lambda y: y + (y > 3)))
    assert data.classes == 11
    assert "train: no sample of class 4, of 11 classes" in capsys.readouterr().out
    facts = describe(
        {"source": "npz", "file": str(tmp_path / "images.npz"), "classes": None}, name="x"
    )
    assert facts.unlearned == (4,)
    npz(tmp_path, labelled(lambda y: y))
    assert "no sample" not in capsys.readouterr().out


def test_pixels_of_another_range_are_warned_of(tmp_path, capsys):
    digits = load_digits()
    for pixels in (digits.images.astype(np.uint8), digits.images / 255):  # 0..16 are meant
        content = {"train_images": pixels, "train_labels": digits.target}
        npz(tmp_path, content)
        (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("warning: ")]
        assert "no pixel of train_images is above" in line
        npz(tmp_path, content | {"train_images": pixels * 15})
        assert "warning" not in capsys.readouterr().out


OBJECTS = np.array([{}] * 12, dtype=object)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"images": noise(3, 8, 8)}, ["no array train_images, only images"]),
        (arrays(test_images=noise(3, 8, 8)), ["no array test_labels"]),
        (arrays(train_labels=np.arange(11)), ["12 images", "11 labels"]),
        (arrays(n=0), ["0 images"]),
        (arrays(train_labels=np.arange(12.0)), ["train_labels is float64", "whole numbers"]),
        (arrays(train_labels=np.eye(12, dtype=int)), ["train_labels is int64 [12, 12]"]),
        (arrays(train_labels=np.arange(12) - 1), ["train_labels holds the label -1"]),
        (arrays(train_labels=np.zeros(12, int)), ["all labels are 0"]),
        (arrays(train_images=noise(12, 64)), ["train_images is uint8 [12, 64]"]),
        (arrays(train_images=np.zeros((12, 8, 8), int)), ["train_images is int64"]),
        (arrays(train_images=np.zeros((12, 8, 8)) + 2), ["from 2 to 2", "0 to 1"]),
        (arrays(train_images=np.zeros((12, 8, 8)) + np.nan), ["nan", "0 to 1"]),
        (arrays(shape=(8, 8, 8)), ["[8, 8, 8]", "1 to 4 channels"]),
        (
            arrays(test_images=noise(3, 9, 9), test_labels=np.arange(3)),
            ["test_images holds uint8 [9, 9]", "[8, 8]"],
        ),
        (arrays(train_images=OBJECTS), ["train_images is object"]),
        (arrays(train_labels=OBJECTS), ["train_labels is object"]),
    ],
)
def test_arrays_that_do_not_fit(content, parts, tmp_path):
    message = error_of(npz, tmp_path, content)
    assert message.startswith(f"{tmp_path / 'images.npz'}: ")
    assert all(part in message for part in parts), message


def test_a_label_beyond_the_classes(tmp_path):
    assert npz(tmp_path, arrays(), classes=7).classes == 7
    message = error_of(npz, tmp_path, arrays(), classes=2)
    assert "label 2, expected 0 to 1" in message and "datasets.mine.classes" in message


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\0"])
def test_file_that_holds_no_arrays(content, tmp_path):
    file = tmp_path / "images.npz"
    file.write_bytes(content)
    message = error_of(prepare, "npz", file=file, validation=3, test=3, split_seed=0)
    assert message.startswith(f"{file}: cannot be read")


def test_truncated_arrays(tmp_path):
    npz(tmp_path, arrays())
    file = tmp_path / "images.npz"
    content = bytearray(file.read_bytes())
    content[400:500] = bytes(100)  # the headers are whole, the checksum is not
    file.write_bytes(content)
    message = error_of(prepare, "npz", file=file, validation=3, test=3, split_seed=0)
    assert message.startswith(f"{file}: cannot be read")


# Given moments, and what is known when the workflow is parsed


def test_given_mean_and_std(tmp_path):
    write_folder(tmp_path)
    data = folder(tmp_path, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    assert data.mean == (0.485, 0.456, 0.406) and data.std == (0.229, 0.224, 0.225)
    assert data.moments_key == "datasets.mine.mean"
    assert DataSet.from_tensors(data.to_tensors()).moments_key == "datasets.mine.mean"
    computed = folder(tmp_path)
    assert computed.moments_key is None and "own_moments" not in computed.to_tensors()


def test_described_as_prepared_without_torch(tmp_path):
    write_folder(tmp_path)
    np.savez(tmp_path / "a.npz", **arrays(shape=(8, 9, 3)))
    mine = {"source": "image_folder", "folder": str(tmp_path), "size": 6, "channels": 3}
    theirs = {"source": "npz", "file": str(tmp_path / "a.npz"), "classes": None}
    for dataset in (mine, theirs):
        facts = describe(dataset, name="mine")
        data = prepare(**dataset, validation=3, test=3, split_seed=0)
        assert data.splits["train"][0].shape[1:] == facts.shape and data.classes == facts.classes
    code = f"""
import sys
from faultline.data.describe import describe
for dataset in ({mine}, {theirs}):
    describe(dataset, name="mine")
sys.exit("torch" in sys.modules or "PIL" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# The config


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a folder of images, arrays, and files that may be weights."""
    monkeypatch.chdir(tmp_path)
    write_folder(Path("photos"))
    np.savez("a.npz", **arrays())
    for name in ("w.pt", "w.txt"):
        Path(name).touch()


FOLDER = {"source": "image_folder", "folder": "photos", "size": 12}
ARRAYS = {"source": "npz", "file": "a.npz", "test": 3}


@pytest.mark.parametrize(
    ("dataset", "training", "parts"),
    [
        (FOLDER | {"folder": "nowhere"}, {}, ["datasets.mine.folder", "nowhere/train"]),
        ({"source": "image_folder", "size": 8}, {}, ["datasets.mine.folder: missing"]),
        ({"source": "image_folder", "folder": "photos"}, {}, ["datasets.mine.size: missing"]),
        (FOLDER | {"channels": 2}, {}, ["datasets.mine.channels", "2"]),
        (FOLDER | {"file": "a.npz"}, {}, ["datasets.mine.file", "npz only"]),
        (FOLDER | {"mean": [0.5]}, {}, ["datasets.mine.std: missing"]),
        (FOLDER | {"mean": [0.5], "std": [0.5]}, {}, ["datasets.mine.mean", "expected 3"]),
        (FOLDER | {"mean": [0] * 3, "std": [0] * 3}, {}, ["datasets.mine.std.0", "at least 1e-30"]),
        (FOLDER | {"mean": [123.7, 116.3, 103.5], "std": [0.2] * 3}, {}, ["mine.mean", "by 255"]),
        (FOLDER | {"mean": [0.5] * 3, "std": [58.4] * 3}, {}, ["mine.std", "by 255"]),
        (FOLDER | {"on_bad_image": "ignore"}, {}, ["datasets.mine.on_bad_image", "skip"]),
        (ARRAYS | {"file": "b.npz"}, {}, ["datasets.mine.file", "no such file: b.npz"]),
        ({"source": "npz"}, {}, ["datasets.mine.file: missing"]),
        ({"source": "npz", "file": "a.npz"}, {}, ["datasets.mine.test: missing"]),
        (ARRAYS | {"channels": 1}, {}, ["datasets.mine.channels", "image_folder only"]),
        (ARRAYS | {"classes": 2}, {}, ["a.npz: train_labels holds the label 2"]),
        (FOLDER, {"small_conf": "w.pt"}, ["weights.small_conf", "'small_conv'"]),
        (FOLDER, {"small_conv": "v.pt"}, ["weights.small_conv", "no such file: v.pt"]),
        (FOLDER, {"small_conv": "w.txt"}, ["weights.small_conv", "'w.txt'", ".safetensors"]),
        (FOLDER, {"small_conv": 5}, ["weights.small_conv", "text"]),
        (FOLDER, {"small_conv": {"key": "ema"}}, ["weights.small_conv.file: missing"]),
        (FOLDER, {"small_conv": {"file": "w.pt", "kye": "a"}}, ["small_conv.kye", "'key'"]),
        (FOLDER, {"small_conv": {"file": "w.pt", "key": 5}}, ["small_conv.key", "text"]),
        (FOLDER, {"small_conv": {"file": "v.pt", "key": "a"}}, ["no such file: v.pt"]),
        (FOLDER, {"small_conv": {"file": "w.txt", "key": "a"}}, ["'w.txt'", ".safetensors"]),
        (FOLDER, {"small_resnet": "w.pt"}, ["config key networks", "for small_conv"]),
    ],
)
def test_mistakes_in_the_config(dataset, training, parts, here):
    config = yaml.safe_load(TINY) | {"datasets": {"mine": dataset}}
    config["trainings"]["standard"]["weights"] = training
    if "small_resnet" in training:
        config["networks"].append("small_resnet")
        config["synaptic_filtering"]["layers"] = "all"
    message = error_of(resolve, config)
    assert all(part in message for part in parts), message


def test_defaults_of_own_images(here):
    config = yaml.safe_load(TINY) | {"datasets": {"mine": dict(FOLDER), "theirs": dict(ARRAYS)}}
    datasets = resolve(config).dump()["datasets"]
    assert datasets["mine"]["channels"] == 3 and datasets["mine"]["validation"] == 200
    assert datasets["theirs"]["classes"] == 3
    write_folder(Path("photos"), splits=("validation",))
    assert resolve(config).dump()["datasets"]["mine"]["validation"] is None
    again = yaml.safe_load(yaml.safe_dump(resolve(config).dump()))  # what the report keeps
    assert resolve(again).dump() == again


def test_forms_of_given_weights(here):
    named = {"file": "w.pt", "key": "model_ema"}
    for given, expected in (("w.pt", "w.pt"), ({"file": "w.pt"}, "w.pt"), (named, named)):
        config = yaml.safe_load(TINY) | {"datasets": {"mine": dict(FOLDER)}}
        config["trainings"]["standard"]["weights"] = {"small_conv": given}
        found = resolve(config).dump()
        assert found["trainings"]["standard"]["weights"] == {"small_conv": expected}
        assert resolve(yaml.safe_load(yaml.safe_dump(found))).dump() == found
