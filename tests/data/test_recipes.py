"""What else people have, by the recipes of docs/own.md."""

import io
import tarfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat
from support import ROOT, fenced

from faultline.data.splits import prepare

COLOURS = np.arange(12, dtype=np.uint8).repeat(32 * 32 * 3).reshape(12, 32, 32, 3)


def lists(folder):
    for number, pixels in enumerate(COLOURS):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(12)], "label": ["cat", "ant"] * 6})
    table.to_csv(folder / "labels.csv", index=False)


def tables(folder):
    table = pd.DataFrame({"a": np.arange(12.0), "label": ["b", "a"] * 6, "c": 3})
    table.to_csv(folder / "table.csv", index=False)


def tars(folder):
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for number, pixels in enumerate(COLOURS):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png")
            contents = {"png": file.getvalue(), "cls": str((number + 1) % 2).encode()}
            for ending, content in contents.items():
                info = tarfile.TarInfo(f"{number:03}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def mats(folder):
    values = {"X": COLOURS.transpose(1, 2, 3, 0), "y": np.array([[1], [10]] * 6, np.uint8)}
    savemat(folder / "train_32x32.mat", values)


def names(folder):
    (folder / "photos").mkdir()
    for number, pixels in enumerate(COLOURS):
        label = ("cat", "ant")[number % 2]
        Image.fromarray(pixels).save(folder / f"photos/{label}_{number}.png")


@pytest.mark.parametrize(
    ("make", "recipe", "file"),
    [
        (lists, "from_list.py", "photos.npz"),
        (tables, "from_table.py", "table.npz"),
        (tars, "from_tar.py", "shard.npz"),
        (mats, "from_mat.py", "svhn.npz"),
        (names, "from_names.py", "named.npz"),
    ],
)
def test_recipe(make, recipe, file, tmp_path, monkeypatch):
    make(tmp_path)
    page = (ROOT / "docs/own.md").read_text(encoding="utf-8")
    (code,) = [text for _, text in fenced(page) if text.startswith(f"# {recipe}")]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    written = np.load(file)
    samples, labels = (written[key] for key in sorted(written, key=lambda key: "labels" in key))
    numbers = samples.reshape(12, -1)[:, 0]
    assert np.array_equal(np.sort(numbers), range(12))
    assert np.array_equal(labels, 1 - numbers % 2)
    data = prepare("npz", file=file, name="m", train=None, validation=2, test=2, split_seed=0)
    assert data.classes == 2 and len(data.splits["train"][1]) == 8
