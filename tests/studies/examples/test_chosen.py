"""Which images are shown, by hand and against a network whose filters are removed naively."""

import base64
import copy
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.data.splits import DataSet
from faultline.networks.layers import layers as layers_of
from faultline.networks.registry import build
from faultline.studies.examples.chosen import (
    ROOM,
    examples,
    first_of_each_class,
    lost_images,
    most_fragile,
)

ATTACKS = {
    "pgd": {"method": "pgd", "steps": 3, "eps": 0.2, "norm": "linf"},
    "short": {"method": "pgd", "steps": 2, "eps": 0.5, "norm": "l2"},
}


def pixels(source: str) -> np.ndarray:
    _, _, data = source.partition("base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(float)


def network_on(shape: tuple, *, classes: int = 4, n: int = 120):
    """A network and random images, of which it classifies every third wrongly."""
    network = build("small_conv", shape=shape, classes=classes, mean=0.5, std=0.3, seed=0).eval()
    torch.manual_seed(1)
    images = torch.rand(n, *shape)
    with torch.no_grad():  # all classes about as often
        layers_of(network)["fc"].bias -= network(images).mean(0)
        labels = network(images).argmax(1)
    labels[::3] = (labels[::3] + 1) % classes
    splits = dict.fromkeys(("train", "validation", "test"), (images, labels))
    moments = {"mean": (0.5,) * shape[0], "std": (0.3,) * shape[0]}
    dataset = DataSet("random", classes, (0.0, 1.0), None, splits=splits, **moments)
    return network, dataset


def test_the_first_image_of_each_class_that_is_right():
    labels = np.array([2, 0, 0, 1, 1, 2, 2, 3])
    predicted = np.array([1, 1, 0, 1, 1, 2, 2, 0])
    assert first_of_each_class(labels, predicted) == [2, 3, 5]
    assert first_of_each_class(labels, (labels + 1) % 4) == []
    assert first_of_each_class(np.arange(30), np.arange(30)) == [*range(10)]


def test_the_most_fragile_filters_decided_ones_first():
    rows = [
        ("a", 0, "S_clean", "fragile", False, -0.9),
        ("a", 1, "S_clean", "fragile", True, -0.1),
        ("b", 0, "S_clean", "fragile", True, -0.3),
        ("b", 0, "S_adv", "fragile", True, -2.0),
        ("b", 1, "S_clean", "robust", True, -0.5),
        ("b", 2, "S_clean", "fragile", False, -0.2),
    ]
    columns = ["layer", "filter", "score", "class", "decided", "value"]
    found = most_fragile(pd.DataFrame(rows, columns=columns))
    assert found[["layer", "filter"]].to_numpy().tolist() == [["b", 0], ["a", 1], ["a", 0]]
    assert not len(most_fragile(pd.DataFrame()))


def test_examples_are_images_that_are_right_and_what_attacks_make_of_them():
    network, dataset = network_on((1, 8, 8))
    table = examples(network, dataset, attacks=ATTACKS, seed=0)
    images, labels = dataset.splits["test"]
    clean = table[table["attack"] == "none"]
    assert set(table["attack"]) == {"none", *ATTACKS} and len(table) == 3 * len(clean)
    for row in clean.to_dict("records"):
        index = row["index"]
        assert row["label"] == row["predicted"] == labels[index] and index % 3
        before = [i for i in range(index) if i % 3 and labels[i] == labels[index]]
        assert not before and row["difference"] == ""
        assert (pixels(row["picture"]) == (255 * images[index, 0]).round().numpy()).all()
    assert list(clean["label"]) == sorted(set(labels[np.arange(len(labels)) % 3 > 0].tolist()))
    for name, attack in ATTACKS.items():
        part = table[table["attack"] == name]
        assert set(part["eps"]) == {attack["eps"]} and set(part["index"]) == set(clean["index"])
        largest = 0
        for row in part.to_dict("records"):
            change = (pixels(row["picture"]) / 255 - images[row["index"], 0].numpy()).round(6)
            size = abs(change).max() if name == "pgd" else np.sqrt((change**2).sum())
            assert 0 < size <= attack["eps"] + 0.02
            drawn = (pixels(row["difference"]) / 127.5 - 1) / row["magnified"]
            assert abs(drawn - change).max() < 0.005
            adversarial = torch.tensor(pixels(row["picture"]) / 255, dtype=torch.float32)
            answer = network(adversarial[None, None]).softmax(1)[0, row["predicted"]]
            assert answer.item() == pytest.approx(row["confidence"], abs=0.02)
            largest = max(largest, abs(change).max())
        assert part["magnified"].iloc[0] == pytest.approx(1 / largest, rel=0.05)


def test_there_are_fewer_examples_where_pictures_are_large():
    network, dataset = network_on((3, 64, 64), classes=10, n=200)
    table = examples(network, dataset, attacks=ATTACKS, seed=0)
    count = table["index"].nunique()
    assert 1 <= count < first_count(dataset)
    assert (table["picture"] + table["difference"]).str.len().sum() <= ROOM or count == 1


def first_count(dataset: DataSet) -> int:
    labels = dataset.splits["test"][1].numpy()
    return len(set(labels[np.arange(len(labels)) % 3 > 0]))


def test_there_are_no_examples_where_nothing_is_right():
    network, dataset = network_on((1, 8, 8))
    images, _ = dataset.splits["test"]
    with torch.no_grad():
        wrong = (network(images).argmax(1) + 1) % dataset.classes
    dataset.splits["test"] = images, wrong
    assert not len(examples(network, dataset, attacks=ATTACKS, seed=0))


@pytest.mark.parametrize("at", ["weights", "activation"])
def test_lost_images_are_those_that_are_wrong_without_the_filter(at):
    network, dataset = network_on((1, 8, 8))
    index = np.arange(5, 120, 2)
    images, labels = (part[index] for part in dataset.splits["test"])
    layer = layers_of(network)["conv1"]
    variants = list(nodal_variants("conv1", layer, filters=range(layer.out_channels), at=at))
    facts = sweep(network, variants, {"clean": images}, labels, ablated=["conv1"])
    lost = facts.base["clean"] & ~facts.correct["clean"]
    worst = int(lost.sum(1).argmax())
    assert lost[worst].any()
    filters = {"layer": "conv1", "filter": [worst], "score": "S_clean", "class": "fragile"}
    table = lost_images(
        network,
        lambda: (images, labels),
        filters=pd.DataFrame(filters | {"decided": True, "value": -0.2}),
        facts={"conv1": facts},
        index=index,
        at=at,
    )
    assert list(table["index"]) == list(index[lost[worst]])
    assert (table["label"] != table["predicted"]).all()
    gained = facts.correct["clean"][worst] & ~facts.base["clean"]
    assert set(table["gained"]) == {gained.sum()} and set(table["n"]) == {len(index)}
    assert (table["picture"] != "").sum() == min(len(table), 10)
    for row in table[:10].to_dict("records"):
        shown = (255 * dataset.splits["test"][0][row["index"], 0]).round().numpy()
        assert (pixels(row["picture"]) == shown).all()
    if at == "weights":
        broken = copy.deepcopy(network)
        module = layers_of(broken)["conv1"]
        module.weight.data[worst] = 0
        if module.bias is not None:
            module.bias.data[worst] = 0
        with torch.no_grad():
            answers = broken(dataset.splits["test"][0][table["index"].tolist()]).argmax(1)
        assert answers.tolist() == list(table["predicted"])


def test_nothing_is_lost_where_no_filter_is_fragile():
    network, _ = network_on((1, 8, 8))
    how = {"facts": {}, "index": None, "at": "weights"}
    assert not len(lost_images(network, lambda: None, filters=pd.DataFrame(), **how))


def test_an_output_that_is_not_finite_is_no_class():
    network, dataset = network_on((1, 8, 8))
    _, labels = dataset.splits["test"]
    labels[labels == 0] = 1
    layers_of(network)["fc"].bias.data[:] = torch.nan  # which argmax takes for class 0
    labels[0] = 0
    assert not len(examples(network, dataset, attacks=ATTACKS, seed=0))
