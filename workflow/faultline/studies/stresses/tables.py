"""The tables of stresses."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.columns import PLACE, RUN
from faultline.base.comparison import compare, compare_apart, with_correction
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.base.statistics import wilson_interval
from faultline.studies.stresses.names import ALL, FURTHER

TABLES = {
    "stresses": "accuracy of every checkpoint under every stress, at each severity",
    "stress_losses": "what each stress costs, mean over its severities, with intervals",
    "stress_sets": "how far each stress moves the test images",
}

COLUMNS = [*RUN, "epoch", "stress", "level", "seed", "seeds", "n", "accuracy", "difference"]
COLUMNS += ["ci_low", "ci_high", "p_value", "q_value", "image_ci_low", "image_ci_high"]
COLUMNS += ["detectable"]


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
    """A row per checkpoint, stress and severity; at severity 0 stand the inputs as they are. A
    further test set stands as a stress of severity 1."""
    rows = []
    for place, sets in hits:
        stresses = dict.fromkeys(name.rpartition("@")[0] for name in sets if name != "clean")
        for stress in stresses:
            clean = {f"{stress}@0": sets["clean"]}
            for name, of in (clean | sets).items():
                if name.rpartition("@")[0] == stress:
                    severity = 1 if name.endswith(FURTHER) else int(name.rpartition("@")[2])
                    row = {"stress": stress, "severity": severity}
                    rows.append(place | row | {"correct": int(of.sum()), "n": len(of)})
    table = pd.DataFrame(rows, columns=[*PLACE, "stress", "severity", "correct", "n"])
    counts = table["correct"].to_numpy(float), table["n"].to_numpy(float)
    share, low, high = wilson_interval(*counts, confidence=confidence)
    return table.assign(accuracy=share, ci_low=low, ci_high=high)


def losses(hits: Hits, *, confidence: float) -> pd.DataFrame:
    """What each stress, and all of them in the mean, cost: accuracy, mean over severities, minus
    that on the inputs as they are, as `base.comparison.compare` does, paired image by image; of a
    further test set as `compare_apart`. q_value: corrected for all rows of the same level.
    """
    groups: dict[tuple, dict[Hashable, dict[str, np.ndarray]]] = {}
    for place, sets in hits:
        key = tuple(place[column] for column in (*RUN, "epoch"))
        groups.setdefault(key, {})[place["seed"]] = sets
    parts = []
    for key, seeds in groups.items():
        means = {seed: _means(sets) for seed, sets in seeds.items()}
        found = [compare(means, reference="clean", confidence=confidence)]
        further = {name for sets in seeds.values() for name in sets if name.endswith(FURTHER)}
        for name in sorted(further):
            counts: dict[Hashable, dict[str, tuple[int, int]]] = {
                seed: {of: (int(sets[of].sum()), len(sets[of])) for of in ("clean", name)}
                for seed, sets in seeds.items()
                if name in sets
            }
            apart = compare_apart(counts, policy=name, reference="clean", confidence=confidence)
            found.append(apart.assign(policy=name.removesuffix(FURTHER)))
        for table in found:
            for position, (column, value) in enumerate(zip((*RUN, "epoch"), key, strict=True)):
                table.insert(position, column, value)
        parts += [table for table in found if len(table)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    whole = pd.concat(parts, ignore_index=True).rename(columns={"policy": "stress"})
    whole = with_correction(whole, confidence=confidence)[COLUMNS]
    return whole.assign(seed=whole["seed"].astype("Int64"))


def _means(sets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stress -> share of its severities at which each image is right, [n]; of `ALL` the mean over
    stresses, of "clean" whether it is right as it is."""
    stresses: dict[str, list[np.ndarray]] = {}
    for name, of in sets.items():
        if not name.endswith(FURTHER):
            stresses.setdefault(name.rpartition("@")[0] or "clean", []).append(of)
    means = {stress: np.mean(of, axis=0) for stress, of in stresses.items()}
    others = [of for stress, of in means.items() if stress != "clean"]
    return means | ({ALL: np.mean(others, axis=0)} if len(others) > 1 else {})
