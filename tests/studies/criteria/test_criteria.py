"""Criteria against networks worked out by hand, and against a second, naive implementation."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from support import ROOT, error_of, fenced
from torch import nn

from faultline.attacks.ascent import Ball, feature_gradient, pgd
from faultline.attacks.craft import craft
from faultline.networks.layers import filters, of_units
from faultline.networks.layers import layers as layers_of
from faultline.networks.registry import build
from faultline.studies.criteria.data import Data, Score, passes, replaced, unit_sums
from faultline.studies.criteria.judge import judged
from faultline.studies.criteria.names import BUILTIN, CONTROLS, CRITERIA, EARLIER

PGD = {"method": "pgd", "norm": "linf", "steps": 10, "eps": 0.1}
N = 12


def data_of(network, images, labels, *, initial=None, attack=PGD, **more) -> Data:
    given = {"attack": attack, "eps": attack["eps"], "bounds": (0.0, 1.0), "seed": 3}
    found = {
        "network": network,
        "images": images,
        "labels": labels,
        "layers": [*layers_of(network)],
        "attack": attack,
        "bounds": (0.0, 1.0),
        "craft": partial(craft, **given),
        "initial": lambda: initial,
        "redrawn": lambda: iter([initial]),
        "seed": 0,
    }
    return Data(**found | more)


@pytest.fixture
def line():
    """One linear layer without a bias, two classes: logits [2a, 0] of an image (a, b)."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    return network


@pytest.fixture(params=["small_conv", "small_resnet", "small_vit"])
def trained(request):
    """(network with moved normalisations, images, labels, the same network before)."""
    generator = torch.Generator().manual_seed(0)
    of = {"shape": (1, 8, 8), "classes": 4, "mean": (0.5,), "std": (0.3,)}
    network, before = (build(request.param, **of, seed=seed) for seed in (0, 1))
    images = torch.rand(N, 1, 8, 8, generator=generator)
    labels = torch.randint(4, (N,), generator=generator)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return network.eval(), images, labels, before


def test_a_linear_layer_by_hand(line):
    # p = softmax(2a, 0); gradient of an image of class 0: (p0 - 1) x to row 0, p1 x to row 1
    images, labels = torch.tensor([[0.5, 1.0], [0.25, 0.5]]), torch.tensor([0, 1])
    p0 = torch.sigmoid(2 * images[:, 0])
    errors = torch.stack([p0 - (labels == 0).float(), (1 - p0) - (labels == 1).float()], dim=1)
    by_image = errors[:, :, None] * images[:, None, :]  # [n, 2, 2]
    data, weight = data_of(line, images, labels), line[0].weight.detach()

    found = BUILTIN["relative_gradient"].function(line, data)["0"]
    mean = by_image.mean(0)
    assert found.layer == pytest.approx((mean.norm() / 2).item())
    assert found.filters.tolist() == pytest.approx([(mean[0].norm() / 2).item(), 0.0])

    found = BUILTIN["fisher"].function(line, data)["0"]
    square = (by_image**2).mean(0)
    assert found.layer == pytest.approx(square.mean().item())
    assert found.filters.tolist() == pytest.approx(square.mean(1).tolist())

    found = BUILTIN["taylor_clean"].function(line, data)["0"]
    moved = (by_image * weight).sum(2).abs().mean(0)
    assert found.filters.tolist() == pytest.approx(moved.tolist())
    assert found.layer == pytest.approx(moved.sum().item())

    # every pixel of class 0 goes down, of class 1 up, as far as it may; only the first one counts
    found = BUILTIN["taylor_adversarial"].function(line, data)["0"]
    a = images[:, 0] + torch.tensor([-0.1, 0.1])
    slope = torch.sigmoid(2 * a) - (labels == 0).float()
    assert found.filters[0].item() == pytest.approx((2 * a * slope).abs().mean().item(), rel=1e-5)


def test_the_worst_weights_by_hand(line):
    # images of one kind: the worst D is along the gradient, rank one, and the ascent is straight
    images, labels = torch.tensor([[0.6, 0.8]] * 3), torch.zeros(3, dtype=torch.int64)
    data = data_of(line, images, labels, attack=PGD | {"eps": 0.0})
    score = BUILTIN["module_robust_criticality"].function(line, data)["0"].layer
    # logits' difference 1.2 falls by ||D|| ||x|| sqrt 2, with ||D|| = 0.2 and ||x|| = 1
    expected = np.log1p(np.exp(-(1.2 - 0.2 * 2**0.5))) - np.log1p(np.exp(-1.2))
    assert score == pytest.approx(expected, rel=1e-5)


def test_no_worse_weights_are_found_by_trying(trained):
    network, images, labels, _ = trained
    data = data_of(network, images, labels)
    found = BUILTIN["module_robust_criticality"].function(network, data)
    generator = torch.Generator().manual_seed(1)

    def loss():
        return nn.functional.cross_entropy(network(data.adversarial), labels).item()

    base = loss()
    for name, layer in data.modules(network).items():
        weights = {k: p for k, p in layer.named_parameters() if "bias" not in k}
        norm = sum(p.square().sum() for p in weights.values()).sqrt()
        worst = 0.0
        for _ in range(20):
            noise = {k: torch.randn(p.shape, generator=generator) for k, p in weights.items()}
            size = sum(d.square().sum() for d in noise.values()).sqrt()
            moved = {k: p.detach() + 0.1 * norm / size * noise[k] for k, p in weights.items()}
            with replaced(layer, moved), torch.no_grad():
                worst = max(worst, loss() - base)
        assert found[name].layer >= worst


def test_feature_change_by_hand():
    # two linear layers: features 3x, then their sum; the farthest point is a corner of the ball
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(3 * torch.eye(2))
        network[1].weight.copy_(torch.ones(1, 2))
    images, labels = torch.full((5, 2), 0.5), torch.zeros(5, dtype=torch.int64)
    found = BUILTIN["clat"].function(network, data_of(network, images, labels))
    # W of the images: 0.1 sqrt 2 / 2; of the first layer three times as much
    assert found["0"].layer == pytest.approx(3.0, rel=1e-5)
    # of the second 0.6 / 1 where both pixels move alike, over 0.3 sqrt 2 / 2
    assert found["1"].layer == pytest.approx(0.6 / (0.3 * 2**0.5 / 2), rel=1e-5)
    l2 = data_of(network, images, labels, attack=PGD | {"norm": "l2"})
    found = BUILTIN["clat"].function(network, l2)
    # W of the images 0.1 / 2, of the first layer 0.3 / 2, of the second 0.3 sqrt 2
    assert [found[name].layer for name in "01"] == pytest.approx([3.0, 2 * 2**0.5], rel=0.01)


def test_feature_ascent_stays_in_its_ball_and_bounds(trained):
    network, images, _, _ = trained
    start = 0.05 * torch.ones_like(images)
    ball, rise = Ball(0.1, "linf", (0.0, 1.0)), feature_gradient
    clean = network(images).detach()
    moved = pgd(network, images, clean, ball=ball, steps=4, step_size=0.5, start=start, rise=rise)
    assert (moved - images).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1
    near = (images + start).clamp(0, 1)
    change, less = ((network(x) - network(images)).norm(dim=1) for x in (moved, near))
    assert (change >= less - 1e-5).all()


@pytest.mark.parametrize("method", ["reinitialisation", "rerandomisation"])
def test_put_back_layers_against_a_plain_loop(trained, method):
    network, images, labels, before = trained
    data = data_of(network, images, labels, initial=before)
    found = BUILTIN[method].function(network, data)
    right = lambda net: (net(images).argmax(1) == labels).float().mean().item()  # noqa: E731
    for name in data.layers:
        other = copy.deepcopy(network)
        layers_of(other)[name].load_state_dict(layers_of(before)[name].state_dict())
        assert found[name].layer == pytest.approx(right(network) - right(other)), name
        assert found[name].filters is None


@pytest.mark.parametrize("method", ["relative_gradient", "fisher", "taylor_clean"])
def test_gradient_criteria_against_a_plain_loop(trained, method):
    network, images, labels, _ = trained
    data = data_of(network, images, labels)
    found = BUILTIN[method].function(network, data)
    other = copy.deepcopy(network)
    grads = []  # image by image, through backward()
    for image, label in zip(images, labels, strict=True):
        other.zero_grad()
        nn.functional.cross_entropy(other(image[None]), label[None]).backward()
        of = layers_of(other).items()
        grads.append(
            {n: {k: p.grad.clone() for k, p in layer.named_parameters()} for n, layer in of}
        )
    for name, layer in layers_of(other).items():
        own = {k: p.detach() for k, p in layer.named_parameters()}
        for unit in range(filters(layer)):
            masks = of_units(layer, [unit])
            if method == "relative_gradient":
                masks = {k: m for k, m in masks.items() if "bias" not in k}
                mean = {k: sum(g[name][k] for g in grads) / N for k in masks}
                up = sum(mean[k][m].square().sum() for k, m in masks.items())
                expected = (up / sum(own[k][m].square().sum() for k, m in masks.items())).sqrt()
            elif method == "fisher":
                total = sum(g[name][k][m].square().sum() for g in grads for k, m in masks.items())
                expected = total / N / sum(int(m.sum()) for m in masks.values())
            else:
                sums = [
                    sum((g[name][k] * own[k])[m].sum() for k, m in masks.items()) for g in grads
                ]
                expected = sum(s.abs() for s in sums) / N
            got = found[name].filters[unit].item()
            if method == "fisher" and unit == 0:  # an attention's output bias is of no head
                total = sum(value.square().sum() for g in grads for value in g[name].values())
                mean = float(total) / N / sum(value.numel() for value in own.values())
                assert found[name].layer == pytest.approx(mean, rel=1e-3)
            assert got == pytest.approx(float(expected), rel=1e-3, abs=1e-9), (name, unit)


def test_taylor_is_the_loss_without_a_filter_to_first_order(line):
    images, labels = (
        torch.rand(6, 2, generator=torch.Generator().manual_seed(0)),
        torch.zeros(6).long(),
    )
    with torch.no_grad():
        line[0].weight.mul_(1e-3)  # so small that the first order is all there is
    found = BUILTIN["taylor_clean"].function(line, data_of(line, images, labels))["0"].filters[0]

    def loss():
        return nn.functional.cross_entropy(line(images), labels).item()

    base = loss()
    with replaced(line[0], {"weight": torch.zeros(2, 2)}):
        assert found.item() == pytest.approx(loss() - base, rel=1e-2)


def test_controls_by_hand(line):
    images, labels = torch.rand(4, 2), torch.zeros(4, dtype=torch.int64)
    data = data_of(line, images, labels)
    whole, units = BUILTIN["magnitude"].function(line, data)["0"]
    assert whole == 0.5 and units.tolist() == [2.0, 0.0]
    assert BUILTIN["weights"].function(line, data)["0"] == Score(4.0)
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    data = data_of(network, images, labels)
    assert [s.layer for s in BUILTIN["depth"].function(network, data).values()] == [1.0, 0.5, 0.0]
    one, same = (BUILTIN["random"].function(network, data) for _ in range(2))
    assert all(one[name].layer == same[name].layer for name in data.layers)
    other = BUILTIN["random"].function(network, data_of(network, images, labels, seed=1))
    assert len({one[n].layer for n in one} | {other[n].layer for n in other}) == 6


def test_what_scaling_a_layer_does():
    """ReLU networks compute the same when one layer is scaled up and the next one down."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)).eval()
    scaled = copy.deepcopy(network)
    with torch.no_grad():
        scaled[0].weight.mul_(4)
        scaled[2].weight.div_(4)
    images, labels = torch.rand(N, 6), torch.randint(3, (N,))
    found = {
        name: [
            BUILTIN[name].function(net, data_of(net, images, labels))["0"]
            for net in (network, scaled)
        ]
        for name in (
            "magnitude",
            "taylor_clean",
            "taylor_adversarial",
            "relative_gradient",
            "fisher",
        )
    }
    ratios = {name: after.layer / before.layer for name, (before, after) in found.items()}
    expected = {"magnitude": 4, "taylor_clean": 1, "taylor_adversarial": 1}
    assert ratios == pytest.approx(
        expected | {"relative_gradient": 1 / 16, "fisher": 1 / 16}, rel=1e-3
    )


def test_a_unit_of_every_kind_has_its_share_of_a_sum():
    torch.manual_seed(0)
    made = [
        nn.Conv2d(2, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Linear(3, 5),
        nn.MultiheadAttention(8, 2),
        nn.Embedding(7, 3),
        nn.GRU(3, 4, bidirectional=True),
        nn.BatchNorm2d(5),
    ]
    for layer in made:
        values = {name: torch.rand(p.shape) for name, p in layer.named_parameters()}
        sums = unit_sums(layer, values)
        assert sums.shape == (filters(layer),)
        for unit, total in enumerate(sums.tolist()):
            expected = sum(values[k][m].sum() for k, m in of_units(layer, [unit]).items())
            assert total == pytest.approx(float(expected), rel=1e-5), (layer, unit)


def test_every_name_has_a_function_unless_other_studies_say_it():
    assert all(criterion.function for criterion in BUILTIN.values())
    assert not any(criterion.function for criterion in EARLIER.values())
    assert len(BUILTIN | EARLIER) == len(CRITERIA) + len(CONTROLS) + len(EARLIER)
    lowest = [name for name, criterion in (BUILTIN | EARLIER).items() if criterion.lowest]
    assert lowest == ["module_robust_criticality", "synaptic_clean", "synaptic_adversarial"]


def test_the_network_is_as_before_bit_for_bit(trained):
    network, images, labels, before = trained
    state = {k: v.clone() for k, v in network.state_dict().items()}
    frozen = next(network.parameters())
    frozen.requires_grad_(False)
    table = judged(network, data_of(network, images, labels, initial=before), methods=[*BUILTIN])
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert not any(module.training for module in network.modules())
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())
    assert [p.requires_grad for p in network.parameters()].count(False) == 1
    layers = layers_of(network)
    for name, part in table.groupby("criterion"):
        whole = part[part["filter"].isna()]
        # an embedding whose weight is read from elsewhere gives nothing that could be watched
        seen = [n for n in layers if n != "position" or name != "clat"]
        assert list(whole["layer"]) == seen, name
        assert np.isfinite(part["score"].astype(float)).all()
    units = sum(filters(layer) for layer in layers.values())
    assert (table["criterion"] == "fisher").sum() == units + len(layers)


def test_cost_is_counted_forwards_and_back(line):
    images, labels = torch.rand(N, 2), torch.zeros(N, dtype=torch.int64)
    data = data_of(line, images, labels, initial=line)
    cost = judged(line, data, methods=[*BUILTIN]).groupby("criterion")["passes"].first()
    expected = dict.fromkeys(("relative_gradient", "fisher", "taylor_clean"), 2 * N)
    expected["taylor_adversarial"] = 2 * N * (1 + 10)  # crafting takes ten steps
    expected["module_robust_criticality"] = 2 * N * (10 + 10) + N
    # ten steps, and what is compared: once in the ascent, twice to tell the change; one to look
    expected["clat"] = 2 * N * 10 + 3 * N + 1
    expected |= dict.fromkeys(("reinitialisation", "rerandomisation"), 2 * N)
    expected |= dict.fromkeys(CONTROLS, 0)
    assert cost.to_dict() == expected
    with passes(line) as count, torch.no_grad():
        line(images)
    assert count == [N]
    line(images)
    assert count == [N]


OWN = """
import torch
from torch import nn

calls = []


def spread(network, data):
    assert not network.training
    with torch.no_grad():
        next(network.parameters()).zero_()
    return {name: layer.weight.std() for name, layer in data.modules(network).items()}


def by_filter(network, data):
    adversarial = data.adversarial
    layers = data.modules(network).items()
    return {name: layer.weight.flatten(1).norm(dim=1) for name, layer in layers}


def listed(network, data):
    return [1.0]


def elsewhere(network, data):
    return {"conv9": 1.0}


def too_long(network, data):
    return {"0": torch.zeros(7)}


def word(network, data):
    return {"0": "much"}


def nan(network, data):
    return {"0": float("nan")}


def fails(network, data):
    raise ValueError("no idea")
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "my_criteria.py"
    file.write_text(OWN, encoding="utf-8")
    return file


def test_criteria_of_the_users_own(line, own):
    images, labels = torch.rand(N, 2), torch.zeros(N, dtype=torch.int64)
    data, weight = data_of(line, images, labels), line[0].weight.detach().clone()
    table = judged(line, data, methods=[f"{own}:spread", f"{own}:by_filter"])
    assert torch.equal(line[0].weight, weight)  # it was given a copy
    assert list(table["criterion"]) == ["spread", *["by_filter"] * 3]
    assert table.loc[1:, "score"].tolist() == [2.0, 2.0, 0.0]
    assert (
        table["filter"].tolist()[2:] == [0, 1] and table["filter"].isna().tolist()[:2] == [True] * 2
    )
    assert table["passes"].tolist() == [0, *[2 * N * 10] * 3]


def test_the_criterion_of_the_page(trained, tmp_path):
    network, images, labels, _ = trained
    (text,) = [
        text
        for language, text in fenced((ROOT / "docs/own.md").read_text(encoding="utf-8"))
        if text.startswith("# my_criteria.py")
    ]
    (tmp_path / "my_criteria.py").write_text(text, encoding="utf-8")
    layers = [name for name, layer in layers_of(network).items() if isinstance(layer, nn.Conv2d)]
    data = data_of(network, images, labels, layers=layers)
    table = judged(network, data, methods=[f"{tmp_path}/my_criteria.py:response"])
    layer = layers_of(network)[layers[0]]
    given = []
    hook = layer.register_forward_hook(lambda _, inputs, output: given.append(output))
    with torch.no_grad():
        network(images)
    hook.remove()
    expected = given[0].abs().mean((0, 2, 3))
    assert table.loc[1 : len(expected), "score"].tolist() == pytest.approx(expected.tolist())
    assert table["score"][0] == pytest.approx(expected.sum().item())
    assert set(table["passes"]) == {N}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("listed", "listed returned a list; expected a dict, layer -> score"),
        ("elsewhere", "scores a layer 'conv9'; expected one of: 0"),
        ("too_long", "layer 0: a tensor [7] for a score; expected a number, or a tensor [2]"),
        ("word", "layer 0: a str for a score; expected a number"),
        ("nan", "layer 0: a score is not a number"),
        ("fails", "ValueError: no idea; from"),
    ],
)
def test_a_criterion_that_is_none_is_told_in_one_line(line, own, name, said):
    data = data_of(line, torch.rand(N, 2), torch.zeros(N, dtype=torch.int64))
    assert said in error_of(judged, line, data, methods=[f"{own}:{name}"])
