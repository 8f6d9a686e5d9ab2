"""The pictures of all methods side by side. Sizes are in inches."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from faultline.report import canvas
from faultline.report.canvas import DARK, MAX_WIDTH
from faultline.report.page import number, said_of_seeds, small
from faultline.studies.map.measures import CONTROLS, ranks

UNKNOWN = (1.0, 1.0, 1.0, 1.0)


@canvas.styled
def rank_map(measures: pd.DataFrame) -> Figure:
    """Ranks of the layers of one run by every measure, sorted by the first; controls apart.

    measures: see `measures.layer_measures`. A cell says the rank and has its colour; white: the
    measure does not know the layer.
    """
    table = ranks(measures)
    table = table.sort_values(table.columns[0], kind="stable")
    names = list(table.index)
    kinds = {
        "methods": [name for name in table if name not in CONTROLS],
        "controls": [name for name in table if name in CONTROLS],
    }
    groups = {kind: table[of_kind] for kind, of_kind in kinds.items() if of_kind}
    widest = max(0.62, min(1.0, 0.075 * max(len(part) for c in table for part in _lines(c))))
    cell = canvas.cell_width(len(table.columns), names, gap=0.45, widest=widest)
    size = [cell * len(part.columns) for part in groups.values()], 0.22 * len(names)
    room = canvas.Room(left=canvas.label_width(names), bottom=0.1, top=0.62, least=5.0)
    fig, panels = canvas.panels(groups, size, room)
    scale = Normalize(1, max(len(names), 2))
    for ax, (_, part) in panels:
        values = part.to_numpy(float)
        colours = canvas.DIVERGING(scale(values))
        colours[np.isnan(values)] = UNKNOWN
        says = [[f"{y}, {x}: {_ranked(part[x][y], measures, (y, x))}" for x in part] for y in names]
        canvas.mesh(ax, colours, names, [*part], says=says)
        _measures_axis(ax, [*part])
        _write(ax, values, scale, "{:g}".format)
    return fig


def _ranked(rank: float, measures: pd.DataFrame, cell: tuple[str, str]) -> str:
    of = measures[(measures["layer"] == cell[0]) & (measures["measure"] == cell[1])]
    return "not known" if np.isnan(rank) else f"rank {rank:g}, {said_of_seeds(of)}"


@canvas.styled
def correlation_map(correlations: pd.DataFrame, *, level: float) -> Figure:
    """Spearman's rank correlations of one run: methods down, methods and controls across.

    A star: q_value below `level`.
    """
    order = list(dict.fromkeys([*correlations["measure"], *correlations["other"]]))
    down = [name for name in order if name not in CONTROLS]
    across = [*down, *(name for name in CONTROLS if name in order)]
    spearman = np.full((len(down), len(across)), np.nan)
    sure = np.zeros(spearman.shape, bool)
    says = np.full(spearman.shape, "not compared", object)
    for row in correlations.to_dict("records"):
        for one, other in ((row["measure"], row["other"]), (row["other"], row["measure"])):
            if one in down:
                at = down.index(one), across.index(other)
                spearman[at], sure[at] = row["spearman"], row["q_value"] < level
                says[at] = f"{one}, {other}: {number(row['spearman'])}, " + _seeds_said(row)
    cell = min(0.85, (MAX_WIDTH - canvas.label_width(down) - 1.2) / len(across))
    room = canvas.Room(left=canvas.label_width(down), right=0.95, bottom=0.1, top=0.62, least=5.0)
    fig, axes = canvas.axes_grid([[cell * len(across)], [0.34 * len(down)]], room)
    ax, scale = axes[0][0], Normalize(-1, 1)
    colours = np.where(np.isnan(spearman)[..., None], UNKNOWN, canvas.DIVERGING(scale(spearman)))
    canvas.mesh(ax, colours, down, across, says=says)
    _measures_axis(ax, across)
    ax.axvline(len(down), color=DARK, lw=1.2)
    _write(ax, spearman, scale, canvas.signed, sure)
    canvas.colour_bar(fig, ax, scale, label="Spearman")
    return fig


def _seeds_said(row: dict) -> str:
    seeds = f"of single seeds from {number(row['seed_low'])} to {number(row['seed_high'])}, "
    many = seeds if row["seeds"] > 1 else ""
    return f"{many}q = {small(row['q_value'])}, n = {row['layers']} layers"


def _measures_axis(ax: Axes, names: list[str]) -> None:
    """The names of measures above their columns."""
    ax.set_xticks(np.arange(len(names)) + 0.5, ["\n".join(_lines(name)) for name in names])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)


def _write(ax, values, scale: Normalize, text, sure=None) -> None:
    for y, x in np.argwhere(~np.isnan(values)):
        strong = abs(2 * scale(values[y, x]) - 1) > 0.55
        star = "*" if sure is not None and sure[y, x] else ""
        ink = "white" if strong else DARK
        canvas.write(ax, x, y, text(values[y, x]) + star, fontsize=7.5, color=ink)


def _lines(name: str) -> list[str]:
    """The name of a measure, in lines."""
    head, _, attack = name.partition(" (")
    return [*head.split(" "), f"({attack}"] if attack else head.split(" ")
