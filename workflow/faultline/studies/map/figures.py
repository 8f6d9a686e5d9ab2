"""The pictures of all methods side by side. Sizes are in inches."""

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from faultline.report.canvas import (
    DIVERGING,
    MAX_WIDTH,
    axes_grid,
    cell_width,
    colour_bar,
    label_width,
    mesh,
    signed,
    styled,
)
from faultline.report.page import number, said_of_seeds, small
from faultline.studies.map.measures import CONTROLS, ranks

UNKNOWN = (1.0, 1.0, 1.0, 1.0)


@styled
def rank_map(measures: pd.DataFrame) -> Figure:
    """Ranks of the layers of one run by every measure, sorted by the first; controls apart.

    measures: see `measures.layer_measures`. A cell says the rank and has its colour; white: the
    measure does not know the layer.
    """
    table = ranks(measures)
    table = table.sort_values(table.columns[0], kind="stable")
    groups = [[c for c in table if c not in CONTROLS], [c for c in table if c in CONTROLS]]
    groups = [group for group in groups if group]
    names = list(table.index)
    widest = max(0.62, min(1.0, 0.075 * max(len(part) for c in table for part in _lines(c))))
    cell = cell_width(len(table.columns), names, gap=0.45, widest=widest)
    fig, axes = axes_grid(
        [[cell * len(group) for group in groups], [0.22 * len(names)]],
        left=label_width(names),
        bottom=0.1,
        top=0.62,
        gap=(0.25, 0),
        least=5.0,
    )
    scale = Normalize(1, max(len(names), 2))
    for index, (ax, group) in enumerate(zip(axes[0], groups, strict=True)):
        found = table[group].to_numpy(float)
        colours = np.where(np.isnan(found)[..., None], UNKNOWN, DIVERGING(scale(found)))
        says = [
            [f"{y}, {x}: {_ranked(table[x][y], measures, (y, x))}" for x in group] for y in names
        ]
        mesh(ax, colours, names, group, title="", xlabel="", says=says)
        ax.set_xticks(np.arange(len(group)) + 0.5, ["\n".join(_lines(name)) for name in group])
        ax.xaxis.tick_top()
        ax.tick_params(length=0, labelleft=index == 0)
        _write(ax, found, scale, "{:g}".format)
    return fig


def _ranked(rank: float, measures: pd.DataFrame, cell: tuple[str, str]) -> str:
    of = measures[(measures["layer"] == cell[0]) & (measures["measure"] == cell[1])]
    return "not known" if np.isnan(rank) else f"rank {rank:g}, {said_of_seeds(of)}"


@styled
def correlation_map(correlations: pd.DataFrame, *, level: float) -> Figure:
    """Spearman's rank correlations of one run: methods down, methods and controls across.

    A star: q_value below `level`.
    """
    order = list(dict.fromkeys([*correlations["measure"], *correlations["other"]]))
    down = [name for name in order if name not in CONTROLS]
    across = [*down, *(name for name in CONTROLS if name in order)]
    found = np.full((len(down), len(across)), np.nan)
    sure = np.zeros(found.shape, bool)
    says = np.full(found.shape, "not compared", object)
    for row in correlations.to_dict("records"):
        for one, other in ((row["measure"], row["other"]), (row["other"], row["measure"])):
            if one in down:
                at = down.index(one), across.index(other)
                found[at], sure[at] = row["spearman"], row["q_value"] < level
                says[at] = f"{one}, {other}: {number(row['spearman'])}, " + _seeds_said(row)
    cell = min(0.85, (MAX_WIDTH - label_width(down) - 1.2) / len(across))
    fig, axes = axes_grid(
        [[cell * len(across)], [0.34 * len(down)]],
        left=label_width(down),
        right=0.95,
        bottom=0.1,
        top=0.62,
        least=5.0,
    )
    ax, scale = axes[0][0], Normalize(-1, 1)
    colours = np.where(np.isnan(found)[..., None], UNKNOWN, DIVERGING(scale(found)))
    mesh(ax, colours, down, across, title="", xlabel="", says=says)
    ax.set_xticks(np.arange(len(across)) + 0.5, ["\n".join(_lines(name)) for name in across])
    ax.xaxis.tick_top()
    ax.axvline(len(down), color="#1f2937", lw=1.2)
    _write(ax, found, scale, signed, sure)
    colour_bar(fig, ax, scale, label="Spearman")
    return fig


def _seeds_said(row: dict) -> str:
    seeds = f"of single seeds from {number(row['seed_low'])} to {number(row['seed_high'])}, "
    many = seeds if row["seeds"] > 1 else ""
    return f"{many}q = {small(row['q_value'])}, n = {row['layers']} layers"


def _write(ax, found, scale: Normalize, write, sure=None) -> None:
    for y, x in np.argwhere(~np.isnan(found)):
        strong = abs(2 * scale(found[y, x]) - 1) > 0.55
        ax.text(
            x + 0.5,
            y + 0.5,
            write(found[y, x]) + ("*" if sure is not None and sure[y, x] else ""),
            ha="center",
            va="center_baseline",
            fontsize=7.5,
            color="white" if strong else "#1f2937",
        )


def _lines(name: str) -> list[str]:
    """The name of a measure, in lines."""
    head, _, attack = name.partition(" (")
    return [*head.split(" "), f"({attack}"] if attack else head.split(" ")
