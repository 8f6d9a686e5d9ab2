"""Fewer bits and fewer weights, by hand and beside plain loops."""

import numpy as np
import pytest
import torch
from torch import nn
from trainings import OfTokens

from faultline.ablation.compression import (
    Form,
    compressed,
    compressed_network,
    compression_variant,
    forms,
    input_ranges,
    pruned,
    quantised,
    rounded,
)
from faultline.ablation.sweep import sweep
from faultline.base.errors import UserError
from faultline.networks.layers import layers as layers_of


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
    with pytest.raises(UserError, match="take compressed_network"):
        compression_variant({"a": nn.Linear(2, 2)}, {"a": Form(bits=8, inputs=True)})


def test_inputs_rounded_by_hand():
    values = torch.tensor([-1.0, -0.4, 0.0, 0.9, 2.0, 9.0])
    # int2: four values a step of 1 apart, -1, 0, 1 and 2; what lies beyond is put to the end
    assert rounded(values, 2, (-1.0, 2.0)).tolist() == [-1, 0, 0, 1, 2, 2]
    # 0 is one of them: of -0.9 to 2.1 the nearest to -0.9 is one step below 0, not -0.9 itself
    assert rounded(torch.tensor([-0.9, 0.1, 2.1]), 2, (-0.9, 2.1)).tolist() == [-1, 0, 2]
    assert rounded(torch.zeros(2), 8, (0.0, 0.0)).tolist() == [0, 0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_inputs_are_rounded_as_torch_does(bits):
    values = 3 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    low, high = -2.5, 7.0
    step = (high - low) / (2**bits - 1)
    zero = round(-low / step)
    expected = torch.fake_quantize_per_tensor_affine(values, step, zero, 0, 2**bits - 1)
    # torch rounds value / step in float32, so ties may go another way
    far = (rounded(values, bits, (low, high)) - expected).abs() > 1e-5
    assert far.sum() <= 1


def test_ranges_are_of_what_layers_take_and_hold_0():
    torch.manual_seed(0)
    network, tokens = OfTokens().eval(), torch.randint(0, 5, (7, 4))
    found = input_ranges(network, layers_of(network), tokens)
    assert [*found] == ["first", "last"]  # whole numbers, and weights that a function takes
    with torch.no_grad():
        taken = network.words(tokens).mean(1)
        hidden = network.first(taken).relu()
    assert found["first"] == pytest.approx((min(0, taken.min().item()), max(0, taken.max().item())))
    assert found["last"] == pytest.approx((0, hidden.max().item()))
    assert not network.first._forward_pre_hooks


def test_a_network_whose_inputs_are_rounded_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    images = torch.randn(50, 6)
    own = {"0": network[0], "2": network[2]}
    ranges = input_ranges(network, own, images)
    of = {"0": Form(bits=4, inputs=True), "2": Form(bits=3, inputs=True)}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = compressed_network(network, of, ranges)(images)
    value = images
    with torch.no_grad():
        for name, form in of.items():
            low, high = ranges[name]
            step = (high - low) / (2**form.bits - 1)
            zero = round(-low / step)
            levels = [(level - zero) * step for level in range(2**form.bits)]
            flat = [
                min(levels, key=lambda level, v=v: abs(level - v)) for v in value.flatten().tolist()
            ]
            value = torch.tensor(flat).view_as(value)
            weight = compressed(own[name], form)["weight"]
            value = nn.functional.linear(value, weight, own[name].bias)
            value = value.relu() if name == "0" else value
    assert torch.allclose(found, value, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    # a layer whose inputs are not seen has its weights rounded alone
    alone = compressed_network(network, {"0": of["0"]}, {})(images)
    with torch.no_grad():
        network[0].weight.copy_(compressed(own["0"], of["0"])["weight"])
        assert torch.equal(alone, network(images))
