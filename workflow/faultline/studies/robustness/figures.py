"""The figures of robustness over seeds; see `report.canvas`.

Tables are those of one data set and network, one epoch per training, in %: see
`scores`. families: base -> the trainings drawn with it, itself first.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from faultline.report import canvas
from faultline.report.canvas import DARK, GREY, MAX_WIDTH, key, marks
from faultline.report.page import minus, said, small

COLOURS = [DARK, "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"]

PUBLISHED = "#d55e00"

LONGEST = 26


def _columns(attacks: Collection[str], *, left: float, right: float, widest: float) -> list[float]:
    room = (MAX_WIDTH - left - right) / len(attacks) - 0.25
    return [max(min(widest, room), 1.0)] * len(attacks)


@canvas.styled
def accuracy_curves(
    table: pd.DataFrame, families: Mapping[str, Sequence[str]], *, reference: str | None
) -> Figure:
    """Accuracy over eps, mean over seeds, and its interval as a band: a row per family, a panel
    per attack. reference: a training that is drawn in every row."""
    table = table[table["eps"] != "rg_score"]
    table = table.assign(at=table["eps"].astype(float))
    attacks = list(dict.fromkeys(table["attack"]))
    longest = max(len(canvas.shortened(n, LONGEST)) for names in families.values() for n in names)
    right = 0.55 + 0.066 * longest
    room = canvas.Room(right=right, bottom=0.55, gap=(0.25, 0.25), least=0)
    fig, axes = canvas.axes_grid(
        [_columns(attacks, left=0.65, right=right, widest=3.2), [1.75] * len(families)], room
    )
    lowest = table["value"].min()
    bottom = 0 if lowest < 30 else 10 * (lowest // 10)
    for row, names in zip(axes, families.values(), strict=True):
        shown: list[tuple[str, str, object]] = [
            (name, COLOURS[i % len(COLOURS)], "-") for i, name in enumerate(names)
        ]
        if reference and reference not in names:
            shown.append((reference, GREY, (0, (4, 2))))
        for ax, attack in zip(row, attacks, strict=True):
            for name, colour, style in shown:
                part = table[(table["training"] == name) & (table["attack"] == attack)]
                part = part.sort_values("at")
                ax.fill_between(
                    part["at"], part["ci_low"], part["ci_high"], color=colour, alpha=0.15, lw=0
                )
                look = {"color": colour, "ls": style, "lw": 1.4, "marker": "o", "ms": 2}
                says = [f"{name}, eps {row['eps']}: {_said(row)}" for row in _each(part)]
                marks(ax, part["at"], part["value"], says=says, **look)
            ax.set_ylim(bottom, 101)
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.grid(lw=0.5)
            canvas.eps_axis(ax)
            if ax in axes[0]:
                ax.set_title(attack)
            if ax in axes[-1]:
                ax.set_xlabel("eps")
            else:
                ax.tick_params(labelbottom=False)
            if ax is row[0]:
                ax.set_ylabel("accuracy (%)")
            else:
                ax.tick_params(labelleft=False)
        row[-1].legend(
            handles=[
                key(canvas.shortened(name, LONGEST), color=colour, ls=style, lw=2)
                for name, colour, style in shown
            ],
            loc="upper left",
            bbox_to_anchor=(1.02, 1.04),
            handlelength=1.4,
            borderaxespad=0,
        )
    return fig


@canvas.styled
def rg_scores(table: pd.DataFrame, families: Mapping[str, Sequence[str]]) -> Figure:
    """R&G score of every training, mean over seeds with its interval, a panel per attack; crosses:
    published ones."""
    table = table[table["eps"] == "rg_score"]
    names = [name for of in families.values() for name in of]
    spread = table[["value", "ci_low", "ci_high", "published"]].to_numpy(float)
    low, high = np.nanmin(spread), np.nanmax(spread)
    pad = 0.05 * (high - low) or 1.0

    fig, panels = _rows(table, families, names, xlabel="R&G score")
    for ax, part in panels:
        y = np.arange(len(names))
        ax.hlines(y, part["ci_low"], part["ci_high"], color=DARK, lw=1.4)
        says = [f"{row['training']}: {_said(row)}" for row in _each(part)]
        marks(ax, part["value"], y, "o", says=says, ms=4, color=DARK)
        says = [f"published: {value:.2f}" for value in part["published"]]
        marks(ax, part["published"], y, "x", says=says, ms=5.5, mew=1.4, color=PUBLISHED)
        ax.set_xlim(low - pad, high + pad)
    handles = [key("mean over seeds", marker="o", ms=4, color=DARK, lw=1.4)]
    if table["published"].notna().any():
        handles.append(key("published", marker="x", ms=5.5, mew=1.4, ls="", color=PUBLISHED))
    canvas.legend(fig, handles, columns=len(handles))
    return fig


@canvas.styled
def difference_forest(
    differences: pd.DataFrame, families: Mapping[str, Sequence[str]], *, level: float
) -> Figure:
    """R&G score of each regularised training less that of its base, mean over seeds with its
    interval, a panel per attack; filled where the adjusted p-value is below `level`."""
    table = differences[differences["eps"] == "rg_score"]
    there = set(table["training"])
    names = [name for of in families.values() for name in of if name in there]
    reach = np.nanmax(table[["ci_low", "ci_high", "value"]].abs().to_numpy(), initial=0.1)
    limit = 1.06 * min(reach, 4 * table["value"].abs().max() or reach)

    fig, panels = _rows(table, families, names, xlabel="R&G minus the base's")
    for ax, part in panels:
        y = np.arange(len(names))
        ax.hlines(y, part["ci_low"].clip(-limit), part["ci_high"].clip(upper=limit), color=DARK)
        sure = (part["q_value"] < level).to_numpy()
        for chosen, face in ((sure, DARK), (~sure, "white")):
            says = [f"{row['training']}: {_said(row)}" for row in _each(part[chosen])]
            marks(ax, part["value"][chosen], y[chosen], "o", says=says, ms=5, mfc=face, mec=DARK)
        ax.axvline(0, color=PUBLISHED, lw=0.9, zorder=0.9)
        ax.set_xlim(-limit, limit)
    dot = {"marker": "o", "ms": 5, "mec": DARK, "color": DARK, "lw": 1.2}
    handles = [
        key(f"beyond chance (q < {level:g})", mfc=DARK, **dot),
        key("not beyond chance", mfc="white", **dot),
        key("as the base", color=PUBLISHED, lw=0.9),
    ]
    canvas.legend(fig, handles, columns=len(handles))
    return fig


@canvas.styled
def difference_map(
    differences: pd.DataFrame, families: Mapping[str, Sequence[str]], *, level: float
) -> Figure:
    """The same at each eps: trainings down, eps across, a panel per attack; a dot where the
    adjusted p-value is not below `level`, grey and empty where both are at 0."""
    table = differences[differences["eps"] != "rg_score"]
    there = set(table["training"])
    names = [name for of in families.values() for name in of if name in there]
    attacks = canvas.split(table, "attack")
    grids = {attack: sorted(set(part["eps"]), key=float) for attack, part in attacks.items()}
    labels = [canvas.shortened(name, LONGEST) for name in names]
    count = sum(map(len, grids.values()))
    cell = canvas.cell_width(count, labels, gap=0.25 * len(attacks) + 0.9, widest=0.46)
    largest = np.nanmax(table["value"].abs().to_numpy(), initial=0.0) or 1.0
    scale = Normalize(-largest, largest)
    size = [cell * len(grid) for grid in grids.values()], 0.23 * len(names)
    room = canvas.Room(left=canvas.label_width(labels), right=1.0, bottom=0.75)
    fig, panels = canvas.panels(attacks, size, room, xlabel="eps")
    for ax, (attack, part) in panels:
        grid = grids[attack]
        colours = np.full((len(names), len(grid), 3), 0.9)
        says = np.full(colours.shape[:2], "nothing to compare", object)
        above = {(row["training"], row["eps"]): row for row in _each(part[~part["floor"]])}
        for (y, name), (x, eps) in product(enumerate(names), enumerate(grid)):
            if (name, eps) not in above:
                continue
            row = above[name, eps]
            value = row["value"]
            says[y, x] = f"{name}, eps {eps}: {_said(row)}"
            colours[y, x] = canvas.DIVERGING(scale(value))[:3]
            if cell >= 0.34:
                text = minus(f"{value:+.1f}")
                ink = "white" if abs(value) > 0.6 * largest else DARK
                canvas.write(ax, x, y, "0" if text[1:] == "0.0" else text, fontsize=6.5, color=ink)
            if not row["q_value"] < level:
                ax.plot(x + 1 - 0.055 / cell, y + 0.22, ".", ms=3, color=DARK)
        canvas.mesh(ax, colours, labels, grid, title=attack, says=says)
    canvas.colour_bar(fig, panels[-1][0], scale, label="points")
    handles: list[Artist] = [
        key(f"not beyond chance (q \u2265 {level:g})", marker=".", ls="", color=DARK)
    ]
    if table["floor"].any():
        handles.append(canvas.patch("0.9", "both at 0"))
    canvas.legend(fig, handles, columns=len(handles))
    return fig


def _each(part: pd.DataFrame) -> list[dict]:
    return part.reset_index().to_dict("records")


def _said(row: dict | pd.Series) -> str:
    """A value in % or points, or a difference with its adjusted p-value."""
    n = f"{row['n']:,.0f}, " if "n" in row else ""
    n += f"{row['seeds']:.0f} seed{'' if row['seeds'] == 1 else 's'}"
    return said(row, n, places=2) + (f", q = {small(row['q_value'])}" if "q_value" in row else "")


def _rows(table, families, names, *, xlabel: str) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A row per training, families set apart, and a panel per attack: its axes and what it is to
    show, in the order of `names`."""
    attacks = canvas.split(table, "attack")
    labels = [canvas.shortened(name, LONGEST) for name in names]
    left = canvas.label_width(labels)
    size = _columns(attacks, left=left, right=0.2, widest=3.4), 0.2 * len(names) + 0.1
    room = canvas.Room(left=left, bottom=0.85)
    fig, panels = canvas.panels(attacks, size, room, xlabel=xlabel)
    last = [[name for name in of if name in names][-1:] for of in families.values()]
    for ax, (attack, _) in panels:
        for name in [name for of in last for name in of][:-1]:
            ax.axhline(names.index(name) + 0.5, color="#d1d5db", lw=0.7, zorder=0.8)
        canvas.rows_axis(ax, labels, pad=0.6)
        ax.set_title(attack)
    parts = [part.set_index("training").reindex(names) for part in attacks.values()]
    return fig, [(ax, part) for (ax, _), part in zip(panels, parts, strict=True)]
