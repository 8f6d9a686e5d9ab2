"""Networks as people have them: what is around them, how they are called, what they give."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from support import error_of
from torch import nn

from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.base import plugins
from faultline.networks.architectures import body_of
from faultline.networks.evaluation import predict
from faultline.networks.forms import Form, bare, form_of
from faultline.networks.inspect import probe
from faultline.networks.layers import layers
from faultline.networks.registry import build, classifier

X = torch.rand(3, 1, 4, 4)


def linear(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs)).eval()


class Gives(nn.Module):
    """A linear layer, and what is made of its output."""

    def __init__(self, make=lambda z: z, outputs=2):
        super().__init__()
        self.net, self.make = linear(outputs), make

    def forward(self, x):
        return self.make(self.net(x))


class ByName(Gives):
    def forward(self, *, pixels, scale=1.0):
        return self.net(pixels) * scale


class Two(Gives):
    def forward(self, x, mask):
        return self.net(x) * mask


class Starred(Gives):
    def forward(self, **inputs):
        return self.net(inputs["x"])


class Optional(Gives):
    def forward(self, x, mask=None, *rest, double=False):
        return self.net(x)


Pair = namedtuple("Pair", "loss logits")
"""As torchvision's GoogLeNet gives them."""


@pytest.mark.parametrize(
    ("network", "form", "words"),
    [
        (Gives(), Form(), ""),
        (Optional(), Form(), ""),
        (Gives(lambda z: {"loss": z.sum(), "logits": z}), Form(place="logits"), "['logits']"),
        (Gives(lambda z: {"emb": z[:, None], "out": z}), Form(place="out"), "['out']"),
        (Gives(lambda z: OrderedDict(a=z, logits=2 * z)), Form(place="logits"), "['logits']"),
        (Gives(lambda z: (z, z.mean())), Form(place=0), "number 0"),
        (Gives(lambda z: Pair(z.mean(), z)), Form(place=1), "number 1"),
        (Gives(outputs=1), Form(binary=True), "becomes [0, z]"),
        (Gives(lambda z: z.squeeze(1), outputs=1), Form(binary=True), "becomes [0, z]"),
        (ByName(), Form(keyword="pixels"), "given as pixels"),
    ],
)
def test_what_a_network_gives(network, form, words):
    assert form_of(network, X, classes=2) == form_of(network, X) == form
    assert words in form.words() and bool(words) == bool(form.words())
    logits, z = predict(classifier(network, X), X), network.net(X)
    expected = torch.cat([torch.zeros_like(z), z], 1) if z.shape[1] == 1 else z
    if form.place == "logits" and "a" in network(X):
        expected = 2 * z
    assert torch.equal(logits, expected)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Gives(outputs=3), "gives [3, 3] for 3 inputs; expected logits [3, 2]: return a module"),
        (Gives(lambda z: z[:, None]), "gives [3, 1, 2]"),
        (Gives(lambda z: (z[:1], z.long())), "gives [1, 2], [3, 2]"),
        (Gives(lambda z: None), "gives a NoneType"),
        (Two(), "takes 2 inputs (x, mask)"),
        (Starred(), "no input by position"),
    ],
)
def test_what_is_no_classifier_is_told_what_to_write(network, expected):
    message = error_of(form_of, network, X, classes=2)
    assert expected in message and "docs/own.md" in message


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        pytest.param(lambda net: torch.compile(nn.DataParallel(net)), marks=pytest.mark.slow),
        lambda net: nn.Sequential(nn.Identity(), nn.DataParallel(net)),
        pytest.param(lambda net: nn.Sequential(torch.compile(net)), marks=pytest.mark.slow),
        lambda net: net.bfloat16(),
        lambda net: net.half(),
        lambda net: net.double(),
    ],
)
def test_what_is_around_a_network_is_left_out(wrap):
    net = linear()
    wanted = net.state_dict() | {}
    found = classifier(wrap(net), X)
    names = [name.rpartition(".")[2] for name in layers(found)]
    assert names == ["1"] and not any("module" in name for name in layers(found))
    torch.testing.assert_close(predict(found, X), linear()(X), atol=0.05, rtol=0)
    assert all(p.dtype == torch.float32 for p in found.parameters())
    assert {v.shape for v in wanted.values()} == {p.shape for p in found.parameters()}


def test_what_has_no_layers_any_more_is_refused():
    scripted = torch.jit.trace(linear(), X)
    assert "it is TorchScript, whose layers" in error_of(bare, scripted)
    assert "it is TorchScript (0)" in error_of(bare, nn.Sequential(scripted))
    quantised = nn.Sequential(torch.ao.nn.quantized.Linear(16, 2))
    assert "it is quantised (0)" in error_of(bare, quantised)


def test_a_sweep_of_a_classifier():
    network = classifier(Gives(lambda z: {"logits": z}), X)
    (name,) = layers(network)
    assert name == "net.1"
    facts = sweep(
        network,
        nodal_variants(name, layers(network)[name], filters=[0, 1], at="weights"),
        {"clean": X},
        torch.tensor([0, 1, 0]),
        ablated=[name],
        say=lambda _: None,
    )
    with torch.no_grad():
        logits = body_of(network).net(X)
    kept = [logits * torch.tensor(keep) for keep in ([0, 1], [1, 0])]  # a bias is removed, too
    expected = [(of.argmax(1) == torch.tensor([0, 1, 0])).tolist() for of in kept]
    assert facts.correct["clean"].tolist() == expected


CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, *, pixels):
        return {"loss": None, "logits": self.head(self.body(pixels).mean((2, 3)))}


def make():
    return nn.DataParallel(Net()).half()


class Late(Net):
    def forward(self, x):
        out = super().forward(pixels=x)
        return out if self.training else out["logits"]
"""


def test_a_function_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    function = f"{tmp_path}/mine.py:make"
    facts = probe(function, [((1, 4, 4), 2)])
    assert [row[0] for row in facts["layers"]] == ["body.0", "head"]
    assert (
        facts["form"] == "its input is given as pixels, its logits are ['logits'] of what it gives"
    )
    assert facts["unseen"] == [] and facts["parameters"] == 50
    monkeypatch.setitem(plugins.NETWORKS, "make", {"function": function})
    network = build("make", shape=(1, 4, 4), classes=2, mean=0.5, std=0.5, seed=0)
    assert network(X).shape == (3, 2) and [*layers(network)] == ["body.0", "head"]
    assert network.form == Form("pixels", "logits")
    assert "two modes" in error_of(probe, f"{tmp_path}/mine.py:Late", [((1, 4, 4), 2)])
