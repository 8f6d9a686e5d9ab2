"""Weights that are made of others become parameters; what modules keep between calls goes back."""

import copy
import threading

import pytest
import torch
from made_weights import MADE, linear, made
from support import error_of
from torch import nn
from torch.nn.utils import parametrize, prune

from faultline.attacks.craft import craft
from faultline.networks.evaluation import evaluation, predict
from faultline.networks.plain import copied, has_weights, plain, preserved

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def twice():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_weights_become_parameters_with_their_values(name, training):
    network, layer = made(name)
    network.train(training)
    images = torch.randn(5, 1, 8, 8)
    before, kind = copy.deepcopy(network.state_dict()), type(network.get_submodule(layer))
    assert not has_weights(network.get_submodule(layer))
    found = plain(network)
    assert has_weights(found.get_submodule(layer))
    names = {name for name, _ in MADE[name][0]().named_parameters()}
    assert {name for name, _ in found.named_parameters()} == names
    assert torch.equal(predict(found, images), predict(network, images))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
    assert network.training == training and type(network.get_submodule(layer)) is kind
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network(images).any()
    network(images).sum().backward()


def test_a_network_of_parameters_is_no_copy():
    network = linear()
    assert plain(network) is network


def test_weights_that_are_made_of_the_same_parameters_stay_one():
    network = twice()
    prune.l1_unstructured(network[1], "weight", 0.5)
    network[2] = network[1]
    found = plain(network)
    assert found[1] is found[2] and has_weights(found[1])
    network = twice()
    for layer in (network[1], network[2]):
        parametrize.register_parametrization(layer, "weight", Doubled())
    network[2].parametrizations.weight.original = network[1].parametrizations.weight.original
    found = plain(network)
    assert found[1].weight is found[2].weight
    assert torch.equal(found[1].weight, network[1].weight)


def test_what_is_tied_in_two_ways_is_refused():
    network = twice()
    parametrize.register_parametrization(network[2], "weight", Doubled())
    network[2].parametrizations.weight.original = network[1].weight
    said = error_of(plain, network)
    for call in ("remove_parametrizations", "prune.remove", "remove_weight_norm"):
        assert call in said


class Keeping(nn.Module):
    """Keeps and changes things of every kind."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.counts, self.seen, self.names, self.calls = [], {"a": [0]}, {"x"}, 0

    def forward(self, x):
        self.calls += 1
        self.counts.append(self.calls)
        self.seen["a"].append(1)
        self.seen[len(x)] = 2 * self.fc.weight
        self.names.add(len(x))
        self.last = x
        self.mean += x.mean(0).detach()
        return self.fc(x) + self.mean + self.calls


class Building(nn.Module):
    """Has its layer from the first call on."""

    def __init__(self):
        super().__init__()
        self.fc = None

    def forward(self, x):
        if self.fc is None:
            self.fc = nn.Linear(x.shape[1], 2)
        return self.fc(x)


def test_what_is_built_in_a_first_call_stays():
    network, images = Building(), torch.rand(3, 2)
    with evaluation(network):
        first = network(images)
    assert torch.equal(predict(network, images), first)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_what_modules_keep_goes_back(mode):
    network = nn.Sequential(Keeping()).eval()
    kept = vars(network[0])
    with preserved(network), mode():
        first = network(torch.ones(3, 2))
        network(torch.ones(4, 2))
        assert network[0].calls == 2 and not hasattr(network[0], "nothing")
    assert (kept["calls"], kept["counts"], kept["seen"]) == (0, [], {"a": [0]})
    assert kept["names"] == {"x"} and "last" not in kept and not network[0].mean.any()
    assert torch.equal(predict(network, torch.ones(3, 2)), first.detach())
    assert network[0].calls == 0


class Cached(nn.Module):
    """As the attention biases of LeViT: kept in eval mode, forgotten when it trains."""

    def __init__(self):
        super().__init__()
        self.fc, self.kept = nn.Linear(4, 3), {}

    def train(self, mode=True):
        if mode:
            self.kept = {}
        super().train(mode)  # and returns nothing, as many do

    def forward(self, x):
        if self.training:
            return x @ (2 * self.fc.weight).T + self.fc.bias
        if x.device not in self.kept:
            self.kept[x.device] = 2 * self.fc.weight
        return x @ self.kept[x.device].T + self.fc.bias


def test_other_weights_have_effect_whatever_was_run_before():
    network, images, labels = Cached(), torch.rand(6, 4), torch.zeros(6, dtype=torch.long)
    network.eval()
    before = predict(network, images)
    given = {"attack": {"method": "pgd", "steps": 2}, "eps": 0.1, "bounds": None, "seed": 0}
    craft(network, images, labels, **given)  # nothing is left that has no gradient
    with torch.no_grad():
        network.fc.weight.mul_(2)
    after = predict(network, images)
    torch.testing.assert_close(after - network.fc.bias, 2 * (before - network.fc.bias))


def test_a_copy_has_forgotten_what_training_forgets():
    network = Cached()
    network.eval()
    network(torch.rand(2, 4))  # with a gradient, so that deepcopy alone would fail
    assert network.kept and not copied(network).kept
    network.lock = threading.Lock()
    assert "cannot be copied (cannot pickle" in error_of(copied, network)


def test_evaluation_in_the_middle_of_training():
    network, images = Cached(), torch.rand(2, 4)
    for _ in range(2):
        with evaluation(network):
            found = network(images)
        assert network.training
        torch.testing.assert_close(found, network(images))
        with torch.no_grad():
            network.fc.weight.add_(1)
