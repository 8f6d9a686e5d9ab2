"""The figures about internal perturbations; see `report.canvas`."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from faultline.report.canvas import (
    GREY,
    MAX_WIDTH,
    axes_grid,
    cell_width,
    colour_bar,
    hide_repeated,
    label_width,
    layer_order,
    legend,
    mesh,
    patch,
    styled,
    tips,
)
from faultline.report.page import said, said_of_seeds
from faultline.studies.perturbations.kinds import KINDS
from faultline.studies.perturbations.scores import LOSS

SEEN_COLOURS = {"yes": "#009e73", "no": "#d55e00", "undecided": "#6b7280", "undefined": "#6b7280"}

UNDEFINED = "#e5e7eb"

MAX_COLUMNS = 4

MAX_TOLD = 24
"""Layers up to which marks of curves tell their numbers; those of more lie on each other, and the
cells of the map tell the same."""


@styled
def perturbation_curves(curves: pd.DataFrame) -> Figure:
    """Relative performance over the strength: a panel per kind and parameter, a line per layer.

    curves: one checkpoint epoch and image set. Line: mean over repeats and seeds; band: standard
    deviation over repeats, mean over seeds.
    """
    panels = _panels(curves)
    colours = _layer_colours(curves)
    columns = min(MAX_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    in_legend, limits = -(-len(colours) // 4), (-0.15, 1.15)
    fig, axes = axes_grid(
        [[(MAX_WIDTH - 0.9) / max(columns, 2) - 0.3] * columns, [2.1] * rows],
        left=0.65,
        bottom=0.75 + 0.17 * in_legend,
        top=0.35,
        gap=(0.3, 0.75),
        least=7.6,
    )
    for index, ax in enumerate(axes.flat):
        if index >= len(panels):
            ax.set_axis_off()
            continue
        part = _of(curves, panels[index])
        for layer, of_layer in part.groupby("layer", sort=False):
            line = of_layer.groupby("strength")[["value", "std"]].mean()
            ax.plot(line.index, line["value"], color=colours[layer], lw=1.5)
            inside = line["value"].where(line["value"].between(*limits))
            dots = ax.plot(line.index, inside, "o", ms=2, color=colours[layer])
            if len(colours) <= MAX_TOLD:
                told = _said(of_layer)
                tips(dots[0], [f"{layer}, {at:g}: {told[layer, at]}" for at in line.index])
            ax.fill_between(
                line.index,
                line["value"] - line["std"],
                line["value"] + line["std"],
                color=colours[layer],
                alpha=0.12,
                lw=0,
            )
        ax.axhline(1 - LOSS, color=GREY, lw=0.8, ls=(0, (1, 2)))
        ax.set_xlim(0, part["strength"].max())
        ax.set_ylim(*limits)
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.grid(lw=0.5)
        ax.set_title(_title(panels[index]))
        ax.set_xlabel(_strength(panels[index], part))
        if index % columns:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("relative performance")
    handles = [Line2D([], [], color=c, lw=2, label=layer) for layer, c in colours.items()]
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label=f"{LOSS:.0%} lost"))
    legend(fig, handles, columns=4)
    return fig


@styled
def perturbation_map(curves: pd.DataFrame) -> Figure:
    """Relative performance, mean over repeats and seeds: layers down, strengths across, a panel per
    kind and parameter. curves: one checkpoint epoch and image set."""
    panels, names = _panels(curves), layer_order(curves)
    columns = min(MAX_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    counts = [_of(curves, panel)["strength"].nunique() for panel in panels]
    widest = [max(counts[column::columns]) for column in range(columns)]
    cell = cell_width(sum(widest), names, gap=0.25 * columns + 0.8, widest=0.45)
    scale, colours = Normalize(0, 1, clip=True), mpl.colormaps["cividis"]
    fig, axes = axes_grid(
        [[cell * count for count in widest], [0.22 * len(names)] * rows],
        left=label_width(names),
        right=0.95,
        bottom=0.85,
        top=0.35,
        gap=(0.25, 0.8),
        least=6.0,
    )
    for index, ax in enumerate(axes.flat):
        if index >= len(panels):
            ax.set_axis_off()
            continue
        part = _of(curves, panels[index])
        mean = part.pivot_table(index="layer", columns="strength", values="value", dropna=False)
        mean = mean.reindex(names)
        strengths, told = list(mean.columns), _said(part)
        says = [[f"{y}, {x:g}: {told.get((y, x), 'n/a')}" for x in strengths] for y in names]
        picture = colours(scale(mean.to_numpy()))[..., :3]
        picture[mean.isna().to_numpy()] = to_rgb(UNDEFINED)
        if cell >= 0.36:
            for (y, x), value in np.ndenumerate(mean.to_numpy()):
                if not np.isnan(value):
                    ax.text(
                        x + 0.5,
                        y + 0.5,
                        f"{value:.2f}".replace("-", "\u2212"),
                        ha="center",
                        va="center_baseline",
                        fontsize=6.5,
                        color="white" if value < 0.5 else "#1f2937",
                    )
        labels = [f"{s:g}" for s in strengths]
        if cell < 0.25:
            labels = [label if i % 5 == 0 else "" for i, label in enumerate(labels)]
        title, xlabel = _title(panels[index]), _strength(panels[index], part)
        mesh(ax, picture, names, labels, title=title, xlabel=xlabel, says=says)
        ax.set_xlim(0, widest[index % columns])
    for row in axes:
        hide_repeated([row])
    colour_bar(fig, axes[0][-1], scale, label="relative performance", colours=colours)
    legend(fig, [patch(to_rgb(UNDEFINED), "undefined, or no such tensor")], columns=1)
    return fig


@styled
def knockout_headline(headline: pd.DataFrame, *, almost_chance: float) -> Figure:
    """Relative performance with most synapses of one layer removed: a row per layer, a panel per
    image set, a dot per seed with its interval. headline: one checkpoint epoch, top-1."""
    roles = list(headline[["role", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    images, seeds = list(dict.fromkeys(headline["images"])), sorted(headline["seed"].unique())
    labels = [f"{role}: {layer}" for role, layer in roles]
    left = label_width(labels)
    width = min(4.0, (MAX_WIDTH - left - 0.2) / len(images) - 0.25)
    fig, axes = axes_grid(
        [[width] * len(images), [len(roles) * (0.14 * len(seeds) + 0.22)]],
        left=left,
        bottom=0.85,
        top=0.35,
        gap=(0.25, 0),
        least=7.6,
    )
    for ax, name in zip(axes[0], images, strict=True):
        ax.axvline(1 - LOSS, color=GREY, lw=0.9, ls=(0, (1, 2)))
        ax.axvline(almost_chance, color=GREY, lw=0.9, ls="--")
        for row in headline[headline["images"] == name].to_dict("records"):
            spread = (seeds.index(row["seed"]) + 0.5) / len(seeds) - 0.5
            y = roles.index((row["role"], row["layer"])) + 0.6 * spread
            colour = SEEN_COLOURS[row["seen"]]
            ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.2, clip_on=True)
            dot = ax.plot(row["value"], y, "o", ms=4, color=colour)
            tips(dot[0], [f"seed {row['seed']}: {said(row)}"])
        ax.set_ylim(len(roles) - 0.5, -0.5)
        ax.set_yticks(range(len(roles)), labels)
        ax.set_xlim(-0.2, 1.2)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.5)
        ax.set_title("clean" if name == "clean" else f"adversarial, {name}")
        ax.set_xlabel("relative performance")
    hide_repeated(axes)
    handles = [
        Line2D([], [], marker="o", color=SEEN_COLOURS[seen], ms=4, lw=1.2, label=label)
        for seen, label in (
            ("yes", "as claimed"),
            ("no", "not as claimed"),
            ("undecided", "undecided"),
        )
    ]
    handles += [
        Line2D([], [], color=GREY, lw=0.9, ls=(0, (1, 2)), label=f"{LOSS:.0%} lost"),
        Line2D([], [], color=GREY, lw=0.9, ls="--", label="almost chance"),
    ]
    legend(fig, handles, columns=5)
    return fig


def _said(curves: pd.DataFrame) -> dict[tuple[str, float], str]:
    """What marks tell, by layer and strength."""
    return {at: said_of_seeds(rows) for at, rows in curves.groupby(["layer", "strength"])}


def _panels(curves: pd.DataFrame) -> list[tuple[str, str]]:
    """Kind and parameter of each panel, those of biases last."""
    pairs = curves[["kind", "parameter"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(pairs, key=lambda pair: pair[1] == "bias")


def _of(curves: pd.DataFrame, panel: tuple[str, str]) -> pd.DataFrame:
    return curves[(curves["kind"] == panel[0]) & (curves["parameter"] == panel[1])]


def _title(panel: tuple[str, str]) -> str:
    kind, parameter = panel
    return kind if parameter == "both" else f"{kind}, {parameter}"


def _strength(panel: tuple[str, str], curves: pd.DataFrame) -> str:
    kind = KINDS[panel[0]]
    if kind.strengths == "sigmas":
        return "noise (multiple of std)"
    if kind.of == "entries":
        return "share of entries"
    common = set(curves.get("layer_kind", ())) <= {"conv", "linear"}
    return "share of filters" if common else "share of units"


def _layer_colours(curves: pd.DataFrame) -> dict[str, tuple]:
    """By depth: the first layer of the network dark, the last one bright."""
    depth = curves.drop_duplicates("layer").set_index("layer")["depth"]
    return {layer: mpl.colormaps["plasma"](0.9 * d) for layer, d in depth.items()}
