"""What a sweep asks of a GPU, told by the pretended device: where the CPU waits, and memory."""

import gc

import numpy as np
import pretend
import pytest
import torch
from pretend import PRETEND
from trainings import quiet

from faultline.ablation.engines import AHEAD
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.attacks.craft import craft
from faultline.networks.layers import layers
from faultline.networks.registry import build


def example(name, size, n):
    network = build(name, shape=(1, size, size), classes=10, mean=0.5, std=0.3, seed=0).eval()
    images = torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))
    return network, images, network(images).argmax(1)


@pytest.mark.parametrize(
    ("layer", "at"), [("layer1.0.conv1", "activation"), ("layer2.0.downsample.0", "weights")]
)
def test_the_cpu_waits_once_for_many_filters_of_a_resnet18(layer, at):
    network, images, labels = example("resnet18", 16, 3)
    network.to(PRETEND)
    images, labels = images.to(PRETEND), labels.to(PRETEND)
    waited = []
    for count in (AHEAD - 24, 2 * AHEAD):
        with pretend.waiting() as counts:
            variants = nodal_variants(layer, layers(network)[layer], filters=range(count), at=at)
            sweep(network, variants, {"clean": images}, labels, ablated=[layer], say=quiet)
        waited.append(counts)
    assert waited[1].total() - waited[0].total() <= 1, waited[1] - waited[0]


@pytest.fixture
def collected_by_hand():
    """What lies in cycles stays until somebody asks, as it does where Python sees no need."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("crafted", [False, True])
def test_a_sweep_goes_on_with_smaller_batches_where_the_device_has_no_room(
    crafted, capsys, collected_by_hand
):
    network, images, labels = example("small_conv", 8, 60)
    variants = [*nodal_variants("conv2", layers(network)["conv2"], filters=range(6), at="weights")]
    settings = {"attack": {"method": "fgsm"}, "eps": 0.1, "bounds": (0.0, 1.0), "seed": 0}
    attacks = {"fgsm": lambda *given, **more: craft(*given, **settings, **more)} if crafted else {}

    def swept(images, labels):
        sets = {"clean": images}
        given = {"ablated": ["conv2"], "attacks": attacks, "say": quiet}
        return sweep(network, variants, sets, labels, **given)

    expected = swept(images, labels)
    network.to(PRETEND)
    images, labels = images.to(PRETEND), labels.to(PRETEND)
    with pretend.room(1e9):
        swept(images, labels)
        most = pretend.most_used()
    assert not capsys.readouterr().out
    with pretend.room(0.7 * most):
        found = swept(images, labels)
    assert "once more, with batches of" in capsys.readouterr().out
    for name, correct in expected.correct.items():
        assert np.array_equal(found.correct[name], correct) and not correct.all()
