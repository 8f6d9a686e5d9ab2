"""The way of a fine-tuning, step by step, and BatchNorm's statistics at its end."""

import copy

import pytest
import torch
from torch import nn
from trainings import dataset_of, network_of, quiet, settings_of

from faultline.base.seeds import seed_of
from faultline.training.course import Course
from faultline.training.epochs import make_optimizer, train_epochs
from faultline.training.finetuning import finetune, measure_statistics

ATTACK = {"eps": 0.2, "norm": "linf", "steps": 2, "step_size": None, "beta": 6.0}
HARDENED = settings_of(recipe="at-nfgsm", adversarial=ATTACK, regularisation=None)


def test_the_rate_rises_over_a_tenth_and_eps_over_a_half():
    network = nn.Linear(1, 1)
    optimizer = make_optimizer(network, HARDENED)
    course, rates, strengths = Course(HARDENED, steps=20), [], []
    for _ in range(20):
        settings = course.before_step(optimizer)
        rates.append(optimizer.param_groups[0]["lr"] / HARDENED["lr"])
        strengths.append(settings["adversarial"]["eps"] / ATTACK["eps"])
        course.after_step(network)
    assert rates[:3] == pytest.approx([0.5, 1, 1]) and rates[-1] == pytest.approx(1 / 18)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert strengths == pytest.approx([min(step / 10, 1) for step in range(1, 21)])
    assert HARDENED["adversarial"]["eps"] == 0.2


def test_the_average_is_the_naive_one():
    network, course = nn.Linear(1, 1, bias=False), Course(HARDENED, steps=3)
    values = [1.0, 3.0, 2.0]
    for value in values:
        nn.init.constant_(network.weight, value)
        course.after_step(network)
    average = values[0]
    for step, value in enumerate(values[1:], 1):
        memory = (1 + step) / (10 + step)
        average = memory * average + (1 - memory) * value
    assert course.average["weight"].item() == pytest.approx(average)


def test_a_network_becomes_the_average_of_its_way():
    dataset, network = dataset_of(), network_of()
    expected = copy.deepcopy(network)
    finetune(network, dataset, settings=HARDENED, epochs=2, seed=3, say=quiet)
    course = Course(HARDENED, steps=8)
    common = {"settings": HARDENED, "seed": seed_of("fine-tuning", 3), "epochs": range(2)}
    optimizer = make_optimizer(expected, HARDENED)
    assert [*train_epochs(expected, optimizer, dataset, **common, course=course, say=quiet)]
    assert course.done == 8
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, course.average[name])
        assert parameter.requires_grad
    images = dataset.pixels(dataset.splits["train"][0])
    with torch.no_grad():
        out = network[0](images)
    torch.testing.assert_close(network[1].running_mean, out.mean((0, 2, 3)))
    torch.testing.assert_close(network[1].running_var, out.var((0, 2, 3)))
    assert not network.training and network[1].momentum == 0.1


def test_what_is_frozen_keeps_its_value():
    dataset, network = dataset_of(), network_of()
    before = copy.deepcopy(network.state_dict())
    parameters = network[0].named_parameters()
    frozen = {f"0.{name}": torch.ones_like(p, dtype=torch.bool) for name, p in parameters}
    finetune(network, dataset, settings=HARDENED, epochs=1, seed=0, frozen=frozen, say=quiet)
    assert torch.equal(network[0].weight, before["0.weight"])
    assert not torch.equal(network[5].weight, before["5.weight"])


def test_statistics_of_networks_without_any():
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    assert measure_statistics(network, dataset_of()) == 0
    counting = nn.Sequential(nn.BatchNorm2d(2, momentum=None, track_running_stats=True))
    counting[0].num_batches_tracked.fill_(7)
    assert measure_statistics(counting, dataset_of()) == 50
    assert counting[0].num_batches_tracked == 7
