"""Fewer bits and fewer weights, by hand and beside plain loops."""

import numpy as np
import pytest
import torch
from torch import nn

from faultline.ablation.compression import (
    Form,
    compressed,
    compression_variant,
    forms,
    pruned,
    quantised,
)
from faultline.ablation.sweep import sweep
from faultline.base.errors import UserError


def quiet(_):
    pass


def test_quantised_by_hand():
    weight = torch.tensor([[0.7, -0.34, 0.1], [7.0, -7.0, 0.4]])
    # int4: 7 steps either side; channels of scale 0.1 and 1, together of 1
    expected = torch.tensor([[0.7, -0.3, 0.1], [7.0, -7.0, 0.0]])
    assert torch.allclose(quantised(weight, 4, 0), expected)
    together = torch.tensor([[1.0, 0.0, 0.0], [7.0, -7.0, 0.0]])
    assert torch.allclose(quantised(weight, 4), together)
    # int2: -largest, 0, largest
    ends = torch.tensor([[0.7, 0.0, 0.0], [7.0, -7.0, 0.0]])
    assert torch.allclose(quantised(weight, 2, 0), ends)
    assert torch.equal(quantised(torch.zeros(3, 2), 8, 0), torch.zeros(3, 2))


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_quantised_as_a_plain_loop(bits, axis):
    weight = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    found, most = quantised(weight, bits, axis).numpy(), 2 ** (bits - 1) - 1
    channels = [weight] if axis is None else weight.unbind(axis)
    for channel, after in zip(
        channels, [found] if axis is None else np.moveaxis(found, axis, 0), strict=True
    ):
        scale = float(channel.abs().max()) / most
        for value, got in zip(channel.flatten().tolist(), after.ravel(), strict=True):
            steps = [k * scale for k in range(-most, most + 1)]
            nearest = min(steps, key=lambda step: abs(step - value))
            assert got == pytest.approx(nearest, abs=1e-6)


def test_pruned_by_hand():
    tensors = {"a": torch.tensor([[3.0, -1.0]]), "b": torch.tensor([0.5, -2.0, 1.0])}
    after = pruned(tensors, 0.4)  # two of five: 0.5, and of -1 and 1 the first
    assert after["a"].tolist() == [[3.0, 0.0]] and after["b"].tolist() == [0.0, -2.0, 1.0]
    assert all(torch.equal(pruned(tensors, 0)[key], tensors[key]) for key in tensors)
    assert not any(part.any() for part in pruned(tensors, 1).values())


def test_channels_lie_where_the_layer_has_them():
    torch.manual_seed(0)
    for layer, axis in (
        (nn.Conv2d(3, 4, 2), 0),
        (nn.ConvTranspose2d(3, 4, 2), 1),
        (nn.Linear(3, 4), 0),
        (nn.Embedding(5, 4), 0),
        (nn.LSTM(3, 4), 0),
    ):
        for name, value in compressed(layer, Form(bits=4)).items():
            assert torch.equal(value, quantised(layer.get_parameter(name).detach(), 4, axis))
            one = compressed(layer, Form(bits=4), by_channel=False)[name]
            assert torch.equal(one, quantised(layer.get_parameter(name).detach(), 4))
    norm = nn.LayerNorm(6)
    nn.init.normal_(norm.weight)
    found = compressed(norm, Form(bits=4))["weight"]
    assert torch.equal(found, quantised(norm.weight.detach(), 4))


def test_all_layers_at_once_are_those_of_each_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    layers = {"0": network[0], "2": network[2]}
    images = torch.randn(50, 6)
    labels = network(images).argmax(1)
    chosen = {"0": Form(bits=2), "2": Form(share=0.5)}
    variant = compression_variant(layers, chosen)
    assert variant.columns == {"form": "several", "weights": 72, "changed_weights": 48 - 8 + 12}
    alone = [compression_variant(layers, {name: form}) for name, form in chosen.items()]
    assert [of.columns["form"] for of in alone] == ["int2", "prune 0.5"]
    both = alone[0].replace() | alone[1].replace()
    assert both.keys() == variant.replace().keys()
    assert all(torch.equal(value, both[key]) for key, value in variant.replace().items())
    facts = sweep(
        network, [variant], {"clean": images}, labels, ablated=["0", "2"], say=quiet
    ).correct["clean"]
    with torch.no_grad():
        for key, value in both.items():
            network.get_parameter(key).copy_(value)
        expected = network(images).argmax(1) == labels
    assert np.array_equal(facts[0], expected.numpy()) and not expected.all()


def test_pruning_over_all_layers_takes_the_smallest_of_all():
    layers = {"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)}
    with torch.no_grad():
        layers["a"].weight.copy_(torch.tensor([[0.1, 0.2]]))
        layers["b"].weight.copy_(torch.tensor([[0.3, 5.0]]))
    half = dict.fromkeys(layers, Form(share=0.5))
    each = compression_variant(layers, half).replace()
    assert each["a.weight"].tolist() == [[0, pytest.approx(0.2)]]
    as_one = compression_variant(layers, half, as_one=True).replace()
    assert not as_one["a.weight"].any() and as_one["b.weight"].all()


def test_what_changes_nothing_equals_the_whole_network():
    layer = nn.Linear(4, 4)
    nn.init.constant_(layer.weight, 2.0)
    variant = compression_variant({"fc": layer}, {"fc": Form(bits=8)})
    assert variant.key is None and variant.columns["changed_weights"] == 0


@pytest.mark.parametrize(
    ("bits", "shares", "words"),
    [([1], [], "compression: bits: 1"), ([], [1.5], "compression: prune: 1.5")],
)
def test_forms_that_make_no_sense_are_refused(bits, shares, words):
    with pytest.raises(UserError, match=words):
        forms(bits, shares)
    with pytest.raises(UserError, match="no layer is named"):
        compression_variant({}, {})
