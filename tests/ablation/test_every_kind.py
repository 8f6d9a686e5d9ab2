"""The engine against a naive implementation, on layers and networks of every kind."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import KINDS, REAL, assert_as_naive, lively, naive, some_variants
from torch import nn
from trainings import quiet

from faultline.ablation.engines import Graph
from faultline.ablation.sweep import active_images, logits_of, sweep
from faultline.ablation.tracing import Traced, Untraceable
from faultline.ablation.variants import (
    Mask,
    Variant,
    nodal_variants,
    random_variants,
    synaptic_variants,
)
from faultline.attacks.craft import craft
from faultline.base.errors import UserError
from faultline.networks.architectures import Network, Normalise, from_torchvision
from faultline.networks.layers import filters, layers, of_units


class Patches(nn.Module):
    """Images [n, 2, 8, 8] to tokens [n, 17, 8]: patches behind a class token, with positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(2, 8, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 17, 8))

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position


class Block(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attention = attention
        self.norm2 = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Dropout(0.5), nn.Linear(12, 8))

    def forward(self, x):
        y = self.norm1(x)
        attended = self.attention(y, y, y, need_weights=False)[0]
        x = x + attended
        return x + self.mlp(self.norm2(x))


MULTIHEAD = partial(nn.MultiheadAttention, 8, 2, batch_first=True)


class ViT(nn.Module):
    def __init__(self, attention=MULTIHEAD):
        super().__init__()
        self.patches = Patches()
        self.blocks = nn.Sequential(Block(attention()), Block(attention()))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.patches(x)))[:, 0])


class Attention(nn.Module):
    """One linear layer for queries, keys and values, and a function."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def forward(self, x, *_, need_weights):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(n, t, c)), None


class Odd(nn.Module):
    """Cannot be traced: sizes decide, and it works in place on what it is given a copy of."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(8, 8)
        self.hidden = nn.Linear(8, 8)

    def forward(self, x, *_, need_weights):
        weights = torch.ones(len(x), x.shape[1], 1, device=x.device)
        x = self.inside(x.sub_(x.mean(1, keepdim=True))).mul_(weights).flip(1)
        for _ in range(x.shape[1] - 15):
            x = self.hidden(x).relu_()
        return x, None


class Encoder(nn.Module):
    def __init__(self, norm_first):
        super().__init__()
        self.patches = Patches()
        given = {"dropout": 0.1, "batch_first": True, "norm_first": norm_first}
        layer = nn.TransformerEncoderLayer(8, 2, 12, **given)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.encoder(self.patches(x)).mean(1))


class Rows(nn.Module):
    """A recurrent network over the rows of images [n, 2, 8, 8], time first."""

    def __init__(self, recurrent, size):
        super().__init__()
        self.first = nn.Linear(16, 6)
        self.recurrent = recurrent
        self.head = nn.Linear(size, 5)

    def forward(self, x):
        rows = x.transpose(1, 2).flatten(2).transpose(0, 1)
        out, _ = self.recurrent(torch.tanh(self.first(rows)))
        return self.head(out[-1])


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(6, 4)

    def forward(self, rows):
        state = None
        for row in rows:
            state = self.cell(row, state)
        return state[None], None


def signals():
    return nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(6, 6, 3, padding=1, groups=6), nn.BatchNorm1d(6), nn.Conv1d(6, 8, 1), nn.Tanh(),
        nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


def volumes():
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 6, 2, stride=2),
        nn.ReLU(), nn.ConvTranspose3d(6, 3, 2), nn.Flatten(), nn.Linear(3 * 27, 5),
    )  # fmt: skip


def transposed():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 3, 2, bias=False), nn.ELU(),
        nn.Flatten(), nn.Linear(3 * 64, 5),
    )  # fmt: skip


class Words(nn.Module):
    """Tokens [n, t]; classes and tokens share their weights."""

    def __init__(self, tied):
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True, bias=False)
        self.cross = nn.MultiheadAttention(8, 2, batch_first=True, kdim=4, add_bias_kv=True)
        self.keys = nn.EmbeddingBag(9, 4)
        self.head = nn.Linear(8, 9)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, words):
        x = self.embed(words)
        x = x + self.attention(x, x, x)[0]
        keys = self.keys(words.reshape(-1, 2)).reshape(words.shape[0], -1, 4)
        x = x + self.cross(x, keys, x[:, ::2])[0]
        return self.head(F.gelu(x).mean(1))


class Taken(nn.Module):
    """Functions take the layers' parameters, some of them after a calculation; others twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 6)
        self.second = nn.Linear(6, 6)
        self.third = nn.Linear(6, 5)
        self.register_buffer("order", torch.tensor([3, 2, 1, 0, 7, 6, 5, 4]))

    def forward(self, x):
        x = x.transpose(1, 2).flatten(2)
        x = F.linear(x, self.first.weight * 2, self.first.bias).relu()[:, self.order]
        x = self.second(x) + F.linear(x, self.second.weight.T)
        return self.third(x).mean(1)


IMAGES = partial(torch.randn, 40, 2, 8, 8)
TOKENS = partial(torch.randint, 9, (40, 6))
LSTM = partial(nn.LSTM, 6, 4)
GRU = partial(nn.GRU, 6, 3, num_layers=2, bidirectional=True)
# network, images; layer -> the module whose output is its activation; None: the graph shows none
NETWORKS = {
    "vit": (ViT, IMAGES, {
        "patches.embed": "patches.embed", "blocks.0.attention": "", "blocks.1.attention": "",
        "blocks.0.mlp.0": "-1:blocks.0.mlp.2", "blocks.1.mlp.3": "-1:blocks.1.mlp.3",
        "head": "head",
    }),
    "custom attention": (partial(ViT, Attention), IMAGES, {
        "blocks.0.attention.qkv": "-1:blocks.0.attention.qkv",
        "blocks.1.attention.out": "-1:blocks.1.attention.out", "blocks.1.mlp.0": "-1:blocks.1.mlp.2"
    }),
    "untraceable inside": (partial(ViT, Odd), IMAGES, {
        "blocks.0.attention.inside": None, "blocks.1.attention.hidden": None,
        "blocks.1.mlp.0": "-1:blocks.1.mlp.2",
    }),
    "encoder": (partial(Encoder, False), IMAGES, {
        "encoder.layers.0.self_attn": "", "encoder.layers.1.linear1": None, "head": "head",
    }),
    "encoder, norms first": (partial(Encoder, True), IMAGES, {"encoder.layers.1.self_attn": ""}),
    "lstm": (lambda: Rows(LSTM(), 4), IMAGES, {"first": "-1:", "recurrent": "", "head": "head"}),
    "gru": (lambda: Rows(GRU(), 6), IMAGES, {"recurrent": ""}),
    "cell": (lambda: Rows(Cell(), 4), IMAGES, {"recurrent.cell": ""}),
    "signals": (signals, partial(torch.randn, 40, 2, 16), {
        "0": "2", "4": "5", "6": "7", "10": "10",
    }),
    "volumes": (volumes, partial(torch.randn, 40, 1, 4, 4, 4), {
        "0": "2", "3": "4", "5": "5", "7": "7",
    }),
    "transposed": (transposed, IMAGES, {"0": "1", "2": "4", "5": "6"}),
    "words": (partial(Words, False), TOKENS, {
        "embed": "", "attention": "", "cross": "", "keys": "", "head": "head",
    }),
    "tied words": (partial(Words, True), TOKENS, {"embed": "", "head": None}),
    "taken": (Taken, IMAGES, {"first": None, "second": None, "third": "-1:third"}),
}  # fmt: skip


def made(name):
    torch.manual_seed(0)
    make, data, places = NETWORKS[name]
    network, images = make(), data()
    lively(network, images)
    return network, images, network(images).argmax(1), places


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_as_the_naive_implementation(name):
    network, images, labels, places = made(name)
    hits = []
    for layer, place in places.items():
        seen = place is not None and place != "-1:"
        variants = some_variants(network, layer, count=3, places=seen)
        given = {"ablated": [layer], "place": place or None}
        facts = assert_as_naive(network, variants, images, labels, **given)
        assert facts.base["clean"].all()
        hits.append(facts.correct["clean"].mean())
    assert min(hits) < 1
    everything = synaptic_variants(layers(network), kinds=KINDS, count=3, together=True)
    everything += random_variants(layers(network), draws=1, seed=0, together=True)[::3]
    assert_as_naive(network, everything, images, labels, ablated=list(layers(network)))


@pytest.mark.parametrize(
    ("name", "whole", "inside"),
    [
        ("vit", set(), {"blocks.0.attention", "blocks.1.attention"}),
        ("custom attention", set(), set()),
        (
            "untraceable inside",
            {"blocks.0.attention", "blocks.1.attention"},
            {f"blocks.{i}.attention.{name}" for i in (0, 1) for name in ("inside", "hidden")},
        ),
        ("cell", {"recurrent"}, {"recurrent.cell"}),
        ("tied words", set(), {"embed", "attention", "cross", "head"}),
        ("taken", set(), {"first", "second"}),
    ],
)
def test_the_innermost_module_that_cannot_be_traced_stays_whole(name, whole, inside):
    network, images, _, _ = made(name)
    traced = Traced(network, list(layers(network)), images)
    assert traced.whole == whole
    assert set(layers(network)) - traced.direct == inside


class Counted(Rows):
    def forward(self, x):
        return super().forward(x) if len(x) else x


@pytest.mark.parametrize("whole", [False, True])
def test_a_network_whose_own_forward_cannot_be_traced_is_run_as_a_whole(whole):
    torch.manual_seed(0)
    network, images = Counted(GRU(), 6).eval(), IMAGES()
    network = Network(nn.Identity(), network) if whole else network
    with pytest.raises(Untraceable, match="'len' is not supported"):
        Traced(network, ["recurrent"], images)
    labels = network(images).argmax(1)
    variants = some_variants(network, "recurrent", count=3)
    assert_as_naive(network, variants, images, labels, ablated=["recurrent"])
    active = active_images(network, "recurrent", images, at="activation")
    assert active.tolist() == [40] * 12


@pytest.mark.parametrize(
    ("name", "layer"),
    [("untraceable inside", "blocks.0.attention.inside"), ("taken", "first"), ("encoder", None)],
)
def test_an_activation_that_the_graph_does_not_show_is_refused(name, layer):
    network, images, labels, _ = made(name)
    layer = layer or "encoder.layers.1.linear1"
    mask = Variant({}, 1, mask=Mask(layer, (0,), "activation"))
    with pytest.raises(UserError, match=f'{layer}.*"weights"') as caught:
        sweep(network, [mask], {"clean": images}, labels, ablated=[layer], say=quiet)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=f'{layer}.*"weights"'):
        active_images(network, layer, images, at="activation")


@pytest.mark.parametrize("at", ["weights", "activation"])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vit", "blocks.1.attention"), ("words", "embed"), ("gru", "recurrent"),
        ("encoder", "encoder.layers.1.self_attn"), ("signals", "0"), ("tied words", "embed"),
    ],
)  # fmt: skip
def test_units_that_give_nothing_are_active_on_no_image(name, layer, at):
    network, images, _, _ = made(name)
    module = layers(network)[layer]
    for parameter, belongs in of_units(module, [1]).items():
        module.get_parameter(parameter).data[belongs] = 0
    if name == "signals" and at == "activation":  # BatchNorm would revive it
        network[1].bias.data[1], network[1].running_mean.data[1] = -1, 0
    active = active_images(network, layer, images, at=at, batch_size=16)
    assert active.shape == (filters(module),)
    assert active[1] == 0 and active[0] == len(images)
    (variant,) = nodal_variants(layer, module, filters=[1], at="weights")
    assert variant.key is None and variant.columns["changed_weights"] == 0


class Few(nn.Module):
    """Neurons that are silent on most images, before positions that all images share."""

    def __init__(self, time_first):
        super().__init__()
        self.first = nn.Linear(16, 6)
        self.second = nn.Linear(6, 8)
        self.position = nn.Parameter(torch.randn(8, 8))
        self.head = nn.Linear(8, 5)
        self.time_first = time_first
        self.first.bias.data -= 1.2

    def forward(self, x):
        x = x.transpose(1, 2).flatten(2)
        if self.time_first:
            x = self.second(F.relu(self.first(x.transpose(0, 1)))).transpose(0, 1)
        else:
            x = self.second(F.relu(self.first(x)))
        return self.head((x * self.position[: x.shape[1]]).tanh().mean(1))


@pytest.mark.parametrize("time_first", [False, True])
def test_only_the_images_that_a_neuron_over_tokens_changes_are_followed(time_first):
    torch.manual_seed(0)
    network, images = Few(time_first).eval(), IMAGES()
    variants = list(nodal_variants("first", network.first, filters=range(6), at="activation"))
    graph = Graph(network, Traced(network, ["first"], images), variants)
    active = F.relu(network.first(images.transpose(1, 2).flatten(2))).ne(0).any(1)
    assert 0 < active.sum(0).min() <= active.sum(0).max() < 30
    with torch.no_grad():
        evaluate = graph.fixed(images)
        followed = [rows for rows, _ in evaluate(variants)]
    for rows, mine in zip(followed, active.T, strict=True):
        assert rows is None if time_first else torch.equal(rows, mine.nonzero().flatten())
    found = active_images(network, "first", images, at="activation")
    assert found.tolist() == active.sum(0).tolist()
    labels = network(images).argmax(1)
    facts = sweep(network, variants, {"": images}, labels, ablated=["first"], say=quiet)
    assert facts.changed[""].tolist() == active.sum(0).tolist()
    logits = logits_of(network, variants, images, ablated=["first"])
    for variant, found in zip([None, *variants], logits, strict=True):
        x = F.relu(network.first(images.transpose(1, 2).flatten(2)))
        if variant:
            x[..., variant.mask.filters[0]] = 0
        expected = network.head((network.second(x) * network.position).tanh().mean(1))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "untraceable inside", "lstm", "taken"])
def test_attacks_recrafted_on_every_kind_of_layer(name):
    network, images, labels, places = made(name)
    settings = {"attack": {"method": "fgsm"}, "eps": 0.1, "bounds": None, "seed": 0}
    attacks = {"fgsm": partial(craft, **settings)}
    for layer in places:
        variants = some_variants(network, layer, count=3, places=False)
        given = {"ablated": [layer], "attacks": attacks, "batch_size": 16, "say": quiet}
        facts = sweep(network, variants, {"clean": images}, labels, **given)
        agree = []
        for variant, hits in zip(variants, facts.correct["fgsm"], strict=True):
            changed = naive(network, variant)
            with torch.no_grad():
                found = changed(craft(changed, images, labels, **settings)).argmax(1)
            agree.append(hits == (found == labels).numpy())
        assert np.mean(agree) > 0.99  # a gradient near 0 may have either sign


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_outputs_train_on_logits(name):
    network = from_torchvision(name, (3, 75, 75), 4).train()
    assert network(torch.rand(2, 3, 75, 75)).shape == (2, 4)
    assert not [path for path in layers(network) if path.lower().startswith("aux")]


TORCHVISION = {  # size of the images; layers as above
    "vit_b_16": (32, {
        "encoder.layers.encoder_layer_5.self_attention": "",
        "encoder.layers.encoder_layer_11.mlp.0": "-1:body.encoder.layers.encoder_layer_11.mlp.1",
    }),
    "swin_t": (32, {
        "features.1.1.attn.qkv": None, "features.2.reduction": None,
        "features.3.1.mlp.0": "-1:body.features.3.1.mlp.1",
    }),
    "convnext_tiny": (32, {
        "features.0.0": "body.features.0.0", "features.3.1.block.0": "body.features.3.1.block.0",
        "features.5.2.block.3": "-1:body.features.5.2.block.4",
    }),
    "mobilenet_v3_small": (32, {
        "features.0.0": "body.features.0.2", "classifier.0": "body.classifier.1",
        "features.4.block.2.fc1": "body.features.4.block.2.activation",
        "features.6.block.1.0": "body.features.6.block.1.2",
    }),
    "efficientnet_b0": (32, {
        "features.3.1.block.3.0": "body.features.3.1.block.3.1",
        "features.5.0.block.2.fc2": "body.features.5.0.block.2.scale_activation",
    }),
    "regnet_y_400mf": (32, {
        "trunk_output.block2.block2-1.f.b.0": "body.trunk_output.block2.block2-1.f.b.2",
        "trunk_output.block3.block3-0.proj.0": "body.trunk_output.block3.block3-0.proj.1",
    }),
    "densenet121": (32, {
        "features.denseblock1.denselayer2.conv2": None, "features.transition2.conv": None,
        "features.denseblock4.denselayer16.conv1": "body.features.denseblock4.denselayer16.relu2",
    }),
    "googlenet": (32, {
        "conv2.conv": None, "inception4b.branch2.1.conv": None, "fc": "body.fc",
    }),
    "inception_v3": (75, {
        "Conv2d_3b_1x1.conv": None, "Mixed_7b.branch3x3_2a.conv": None,
    }),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision_as_the_naive_implementation(name):
    size, places = TORCHVISION[name]
    shape = (3, size, size)
    torch.manual_seed(0)
    body = from_torchvision(name, shape, 10)
    network = Network(Normalise(0.5, 0.25, shape=shape), body).eval()
    lively(network, torch.rand(8, *shape))
    images = torch.rand(3, *shape)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        network, images = network.double(), images.double()  # float32 itself is off by more
    labels = network(images).argmax(1)
    variants = []
    for layer, place in places.items():
        chosen = {layer: layers(network)[layer]}
        variants += synaptic_variants(chosen, kinds=KINDS[1:], count=3)[1::3]
        for at in ["weights", *["activation"] * bool(place)]:
            variants += nodal_variants(layer, chosen[layer], filters=[1], at=at)
    variants = [Variant({"n": i}, v.key, v.replace, v.mask) for i, v in enumerate(variants)]
    # all in one sweep, as most of the time goes into tracing the network
    given = {"ablated": [*places], "place": places, "ways": [{}], "devices": REAL}
    assert_as_naive(network, variants, images, labels, **given)
