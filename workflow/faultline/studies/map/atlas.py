"""Where a network breaks under what: its layers, and the filters of one, under every stress, in one
picture each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from faultline.report import canvas, page
from faultline.report.canvas import DARK
from faultline.studies.compression.names import UNDECIDED
from faultline.studies.compression.verdicts import agreed, likely, told
from faultline.studies.map.measures import spearman_interval, spearman_of
from faultline.studies.synaptic.classes import majority

if TYPE_CHECKING:
    from faultline.studies.config import Config

FEWEST = 3
"""Columns that make an atlas; the fault map shows two as well."""

ROW, THIN_ROW, MANY = 0.22, 0.15, 40
"""Height of a row, and of one of more layers than so many."""

SHOWN = 64
"""Filters that are shown of a layer, those that cost most."""

CELL, BAR = 0.46, 0.95
"""Sides of a cell of correlations, and the room for the bar of their colours."""

COLUMNS = ["layer", "column", "class", "sure", "value", "says"]


def atlas_cells(
    layers: pd.DataFrame, compressed: pd.DataFrame, graph: pd.DataFrame, *, loss: float
) -> pd.DataFrame:
    """A row per layer and column: class, sure (whether decided, in every seed), value (mean over
    seeds) and what it says.

    layers, compressed: rows of one run at its last epoch, scores combined over the synaptic
    filters. Layers are in the order of the graph, columns: the score on clean images, under each
    attack and stress, and each form of compression, of which `loss` is too much.
    """
    rows = [*_scored(layers)]
    for (layer, form), of in compressed.groupby(["layer", "form"], sort=False):
        sure, name = agreed(of) != UNDECIDED, likely(of, loss)
        rows.append((layer, form, name, sure, of["difference"].mean(), told(of)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    known = dict.fromkeys(graph["layer"] if len(graph) else ())
    order = {name: place for place, name in enumerate(known) if name}
    place = table["layer"].map(order).fillna(len(order))
    return table.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def _scored(scores: pd.DataFrame) -> Iterator[tuple]:
    """The rows of scores of layers."""
    for (layer, score, attack), of in scores.groupby(["layer", "score", "attack"], sort=False):
        if score == "S_diff":
            continue
        name, unanimous = majority(of.to_dict("records"))
        sure = canvas.is_sure(name, unanimous and of["decided"].all())
        said = f"{score} {page.said_of_seeds(of)}, {name}{'' if sure else ', not decided'}"
        column = "clean" if score == "S_clean" else attack
        yield layer, column, name, sure, of["value"].mean(), said


def filter_cells(filters: pd.DataFrame) -> pd.DataFrame:
    """As `atlas_cells`, a row per filter of the layer of which one costs most, and column.

    filters: scores of filters of one run, at its last epoch, of one seed: the filters of another
    seed are others. At most SHOWN, those that cost most under anything, in their order.
    """
    scored = filters[(filters["score"] != "S_diff") & filters["value"].notna()]
    if not len(scored):
        return pd.DataFrame(columns=COLUMNS)
    layer = scored["layer"].iloc[scored["value"].argmin()]
    own = scored[scored["layer"] == layer]
    worst = own.groupby("filter")["value"].min().nsmallest(SHOWN).index
    own = own[own["filter"].isin(worst)].sort_values("filter", kind="stable")
    named = own.assign(layer=[f"{layer}, filter {of}" for of in own["filter"]])
    return pd.DataFrame(_scored(named), columns=COLUMNS)


def pairs_of(cells: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """The rank correlations between columns of an atlas, over its rows, as `alike` has them."""
    wide = cells.pivot_table(index="layer", columns="column", values="value", sort=False)
    rows = []
    for one, other in combinations(dict.fromkeys(cells["column"]), 2):
        n, value = len(wide[[one, other]].dropna()), spearman_of(wide, one, other)
        low, high = spearman_interval(value, n, confidence=confidence)
        rows.append((one, other, n, value, low, high))
    named = ["measure", "other", "layers", "spearman", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=named).dropna(subset="spearman")


def alike(correlations: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The rank correlations between columns of an atlas, under their names there."""

    def column(measure: str) -> str:
        head, _, attack = measure.partition(" (")
        return "clean" if measure == "S_clean" else attack.rstrip(")") if head == "S_adv" else head

    pairs = correlations.assign(
        measure=correlations["measure"].map(column), other=correlations["other"].map(column)
    )
    there = pairs["measure"].isin(columns) & pairs["other"].isin(columns)
    return pairs[there & pairs["spearman"].notna()]


@canvas.styled
def atlas_figure(cells: pd.DataFrame, pairs: pd.DataFrame, *, units: str = "layers") -> Figure:
    """Layers, or what else the rows are, down, what they are under across, coloured by class, pale
    where not decided; beside it how alike two columns rank them. cells, pairs: see `atlas_cells`,
    `alike`."""
    names, columns = ([*dict.fromkeys(cells[key])] for key in ("layer", "column"))
    known = {*pairs["measure"], *pairs["other"]}
    ranked = [column for column in columns if column in known]
    tall = ROW if len(names) <= MANY else THIN_ROW
    side, left = CELL * max(len(ranked), 1), canvas.label_width(names)
    labels, longest = canvas.label_width(columns), max(map(len, columns))
    free = canvas.MAX_WIDTH - left - labels - side - BAR
    cell = max(0.25, min(0.8, free / len(columns)))
    turned = [0.085 * longest > width for width in (cell, CELL)]
    height = max(tall * len(names), side)
    room = canvas.Room(
        left=left,
        bottom=0.6,
        top=0.1 + (0.08 * longest if any(turned) else 0.2),
        right=BAR,
        gap=(labels, 0),
    )
    fig, axes = canvas.axes_grid([[cell * len(columns), side], [height]], room)
    ax, beside = axes[0]
    for axis, own in ((ax, tall * len(names)), (beside, side)):
        box = axis.get_position()
        share = box.height * own / height
        axis.set_position((box.x0, box.y1 - share, box.width, share))
    colours = np.ones((len(names), len(columns), 3))
    says = np.full((len(names), len(columns)), "not looked at", object)
    for row in cells.to_dict("records"):
        at = names.index(row["layer"]), columns.index(row["column"])
        colours[at] = canvas.class_colour(row["class"], row["sure"])
        says[at] = f"{row['layer']}, {row['column']}: {row['says']}"
        if tall == ROW:
            sign, ink = canvas.class_sign(row["class"], row["sure"]), canvas.ink_on(colours[at])
            canvas.write(ax, at[1], at[0], sign, fontsize=7, color=ink)
    canvas.mesh(ax, colours, names, columns, says=says)
    _on_top(ax, turned=turned[0])
    if tall < ROW:
        ax.tick_params(axis="y", labelsize=6)
    if ranked:
        _matrix(fig, beside, pairs, ranked, units)
        _on_top(beside, turned=turned[1])
    else:
        beside.set_axis_off()
    classes = [name for name in canvas.CLASS_COLOURS if (cells["class"] == name).any()]
    canvas.legend(fig, canvas.class_patches(classes, unsure="{}, not decided"), columns=6)
    return fig


def _on_top(ax, *, turned: bool) -> None:
    ax.xaxis.tick_top()
    if turned:
        ax.tick_params(axis="x", labelrotation=90)


def _matrix(fig, ax, pairs: pd.DataFrame, columns: list[str], units: str) -> None:
    values = np.full((len(columns), len(columns)), np.nan)
    says = np.full(values.shape, "not compared", object)
    for row in pairs.to_dict("records"):
        for one, other in ((row["measure"], row["other"]), (row["other"], row["measure"])):
            at = columns.index(one), columns.index(other)
            values[at] = row["spearman"]
            says[at] = f"{one}, {other}: {_spearman(row)}, n = {row['layers']} {units}"
    scale = Normalize(-1, 1)
    blank = np.isnan(values)[..., None]
    canvas.mesh(
        ax,
        np.where(blank, (1.0, 1.0, 1.0, 1.0), canvas.DIVERGING(scale(values))),
        columns,
        columns,
        says=says,
    )
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if abs(value) > 0.55 else DARK
            canvas.write(ax, x, y, canvas.signed(value), fontsize=7, color=ink)
    canvas.colour_bar(fig, ax, scale, label="Spearman")


def atlas(tables: dict, config: Config) -> page.Section:
    """Layers x stresses, where there are more than a clean and an attacked score."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block | None:
        cells, pairs = _of(tables, part, config)
        if cells["column"].nunique() < FEWEST:
            return None
        figure = page.figure(
            atlas_figure(cells, pairs),
            name=f"atlas-{index}",
            alt=f"Classes of the layers of {run} under every stress",
            caption=f"{run} at epoch {part['epoch'].max()}: {cells['layer'].nunique()} layers, "
            f"from the input down. {page.n(part, config.ablation.split)}; forms of compression: "
            "validation images. Right: rank correlation of each two columns over layers.",
            read="A row is a layer, a column what the network is under while the layer's weights "
            "are removed, threshold by threshold, or, behind these, what becomes of the weights. "
            "Pale with a question mark: not decided in every seed. A row of one colour breaks, or "
            "holds, whatever comes; columns that differ break in different places.",
        )
        columns = {
            **page.same("measure", "other", "layers"),
            "Spearman": ("spearman", page.number),
            f"{config.scores.confidence:.0%} interval": ("ci_low", "ci_high", page.bracket),
            "q-value": ("q_value", page.small),
        }
        table = page.table("How alike", pairs, columns, source="layer_correlations.tsv")
        figures = [figure, *_of_filters(tables["filters"], part, index, run, config)]
        return page.block(run, figures=figures, tables=[table])

    return page.Section(
        "atlas",
        "Where it breaks, under what",
        intro="Does a network break in the same places under attack, under other stresses and in "
        "fewer bits?",
        blocks=page.by_run(_layers(tables), block),
        needs="ablation.stresses, compression.layers",
    )


def _of_filters(
    filters: pd.DataFrame, part: pd.DataFrame, index: int, run: str, config: Config
) -> Iterator[page.Figure]:
    """The filters of one layer under every stress, where they were removed under enough."""
    rows = page.of(filters, part)
    if not len(rows):
        return
    seed = rows["seed"].min()
    rows = canvas.last_epoch(rows[rows["seed"] == seed])
    cells = filter_cells(rows)
    if cells["column"].nunique() < FEWEST:
        return
    layer = cells["layer"].iloc[0].rpartition(", filter ")[0]
    count = rows.loc[rows["layer"] == layer, "filter"].nunique()
    shown = cells["layer"].nunique()
    which = "all" if shown == count else f"the {shown} that cost most of"
    pairs = pairs_of(cells, confidence=config.scores.confidence)
    yield page.figure(
        atlas_figure(cells, pairs, units="filters"),
        name=f"atlas-filters-{index}",
        alt=f"Classes of filters of {layer} of {run} under every stress",
        caption=f"{run}, seed {seed}, at epoch {rows['epoch'].max()}: {which} {count} filters of "
        f"{layer}, of which one costs most. {page.n(rows, config.ablation.split)}. Right: rank "
        "correlation of each two columns over these filters.",
        read="The same of single filters, each removed: is it the same ones that the network can "
        "least do without?",
    )


def atlas_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Whether the columns are alike."""
    for run, part in page.runs(_layers(tables)):
        cells, pairs = _of(tables, part, config)
        if cells["column"].nunique() < FEWEST or not len(pairs):
            continue
        least, most = (pairs.loc[pairs["spearman"].agg(pick)] for pick in ("idxmin", "idxmax"))
        both = cells[cells["sure"] & (cells["class"] == "fragile")].groupby("layer")["column"]
        everywhere = both.nunique()
        always = [*everywhere[everywhere == cells["column"].nunique()].index]
        yield (
            f"In the same places? {run}",
            f"Most alike are {_pair(most)}, least {_pair(least)} (Spearman over "
            f"{cells['layer'].nunique()} layers, {config.scores.confidence:.0%} interval). Fragile "
            f"whatever comes: {page.listed(always) or 'no layer that is decided so'}.",
        )


def _pair(row: pd.Series) -> str:
    return f"{row['measure']} and {row['other']}, {_spearman(row)}"


def _spearman(row: Mapping) -> str:
    """With its interval, where there is one."""
    ends = row["ci_low"], row["ci_high"]
    return f"{page.number(row['spearman'])}{'' if np.isnan(ends[0]) else ' ' + page.bracket(*ends)}"


def _layers(tables: dict) -> pd.DataFrame:
    """The scores of layers, of runs that have any."""
    layers = tables["layers"]
    if not len(layers):
        return layers
    return layers[(layers["scope"] == "local") & (layers["filter"] == "combined")]


def _of(tables: dict, part: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and pairs of a run."""
    compressed = page.of(tables["compression"], part)
    if len(compressed):
        compressed = canvas.last_epoch(compressed)
    else:
        compressed = pd.DataFrame(columns=["layer", "form"])
    graph = page.of(tables["graph"], part, ("dataset", "network"))
    last, loss = canvas.last_epoch(part), config.compression.loss
    cells = atlas_cells(last, compressed, graph, loss=loss)
    pairs = page.of(tables["layer_correlations"], part)
    if not len(pairs):
        return cells, pd.DataFrame(columns=["measure", "other", "spearman"])
    return cells, alike(pairs, [*dict.fromkeys(cells["column"])])
