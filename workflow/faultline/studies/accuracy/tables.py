"""The tables of accuracy, of self-checks and of training."""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pandas as pd

from faultline.ablation.facts import unpack
from faultline.attacks.checks import attack_order, split_attacks
from faultline.attacks.worst import worst_case, worst_cases
from faultline.base.columns import PLACE
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.base.statistics import wilson_interval

TABLES = {
    "accuracy": "accuracy of every checkpoint under every attack, and in the worst case, over eps",
    "checks": "self-checks of the attacks",
    "history": "loss and accuracy of every training epoch",
}


def tables(
    *,
    accuracy: Iterable[str],
    checks: Iterable[str],
    correct: Iterable[str],
    history: Iterable[str],
    attacks: dict,
    judges: Collection[str],
    masking: float,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """accuracy, checks, correct: files of attacks on their own and of those evaluated together;
    history: of each training the last. attacks: their settings; judges, masking: see
    `attack_order`. The column `over` of the accuracy names the attacks of a worst case."""
    alone = gather(accuracy)
    places, hits = [], []
    for place, of_attack in _hits(correct):
        places.append(place)
        hits.append(of_attack)
    order = attack_order(hits, places, attacks=attacks, masking=masking, judges=judges)
    worst = worst_rows(alone, hits, places, attacks=attacks)
    table = pd.concat([alone.assign(over=""), worst], ignore_index=True)
    _, low, high = wilson_interval(table["correct"], table["n"], confidence=confidence)
    return {
        "accuracy": table.assign(ci_low=low, ci_high=high),
        "checks": pd.concat([gather(checks), pd.DataFrame(order)], ignore_index=True),
        "history": gather(history),
    }


def worst_rows(
    accuracy: pd.DataFrame, correct: list[dict], places: list[dict], *, attacks: dict
) -> pd.DataFrame:
    """Rows of the table of accuracies for the worst case over attacks, named instead of an attack.

    correct: eps (as text) -> bool [n] of one attack on one checkpoint; places: the checkpoint and
    the attack of each.
    """
    checkpoints: dict[tuple, dict[str, dict[str, np.ndarray]]] = {}
    for by_eps, place in zip(correct, places, strict=True):
        key = tuple(place[column] for column in PLACE)
        checkpoints.setdefault(key, {})[place["attack"]] = by_eps
    sizes = {f"{eps:g}": eps for eps in accuracy["eps"]} if len(accuracy) else {}
    rows = []
    for key, by_attack in checkpoints.items():
        for worst, names in worst_cases(attacks).items():
            chosen = {name: by_attack[name] for name in names if name in by_attack}
            for eps, (over, hits) in worst_case(chosen).items():
                row = dict(zip(PLACE, key, strict=True)) | {"attack": worst, "eps": sizes[eps]}
                row |= {"correct": np.count_nonzero(hits), "n": len(hits)}
                rows.append(row | {"accuracy": hits.mean(), "over": ", ".join(over)})
    return pd.DataFrame(rows)


def _hits(paths) -> Iterator[tuple[dict, dict]]:
    """The checkpoint and attack, and eps (text) -> bool [n], of every attack."""
    for path in paths:
        place, correct = place_of(path), unpack(load_arrays(path))
        by_attack = {place["attack"]: correct} if "attack" in place else split_attacks(correct)
        for attack, hits in by_attack.items():
            yield place | {"attack": attack}, hits
