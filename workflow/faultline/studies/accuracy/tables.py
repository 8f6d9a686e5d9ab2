"""The tables of accuracy, of self-checks and of training."""

from collections.abc import Iterator

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.attacks.checks import attack_order, split_attacks
from faultline.base.files import load_arrays
from faultline.base.statistics import wilson_interval
from faultline.run.paths import gather, place_of


def tables(given, *, attacks: dict, masking: float, confidence: float) -> dict[str, pd.DataFrame]:
    """given.accuracy, .checks, .correct: files of attacks on their own and of those evaluated
    together; .history: of each training the last. attacks: their settings; masking: see
    `attack_order`."""
    accuracy, checks = gather(given.accuracy), gather(given.checks)
    _, low, high = wilson_interval(accuracy["correct"], accuracy["n"], confidence=confidence)
    found = list(_hits(given.correct))
    order = attack_order(
        [hits for _, hits in found],
        [place for place, _ in found],
        attacks=attacks,
        masking=masking,
    )
    return {
        "accuracy": accuracy.assign(ci_low=low, ci_high=high),
        "checks": pd.concat([checks, pd.DataFrame(order)], ignore_index=True),
        "history": gather(given.history),
    }


def _hits(paths) -> Iterator[tuple[dict, dict]]:
    """The checkpoint and attack, and eps (text) -> bool [n], of every attack."""
    for path in paths:
        place, found = place_of(path), unpack(load_arrays(path))
        by_attack = {place["attack"]: found} if "attack" in place else split_attacks(found)
        for attack, hits in by_attack.items():
            yield place | {"attack": attack}, hits
