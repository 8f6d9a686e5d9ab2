"""The ways to mend a network by their names in the config: an entry of `CANDIDATES` each.

Each changes the network in place; `mended` then looks for the best share of the way. No torch
before one is run: a workflow that is parsed reads the names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from faultline.base import plugins
from faultline.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faultline.data.splits import DataSet
    from faultline.studies.mending.faults import Faults

FIRST = 0.5
"""Share of the layers that `first_layers` trains, in the order of definition."""

ETA, GAMMA, ANALYSED = 0.5, 0.1, 300
"""Of `regularised`: the limit of the most vulnerable layers, the weight of their relative error,
and the validation images that tell them."""


class Task(NamedTuple):
    """network: in eval mode, to be changed in place. settings: of a training in the config, with
    the attack to harden against under `adversarial`. epochs: how long. seed: of what is drawn.
    fragile: the layers whose class by S_adv is fragile, antifragile: layer -> those of its filters
    whose class is that, decided on validation images; None where there are no classes. recipe: what
    hardening is; "standard" where the data set holds the inputs under what it is against. faults:
    of the weights, where it is against these."""

    network: nn.Module
    dataset: DataSet
    settings: Mapping[str, Any]
    epochs: int
    seed: int
    fragile: Collection[str] | None = None
    antifragile: Mapping[str, Collection[int]] | None = None
    recipe: str = "at-nfgsm"
    faults: Faults | None = None


@dataclass(frozen=True)
class Candidate:
    """mend: changes the network of a task; UserError where that cannot be. about: in words, with
    its source. by_class: the units by whose classes it goes, "layers" or "filters", if by any.
    trains: whether it learns anything, at a learning rate. attacks: whether it is against attacks
    alone, not stresses; faults: against faults of the weights alone."""

    mend: Callable[[Task], None]
    about: str
    by_class: str = ""
    trains: bool = True
    attacks: bool = False
    faults: bool = False

    def fits(self, *, stresses: bool, faults: bool) -> bool:
        """Whether it is for a mend under such."""
        return not ((self.attacks and (stresses or faults)) or (self.faults and not faults))


def _harden(
    task: Task,
    recipe: str | None = None,
    frozen: dict[str, Tensor] | None = None,
    regularised: Mapping[str, float] | None = None,
) -> None:
    from faultline.training.finetuning import finetune

    disturbed = None
    if task.faults is not None:
        from faultline.studies.mending.faults import learning

        disturbed = partial(learning, task.network, task.faults)
    finetune(
        task.network,
        task.dataset,
        settings={**task.settings, "recipe": recipe or task.recipe},
        epochs=task.epochs,
        seed=task.seed,
        frozen=frozen,
        regularised=regularised,
        disturbed=disturbed,
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


def _regularised(task: Task) -> None:
    from faultline.studies.sustainability.analysis import analyse, perturbers
    from faultline.studies.sustainability.lists import most_vulnerable

    stored, labels = (part[:ANALYSED] for part in task.dataset.splits["validation"])
    adversarial = task.settings["adversarial"]
    attack = {"method": "pgd"} | {key: adversarial[key] for key in ("eps", "norm", "steps")}
    errors = analyse(
        task.network,
        stored,
        labels,
        pixels=task.dataset.pixels,
        perturbers=perturbers({"attack": attack}, {}, task.dataset, seed=task.seed),
        at="layer",
    )
    names, _, _ = most_vulnerable(errors["attack"], eta=ETA)
    if not names:
        raise UserError(f"no layer is most vulnerable at eta {ETA:g}")
    print(f"regularised: {', '.join(names)}")
    settings = {**task.settings, "regularisation": {"at": "layer"}}
    _harden(
        task._replace(settings=settings), "at-nfgsm-lr", regularised=dict.fromkeys(names, GAMMA)
    )


def _remedy(task: Task) -> None:
    from faultline.data.splits import images_of
    from faultline.networks.layers import layers
    from faultline.studies.fragile.remedy import feature_energy, gains, nodal_fragility, remedied

    network, dataset = task.network, task.dataset
    for layer in layers(network):
        try:
            stored = dataset.seen[:ANALYSED]
            energy = feature_energy(network, [layer], stored, pixels=dataset.pixels)[layer]
        except UserError as error:
            print(error)
            continue
        images, labels = images_of(dataset, "validation")
        lost = nodal_fragility(network, layer, images, labels, at="weights")
        gain = gains(lost, energy, strength=1.0)
        print(f"gains of {layer}: {gain.min():.2f} to {gain.max():.2f}")
        network.load_state_dict(remedied(network, {layer: gain}).state_dict())
        return
    raise UserError("gains can act on no layer")


def _remove(task: Task) -> None:
    import torch

    from faultline.networks.layers import layers, of_units

    if not task.antifragile:
        why = "no filter is antifragile by S_adv, decided on validation images"
        raise UserError(why if task.antifragile is not None else "filters have no classes")
    by_name = layers(task.network)
    with torch.no_grad():
        for name, units in task.antifragile.items():
            own = dict(by_name[name].named_parameters())
            for key, belongs in of_units(by_name[name], units).items():
                own[key].masked_fill_(belongs, 0.0)


def _clip(task: Task) -> None:
    from faultline.data.splits import images_of
    from faultline.networks.clipping import clip, output_bounds

    images, _ = images_of(task.dataset, "validation")
    bounds = output_bounds(task.network, images)
    if not bounds:
        raise UserError("no layer shows its outputs")
    clip(task.network, bounds)


def _fragile(task: Task) -> Collection[str]:
    if not task.fragile:
        why = "no layer is fragile by S_adv, decided on validation images"
        raise UserError(why if task.fragile is not None else "layers have no classes")
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
    "harden_pgd": Candidate(_harden_pgd, "the same against PGD (Madry et al. 2018)", attacks=True),
    "harden_trades": Candidate(
        _harden_trades, "the same by TRADES (Zhang et al. 2019)", attacks=True
    ),
    "first_layers": Candidate(
        _first_layers, "harden, the first half of the layers alone (after Siddiqui & Breuel 2021)"
    ),
    "picked": Candidate(
        _picked, "harden, fragile layers alone (ours; after Zhu et al. 2023)", by_class="layers"
    ),
    "regularised": Candidate(
        _regularised,
        "harden, the relative error of the most vulnerable layers regularised (after Khalooei et "
        "al. 2022)",
        attacks=True,
    ),
    "selective": Candidate(
        _selective,
        "trained on clean images, fragile layers frozen (after Pravin et al. 2024)",
        by_class="layers",
    ),
    "remedy": Candidate(
        _remedy,
        "gains of the filters of the first layer, by their fragility (after Pravin et al. 2021)",
        trains=False,
    ),
    "remove": Candidate(
        _remove, "filters that are antifragile removed (ours)", by_class="filters", trains=False
    ),
    "clip": Candidate(
        _clip,
        "outputs of layers kept within what validation images show (after Chen et al. 2021, Hoang "
        "et al. 2020)",
        trains=False,
        faults=True,
    ),
}


def about(name: str, *, stresses: bool = False, faults: bool = False) -> str:
    """A candidate in words; stresses, faults: where it is to hold under such."""
    if name == "harden" and (stresses or faults):
        return UNDER_FAULTS if faults else UNDER_STRESSES
    return candidate(name).about


UNDER_STRESSES = (
    "all weights, on images as they are and under the stresses, averaged on the way (Izmailov et "
    "al. 2018)"
)
"""Of `harden`."""

UNDER_FAULTS = (
    "all weights, as they are and with bits of their int8 form flipped, averaged on the way "
    "(Izmailov et al. 2018)"
)
"""Of `harden`."""


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
