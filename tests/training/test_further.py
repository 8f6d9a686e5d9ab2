"""A checkpoint trained on: against the same steps said anew, with every choice another value."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from trainings import assert_same_bits, dataset_of, network_of, settings_of, trained

from faultline.attacks.craft import craft
from faultline.base.seeds import seed_of
from faultline.data.splits import images_of
from faultline.networks.evaluation import predict
from faultline.training.checkpoints import checkpoint
from faultline.training.further import interpolate, train_further

FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.05, "normalised_units": False}
PGD = {"method": "pgd", "norm": "linf", "eps": 0.1, "steps": 2, "normalised_units": False}
SETTINGS = settings_of(adversarial=None, regularisation=None)


@pytest.fixture
def begun():
    """(a checkpoint after one epoch of seed 3, the data)"""
    dataset = dataset_of(validation=30, test=23)
    network, optimizer, _ = trained(range(1), settings=SETTINGS, seed=3, dataset=dataset)
    state = copy.deepcopy(checkpoint(network, optimizer, epoch=1, seed=3))
    return state, dataset


def right(network, dataset, split, name, attack, *, count=None):
    """Naively: which images of a split are right under an attack, named for its seed."""
    images, labels = images_of(dataset, split, count)
    if attack:
        given = {"attack": attack, "eps": attack["eps"], "bounds": dataset.bounds}
        seed = seed_of("attack", name, 3)
        images = craft(network, images, labels, seed=seed, until_fooled=True, **given)
    return (predict(network, images).argmax(1) == labels).numpy()


def test_it_goes_on_as_one_training_and_is_judged_on_test_images(begun):
    state, dataset = begun
    network = network_of(seed=9)
    further = train_further(
        *(network, dataset, copy.deepcopy(state)), settings=SETTINGS, epochs=2, attacks={"p": PGD}
    )
    whole, optimizer, rows = trained(range(3), settings=SETTINGS, seed=3, dataset=dataset)
    expected = checkpoint(whole, optimizer, epoch=3, seed=3)
    assert_same_bits(dict(further.checkpoint["network"]), dict(expected["network"]))
    assert_same_bits(further.checkpoint["optimizer"], expected["optimizer"])
    assert {key: further.checkpoint[key] for key in ("epoch", "seed")} == {"epoch": 3, "seed": 3}
    assert_same_bits(further.history, rows[1:])
    assert further.moved == 1 and not network.training
    assert [*further.correct] == ["clean", "p"]
    for name, attack in (("clean", None), ("p", PGD)):
        assert np.array_equal(
            further.correct[name], right(whole.eval(), dataset, "test", "p", attack)
        )


def test_what_is_frozen_keeps_its_value(begun):
    state, dataset = begun
    network, mask = network_of(), torch.zeros(3, 64, dtype=torch.bool)
    mask[1] = True
    train_further(
        *(network, dataset, copy.deepcopy(state)),
        **{"settings": SETTINGS, "epochs": 1, "attacks": {}, "frozen": {"5.weight": mask}},
    )
    before, after = state["network"]["5.weight"], network.state_dict()["5.weight"]
    assert torch.equal(before[mask], after[mask]) and not torch.equal(before[~mask], after[~mask])


def test_how_far_it_moves_is_chosen_on_validation_images(begun):
    state, dataset = begun
    common = {"settings": SETTINGS | {"lr": 0.3}, "epochs": 2, "attacks": {}}
    whole = train_further(network_of(), dataset, copy.deepcopy(state), **common)
    before, after = state["network"], whole.checkpoint["network"]
    shares, by_share = (0, 0.25, 0.5, 1), {}
    for share in shares:
        floats = {name for name, value in before.items() if value.is_floating_point()}
        mixed = {name: torch.lerp(before[name], after[name], share) for name in floats}
        network = network_of().eval()
        network.load_state_dict({**after, **mixed})
        hits = [right(network, dataset, "validation", "f", a, count=17) for a in (None, FGSM)]
        by_share[share] = np.mean([part.mean() for part in hits])
    assert len({*by_share.values()}) > 2
    network = network_of()
    further = train_further(
        *(network, dataset, copy.deepcopy(state)),
        **{"shares": shares, "chosen_under": {"f": FGSM}, "chosen_on": 17, **common},
    )
    assert further.moved == max(shares, key=lambda share: (by_share[share], -share))
    assert np.array_equal(further.correct["clean"], right(network, dataset, "test", "", None))


def test_interpolation_takes_the_best_of_the_way():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data[:] = 3.0
    before = {"weight": torch.tensor([[1.0]])}

    def accuracy():
        return -abs(layer.weight.item() - 2.1)

    assert interpolate(layer, before, shares=[0.0, 0.5, 1.0], accuracy=accuracy) == 0.5
    assert layer.weight.item() == 2.0
    layer.weight.data[:] = 3.0
    assert interpolate(layer, before, shares=[1, 0.5, 0], accuracy=lambda: 0.0) == 0
    assert layer.weight.item() == 1.0
    layer.weight.data[:] = 3.0
    assert interpolate(layer, before, shares=[1], accuracy=lambda: 1 / 0) == 1
    assert layer.weight.item() == 3.0
