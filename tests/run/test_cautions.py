"""What of the data is notes before any number."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from faultline.run.cautions import notes
from faultline.run.plan import Plan
from faultline.studies.config import resolve

CONFIG = """
networks: [small_conv, small_resnet]
trainings:
  standard: {epochs: [0]}
  given: {epochs: [0], weights: {small_conv: {file: w.pt, key: ema}}}
attacks:
  fgsm: {method: fgsm, eps: 0.1}
retraining: {from_epochs: []}
"""
IMAGES, LABELS = (load_digits().images * 255 / 16).astype(np.uint8), load_digits().target


def photos(*splits: str) -> dict:
    for split in splits:
        for number, (image, label) in enumerate(zip(IMAGES[:20], LABELS, strict=False)):
            place = Path(f"{split}/{label}")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")
    return {"source": "image_folder", "folder": ".", "size": 8, "channels": 1, "test": 5}


def arrays(*splits: str, labels=LABELS) -> dict:
    content = {f"{split}_images": IMAGES for split in splits}
    np.savez("a.npz", **content, **{f"{split}_labels": labels for split in splits})
    return {"source": "npz", "file": "a.npz", "test": 5}


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What is notes of a config with these data sets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").touch()

    def tell(*, weights=True, split="validation", mends=(), **datasets) -> dict[str, str]:
        config = yaml.safe_load(CONFIG) | {"datasets": datasets, "ablation": {"split": split}}
        config["mending"] = {"from_epochs": [*mends]}
        if not weights:
            del config["trainings"]["given"]
        return notes(Plan(resolve(config)))

    return tell


DIGITS = {"source": "digits", "test": 60}
UNTRAINED = {"train": 0, "mean": [0.3], "std": [0.3]}
FASHION = {"source": "fashion_mnist", "folder": "nowhere"}


@pytest.mark.parametrize(
    ("dataset", "splits"),
    [
        (lambda: DIGITS, ["test", "validation"]),
        (lambda: FASHION, ["validation"]),
        (lambda: photos("train"), ["test", "validation"]),
        (lambda: photos("train", "test"), ["validation"]),
        (lambda: photos("train", "val"), ["validation"]),
        (lambda: photos("train", "val", "test"), []),
        (lambda: arrays("train"), ["test", "validation"]),
        (lambda: arrays("train", "test"), ["validation"]),
        (lambda: arrays("train", "valid"), ["validation"]),
        (lambda: arrays("train", "validation", "test"), []),
        (lambda: photos("test") | UNTRAINED, []),
        (lambda: arrays("val") | UNTRAINED, []),
        (lambda: DIGITS | UNTRAINED, ["test", "validation"]),
    ],
)
@pytest.mark.parametrize("split", ["test", "validation"])
def test_where_given_weights_may_have_seen_what_they_are_judged_on(dataset, splits, split, said):
    given = dataset()
    if split == "test":
        splits = [each for each in splits if each == "test"]
    assert said(weights=False, split=split, mine=given) == {}
    found = said(split=split, mine=given)
    if not splits:
        assert found == {}
        return
    text = found["Given weights"]
    assert text.startswith(f"The {' and '.join(splits)} images of mine are drawn from the training")
    assert "the weights of small_conv may have been trained on" in text
    judged = "accuracies, scores" if "test" in splits else "scores and classes look"
    assert judged in text and ("ablation.split: test" in text) == (splits == ["validation"])


def test_what_chooses_mends_may_flatter_given_weights(said):
    found = said(split="test", mends=[0], a=DIGITS, b=photos("train", "val", "test"))
    text = found["Given weights"]
    assert "The validation images of a, by which mending chooses, may flatter the given" in text
    assert "by which mending chooses" not in said(a=DIGITS)["Given weights"]


def test_data_sets_are_told_together(said):
    text = said(a=DIGITS, b=FASHION | {"size": 8}, c=DIGITS)["Given weights"]
    assert "test and validation images of a, c are" in text
    assert "The validation images of b are" in text


def test_classes_without_training_samples(said):
    assert said(mine=arrays("train"), weights=False) == {}
    found = said(mine=arrays("train", labels=LABELS + (LABELS > 3)), weights=False)
    assert found["Classes without samples"].startswith(
        "The training set of mine has no sample of class 4, of 11 classes: "
    )
