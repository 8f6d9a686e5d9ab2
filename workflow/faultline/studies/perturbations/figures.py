"""The figures about internal perturbations; see `report.canvas`."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure

from faultline.report import canvas
from faultline.report.canvas import DARK, DOTTED, GREY, MAX_WIDTH, key, marks
from faultline.report.page import minus, said, said_of_seeds
from faultline.studies.perturbations.kinds import KINDS
from faultline.studies.perturbations.scores import LOSS

SEEN_COLOURS = {"yes": "#009e73", "no": "#d55e00", "undecided": "#6b7280", "undefined": "#6b7280"}

UNDEFINED = "#e5e7eb"

MAX_COLUMNS = 4

MAX_TOLD = 24
"""Layers up to which marks of curves tell their numbers; those of more lie on each other, and the
cells of the map tell the same."""


@canvas.styled
def perturbation_curves(curves: pd.DataFrame) -> Figure:
    """Relative performance over the strength: a panel per kind and parameter, a line per layer.

    curves: one checkpoint epoch and image set. Line: mean over repeats and seeds; band: standard
    deviation over repeats, mean over seeds.
    """
    kinds, colours = _by_kind(curves), _layer_colours(curves)
    limits = (-0.15, 1.15)
    columns = min(MAX_COLUMNS, len(kinds))
    size = (MAX_WIDTH - 0.9) / max(columns, 2) - 0.3, 2.1
    room = canvas.Room(bottom=0.75 + 0.17 * -(-len(colours) // 4), gap=(0.3, 0.75))
    fig, panels = canvas.panels(kinds, size, room, columns=columns, ylabel="relative performance")
    for ax, (kind, part) in panels:
        for layer, of_layer in part.groupby("layer", sort=False):
            line, colour = of_layer.groupby("strength")[["value", "std"]].mean(), colours[layer]
            ax.plot(line.index, line["value"], color=colour, lw=1.5)
            inside = line["value"].where(line["value"].between(*limits))
            says = _said(of_layer) if len(colours) <= MAX_TOLD else {}
            texts = [f"{layer}, {at:g}: {says.get((layer, at))}" for at in line.index]
            marks(ax, line.index, inside, "o", says=texts if says else None, ms=2, color=colour)
            low, high = line["value"] - line["std"], line["value"] + line["std"]
            ax.fill_between(line.index, low, high, color=colour, alpha=0.12, lw=0)
        ax.axhline(1 - LOSS, color=GREY, lw=0.8, ls=DOTTED)
        if KINDS[kind[0]].strengths == "rates":
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set_xlim(part.loc[part["strength"] > 0, "strength"].min(), part["strength"].max())
        else:
            ax.set_xlim(0, part["strength"].max())
        ax.set_ylim(*limits)
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.grid(lw=0.5)
        ax.set_title(_title(kind))
        ax.set_xlabel(_strength(kind, part))
    handles = [key(layer, color=colour, lw=2) for layer, colour in colours.items()]
    handles.append(key(f"{LOSS:.0%} lost", color=GREY, lw=0.8, ls=DOTTED))
    canvas.legend(fig, handles, columns=4)
    return fig


@canvas.styled
def perturbation_map(curves: pd.DataFrame) -> Figure:
    """Relative performance, mean over repeats and seeds: layers down, strengths across, a panel per
    kind and parameter. curves: one checkpoint epoch and image set."""
    kinds, names = _by_kind(curves), canvas.layer_order(curves)
    columns = min(MAX_COLUMNS, len(kinds))
    counts = [part["strength"].nunique() for part in kinds.values()]
    widest = [max(counts[column::columns]) for column in range(columns)]
    cell = canvas.cell_width(sum(widest), names, gap=0.25 * columns + 0.8, widest=0.45)
    scale, colours = Normalize(0, 1, clip=True), mpl.colormaps["cividis"]
    size = [cell * count for count in widest], 0.22 * len(names)
    room = canvas.Room(
        left=canvas.label_width(names), right=0.95, bottom=0.85, gap=(0.25, 0.8), least=6.0
    )
    fig, panels = canvas.panels(kinds, size, room, columns=columns)
    for index, (ax, (kind, part)) in enumerate(panels):
        mean = part.pivot_table(index="layer", columns="strength", values="value", dropna=False)
        mean = mean.reindex(names)
        strengths, seeds = list(mean.columns), _said(part)
        says = [[f"{y}, {x:g}: {seeds.get((y, x), 'n/a')}" for x in strengths] for y in names]
        picture = colours(scale(mean.to_numpy()))[..., :3]
        picture[mean.isna().to_numpy()] = to_rgb(UNDEFINED)
        for (y, x), value in np.ndenumerate(mean.to_numpy()):
            if cell >= 0.36 and not np.isnan(value):
                ink = "white" if value < 0.5 else DARK
                canvas.write(ax, x, y, minus(f"{value:.2f}"), fontsize=6.5, color=ink)
        labels = [f"{s:g}" for s in strengths]
        if cell < 0.25:
            labels = [label if i % 5 == 0 else "" for i, label in enumerate(labels)]
        title, xlabel = _title(kind), _strength(kind, part)
        canvas.mesh(ax, picture, names, labels, title=title, xlabel=xlabel, says=says)
        ax.set_xlim(0, widest[index % columns])
    canvas.colour_bar(
        fig, panels[columns - 1][0], scale, label="relative performance", colours=colours
    )
    canvas.legend(fig, [canvas.patch(to_rgb(UNDEFINED), "undefined, or no such tensor")], columns=1)
    return fig


@canvas.styled
def knockout_headline(headline: pd.DataFrame, *, almost_chance: float) -> Figure:
    """Relative performance with most synapses of one layer removed: a row per layer, a panel per
    image set, a dot per seed with its interval. headline: one checkpoint epoch, top-1."""
    roles = list(headline[["role", "layer"]].drop_duplicates().itertuples(index=False, name=None))
    images, seeds = list(dict.fromkeys(headline["images"])), sorted(headline["seed"].unique())
    labels = [f"{role}: {layer}" for role, layer in roles]
    left = canvas.label_width(labels)
    width = min(4.0, (MAX_WIDTH - left - 0.2) / len(images) - 0.25)
    size = width, len(roles) * (0.14 * len(seeds) + 0.22)
    room = canvas.Room(left=left, bottom=0.85)
    fig, panels = canvas.panels(
        canvas.split(headline, "images", images), size, room, xlabel="relative performance"
    )
    for ax, (name, part) in panels:
        ax.axvline(1 - LOSS, color=GREY, lw=0.9, ls=DOTTED)
        ax.axvline(almost_chance, color=GREY, lw=0.9, ls="--")
        for row in part.to_dict("records"):
            spread = (seeds.index(row["seed"]) + 0.5) / len(seeds) - 0.5
            y = roles.index((row["role"], row["layer"])) + 0.6 * spread
            colour = SEEN_COLOURS[row["seen"]]
            ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.2, clip_on=True)
            says = [f"seed {row['seed']}: {said(row)}"]
            marks(ax, row["value"], y, "o", says=says, ms=4, color=colour)
        canvas.rows_axis(ax, labels)
        ax.set_xlim(-0.2, 1.2)
        ax.set_title(canvas.images_title(name))
    claims = {"yes": "as claimed", "no": "not as claimed", "undecided": "undecided"}
    handles = [
        key(label, marker="o", color=SEEN_COLOURS[seen], ms=4, lw=1.2)
        for seen, label in claims.items()
    ]
    handles.append(key(f"{LOSS:.0%} lost", color=GREY, lw=0.9, ls=DOTTED))
    handles.append(key("almost chance", color=GREY, lw=0.9, ls="--"))
    canvas.legend(fig, handles, columns=5)
    return fig


def _said(curves: pd.DataFrame) -> dict[tuple[str, float], str]:
    """What marks tell, by layer and strength."""
    return {at: said_of_seeds(rows) for at, rows in curves.groupby(["layer", "strength"])}


def _by_kind(curves: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Kind and parameter -> the rows of a panel, those of biases last."""
    parts = canvas.split(curves, ["kind", "parameter"])
    return {pair: parts[pair] for pair in sorted(parts, key=lambda pair: pair[1] == "bias")}


def _title(panel: tuple[str, str]) -> str:
    kind, parameter = panel
    return kind if parameter == "both" else f"{kind}, {parameter}"


def _strength(panel: tuple[str, str], curves: pd.DataFrame) -> str:
    kind = KINDS[panel[0]]
    if kind.strengths == "sigmas":
        return "noise (multiple of std)"
    if kind.strengths == "rates":
        return "rate of bit faults"
    if kind.of == "entries":
        return "share of entries"
    common = set(curves.get("layer_kind", ())) <= {"conv", "linear"}
    return "share of filters" if common else "share of units"


def _layer_colours(curves: pd.DataFrame) -> dict[str, tuple]:
    """By depth: the first layer of the network dark, the last one bright."""
    depth = curves.drop_duplicates("layer").set_index("layer")["depth"]
    return {layer: mpl.colormaps["plasma"](0.9 * d) for layer, d in depth.items()}
