"""The figure of the referee; see `report.canvas`."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from faultline.base.columns import policy_of
from faultline.report import canvas
from faultline.report.canvas import GREY, MAX_WIDTH, key, marks
from faultline.report.page import count, minus
from faultline.studies.criteria.names import CONTROLS, REFERENCES, SHIFTED, is_control

CHANCE, TOLD, CONTROL, CEILING = "#d9dde3", "#0072b2", "#3b3b3b", "#d55e00"

SAID = {"none": "nothing", "full": "everything"}
"""What is no criterion, in words."""

GAP = 0.6
"""Between criteria and controls, in rows."""


def ranked(part: pd.DataFrame) -> list[str]:
    """Criteria by how well they predict, over image sets, the best first; then the controls."""
    whole = part[(part["level"] == "all seeds") & part["spearman"].notna()]
    means = whole.groupby("criterion")["spearman"].mean()
    return sorted(means.index, key=lambda name: (name in CONTROLS, -means[name]))


def where(images: str) -> str:
    """An image set in words."""
    names = {"clean": "clean", SHIFTED: "on the shifted data"}
    return names.get(images, f"under {images}")


@canvas.styled
def prediction_chart(part: pd.DataFrame, *, level: float) -> Figure:
    """Rank correlation of each criterion with the accuracy that is lost without a unit: criteria
    down, controls last, a column per image set, a row of panels for layers and one for filters.

    part: predictions of one run at one epoch. level: q-values below it tell one from chance.
    """
    images = list(dict.fromkeys(part["images"]))
    units = [unit for unit in ("layers", "filters") if ranked(part[part["units"] == unit])]
    names = {unit: ranked(part[part["units"] == unit]) for unit in units}
    left = canvas.label_width([name for listed in names.values() for name in listed])
    width = max(1.7, min(3.4, (MAX_WIDTH - left - 0.3) / len(images) - 0.25))
    heights = [0.21 * (len(names[unit]) + GAP) + 0.15 for unit in units]
    room = canvas.Room(left=left, bottom=0.95)
    fig, axes = canvas.axes_grid([[width] * len(images), heights], room)
    for row, unit in zip(axes, units, strict=True):
        place: dict[str, float] = {}
        y = -1.0
        for name in names[unit]:
            y += 1 + GAP * (name in CONTROLS and not {*place} & {*CONTROLS} and bool(place))
            place[name] = y
        for ax, name in zip(row, images, strict=True):
            rows = part[(part["units"] == unit) & (part["images"] == name)]
            _draw(ax, rows[rows["criterion"].isin(place)], place, level=level)
            ax.set_ylim(y + 0.6, -0.6)
            ax.set_yticks(list(place.values()), list(place))
            ax.set_title(f"{unit}, {where(name)}")
            ax.set_xlabel("rank correlation with the accuracy lost")
        canvas.hide_repeated([row])
    common = {"marker": "D", "ms": 4.5, "lw": 1.4}
    label = f"q < {level:.2g}"
    handles = [
        key(f"criterion, {label}", color=TOLD, **common),
        key("criterion, may be chance", color=TOLD, mfc="white", **common),
        key(f"control, {label} (hollow: may be chance)", color=CONTROL, **common),
        key("one seed", color=GREY, marker=".", ls=""),
        canvas.patch(CHANCE, "by chance"),
        key("what the true loss would reach", color=CEILING, lw=0.9, ls="--"),
    ]
    canvas.legend(fig, handles, columns=3)
    return fig


def _draw(ax: Axes, rows: pd.DataFrame, place: dict[str, float], *, level: float) -> None:
    ax.axvline(0, color=GREY, lw=0.9)
    if not len(rows):
        middle = float(np.mean([*place.values()]))
        ax.text(0, middle, "not above chance:\nnothing to lose", ha="center")
    whole = rows[rows["level"] == "all seeds"]
    ax.axvline(whole["ceiling"].mean(), color=CEILING, lw=0.9, ls="--")
    for row in whole.to_dict("records"):
        name, y = row["criterion"], place[row["criterion"]]
        colour = CONTROL if name in CONTROLS else TOLD
        ax.barh(y, row["chance_high"] - row["chance_low"], 0.8, row["chance_low"], color=CHANCE)
        of_seeds = rows[(rows["criterion"] == name) & (rows["level"] == "seed")]
        says = [
            minus(f"{name}, seed {seed}: {value:.2f}")
            for seed, value in zip(of_seeds["seed"], of_seeds["spearman"], strict=True)
        ]
        marks(ax, of_seeds["spearman"], [y] * len(says), ".", says=says, ms=5, color=GREY)
        ends = [row["spearman_low"], row["spearman_high"]]
        ax.plot(ends, [y, y], color=colour, lw=1.4)
        face = colour if row["q_value"] < level else "white"
        look = {"ms": 4.5, "color": colour, "mfc": face}
        marks(ax, row["spearman"], y, "D", says=[_said(row, ends)], **look)
    ax.set_xlim(-1.05, 1.05)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1], ["\u22121", "\u22120.5", "0", "0.5", "1"])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", lw=0.5)


def _said(row: dict, ends: list[float]) -> str:
    """What a mark tells when it is pointed at."""
    between = "" if np.isnan(ends[0]) else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
    by_chance = f"by chance [{row['chance_low']:.2f}, {row['chance_high']:.2f}]"
    n = f"n = {row['n']:.0f} {row['units']}, {count(range(row['seeds']), 'seed')}"
    text = f"{row['criterion']}: {row['spearman']:.2f}{between}, q = {row['q_value']:.3f}"
    return minus(f"{text}, {by_chance}, {n}")


@canvas.styled
def answer_chart(table: pd.DataFrame, *, level: float) -> Figure:
    """Criteria down, the controls last, runs across: what each predicts of layers, and what
    training its picks gains, a panel for each recipe; a row of panels per image set. At the right,
    what the criterion costs.

    table: `use.referee` of one epoch each, with `run` and `told`, whether the gain is told from 0.
    """
    images, recipes, runs = (
        list(dict.fromkeys(table[column])) for column in ("images", "recipe", "run")
    )
    order = table.groupby("criterion")["gain"].mean()
    names = sorted(order.index, key=lambda name: (is_control(name), -order[name]))
    left, right, cell = canvas.label_width(names), 1.5, 0.52
    width = min(cell * len(runs), (MAX_WIDTH - left - right) / (1 + len(recipes)) - 0.2)
    width = max(width, 1.9)  # for the titles
    longest = max(len(part) for run in runs for part in run.split(" \u00b7 "))
    bottom = 0.25 + 0.075 * longest
    room = canvas.Room(left=left, right=right, bottom=bottom, gap=(0.2, 0.4), least=0)
    sizes = [width] * (1 + len(recipes)), [0.22 * len(names)] * len(images)
    fig, axes = canvas.axes_grid(sizes, room)
    reach = 100 * np.nanmax(np.abs(table["gain"]), initial=0.001)
    for line, name in zip(axes, images, strict=True):
        of_images = table[table["images"] == name]
        under = where(name)
        first = of_images[of_images["recipe"] == recipes[0]]
        first = first.assign(value=first["agreement"], sure=first["agreement_q"] < level)
        _cells(line[0], first, names, runs, reach=1.0, title=f"agreement, {under}")
        for ax, recipe in zip(line[1:], recipes, strict=True):
            part = of_images[of_images["recipe"] == recipe]
            part = part.assign(value=100 * part["gain"], sure=part["told"])
            _cells(ax, part, names, runs, reach=reach, title=f"gain by {recipe}, {under}")
        for y, cost in enumerate(table.groupby("criterion")["passes"].mean().reindex(names)):
            text = "part of the run" if np.isnan(cost) else f"{cost:,.0f}"
            line[-1].text(len(runs) + 0.15, y + 0.5, text, va="center", size=7.5)
        line[-1].set_title("images passed", loc="right", x=1 + 1.05 / width, size=8)
    for line in axes:
        canvas.hide_repeated([line])
        for ax in line:
            ax.tick_params(axis="x", rotation=90, labelbottom=ax in axes[-1])
    return fig


@canvas.styled
def picks_chart(used: pd.DataFrame) -> Figure:
    """What training each pick leaves: picks down, those that lie first in the network first, behind
    nothing and everything trained; a column for each image set.

    used: rows of one run at one epoch under one recipe.
    """
    used = used.assign(pick=used["criterion"].map(policy_of))
    depths = used.groupby("pick")["depth"].mean()
    names = [name for name in REFERENCES if name in depths]
    names += [*depths.drop(names).sort_values(kind="stable").index]
    labels = [SAID.get(name) or f"{name}, {depths[name]:.2f}" for name in names]
    images = list(dict.fromkeys(used["images"]))
    left = canvas.label_width(labels)
    width = max(2.0, min(3.4, (MAX_WIDTH - left - 0.3) / len(images) - 0.25))
    room = canvas.Room(left=left, bottom=0.55)
    fig, (axes,) = canvas.axes_grid([[width] * len(images), [0.22 * len(names) + 0.1]], room)
    for ax, name in zip(axes, images, strict=True):
        by_seed = used[used["images"] == name].groupby(["pick", "seed"])["accuracy"].mean() * 100
        for y, pick in enumerate(names):
            seeds = by_seed[pick]
            colour = CONTROL if is_control(pick) else TOLD
            says = [f"{labels[y]}, seed {seed}: {value:.1f} %" for seed, value in seeds.items()]
            marks(ax, seeds, [y] * len(seeds), ".", says=says, ms=5, color=GREY)
            mean, n = seeds.mean(), count(range(len(seeds)), "seed")
            marks(ax, mean, y, "D", says=[f"{labels[y]}: {mean:.1f} %, {n}"], ms=4.5, color=colour)
            if pick in REFERENCES:
                ax.axvline(mean, color=GREY, lw=0.9, ls="--")
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_yticks(range(len(names)), labels)
        ax.set_title(where(name))
        ax.set_xlabel("accuracy (%)")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.5)
    canvas.hide_repeated([axes])
    handles = [
        key("criterion", color=TOLD, marker="D", ms=4.5, ls=""),
        key("control", color=CONTROL, marker="D", ms=4.5, ls=""),
        key("one seed", color=GREY, marker=".", ls=""),
    ]
    canvas.legend(fig, handles, columns=3)
    return fig


def _cells(ax: Axes, part: pd.DataFrame, names, runs, *, reach: float, title: str) -> None:
    """Numbers on colours; in bold what is told from 0. part: value, sure, criterion and run."""
    table = part.set_index(["criterion", "run"])
    scale, colours = Normalize(-reach, reach), np.ones((len(names), len(runs), 4))
    says = np.full(colours.shape[:2], "", object)
    for y, name in enumerate(names):
        for x, run in enumerate(runs):
            there = (name, run) in table.index and np.isfinite(table.loc[(name, run), "value"])
            value = table.loc[(name, run), "value"] if there else np.nan
            colours[y, x] = canvas.DIVERGING(scale(value)) if there else (0.93, 0.93, 0.93, 1)
            sure = there and table.loc[(name, run), "sure"]
            text = minus(f"{value:+.2f}") if there else "\u2013"
            ink, weight = canvas.ink_on(colours[y, x, :3]), "bold" if sure else "normal"
            canvas.write(ax, x, y, text, size=7, va="center", color=ink, weight=weight)
            beyond = "" if sure else ", may be chance"
            says[y, x] = f"{name}, {run}: {text}{beyond if there else ''}"
    labels = [run.replace(" \u00b7 ", "\n") for run in runs]
    canvas.mesh(ax, colours, names, labels, title=title, says=says)
    first = next((y for y, name in enumerate(names) if is_control(name)), 0)
    if first:
        ax.axhline(first, color=GREY, lw=1.2)
