"""The figures of layer sustainability; see `report.canvas`."""

from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from faultline.report import canvas
from faultline.report.canvas import DARK, GREY, MAX_WIDTH, key, marks
from faultline.report.page import count, said_of_seeds
from faultline.studies.sustainability.lists import listed_layers

LISTED = "#d55e00"

PERTURBER_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#3b3b3b", "#56b4e9"]

LONGEST = 22

SHARES = mpl.colormaps["Oranges"]


@canvas.styled
def error_profiles(probes: pd.DataFrame) -> Figure:
    """Mean relative error over probes in the order of depth, at the last epoch: a line per
    perturber, mean over seeds; band: range over seeds, or of one seed its interval over images.
    A filled dot: most vulnerable in every seed; a hollow one: in some."""
    table = canvas.last_epoch(probes)
    names, perturbers = _names(table), list(dict.fromkeys(table["perturber"]))
    several = len(table["seed"].unique()) > 1
    width = min(MAX_WIDTH - 0.9, max(6.7, 0.42 * len(names)))
    bottom = _under(names) + 0.55 + 0.18 * -(-(len(perturbers) + 2) // 5)
    room = canvas.Room(left=0.7, bottom=bottom, top=0.15)
    fig, axes = canvas.axes_grid([[width], [3.2]], room)
    ax, handles = axes[0][0], []
    for index, perturber in enumerate(perturbers):
        colour = PERTURBER_COLOURS[index % len(PERTURBER_COLOURS)]
        part = table[table["perturber"] == perturber]
        lines = canvas.by_seed(part, x="position", y="value")
        low, high = lines.min(axis=1), lines.max(axis=1)
        if not several:
            one = part.set_index("position")
            low, high = one["ci_low"], one["ci_high"]
        ax.fill_between(lines.index, low, high, color=colour, alpha=0.15, lw=0)
        _mark(ax, part, lines.mean(axis=1), colour, line=colour)
        handles.append(key(perturber, color=colour, lw=2))
    _probe_axis(ax, names)
    ax.set_ylim(0, None)
    ax.set_ylabel("relative error")
    canvas.legend(fig, [*handles, *_dots(several, DARK)], columns=5)
    return fig


@canvas.styled
def error_limits(probes: pd.DataFrame, lists: pd.DataFrame, *, eta: float) -> Figure:
    """The same, a panel per perturber, with mu and the limit mu + eta sigma that make the list; a
    thin line per seed. lists: of the same checkpoints."""
    table, limits = canvas.last_epoch(probes), canvas.last_epoch(lists)
    names, several = _names(table), len(table["seed"].unique()) > 1

    handles = [
        key("mean over seeds" if several else "the seed", color=DARK, lw=1.5),
        key("\u03bc", color=GREY, lw=0.9, ls="--"),
        key(f"\u03bc + {eta:g} \u03c3", color=LISTED, lw=0.9, ls=(0, (1, 1.5))),
        *_dots(several, LISTED),
    ]
    fig, panels = _panels(table, handles, labels=names)
    for ax, (perturber, part) in panels:
        lines = canvas.by_seed(part, x="position", y="value")
        if several:
            ax.plot(lines.index, lines, color=GREY, lw=0.6, alpha=0.6)
        else:
            ax.vlines(part["position"], part["ci_low"], part["ci_high"], color=GREY, lw=1.2)
        here = limits[(limits["perturber"] == perturber) & (limits["eta"] == eta)]
        ax.axhline(here["mu"].mean(), color=GREY, lw=0.9, ls="--")
        ax.axhline(here["limit"].mean(), color=LISTED, lw=0.9, ls=(0, (1, 1.5)))
        _mark(ax, part, lines.mean(axis=1), LISTED, line=DARK)
        _probe_axis(ax, names)
        ax.set_ylim(0, None)
    return fig


@canvas.styled
def error_epochs(probes: pd.DataFrame) -> Figure:
    """Mean relative error over checkpoint epochs, mean over seeds: a panel per perturber, a line
    per probe, dark near the input and bright near the output."""
    names = _names(probes)
    colours = [mpl.colormaps["plasma"](0.9 * i / max(len(names) - 1, 1)) for i in range(len(names))]
    epochs = sorted(probes["epoch"].unique())

    shown: Iterable[int] = range(len(names))
    if len(names) > 24:  # enough to read the colours by
        shown = np.unique(np.linspace(0, len(names) - 1, 12).astype(int))
    handles = [key(canvas.shortened(names[i], 28), color=colours[i], lw=2) for i in shown]
    fig, panels = _panels(probes, handles, labels=["epoch"], xlabel="epoch")
    for ax, (_, part) in panels:
        for name, colour in zip(names, colours, strict=True):
            of_probe = part[part["probe"] == name]
            line, says = of_probe.groupby("epoch")["value"].mean(), _said(of_probe, "epoch")
            texts = [f"epoch {epoch}, {says[epoch]}" for epoch in line.index]
            marks(ax, line.index, line, says=texts, color=colour, lw=1.3, marker="o", ms=2.5)
        ax.set_xticks(epochs, [f"{e}" for e in epochs])
        ax.set_ylim(0, None)
        ax.grid(lw=0.5)
    return fig


@canvas.styled
def list_map(probes: pd.DataFrame, lists: pd.DataFrame, *, eta: float) -> Figure:
    """Which layers are most vulnerable, over eta, at the last epoch: layers down, eta across, a
    panel per perturber; the colour is the share of seeds that list the layer."""
    table, limits = canvas.last_epoch(probes), canvas.last_epoch(lists)
    names, etas = _names(table), sorted(limits["eta"].unique())
    parts = canvas.split(limits, "perturber")
    columns = min(len(parts), max(1, int((MAX_WIDTH - canvas.label_width(names)) / 2.2)), 3)
    cell = canvas.cell_width(columns * len(etas), names, gap=0.25 * columns, widest=0.34)
    size = cell * len(etas), 0.2 * len(names)
    room = canvas.Room(left=canvas.label_width(names), bottom=0.9, top=0.3)
    fig, panels = canvas.panels(parts, size, room, columns=columns, xlabel="\u03b7")
    seeds = limits["seed"].nunique()
    for ax, (perturber, part) in panels:
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
        canvas.mesh(ax, _shares(share), names, labels, title=perturber, says=says)
        ax.tick_params(axis="x", labelsize=7)
        at = etas.index(eta), 0
        ax.add_patch(Rectangle(at, 1, len(names), fill=False, ec=DARK, lw=1.1))
    steps = [0, 1] if seeds == 1 else [0, 0.5, 1]
    words = {0: "not listed", 0.5: "listed in half of the seeds", 1: "listed in every seed"}
    if seeds == 1:
        words[1] = "most vulnerable"
    handles = [canvas.patch(_shares(np.array([s]))[0], words[s]) for s in steps]
    handles.append(Patch(fill=False, ec=DARK, lw=1.1, label=f"\u03b7 = {eta:g}"))
    canvas.legend(fig, handles, columns=4)
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
    return 0.1 + 0.06 * max(len(canvas.shortened(name, LONGEST)) for name in names)


def _probe_axis(ax: Axes, names: list[str]) -> None:
    assert isinstance(ax.figure, Figure)
    step = -(-len(names) // max(int(ax.get_position().width * ax.figure.get_figwidth() / 0.13), 1))
    shown = range(0, len(names), step)
    labels = [canvas.shortened(names[i], LONGEST) for i in shown]
    ax.set_xticks(shown, labels, rotation=90, fontsize=7)
    ax.set_xlim(-0.4, len(names) - 0.6)
    ax.grid(lw=0.5)


def _said(part: pd.DataFrame, by: str) -> dict[int, str]:
    """What marks of one perturber tell, by position or epoch."""
    return {
        at: f"{rows['probe'].iloc[0]}, {rows['perturber'].iloc[0]}: {said_of_seeds(rows)}"
        for at, rows in part.groupby(by)
    }


def _mark(ax: Axes, part: pd.DataFrame, mean: pd.Series, colour: str, *, line: str) -> None:
    says = _said(part, "position")
    texts = [says[at] for at in mean.index]
    marks(ax, mean.index, mean, says=texts, color=line, lw=1.5, marker=".", ms=4)
    listed = part.groupby("position")["mvl"]
    every, some = listed.all(), listed.any()
    for chosen, face in ((every, colour), (some & ~every, "white")):
        at = chosen.index[chosen]
        look = {"ms": 5, "mfc": face, "mec": colour, "mew": 1.2, "zorder": 3}
        marks(ax, at, mean[at], "o", says=[says[position] for position in at], **look)


def _dots(several: bool, colour: str) -> list[Line2D]:
    common = {"marker": "o", "ls": "", "ms": 5, "mec": colour, "mew": 1.2}
    every = "most vulnerable" + " in every seed" * several
    dots = [key(every, mfc=colour, **common)]
    return [*dots, key("in some seeds", mfc="white", **common)] if several else dots


def _panels(table: pd.DataFrame, handles: list[Line2D], *, labels: list[str], xlabel: str = ""):
    """One panel of errors per perturber, as of `canvas.panels`; labels: those of the x axis, of the
    lowest panels only."""
    parts = canvas.split(table, "perturber")
    columns = min(3 if len(labels) <= 18 else 2, len(parts))
    in_legend = 5 if len(handles) > 5 else len(handles)
    size = (MAX_WIDTH - 0.8) / max(columns, 2) - 0.45, 1.9
    bottom = _under(labels) + 0.35 + 0.18 * -(-len(handles) // in_legend)
    room = canvas.Room(left=0.6, bottom=bottom, top=0.3, gap=(0.45, 0.45))
    fig, panels = canvas.panels(
        parts,
        size,
        room,
        columns=columns,
        xlabel=xlabel,
        ylabel="relative error",
        own_x=False,
        own_y=True,
    )
    for ax, (perturber, _) in panels:
        ax.set_title(perturber)
    canvas.legend(fig, handles, columns=in_legend)
    return fig, panels
