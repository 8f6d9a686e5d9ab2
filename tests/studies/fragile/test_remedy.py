from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from faultline.attacks.craft import judge
from faultline.base.errors import UserError
from faultline.networks.layers import of_units
from faultline.networks.registry import REGISTRY, build
from faultline.studies.fragile.remedy import (
    Carrier,
    best_strength,
    carrier,
    dealt,
    feature_energy,
    gains,
    nodal_fragility,
    remedied,
    table_gains,
    try_strengths,
    tuned_gains,
)

# The law


def test_gains_by_hand():
    # equal energies, d = 0 and 1: the gains m - s/2 and m + s/2 keep the energy if m^2 + s^2/4 = 1
    found = gains(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 3.0]), strength=0.6)
    middle = np.sqrt(1 - 0.09)
    assert found.tolist() == pytest.approx([middle - 0.3, middle + 0.3])


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_gains_are_linear_and_keep_the_energy(strength):
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        d = torch.randn(9, generator=generator, dtype=torch.double)
        energy = torch.rand(9, generator=generator, dtype=torch.double) ** 4
        g = gains(d, energy, strength=strength)
        assert (g**2 @ energy).item() == pytest.approx(energy.sum().item())
        assert (g.max() - g.min()).item() == pytest.approx(strength)
        assert g.min() >= 0 and g.argmax() == d.argmax() and g.argmin() == d.argmin()
        slope, _ = np.polyfit(d.numpy(), g.numpy(), 1)
        assert slope == pytest.approx(strength / (d.max() - d.min()).item())
        assert g.max() > 1 > g.min()


def test_gains_where_nothing_stands_out():
    d, energy = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])
    assert gains(d, energy, strength=0).tolist() == [1, 1]
    assert gains(torch.ones(2), energy, strength=1).tolist() == [1, 1]
    assert gains(d, torch.zeros(2), strength=1).tolist() == [1, 1]


def test_gains_are_never_negative_whatever_the_energies():
    d = torch.tensor([0.0, 0.3, 1.0])
    for energy in ([1.0, 0, 0], [0, 0, 1.0], [0.0, 1.0, 0.0]):
        assert gains(d, torch.tensor(energy), strength=1.0).min() >= 0


def test_random_control_deals_the_same_fragilities():
    d = torch.arange(20.0)
    state = torch.get_rng_state()
    draws = [dealt(d, layer="a", seed=s, draw=k) for s in (0, 1) for k in (0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(draw.sort().values, d) for draw in draws)
    assert len({tuple(draw.tolist()) for draw in [d, *draws]}) == 5
    assert torch.equal(draws[0], dealt(d, layer="a", seed=0, draw=0))


# Where the gains act


def chain(**modules):
    return nn.Sequential(OrderedDict(modules))


def conv(inputs=1, outputs=2, bias=True):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


def end(size=8):
    return {"flatten": nn.Flatten(), "fc": nn.Linear(size, 3)}


GAIN = torch.tensor([1.5, 0.25], dtype=torch.double)


def test_without_normalisation_by_hand():
    network = chain(conv=nn.Conv2d(1, 2, 1), relu=nn.ReLU(), flatten=nn.Flatten())
    network.conv.weight.data = torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1)
    network.conv.bias.data = torch.tensor([-1.0, 4.0])
    x = torch.tensor([[3.0]]).reshape(1, 1, 1, 1)
    assert network(x).tolist() == [[5.0, 1.0]]
    assert remedied(network, {"conv": GAIN})(x).tolist() == [[7.5, 0.25]]
    assert network(x).tolist() == [[5.0, 1.0]]  # the network itself is not changed
    assert carrier(network, "conv") == Carrier("conv", True)


def test_with_batchnorm_by_hand():
    network = chain(
        conv=nn.Conv2d(1, 2, 1, bias=False), bn=nn.BatchNorm2d(2, eps=0), relu=nn.ReLU()
    )
    network.conv.weight.data = torch.tensor([2.0, 1.0]).reshape(2, 1, 1, 1)
    network.bn.running_mean.copy_(torch.tensor([1.0, 1.0]))
    network.bn.running_var.copy_(torch.tensor([4.0, 1.0]))
    network.bn.bias.data = torch.tensor([0.5, 2.0])
    network.eval()
    x = torch.tensor([[3.0]]).reshape(1, 1, 1, 1)
    # (6 - 1) / 2 + 0.5 = 3 and (3 - 1) / 1 + 2 = 4; scaling the conv's weights would not give these
    assert network(x).flatten().tolist() == [3.0, 4.0]
    assert remedied(network, {"conv": GAIN})(x).flatten().tolist() == [4.5, 1.0]
    assert carrier(network, "conv") == Carrier("bn", True)


NETWORKS = {
    "plain": (lambda: chain(conv=conv(), **end(32)), "conv", "conv", True),
    "relu": (lambda: chain(conv=conv(), act=nn.ReLU(), **end(32)), "conv", "act", True),
    "no bias": (
        lambda: chain(conv=conv(bias=False), act=nn.ReLU(), **end(32)),
        "conv",
        "act",
        True,
    ),
    "batchnorm": (
        lambda: chain(conv=conv(), bn=nn.BatchNorm2d(2), act=nn.LeakyReLU(), **end(32)),
        "conv",
        "act",
        True,
    ),
    "dropout": (
        lambda: chain(conv=conv(), drop=nn.Dropout(), bn=nn.BatchNorm2d(2), **end(32)),
        "conv",
        "bn",
        True,
    ),
    "groupnorm": (
        lambda: chain(conv=conv(), gn=nn.GroupNorm(1, 2), act=nn.ReLU(), **end(32)),
        "conv",
        "act",
        True,
    ),
    "layernorm of maps": (
        lambda: chain(conv=conv(), ln=nn.LayerNorm([2, 4, 4]), **end(32)),
        "conv",
        "ln",
        True,
    ),
    "layernorm of units": (
        lambda: chain(
            flatten=nn.Flatten(), one=nn.Linear(16, 2), ln=nn.LayerNorm(2), act=nn.ReLU()
        ),
        "one",
        "act",
        True,
    ),
    "elu": (
        lambda: chain(conv=conv(), bn=nn.BatchNorm2d(2), act=nn.ELU(), **end(32)),
        "conv",
        "bn",
        False,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_scaled_exactly(name):
    make, layer, place, passed_on = NETWORKS[name]
    torch.manual_seed(1)
    network = make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 3)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    images, mended = torch.randn(5, 1, 4, 4), remedied(network, {layer: GAIN})
    assert carrier(network, layer).passed_on == passed_on
    maps = []
    with torch.no_grad():
        for each in (network, mended):
            x = images
            for path, module in each.named_children():
                x = module(x)
                if path == place:
                    maps.append(x)
                    break
    before, after = maps
    expected = before * GAIN.float().reshape(1, 2, *[1] * (before.dim() - 2))
    assert torch.allclose(after, expected, atol=1e-6)

    # the energy is that of this very map, and the law keeps it
    energy = feature_energy(network, [layer], images, pixels=lambda x: x, batch_size=2)[layer]
    squares = before.double().square().reshape(5, 2, -1).sum(2).mean(0)
    assert torch.allclose(energy, squares, rtol=1e-4)
    law = gains(torch.tensor([0.0, 1.0]), energy, strength=0.5)
    kept = feature_energy(remedied(network, {layer: law}), [layer], images, pixels=lambda x: x)
    assert kept[layer].sum().item() == pytest.approx(energy.sum().item(), rel=1e-4)


# Units of other kinds


class Tokens(nn.Module):
    """Words [n, 5] through an embedding, an attention and a GRU."""

    def __init__(self, **attention):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True, **attention)
        self.gru, self.norm, self.fc = nn.GRU(6, 2, batch_first=True), nn.LayerNorm(2), end(2)["fc"]

    def forward(self, x):
        x = self.embed(x)
        return self.fc(self.norm(self.gru(x + self.attention(x, x, x)[0])[0]).mean(1))


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"bias": False}])
def test_what_a_head_adds_is_scaled_exactly(options):
    torch.manual_seed(0)
    network, words = Tokens(**options).eval(), torch.randint(7, (4, 5))
    for name, parameter in network.attention.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    factors = torch.tensor([1.5, 0.0, 0.25], dtype=torch.double)
    mended = remedied(network, {"attention": factors})
    assert carrier(network, "attention") == Carrier("attention", True)
    with torch.no_grad():
        x = network.embed(words)
        bias = network.attention.out_proj.bias
        bias = 0 if bias is None else bias
        expected = 0 * x + bias
        for head in range(3):  # alone, by removing what the other two add
            others = of_units(network.attention, {0, 1, 2} - {head})["out_proj.weight"]
            kept = {"out_proj.weight": network.attention.out_proj.weight.masked_fill(others, 0)}
            alone, _ = functional_call(network.attention, kept, (x, x, x))
            expected = expected + factors[head].float() * (alone - bias)
        torch.testing.assert_close(mended.attention(x, x, x)[0], expected)

    energy = feature_energy(network, ["attention"], words, pixels=lambda x: x)["attention"]
    law = gains(torch.tensor([0.0, 0.5, 1.0]), energy, strength=0.5)
    assert (law**2 @ energy).item() == pytest.approx(energy.sum().item())


def test_columns_of_an_embedding_are_scaled_exactly():
    torch.manual_seed(0)
    network, words = Tokens().eval(), torch.randint(7, (4, 5))
    factors = torch.linspace(0, 2, 6, dtype=torch.double)
    mended = remedied(network, {"embed": factors})
    assert torch.allclose(mended.embed(words), network.embed(words) * factors.float())
    energy = feature_energy(network, ["embed"], words, pixels=lambda x: x, batch_size=3)["embed"]
    squares = network.embed(words).double().square().sum(1).mean(0)
    assert torch.allclose(energy, squares.detach())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layer", [nn.Conv1d, nn.ConvTranspose1d])
def test_signals_are_scaled_exactly(layer, groups):
    torch.manual_seed(0)
    network, x = (
        chain(conv=layer(2, 4, 3, groups=groups), act=nn.ReLU()).eval(),
        torch.rand(3, 2, 5),
    )
    factors = torch.tensor([0.0, 0.5, 1.0, 3.0], dtype=torch.double)
    mended = remedied(network, {"conv": factors})
    assert torch.allclose(mended(x), network(x) * factors.float()[:, None], atol=1e-6)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(1, 1)

    def forward(self, x):
        return self.conv(self.conv(x)).flatten(1)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, x):
        return F.layer_norm(F.relu(self.conv(x)), (2, 4, 4)).flatten(1)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other, self.bn = conv(1, 2), conv(2, 2), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn(self.other(self.bn(self.one(x)))).flatten(1)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else self.conv(-x)


@pytest.mark.parametrize(
    ("network", "layer", "reason"),
    [
        (
            chain(conv=conv(), bn=nn.BatchNorm2d(2, affine=False)),
            "conv",
            "bn normalises it and has",
        ),
        (chain(conv=conv(), n=nn.InstanceNorm2d(2)), "conv", "n normalises it and has no weight"),
        (chain(conv=conv(), ln=nn.LayerNorm(4)), "conv", "no weight per filter"),
        (chain(conv=conv(), act=nn.ReLU(), bn=nn.BatchNorm2d(2)), "conv", "bn normalises it again"),
        (
            chain(conv=conv(), p=nn.MaxPool2d(4), flatten=nn.Flatten(), ln=nn.LayerNorm(2)),
            "conv",
            "ln normalises it again",
        ),
        (Functional(), "conv", "layer_norm normalises it again"),
        (Shared(), "one", "bn, which normalises it, is used elsewhere"),
        (Twice(), "conv", "used 2 times"),
        (Tokens(), "gru", "its hidden units read each other"),
        (chain(embed=nn.Embedding(3, 2, max_norm=1.0)), "embed", "normalises its rows itself"),
        (chain(a=nn.TransformerEncoderLayer(4, 2)), "a.self_attn", "its own call does not show"),
        (chain(conv=nn.Conv1d(1, 4, 1), ln=nn.LayerNorm(4)), "conv", "no weight per filter"),
        (Untraceable(), "conv", "cannot be traced"),
    ],
)
def test_where_a_gain_cannot_act(network, layer, reason):
    with pytest.raises(UserError, match=reason) as error:
        remedied(network, {layer: torch.ones(2)})
    assert "config key remedy.layers" in str(error.value) and "\n" not in str(error.value)


def test_layer_that_is_not_there():
    with pytest.raises(UserError, match="'conv9' is not in the network; there are: conv"):
        carrier(chain(conv=conv()), "conv9")


@pytest.mark.parametrize("name", ["small_conv", "small_resnet", "lsa_mnist", "resnet18"])
def test_gains_act_on_every_first_layer(name):
    size = max(8, REGISTRY[name].min_size)
    network = build(name, shape=(1, size, size), classes=10, mean=0.5, std=0.5, seed=0)
    path = next(p for p, m in network.body.named_modules() if isinstance(m, nn.Conv2d))
    found = carrier(network, path)
    expected = path.replace("conv", "bn") if name != "lsa_mnist" else path
    assert found == Carrier(f"body.{expected}", True)


def test_the_second_layer_of_a_block_is_scaled_before_the_skip_is_added():
    network = build("small_resnet", shape=(1, 8, 8), classes=10, mean=0.5, std=0.5, seed=0)
    assert carrier(network, "layer1.conv2").path == "body.layer1.bn2"


# Fragility, strengths, judging


@pytest.fixture(scope="module")
def small():
    network = build("small_conv", shape=(1, 8, 8), classes=10, mean=0.3, std=0.4, seed=3)
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        network.train()(images)  # statistics of these images, so that their classes differ
        labels = network.eval()(images).argmax(1)
    labels[::4] = (labels[::4] + 1) % 10
    return network, images, labels


def test_nodal_fragility_like_a_naive_implementation(small):
    network, images, labels = small
    expected = []
    with torch.no_grad():
        base = (network(images).argmax(1) == labels).double().mean().item()
        for i in range(16):
            kept = network.body.conv1.weight.data.clone()
            network.body.conv1.weight.data[i] = 0
            expected.append(base - (network(images).argmax(1) == labels).double().mean().item())
            network.body.conv1.weight.data = kept
    found = nodal_fragility(network, "conv1", images, labels, at="weights")
    assert found.tolist() == pytest.approx(expected) and max(expected) > 0


@pytest.fixture
def table(small):
    network, images, labels = small
    d = nodal_fragility(network, "conv1", images, labels, at="weights")
    energy = feature_energy(network, ["conv1"], images, pixels=lambda x: x)["conv1"]
    return pd.DataFrame({"layer": "conv1", "filter": range(16), "fragility": d, "energy": energy})


def shifted(network, images, labels):
    return (images + 0.2 * network(images).argmax(1)[:, None, None, None] / 10).clamp(0, 1)


def test_strengths_are_tried_with_the_attack_crafted_anew(small, table):
    network, images, labels = small
    with torch.no_grad():
        tried = try_strengths(
            network,
            table,
            images,
            labels,
            policies=["fragile", "random-1"],
            strengths=[1.0, 0.5],
            attacks={"a": shifted},
            seed=3,
        )
        assert list(tried["strength"]) == [0, 0, 0.5, 0.5, 1, 1] * 2
        assert list(tried["images"]) == ["clean", "a"] * 6 and set(tried["n"]) == {60}
        base = judge(network, images, labels, attacks={"a": shifted})
        for policy, part in tried.groupby("policy"):
            gain = table_gains(table, policy=policy, strength=0.5, seed=3)
            mended = remedied(network, gain)
            hits = mended(shifted(mended, images, labels)).argmax(1) == labels
            accuracy = [*part["accuracy"]]
            assert [base["clean"].mean(), base["a"].mean()] == accuracy[:2]
            assert hits.double().mean().item() == pytest.approx(accuracy[3])


def test_the_best_strength_is_the_best_on_average_and_of_equals_the_smallest():
    rows = [(0, 0.9, 0.9), (0.25, 0.7, 0.5), (0.5, 0.5, 0.7), (1, 0.9, 0.2)]
    tried = pd.DataFrame(
        [
            {"strength": s, "images": name, "accuracy": a}
            for s, *both in rows
            for name, a in zip(("clean", "pgd"), both, strict=True)
        ]
    )
    assert best_strength(tried, [0.5, 1.0, 0.25]) == 0.25
    assert best_strength(tried, [0, 0.5]) == 0  # where no change is among the choices


def test_table_gains_of_a_random_draw(table):
    mine = table_gains(table, policy="fragile", strength=0.5, seed=1)["conv1"]
    drawn = table_gains(table, policy="random-0", strength=0.5, seed=1)["conv1"]
    energy = torch.tensor(table["energy"].to_numpy())
    assert (drawn**2 @ energy).item() == pytest.approx((mine**2 @ energy).item())
    assert (drawn.max() - drawn.min()).item() == pytest.approx(0.5)
    assert not torch.allclose(mine, drawn)


def test_the_remedy_and_each_draw_of_its_control_take_their_own_best_strength(table):
    best = {"fragile": 0.25, "random-0": 1.0, "random-1": 0.5}
    tried = pd.DataFrame(
        [
            {"policy": policy, "strength": s, "images": "clean", "accuracy": 1 - abs(s - mine)}
            for policy, mine in best.items()
            for s in (0, 0.25, 0.5, 1.0)
        ]
    )
    found = tuned_gains(table, tried, strengths=[0.25, 0.5, 1.0], seed=1)
    assert list(found.columns[:2]) == ["policy", "layer"] and len(found) == 3 * 16
    assert dict(zip(found["policy"], found["strength"], strict=True)) == best
    for policy, part in found.groupby("policy"):
        gain = table_gains(table, policy=policy, strength=best[policy], seed=1)["conv1"]
        assert list(part["gain"]) == gain.tolist() and list(part["filter"]) == list(range(16))
