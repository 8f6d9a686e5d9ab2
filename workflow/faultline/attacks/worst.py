"""The worst case over attacks, image by image (ours): correct under every one of them. No torch.

Attacks are compared where their eps means the same: one norm, in pixel or in normalised units.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from faultline.attacks.methods import weakest_first

WORST = "worst case"
"""Begins the name of each worst case; the space keeps it apart from the names of attacks."""


def by_unit(attacks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Unit of eps, in words -> its attacks, the weakest first, those of unknown strength last.

    attacks: name -> its settings in the config.
    """
    units: dict[str, list[str]] = {}
    for name in [name for part in weakest_first(attacks) for name in part]:
        units.setdefault(unit(attacks[name]), []).append(name)
    return units


def unit(attack: Mapping[str, Any]) -> str:
    """What an attack measures eps in: its norm, perhaps in normalised units."""
    return f"{attack['norm']}{' in normalised units' * bool(attack['normalised_units'])}"


def worst_cases(attacks: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Name of each worst case -> the attacks of its unit, of which there are two or more."""
    units = by_unit(attacks)
    return {
        WORST if len(units) == 1 else f"{WORST} {unit}": names
        for unit, names in units.items()
        if len(names) > 1
    }


def norms_of(attacks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Attack or worst case -> its norm; attacks: as for `by_unit`."""
    norms = {name: settings["norm"] for name, settings in attacks.items()}
    return norms | {worst: norms[names[0]] for worst, names in worst_cases(attacks).items()}


def worst_case(
    correct: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, tuple[list[str], np.ndarray]]:
    """eps -> (the attacks that share it, bool [n], correct under all of them), smallest eps first.

    correct: attack -> eps (as text) -> bool [n], of one unit on the same images. Only eps that two
    attacks or more share; none where that is eps 0 alone.
    """
    sharing: dict[str, list[str]] = {}
    for attack, hits in correct.items():
        for eps in hits:
            sharing.setdefault(eps, []).append(attack)
    worst = {
        eps: (attacks, np.min([correct[attack][eps] for attack in attacks], axis=0))
        for eps, attacks in sorted(sharing.items(), key=lambda item: float(item[0]))
        if len(attacks) > 1
    }
    return worst if worst.keys() - {"0"} else {}
