"""A search for a training's settings: every candidate of a grid, judged on the validation split.

Methods that leave their settings open are compared fairly only if each is tuned alike (ours).
"""

import copy
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from faultline.attacks import attack_curve
from faultline.seeds import seed_of


def candidates(grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the values of a grid, setting -> value; one, empty, of an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def applied(settings: Mapping, chosen: Mapping[str, float]) -> dict:
    """The settings of a training with some replaced, by names such as "adversarial.eps".

    What the training has no place for, as a regularisation that it does without, is left out.
    """
    settings = copy.deepcopy(dict(settings))
    for name, value in chosen.items():
        part, _, key = name.rpartition(".")
        place = settings[part] if part else settings
        if place is not None:
            place[key] = value
    return settings


def judge(network, dataset, *, attack: Mapping, name: str, seed: int) -> list[float]:
    """Accuracies in % on the validation split over the attack's eps grid, ascending."""
    images, labels = dataset.splits["validation"]
    correct, _ = attack_curve(
        network,
        dataset.pixels(images),
        labels,
        attack=attack,
        eps=attack["eps"],
        eps_grid=attack["eps_grid"],
        bounds=dataset.bounds,
        std=dataset.std,
        seed=seed_of("attack", name, seed),
    )
    return [100 * float(hits.mean()) for hits in correct.values()]


def loss_of(accuracies: Sequence[float], towards: Sequence[float] | None) -> float:
    """What the search minimises: minus the sum of accuracies (the R&G score of Khalooei et al.
    2022), or their mean absolute difference to those to come near to."""
    if towards is None:
        return -float(np.sum(accuracies))
    return float(np.abs(np.subtract(accuracies, towards)).mean())
