"""The ways to mend a network by their names in the config: an entry of `CANDIDATES` each.

Each trains the network in place; `mended` then looks for the best share of the way. No torch before
one is run: a workflow that is parsed reads the names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from faultline.base import plugins
from faultline.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faultline.data.splits import DataSet

FIRST = 0.5
"""Share of the layers that `first_layers` trains, in the order of definition."""


class Task(NamedTuple):
    """network: in eval mode, to be trained in place. settings: of a training in the config, with
    the attack to harden against under `adversarial`. epochs: how long. seed: of what is drawn.
    fragile: the layers whose class by S_adv is fragile, decided on validation images; None where no
    layer has a class."""

    network: nn.Module
    dataset: DataSet
    settings: Mapping[str, Any]
    epochs: int
    seed: int
    fragile: Collection[str] | None = None


@dataclass(frozen=True)
class Candidate:
    """mend: changes the network of a task; UserError where that cannot be. about: in words, with
    its source. by_class: whether it goes by the classes of layers."""

    mend: Callable[[Task], None]
    about: str
    by_class: bool = False


def _harden(task: Task, recipe: str = "at-nfgsm", frozen: dict[str, Tensor] | None = None) -> None:
    from faultline.training.finetuning import finetune

    finetune(
        task.network,
        task.dataset,
        settings={**task.settings, "recipe": recipe},
        epochs=task.epochs,
        seed=task.seed,
        frozen=frozen,
    )


def _harden_pgd(task: Task) -> None:
    _harden(task, "at-pgd")


def _harden_trades(task: Task) -> None:
    _harden(task, "at-trades")


def _first_layers(task: Task) -> None:
    from faultline.networks.layers import layers

    names = [*layers(task.network)]
    _harden(task, frozen=_whole(task.network, names[max(round(FIRST * len(names)), 1) :]))


def _picked(task: Task) -> None:
    from faultline.networks.layers import layers

    fragile = _fragile(task)
    others = [name for name in layers(task.network) if name not in fragile]
    _harden(task, frozen=_whole(task.network, others))


def _selective(task: Task) -> None:
    _harden(task, "standard", _whole(task.network, _fragile(task)))


def _fragile(task: Task) -> Collection[str]:
    if not task.fragile:
        why = "no layer is fragile by S_adv, decided on validation images"
        raise UserError(why if task.fragile is not None else "layers have no classes in this run")
    return task.fragile


def _whole(network: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Masks that freeze all parameters of some layers; one that layers share is the first one's."""
    import torch

    from faultline.networks.layers import layers

    masks, seen = {}, set()
    for name, layer in layers(network).items():
        for key, parameter in layer.named_parameters():
            if name in names and id(parameter) not in seen:
                masks[f"{name}.{key}"] = torch.ones_like(parameter, dtype=torch.bool)
            seen.add(id(parameter))
    return masks


CANDIDATES = {
    "harden": Candidate(
        _harden,
        "all weights, against one noisy step (N-FGSM, de Jorge et al. 2022) whose eps grows, "
        "averaged on the way (Izmailov et al. 2018)",
    ),
    "harden_pgd": Candidate(_harden_pgd, "the same against PGD (Madry et al. 2018)"),
    "harden_trades": Candidate(_harden_trades, "the same by TRADES (Zhang et al. 2019)"),
    "first_layers": Candidate(
        _first_layers, "harden, the first half of the layers alone (after Siddiqui & Breuel 2021)"
    ),
    "picked": Candidate(
        _picked, "harden, fragile layers alone (ours; after Zhu et al. 2023)", by_class=True
    ),
    "selective": Candidate(
        _selective,
        "trained on clean images, fragile layers frozen (after Pravin et al. 2024)",
        by_class=True,
    ),
}


def candidate(name: str) -> Candidate:
    """A candidate by its name, or "file.py:function" of the user's own, called with (network,
    dataset, settings): to train the network in place, with what `Task` says of the settings, to
    which epochs and seed are added."""
    if not plugins.is_own(name):
        return CANDIDATES[name]

    def mend(task: Task) -> None:
        function = plugins.load(name)
        settings = copy.deepcopy({**task.settings, "epochs": task.epochs, "seed": task.seed})
        with plugins.told(name):
            function(task.network, task.dataset, settings)

    return Candidate(mend, "of your own")


def name_of(candidate: str) -> str:
    """What tables and folders call a candidate: of the user's own, the function's name."""
    return candidate.rpartition(":")[2]
