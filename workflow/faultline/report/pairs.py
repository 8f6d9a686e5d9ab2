"""Two runs side by side, in figures: what both say of the same things."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from faultline.base.columns import CLASSES
from faultline.report.canvas import (
    MAX_WIDTH,
    axes_grid,
    hide_repeated,
    label_width,
    legend,
    mesh,
    styled,
    tips,
)
from faultline.report.page import count

DARK = "#1f2937"


@styled
def dumbbells(rows: pd.DataFrame, *, names: tuple[str, str]) -> Figure:
    """Accuracies of two runs joined by a line, in %, a panel per image set.

    rows: {label, images, reference_accuracy, accuracy, n, seeds}, shares; every label has every
    image set. names: of the run with `reference_accuracy`, and of the other.
    """
    images, labels = (list(dict.fromkeys(rows[column])) for column in ("images", "label"))
    columns = min(len(images), 4)
    left = label_width(labels)
    width = min(4.2, (MAX_WIDTH - left - 0.2) / columns - 0.25)
    sizes = [width] * columns, [0.3 * len(labels) + 0.2] * -(-len(images) // columns)
    fig, axes = axes_grid(sizes, left=left, bottom=0.85, top=0.35, gap=(0.25, 0.75), least=7.6)
    for index, ax in enumerate(axes.flat):
        if index >= len(images):
            ax.set_axis_off()
            continue
        part = rows[rows["images"] == images[index]].set_index("label").loc[labels]
        before, after = 100 * part["reference_accuracy"], 100 * part["accuracy"]
        at = np.arange(len(labels))
        ax.hlines(at, before, after, color="#9ca3af", lw=2)
        for values, look in (
            (before, {"ms": 6, "mfc": "white", "mec": DARK, "mew": 1.2}),
            (after, {"ms": 4.5, "color": DARK}),
        ):
            dots = ax.plot(values, at, "o", **look)
            told = zip(values, part["n"], part["seeds"], strict=True)
            tips(
                dots[0],
                [f"{x:.2f} %, n = {n:,.0f}, {count(range(of), 'seed')}" for x, n, of in told],
            )
        low, high = min(before.min(), after.min()), max(before.max(), after.max())
        margin = max(0.08 * (high - low), 0.5)
        ax.set_xlim(low - margin, high + margin)
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.set_yticks(at, labels)
        ax.tick_params(axis="y", length=0, labelleft=index % columns == 0)
        ax.grid(axis="x", lw=0.5)
        ax.set_title("clean" if images[index] == "clean" else f"adversarial, {images[index]}")
        ax.set_xlabel("accuracy (%)")
    marks = {"marker": "o", "ls": "", "mec": DARK}
    handles = [
        Line2D([], [], ms=6, mfc="white", label=names[0], **marks),
        Line2D([], [], ms=4.5, mfc=DARK, label=names[1], **marks),
    ]
    legend(fig, handles, columns=2)
    return fig


@styled
def class_pairs(counts: pd.DataFrame, *, names: tuple[str, str]) -> Figure:
    """How many units are in each pair of classes, a panel per panel's name.

    counts: {panel, first, second, count, decided}; first, second: the classes in either run;
    decided: in how many of the count both were. names: of the two runs.
    """
    panels = list(dict.fromkeys(counts["panel"]))
    shown = [c for c in CLASSES if c in {*counts["first"], *counts["second"]}]
    columns, side = min(len(panels), 4), 0.62 * len(shown)
    rows = -(-len(panels) // columns)
    left = label_width(shown) + 0.2
    sizes = [max(side, 1.6)] * columns, [0.42 * len(shown)] * rows
    fig, axes = axes_grid(sizes, left=left, bottom=0.6, top=0.35, gap=(0.3, 0.85))
    hide_repeated(axes)
    for index, ax in enumerate(axes.flat):
        if index >= len(panels):
            ax.set_axis_off()
            continue
        part = counts[counts["panel"] == panels[index]]
        colours, most = np.ones((len(shown), len(shown), 3)), part["count"].max()
        cells, says = [], np.full(colours.shape[:2], f"0 of {part['count'].sum()}", object)
        for row in part.to_dict("records"):
            y, x = shown.index(row["first"]), shown.index(row["second"])
            shade = (0.15 + 0.45 * row["count"] / most) * (1 - np.array([0.84, 0.37, 0.0]))
            grey = np.full(3, 0.06 + 0.2 * row["count"] / most)
            colours[y, x] = 1 - (grey if x == y else shade)
            says[y, x] = (
                f"{row['count']} of {part['count'].sum()}, {row['decided']} decided in both"
            )
            cells.append((x + 0.5, y + 0.5, f"{row['count']} ({row['decided']})"))
        mesh(ax, colours, shown, shown, title=panels[index], xlabel=f"in {names[1]}", says=says)
        for x, y, text in cells:
            ax.text(x, y, text, ha="center", va="center", fontsize=7.5, color=DARK)
        ax.tick_params(axis="x", labelsize=7)
    for ax in axes[:, 0]:
        if ax.axison:
            ax.set_ylabel(f"in {names[0]}")
    return fig
