"""The figures about fewer bits and fewer weights; see `report.canvas`."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from faultline.report import canvas
from faultline.report.canvas import DOTTED, GREY, MAX_WIDTH, marks
from faultline.report.page import interval, minus, points
from faultline.studies.compression.names import COSTLY, SAFE, UNDECIDED
from faultline.studies.compression.verdicts import CLASS, agreed, likely, told


@canvas.styled
def alone_map(table: pd.DataFrame, *, loss: float) -> Figure:
    """What each form costs, layers down, in points; table: rows of one run at one epoch."""
    names, of = [*dict.fromkeys(table["layer"])], [*dict.fromkeys(table["form"])]
    cell = canvas.cell_width(len(of), names, gap=0.2, widest=0.85)
    colours = np.ones((len(names), len(of), 3))
    says = np.full((len(names), len(of)), "", object)
    room = canvas.Room(left=canvas.label_width(names), bottom=0.55, top=0.35)
    fig, axes = canvas.axes_grid([[cell * len(of)], [0.22 * len(names)]], room)
    ax = axes[0][0]
    for (layer, form), rows in table.groupby(["layer", "form"], sort=False):
        y, x = names.index(str(layer)), of.index(str(form))
        sure = agreed(rows) != UNDECIDED
        colours[y, x] = canvas.class_colour(likely(rows, loss), sure)
        says[y, x] = f"{layer}, {form}: {told(rows)}"
        text = minus(f"{100 * rows['difference'].mean():+.1f}")
        ink = canvas.ink_on(colours[y, x])
        canvas.write(ax, x, y, text, fontsize=7, color=ink)
    canvas.mesh(ax, colours, names, of, says=says)
    ax.xaxis.tick_top()
    handles = [
        canvas.patch(canvas.class_colour(CLASS[name], sure), f"{name}{'' if sure else '?'}")
        for name in (SAFE, COSTLY)
        for sure in (True, False)
    ]
    canvas.legend(fig, handles, columns=4)
    return fig


@canvas.styled
def together_chart(table: pd.DataFrame, *, loss: float) -> Figure:
    """What whole networks cost, a row each, a mark per seed; table: rows of one run at one
    epoch."""
    parts = [*table.groupby(["form", "compressed"], sort=False)]
    labels = [
        f"{form}, {what} ({rows['bits_per_weight'].mean():.3g} bits)"
        for (form, what), rows in parts
    ]
    seeds = sorted(table["seed"].unique())
    left = canvas.label_width(labels)
    size = [[min(5.5, MAX_WIDTH - left - 0.3)], [len(parts) * (0.13 * len(seeds) + 0.2)]]
    fig, axes = canvas.axes_grid(size, canvas.Room(left=left, bottom=0.55, top=0.15))
    ax = axes[0][0]
    for y, ((form, what), rows) in enumerate(parts):
        for row in rows.to_dict("records"):
            place = y + 0.6 * ((seeds.index(row["seed"]) + 0.5) / len(seeds) - 0.5)
            ink = {SAFE: "#009e73", COSTLY: "#d55e00"}.get(row["verdict"], GREY)
            low, high = 100 * row["family_low"], 100 * row["family_high"]
            ax.plot([low, high], [place, place], color=ink, lw=1.3)
            says = (
                f"{form}, {what}, seed {row['seed']}: {points(row['difference'])} "
                f"{interval(row['family_low'], row['family_high'])} points, {row['verdict']}, "
                f"n = {row['n']:,}"
            )
            marks(ax, [100 * row["difference"]], [place], "o", says=[says], ms=4, color=ink)
    ax.axvline(0, color=GREY, lw=0.7)
    ax.axvline(-100 * loss, color=GREY, lw=1, ls=DOTTED)
    canvas.rows_axis(ax, labels)
    ax.set_xlim(min(-3 * 100 * loss, 100 * table["family_low"].min() - 1), None)
    ax.set_xlabel("accuracy minus that of the network as it is (points)")
    return fig
