"""The tables of stresses."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.columns import PLACE, RUN
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.base.statistics import mean_interval, paired_mean_interval, wilson_interval

TABLES = {
    "stresses": "accuracy of every checkpoint under every stress, at each severity",
    "stress_losses": "what each stress costs, mean over its severities, with intervals",
    "stress_sets": "how far each stress moves the test images",
}

ALL = "mean of all"
"""In place of a stress: the mean over all of them."""


def tables(
    *, correct: Iterable[str], about: Iterable[str], confidence: float
) -> dict[str, pd.DataFrame]:
    """correct: files of `judge_stresses` of every checkpoint; about: of `stress_set`, of every data
    set and stress."""
    hits = [(place_of(path), unpack(load_arrays(path))) for path in correct]
    return {
        "stresses": accuracies(hits, confidence=confidence),
        "stress_losses": losses(hits, confidence=confidence),
        "stress_sets": gather(about).drop(columns="split", errors="ignore"),
    }


Hits = list[tuple[dict[str, Any], dict[str, np.ndarray]]]
"""The place of each checkpoint, and image set -> bool [n]."""


def accuracies(hits: Hits, *, confidence: float) -> pd.DataFrame:
    """A row per checkpoint, stress and severity; at severity 0 stand the inputs as they are."""
    rows = []
    for place, sets in hits:
        stresses = dict.fromkeys(name.rpartition("@")[0] for name in sets if name != "clean")
        for stress in stresses:
            clean = {f"{stress}@0": sets["clean"]}
            for name, of in (clean | sets).items():
                if name.rpartition("@")[0] == stress:
                    row = {"stress": stress, "severity": int(name.rpartition("@")[2])}
                    rows.append(place | row | {"correct": int(of.sum()), "n": len(of)})
    table = pd.DataFrame(rows, columns=[*PLACE, "stress", "severity", "correct", "n"])
    counts = table["correct"].to_numpy(float), table["n"].to_numpy(float)
    share, low, high = wilson_interval(*counts, confidence=confidence)
    return table.assign(accuracy=share, ci_low=low, ci_high=high)


def losses(hits: Hits, *, confidence: float) -> pd.DataFrame:
    """What each stress, and all of them in the mean, cost: accuracy, mean over severities, minus
    that on the inputs as they are.

    Rows by `level` as of `base.comparison.compare`: of each seed the interval is over images,
    paired (of the changes averaged over severities), of all seeds Student's t over them, with
    image_ci_low and image_ci_high for these very seeds. accuracy and difference are shares.
    """
    groups: dict[tuple, dict[int, dict[str, np.ndarray]]] = {}
    for place, sets in hits:
        key = tuple(place[column] for column in (*RUN, "epoch"))
        groups.setdefault(key, {})[place["seed"]] = _means(sets)
    rows = []
    for key, seeds in groups.items():
        for stress in dict.fromkeys(name for of in seeds.values() for name in of if name):
            changes = {seed: of[stress] - of[""] for seed, of in seeds.items() if stress in of}
            head = dict(zip((*RUN, "epoch"), key, strict=True)) | {"stress": stress}
            for seed, change in changes.items():
                difference, *ends = paired_mean_interval(change, confidence=confidence)
                row = head | {"level": "seed", "seed": seed, "seeds": 1, "n": len(change)}
                row |= {"accuracy": seeds[seed][stress].mean(), "difference": float(difference)}
                rows.append(row | dict(zip(("ci_low", "ci_high"), map(float, ends), strict=True)))
            means = [change.mean() for change in changes.values()]
            mean, low, high = mean_interval(means, confidence=confidence)
            over = np.mean([*changes.values()], axis=0)
            _, image_low, image_high = paired_mean_interval(over, confidence=confidence)
            row = head | {"level": "all seeds", "seed": None, "seeds": len(changes)}
            row |= {"n": len(over), "difference": mean, "ci_low": low, "ci_high": high}
            row["accuracy"] = np.mean([seeds[seed][stress].mean() for seed in changes])
            rows.append(
                row | {"image_ci_low": float(image_low), "image_ci_high": float(image_high)}
            )
    columns = [*RUN, "epoch", "stress", "level", "seed", "seeds", "n", "accuracy", "difference"]
    columns += ["ci_low", "ci_high", "image_ci_low", "image_ci_high"]
    table = pd.DataFrame(rows, columns=columns)
    table["seed"] = table["seed"].astype("Int64")
    return table


def _means(sets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stress -> share of its severities at which each image is right, [n]; of `ALL` the mean over
    stresses, of "" whether it is right as it is."""
    stresses: dict[str, list[np.ndarray]] = {}
    for name, of in sets.items():
        stresses.setdefault(name.rpartition("@")[0], []).append(of)
    means = {stress: np.mean(of, axis=0) for stress, of in stresses.items()}
    others = [of for stress, of in means.items() if stress]
    return means | ({ALL: np.mean(others, axis=0)} if len(others) > 1 else {})
