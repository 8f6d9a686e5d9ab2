"""The truth that criteria are to predict: the accuracy lost when a layer or filter is removed."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import nn

from faultline.ablation.facts import Facts
from faultline.ablation.variants import Mask, Variant, nodal_variants
from faultline.base.seeds import seed_of
from faultline.base.statistics import paired_difference_interval, wilson_interval
from faultline.networks.layers import filters

WHOLE = -1
"""In place of a filter's index: the whole layer."""


def removal_variants(name: str, layer: nn.Module, *, most: int | None = None) -> Iterator[Variant]:
    """A layer without all of its units, then without each: their weights and biases are 0.

    most: of a layer with more units, so many are removed one by one, drawn by the layer's name and
    so the same in every seed.
    """
    everything = Mask(name, tuple(range(filters(layer))), "weights")
    yield Variant({"filter": WHOLE, "changed_weights": -1}, key=everything, mask=everything)
    units: Sequence[int] = range(filters(layer))
    if most is not None and most < len(units):
        rng = np.random.default_rng(seed_of("removed", name))
        units = sorted(map(int, rng.choice(len(units), most, replace=False)))
    yield from nodal_variants(name, layer, filters=units, at="weights")


def losses(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """A row per image set and unit removed; filter is missing where it is the whole layer.

    Columns: filter, images, correct, n, accuracy, base_accuracy, loss (share of the images, base
    less accuracy), ci_low and ci_high (paired, Agresti & Min 2005), loss_even and loss_odd (the
    same of every other image and of the rest), above_chance: whether the accuracy of the whole
    network is (Wilson's interval lies above); else nothing can be lost.
    """
    parts = []
    for images, hits in facts.correct.items():
        base, n = facts.base[images], hits.shape[1]
        lost, gained = (base & ~hits).sum(1), (~base & hits).sum(1)
        loss, low, high = paired_difference_interval(lost, gained, n, confidence=confidence)
        floor = wilson_interval(base.sum(), n, confidence=confidence)[1]
        columns = {
            "filter": pd.array(facts.variants["filter"], "Int64"),
            "images": images,
            "correct": hits.sum(1),
            "n": n,
            "accuracy": hits.mean(1),
            "base_accuracy": base.mean(),
            "loss": loss,
            "ci_low": low,
            "ci_high": high,
            "loss_even": base[::2].mean() - hits[:, ::2].mean(1),
            "loss_odd": base[1::2].mean() - hits[:, 1::2].mean(1),
            "above_chance": floor > facts.chance,
        }
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts, ignore_index=True)
    table["filter"] = table["filter"].mask(table["filter"] == WHOLE)
    return table
