"""The library on other devices than the CPU: what it gives there is what it gives on the CPU, on
the pretended one to the last bit."""

import copy

import numpy as np
import pytest
import torch
from pretend import PRETEND, Pretend
from support import error_of
from sweeps import DEVICES
from torch import nn
from trainings import assert_same_bits, dataset_of, network_of, quiet, settings_of

from faultline.ablation.compression import Form, compressed_network, input_ranges
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.attacks.craft import attack_curve, craft
from faultline.attacks.methods import METHODS
from faultline.base.files import load_tensors, save_tensors
from faultline.data.splits import DataSet
from faultline.networks.architectures import TokenNetwork
from faultline.networks.evaluation import predict
from faultline.networks.layers import layers as layers_of
from faultline.networks.registry import build
from faultline.studies.analysis import analyse
from faultline.studies.mending.faults import Faults
from faultline.studies.mending.library import mend
from faultline.studies.screen import screened
from faultline.training.checkpoints import checkpoint, restore
from faultline.training.epochs import make_optimizer, train_epochs
from faultline.training.registry import RECIPES, REGULARISED

OTHERS = [device for device in DEVICES if device != "cpu"]
ADVERSARIAL = {"eps": 0.1, "norm": "linf", "steps": 2, "step_size": None, "beta": 6.0}
UNIT = (0.0, 1.0)


def on(dataset, device):
    flat = dataset.to_tensors()
    moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in flat.items()}
    return DataSet.from_tensors(moved)


def assert_same(found, expected, device):
    """To the last bit where the CPU computes; a GPU rounds otherwise, and a sign may turn."""
    assert (found.device.type, found.shape) == (device, expected.shape)
    if device == PRETEND:
        assert torch.equal(found.cpu(), expected)
    else:
        assert torch.isclose(found.cpu(), expected, atol=1e-4).float().mean() > 0.9


@pytest.mark.parametrize("device", OTHERS)
@pytest.mark.parametrize("method", METHODS)
def test_attacks(method, device):
    network = network_of().eval()
    images = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    labels = predict(network, images).argmax(1)
    for norm in METHODS[method].norms:
        attack = {"method": method, "norm": norm, "normalised_units": norm == "linf"}
        attack |= {k: 4 for k in METHODS[method].takes if k in ("steps", "queries")}
        given = {"attack": attack, "eps": 0.3, "bounds": UNIT, "std": (0.3, 0.2), "seed": 0}
        expected = craft(network, images, labels, **given)
        there = copy.deepcopy(network).to(device)
        assert_same(craft(there, images.to(device), labels.to(device), **given), expected, device)


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)

    def forward(self, tokens):
        return self.head(self.embedding(tokens).tanh().mean(1))


@pytest.mark.parametrize("device", OTHERS)
def test_attacks_on_tokens_and_within_bounds_of_each_feature(device):
    torch.manual_seed(0)
    tokens, rows = torch.randint(20, (12, 7)), torch.rand(12, 4)
    network = TokenNetwork(Text()).eval()
    table = nn.Sequential(nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 3)).eval()
    bounds = torch.zeros(4), torch.tensor([1.0, 1.0, 0.0, 1.0])  # one feature is always the same
    rows[:, 2] = 0.0
    for of, values, ends in ((network, tokens, None), (table, rows, bounds)):
        labels = predict(of, values).argmax(1)
        attack = {"method": "apgd", "steps": 4}
        given = {"attack": attack, "eps": 0.3, "seed": 0, "say": quiet}
        expected, images = attack_curve(of, values, labels, bounds=ends, **given)
        there = ends and tuple(end.to(device) for end in ends)
        found, moved = attack_curve(
            *(copy.deepcopy(of).to(device), values.to(device), labels.to(device)),
            **given | {"bounds": there},
        )
        assert_same(moved, images, device)
        assert {k: [*v] for k, v in found.items()} == {k: [*v] for k, v in expected.items()}


@pytest.mark.parametrize("device", OTHERS)
@pytest.mark.parametrize("recipe", [*RECIPES, REGULARISED[1]])
def test_a_training_goes_on_on_another_device(recipe, device, tmp_path):
    """Two epochs here, one of them there; its file is read there, and what is made there here."""
    settings = settings_of(
        recipe=recipe,
        adversarial=ADVERSARIAL,
        augmentation={"shift": 1, "flip": True},
        regularisation={"at": "activation"} if recipe.endswith("-lr") else None,
    )
    frozen = {"0.weight": torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5}
    files = [tmp_path / f"{epoch}.pt" for epoch in range(3)]

    def train(epoch, on_device):
        network, data = network_of().to(on_device), on(dataset_of(), on_device)
        optimizer = make_optimizer(network, settings)
        if epoch:
            state = load_tensors(files[epoch - 1], "a checkpoint", device=on_device)
            restore(network, optimizer, state)
        given = {"settings": settings, "seed": 0, "epochs": range(epoch, epoch + 1), "say": quiet}
        given["frozen"] = {name: mask.to(on_device) for name, mask in frozen.items()}
        given["regularised"] = {"0": 0.5} if recipe.endswith("-lr") else None
        rows = [*train_epochs(network, optimizer, data, **given)]
        save_tensors(checkpoint(network, optimizer, rows=rows), files[epoch])
        return load_tensors(files[epoch], "a checkpoint")

    train(0, "cpu")
    expected, found = train(1, "cpu"), train(1, device)
    if device == PRETEND:
        assert_same_bits(found, expected)
    train(2, "cpu")


def test_what_lies_elsewhere_is_told_in_one_line():
    network, dataset = network_of().eval(), dataset_of()
    images, labels = torch.rand(4, 2, 6, 6), torch.tensor([0, 1, 2, 0])
    variants = [*nodal_variants("0", network[0], filters=[1], at="weights")]
    attack = {"method": "fgsm", "eps": 0.1, "bounds": UNIT}
    crafting = {"attack": {"method": "fgsm"}, "eps": 0.1, "bounds": UNIT, "seed": 0}
    network.to(PRETEND)
    there = images.to(PRETEND)
    hint = r'on cpu, and the network on pretend:0; move one of them, as by .to("pretend:0")'
    assert error_of(craft, network, images, labels, **crafting) == f"images: {hint}"
    assert error_of(craft, network, there, labels, **crafting) == f"labels: {hint}"
    sweeping = {"ablated": ["0"], "say": quiet}
    said = error_of(sweep, network, variants, {"clean": images}, labels, **sweeping)
    assert said == f"image set 'clean': {hint}"
    assert error_of(mend, network, dataset, attack=attack) == f"data: {hint}"
    assert error_of(analyse, network, images, labels) == f"images: {hint}"


@pytest.mark.parametrize("device", OTHERS)
def test_an_analysis(device):
    network, (images, labels) = network_of().eval(), dataset_of().splits["validation"]
    images = images.float() / 16
    given = {"attack": {"method": "fgsm", "eps": 0.1}, "thresholds": 3, "random_draws": 2}
    expected = analyse(network, images, labels, **given)
    found = analyse(network.to(device), images.to(device), labels.to(device), **given)
    assert [*found.layers["layer"]] == [*expected.layers["layer"]] and found.map
    if device == PRETEND:
        assert found.layers.equals(expected.layers)
        assert found.map == expected.map


@pytest.mark.parametrize("device", OTHERS)
def test_a_mend(device):
    dataset = dataset_of(validation=40, test=40)
    given = {"attack": {"method": "pgd", "steps": 2, "eps": 0.1}, "epochs": 1, "rates": [0.01]}
    given |= {"candidates": ["harden", "picked"], "shares": [1.0], "fragile": ["0"]}
    expected = mend(network_of().eval(), dataset, **given)
    network = network_of().eval().to(device)
    found = mend(network, on(dataset, device), **given)
    assert {p.device.type for p in network.parameters()} == {device}
    if device == PRETEND:
        assert all(isinstance(p, Pretend) for p in network.parameters())
        assert found.result.equals(expected.result)


@pytest.mark.parametrize("device", OTHERS)
def test_a_mend_for_faults(device):
    dataset = dataset_of(validation=40, test=40)
    given = {"faults": Faults(["bit_faults", "bit_faults_int8"], 0.001, 2), "epochs": 1}
    given |= {"rates": [0.01], "candidates": ["harden", "clip"], "shares": [1.0]}
    expected = mend(network_of().eval(), dataset, **given)
    found = mend(network_of().eval().to(device), on(dataset, device), **given)
    if device == PRETEND:
        assert found.result.equals(expected.result) and found.bounds == expected.bounds


@pytest.mark.parametrize("device", OTHERS)
def test_fewer_bits_of_weights_and_inputs(device):
    network, (images, _) = network_of().eval(), dataset_of().splits["validation"]
    images = images.float() / 16
    of = dict.fromkeys(layers_of(network), Form(bits=4, inputs=True))

    def logits(network, images):
        ranges = input_ranges(network, layers_of(network), images)
        return predict(compressed_network(network, of, ranges), images)

    expected = logits(network, images)
    found = logits(network.to(device), images.to(device))
    assert found.device.type == device
    if device == PRETEND:
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("device", OTHERS)
@pytest.mark.parametrize("name", ["small_conv", "small_vit"])
def test_a_screen(name, device):
    network = build(name, shape=(1, 8, 8), classes=4, mean=(0.5,), std=(0.3,), seed=0)
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = screened(network, images, layers_of(network), batch_size=4)
    network = network.to(device)
    found = screened(network, images.to(device), layers_of(network), batch_size=4)
    assert [*found] == [*expected]
    for layer, of in expected.items():  # attention goes another way there
        assert np.allclose(found[layer], of, atol=1e-4), layer
