"""Stresses beside the package imagecorruptions, by hand, and what holds for all of them."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, error_of

from faultline.data.splits import DataSet
from faultline.stresses import digital, moved, weather
from faultline.stresses.registry import IMAGES, STRESSES, stressed

REFERENCE = np.load(Path(__file__).with_name("reference.npz"))
"""See make_reference.py."""

SEED = 3


class Legacy:
    """NumPy's random numbers of old, as a generator of today names them."""

    def __init__(self, seed):
        self.old = np.random.RandomState(seed)

    def __getattr__(self, name):
        return getattr(self.old, name)

    def integers(self, low, high, size=None):
        return self.old.randint(low, high, size)


ALIKE = [key.rpartition("_") for key in REFERENCE if key != "image"]
ALIKE = [(kind, int(severity)) for kind, _, severity in ALIKE]


@pytest.mark.parametrize(("kind", "severity"), ALIKE)
def test_as_the_package_imagecorruptions(kind, severity):
    function = getattr(import_module(f"faultline.stresses.{STRESSES[kind].module}"), kind)
    draws = np.random.default_rng(SEED) if kind == "impulse_noise" else Legacy(SEED)
    found = function(REFERENCE["image"][None] / 255, severity, [draws])[0].clip(0, 1) * 255
    apart = np.abs(found - REFERENCE[f"{kind}_{severity}"])
    if kind == "spatter" and severity < 4:  # the edges of drops are found otherwise
        assert apart.mean() < 3
    else:
        assert apart.max() < 1.001  # of 255: theirs are cut to whole numbers


def dataset_of(shape, *, levels=255, tokens=False, n=20):
    generator = torch.Generator().manual_seed(0)
    if tokens:
        inputs = torch.randint(9, (n, *shape), generator=generator).int()
    elif levels:
        inputs = torch.randint(256, (n, *shape), generator=generator).to(torch.uint8)
    else:
        inputs = torch.rand(n, *shape, generator=generator)
    labels = torch.arange(n) % 2
    bounds = None if tokens else (0.0, 1.0)
    splits = dict.fromkeys(("train", "validation", "test"), (inputs, labels))
    levels = None if tokens else levels
    return DataSet("some", 2, bounds, levels, None, None, splits)


SHAPES = {
    "image": dataset_of((3, 32, 28)),
    "small": dataset_of((1, 8, 8)),
    "signal": dataset_of((2, 40), levels=None),
    "vector": dataset_of((6,), levels=None),
    "token": dataset_of((12,), tokens=True),
}
EACH = [(kind, data) for kind, of in STRESSES.items() for data in SHAPES if data in of.kinds]
EACH += [(kind, "small") for kind, of in STRESSES.items() if "image" in of.kinds and not of.colour]


@pytest.mark.parametrize(("kind", "data"), EACH)
def test_each_input_has_draws_of_its_own(kind, data):
    dataset = SHAPES[data]
    inputs, _ = dataset.splits["test"]
    common = {"dataset": dataset, "seed": 1}
    assert torch.equal(stressed(kind, inputs, severity=0, **common), inputs)
    whole = stressed(kind, inputs, severity=3, **common)
    assert whole.shape == inputs.shape and whole.dtype == inputs.dtype
    assert not torch.equal(whole, inputs)
    again = stressed(kind, inputs[:5], severity=3, **common)
    if kind != "missing":  # whose means are those of all that are given
        assert torch.equal(again, whole[:5])
    assert torch.equal(stressed(kind, inputs, severity=3, **common), whole)
    values = dataset.pixels(whole)
    if data != "token":
        assert values.min() >= 0 and values.max() <= 1
    else:
        assert {*whole.unique().tolist()} <= {*inputs.unique().tolist()}


def test_a_change_of_any_module_remakes_what_it_made():
    rules = (ROOT / "rules/stresses.smk").read_text(encoding="utf-8")
    modules = sorted({stress.module for stress in STRESSES.values()})
    assert str(tuple(modules)).replace("'", '"') in rules


def test_there_are_fifteen_and_four_of_images():
    assert len(IMAGES) == 15 and "frost" in IMAGES
    assert len([kind for kind, of in STRESSES.items() if of.kinds == ("image",)]) == 15 + 4 + 2


def test_what_is_added_and_what_is_left_out():
    rng = [np.random.default_rng(0)]
    signal = np.linspace(0, 1, 11)[None, :, None]
    assert np.allclose(np.abs(moved.drift(signal, 3, rng) - signal)[0, :, 0], 0.2 * signal[0, :, 0])
    spread = moved.gain(signal, 5, rng).std() / signal.std()
    assert spread == pytest.approx(2) or spread == pytest.approx(0.5)
    held = moved.dropped_stretch(signal, 4, rng)[0, :, 0]
    assert (np.diff(held) == 0).sum() == 3  # of 11 values, and the one before them
    rows = np.arange(40.0).reshape(8, 5)
    gone = moved.missing(rows, 5, [np.random.default_rng(i) for i in range(8)])
    assert ((gone == rows) | (gone == rows.mean(0))).all() and (gone != rows).any()
    tokens = np.arange(20)[None]
    left = moved.dropped_tokens(tokens, 5, rng)[0]
    assert (np.diff(left) >= 0).all() and left[-1] == left.max() and len({*left}) < 20
    shifted = moved.shift(np.ones((1, 10, 10, 1)), 5, rng)[0, ..., 0]
    assert shifted.sum() == 64  # two rows and two columns are 0


def test_contrast_and_brightness_by_hand():
    image = np.array([[[[0.2, 0.4, 0.6]], [[0.4, 0.4, 0.4]]]])
    assert np.allclose(digital.contrast(image, 5, [None])[0, 0, 0], [0.295, 0.4, 0.505])
    brighter = weather.brightness(image, 1, [None])[0, 0]
    assert np.allclose(brighter[0], np.array([0.2, 0.4, 0.6]) * 0.7 / 0.6)
    assert np.allclose(weather.brightness(np.zeros((1, 1, 1, 3)), 2, [None]), 0.2)


def test_a_stress_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def darker(inputs, severity, seed, by):\n    return inputs * (1 - by * severity)\n"
        "def cut(inputs, severity, seed):\n    return inputs[:1]\n"
        "def lost(inputs, severity, seed):\n    return inputs / 0\n"
    )
    dataset = SHAPES["small"]
    inputs, _ = dataset.splits["test"]
    common = {"severity": 2, "dataset": dataset, "seed": 0}
    found = stressed(f"{path}:darker", inputs, options={"by": 0.1}, **common)
    assert torch.equal(found, (inputs.float() / 255 * 0.8 * 255).round().to(torch.uint8))
    assert "expected a tensor of shape (20, 1, 8, 8)" in error_of(
        stressed, f"{path}:cut", inputs, **common
    )
    assert "NaN or infinities" in error_of(stressed, f"{path}:lost", inputs, **common)
