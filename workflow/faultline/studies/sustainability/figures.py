"""The figures of layer sustainability; see `report.canvas`."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from faultline.report.canvas import (
    GREY,
    MAX_WIDTH,
    axes_grid,
    by_seed,
    cell_width,
    hide_repeated,
    label_width,
    last_epoch,
    legend,
    mesh,
    patch,
    shortened,
    styled,
    tips,
)
from faultline.report.page import count, said_of_seeds
from faultline.studies.sustainability.lists import listed_layers

LISTED = "#d55e00"

PERTURBER_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#3b3b3b", "#56b4e9"]

LONGEST = 22

SHARES = mpl.colormaps["Oranges"]


@styled
def error_profiles(probes: pd.DataFrame) -> Figure:
    """Mean relative error over probes in the order of depth, at the last epoch: a line per
    perturber, mean over seeds; band: range over seeds, or of one seed its interval over images.
    A filled dot: most vulnerable in every seed; a hollow one: in some."""
    table = last_epoch(probes)
    names, perturbers = _names(table), list(dict.fromkeys(table["perturber"]))
    several = len(table["seed"].unique()) > 1
    width = min(MAX_WIDTH - 0.9, max(6.7, 0.42 * len(names)))
    fig, axes = axes_grid(
        [[width], [3.2]],
        left=0.7,
        bottom=_under(names) + 0.55 + 0.18 * -(-(len(perturbers) + 2) // 5),
        top=0.15,
        least=7.6,
    )
    ax, handles = axes[0][0], []
    for index, perturber in enumerate(perturbers):
        colour = PERTURBER_COLOURS[index % len(PERTURBER_COLOURS)]
        part = table[table["perturber"] == perturber]
        lines = by_seed(part, x="position", y="value")
        low, high = lines.min(axis=1), lines.max(axis=1)
        if not several:
            one = part.set_index("position")
            low, high = one["ci_low"], one["ci_high"]
        ax.fill_between(lines.index, low, high, color=colour, alpha=0.15, lw=0)
        _mark(ax, part, lines.mean(axis=1), colour, line=colour)
        handles.append(Line2D([], [], color=colour, lw=2, label=perturber))
    _probe_axis(ax, names)
    ax.set_ylim(0, None)
    ax.set_ylabel("relative error")
    legend(fig, [*handles, *_dots(several, "#1f2937")], columns=5)
    return fig


@styled
def error_limits(probes: pd.DataFrame, lists: pd.DataFrame, *, eta: float) -> Figure:
    """The same, a panel per perturber, with mu and the limit mu + eta sigma that make the list; a
    thin line per seed. lists: of the same checkpoints."""
    table, limits = last_epoch(probes), last_epoch(lists)
    names, several = _names(table), len(table["seed"].unique()) > 1

    def draw(ax: Axes, perturber: str) -> None:
        part = table[table["perturber"] == perturber]
        lines = by_seed(part, x="position", y="value")
        if several:
            ax.plot(lines.index, lines, color=GREY, lw=0.6, alpha=0.6)
        else:
            ax.vlines(part["position"], part["ci_low"], part["ci_high"], color=GREY, lw=1.2)
        here = limits[(limits["perturber"] == perturber) & (limits["eta"] == eta)]
        ax.axhline(here["mu"].mean(), color=GREY, lw=0.9, ls="--")
        ax.axhline(here["limit"].mean(), color=LISTED, lw=0.9, ls=(0, (1, 1.5)))
        _mark(ax, part, lines.mean(axis=1), LISTED, line="#1f2937")
        _probe_axis(ax, names)
        ax.set_ylim(0, None)

    handles = [
        Line2D([], [], color="#1f2937", lw=1.5, label="mean over seeds" if several else "the seed"),
        Line2D([], [], color=GREY, lw=0.9, ls="--", label="\u03bc"),
        Line2D([], [], color=LISTED, lw=0.9, ls=(0, (1, 1.5)), label=f"\u03bc + {eta:g} \u03c3"),
        *_dots(several, LISTED),
    ]
    return _panels(table, draw, handles, labels=names, ylabel="relative error")


@styled
def error_epochs(probes: pd.DataFrame) -> Figure:
    """Mean relative error over checkpoint epochs, mean over seeds: a panel per perturber, a line
    per probe, dark near the input and bright near the output."""
    names = _names(probes)
    colours = [mpl.colormaps["plasma"](0.9 * i / max(len(names) - 1, 1)) for i in range(len(names))]
    epochs = sorted(probes["epoch"].unique())

    def draw(ax: Axes, perturber: str) -> None:
        part = probes[probes["perturber"] == perturber]
        for name, colour in zip(names, colours, strict=True):
            line = part[part["probe"] == name].groupby("epoch")["value"].mean()
            drawn = ax.plot(line.index, line, color=colour, lw=1.3, marker="o", ms=2.5)
            told = _said(part[part["probe"] == name], "epoch")
            tips(drawn[0], [f"epoch {epoch}, {told[epoch]}" for epoch in line.index])
        ax.set_xticks(epochs, [f"{e}" for e in epochs])
        ax.set_xlabel("epoch")
        ax.set_ylim(0, None)
        ax.grid(lw=0.5)

    shown = range(len(names))
    if len(names) > 24:  # enough to read the colours by
        shown = np.unique(np.linspace(0, len(names) - 1, 12).astype(int))
    handles = [Line2D([], [], color=colours[i], lw=2, label=shortened(names[i], 28)) for i in shown]
    return _panels(probes, draw, handles, labels=["epoch"], ylabel="relative error")


@styled
def list_map(probes: pd.DataFrame, lists: pd.DataFrame, *, eta: float) -> Figure:
    """Which layers are most vulnerable, over eta, at the last epoch: layers down, eta across, a
    panel per perturber; the colour is the share of seeds that list the layer."""
    table, limits = last_epoch(probes), last_epoch(lists)
    names, etas = _names(table), sorted(limits["eta"].unique())
    perturbers = list(dict.fromkeys(limits["perturber"]))
    columns = min(len(perturbers), max(1, int((MAX_WIDTH - label_width(names)) / 2.2)), 3)
    rows = -(-len(perturbers) // columns)
    cell = cell_width(columns * len(etas), names, gap=0.25 * columns, widest=0.34)
    fig, axes = axes_grid(
        [[cell * len(etas)] * columns, [0.2 * len(names)] * rows],
        left=label_width(names),
        bottom=0.9,
        top=0.3,
        gap=(0.25, 0.75),
        least=7.6,
    )
    seeds = limits["seed"].nunique()
    for index, ax in enumerate(axes.flat):
        if index >= len(perturbers):
            ax.set_axis_off()
            continue
        part = limits[limits["perturber"] == perturbers[index]]
        share = np.zeros((len(names), len(etas)))
        for text, value in zip(part["mvl"], part["eta"], strict=True):
            for name in listed_layers(text):
                share[names.index(name), etas.index(value)] += 1 / seeds
        labels = [f"{e:g}".replace("-", "\u2212") for e in etas]
        of = count(range(seeds), "seed")
        says = [
            [
                f"{name}, \u03b7 = {e}: listed in {x:.0f} of {of}"
                for e, x in zip(labels, row, strict=True)
            ]
            for name, row in zip(names, seeds * share, strict=True)
        ]
        if cell < 0.27:
            labels = [
                label if i % 2 == 0 or e == eta else ""
                for i, (label, e) in enumerate(zip(labels, etas, strict=True))
            ]
        title = perturbers[index]
        mesh(ax, _shares(share), names, labels, title=title, xlabel="\u03b7", says=says)
        ax.tick_params(axis="x", labelsize=7)
        at = etas.index(eta)
        ax.add_patch(
            mpl.patches.Rectangle((at, 0), 1, len(names), fill=False, ec="#1f2937", lw=1.1)
        )
    for row in axes:
        hide_repeated([row])
    steps = [0, 1] if seeds == 1 else [0, 0.5, 1]
    words = {0: "not listed", 0.5: "listed in half of the seeds", 1: "listed in every seed"}
    if seeds == 1:
        words[1] = "most vulnerable"
    handles = [patch(_shares(np.array([s]))[0], words[s]) for s in steps]
    handles.append(mpl.patches.Patch(fill=False, ec="#1f2937", lw=1.1, label=f"\u03b7 = {eta:g}"))
    legend(fig, handles, columns=4)
    return fig


def _shares(share: np.ndarray) -> np.ndarray:
    """Colours of shares, [..., 3]; none is as good as white."""
    colours = SHARES(0.15 + 0.6 * share)[..., :3]
    return np.where(np.asarray(share)[..., None] > 0, colours, np.array([0.95, 0.955, 0.96]))


def _names(table: pd.DataFrame) -> list[str]:
    """Probes in the order in which they run."""
    return list(table.sort_values("position", kind="stable")["probe"].drop_duplicates())


def _under(names: list[str]) -> float:
    """Height of labels that are written upwards."""
    return 0.1 + 0.06 * max(len(shortened(name, LONGEST)) for name in names)


def _probe_axis(ax: Axes, names: list[str]) -> None:
    step = -(-len(names) // max(int(ax.get_position().width * ax.figure.get_figwidth() / 0.13), 1))
    shown = range(0, len(names), step)
    ax.set_xticks(shown, [shortened(names[i], LONGEST) for i in shown], rotation=90, fontsize=7)
    ax.set_xlim(-0.4, len(names) - 0.6)
    ax.grid(lw=0.5)


def _said(part: pd.DataFrame, by: str) -> dict[int, str]:
    """What marks of one perturber tell, by position or epoch."""
    return {
        at: f"{rows['probe'].iloc[0]}, {rows['perturber'].iloc[0]}: {said_of_seeds(rows)}"
        for at, rows in part.groupby(by)
    }


def _mark(ax: Axes, part: pd.DataFrame, mean: pd.Series, colour: str, *, line: str) -> None:
    told = _said(part, "position")
    drawn = ax.plot(mean.index, mean, color=line, lw=1.5, marker=".", ms=4)
    tips(drawn[0], [told[at] for at in mean.index])
    listed = part.groupby("position")["mvl"]
    every, some = listed.all(), listed.any()
    for chosen, face in ((every, colour), (some & ~every, "white")):
        at = chosen.index[chosen]
        dots = ax.plot(at, mean[at], "o", ms=5, mfc=face, mec=colour, mew=1.2, zorder=3)
        tips(dots[0], [told[position] for position in at])


def _dots(several: bool, colour: str) -> list[Line2D]:
    common = {"marker": "o", "ls": "", "ms": 5, "mec": colour, "mew": 1.2}
    every = "most vulnerable" + " in every seed" * several
    dots = [Line2D([], [], mfc=colour, label=every, **common)]
    if several:
        dots.append(Line2D([], [], mfc="white", label="in some seeds", **common))
    return dots


def _panels(
    table: pd.DataFrame,
    draw: Callable[[Axes, str], None],
    handles: list[Line2D],
    *,
    labels: list[str],
    ylabel: str,
) -> Figure:
    """One panel per perturber; labels: those of the x axis, of the lowest panels only."""
    perturbers = list(dict.fromkeys(table["perturber"]))
    most = 3 if len(labels) <= 18 else 2
    columns = min(most, len(perturbers))
    rows, in_legend = -(-len(perturbers) // columns), 5 if len(handles) > 5 else len(handles)
    fig, axes = axes_grid(
        [[(MAX_WIDTH - 0.8) / max(columns, 2) - 0.45] * columns, [1.9] * rows],
        left=0.6,
        bottom=_under(labels) + 0.35 + 0.18 * -(-len(handles) // in_legend),
        top=0.3,
        gap=(0.45, 0.45),
        least=7.6,
    )
    for index, ax in enumerate(axes.flat):
        if index >= len(perturbers):
            ax.set_axis_off()
            continue
        draw(ax, perturbers[index])
        ax.set_title(perturbers[index])
        if index % columns == 0:
            ax.set_ylabel(ylabel)
        if index + columns < len(perturbers):
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
    legend(fig, handles, columns=in_legend)
    return fig
