"""What the fault map shows of the layers: one view per score, weights (those of an epoch, or of a
mend of it) and seed.

A view is small, so that a page holds all of them and `assets/map.js` switches between them; what it
does with one, `drawing` does in Python for the first.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from faultline.base.columns import CLASSES
from faultline.report import page
from faultline.studies.synaptic.classes import majority

LETTERS = dict(zip(CLASSES, "FRAUX", strict=True))
"""Of the classes; small where a class is not decided, "." where there is no score."""

STRIP_ORDER = "FfXURraA"
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
    """views: [score][weights][seed]; seeds begin with "all" where there are several, and end with
    it where the page would else be too large. chosen: the numbers of what is shown first. scale:
    the largest size of a value, in thousandths."""

    layers: list[str]
    scores: list[str]
    weights: list[str]
    seeds: list[str]
    views: list[list[list[View]]]
    chosen: tuple[int, int, int]
    scale: int


def views(
    layers: pd.DataFrame,
    filters: pd.DataFrame,
    mended: pd.DataFrame,
    *,
    names: list[str],
    shown: tuple[str, str],
) -> Views:
    """layers, filters: the tables of one data set, network and training, the scores combined over
    the synaptic filters alone; mended: as layers, of mended networks. names: the layers of the
    network. shown: the score and attack of the first view, of the last epoch."""
    pairs = list(dict.fromkeys(zip(layers["score"], layers["attack"], strict=True)))
    seeds, given = sorted(layers["seed"].unique()), _weights(layers)
    weights = [*given, *(f"{of}, mended" for of in _weights(mended))]
    chosen = ["all", *seeds] if len(seeds) > 1 else seeds
    if len(names) * len(pairs) * len(weights) * len(chosen) > MAX_CELLS:
        chosen = chosen[:1]
    rows, single, after = map(_by, (layers, filters, mended))
    rows |= {(*pair, f"{of}, mended"): part for (*pair, of), part in after.items()}
    every = [
        [
            [
                _view(rows.get((*pair, of), []), single.get((*pair, of), []), names, seed)
                for seed in chosen
            ]
            for of in weights
        ]
        for pair in pairs
    ]
    first = pairs.index(shown) if shown in pairs else 0
    sizes = [abs(v) for of in every for row in of for view in row for v in view.value if v]
    return Views(
        layers=names,
        scores=[score + (f" ({attack})" if attack != "none" else "") for score, attack in pairs],
        weights=weights,
        seeds=[str(seed) for seed in chosen],
        views=every,
        chosen=(first, len(given) - 1, 0),
        scale=max(sizes, default=1),
    )


def views_of(
    tables: Mapping[str, pd.DataFrame], part: pd.DataFrame, nodes: pd.DataFrame, *, attack: str
) -> Views:
    """`views` of a run; part: its rows of the table of layers, combined over the synaptic filters;
    nodes: those of its network in the table of graphs; attack: the scored one."""
    return views(
        part,
        page.of(tables["filters"], part),
        page.of(tables["mended_layers"], part),
        names=[name for name in dict.fromkeys(nodes["layer"]) if name],
        shown=first_view(part, attack),
    )


def first_view(part: pd.DataFrame, attack: str) -> tuple[str, str]:
    """Score and attack of the first view: S_adv under the scored attack if there is any."""
    rows = part[(part["score"] == "S_adv") & (part["attack"] == attack)]
    return ("S_adv", attack) if rows["value"].notna().any() else ("S_clean", "none")


def _weights(table: pd.DataFrame) -> list[str]:
    """What the weights are called that a table tells of, in their order."""
    return [f"epoch {epoch}" for epoch in sorted(table["epoch"].unique())] if len(table) else []


def _by(table: pd.DataFrame) -> dict[tuple, list[dict]]:
    """The rows of a table by score, attack and weights."""
    rows: dict[tuple, list[dict]] = {}
    for row in table.to_dict("records"):
        of = row["score"], row["attack"], f"epoch {row['epoch']}"
        rows.setdefault(of, []).append(row)
    return rows


def _view(layers: list[dict], filters: list[dict], names: list[str], seed) -> View:
    whole, place = seed == "all", {name: i for i, name in enumerate(names)}
    rows: dict[str, list[dict]] = {name: [] for name in names}
    for row in layers:
        if (whole or row["seed"] == seed) and row["layer"] in rows:
            rows[row["layer"]].append(row)
    strips: dict[int, list[int]] = {}
    for row in filters:
        if (whole or row["seed"] == seed) and row["layer"] in place:
            counts = strips.setdefault(place[row["layer"]], [0] * len(STRIP_ORDER))
            counts[STRIP_ORDER.index(letter(row["class"], row["decided"]))] += 1
    cells = [_cell(of, whole) for of in rows.values()]
    n = sorted({row["n"] for of in rows.values() for row in of})
    seeds = len({row["seed"] for row in layers})
    return View(
        value=[cell[0] for cell in cells],
        low=[cell[1] for cell in cells],
        high=[cell[2] for cell in cells],
        classes="".join(cell[3] for cell in cells),
        strips=dict(sorted(strips.items())),
        n=(f"mean and range of {seeds} seeds, {_n(n)} each" if whole else _n(n)) if n else "",
    )


def _n(counts: list[int]) -> str:
    low, high = counts[0], counts[-1]
    return f"{low:,} images" if low == high else f"{low:,} to {high:,} images"


def _cell(rows: list[dict], whole: bool):
    """(value, low, high, letter) of a layer: over seeds mean and range, else with its interval."""
    if not rows:
        return None, None, None, "."
    if not whole:
        (row,) = rows
        ends = row["value"], row["ci_low"], row["ci_high"]
        return *map(_thousandths, ends), letter(row["class"], row["decided"])
    name, unanimous = majority(rows)
    values = [row["value"] for row in rows if not math.isnan(row["value"])]
    ends = (sum(values) / len(values), min(values), max(values)) if values else (math.nan,) * 3
    return *map(_thousandths, ends), letter(name, unanimous and all(r["decided"] for r in rows))


def letter(name: str, decided) -> str:
    """The letter of a class, in lower case where it is not decided."""
    sure = decided or name in ("untouched", "undefined")
    return LETTERS[name] if sure else LETTERS[name].lower()


def _thousandths(value: float) -> int | None:
    return None if math.isnan(value) else round(1000 * value)
