"""Variants whose outputs overflow or are no numbers: as the plain loop, told, and never a crash."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from trainings import quiet

from faultline.ablation.facts import Facts
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import Variant, nodal_variants
from faultline.attacks.craft import craft
from faultline.base.errors import UserError
from faultline.networks.layers import layers
from faultline.networks.registry import build

INF, NAN = float("inf"), float("nan")


def variant(name, weight, key):
    return Variant({"number": key}, key=key, replace=lambda: {f"{name}.weight": weight})


def broken(name, layer):
    """Variants with one, some or all filters changed by values of every size."""
    weight, made = layer.weight.detach(), []
    for filters in (1, len(weight) // 2, len(weight)):
        for value in (INF, -INF, NAN, 3e38, -3e38, 1e30, 1e20, 1e7, 3.0):
            changed = weight.clone()
            changed[:filters].view(filters, -1)[:, 0] = value
            made.append(variant(name, changed, len(made)))
    return made


def plain(network, variant):
    copied = copy.deepcopy(network)
    body = getattr(copied, "body", copied)
    for name, value in variant.replace().items():
        body.get_parameter(name).data = value
    return copied


def judged(logits, labels):
    finite = ~(logits.isnan() | (logits == INF)).any(1) & (logits > -INF).any(1)
    return ((logits.argmax(1) == labels) & finite).tolist(), int((~finite).sum())


def test_by_hand():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False)).eval()
    network[1].weight.data.copy_(torch.eye(3))
    images = torch.tensor([[5.0, 1, 0], [0, 1, 0], [1, 2, 4]])
    labels = torch.tensor([0, 1, 2])
    weights = [torch.eye(3) for _ in range(4)]
    weights[0][0, 0] = INF  # logits inf, then 0 * inf, then inf
    weights[1][0, 0] = NAN
    weights[2][1, 0] = -INF  # class 1 is out of the question, but where its input is 0
    weights[3][2, 2] = 1e37  # large, and right where it was
    facts = sweep(
        network,
        [variant("1", weight, key) for key, weight in enumerate(weights)],
        {"clean": images},
        labels,
        ablated=["1"],
        tops=(1, 2),
        say=quiet,
    )
    assert facts.base["clean"].tolist() == [True] * 3
    expected = [[False] * 3, [False] * 3, [True, False, True], [True] * 3]
    assert facts.correct["clean"].tolist() == expected
    assert not facts.correct["clean@2"][:2].any()
    assert facts.nonfinite["clean"].tolist() == [3, 3, 1, 0]
    assert facts.nonfinite["clean@2"].tolist() == [3, 3, 1, 0]
    assert facts.changed["clean"].tolist() == [3, 3, 3, 1]
    stored = facts.arrays()
    assert stored["nonfinite:clean"].tolist() == [3, 3, 1, 0]
    assert Facts.from_arrays(stored).nonfinite["clean"].tolist() == [3, 3, 1, 0]


def test_nothing_is_stored_where_all_outputs_are_finite():
    network = nn.Sequential(nn.Linear(4, 3)).eval()
    variants = list(nodal_variants("0", network[0], filters=[0, 1], at="weights"))
    facts = sweep(network, variants, {"clean": torch.rand(5, 4)}, torch.zeros(5), ablated=["0"])
    assert facts.nonfinite["clean"].tolist() == [0, 0]
    assert not any(key.startswith("nonfinite") for key in facts.arrays())
    assert Facts.from_arrays(facts.arrays()).nonfinite["clean"].tolist() == [0, 0]


class Untraceable(nn.Sequential):
    def forward(self, images):
        return super().forward(images if images.sum() > 0 else images + 1)


def untraceable():
    torch.manual_seed(0)
    return Untraceable(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    ).eval()


@pytest.mark.parametrize(
    ("name", "size", "chosen"),
    [
        ("small_conv", 8, ["conv1", "fc"]),
        ("small_resnet", 8, ["conv1", "layer2.conv2", "layer2.downsample.0"]),
        ("lsa_mnist", 12, ["conv1", "fc1"]),
        pytest.param("squeezenet1_1", 33, ["features.0"], marks=pytest.mark.slow),
        pytest.param(
            *("shufflenet_v2_x1_0", 32, ["conv1.0", "stage2.0.branch1.0"]), marks=pytest.mark.slow
        ),
        ("untraceable", 8, ["0", "4"]),
    ],
)
def test_as_the_plain_loop_to_the_image(name, size, chosen):
    torch.manual_seed(0)
    shape = (3, size, size)
    network = (
        untraceable()
        if name == "untraceable"
        else build(name, shape=shape, classes=10, mean=0.5, std=0.25, seed=1)
    )
    network.train()
    with torch.no_grad():  # statistics of BatchNorm that scale
        for _ in range(20):
            network(torch.rand(16, *shape))
    network.eval()
    images = torch.rand(24, *shape)
    labels, counts = network(images).argmax(1), []
    for layer in chosen:
        variants = broken(layer, layers(network)[layer])
        facts = sweep(network, variants, {"clean": images}, labels, ablated=[layer], say=quiet)
        for row, changed in enumerate(variants):
            with torch.no_grad():
                hits, count = judged(plain(network, changed)(images), labels)
            assert facts.correct["clean"][row].tolist() == hits, (layer, row)
            assert facts.nonfinite["clean"][row] == count, (layer, row)
            counts.append(count)
    assert 0 in counts and len(images) in counts


@pytest.mark.parametrize(
    ("method", "norm"),
    [("fgsm", "linf"), ("pgd", "linf"), ("pgd", "l2"), ("apgd", "linf"), ("apgd", "l2")],
)
def test_attacks_on_a_broken_network_stay_images(method, norm):
    network = build("small_resnet", shape=(3, 8, 8), classes=10, mean=0.5, std=0.25, seed=1).eval()
    images, labels = torch.rand(12, 3, 8, 8), torch.arange(12) % 10
    settings = {"attack": {"method": method, "norm": norm, "steps": 3}}
    settings |= {"eps": 0.1, "bounds": (0.0, 1.0), "seed": 0}
    variants = broken("conv1", layers(network)["conv1"])
    for changed in variants:
        made = craft(plain(network, changed), images, labels, **settings)
        assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1
    facts = sweep(
        network,
        variants,
        {"clean": images},
        labels,
        ablated=["conv1"],
        attacks={"attack": partial(craft, **settings)},
        say=quiet,
    )
    for row, changed in enumerate(variants[:-1]):
        copied = plain(network, changed)
        with torch.no_grad():
            hits, count = judged(copied(craft(copied, images, labels, **settings)), labels)
        if changed.replace()["conv1.weight"].abs().max() > 1e6:
            assert facts.correct["attack"][row].tolist() == hits
        assert facts.nonfinite["attack"][row] == count
    assert facts.nonfinite["attack"].any()


def test_an_attack_of_the_users_own_on_a_broken_network(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n\n\n"
        "def step(network, images, labels, *, attack, eps, bounds, start):\n"
        "    images = images.requires_grad_()\n"
        "    loss = torch.nn.functional.cross_entropy(network(images), labels)\n"
        "    (gradient,) = torch.autograd.grad(loss, images)\n"
        "    step = eps * gradient / gradient.norm()\n"
        "    return (images + step).clamp(*bounds).detach() * attack['times']\n"
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    images, labels = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)
    attack = {"method": f"{file}:step", "times": 1.0}
    settings = {"eps": 0.1, "bounds": (0.0, 1.0), "seed": 0}
    assert not torch.equal(craft(network, images, labels, attack=attack, **settings), images)
    with pytest.raises(UserError, match="not finite"):
        craft(network, images, labels, attack=attack | {"times": NAN}, **settings)
    network[1].weight.data[0] = NAN
    assert torch.equal(craft(network, images, labels, attack=attack, **settings), images)
