"""Outputs of layers kept within bounds."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from trainings import OfTokens

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants, without
from faultline.networks.clipping import bounds_of, clip, output_bounds
from faultline.networks.layers import layers


def made():
    torch.manual_seed(0)
    return OfTokens().eval(), torch.randint(0, 5, (7, 6))


def test_bounds_are_of_what_layers_that_are_called_give():
    network, tokens = made()
    found = output_bounds(network, tokens)
    assert [*found] == ["words", "first", "last"]
    with torch.no_grad():
        outputs = network.first(network.words(tokens).mean(1))
    assert found["first"] == pytest.approx((outputs.min().item(), outputs.max().item()))
    assert not network.first._forward_hooks


def test_what_lies_beyond_is_put_to_the_end_and_nan_to_0_until_it_is_lifted():
    network, tokens = made()
    before = network(tokens)
    clip(network, {"first": (-0.25, 0.5)})
    with torch.no_grad():
        network.first.weight[0] = math.inf
        network.first.weight[1] = math.nan
        network.first.bias[2] = -9.0
    given = {}
    network.last.register_forward_pre_hook(lambda _, inputs: given.update(x=inputs[0]))
    network(tokens)
    assert given["x"].isfinite().all() and given["x"].max() <= 0.5
    out = network.first(torch.ones(1, 3))[0]
    assert out[0] == 0.5 and out[1] == 0.0 and out[2] == -0.25
    clip(network, {"last": (0.0, 1.0)})  # in place of the earlier ones
    assert bounds_of(network) == {"last": (0.0, 1.0)}
    assert network.first(torch.ones(1, 3))[0, 0] == math.inf
    clip(network, {})
    assert not bounds_of(network) and len(before) == 7


def test_a_copy_clips_as_well():
    network, tokens = made()
    clip(network, {"last": (-0.01, 0.01)})
    twin = copy.deepcopy(network)
    assert bounds_of(twin) == bounds_of(network) and torch.equal(twin(tokens), network(tokens))
    clip(twin, {})
    assert bounds_of(network) and not bounds_of(twin)


def test_within_its_own_bounds_a_network_stays_as_it_is():
    network, tokens = made()
    before = network(tokens)
    clip(network, output_bounds(network, tokens))
    assert torch.equal(network(tokens), before)


def test_a_network_that_clips_is_swept_as_it_is():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    network.append(nn.Linear(4 * 36, 3)).eval()
    images = torch.randn(40, 1, 8, 8)
    labels = network(images).argmax(1)
    clip(network, {"0": (-0.1, 0.05), "4": (-0.02, 0.3)})
    for name in ("0", "4"):
        layer = layers(network)[name]
        variants = list(nodal_variants(name, layer, filters=range(3), at="weights"))
        found = sweep(
            network, variants, {"clean": images}, labels, ablated=[name], say=lambda _: None
        ).correct["clean"]
        for variant, hits in zip(variants, found, strict=True):
            other = copy.deepcopy(network)
            with torch.no_grad():
                for key, value in without(variant.mask, layer).items():
                    other.get_parameter(key).copy_(value)
                expected = other(images).argmax(1) == labels
            assert np.array_equal(hits, expected.numpy())
        assert not found.all() and found.any()
