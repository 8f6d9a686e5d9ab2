"""The figures of robustness over seeds; see `report.canvas`.

Tables are those of one data set and network, one epoch per training, in %: see
`scores`. families: base -> the trainings drawn with it, itself first.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from faultline.report.canvas import (
    DIVERGING,
    GREY,
    MAX_WIDTH,
    axes_grid,
    cell_width,
    colour_bar,
    hide_repeated,
    label_width,
    legend,
    mesh,
    patch,
    shortened,
    styled,
    tips,
)
from faultline.report.page import said, small

DARK = "#1f2937"

COLOURS = [DARK, "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"]

PUBLISHED = "#d55e00"

LONGEST = 26


def _columns(attacks: Sequence[str], *, left: float, right: float, widest: float) -> list[float]:
    room = (MAX_WIDTH - left - right) / len(attacks) - 0.25
    return [max(min(widest, room), 1.0)] * len(attacks)


@styled
def accuracy_curves(
    table: pd.DataFrame, families: Mapping[str, Sequence[str]], *, reference: str | None
) -> Figure:
    """Accuracy over eps, mean over seeds, and its interval as a band: a row per family, a panel
    per attack. reference: a training that is drawn in every row."""
    table = table[table["eps"] != "rg_score"]
    table = table.assign(at=table["eps"].astype(float))
    attacks = list(dict.fromkeys(table["attack"]))
    longest = max(len(shortened(n, LONGEST)) for names in families.values() for n in names)
    right = 0.55 + 0.066 * longest
    fig, axes = axes_grid(
        [_columns(attacks, left=0.65, right=right, widest=3.2), [1.75] * len(families)],
        left=0.65,
        right=right,
        bottom=0.55,
        top=0.35,
        gap=(0.25, 0.25),
    )
    lowest = table["value"].min()
    bottom = 0 if lowest < 30 else 10 * (lowest // 10)
    for row, names in zip(axes, families.values(), strict=True):
        shown = [(name, COLOURS[i % len(COLOURS)], "-") for i, name in enumerate(names)]
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
                drawn = ax.plot(part["at"], part["value"], **look)
                tips(drawn[0], [f"{name}, eps {row['eps']}: {_said(row)}" for row in _each(part)])
            ax.set_ylim(bottom, 101)
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.grid(lw=0.5)
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            ax.xaxis.set_major_formatter("{x:g}")
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
                Line2D([], [], color=colour, ls=style, lw=2, label=shortened(name, LONGEST))
                for name, colour, style in shown
            ],
            loc="upper left",
            bbox_to_anchor=(1.02, 1.04),
            handlelength=1.4,
            borderaxespad=0,
        )
    return fig


@styled
def rg_scores(table: pd.DataFrame, families: Mapping[str, Sequence[str]]) -> Figure:
    """R&G score of every training, mean over seeds with its interval, a panel per attack; crosses:
    published ones."""
    table = table[table["eps"] == "rg_score"]
    names = [name for of in families.values() for name in of]
    known = table["published"].notna().any()
    spread = table[["value", "ci_low", "ci_high", "published"]].to_numpy(float)
    low, high = np.nanmin(spread), np.nanmax(spread)
    pad = 0.05 * (high - low) or 1.0

    def draw(ax: Axes, attack: str) -> None:
        part = table[table["attack"] == attack].set_index("training").reindex(names)
        y = np.arange(len(names))
        ax.hlines(y, part["ci_low"], part["ci_high"], color=DARK, lw=1.4)
        dots = ax.plot(part["value"], y, "o", ms=4, color=DARK)
        tips(dots[0], [f"{row['training']}: {_said(row)}" for row in _each(part)])
        dots = ax.plot(part["published"], y, "x", ms=5.5, mew=1.4, color=PUBLISHED)
        tips(dots[0], [f"published: {value:.2f}" for value in part["published"]])
        ax.set_xlim(low - pad, high + pad)
        ax.set_xlabel("R&G score")

    handles = [Line2D([], [], marker="o", ms=4, color=DARK, lw=1.4, label="mean over seeds")]
    if known:
        handles.append(
            Line2D([], [], marker="x", ms=5.5, mew=1.4, ls="", color=PUBLISHED, label="published")
        )
    return _rows(table, families, names, draw, handles)


@styled
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

    def draw(ax: Axes, attack: str) -> None:
        part = table[table["attack"] == attack].set_index("training").reindex(names)
        y = np.arange(len(names))
        ax.hlines(y, part["ci_low"].clip(-limit), part["ci_high"].clip(upper=limit), color=DARK)
        sure = (part["q_value"] < level).to_numpy()
        for chosen, face in ((sure, DARK), (~sure, "white")):
            dots = ax.plot(part["value"][chosen], y[chosen], "o", ms=5, mfc=face, mec=DARK)
            tips(dots[0], [f"{row['training']}: {_said(row)}" for row in _each(part[chosen])])
        ax.axvline(0, color=PUBLISHED, lw=0.9, zorder=0.9)
        ax.set_xlim(-limit, limit)
        ax.set_xlabel("R&G less the base's")

    dot = {"marker": "o", "ms": 5, "mec": DARK, "color": DARK, "lw": 1.2}
    handles = [
        Line2D([], [], mfc=DARK, label=f"beyond chance (q < {level:g})", **dot),
        Line2D([], [], mfc="white", label="not beyond chance", **dot),
        Line2D([], [], color=PUBLISHED, lw=0.9, label="as the base"),
    ]
    return _rows(table, families, names, draw, handles)


@styled
def difference_map(
    differences: pd.DataFrame, families: Mapping[str, Sequence[str]], *, level: float
) -> Figure:
    """The same at each eps: trainings down, eps across, a panel per attack; a dot where the
    adjusted p-value is not below `level`, grey and empty where both are at 0."""
    table = differences[differences["eps"] != "rg_score"]
    there = set(table["training"])
    names = [name for of in families.values() for name in of if name in there]
    attacks = list(dict.fromkeys(table["attack"]))
    grids = {a: sorted(set(table.loc[table["attack"] == a, "eps"]), key=float) for a in attacks}
    labels = [shortened(name, LONGEST) for name in names]
    count = sum(map(len, grids.values()))
    cell = cell_width(count, labels, gap=0.25 * len(attacks) + 0.9, widest=0.46)
    largest = np.nanmax(table["value"].abs().to_numpy(), initial=0.0) or 1.0
    scale = Normalize(-largest, largest)
    fig, axes = axes_grid(
        [[cell * len(grids[a]) for a in attacks], [0.23 * len(names)]],
        left=label_width(labels),
        right=1.0,
        bottom=0.75,
        top=0.35,
        gap=(0.25, 0),
        least=7.6,
    )
    found = table[~table["floor"]].set_index(["training", "attack", "eps"])
    for ax, attack in zip(axes[0], attacks, strict=True):
        colours = np.full((len(names), len(grids[attack]), 3), 0.9)
        says = np.full(colours.shape[:2], "nothing to compare", object)
        for y, name in enumerate(names):
            for x, eps in enumerate(grids[attack]):
                if (name, attack, eps) not in found.index:
                    continue
                row = found.loc[(name, attack, eps)]
                value, q = row["value"], row["q_value"]
                says[y, x] = f"{name}, eps {eps}: {_said(row)}"
                colours[y, x] = DIVERGING(scale(value))[:3]
                if cell >= 0.34:
                    dark = abs(value) > 0.6 * largest
                    text = f"{value:+.1f}".replace("-", "\u2212")
                    ax.text(
                        x + 0.5,
                        y + 0.5,
                        "0" if text[1:] == "0.0" else text,
                        ha="center",
                        va="center_baseline",
                        fontsize=6.5,
                        color="white" if dark else DARK,
                    )
                if not q < level:
                    ax.plot(x + 1 - 0.055 / cell, y + 0.22, ".", ms=3, color=DARK)
        mesh(ax, colours, labels, grids[attack], title=attack, xlabel="eps", says=says)
    hide_repeated(axes)
    colour_bar(fig, axes[0][-1], scale, label="points")
    unsure = f"not beyond chance (q \u2265 {level:g})"
    handles = [Line2D([], [], marker=".", ls="", color=DARK, label=unsure)]
    if table["floor"].any():
        handles.append(patch("0.9", "both at 0"))
    legend(fig, handles, columns=len(handles))
    return fig


def _each(part: pd.DataFrame) -> list[dict]:
    return part.reset_index().to_dict("records")


def _said(row: dict | pd.Series) -> str:
    """A value in % or points, or a difference with its adjusted p-value."""
    n = f"{row['n']:,.0f}, " if "n" in row else ""
    n += f"{row['seeds']:.0f} seed{'' if row['seeds'] == 1 else 's'}"
    return said(row, n, places=2) + (f", q = {small(row['q_value'])}" if "q_value" in row else "")


def _rows(table, families, names, draw, handles) -> Figure:
    """A row per training, families set apart, and a panel per attack."""
    attacks, labels = list(dict.fromkeys(table["attack"])), [shortened(n, LONGEST) for n in names]
    left = label_width(labels)
    fig, axes = axes_grid(
        [_columns(attacks, left=left, right=0.2, widest=3.4), [0.2 * len(names) + 0.1]],
        left=left,
        bottom=0.85,
        top=0.35,
        gap=(0.25, 0),
        least=7.6,
    )
    last = [[name for name in of if name in names][-1:] for of in families.values()]
    for ax, attack in zip(axes[0], attacks, strict=True):
        draw(ax, attack)
        for name in [name for of in last for name in of][:-1]:
            ax.axhline(names.index(name) + 0.5, color="#d1d5db", lw=0.7, zorder=0.8)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_yticks(range(len(names)), labels)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.5)
        ax.set_title(attack)
    hide_repeated(axes)
    legend(fig, handles, columns=len(handles))
    return fig
