"""What criteria see of one checkpoint: which images, which attack, and which seeds."""

import pytest
import torch
from trainings import dataset_of, network_of

from faultline.attacks.craft import craft
from faultline.base import plugins
from faultline.base.seeds import seed_of
from faultline.data.splits import images_of
from faultline.studies.criteria.checkpoint import judge_checkpoint

PGD = {"method": "pgd", "norm": "linf", "eps": 0.1, "steps": 2, "normalised_units": False}
PLACE = {"dataset": "d", "network": "n", "training": "t", "seed": "3", "epoch": "7"}
SEEN = """
SEEN = []


def seen(network, data):
    SEEN.append((data, data.adversarial))
    return {name: 0.0 for name in data.layers}
"""


def test_they_see_validation_images_an_attack_of_the_trainings_seed_and_networks_drawn_anew(
    tmp_path,
):
    (tmp_path / "seen_by.py").write_text(SEEN, encoding="utf-8")
    network, dataset, start = network_of(seed=3).eval(), dataset_of(validation=30), network_of(4)
    built = []

    def build(*, seed):
        built.append(seed)
        return network_of(seed=seed % 1000).eval()

    table = judge_checkpoint(
        *(network, dataset),
        **{"seed": 3, "place": PLACE, "layers": ["5"], "attack": {"p": PGD}, "images": 17},
        methods=[f"{tmp_path}/seen_by.py:seen", "rerandomisation", "random"],
        **{"draws": 2, "build": build, "initial": lambda: start},
    )
    of_checkpoint = seed_of("criteria", "d", "n", "t", 3, 7)
    assert built == [seed_of("redrawn", of_checkpoint, draw) for draw in (0, 1)]
    ((data, adversarial),) = plugins.load(f"{tmp_path}/seen_by.py:seen").__globals__["SEEN"]
    images, labels = images_of(dataset, "validation", 17)
    assert torch.equal(data.images, images) and torch.equal(data.labels, labels)
    given = {"attack": PGD, "eps": 0.1, "bounds": (0.0, 1.0), "seed": seed_of("attack", "p", 3)}
    assert torch.equal(adversarial, craft(network, images, labels, **given))
    assert data.attack == PGD and data.initial() is start and data.seed == of_checkpoint
    assert {*table["n"]} == {17} and {*table["layer"]} == {"5"}
    generator = torch.Generator().manual_seed(seed_of("random criterion", of_checkpoint, "5"))
    numbers = torch.rand(1 + 3, generator=generator, dtype=torch.double)  # layer and filters
    drawn = table[table["criterion"] == "random"]["score"].to_numpy(float)
    assert drawn == pytest.approx(numbers.numpy())
