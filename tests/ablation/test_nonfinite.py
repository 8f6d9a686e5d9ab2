"""Variants whose outputs overflow or are no numbers: as the plain loop, told, and never a crash."""

import copy
from functools import partial

import pytest
import torch
from sweeps import naive
from torch import nn
from trainings import quiet

from faultline.ablation.facts import Facts
from faultline.ablation.sweep import logits_of, sweep
from faultline.ablation.tracing import Traced
from faultline.ablation.tracing import Untraceable as NoGraph
from faultline.ablation.variants import Mask, Variant, nodal_variants, synaptic_variants
from faultline.attacks.craft import craft
from faultline.base.errors import UserError
from faultline.networks.layers import layers, of_units
from faultline.networks.registry import build
from faultline.studies.synaptic.scores import filter_scores

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
                hits, count = judged(naive(network, changed)(images), labels)
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
    plain = [naive(network, changed) for changed in variants]
    made = [craft(copied, images, labels, **settings) for copied in plain]
    assert all(m.isfinite().all() and m.min() >= 0 and m.max() <= 1 for m in made)
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
        with torch.no_grad():
            hits, count = judged(plain[row](made[row]), labels)
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


class Masked(nn.Module):
    """Its last class is switched off at -inf; its filter 3 is read by nobody."""

    def __init__(self, middle=nn.Identity):
        super().__init__()
        self.conv, self.middle = nn.Conv2d(1, 4, 3, padding=1), middle()
        self.head = nn.Linear(4 * 16, 4)
        with torch.no_grad():
            self.conv.bias.fill_(1.0)
            self.head.weight.view(4, 4, -1)[:, 3] = 0

    def forward(self, images):
        logits = self.head(self.middle(torch.relu(self.conv(images))).flatten(1))
        return torch.cat([logits, torch.full_like(logits[:, :1], -INF)], 1)


class InPlace(nn.Module):
    """What torch.fx makes of it gives other values: a view is read after its base has changed."""

    def forward(self, values):
        seen = values[:, :]
        values.mul_(-3)
        return seen


class OfOthers(nn.Module):
    """What it gives for an image depends on the others in the batch."""

    def forward(self, values):
        return values - values.mean(0, keepdim=True)


def test_a_class_that_is_switched_off_leaves_the_tolerances_as_they_are():
    torch.manual_seed(0)
    network, images, told = Masked().eval(), torch.rand(40, 1, 4, 4), []
    labels = network(images).argmax(1)
    variants = list(nodal_variants("conv", network.conv, filters=range(4), at="weights"))
    given = {"ablated": ["conv"], "say": told.append}
    facts = sweep(network, variants, {"clean": images}, labels, **given)
    assert facts.changed["clean"].tolist() == [40, 40, 40, 0] and told == []
    assert filter_scores(facts, confidence=0.95)["untouched"].tolist() == [False] * 3 + [True]


def test_a_class_that_is_switched_off_leaves_the_guards_of_the_graph_on():
    torch.manual_seed(0)
    images = torch.rand(8, 1, 4, 4)
    for middle, words in ((InPlace, "gives other logits"), (OfOthers, "depends on the others")):
        with pytest.raises(NoGraph, match=words):
            Traced(Masked(middle).eval(), ["conv"], images)
    network = Masked(InPlace).eval()
    variants = list(nodal_variants("conv", network.conv, filters=range(4), at="weights"))
    found = logits_of(network, variants, images, ablated=["conv"])
    for variant, logits in zip([None, *variants], found, strict=True):
        with torch.no_grad():
            expected = removed(network, variant.mask if variant else None)(images)
        torch.testing.assert_close(logits, expected)


def removed(network, mask):
    """A deep copy without the filters of a mask."""
    copied = copy.deepcopy(network)
    if mask:
        layer = layers(copied)[mask.layer]
        for name, belongs in of_units(layer, mask.filters).items():
            layer.get_parameter(name).data[belongs] = 0
    return copied


def broken_at(value, *, name="small_conv", layer="conv1", unit=2):
    """A network of which one filter has such weights, and images that it tells apart without."""
    network = build(name, shape=(3, 8, 8), classes=10, mean=0.5, std=0.25, seed=1).eval()
    images = torch.rand(24, 3, 8, 8)
    network.body.get_submodule(layer).weight.data[unit] = value
    with torch.no_grad():
        return network, images, removed(network, Mask(layer, (unit,), "weights"))(images).argmax(1)


@pytest.mark.parametrize("value", [NAN, INF, 1e30, 1e7, -1e5])
@pytest.mark.parametrize(("name", "layer"), [("small_conv", "conv1"), ("small_resnet", "conv1")])
def test_a_filter_with_broken_weights_is_removed_as_in_the_plain_loop(name, layer, value):
    torch.manual_seed(0)
    network, images, labels = broken_at(value, name=name, layer=layer)
    module = layers(network)[layer]
    masks = [(2,), (0,), (0, 2), (1, 3), tuple(range(module.out_channels))]
    for at in ("weights", "activation"):
        variants = [Variant({"n": i}, i, mask=Mask(layer, m, at)) for i, m in enumerate(masks)]
        told = []
        given = {"ablated": [layer], "say": told.append}
        facts = sweep(network, variants, {"clean": images}, labels, **given)
        assert facts.correct["clean"][0].all() or at == "activation"
        assert facts.nonfinite["clean"][[0, 2, 4]].tolist() == [0, 0, 0]
        if value != value:
            assert "24 outputs of 24 of the network itself are not finite" in told[0]
        found = logits_of(network, variants, images, ablated=[layer])
        for variant, logits in zip([None, *variants], found, strict=True):
            if at == "weights":
                with torch.no_grad():
                    expected = removed(network, variant.mask if variant else None)(images)
                close = 1e-4 * expected.nan_to_num(0, 0, 0).abs().max().item()
                torch.testing.assert_close(logits, expected, rtol=0, atol=close, equal_nan=True)


@pytest.mark.parametrize("value", [NAN, INF])
def test_an_attack_sees_the_gradient_of_a_network_without_its_broken_filter(value):
    torch.manual_seed(0)
    network, images, labels = broken_at(value)
    attack = {"method": "pgd", "steps": 5}
    settings = {"attack": attack, "eps": 0.02, "bounds": (0.0, 1.0), "seed": 0}
    mask = Mask("conv1", (2,), "weights")
    whole = removed(network, mask)
    with torch.no_grad():
        expected = whole(craft(whole, images, labels, **settings)).argmax(1) == labels
    assert 0 < expected.sum() < 24
    for at in ("weights", "activation"):  # the same, as no BatchNorm follows
        variants = [Variant({"n": 0}, 0, mask=mask._replace(at=at))]
        given = {"ablated": ["conv1"], "say": quiet, "attacks": {"pgd": partial(craft, **settings)}}
        facts = sweep(network, variants, {"clean": images}, labels, **given)
        assert facts.correct["pgd"][0].tolist() == expected.tolist()


def test_the_graph_of_a_network_that_gives_nan_is_compared_too():
    torch.manual_seed(0)
    network, images = Masked(InPlace).eval(), torch.rand(8, 1, 4, 4)
    network.conv.weight.data[1] = NAN
    with pytest.raises(NoGraph, match="gives other logits"):
        Traced(network, ["conv"], images)
    network = Masked().eval()
    network.conv.weight.data[1] = NAN
    Traced(network, ["conv"], images)
    overflows = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    overflows[1].weight.data[:] = 3e38
    with pytest.raises(NoGraph, match="its logits are not finite"):
        Traced(overflows, ["1"], images)


def test_thresholds_lie_between_finite_weights():
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[NAN, -1.0, 2.0, INF]])
    variants = synaptic_variants({"x": layer}, kinds=["high_pass", "low_pass"], count=4)
    assert [v.columns["threshold"] for v in variants] == [-1, 0, 1, 2, -1, 0, 1, 2]
    gone = [(v.replace()["x.weight"] == 0).tolist()[0] for v in variants]
    assert gone[:4] == [[False, True, False, False]] * 3 + [[False, True, True, False]]
    assert gone[4:] == [[False, True, True, True]] + [[False, False, True, True]] * 3
    layer.weight.data[:] = NAN
    assert {v.key for v in synaptic_variants({"x": layer}, kinds=["pulse"], count=3)} == {None}


def test_inference_mode_changes_no_fact():
    torch.manual_seed(0)
    network, images, labels = broken_at(0.0)
    settings = {"attack": {"method": "pgd", "steps": 3}, "bounds": (0.0, 1.0), "seed": 0}
    variants = list(nodal_variants("conv1", network.body.conv1, filters=range(3), at="weights"))
    given = {"ablated": ["conv1"], "say": quiet}
    given["attacks"] = {"pgd": partial(craft, eps=0.1, **settings)}
    facts = sweep(network, variants, {"clean": images}, labels, **given)
    with torch.inference_mode():
        inside = sweep(network, variants, {"clean": images.clone()}, labels.clone(), **given)
    assert inside.correct["pgd"].tolist() == facts.correct["pgd"].tolist()
    assert not facts.correct["pgd"].all()
