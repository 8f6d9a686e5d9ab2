"""The engine against a naive second implementation: a deep copy per variant, a plain forward."""

import copy
import re
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweeps import (
    DEVICES,
    KINDS,
    REAL,
    WAYS,
    assert_as_naive,
    lively,
    naive,
    naive_logits,
    some_variants,
)
from torch import nn
from trainings import quiet

from faultline.ablation.engines import Graph
from faultline.ablation.sweep import active_images, sweep
from faultline.ablation.tracing import Traced, Untraceable
from faultline.ablation.variants import Mask, Variant, nodal_variants, synaptic_variants
from faultline.attacks.craft import craft
from faultline.base.errors import UserError
from faultline.networks.architectures import Network, Normalise, wide_resnet
from faultline.networks.layers import layers
from faultline.networks.registry import build

# network, size of the images, images; layer -> the module whose output is its activation
NETWORKS = [
    ("small_conv", 8, 64, {"conv1": "relu1", "conv2": "relu2", "fc": "fc"}),
    (
        "small_resnet",
        8,
        64,
        {
            "conv1": "relu",
            "layer1.conv2": "layer1.bn2",
            "layer2.downsample.0": "layer2.downsample.1",
            "fc": "fc",
        },
    ),
    ("lsa_mnist", 8, 64, {"conv1": "relu1", "conv3": "relu3", "fc1": "relu4", "fc2": "fc2"}),
    ("lsa_moons", 2, 64, {"fc1": "elu1", "fc2": "elu2", "fc4": "fc4"}),
    (
        "resnet18",
        24,
        8,
        {
            "conv1": "relu",
            "layer2.0.downsample.0": "layer2.0.downsample.1",
            "layer3.0.conv2": "layer3.0.bn2",
            "fc": "fc",
        },
    ),
    (
        "squeezenet1_1",
        33,
        12,
        {
            "features.0": "features.1",
            "features.6.expand3x3": "features.6.expand3x3_activation",
            "classifier.1": "classifier.2",
        },
    ),
    (
        "shufflenet_v2_x1_0",
        32,
        8,
        {
            "conv1.0": "conv1.2",
            "stage2.0.branch1.0": "stage2.0.branch1.1",  # depthwise, before a 1x1 convolution
            "stage3.1.branch2.0": "stage3.1.branch2.2",
            "fc": "fc",
        },
    ),
    (
        "resnet50",
        32,
        4,
        {"conv1": "relu", "layer2.0.conv2": "layer2.0.bn2", "layer4.2.conv3": "layer4.2.bn3"},
    ),
    (
        "alexnet",
        63,
        8,
        {"features.0": "features.1", "features.10": "features.11", "classifier.6": "classifier.6"},
    ),
    (
        "vgg19",
        32,
        3,
        {"features.0": "features.1", "features.34": "features.35", "classifier.6": "classifier.6"},
    ),
]
LARGE = ("resnet50", "alexnet", "vgg19")
SLOW = (*LARGE, "resnet18", "shufflenet_v2_x1_0")


def example(name, size, n):
    torch.manual_seed(0)
    shape, classes = ((2,), 2) if name == "lsa_moons" else ((3, size, size), 10)
    network = build(name, shape=shape, classes=classes, mean=0.5, std=0.25, seed=1)
    images = torch.rand(n, *shape)
    lively(network, torch.rand(32, *shape))
    return network, images, torch.randint(0, classes, (n,))


@pytest.mark.parametrize(
    ("name", "size", "n", "places"),
    [pytest.param(*n, marks=[pytest.mark.slow] * (n[0] in SLOW), id=n[0]) for n in NETWORKS],
)
def test_every_network_as_the_naive_implementation(name, size, n, places):
    network, images, _ = example(name, size, n)
    if name == "resnet50":  # so deep that float32 itself is off by more than the tolerance
        network, images = network.double(), images.double()
    labels = network(images).argmax(1)  # the base is right, so that every change shows
    before = copy.deepcopy(network.state_dict())
    small = name in ("small_conv", "small_resnet", "lsa_mnist", "lsa_moons")
    hits = 0
    for layer, activation in places.items():
        one = name in LARGE or layers(network)[layer].weight.shape[0] == 1
        filters = [0] if one else [0, 1]
        count = 4 if small else 2
        variants = some_variants(network, layer, count=count, filters=filters)
        at = f"body.{activation}"
        # batches and memory are the engine's, which the small networks hold in every way
        given = {"ablated": [layer], "place": at, "ways": WAYS if small else WAYS[1:2]}
        given["devices"] = DEVICES if small else REAL
        facts = assert_as_naive(network, variants, images, labels, **given)
        assert facts.base["clean"].mean() > 0.8
        hits += facts.correct["clean"].sum() / facts.correct["clean"].size
    assert 0 < hits / len(places) < 1
    if name in LARGE:
        return
    everything = synaptic_variants(
        layers(network), kinds=KINDS, count=4 if small else 2, together=True
    )
    given = {"ablated": list(layers(network)), "ways": WAYS if small else WAYS[1:2]}
    given["devices"] = DEVICES if small else REAL
    facts = assert_as_naive(network, everything, images, labels, **given)
    assert facts.variants["filter"].tolist() == [v.columns["filter"] for v in everything]
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize(
    ("layer", "activation"),
    [
        ("conv1", "layer1.0.relu1"),
        ("layer1.0.conv1", "layer1.0.relu2"),
        ("layer1.0.conv2", "layer1.0.conv2"),  # added to the skip first
        ("layer2.0.downsample", "layer2.0.downsample"),
        ("fc", "fc"),
    ],
)
def test_a_small_wide_resnet_as_the_naive_implementation(layer, activation):
    torch.manual_seed(0)
    body = wide_resnet((3, 8, 8), 10, depth=10, width=2, dropout=0.3)
    network = Network(Normalise(0.5, 0.25, shape=(3, 8, 8)), body).eval()
    images = torch.rand(6, 3, 8, 8)
    lively(network, torch.rand(32, 3, 8, 8))
    labels = network(images).argmax(1)
    variants = some_variants(network, layer, count=3)
    place = f"body.{activation}"
    assert_as_naive(network, variants, images, labels, ablated=[layer], place=place)


@pytest.mark.parametrize("layer", ["conv1", "layer2.conv2", "fc"])
def test_batching_changes_nothing(layer):
    network, images, labels = example("small_resnet", 8, 24)
    variants = some_variants(network, layer, count=5)
    image_sets = {"clean": images, "noise": (images + 0.1 * torch.randn(images.shape))}
    one, *others = (
        sweep(network, variants, image_sets, labels, ablated=[layer], batch_size=size, say=quiet)
        for size in (24, 7, 1)
    )
    for other in others:
        for name in image_sets:
            assert np.array_equal(one.base[name], other.base[name])
            assert np.array_equal(one.correct[name], other.correct[name])
            assert np.array_equal(one.changed[name], other.changed[name])


def test_the_network_is_left_as_it_was():
    network, images, labels = example("small_conv", 8, 20)
    network.body.conv2.weight.requires_grad_(False)
    network.train()
    network.body.bn2.eval()
    state = copy.deepcopy(network.state_dict())
    modes = [m.training for m in network.modules()]
    attack = partial(craft, attack={"method": "fgsm"}, eps=0.05, bounds=(0.0, 1.0), seed=0)
    sweep(
        network,
        some_variants(network, "conv2"),
        {"clean": images},
        labels,
        ablated=["conv2"],
        attacks={"fgsm": attack},
        say=quiet,
    )
    active_images(network, "conv2", images, at="activation")
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key
    wanted = {n: p.requires_grad for n, p in network.named_parameters()}
    assert [n for n, r in wanted.items() if not r] == ["body.conv2.weight"]
    assert all(p.grad is None for p in network.parameters())
    assert [m.training for m in network.modules()] == modes


def test_a_sweep_changes_no_random_state():
    network, images, labels = example("lsa_moons", 2, 20)
    state = torch.get_rng_state()
    sweep(
        network,
        some_variants(network, "fc1"),
        {"clean": images},
        labels,
        ablated=["fc1"],
        say=quiet,
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_changed_counts_images_by_hand():
    # two inputs, two logits; removing filter 0 changes the images whose first input is not 0
    network = nn.Linear(2, 2, bias=False).eval()
    network.weight.data = torch.eye(2)
    network = nn.Sequential(network)
    images = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0], [0.0, 0.5]])
    labels = torch.tensor([1, 1, 0, 0])
    variants = list(nodal_variants("0", network[0], filters=[0, 1], at="weights"))
    facts = sweep(network, variants, {"clean": images}, labels, ablated=["0"], say=quiet)
    assert facts.base["clean"].tolist() == [True, True, True, False]
    assert facts.correct["clean"].tolist() == [
        [True, True, False, False],
        [False, False, True, True],
    ]
    assert facts.changed["clean"].tolist() == [2, 4]
    assert facts.variants["filter"].tolist() == [0, 1]


def test_weights_put_back_change_no_bit():
    # whatever the memory layout of the replaced tensor
    for name, layer in (("small_conv", "conv2"), ("shufflenet_v2_x1_0", "stage2.1.branch2.3")):
        network, images, labels = example(name, 32, 8)
        weight = layers(network)[layer].weight.detach()
        layouts = [weight.clone(), weight.contiguous(memory_format=torch.channels_last)]
        variants = [
            Variant({"n": i}, key=i, replace=lambda w=w, name=layer: {f"{name}.weight": w})
            for i, w in enumerate(layouts)
        ]
        facts = sweep(network, variants, {"clean": images}, labels, ablated=[layer], say=quiet)
        assert facts.changed["clean"].tolist() == [0, 0]


def test_variants_of_different_layers_and_places_in_one_sweep():
    network, images, _ = example("small_conv", 8, 40)
    labels = network(images).argmax(1)
    known = layers(network)
    variants = [
        Variant({"n": 0}, v.key, mask=v.mask)
        for layer in ("conv1", "conv2", "conv3")
        for at in ("weights", "activation")
        for v in nodal_variants(layer, known[layer], filters=[0, 1], at=at)
    ] + [
        Variant({"n": 0}, v.key, v.replace)
        for layer in known
        for v in synaptic_variants({layer: known[layer]}, kinds=KINDS, count=5)
    ]
    facts = sweep(network, variants, {"clean": images}, labels, ablated=list(known), say=quiet)
    for index, variant in enumerate(variants):
        place = None
        if variant.mask:
            place = f"body.relu{variant.mask.layer[-1]}"
        logits = naive_logits(network, variant, images, place=place)
        best, second = logits.topk(2, dim=1).values.unbind(1)
        tie = (best - second < 1e-4 * logits.abs().max()).numpy()
        expected = (logits.argmax(1) == labels).numpy()
        assert np.array_equal(facts.correct["clean"][index][~tie], expected[~tie])


class Branches(nn.Module):
    """What networks do: in-place ReLU, a skip, a module used twice, dropout, cat, view."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.left = nn.Conv2d(6, 4, 1, bias=False)
        self.left_norm = nn.BatchNorm2d(4)
        self.right = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(10 * 4, 16)
        self.out = nn.Linear(16, 5)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        out = self.shared(x)
        out = F.relu(out, inplace=True)
        out = self.shared(out)
        out += x
        out = torch.relu_(out)
        sides = [F.relu(self.left_norm(self.left(out))), self.right(out).tanh_()]
        out = F.max_pool2d(torch.cat(sides, 1), 2)
        out = out.view(out.size(0), -1)
        out = self.drop(F.elu_(self.head(out)))
        return self.out(F.dropout(out, 0.5, self.training))


@pytest.fixture
def branches():
    torch.manual_seed(5)
    network = lively(Branches(), torch.randn(40, 1, 4, 4)).eval()
    images = torch.randn(60, 1, 4, 4)
    return network, images, network(images.clone()).argmax(1)


@pytest.mark.parametrize("layer", ["stem", "shared", "left", "right", "head", "out"])
def test_awkward_networks(branches, layer):
    network, images, labels = branches
    kept = images.clone()
    variants = some_variants(network, layer, count=9, places=False)
    facts = assert_as_naive(network, variants, images, labels, ablated=[layer])
    assert not facts.correct["clean"].all()
    assert torch.equal(images, kept)
    everything = synaptic_variants(layers(network), kinds=KINDS, count=9, together=True)
    assert_as_naive(network, everything, images, labels, ablated=list(layers(network)))


def names_of_places(network, images, layer):
    traced = Traced(network, [layer], images)
    return [node.name for node in traced.places(layer, "activation")]


def test_where_silence_acts(branches):
    network, images, _ = branches
    named = partial(names_of_places, network, images)
    assert named("stem") == ["relu"]
    assert named("shared") == ["relu_1", "shared_1"]  # the second one before the skip
    assert named("left") == ["relu_2"]
    assert named("right") == ["tanh_"]
    assert named("out") == ["out"]
    resnet = build("small_resnet", shape=(1, 8, 8), classes=3, mean=0, std=1, seed=0)
    named = partial(names_of_places, resnet, torch.rand(2, 1, 8, 8))
    assert named("conv1") == ["body_relu"]
    assert named("layer1.conv1") == ["body_layer1_relu1"]
    assert named("layer1.conv2") == ["body_layer1_conv2"]
    assert named("layer2.downsample.0") == ["body_layer2_downsample_0"]


class Aliased(nn.Module):
    """Reads h again after an in-place operation on it, so the order of events decides."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.a(x)
        if self.how == "module":
            out = self.b(self.relu(h)) + h
        elif self.how == "function":
            out = self.b(F.relu(h, inplace=True)) + h
        elif self.how == "statement":
            out = self.b(h)
            out.add_(h)
        else:
            out = self.b(h)
            kept = out
            out += h
            out = out * kept
        return out.mean((2, 3))


@pytest.mark.parametrize("how", ["module", "function", "statement", "assignment"])
def test_a_network_whose_trace_gives_other_logits_is_run_as_a_whole(how):
    torch.manual_seed(0)
    network, images = Aliased(how).eval(), torch.randn(40, 1, 5, 5)
    assert_as_loop(network, "b", images, "in place")


class Branching(nn.Sequential):
    """Cannot be traced: what it does depends on the values."""

    def forward(self, x):
        return super().forward(x) if x.sum() > -1e9 else x


def test_a_network_that_cannot_be_traced_is_run_as_a_whole():
    torch.manual_seed(0)
    network = Branching(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    assert_as_loop(network, "0", torch.randn(40, 3), r"cannot be traced by torch.fx \(symbol")


def assert_as_loop(network, layer, images, reason):
    with pytest.raises(Untraceable, match=reason):
        Traced(network, [layer], images[:9])
    said = []
    variants = some_variants(network, layer, places=False)
    labels = naive_logits(network, variants[0], images).argmax(1)
    attack = partial(craft, attack={"method": "fgsm"}, eps=0.05, bounds=None, seed=0)
    state = copy.deepcopy(network.state_dict())
    facts = sweep(
        network,
        variants,
        {"clean": images.clone()},
        labels,
        ablated=[layer],
        attacks={"fgsm": attack},
        batch_size=7,
        say=said.append,
    )
    for index, variant in enumerate(variants):
        changed = naive(network, variant)
        with torch.no_grad():
            expected = (changed(images.clone()).argmax(1) == labels).numpy()
        assert np.array_equal(facts.correct["clean"][index], expected)
        with torch.no_grad():
            attacked = changed(attack(changed, images.clone(), labels)).argmax(1)
        assert np.array_equal(facts.correct["fgsm"][index], (attacked == labels).numpy())
    assert facts.correct["clean"][0].all() and not facts.correct["clean"].all()
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert re.search(reason, said[0]) and "images/s" in said[0]
    outputs = []
    hook = network.get_submodule(layer).register_forward_hook(lambda m, i, o: outputs.append(o))
    naive_logits(network, Variant({}, None), images.clone())
    hook.remove()
    kept = outputs[0].ne(0).flatten(2).any(2) if images.dim() == 4 else outputs[0].ne(0)
    found = active_images(network, layer, images.clone(), at="weights", batch_size=7)
    assert found.tolist() == kept.sum(0).tolist()
    with pytest.raises(UserError, match='"weights"') as caught:
        active_images(network, layer, images, at="activation")
    with pytest.raises(UserError, match='"weights"'):
        mask = Variant({}, 1, mask=Mask(layer, (0,), "activation"))
        sweep(network, [mask], {"clean": images}, labels, ablated=[layer], say=quiet)
    assert "\n" not in str(caught.value)


class WithBody(nn.Module):
    """Calls a part of its own `body`, as our wrapper does."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        return self.head(self.body(self.stem(images)).mean((2, 3)))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_body_of_the_users_is_a_part_like_others(wrapped):
    images, labels = torch.randn(40, 1, 8, 8), torch.randint(3, (40,))
    network = lively(WithBody(), images)
    network = Network(nn.Identity(), network) if wrapped else network
    assert [*layers(network)] == ["stem", "body.1", "head"]
    for layer in layers(network):
        variants = some_variants(network, layer, places=layer == "stem")
        place = ("body." * wrapped + "stem") if layer == "stem" else None
        assert_as_naive(network, variants, images, labels, ablated=[layer], place=place)


def test_unknown_and_unused_layers_are_refused():
    network = build("small_conv", shape=(1, 8, 8), classes=3, mean=0, std=1, seed=0)
    for layer in ("conv9", "relu1", "body.conv1", ""):
        with pytest.raises(UserError, match="conv1, conv2, conv3, fc") as caught:
            Traced(network, [layer], torch.rand(2, 1, 8, 8))
        assert "\n" not in str(caught.value)

    class Unused(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    with pytest.raises(UserError, match="'1' is not used"):
        Traced(Unused(nn.Linear(2, 2), nn.Linear(2, 2)), ["1"], torch.rand(2, 2))


def test_a_network_whose_images_do_not_stay_apart_is_run_as_a_whole():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 3, 3)]
    network = nn.Sequential(*body, nn.Flatten()).eval()
    images = torch.randn(30, 1, 5, 5)
    with pytest.raises(Untraceable, match="others in the batch"):
        Traced(network, ["2"], images)
    variants, said = some_variants(network, "2", places=False), []
    expected = torch.stack([naive_logits(network, v, images).argmax(1) for v in variants])
    facts = sweep(network, variants, {"clean": images}, expected[0], ablated=["2"], say=said.append)
    assert np.array_equal(facts.correct["clean"], (expected == expected[0]).numpy())
    assert "others in the batch" in said[0]


def test_a_linear_layer_behind_a_pooling_that_repeats_pixels():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d((6, 4)), nn.Flatten(), nn.Dropout()]
    network = nn.Sequential(*body, nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    images = torch.randn(30, 1, 5, 4)
    assert Traced(network, ["4"], images).modules["4"].weight.shape == (8, 24)
    labels = network(images).argmax(1)
    for layer, place in (("0", "3"), ("4", "5"), ("6", "6")):
        variants = some_variants(network, layer, places=layer != "0")
        assert_as_naive(network, variants, images, labels, ablated=[layer], place=place)


def test_kernel_taps_that_only_meet_padding_are_cut():
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 4, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)]
    network = nn.Sequential(*body, nn.Flatten()).eval()
    images = torch.randn(30, 2, 2, 1)
    traced = Traced(network, ["0"], images)
    assert [traced.modules[name].kernel_size for name in "02"] == [(2, 1), (1, 1)]
    labels = network(images).argmax(1)
    for layer, place in (("0", "1"), ("2", "2")):
        variants = some_variants(network, layer)
        assert_as_naive(network, variants, images, labels, ablated=[layer], place=place)


def test_silence_of_a_linear_layer_over_positions():
    # filters of a linear layer lie along the last dimension, whatever comes before
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)).eval()
    images = torch.randn(40, 5, 3)
    (variant,) = nodal_variants("0", network[0], filters=[3], at="activation")
    copied = copy.deepcopy(network)
    copied[0].weight.data[3] = 0
    copied[0].bias.data[3] = 0
    labels = copied(images).argmax(1)
    facts = sweep(network, [variant], {"clean": images}, labels, ablated=["0"], say=quiet)
    assert facts.correct["clean"].all()
    seen = (network[:2](images) != 0).any(1).sum(0)
    assert active_images(network, "0", images, at="activation").tolist() == seen.tolist()


FGSM = {"method": "fgsm"}
PGD = {"method": "pgd", "norm": "linf", "steps": 3}


@pytest.mark.parametrize("attack", [FGSM, PGD], ids=["fgsm", "pgd"])
@pytest.mark.parametrize("layer", ["conv1", "layer2.conv2", "fc"])
def test_attacks_recrafted_on_every_variant(layer, attack):
    network, images, _ = example("small_resnet", 8, 40)
    labels = network(images).argmax(1)
    place = {"conv1": "relu", "layer2.conv2": "layer2.bn2", "fc": "fc"}[layer]
    settings = {"attack": attack, "eps": 0.004, "bounds": (0.0, 1.0), "seed": 3}
    variants = some_variants(network, layer, count=3)
    facts = sweep(
        network,
        variants,
        {"clean": images},
        labels,
        ablated=[layer],
        attacks={"recrafted": partial(craft, **settings)},
        batch_size=16,
        say=quiet,
    )
    assert set(facts.correct) == {"clean", "recrafted"}
    agree = []
    for hits, variant in zip(
        [facts.base["recrafted"], *facts.correct["recrafted"]],
        [Variant({}, None), *variants],
        strict=True,
    ):
        copied = naive(network, variant, place=f"body.{place}")
        adversarial = craft(copied, images, labels, **settings)
        with torch.no_grad():
            expected = (copied(adversarial).argmax(1) == labels).numpy()
        agree.append(hits == expected)
    # a sign of a gradient near 0 may differ in float: of thousands, a handful at most
    assert np.mean(agree) > 0.995
    assert 0.05 < facts.base["recrafted"].mean() < 0.95
    # the attack sees the ablation: it is not the base's attack
    stored = craft(network, images, labels, **settings)
    fixed = sweep(
        network, variants, {"clean": images, "fixed": stored}, labels, ablated=[layer], say=quiet
    )
    assert np.array_equal(fixed.base["fixed"], facts.base["recrafted"])
    assert np.array_equal(fixed.correct["clean"], facts.correct["clean"])
    assert (fixed.correct["fixed"] != facts.correct["recrafted"]).any()


def test_recrafting_never_runs_more_images_at_once_than_a_batch(monkeypatch):
    network, images, labels = example("small_conv", 8, 50)
    seen = []

    class Spied(Traced):
        def start(self, images, *also):
            seen.append(len(images))
            return super().start(images, *also)

    monkeypatch.setattr("faultline.ablation.engines.Traced", Spied)
    sweep(
        network,
        some_variants(network, "conv2"),
        {"clean": images},
        labels,
        ablated=["conv2"],
        attacks={"none": lambda forward, images, labels, batch_size: images},
        batch_size=20,
        say=quiet,
    )
    assert max(seen) <= 32


def gradients_at(*pieces):
    """An attack that takes gradients at some pieces of the clean images and changes nothing."""

    def attack(forward, images, labels, *, batch_size):
        for piece in pieces or [slice(i, i + batch_size) for i in range(0, 11, batch_size)]:
            leaf = images[piece].clone().requires_grad_()
            forward(leaf)
        return images

    return attack


@pytest.mark.parametrize(
    ("pieces", "again"),
    [
        ([], False),
        ([slice(0, 11)], False),
        ([slice(4), slice(4, 8), slice(8, 11)], False),
        ([slice(0, 5)], True),
        ([slice(7, 11), slice(7)], False),
        ([slice(3, 11), slice(8, 11)], True),  # as many as there are, but not all
    ],
)
def test_clean_images_are_run_once_where_the_attack_runs_them(monkeypatch, pieces, again):
    network, images, labels = example("small_conv", 8, 11)
    variants = some_variants(network, "conv2")
    variants += [Variant({"number": 99}, v.key, v.replace, v.mask) for v in variants[3:5]]
    given = {"ablated": ["conv2"], "batch_size": 4, "say": quiet}
    expected = sweep(network, variants, {"clean": images}, labels, **given)
    fixed, calls = Graph.fixed, []
    monkeypatch.setattr(Graph, "fixed", lambda *given: calls.append(given) or fixed(*given))
    attacks = {"one": gradients_at(*pieces)}
    facts = sweep(network, variants, {"clean": images}, labels, attacks=attacks, **given)
    assert bool(calls) == again
    for name in ("clean", "one"):
        assert np.array_equal(facts.base[name], expected.base["clean"])
        assert np.array_equal(facts.correct[name], expected.correct["clean"])
        assert np.array_equal(facts.changed[name], expected.changed["clean"])


def test_equal_networks_are_evaluated_once():
    network, images, labels = example("small_conv", 8, 20)
    made = []
    weight = network.body.conv2.weight.detach()

    def replace(factor):
        made.append(factor)
        return {"conv2.weight": weight * factor}

    factors = [0.5, 2.0, 0.5, 0.5, 1.0]
    variants = [
        Variant({"factor": f}, key=f if f != 1 else None, replace=partial(replace, f))
        for f in factors
    ]
    attack = partial(craft, attack=FGSM, eps=0.05, bounds=(0.0, 1.0), seed=0)
    sets = {"clean": images, "noise": images.flip(0)}
    facts = sweep(
        network, variants, sets, labels, ablated=["conv2"], attacks={"fgsm": attack}, say=quiet
    )
    assert made.count(1.0) == 0
    for name in ("clean", "noise", "fgsm"):
        assert np.array_equal(facts.correct[name][0], facts.correct[name][2])
        assert np.array_equal(facts.correct[name][4], facts.base[name])
        assert facts.changed[name][[0, 2, 3]].tolist() == [facts.changed[name][0]] * 3
        assert facts.changed[name][0] and not facts.changed[name][4]


def test_the_best_few_classes_by_hand():
    scores = torch.tensor([[5.0, 4, 3, 2], [2, 3, 4, 5], [1, 9, 8, 0], [0, 0, 7, 1]])
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False)).eval()
    network[1].weight.data.copy_(torch.eye(4))
    gone = Variant({"filter": 0}, key="0", mask=Mask("1", (0,), "weights"))
    labels = torch.tensor([0, 1, 2, 1])
    facts = sweep(network, [gone], {"clean": scores}, labels, ablated=["1"], tops=(1, 2, 3))
    assert list(facts.base) == ["clean", "clean@2", "clean@3"]
    assert facts.base["clean"].tolist() == [True, False, False, False]
    assert facts.base["clean@2"].tolist() == [True, False, True, False]
    assert facts.base["clean@3"][:3].tolist() == [True, True, True]
    assert facts.correct["clean"].tolist() == [[False, False, False, False]]
    assert facts.correct["clean@2"].tolist() == [[False, False, True, False]]
    assert facts.correct["clean@3"][0, :3].tolist() == [False, True, True]
    assert facts.changed["clean"].tolist() == facts.changed["clean@3"].tolist() == [3]


def test_the_best_few_classes_as_the_naive_implementation(branches):
    network, images, labels = branches
    variants = some_variants(network, "stem", count=9, places=False)
    facts = sweep(network, variants, {"clean": images}, labels, ablated=["stem"], tops=(1, 2))
    assert not np.array_equal(facts.correct["clean"], facts.correct["clean@2"])
    for variant, hits in zip(variants, facts.correct["clean@2"], strict=True):
        best = naive_logits(network, variant, images).argsort(1, descending=True)[:, :2]
        assert np.array_equal(hits, (best == labels[:, None]).any(1).numpy())


def test_active_images_by_hand():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(2, 2)
    ).eval()
    network[0].weight.data = torch.tensor([1.0, -1.0, 0.0, 0.0]).reshape(4, 1, 1, 1)
    network[0].bias.data = torch.tensor([0.0, 0.0, 0.0, -1.0])
    images = torch.tensor([1.0, 2.0, 0.0, -3.0, 4.0]).reshape(5, 1, 1, 1)
    for batch_size in (1, 2, 5, 500):
        given = {"batch_size": batch_size}
        assert active_images(network, "0", images, at="weights", **given).tolist() == [4, 4, 0, 5]
        found = active_images(network, "0", images, at="activation", **given)
        assert found.tolist() == [3, 1, 0, 0]


def test_active_images_behind_a_batchnorm_that_revives_a_filter():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    network[0].weight.data.zero_()
    network[1].bias.data = torch.tensor([1.0, -1.0])
    images = torch.rand(3, 1, 2, 2)
    assert active_images(network, "0", images, at="weights").tolist() == [0, 0]
    assert active_images(network, "0", images, at="activation").tolist() == [3, 0]


def test_active_images_of_a_module_used_twice(branches):
    network, images, _ = branches
    outputs = []
    hook = network.shared.register_forward_hook(lambda m, i, o: outputs.append(o.clone()))
    with torch.no_grad():
        network(images.clone())
    hook.remove()
    expected = torch.stack([o.flatten(2).ne(0).any(2) for o in outputs]).any(0).sum(0)
    assert active_images(network, "shared", images, at="weights").tolist() == expected.tolist()
