"""Signals, features and tokens in a file of arrays; images are in test_images."""

import io
import random
import zipfile

import numpy as np
import pytest
import torch
import yaml
from support import TINY, error_of

from faultline.base.errors import UserError
from faultline.data.describe import describe
from faultline.data.splits import DataSet, prepare
from faultline.studies.config import resolve

SPLIT = {"validation": 3, "test": 3, "split_seed": 0, "name": "mine"}


def npz(folder, **content):
    """A file of arrays with labels 0, 1, 0, 1, ... for each split that has samples."""
    labels = {
        f"{name.split('_')[0]}_labels": np.arange(len(values)) % 2
        for name, values in content.items()
        if "labels" not in name
    }
    np.savez(folder / "a.npz", **labels | content)
    return {"source": "npz", "file": str(folder / "a.npz")}


def features(n=12, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)) * [1, 100, 0.01, 3] + [0, 50, 1, -7]


def test_features_are_shares_of_their_range_in_the_train_split(tmp_path, capsys):
    train = np.array([[0.0, -2.0, 5.0], [10.0, 2.0, 5.0], [5.0, 0.0, 5.0], [2.0, 1.0, 5.0]])
    test = np.array([[4.0, 4.0, 7.0], [-5.0, -1.0, 5.0]])
    given = npz(tmp_path, train_features=train, test_features=test, validation_features=train[:2])
    data = prepare(**given, **SPLIT | {"validation": None, "test": None})
    found = {split: {tuple(row.tolist()) for row in data.splits[split][0]} for split in data.splits}
    assert found["train"] == {(0, 0, 0), (1, 1, 0), (0.5, 0.5, 0), (np.float32(0.2), 0.75, 0)}
    assert found["validation"] == {(0, 0, 0), (1, 1, 0)}
    # 4 of -2..2, 7 of 5..5 and -5 of 0..10 are put to the end of the range
    assert found["test"] == {(np.float32(0.4), 1, 0), (0, 0.25, 0)}
    said = capsys.readouterr().out
    assert "test: 3 of 6 values lie beyond" in said and "validation: " not in said
    assert "1 of 3 features are the same" in said
    low, high = data.bounds
    assert low.tolist() == [0, 0, 0] and high.tolist() == [1, 1, 0]
    assert data.ranges == ((0, -2, 5), (10, 2, 5))
    assert data.mean == pytest.approx((0.425, 0.5625, 0)) and data.std[2] == 1
    assert data.levels is None and data.splits["train"][0].dtype == torch.float32


def test_mean_and_std_of_features_are_in_their_own_units(tmp_path):
    values = features()
    given = npz(tmp_path, train_features=values)
    mean, std = [1.0, 2.0, 3.0, 4.0], [0.5, 20.0, 0.1, 2.0]
    data = prepare(**given, mean=mean, std=std, **SPLIT)
    low, high = map(np.array, data.ranges)
    shares = data.splits["train"][0].double().numpy()
    normalised = (shares - np.array(data.mean)) / np.array(data.std)
    expected = (low + shares * (high - low) - mean) / std
    np.testing.assert_allclose(normalised, expected, rtol=1e-6)


def test_the_units_of_a_table_change_nothing(tmp_path):
    values = features()
    one = prepare(**npz(tmp_path, train_features=values), **SPLIT)
    other = prepare(**npz(tmp_path, train_features=values * [2, 0.5, 8, 4] + 16), **SPLIT)
    for split in one.splits:
        images, others = one.splits[split][0], other.splits[split][0]
        torch.testing.assert_close(images, others, rtol=0, atol=1e-6)
    assert one.bounds == other.bounds == (0.0, 1.0)
    assert one.std == pytest.approx(other.std)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_signals_have_a_range_per_channel(dtype, tmp_path):
    values = np.random.default_rng(0).integers(0, 100, size=(12, 2, 5))
    values[:, 1] *= 2
    data = prepare(**npz(tmp_path, train_signals=values.astype(dtype)), **SPLIT)
    train = data.splits["train"][0]
    assert train.shape == (6, 2, 5) and train.amin((0, 2)).tolist() == [0, 0]
    assert train.amax((0, 2)).tolist() == [1, 1] and len(data.mean) == 2
    assert (data.ranges[1][0] < 100) and data.ranges[1][1] > 100


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_tokens_are_kept(dtype, tmp_path):
    values = np.random.default_rng(0).integers(0, 9, size=(12, 7)).astype(dtype)
    given = npz(tmp_path, train_tokens=values)
    data = prepare(**given, **SPLIT)
    tokens = data.splits["train"][0]
    assert tokens.dtype == torch.int32 and data.mean is data.std is data.bounds is None
    assert data.pixels(tokens).dtype == torch.int64 and torch.equal(data.pixels(tokens), tokens)
    known = {tuple(row) for row in values.tolist()}
    assert all(tuple(row.tolist()) in known for row in tokens)
    facts = describe(given | {"classes": None}, name="mine")
    assert (facts.kind, facts.shape, facts.vocabulary) == ("token", (7,), int(values.max()) + 1)


@pytest.mark.parametrize("kind", ["features", "signals", "tokens"])
def test_round_trip(kind, tmp_path):
    values = np.random.default_rng(0).integers(0, 9, size=(12, 2, 3))
    values = values if kind == "signals" else values[:, 0]
    values[:, 1] = 4
    data = prepare(**npz(tmp_path, **{f"train_{kind}": values}), **SPLIT)
    torch.save(data.to_tensors(), tmp_path / "data.pt")
    back = DataSet.from_tensors(torch.load(tmp_path / "data.pt", weights_only=True))
    for split in data.splits:
        assert torch.equal(data.splits[split][0], back.splits[split][0])
    assert (back.mean, back.std, back.ranges) == (data.mean, data.std, data.ranges)
    if kind == "tokens":
        assert back.bounds is None
    else:
        assert all(torch.equal(a, b) for a, b in zip(back.bounds, data.bounds, strict=True))


TOKENS = np.ones((12, 5), int)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"train_values": TOKENS}, ["no array train_images", "signals, features, tokens"]),
        ({"train_features": TOKENS[:, 0]}, ["train_features is int64 [12]", "[n, features]"]),
        ({"train_features": TOKENS[:, :0]}, ["train_features is int64 [12, 0]"]),
        ({"train_features": TOKENS * np.nan}, ["train_features", "not finite"]),
        ({"train_features": TOKENS * 1e300}, ["train_features", "beyond 1e+100"]),
        ({"train_features": TOKENS.astype(object)}, ["train_features is object", "numbers"]),
        ({"train_features": TOKENS, "train_labels": TOKENS[0].astype(object)}, ["is object [5]"]),
        (
            {"train_features": TOKENS, "train_labels": np.arange(12) * 2},
            ["the largest of 12 labels is 22", "datasets.mine.classes"],
        ),
        (
            {"train_features": TOKENS, "train_labels": np.full(12, 2**64 - 1, np.uint64)},
            ["the largest of 12 labels is 18446744073709551615"],
        ),
        ({"train_images": np.zeros((12, 0, 5), np.uint8)}, ["train_images is uint8 [12, 0, 5]"]),
        ({"train_tokens": TOKENS + 2**40}, ["train_tokens holds 1099511627777", "expected 0 to"]),
        ({"train_signals": TOKENS}, ["train_signals is int64 [12, 5]", "[n, channels, steps]"]),
        ({"train_tokens": TOKENS * 1.0}, ["train_tokens is float64", "whole numbers"]),
        ({"train_tokens": TOKENS - 2}, ["train_tokens holds -1", "expected 0 to"]),
        (
            {"train_tokens": TOKENS, "train_features": TOKENS},
            ["train_features and train_tokens", "a file of its own"],
        ),
        (
            {"train_features": TOKENS, "test_features": TOKENS[:, :3]},
            ["test_features holds int64 [3]", "train_features int64 [5]"],
        ),
    ],
)
def test_arrays_that_do_not_fit(content, parts, tmp_path):
    given = npz(tmp_path, **content)
    message = error_of(prepare, **given, **SPLIT)
    assert message.startswith(given["file"]) and "\n" not in message
    assert all(part in message for part in parts), message


def archive(path, shape: tuple[int, ...], *, zeros: int = 60) -> dict:
    """A file whose array says that it has a shape, with so many bytes behind its header."""
    header, labels = io.BytesIO(), io.BytesIO()
    told = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, told)
    np.save(labels, np.arange(12) % 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train_features.npy", header.getvalue() + bytes(zeros))
        file.writestr("train_labels.npy", labels.getvalue())
    return {"source": "npz", "file": str(path), "classes": None}


@pytest.mark.parametrize("shape", [(12, 10**12), (12, 6), (12, 4), (-12, -5), (10**400, 5)])
def test_a_header_that_promises_other_than_is_there(shape, tmp_path):
    message = error_of(describe, archive(tmp_path / "a.npz", shape), name="mine")
    assert message.startswith(str(tmp_path)) and "train_features" in message
    assert describe(archive(tmp_path / "a.npz", (12, 5)), name="mine").shape == (5,)


def test_a_directory_that_promises_more_than_can_be_packed(tmp_path):
    size = 128 + 12 * 2**28  # what 32 bits can say
    given = archive(tmp_path / "a.npz", (12, 2**28), zeros=0)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(content)
    assert "train_features" in error_of(describe, given, name="mine")


def test_any_damage_is_named(tmp_path):
    given, draw = archive(tmp_path / "a.npz", (12, 5)), random.Random(0)
    whole = (tmp_path / "a.npz").read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 3, 10])):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            prepare(**given, **SPLIT)
        except UserError as error:
            assert str(error).startswith(given["file"])


@pytest.mark.parametrize(
    ("kind", "change", "parts"),
    [
        ("features", {"size": 8}, ["datasets.mine.size", "arrays"]),
        ("features", {"channels": 1}, ["datasets.mine.channels", "image_folder only"]),
        ("features", {"mean": [0], "std": [1]}, ["datasets.mine.mean", "expected 5", "feature"]),
        ("tokens", {"mean": [0], "std": [1]}, ["datasets.mine.mean", "not normalised"]),
        ("features", {}, ["small_conv takes images", "holds vectors", "mlp"]),
        ("signals", {}, ["small_conv takes images", "holds signals", "of your own"]),
        ("tokens", {}, ["small_conv takes images", "holds tokens", "of your own"]),
    ],
)
def test_mistakes_in_the_config(kind, change, parts, tmp_path):
    values = TOKENS[:, None] if kind == "signals" else TOKENS
    given = npz(tmp_path, **{f"train_{kind}": values}) | {"test": 3} | change
    message = error_of(resolve, yaml.safe_load(TINY) | {"datasets": {"mine": given}})
    assert all(part in message for part in parts), message


def test_only_images_are_augmented(tmp_path):
    config = yaml.safe_load(TINY)
    config |= {"datasets": {"mine": npz(tmp_path, train_features=TOKENS) | {"test": 3}}}
    config |= {"networks": ["mlp"]}
    config["synaptic_filtering"]["layers"] = "all"
    for training in config["trainings"].values():
        training["augmentation"] = {"flip": True}
    message = error_of(resolve, config)
    assert "augmentation" in message and "holds vectors" in message


def further(folder, **content) -> dict:
    np.savez(folder / "night.npz", **content)
    return {"also": {"night": str(folder / "night.npz")}}


@pytest.mark.parametrize("kind", ["features", "tokens", "images"])
def test_further_test_sets_are_read_as_a_whole(kind, tmp_path):
    values = {"features": features(), "tokens": TOKENS}.get(kind)
    if values is None:
        values = np.arange(12, dtype=np.uint8).repeat(16).reshape(12, 4, 4)
    given = npz(tmp_path, **{f"train_{kind}": values})
    later = {f"test_{kind}": values[:3], "test_labels": np.array([1, 0, 1])}
    data = prepare(**given, **further(tmp_path, **later), **SPLIT)
    inputs, labels = data.splits["also night"]
    assert data.also == ["night"] and sorted(labels.tolist()) == [0, 1, 1]
    assert inputs.shape == (3, *data.splits["train"][0].shape[1:])
    plain = prepare(**given, **SPLIT)
    assert all(map(torch.equal, data.splits["train"], plain.splits["train"]))


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"test_features": features()}, "night.npz: there is no array test_labels, only test_fea"),
        ({"test_labels": [0]}, "night.npz: there is no array test_features, only test_labels"),
        (
            {"test_features": features()[:, :2], "test_labels": [0, 1] * 6},
            "night.npz: test_features holds float64 [2], but train_features float64 [4]",
        ),
        (
            {"test_features": features(), "test_labels": [0, 2] * 6},
            "night.npz: test_labels holds the label 2, expected 0 to 1",
        ),
        (
            {"test_features": features(), "test_labels": [0] * 5},
            "night.npz: test_features holds 12 features, but test_labels 5 labels",
        ),
    ],
)
def test_a_further_test_set_fits_the_others(content, parts, tmp_path):
    given = npz(tmp_path, train_features=features()) | further(tmp_path, **content)
    given["classes"] = None
    assert parts in error_of(describe, given, name="mine")


def test_a_further_test_set_that_is_not_there(tmp_path):
    given = npz(tmp_path, train_features=features()) | {"also": {"night": "none.npz"}}
    message = error_of(describe, given | {"classes": None}, name="mine")
    assert message == "config key datasets.mine.also.night: no such file: none.npz"
