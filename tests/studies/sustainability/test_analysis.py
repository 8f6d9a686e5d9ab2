import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trainings import dataset_of
from trainings import network_of as trained_network

from faultline.attacks.ascent import Ball, fgsm
from faultline.base.errors import UserError
from faultline.base.seeds import seed_of
from faultline.networks.evaluation import evaluation
from faultline.networks.probes import by_image, probe_errors, probes, relative_errors, watch
from faultline.networks.registry import REGISTRY, build
from faultline.studies.sustainability.analysis import (
    analyse,
    analyse_checkpoint,
    noise,
    perturbers,
)
from faultline.studies.sustainability.lists import most_vulnerable


class Functional(nn.Module):
    """Two layers with one activation between them, written in one of several ways."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.activation = activation

    def forward(self, x):
        return self.second(self.activation(self.first(x)))


def network_of(name, *, seed=0, size=8):
    shape = (1, size, size) if REGISTRY[name].input == "image" else (2,)
    classes = REGISTRY[name].classes or 3
    return build(name, shape=shape, classes=classes, mean=0.5, std=0.25, seed=seed)


def images_of(shape=(1, 8, 8), n=7, seed=1):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def hooks(network):
    return [
        hook
        for module in network.modules()
        for kind in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        for hook in kind
    ]


# Watching


def test_outputs_of_a_hand_worked_network():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    network[0].weight.data = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    network[2].weight.data = torch.tensor([[1.0, 1.0]])
    x = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    with watch(network, at="activation") as seen:
        network(x)
    assert list(seen) == ["0"]
    assert seen["0"].tolist() == [[0.0, 4.0], [2.0, 2.0]]
    with watch(network, at="layer") as seen:
        network(x)
    assert list(seen) == ["0", "2"]
    assert seen["0"].tolist() == [[-1.0, 4.0], [2.0, 2.0]]
    assert seen["2"].tolist() == [[4.0], [4.0]]


WAYS = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "tensor.relu": lambda x: x.relu(),
    "tensor.relu_": lambda x: x.relu_(),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.elu": F.elu,
    "tensor.tanh": lambda x: x.tanh(),
    "tensor.sigmoid_": lambda x: x.sigmoid_(),
    "nn.Threshold": nn.Threshold(0.1, 0.0),
} | {
    name: getattr(nn, name)()
    for name in (
        *("ELU", "SELU", "CELU", "GELU", "LeakyReLU", "PReLU", "RReLU", "ReLU6", "SiLU", "Mish"),
        *("Softplus", "Softsign", "LogSigmoid", "Tanh", "Tanhshrink", "Sigmoid", "Hardtanh"),
        *("Hardswish", "Hardsigmoid", "Hardshrink", "Softshrink", "GLU"),
    )
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_an_activation_counts_once(way):
    network = Functional(WAYS[way]).eval()
    if way == "GLU":
        network.second = nn.Linear(2, 2)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, output = network.activation(network.first(x)), network(x)
        with watch(network, at="activation") as seen:
            assert torch.equal(network(x), output)
    assert list(seen) == ["first"] and torch.equal(seen["first"], expected)


def test_further_probes_of_a_layer_are_numbered():
    activation = nn.ReLU()  # one module, used three times

    class Repeated(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            x = activation(x)  # before all layers
            x = activation(self.layer(x))
            return activation(torch.tanh(self.layer(x)))

    with watch(Repeated(), at="activation") as seen:
        Repeated()(torch.ones(1, 2))
        assert seen == {}  # another network's
    network = Repeated()
    with watch(network, at="activation") as seen:
        network(torch.ones(1, 2))
    assert list(seen) == ["layer", "layer:2", "layer:3"]
    with watch(network, at="layer", names=["layer:2"]) as seen:
        network(torch.ones(1, 2))
    assert list(seen) == ["layer:2"]


def test_images_come_first():
    value = torch.rand(3, 4, 2)
    assert by_image(value, 3) is value
    assert torch.equal(by_image(value.transpose(0, 1), 3), value)
    windows = torch.rand(6, 4, 2)
    assert torch.equal(by_image(windows, 3), windows.view(3, 2, 4, 2))
    assert by_image(torch.rand(5), 3).shape == (5,)  # of no images


class Recurrent(nn.Module):
    """Tokens through an attention and a GRU, both with the images second or first."""

    def __init__(self, first):
        super().__init__()
        self.first = first
        self.attention = nn.MultiheadAttention(4, 2, batch_first=first)
        self.gru = nn.GRU(4, 3, batch_first=first)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        x = x if self.first else x.transpose(0, 1)
        x, _ = self.attention(x, x, x)
        x, _ = self.gru(x)
        return self.fc(x.relu().mean(1 if self.first else 0))


@pytest.mark.parametrize("first", [True, False])
def test_of_layers_that_give_several_tensors_the_first_is_read_images_first(first):
    torch.manual_seed(0)
    network, x = Recurrent(first).eval(), torch.rand(7, 5, 4)
    same = Recurrent(not first).eval()
    same.load_state_dict(network.state_dict())
    with torch.no_grad(), watch(network, at="layer") as seen:
        network(x)
    with torch.no_grad():
        given = x if first else x.transpose(0, 1)
        attended, _ = network.attention(given, given, given)
        hidden, _ = network.gru(attended)
    for name, out in {"attention": attended, "gru": hidden}.items():
        assert torch.equal(seen[name], out if first else out.transpose(0, 1))
    assert list(seen) == ["attention", "gru", "fc"] and seen["gru"].shape == (7, 5, 3)
    shown = {"at": "layer", "perturbers": {"half": lambda _, images, *rest: images / 2}}
    errors = [analyse(net, x, torch.zeros(7), **shown)["half"] for net in (network, same)]
    for name, values in errors[0].items():
        assert np.allclose(values, errors[1][name], rtol=1e-4) and values.shape == (7,)
    # what a recurrent layer gives has passed its non-linearity
    assert probes(network, x, at="activation") == ["gru", "gru:2"]


def test_what_runs_outside_of_a_forward_is_no_probe():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with watch(network, at="activation") as seen:
        F.softplus(network(torch.ones(3, 2)).sum()).backward()
        assert list(seen) == ["0"]


@pytest.mark.parametrize("at", ["activation", "layer"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["small_conv", "small_resnet", "lsa_mnist", "lsa_moons"])
def test_agrees_with_plain_hooks_on_modules(name, training, at):
    network = network_of(name).train(training)
    kinds = (nn.ReLU, nn.ELU) if at == "activation" else (nn.Conv2d, nn.Linear)
    found = []
    plain = [
        module.register_forward_hook(lambda _, __, out: found.append(out.clone()))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    x = images_of() if REGISTRY[name].input == "image" else images_of((2,))
    with watch(network, at=at) as seen:
        network(x)
        assert all(module.training == training for module in network.modules())
    for hook in plain:
        hook.remove()
    assert len(seen) == len(found) > 2
    for out, expected in zip(seen.values(), found, strict=True):
        assert torch.equal(out, expected)
    if name == "small_resnet" and at == "activation":
        assert list(seen)[:3] == ["conv1", "layer1.conv1", "layer1.conv2"]


@pytest.mark.parametrize("at", ["activation", "layer"])
def test_nothing_stays_hooked(at):
    network = network_of("small_resnet")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with watch(network, at=at):
        network(images_of())
    assert hooks(network) == []
    with pytest.raises(ZeroDivisionError), watch(network, at=at) as seen:
        network(images_of())
        1 / 0  # noqa: B018
    before = dict(seen)
    with pytest.raises(RuntimeError), watch(network, at=at) as seen:
        network(images_of((3, 8, 8)))
    with watch(network, at=at) as seen:
        with pytest.raises(RuntimeError):
            network(images_of((3, 8, 8)))
        F.relu(torch.ones(1))
        assert seen == {}
    assert hooks(network) == [] and before
    F.relu(network(images_of()))
    assert seen == {}
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_gradients_flow_through_both_forwards():
    network = network_of("small_conv").train()
    x = images_of()
    with watch(network, at="activation") as seen:
        network(x)
        clean = dict(seen)
        network(x + 0.1)
        sum(relative_errors(clean[name], out).mean() for name, out in seen.items()).backward()
    gradient = network.body.conv1.weight.grad
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    assert network.body.fc.weight.grad is None  # no activation follows


def test_the_probes_of_a_network():
    assert probes(network_of("lsa_moons"), images_of((2,)), at="layer") == [
        "fc1",
        "fc2",
        "fc3",
        "fc4",
    ]


# Relative errors


def test_relative_errors_by_hand():
    clean = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    moved = torch.tensor([[[3.0, 0.0], [0.0, 3.0]], [[1.0, 2.0], [0.0, 0.0]]])
    assert relative_errors(clean, moved).tolist() == pytest.approx([1 / 5, 2])
    # not symmetric
    assert relative_errors(moved, clean).tolist() == pytest.approx([1 / 18**0.5, 2 / 5**0.5])


def test_relative_errors_where_nothing_is_active():
    clean, moved = torch.zeros(2, 3), torch.tensor([[0.0, 0, 0], [0, 5, 0]])
    assert relative_errors(clean, moved).tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["equal", "dead", "both"])
def test_gradients_are_finite_everywhere(kind):
    clean = (torch.zeros(2, 3) if kind != "equal" else torch.ones(2, 3)).requires_grad_()
    moved = (torch.ones(2, 3) if kind != "both" else torch.zeros(2, 3)).requires_grad_()
    relative_errors(clean, moved).sum().backward()
    assert clean.grad.isfinite().all() and moved.grad.isfinite().all()


# Noise


@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [("gaussian", 0.5, 0.1), ("speckle", 0.5, 0.05), ("salt", 0.55, 0.15), ("pepper", 0.45, 0.15)],
)
def test_noise_has_the_stated_strength(kind, mean, std):
    images, labels = torch.full((20, 3, 16, 16), 0.5), torch.zeros(20)
    perturb = noise(kind, strength=0.1, bounds=(0.0, 1.0), seed=0)
    noisy = perturb(None, images, labels, 0)
    assert noisy.shape == images.shape and noisy.dtype == images.dtype
    assert float(noisy.mean()) == pytest.approx(mean, abs=0.01)
    assert float(noisy.std()) == pytest.approx(std, abs=0.01)
    assert (images == 0.5).all()
    assert torch.equal(noisy, perturb(None, images, labels, 0))
    assert not torch.equal(noisy, perturb(None, images, labels, 1))
    if kind in ("salt", "pepper"):
        assert set(noisy.unique().tolist()) == {0.5, 1.0 if kind == "salt" else 0.0}


def test_noise_is_clipped_to_the_bounds_that_there_are():
    images = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    within = noise("gaussian", strength=2.0, bounds=(0.0, 1.0), seed=0)(None, images, None, 0)
    freely = noise("gaussian", strength=2.0, bounds=None, seed=0)(None, images, None, 0)
    assert within.min() == 0 and within.max() == 1
    assert torch.equal(freely.clamp(0, 1), within) and freely.max() > 1
    still = noise("speckle", strength=2.0, bounds=None, seed=0)(None, images * 0, None, 0)
    assert (still == 0).all()


@pytest.mark.parametrize("kind", ["gaussian", "salt", "pepper", "speckle"])
def test_noise_keeps_the_bounds_of_each_feature(kind):
    images = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 0])
    bounds = torch.zeros(2), torch.tensor([1.0, 0.0])
    made = noise(kind, strength=0.5, bounds=bounds, seed=0)(None, images, None, 0)
    assert (made[:, 1] == 0).all() and (made[:, 0] != images[:, 0]).any()
    assert made.min() >= 0 and made.max() <= 1


@pytest.mark.parametrize("kind", ["salt", "pepper"])
def test_noise_that_sets_to_a_bound_needs_one(kind):
    with pytest.raises(UserError, match=f"sustainability.noises: {kind} sets pixels to a bound"):
        noise(kind, strength=0.1, bounds=None, seed=0)


# The analysis


def naive(network, clean, perturbed):
    """Image by image, with plain hooks on the ReLU modules and NumPy."""
    errors = []
    for one, other in zip(clean, perturbed, strict=True):
        found = []
        plain = [
            module.register_forward_hook(lambda _, __, out, f=found: f.append(out.numpy().copy()))
            for module in network.modules()
            if isinstance(module, nn.ReLU)
        ]
        with evaluation(network), torch.no_grad():
            network(one[None])
            network(other[None])
        for hook in plain:
            hook.remove()
        half = len(found) // 2
        errors.append(
            [
                np.sqrt(((a - b) ** 2).sum()) / np.sqrt((a**2).sum())
                for a, b in zip(found[:half], found[half:], strict=True)
            ]
        )
    return np.array(errors).T


def test_analysis_agrees_with_a_naive_one(monkeypatch):
    network = network_of("small_resnet").train()
    images, labels = images_of(n=23), torch.arange(23) % 3
    perturb = {
        "fgsm": lambda network, x, y, chunk: fgsm(network, x, y, ball=Ball(0.1, "linf", (0, 1))),
        "gaussian": noise("gaussian", strength=0.1, bounds=(0.0, 1.0), seed=0),
    }
    said = []
    found = analyse(
        network, images, labels, perturbers=perturb, at="activation", progress=said.append
    )
    assert network.training and hooks(network) == []
    assert said == ["23 of 23 images analysed"]
    for name in perturb:
        expected = naive(network, images, perturb[name](network, images, labels, 0))
        assert np.array([*found[name].values()]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    monkeypatch.setattr("faultline.studies.sustainability.analysis.FEATURES", 5)
    again = analyse(network, images, labels, perturbers=perturb, at="activation", progress=len)
    for name in perturb:
        for probe, values in found[name].items():
            assert again[name][probe] == pytest.approx(values, rel=1e-4, abs=1e-6)


def test_stored_bytes_are_analysed_as_pixels_chunk_by_chunk(monkeypatch):
    monkeypatch.setattr("faultline.studies.sustainability.analysis.CHUNK", 10)
    network, labels = network_of("small_conv"), torch.arange(23) % 3
    stored = (images_of(n=23) * 255).byte()
    seen = []

    def perturb(network, images, labels, chunk):
        seen.append((chunk, len(images), len(labels), float(images.max())))
        return images

    said = []
    errors = analyse(
        network,
        stored,
        labels,
        pixels=lambda x: x.float() / 255,
        perturbers={"nothing": perturb},
        at="layer",
        progress=said.append,
    )
    assert [row[:3] for row in seen] == [(0, 10, 10), (1, 10, 10), (2, 3, 3)]
    assert 0.9 < max(row[3] for row in seen) <= 1
    assert said[-1] == "23 of 23 images analysed" and len(said) == 3
    assert list(errors["nothing"]) == ["conv1", "conv2", "conv3", "fc"]
    assert all((values == 0).all() and len(values) == 23 for values in errors["nothing"].values())


def test_attacks_and_noises_of_a_config_as_perturbers():
    class Data:
        bounds, std = (0.0, 1.0), (0.25,)

    network, images, labels = network_of("small_conv"), images_of(), torch.arange(7) % 3
    made = perturbers(
        {"pgd": {"method": "pgd", "norm": "linf", "steps": 2, "step_size": None, "eps": 0.1}},
        {"dust": {"kind": "pepper", "strength": 0.2}},
        Data,
        seed=3,
    )
    assert list(made) == ["pgd", "dust"]
    attacked = made["pgd"](network, images, labels, 0)
    assert 0 < (attacked - images).abs().max() <= 0.1 + 1e-6
    assert torch.equal(attacked, made["pgd"](network, images, labels, 0))
    assert not torch.equal(attacked, made["pgd"](network, images, labels, 1))  # another start
    expected = noise(
        "pepper", strength=0.2, bounds=Data.bounds, seed=seed_of("sustainability", "dust", 3)
    )
    assert torch.equal(made["dust"](network, images, labels, 0), expected(0, images, labels, 0))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_checkpoint_is_analysed_on_the_first_images_of_a_split(split):
    dataset = dataset_of(validation=30, test=29)
    network = trained_network(seed=4).eval()
    attack = {"method": "fgsm", "norm": "linf", "eps": 0.1, "normalised_units": False}
    dust = {"kind": "pepper", "strength": 0.2}
    errors = analyse_checkpoint(
        *(network, dataset),
        **{"attacks": {"fast": attack}, "noises": {"dust": dust}, "split": split, "images": 17},
        **{"at": "layer", "seed": 3},
    )
    images, labels = dataset.splits[split]
    pixels, labels = dataset.pixels(images[:17]), labels[:17]
    pepper = noise(
        "pepper", strength=0.2, bounds=(0.0, 1.0), seed=seed_of("sustainability", "dust", 3)
    )
    moved = {
        "fast": fgsm(network, pixels, labels, ball=Ball(0.1, "linf", (0.0, 1.0))),
        "dust": pepper(network, pixels, labels, 0),
    }
    assert [*errors] == ["fast/0", "fast/5", "dust/0", "dust/5"]
    for name, other in moved.items():
        with torch.no_grad():
            before, after = network[0](pixels), network[0](other)
        expected = (before - after).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
        assert errors[f"{name}/0"] == pytest.approx(expected.numpy(), rel=1e-5)


# The authors' own package


@pytest.mark.parametrize("name", ["small_conv", "lsa_mnist"])
def test_agrees_with_the_package_of_the_authors(name, capsys):
    package = pytest.importorskip(
        "LayerSustainabilityAnalysis",
        reason="LayersSustainabilityAnalysis 1.0.4 is not installed (pip install --no-deps)",
    )
    size = 28 if name == "lsa_mnist" else 8
    network = network_of(name, size=size).eval()
    images = images_of((1, size, size), n=4)
    perturb = {"gaussian": noise("gaussian", strength=0.2, bounds=(0.0, 1.0), seed=0)}
    moved = perturb["gaussian"](network, images, None, 0)
    ours = analyse(network, images, images, perturbers=perturb, at="activation", progress=len)[
        "gaussian"
    ]

    def theirs(clean, perturbed):
        analysis = package.LayerSustainabilityAnalysis(network.body)
        found = analysis.representation_comparisons(
            network.normalise(clean), network.normalise(perturbed), verbose=False
        )
        for module in network.modules():  # it leaves its hooks behind
            module._forward_hooks.clear()
        return found

    # It takes one norm over a whole batch; with one image at a time, both define the same.
    alone = [theirs(images[i : i + 1], moved[i : i + 1]) for i in range(len(images))]
    mine = np.array([*ours.values()]).T
    assert mine == pytest.approx(np.array(alone), rel=1e-5)
    listed, mu, _ = most_vulnerable(ours, eta=0)
    assert mu == pytest.approx(np.mean(alone), rel=1e-5)
    means = dict(zip(ours, np.mean(alone, axis=0), strict=True))
    assert listed == sorted((n for n in means if means[n] > mu), key=means.get, reverse=True)
    # Over the batch, the ratio of root mean squares, which is no mean of ratios.
    clean, perturbed = {}, {}
    with torch.no_grad(), watch(network, at="activation") as seen:
        for into, x in ((clean, images), (perturbed, moved)):
            network(x)
            into |= seen
    whole = [float((clean[p] - perturbed[p]).norm() / clean[p].norm()) for p in clean]
    found = theirs(images, moved)
    assert found == pytest.approx(whole, rel=1e-5)


class Routed(nn.Module):
    """Half of the images goes to either layer; positions are the same for all."""

    def __init__(self):
        super().__init__()
        self.places, self.one, self.other = nn.Embedding(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        x = x + self.places(torch.arange(3)).mean(0)
        out, chosen = x.new_zeros(len(x), 2), x[:, 0] > x[:, 1]
        out[chosen], out[~chosen] = self.one(x[chosen]), self.other(x[~chosen])
        return out


def test_layers_that_are_given_some_images_only_are_refused():
    network, images = Routed().eval(), torch.rand(8, 4)
    images[:4, 0], images[4:, 0] = 2, -1
    moved = images.flip(0)  # as many to either layer, but other ones
    labels = torch.zeros(8, dtype=torch.long)
    given = [network, images, labels]
    with pytest.raises(UserError, match="layer one is given some of the images only") as caught:
        analyse(*given, perturbers={"flip": lambda *_: moved}, at="layer")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="given some of the images only"):
        analyse(*given, perturbers={"none": lambda *_: images[:4].repeat(2, 1)}, at="layer")
    with watch(network, at="layer", names=["places"]) as seen:
        network(images)
        before = dict(seen)
        network(moved)
    assert probe_errors(before, seen, 8)["places"].tolist() == [0.0] * 8
