"""Modules, functions and methods of one operation are treated alike, wherever it matters."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from faultline.ablation.propagation import Propagation
from faultline.ablation.sweep import active_images, logits_of
from faultline.ablation.tracing import Traced, Untraceable
from faultline.ablation.variants import Mask, Variant
from faultline.base.errors import UserError
from faultline.networks.operations import ACTIVATIONS, Kind, of_function, of_module, operation
from faultline.networks.probes import probes
from faultline.studies.fragile.remedy import carrier

IMAGES = torch.randn(9, 1, 5, 5, generator=torch.Generator().manual_seed(0))
AT = ("weights", "activation")
SLOPES = torch.tensor([0.1, -0.5, 0.3, 2.0])
NEEDS = {  # what has no default: of the module, of the functions
    nn.GLU: ((1,), (1,)),
    nn.LogSoftmax: ((1,), (1,)),
    nn.PReLU: ((4,), (SLOPES,)),
    nn.Softmax: ((1,), (1,)),
    nn.Softmax2d: ((), (1,)),
    nn.Softmin: ((1,), (1,)),
    nn.Threshold: ((0.1, -0.2), (0.1, -0.2)),
}


def module_of(kind):
    module = kind(*NEEDS.get(kind, ((), ()))[0]).eval()
    if kind is nn.PReLU:
        module.weight.data.copy_(SLOPES)
    return module


def functions_of(kind):
    """Name -> every function and method that does what a module does."""
    needs, name, found = NEEDS.get(kind, ((), ()))[1], of_module(module_of(kind)).name, {}
    for form in (name, f"{name}_"):
        for home in (F, torch):
            if function := getattr(home, form, None):
                found[f"{home.__name__}.{form}"] = lambda x, f=function: f(x, *needs)
        if hasattr(Tensor, form):
            found[f"Tensor.{form}"] = lambda x, form=form: getattr(x, form)(*needs)
    if "inplace" in getattr(getattr(F, name), "__annotations__", {}):
        found[f"{name} in place"] = lambda x: getattr(F, name)(x, *needs, inplace=True)
    return found


class Between(nn.Module):
    """Two layers and what is given between them."""

    def __init__(self, between, *, then=4):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(then, 3, 3)
        self.between = between

    def forward(self, x):
        return self.second(self.between(self.first(x))).flatten(1)


KINDS = [getattr(nn, name) for name in nn.modules.activation.__all__]
ONES = [kind for kind in KINDS if kind is not nn.MultiheadAttention]


def test_every_activation_of_torch_is_known():
    said = {kind: of_module(module_of(kind)).kind for kind in ONES}
    assert said.pop(nn.PReLU) is Kind.CHANNELWISE and said.pop(nn.GLU) is Kind.GATE
    mixing = {nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax}
    assert {kind for kind, found in said.items() if found is Kind.MIXING} == mixing
    assert {found for kind, found in said.items() if kind not in mixing} == {Kind.ACTIVATION}
    assert of_module(nn.MultiheadAttention(4, 2)).kind is Kind.MIXING


@pytest.mark.parametrize("kind", ONES)
def test_activations_are_what_is_said_of_them(kind):
    module, (_, what, homogeneous) = module_of(kind), of_module(module_of(kind))
    x = torch.linspace(-9, 9, 72).reshape(3, 3, 4, 2).mT.reshape(2, 4, 3, 3)
    with torch.no_grad():
        assert torch.equal(module(2 * x), 2 * module(x)) == homogeneous
        if what in ACTIVATIONS:
            changed = x.clone()
            changed[1, 2, 0, 1] += 1
            others = torch.ones_like(x, dtype=bool)
            others[1, 2, 0, 1] = False
            assert torch.equal(module(changed)[others], module(x)[others])
        if what is Kind.ACTIVATION:
            torch.testing.assert_close(module(x[:, 1:3, 0]), module(x)[:, 1:3, 0])


class Called(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(of_function(function))
        return function(*args, **(kwargs or {}))


OTHERS = [
    *(nn.BatchNorm2d(4), nn.BatchNorm1d(4), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4)),
    *(nn.LayerNorm(6), nn.RMSNorm(6), nn.LocalResponseNorm(2)),
    *(nn.Dropout(), nn.Dropout1d(), nn.Dropout2d(), nn.Dropout3d(), nn.AlphaDropout()),
    *(nn.FeatureAlphaDropout(), nn.Flatten(), nn.Unflatten(1, (2, 2)), nn.ChannelShuffle(2)),
    *(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.LPPool2d(2, 2), nn.AdaptiveAvgPool2d(1)),
    nn.AdaptiveMaxPool2d(1),
]


@pytest.mark.parametrize(
    "module", [*map(module_of, ONES), *OTHERS], ids=lambda module: type(module).__name__
)
def test_a_module_is_the_operation_that_it_calls(module):
    shape = (2, 4, 6) if isinstance(module, nn.BatchNorm1d | nn.Dropout1d) else (2, 4, 6, 6)
    with Called() as called, torch.no_grad():
        module.eval()(torch.randn(shape))
    assert of_module(module).kind in {found.kind for found in called.seen}


def told(network):
    """All that depends on what an activation is."""
    traced = Traced(network, ["first"], IMAGES)
    (place,) = traced.places("first", "activation")
    (after,) = traced.nodes["first"][0].users
    parts = Propagation(traced, "first", at="weights").plan([1]).parts
    return {
        "place": "between" if place is after else place.target,
        "in part": after in parts,
        "probes": probes(network, IMAGES, at="activation"),
        "remedy": carrier(network, "first"),
        "active": active_images(network, "first", IMAGES, at="activation").tolist(),
    }


@pytest.mark.parametrize("kind", ONES)
def test_every_form_of_an_activation_is_treated_alike(kind):
    what, then = of_module(module_of(kind)).kind, 2 if kind is nn.GLU else 4
    expected = told(Between(module_of(kind), then=then).eval())
    assert expected["place"] == ("between" if what in ACTIVATIONS else "first")
    assert expected["in part"] == (what is Kind.ACTIVATION)
    assert expected["probes"] == ["first"] * (what is not Kind.MIXING)
    forms = functions_of(kind)
    assert forms
    for name, function in forms.items():
        assert told(Between(function, then=then).eval()) == expected, name


@pytest.mark.parametrize("kind", ONES)
def test_a_removed_filter_is_followed_through_every_form(kind):
    then = 2 if kind is nn.GLU else 4
    for name, between in {"module": module_of(kind), **functions_of(kind)}.items():
        network = Between(between, then=then).eval()
        variants = [Variant({}, at, mask=Mask("first", (1,), at)) for at in AT]
        _, *found = logits_of(network, variants, IMAGES, ablated=["first"])
        for at, made in zip(AT, found, strict=True):
            with torch.no_grad():
                x = network.first(IMAGES)
                if at == "weights" or of_module(module_of(kind)).kind not in ACTIVATIONS:
                    x[:, 1] = 0
                x = network.between(x)
                if at == "activation" and of_module(module_of(kind)).kind in ACTIVATIONS:
                    x[:, 1] = 0
                expected = network.second(x).flatten(1)
            torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5, msg=name)


class Before(nn.Module):
    """What is given, and a module behind it."""

    def __init__(self, before, then):
        super().__init__()
        self.before, self.then = before, then

    def forward(self, x):
        return self.then(self.before(x))


PASSED = {
    "batch norm": (nn.BatchNorm2d(4), lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4))),
    "group norm": (nn.GroupNorm(2, 4), lambda x: F.group_norm(x, 2)),
    "layer norm": (nn.LayerNorm(3), lambda x: F.layer_norm(x, (3,))),
    "local response": (nn.LocalResponseNorm(2), lambda x: F.local_response_norm(x, 2)),
    "dropout": (nn.Dropout(), lambda x: F.dropout(x, training=False)),
    "dropout of maps": (nn.Dropout2d(), lambda x: F.dropout2d(x, training=False)),
}


@pytest.mark.parametrize("name", PASSED)
def test_the_activation_is_sought_behind_every_form(name):
    for before in PASSED[name]:
        traced = Traced(Between(Before(before, nn.Tanh())).eval(), ["first"], IMAGES)
        (place,) = traced.places("first", "activation")
        assert place.target == "between.then"


def test_the_remedy_looks_through_every_form_of_prelu():
    for before in (nn.PReLU(4), lambda x: F.prelu(x, SLOPES)):
        network = Between(Before(before, nn.BatchNorm2d(4))).eval()
        with pytest.raises(UserError, match=r"between\.then normalises it again further on"):
            carrier(network, "first")


KEEPING = {
    "largest": (nn.MaxPool2d(1), lambda x: F.max_pool2d(x, 1)),
    "adaptive largest": (nn.AdaptiveMaxPool2d(3), lambda x: F.adaptive_max_pool2d(x, 3)),
    "mean": (nn.AvgPool2d(1), lambda x: F.avg_pool2d(x, 1)),
    "power mean": (nn.LPPool2d(2, 1), lambda x: F.lp_pool2d(x, 2, 1)),
    "dropout of maps": (nn.Dropout2d(), lambda x: F.dropout2d(x, training=False)),
    "shuffle": (nn.ChannelShuffle(2), lambda x: F.channel_shuffle(x, 2)),
    "unflatten": (
        nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Flatten(1, 2)),
        lambda x: x.unflatten(1, (2, 2)).flatten(1, 2),
    ),
}


@pytest.mark.parametrize("name", KEEPING)
def test_filters_are_kept_apart_by_every_form(name):
    for between in KEEPING[name]:
        traced = Traced(Between(Before(between, nn.Tanh())).eval(), ["first"], IMAGES)
        plan = Propagation(traced, "first", at="weights").plan([1])
        assert "between.then" in {node.target for node in plan.parts}


class Indexed(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(1, return_indices=True)

    def forward(self, x):
        return self.pool(x)[0]


def test_a_pooling_that_gives_indices_too():
    network = Between(Indexed()).eval()
    variant = Variant({}, "m", mask=Mask("first", (1,), "weights"))
    _, found = logits_of(network, [variant], IMAGES, ablated=["first"])
    network.first.weight.data[1], network.first.bias.data[1] = 0, 0
    torch.testing.assert_close(found, network(IMAGES).detach())


def test_what_is_random_has_no_graph():
    for between in (lambda x: F.rrelu(x, training=True), lambda x: F.dropout(x, training=True)):
        with pytest.raises(Untraceable):
            Traced(Between(between).eval(), ["first"], IMAGES)


@fx.wrap
def relu(x):
    """Of the user's own: no activation in spite of its name."""
    return x.cumsum(1)


def test_a_name_alone_makes_no_operation():
    graph = fx.symbolic_trace(Between(lambda x: relu(x)))
    (node,) = [n for n in graph.graph.nodes if n.target is relu]
    assert operation(node, {}).kind is Kind.OTHER
