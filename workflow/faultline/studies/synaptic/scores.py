"""Scores of layers, bands of weights and filters, from the facts of a sweep. No torch.

For the clean and the adversarial accuracy p, q under an ablation, and p0, q0 of the base network:

    S_clean = p/p0 - baseline      S_adv = q/q0 - baseline      S_diff = q/q0 - p/p0

integrated over the normalised threshold for a layer (Pravin et al. 2024). A score is a mean over
images divided by another, so its standard error follows from the images (the delta method, ours).

Every score table has the columns filter, attack ("none" for S_clean), score, value, standard_error,
ci_low, ci_high, p_value (two-sided, of no effect), n (images), untouched (no weight or no
output changed). All but the first three, n and untouched are NaN where the base network
classifies no image correctly.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.integrate import simpson, trapezoid
from scipy.special import ndtr

from faultline.ablation.facts import Facts
from faultline.base.statistics import (
    mcnemar,
    normal_quantile,
    paired_difference_interval,
    pseudo_change,
    wilson_interval,
)

RULES = {"trapezoid": trapezoid, "simpson": simpson}


def integrate(values, grid, *, rule: str) -> np.ndarray:
    """Integral of `values` [T, ...] along axis 0 over the ascending `grid` [T].

    rule: "trapezoid" or "simpson" (any spacing, odd or even T).
    """
    return RULES[rule](np.asarray(values, float), x=np.asarray(grid, float), axis=0)


def layer_scores(
    facts: Facts, *, baseline: str, integration: str, confidence: float
) -> pd.DataFrame:
    """Scores of one layer: one row per synaptic filter x attack x score.

    The synaptic filters are those in the facts, and "combined", their mean. baseline (ours):
    "unfiltered" (1) or "kept_fraction" (the share of the layer's weights that the filter kept).
    The standard error is that of the ratio of two means over the same n images, with half an image
    gained and half an image lost added (see `statistics.pseudo_change`), so that it is never zero.
    """
    sweeps = _sweeps(facts)
    grid = facts.variants["normalised"]

    def mean_last(parts):
        return np.stack([*parts, np.mean(parts, axis=0)])

    def any_last(parts):
        return np.array([*parts, any(parts)])

    def change(images):
        correct, base = facts.correct[images].astype(np.int8), facts.base[images]
        return mean_last(
            [integrate(correct[v] - base, grid[v], rule=integration) for v in sweeps.values()]
        )

    offset = [
        integrate(1 - _baseline(facts, baseline)[v], grid[v], rule=integration)
        for v in sweeps.values()
    ]
    table = _score_table(
        [*sweeps, "combined"],
        change,
        facts.base,
        offset=mean_last(offset),
        touched=any_last([facts.variants["changed_weights"][v].any() for v in sweeps.values()]),
        changed={
            i: any_last([c[v].any() for v in sweeps.values()]) for i, c in facts.changed.items()
        },
        confidence=confidence,
    )
    return table.reset_index(drop=True)


def curves(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """Accuracy over the threshold, ascending, per synaptic filter and image set, with Wilson's
    interval. Columns: filter, images, threshold, normalised, kept, correct (count), n, accuracy,
    ci_low, ci_high, base_accuracy."""
    tables = []
    for name, v in _sweeps(facts).items():
        for images, base in facts.base.items():
            count = facts.correct[images][v].sum(1)
            accuracy, low, high = wilson_interval(count, len(base), confidence=confidence)
            tables.append(
                pd.DataFrame(
                    {
                        "filter": name,
                        "images": images,
                        **{k: facts.variants[k][v] for k in ("threshold", "normalised", "kept")},
                        "correct": count,
                        "n": len(base),
                        "accuracy": accuracy,
                        "ci_low": low,
                        "ci_high": high,
                        "base_accuracy": base.mean(),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def band_scores(facts: Facts, *, baseline: str, confidence: float) -> pd.DataFrame:
    """Scores of the bands of one layer's weights: one row per `pulse` variant x attack x score.

    Further columns: band (0.. in ascending threshold), threshold, low and high (a weight w is in
    the band where low <= w < high), weights (non-zero weights in it). The p-values of S_clean and
    S_adv are McNemar's, exact, for the baseline "unfiltered"; otherwise they are of a z test. Ours.
    """
    v = _sweeps(facts).get("pulse", np.array([], int))
    threshold, weights = (facts.variants[k][v] for k in ("threshold", "changed_weights"))
    half = np.ptp(threshold) / (2 * len(v)) if len(v) else 0.0
    bands = {
        "band": np.arange(len(v)),
        "threshold": threshold,
        "low": threshold - half,
        "high": threshold + half,
        "weights": weights,
    }
    table = _score_table(
        ["pulse"] * len(v),
        lambda images: facts.correct[images][v].astype(np.int8) - facts.base[images],
        facts.base,
        offset=1 - _baseline(facts, baseline)[v],
        touched=weights != 0,
        changed={images: count[v] for images, count in facts.changed.items()},
        confidence=confidence,
        single=True,
    )
    return table.drop(columns=SINGLE).join(pd.DataFrame(bands)).reset_index(drop=True)


def filter_scores(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """Scores of the filters of one layer, from nodal dropout: one row per filter x attack x score.

    The baseline is 1. Further columns, missing for S_diff: lost and gained (images correct only
    before, only after), accuracy_lost (d_i of Pravin et al. 2021 in the rows of S_clean, the
    adversarial accuracy lost in those of S_adv). Up to 512 filters x 10,000 images.
    """
    variants = facts.variants
    table = _score_table(
        variants["filter"],
        lambda images: facts.correct[images].astype(np.int8) - facts.base[images],
        facts.base,
        offset=np.zeros(len(variants["filter"])),
        touched=(variants["changed_weights"] != 0) & (variants["changed_activations"] != 0),
        changed=facts.changed,
        confidence=confidence,
        single=True,
    )
    return table.astype({"lost": "Int64", "gained": "Int64"}).reset_index(drop=True)


SINGLE = ["lost", "gained", "accuracy_lost"]


def _sweeps(facts: Facts) -> dict[str, np.ndarray]:
    """Synaptic filter -> its variants in ascending threshold, however they are stored."""
    names, grid = np.asarray(facts.variants["filter"]), facts.variants["normalised"]
    indices = {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names)}
    return {name: v[np.argsort(grid[v], kind="stable")] for name, v in indices.items()}


def _baseline(facts: Facts, baseline: str) -> np.ndarray:
    kept = np.asarray(facts.variants["kept"], float)
    return {"unfiltered": np.ones_like(kept), "kept_fraction": kept}[baseline]


class _Effect(NamedTuple):
    """A relative change of accuracy: value [F], influence of each image [F, n], and the square
    that `pseudo_change` adds [F]."""

    value: np.ndarray
    influence: np.ndarray
    pseudo: np.ndarray


def _effect(change: np.ndarray, base: np.ndarray) -> _Effect:
    """change [F, n]: of each image's correctness. Working with changes, not with accuracies, makes
    the effect of an ablation that changes nothing exactly zero."""
    p0 = base.mean() or np.nan
    value = change.mean(1) / p0
    influence = (change - value[:, None] * base) / p0
    square = np.square(change, dtype=float).sum(1)
    return _Effect(value, influence, pseudo_change(square, np.count_nonzero(change, 1)) / p0**2)


def _score_table(
    filters,
    change: Callable[[str], np.ndarray],
    base: dict[str, np.ndarray],
    *,
    offset: np.ndarray,
    touched: np.ndarray,
    changed: dict[str, np.ndarray],
    confidence: float,
    single: bool = False,
) -> pd.DataFrame:
    """Rows for each of F `filters` x attack x score; the index is the position in `filters`.

    change:  image set -> change of correctness [F, n], in [-1, 1].
    offset:  [F], the 1 - baseline that S_clean and S_adv carry.
    touched: [F], whether a weight or an activation changed; changed: image set -> [F], whether an
             output did.
    single:  each row is one ablation, so changes are -1, 0 or 1 and exact methods apply.
    """
    tables, z = [], normal_quantile(confidence)

    def add(effect, images, attack, score):
        n, shift = len(base[images[0]]), 0.0 if score == "S_diff" else offset
        value = effect.value + shift
        squares = np.einsum("fn,fn->f", effect.influence, effect.influence)
        error = np.sqrt(squares + effect.pseudo) / (n + 2)
        columns = {
            "filter": filters,
            "attack": attack,
            "score": score,
            "value": value,
            "standard_error": error,
            "ci_low": value - z * error,
            "ci_high": value + z * error,
            "p_value": 2 * ndtr(-np.abs(value / error)),
            "n": n,
        }
        if single:
            columns |= dict.fromkeys(SINGLE, np.nan)
            if score != "S_diff":
                columns |= exact(change(images[0]), base[images[0]].mean() or np.nan, columns)
        columns["untouched"] = ~touched.astype(bool) | ~np.any([changed[i] for i in images], axis=0)
        tables.append(pd.DataFrame(columns))

    def exact(change, p0, columns):
        lost, gained, n = (change < 0).sum(1), (change > 0).sum(1), change.shape[1]
        _, low, high = paired_difference_interval(gained, lost, n, confidence=confidence)
        p_value = np.where(np.isnan(columns["value"]), np.nan, mcnemar(gained, lost))
        return {
            "ci_low": low / p0 + offset,
            "ci_high": high / p0 + offset,
            "p_value": columns["p_value"] if offset.any() else p_value,
            "lost": lost,
            "gained": gained,
            "accuracy_lost": (lost - gained) / n,
        }

    clean = _effect(change("clean"), base["clean"])
    add(clean, ["clean"], "none", "S_clean")
    for attack in base:
        if attack != "clean":
            adversarial = _effect(change(attack), base[attack])
            add(adversarial, [attack], attack, "S_adv")
            difference = _Effect(
                adversarial.value - clean.value,
                adversarial.influence - clean.influence,
                adversarial.pseudo + clean.pseudo,
            )
            add(difference, ["clean", attack], attack, "S_diff")
    return pd.concat(tables).sort_index(kind="stable")
