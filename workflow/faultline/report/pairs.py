"""Two runs side by side, in figures: what both say of the same things."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from faultline.base.columns import CLASSES
from faultline.report import canvas
from faultline.report.canvas import DARK, MAX_WIDTH, key, marks
from faultline.report.page import count


@canvas.styled
def dumbbells(rows: pd.DataFrame, *, names: tuple[str, str]) -> Figure:
    """Accuracies of two runs joined by a line, in %, a panel per image set.

    rows: {label, images, reference_accuracy, accuracy, n, seeds}, shares; every label has every
    image set. names: of the run with `reference_accuracy`, and of the other.
    """
    images, labels = (list(dict.fromkeys(rows[column])) for column in ("images", "label"))
    left = canvas.label_width(labels)
    size = min(4.2, (MAX_WIDTH - left - 0.2) / min(len(images), 4) - 0.25), 0.3 * len(labels) + 0.2
    room = canvas.Room(left=left, bottom=0.85)
    fig, panels = canvas.panels(
        canvas.split(rows, "images"), size, room, columns=4, xlabel="accuracy (%)"
    )
    for ax, (name, part) in panels:
        part = part.set_index("label").loc[labels]
        before, after = 100 * part["reference_accuracy"], 100 * part["accuracy"]
        at = np.arange(len(labels))
        ax.hlines(at, before, after, color="#9ca3af", lw=2)
        for values, look in (
            (before, {"ms": 6, "mfc": "white", "mec": DARK, "mew": 1.2}),
            (after, {"ms": 4.5, "color": DARK}),
        ):
            says = [
                f"{x:.2f} %, n = {n:,.0f}, {count(range(seeds), 'seed')}"
                for x, n, seeds in zip(values, part["n"], part["seeds"], strict=True)
            ]
            marks(ax, values, at, "o", says=says, **look)
        low, high = min(before.min(), after.min()), max(before.max(), after.max())
        margin = max(0.08 * (high - low), 0.5)
        ax.set_xlim(low - margin, high + margin)
        canvas.rows_axis(ax, labels)
        ax.set_title(canvas.images_title(name))
    look = {"marker": "o", "ls": "", "mec": DARK}
    handles = [
        key(names[0], ms=6, mfc="white", **look),
        key(names[1], ms=4.5, mfc=DARK, **look),
    ]
    canvas.legend(fig, handles, columns=2)
    return fig


@canvas.styled
def class_pairs(counts: pd.DataFrame, *, names: tuple[str, str]) -> Figure:
    """How many units are in each pair of classes, a panel per panel's name.

    counts: {panel, first, second, count, decided}; first, second: the classes in either run;
    decided: in how many of the count both were. names: of the two runs.
    """
    shown = [c for c in CLASSES if c in {*counts["first"], *counts["second"]}]
    size = max(0.62 * len(shown), 1.6), 0.42 * len(shown)
    room = canvas.Room(left=canvas.label_width(shown) + 0.2, bottom=0.6, gap=(0.3, 0.85), least=0)
    fig, panels = canvas.panels(
        canvas.split(counts, "panel"),
        size,
        room,
        columns=4,
        xlabel=f"in {names[1]}",
        ylabel=f"in {names[0]}",
    )
    for ax, (title, part) in panels:
        colours, most = np.ones((len(shown), len(shown), 3)), part["count"].max()
        total = part["count"].sum()
        says = np.full(colours.shape[:2], f"0 of {total}", object)
        for row in part.to_dict("records"):
            y, x = shown.index(row["first"]), shown.index(row["second"])
            shade = (0.15 + 0.45 * row["count"] / most) * (1 - np.array([0.84, 0.37, 0.0]))
            grey = np.full(3, 0.06 + 0.2 * row["count"] / most)
            colours[y, x] = 1 - (grey if x == y else shade)
            says[y, x] = f"{row['count']} of {total}, {row['decided']} decided in both"
            text = f"{row['count']} ({row['decided']})"
            canvas.write(ax, x, y, text, va="center", fontsize=7.5, color=DARK)
        canvas.mesh(ax, colours, shown, shown, title=title, says=says)
        ax.tick_params(axis="x", labelsize=7)
    return fig
