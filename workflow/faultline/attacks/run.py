"""The attacks of a config on a data set: with its bounds, its seeds and their self-checks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from faultline.attacks.checks import masked
from faultline.attacks.craft import attack_curve, craft, judge
from faultline.attacks.methods import Attack, AttackKeywords
from faultline.attacks.selfchecks import Parts, checks, signs
from faultline.base.errors import UserError
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet, images_of, test_images


class Attacked(NamedTuple):
    """accuracy: rows {eps, correct, n, accuracy}; checks: rows, see `attacks.checks`.

    correct: eps -> bool [n].
    """

    accuracy: list[dict[str, float]]
    checks: list[dict[str, str]]
    correct: dict[float, np.ndarray]


def attacked(
    network: nn.Module, dataset: DataSet, *, attack: Mapping[str, Any], name: str, seed: int
) -> Attacked:
    """One attack of the config on the test images, over its eps grid; told in the log."""
    images, labels = test_images(dataset)
    of = Attack.of(attack, bounds=dataset.bounds, std=dataset.std)
    parts = Parts()
    correct, adversarial = attack_curve(
        network, images, labels, attack=of, seed=seed_of("attack", name, seed), after=parts
    )
    checked = checks(
        network,
        images,
        labels,
        attack=of,
        adversarial=adversarial,
        correct=correct,
        parts=parts.of(len(images)),
    )
    rows = []
    for eps, hits in correct.items():
        rows.append({"eps": eps, "correct": hits.sum(), "n": len(hits), "accuracy": hits.mean()})
        print(f"{name}, eps {eps:g}: accuracy {hits.mean():.4f} (n = {len(hits)})")
    for check in checked:
        print(f"{check['status']}: {check['check']}: {check['detail']}")
    return Attacked(rows, checked, correct)


def crafters(
    attacks: Mapping[str, Mapping[str, Any]],
    dataset: DataSet,
    *,
    seed: int,
    until_fooled: bool = False,
) -> dict[str, Callable[..., Tensor]]:
    """attack -> function (network, images, labels) -> adversarial images at its own eps.

    until_fooled: see `Attack`, where nothing but the correctness on these images is asked for.
    UserError for an attack without eps.
    """
    for name, attack in attacks.items():
        if "eps" not in attack:
            raise UserError(f"attack {name}: needs the key eps; add it")
    common: AttackKeywords = {"bounds": dataset.bounds, "std": dataset.std}
    common["until_fooled"] = until_fooled
    return {
        name: partial(craft, attack=Attack.of(attack, **common), seed=seed_of("attack", name, seed))
        for name, attack in attacks.items()
    }


class Judged(NamedTuple):
    """correct: image set -> bool [n], as `correct_under`; masked: why the accuracies under attack
    are not to be believed, see `attacks.checks.masked`; adversarial: attack -> its images."""

    correct: dict[str, np.ndarray]
    masked: str
    adversarial: dict[str, Tensor]


def judged(
    attacks: Mapping[str, Mapping[str, Any]], network: nn.Module, dataset: DataSet, *, seed: int
) -> Judged:
    """A network on the test images, clean and under each attack, crafted on it."""
    images, labels = test_images(dataset)
    parts = {name: Parts() for name in attacks}
    craft = crafters(attacks, dataset, seed=seed, until_fooled=True)
    adversarial = {
        name: of(network, images, labels, after=parts[name]) for name, of in craft.items()
    }
    stored = {name: lambda *_, of=of: of for name, of in adversarial.items()}
    correct, rows = judge(network, images, labels, attacks=stored), []
    for name, attack in attacks.items():
        rows += signs(
            network,
            images,
            labels,
            attack=Attack.of(attack, bounds=dataset.bounds, std=dataset.std),
            correct=correct[name],
            parts=parts[name].of(len(images)),
        )
    return Judged(correct, masked(rows), adversarial)


def correct_under(
    attacks: dict[str, dict[str, Any]],
    network: nn.Module,
    dataset: DataSet,
    *,
    split: str,
    seed: int,
    count: int | None = None,
) -> dict[str, np.ndarray]:
    """Image set -> bool [n], classified correctly: "clean" and each attack, crafted on the network.

    Of a split all images, or the first `count`.
    """
    images, labels = images_of(dataset, split, count)
    craft = crafters(attacks, dataset, seed=seed, until_fooled=True)
    return judge(network, images, labels, attacks=craft)
