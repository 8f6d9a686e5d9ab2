"""What the fault map shows of the layers: one view per score, epoch and seed.

A view is small, so that a page holds all of them and `assets/map.js` switches between them; what it
does with one, `drawing` does in Python for the first.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from faultline.base.columns import CLASSES
from faultline.report import page

LETTERS = dict(zip(CLASSES, "FRAUX", strict=True))
"""Of the classes; small where a class is not decided, "." where there is no score."""

STRIP_ORDER = "FfXURrAa"
"""In which the filters of a layer stand beside each other, the fragile ones first."""

MAX_CELLS = 6000
"""Layers times views that a page holds; where there are more, only those over all seeds."""


class View(NamedTuple):
    """value, low, high: of each layer in thousandths, None where undefined. classes: a letter
    each. strips: layer number -> counts of its filters' classes in STRIP_ORDER. n: what stands
    behind it, in words."""

    value: list[int | None]
    low: list[int | None]
    high: list[int | None]
    classes: str
    strips: dict[int, list[int]]
    n: str


class Views(NamedTuple):
    """views: [score][epoch][seed]; seeds begin with "all" where there are several, and end with it
    where the page would else be too large. chosen: the numbers of what is shown first. scale: the
    largest size of a value, in thousandths."""

    layers: list[str]
    scores: list[str]
    epochs: list[int]
    seeds: list[str]
    views: list[list[list[View]]]
    chosen: tuple[int, int, int]
    scale: int


def views(
    layers: pd.DataFrame, filters: pd.DataFrame, *, names: list[str], shown: tuple[str, str], split
) -> Views:
    """layers, filters: the tables of one data set, network and training, the scores combined over
    the synaptic filters alone. names: the layers of the network. shown: the score and attack of the
    first view, of the last epoch. split: of the images, in words."""
    pairs = list(dict.fromkeys(zip(layers["score"], layers["attack"], strict=True)))
    epochs, seeds = sorted(layers["epoch"].unique()), sorted(layers["seed"].unique())
    chosen = ["all", *seeds] if len(seeds) > 1 else seeds
    if len(names) * len(pairs) * len(epochs) * len(chosen) > MAX_CELLS:
        chosen = chosen[:1]
    of_layers = dict(list(layers.groupby(["score", "attack", "epoch"])))
    of_filters = dict(list(filters.groupby(["score", "attack", "epoch"]))) if len(filters) else {}
    made = []
    for pair in pairs:
        made.append([])
        for epoch in epochs:
            found, single = (of.get((*pair, epoch)) for of in (of_layers, of_filters))
            row = [_view(found, single, names, seed, split) for seed in chosen]
            made[-1].append(row)
    first = pairs.index(shown) if shown in pairs else 0
    sizes = [abs(v) for of in made for row in of for view in row for v in view.value if v]
    return Views(
        layers=names,
        scores=[score + (f" ({attack})" if attack != "none" else "") for score, attack in pairs],
        epochs=[int(epoch) for epoch in epochs],
        seeds=[str(seed) for seed in chosen],
        views=made,
        chosen=(first, len(epochs) - 1, 0),
        scale=max(sizes, default=1),
    )


def _view(layers, filters, names: list[str], seed, split: str) -> View:
    whole = seed == "all"
    if layers is None:
        return View([None] * len(names), [None] * len(names), [None] * len(names), "", {}, "")
    if not whole:
        layers = layers[layers["seed"] == seed]
        filters = None if filters is None else filters[filters["seed"] == seed]
    rows, cells = dict(list(layers.groupby("layer"))), []
    for name in names:
        cells.append(_cell(rows.get(name), whole))
    strips = {}
    for name, part in filters.groupby("layer") if filters is not None else ():
        if name in names:
            letters = [letter(*pair) for pair in zip(part["class"], part["decided"], strict=True)]
            strips[names.index(name)] = [letters.count(one) for one in STRIP_ORDER]
    n = page.images(layers, split)
    count = layers["seed"].nunique()
    value, low, high, classes = zip(*cells, strict=True) if cells else ((), (), (), ())
    return View(
        value=list(value),
        low=list(low),
        high=list(high),
        classes="".join(classes),
        strips=strips,
        n=f"mean and range of {count} seeds, {n} each" if whole else n,
    )


def _cell(rows: pd.DataFrame | None, whole: bool):
    """(value, low, high, letter) of a layer: over seeds mean and range, else with its interval."""
    if rows is None:
        return None, None, None, "."
    if not whole:
        (row,) = rows.to_dict("records")
        ends = row["value"], row["ci_low"], row["ci_high"]
        return *map(_thousandths, ends), letter(row["class"], row["decided"])
    name, unanimous = majority(rows)
    value = rows["value"]
    ends = value.mean(), value.min(), value.max()
    return *map(_thousandths, ends), letter(name, unanimous and rows["decided"].all())


def majority(rows: pd.DataFrame) -> tuple[str, bool]:
    """(class that most seeds give a layer, whether all do); of several that as many seeds give, the
    class of the mean score."""
    counts = rows["class"].value_counts()
    most = [name for name in CLASSES if counts.get(name, 0) == counts.max()]
    if len(most) > 1:
        mean, tau = rows["value"].mean(), rows["tau"].iloc[0]
        of_mean = "fragile" if mean < -tau else "antifragile" if mean > tau else "robust"
        most = [of_mean] if of_mean in most else most
    return most[0], len(counts) == 1


def letter(name: str, decided) -> str:
    sure = decided or name in ("untouched", "undefined")
    return LETTERS[name] if sure else LETTERS[name].lower()


def _thousandths(value: float) -> int | None:
    return None if value is None or math.isnan(value) else int(np.rint(1000 * value))
