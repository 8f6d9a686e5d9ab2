"""Policies compared with a reference and a control, image by image and seed by seed. No torch."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from faultline.base.columns import CONTROL, RUN, policy_of
from faultline.base.statistics import (
    POWER,
    benjamini_hochberg,
    both_power,
    difference_interval,
    holm,
    least_told,
    mcnemar,
    mcnemar_power,
    mean_interval,
    mean_p_value,
    normal_quantile,
    paired_mean_interval,
    pseudo_change,
)

COLUMNS = [
    *("policy", "reference", "level", "seed", "seeds", "draws", "n", "changed"),
    *("accuracy", "reference_accuracy"),
    *("difference", "ci_low", "ci_high", "p_value", "image_ci_low", "image_ci_high", "detectable"),
]

CONTROLLED = ("selective", "fragile")


def compare(
    correctness: dict[Hashable, dict[str, np.ndarray]],
    *,
    reference: str = "regular",
    confidence: float,
    pairs: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Accuracy of each policy less that of the reference, paired by seed and by image (ours);
    behind these, of each in CONTROLLED less that of CONTROL. pairs: only these, (policy,
    reference) each.

    correctness: seed -> policy -> bool [n], images classified correctly, the same n images for all.
    Policies called "random-0", "random-1", ... are draws of one policy, "random", which may be the
    reference (so are "matched-0", ...): their mean is taken image by image. A seed without the
    reference, and a policy in no other seed, is left out.

    Rows, by `level`:
    - "seed": one per policy and seed. ci_low and ci_high are the interval over images (Agresti &
      Min 2005), p_value McNemar's, exact. Where draws make the changes of images shares, it is the
      same interval on the changes, and its z test.
    - "all seeds": one per policy. difference is the mean over seeds; ci_low, ci_high and p_value
      are Student's t over seeds (NaN for one seed, which says nothing of others, and for equal
      ones); image_ci_low and image_ci_high are the interval over images of the changes averaged
      over these very seeds.

    detectable is the smallest true difference that such a spread lets be told from 0 with 80 %
    power: of one seed by McNemar's test (`mcnemar_power`), or the z test; of all seeds by both
    intervals at once (`both_power`). Infinite where accuracy cannot differ by as much from that of
    the reference, up or down.

    Columns: see COLUMNS; accuracies and differences are shares, draws those of either policy.
    changed: images of which one policy alone is right; NaN where draws make shares of it.
    """
    seeds = {seed: _draws(of) for seed, of in correctness.items()}
    if not pairs:
        seeds = {seed: of for seed, of in seeds.items() if reference in of}
        policies = dict.fromkeys(p for of in seeds.values() for p in of if p != reference)
        controlled = [(policy, CONTROL) for policy in policies if policy in CONTROLLED]
        pairs = [*((policy, reference) for policy in policies), *controlled]
    rows = [row for pair in pairs for row in _compared(seeds, *pair, confidence=confidence)]
    return _tabulated(rows, confidence=confidence)


def compare_apart(
    counts: dict[Hashable, dict[str, tuple[int, int]]],
    *,
    policy: str,
    reference: str,
    confidence: float,
) -> pd.DataFrame:
    """As `compare`, of two policies that were judged on images of their own (ours).

    counts: seed -> policy -> (images classified correctly, of how many). The interval of a seed is
    Newcombe's (1998), p_value Fisher's, exact. That over images for all seeds is Newcombe's on the
    mean accuracies, as if of one network: at most too wide. n is the smaller number of images;
    detectable, of one seed, is that of a z test, of which Fisher's tells less.
    """
    from scipy.stats import fisher_exact  # slow to import, and for few stages only

    rows: list[dict[str, Any]] = []
    pair = {"policy": policy, "reference": reference, "draws": 1}
    for seed, of in counts.items():
        (right, total), (hits, n) = of[reference], of[policy]
        interval = difference_interval(right / total, hits / n, total, n, confidence=confidence)
        p_value = float(fisher_exact([[hits, n - hits], [right, total - right]])[1])
        estimate = tuple(map(float, interval))
        rows.append(pair | _of_seed(seed, min(n, total), right / total, estimate, p_value))
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    base, n_base = (np.array([of[reference][i] for of in counts.values()]) for i in (0, 1))
    differences = [row["difference"] for row in rows]
    difference, low, high = mean_interval(differences, confidence=confidence)
    before = np.mean(base / n_base)
    sizes = n_base.min(), min(of[policy][1] for of in counts.values())
    _, image_low, image_high = difference_interval(
        before, before + difference, *sizes, confidence=confidence
    )
    whole = {
        "level": "all seeds",
        "seeds": len(rows),
        "draws": len(rows),
        "n": min(sizes),
        "reference_accuracy": before,
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "p_value": mean_p_value(differences),
        "image_ci_low": float(image_low),
        "image_ci_high": float(image_high),
    }
    return _tabulated([*rows, pair | whole], confidence=confidence)


def _tabulated(rows: Sequence[dict[str, Any]], *, confidence: float) -> pd.DataFrame:
    """Rows of `compare` as a table, with what follows from the others."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["seed"] = pd.Series([row.get("seed") for row in rows], dtype=object)
    table["accuracy"] = table["reference_accuracy"] + table["difference"]
    table["changed"] = table["changed"].astype("Int64")
    for _, of_level in table.groupby("level"):
        table.loc[of_level.index, "detectable"] = _detectable(of_level, confidence=confidence)
    return table


def _of_seed(
    seed: Hashable,
    n: int,
    reference_accuracy: float,
    estimate: Sequence[Any],
    p_value: float,
) -> dict[str, Any]:
    """A row of one seed; estimate: (difference, low, high)."""
    return {
        "level": "seed",
        "seed": seed,
        "seeds": 1,
        "n": n,
        "reference_accuracy": reference_accuracy,
        **dict(zip(("difference", "ci_low", "ci_high"), estimate, strict=True)),
        "p_value": p_value,
    }


def _compared(
    seeds: Mapping[Hashable, Mapping[str, list[np.ndarray]]],
    policy: str,
    reference: str,
    *,
    confidence: float,
) -> list[dict[str, Any]]:
    """The rows of one pair of policies; seeds: seed -> policy -> draws, bool [n] each."""
    there = [seed for seed, of in seeds.items() if policy in of and reference in of]
    if not there:
        return []
    base = {seed: np.mean(seeds[seed][reference], axis=0) for seed in there}
    changes = np.stack([np.mean(seeds[seed][policy], axis=0) - base[seed] for seed in there])
    draws = [max(len(seeds[seed][name]) for name in (policy, reference)) for seed in there]
    pair: dict[str, Any] = {"policy": policy, "reference": reference}
    rows: list[dict[str, Any]] = []
    for seed, count, change in zip(there, draws, changes, strict=True):
        estimate = change.mean(), *paired_mean_interval(change, confidence=confidence)[1:]
        of_seed = _of_seed(seed, len(change), base[seed].mean(), estimate, _p_over_images(change))
        changed = np.count_nonzero(change) if _whole(change) else np.nan
        rows.append(pair | of_seed | {"draws": count, "changed": changed})
    difference, low, high = mean_interval(changes.mean(1), confidence=confidence)
    _, image_low, image_high = paired_mean_interval(changes.mean(0), confidence=confidence)
    whole = {
        "level": "all seeds",
        "seeds": len(there),
        "draws": sum(draws),
        "n": changes.shape[1],
        "changed": sum(row["changed"] for row in rows),
        "reference_accuracy": np.mean([base[seed].mean() for seed in there]),
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "p_value": mean_p_value(changes.mean(1)),
        "image_ci_low": image_low,
        "image_ci_high": image_high,
    }
    return [*rows, pair | whole]


def _detectable(table: pd.DataFrame, *, confidence: float, compared: int = 1) -> np.ndarray:
    """Of rows of one level, in a test at 1 - confidence over `compared`; see `compare`."""
    level, z = (1 - confidence) / compared, normal_quantile(confidence)
    reference = table["reference_accuracy"].to_numpy(float)
    highest = np.maximum(reference, 1 - reference)

    def half(low: str, high: str) -> np.ndarray:
        return np.asarray((table[high].to_numpy(float) - table[low].to_numpy(float)) / 2)

    if (table["level"] == "seed").all():
        over_images = half("ci_low", "ci_high") / z
        detectable: np.ndarray = over_images * (normal_quantile(1 - level) + ndtri(POWER))
        detectable[detectable > highest] = np.inf
        paired = table["changed"].notna().to_numpy()
        changed, n = (table.loc[paired, column].to_numpy(float) for column in ("changed", "n"))
        of_one = partial(mcnemar_power, level=level)
        detectable[paired] = least_told(of_one, highest[paired], changed, n)
        return detectable
    several = table["seeds"].to_numpy() > 1
    table, highest, detectable = table[several], highest[several], np.full(len(table), np.nan)
    seeds = table["seeds"].to_numpy(float)
    student = stdtrit(seeds - 1, (1 + confidence) / 2)
    over_seeds = np.nan_to_num(half("ci_low", "ci_high") / student)  # 0 where seeds agree
    over_images = half("image_ci_low", "image_ci_high") / z
    of_all = partial(both_power, confidence=confidence, level=level)
    detectable[several] = least_told(of_all, highest, over_seeds, over_images, seeds)
    return detectable


def _draws(policies: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    draws: dict[str, list[np.ndarray]] = {}
    for name, correct in policies.items():
        draws.setdefault(policy_of(name), []).append(correct)
    return draws


def _whole(change: np.ndarray) -> bool:
    """Whether no draws make shares of the changes of images."""
    return bool(np.isin(change, (-1, 0, 1)).all())


def _p_over_images(change: np.ndarray) -> float:
    gained, lost = np.count_nonzero(change > 0), np.count_nonzero(change < 0)
    if _whole(change):
        return float(mcnemar(gained, lost))
    squares = change @ change
    squares += pseudo_change(squares, int(gained + lost))
    total = change.sum()
    return float(2 * ndtr(-abs(total) / np.sqrt(squares - total**2 / (len(change) + 2))))


def compare_policies(
    correct: Sequence[Mapping[str, np.ndarray]],
    places: Sequence[Mapping[str, Any]],
    *,
    confidence: float,
    reference: str = "regular",
    pairs: Sequence[tuple[str, str]] = (),
    tests: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """The policies of retraining or of the remedy as `compare` does, checkpoint by checkpoint.

    correct: image set -> bool [n] under one policy; places: its checkpoint and policy. A further
    column, q_value: p_value corrected (Benjamini-Hochberg) for all rows of the same level;
    detectable is what the correction asks of a lone difference among them. pairs: see `compare`;
    tests: (policy, reference) of each test, where these are fixed beforehand: there is no other
    row, none of clean images, and the correction is Holm's.
    """
    groups: dict[tuple[Any, ...], dict[Hashable, dict[str, np.ndarray]]] = {}
    for hits, place in zip(correct, places, strict=True):
        for images, vector in hits.items():
            if tests and images == "clean":
                continue
            key = (*(place[column] for column in RUN), place["epoch"], images)
            groups.setdefault(key, {}).setdefault(place["seed"], {})[place["policy"]] = vector
    tables = []
    for key, by_seed in groups.items():
        table = compare(by_seed, reference=reference, confidence=confidence, pairs=pairs or tests)
        for position, column in enumerate([*RUN, "epoch", "images"]):
            table.insert(position, column, key[position])
        tables.append(table)
    if not tables:
        return pd.DataFrame(columns=["policy"])
    correction = holm if tests else benjamini_hochberg
    whole = pd.concat(tables, ignore_index=True)
    return with_correction(whole, confidence=confidence, correction=correction)


def with_correction(
    table: pd.DataFrame,
    *,
    confidence: float,
    correction: Callable[[ArrayLike], np.ndarray] = benjamini_hochberg,
) -> pd.DataFrame:
    """Rows of `compare` with q_value and detectable as in `compare_policies`."""
    table = table.copy()
    table.insert([*table].index("p_value") + 1, "q_value", np.nan)
    for _, rows in table.groupby("level"):
        compared = max(rows["p_value"].count(), 1)
        detectable = _detectable(rows, confidence=confidence, compared=compared)
        table.loc[rows.index, "q_value"] = correction(rows["p_value"])
        table.loc[rows.index, "detectable"] = detectable
    return table
