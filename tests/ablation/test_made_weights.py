"""Sweeps of layers whose weights are made of others, and of networks that keep what they make."""

import numpy as np
import pytest
import torch
from made_weights import MADE, made
from support import error_of
from sweeps import naive
from torch import nn
from torch.nn.utils import parametrizations, prune
from trainings import quiet

from faultline.ablation.sweep import active_images, logits_of, sweep
from faultline.ablation.variants import (
    Mask,
    Variant,
    nodal_variants,
    random_variants,
    synaptic_variants,
)
from faultline.networks.evaluation import predict
from faultline.networks.layers import filters, layers
from faultline.networks.plain import plain
from faultline.studies.perturbations.variants import perturbation_variants

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")

PERTURBED = {"kinds": ["gaussian", "node_knockout"], "parameters": ["weight", "bias"]}
PERTURBED |= {"place": {"seed": 0}, "shares": [0.5], "sigmas": [0.5], "repeats": 1}


def every_variant(network, name, *, count=4):
    """Every kind that there is; the columns tell nothing."""
    layer = layers(network)[name]
    variants = synaptic_variants({name: layer}, kinds=["high_pass", "pulse"], count=count)
    variants += random_variants({name: layer}, draws=1, seed=0)[3:6]
    variants += perturbation_variants(name, layer, **PERTURBED)
    variants += nodal_variants(name, layer, filters=range(2), at="weights")
    return [Variant({"number": i}, v.key, v.replace, v.mask) for i, v in enumerate(variants)]


@pytest.mark.parametrize("name", MADE)
def test_made_weights_are_swept_as_plain_ones(name):
    network, layer = made(name)
    network.train()
    twin = plain(network)
    images = torch.randn(40, 1, 8, 8)
    labels = predict(twin, images).argmax(1)
    variants, others = every_variant(network, layer), every_variant(twin, layer)
    assert [v.columns for v in variants] == [v.columns for v in others]
    found = sweep(network, variants, {"clean": images}, labels, ablated=[layer], say=quiet)
    for index, variant in enumerate(others):
        expected = predict(naive(twin, variant), images).argmax(1) == labels
        assert np.array_equal(found.correct["clean"][index], expected.numpy())
    assert not found.nonfinite["clean"].any() and found.changed["clean"].all()
    active = [active_images(of, layer, images, at="weights") for of in (network, twin)]
    assert np.array_equal(*active)
    for logits, of in zip(
        logits_of(network, variants[:2], images, ablated=[layer]),
        [twin, naive(twin, others[0]), naive(twin, others[1])],
        strict=True,
    ):
        torch.testing.assert_close(logits, predict(of, images), rtol=1e-4, atol=1e-5)


def test_a_weight_normed_layer_by_hand():
    network = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2, bias=False)))
    made = network[0].parametrizations.weight
    made.original0.data = torch.tensor([[5.0], [10.0]])  # the length of each row
    made.original1.data = torch.tensor([[0.6, 0.8], [-8.0, 6.0]])
    low, middle, high = synaptic_variants({"0": network[0]}, kinds=["high_pass"], count=3)
    expected = [[[3.0, 4.0], [0.0, 6.0]], [[3.0, 4.0], [0.0, 6.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert [v.columns["threshold"] for v in (low, middle, high)] == [-8.0, -1.0, 6.0]
    for variant, weight in zip((low, middle, high), expected, strict=True):
        torch.testing.assert_close(variant.replace()["0.weight"], torch.tensor(weight))
    (first,) = nodal_variants("0", network[0], filters=[0], at="weights")
    assert first.columns["changed_weights"] == 2
    images = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    base, without = logits_of(network, [first], images, ablated=["0"])
    torch.testing.assert_close(base, torch.tensor([[7.0, -2.0], [3.0, -8.0]]))
    torch.testing.assert_close(without, torch.tensor([[0.0, -2.0], [0.0, -8.0]]))


def test_what_cannot_be_made_plain_is_refused():
    class Stretched(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.core = nn.Parameter(self.weight.detach())
            del self.weight

        def forward(self, x):
            return nn.functional.linear(x, 2 * self.core, self.bias)

    network, images = nn.Sequential(Stretched()), torch.rand(4, 2)
    for layer in (network[0], nn.LazyLinear(2)):
        calls = [
            lambda layer=layer: synaptic_variants({"0": layer}, kinds=["pulse"], count=3),
            lambda layer=layer: [*nodal_variants("0", layer, filters=[0], at="weights")],
            lambda layer=layer: perturbation_variants("0", layer, **PERTURBED),
        ]
        for call in calls:
            said = error_of(call)
            assert (
                "layer '0' has a weight or bias that is no parameter" in said
                and "prune.remove" in said
            )
    mask = Variant({}, 1, mask=Mask("0", (0,), "weights"))
    labels = torch.zeros(4, dtype=torch.long)
    given = [network, [mask], {"clean": images}, labels]
    assert "no parameter of its own" in error_of(sweep, *given, ablated=["0"])


def test_a_layer_beside_pruned_ones_is_swept():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    prune.l1_unstructured(network[2], "weight", 0.5)
    variants = list(nodal_variants("0", network[0], filters=range(4), at="activation"))
    images = torch.randn(30, 3)
    found = list(logits_of(network, variants, images, ablated=["0"]))
    hidden = torch.relu(network[0](images))
    for index, logits in enumerate(found[1:]):
        kept = hidden * (torch.arange(4) != index)
        torch.testing.assert_close(logits, network[2](kept).detach())


# Networks that keep what they make of their weights


class Keeps(nn.Module):
    """Two layers; what `how` makes of the first weight is twice that, and is kept in eval mode.

    branches: whether torch.fx cannot trace it; inside: whether that is so of its first half alone.
    """

    def __init__(self, how, *, branches):
        super().__init__()
        self.first, self.head = Doubling(how, branches), nn.Linear(6, 3)
        self.filters = filters(self.first.fc)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


class Box:
    """A cache of a class of its own."""

    def __init__(self):
        self.value = None


KEPT = {}


class Doubling(nn.Module):
    def __init__(self, how, branches):
        super().__init__()
        self.fc, self.how, self.branches = nn.Linear(4, 6), how, branches
        self.kept, self.box = {}, Box()
        self.register_buffer("mean", torch.zeros(4))
        self.calls = 0

    def train(self, mode=True):
        if mode and self.how == "as LeViT":
            self.kept = {}
        return super().train(mode)

    def forward(self, x):
        if self.branches and x.abs().sum() < 0:
            return self.fc(x)
        weight = 2 * self.fc.weight
        if self.how in ("as LeViT", "never forgets"):
            weight = self.kept.setdefault("weight", weight)
        elif self.how == "boxed":
            self.box.value = weight = weight if self.box.value is None else self.box.value
        elif self.how == "outside":
            weight = KEPT.setdefault("weight", weight)
        elif self.how == "outside, each":
            weight = KEPT.setdefault(self, weight)
        elif self.how == "replaced":
            self.weight = weight = getattr(self, "weight", weight)
        elif self.how == "counts":
            self.calls += 1
            self.mean += 1
            weight = weight * self.calls + self.mean.detach() - 1
        return nn.functional.linear(x, weight, self.fc.bias)


HOWS = ["as LeViT", "never forgets", "replaced", "counts", "boxed"]


@pytest.mark.parametrize("branches", [False, True])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("layer", ["first.fc", "head"])
def test_other_weights_take_effect_where_something_is_kept(how, branches, layer):
    torch.manual_seed(0)
    network = Keeps(how, branches=branches).eval()
    images = torch.randn(40, 4)
    twin = Keeps("not at all", branches=False).eval()
    twin.load_state_dict(network.state_dict())
    labels = predict(twin, images).argmax(1)
    if how == "as LeViT":
        network(images[:3])  # with a gradient
    variants, others = every_variant(network, layer), every_variant(twin, layer)
    found = sweep(network, variants, {"clean": images}, labels, ablated=[layer], say=quiet)
    for index, variant in enumerate(others):
        expected = predict(naive(twin, variant), images).argmax(1) == labels
        assert np.array_equal(found.correct["clean"][index], expected.numpy())
    assert found.base["clean"].all() and not found.correct["clean"].all()
    assert network.first.calls == 0 and not network.first.mean.any()
    assert not hasattr(network.first, "weight")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("branches", [False, True])
def test_what_is_kept_from_before_and_never_forgotten_is_refused(branches, mode):
    torch.manual_seed(0)
    network, images = Keeps("never forgets", branches=branches).eval(), torch.randn(40, 4)
    with mode():
        network(images)
    variants, labels = every_variant(network, "first.fc"), torch.zeros(40, dtype=torch.long)
    given = [network, variants, {"clean": images}, labels]
    said = error_of(sweep, *given, ablated=["first.fc"], say=quiet)
    assert "'first.fc': the logits do not depend on its weight" in said and "train()" in said


@pytest.mark.parametrize("how", ["outside", "outside, each"])
def test_what_is_kept_where_nobody_looks_is_refused(how):
    torch.manual_seed(0)
    network, images = Keeps(how, branches=True).eval(), torch.randn(40, 4)
    variants, labels = every_variant(network, "first.fc"), torch.zeros(40, dtype=torch.long)
    calls = [
        lambda: sweep(network, variants, {"": images}, labels, ablated=["first.fc"], say=quiet),
        lambda: active_images(network, "first.fc", images, at="weights"),
        lambda: next(logits_of(network, variants, images, ablated=["first.fc"])),
    ]
    for call in calls:
        KEPT.clear()
        assert ("do not depend on its weight" in (said := error_of(call))) == (how == "outside")
        assert "keeps what it made" in said or "where it is not seen" in said
    KEPT.clear()


def test_experts_are_swept_one_by_one():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(3))

        def forward(self, x):
            out, which = x.new_zeros(len(x), 3), x[:, :3].argmax(1)
            for number, expert in enumerate(self.experts):
                if (which == number).any():
                    out[which == number] = expert(x[which == number])
            return out

    torch.manual_seed(0)
    network, images = Routed().eval(), torch.randn(60, 4)
    labels, which = predict(network, images).argmax(1), images[:, :3].argmax(1)
    for number in range(3):
        name = f"experts.{number}"
        variants = list(nodal_variants(name, network.experts[number], filters=[0], at="weights"))
        variants += synaptic_variants({name: network.experts[number]}, kinds=["pulse"], count=2)[:1]
        variants = [Variant({}, v.key, v.replace, v.mask) for v in variants]
        found = sweep(network, variants, {"clean": images}, labels, ablated=[name], say=quiet)
        assert (found.changed["clean"] == (which == number).sum().item()).all()
        assert found.correct["clean"][:, which != number].all()
