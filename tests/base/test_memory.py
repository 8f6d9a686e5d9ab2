"""Batches that a GPU has no room for are halved; the results stay."""

import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import faultline
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.attacks.craft import craft
from faultline.base.memory import halving
from faultline.networks.evaluation import predict

ATTACK = {"method": "pgd", "steps": 2}


class Small(nn.Sequential):
    """Has room for a few images, as a GPU would."""

    room = 1000

    def forward(self, images):
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Small(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)).eval()


@pytest.fixture
def images():
    return torch.rand(90, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def labels(network, images):
    return predict(network, images).argmax(1)


def test_batches_are_halved_until_they_fit(capsys):
    asked = []

    @halving
    def run(*, batch_size=20):
        asked.append(batch_size)
        if batch_size > 3:
            raise torch.OutOfMemoryError
        return "done"

    assert run() == "done" and asked == [20, 10, 5, 2]
    assert capsys.readouterr().out.splitlines()[-1].endswith("batches of 2")


def test_one_image_too_many_is_an_error(network, images):
    network.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        predict(network, images)


def test_predictions_and_attacks_stay(network, images):
    target = labels(network, images)
    attack = partial(craft, attack=ATTACK, eps=0.1, bounds=(0.0, 1.0), seed=0)
    logits, adversarial = predict(network, images), attack(network, images, target)
    network.room = 40
    torch.testing.assert_close(predict(network, images), logits)
    torch.testing.assert_close(attack(network, images, target), adversarial)


@pytest.mark.parametrize("crafted", [False, True])
def test_sweeps_stay(network, images, crafted):
    target = labels(network, images)
    variants = list(nodal_variants("0", network[0], filters=range(4), at="weights"))
    attack = partial(craft, attack=ATTACK, eps=0.1, bounds=(0.0, 1.0), seed=0)
    attacks = {"pgd": attack} if crafted else None

    def swept():
        return sweep(network, variants, {"clean": images}, target, ablated=["0"], attacks=attacks)

    whole = swept()
    network.room = 40
    halved = swept()
    for name, correct in whole.correct.items():
        np.testing.assert_array_equal(halved.correct[name], correct)
        assert not correct.all()


HELD = """
import ctypes, sys, torch
from faultline.base.memory import keep_freed


class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1:]:
    keep_freed()
tensor = torch.ones(16_000_000)
mapped = mallinfo().hblkhd
del tensor
print(mapped, mallinfo().arena)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept():
    """A tensor of 64 MB is no mapping of its own, which ends with it, but stays in the heap."""
    path = {"PYTHONPATH": str(Path(faultline.__file__).parents[1])}
    kept, usual = (
        subprocess.run(
            [sys.executable, "-c", HELD, *told],
            env=os.environ | path,
            check=True,
            capture_output=True,
        ).stdout.split()
        for told in (["told"], [])
    )
    assert int(usual[0]) >= 64_000_000 > int(kept[0])
    assert int(kept[1]) >= 64_000_000
