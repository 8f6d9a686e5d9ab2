"""The figures of scores and classes.

Each function takes tables of one data set, network and training, as the workflow writes them under
results/tables, and returns a matplotlib Figure. Sizes are in inches.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from faultline.base.columns import CLASSES
from faultline.report.canvas import (
    CLASS_SYMBOLS,
    DIVERGING,
    GREY,
    MAX_WIDTH,
    axes_grid,
    cell_width,
    class_colour,
    class_dot,
    class_marker,
    colour_bar,
    hide_repeated,
    ink_on,
    label_width,
    last_epoch,
    layer_order,
    legend,
    mesh,
    patch,
    share_axis,
    shortened,
    signed,
    strong_colour,
    styled,
    tips,
)
from faultline.report.page import bracket, count, number, percent

ATTACK_LINES = ["--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]

FILTER_COLOURS = {"high_pass": "#009e73", "low_pass": "#cc79a7", "pulse": "#3b3b3b"}

MAX_PANELS = 60

MAX_FILTERS = 128

MAX_SEEDS = 5


@styled
def class_map(layers: pd.DataFrame, *, synaptic_filter: str = "combined") -> Figure:
    """Classes at the last epoch: layers down, seeds across, one panel per score and attack.

    Not decided: pale, with a question mark.
    """
    table = last_epoch(layers)
    table = table[table["filter"] == synaptic_filter]
    names, seeds = layer_order(table), sorted(table["seed"].unique())
    panels = _score_panels(table)
    cell = cell_width(len(panels) * len(seeds), names, gap=0.2 * len(panels), widest=0.5)
    fig, axes = axes_grid(
        [[cell * len(seeds)] * len(panels), [0.23 * len(names)]],
        left=label_width(names),
        bottom=0.95,
        top=0.5,
        gap=(0.2, 0),
        least=7.6,
    )
    for ax, (score, attack) in zip(axes[0], panels, strict=True):
        part = table[(table["score"] == score) & (table["attack"] == attack)]
        found = {(row["layer"], row["seed"]): row for row in part.to_dict("records")}
        colours = np.ones((len(names), len(seeds), 3))
        says = np.full((len(names), len(seeds)), "not scored", object)
        for y, layer in enumerate(names):
            for x, seed in enumerate(seeds):
                if (layer, seed) not in found:
                    continue
                row = found[layer, seed]
                name = row["class"]
                sure = bool(row["decided"]) or name in ("untouched", "undefined")
                colours[y, x] = class_colour(name, sure)
                says[y, x] = f"{layer}, seed {seed}: {_said(row)}"
                ax.text(
                    x + 0.5,
                    y + 0.5,
                    CLASS_SYMBOLS[name] + ("" if sure else "?"),
                    ha="center",
                    va="center_baseline",
                    fontsize=7.5,
                    color=ink_on(colours[y, x]),
                )
        title = _score_title(score, attack)
        mesh(ax, colours, names, seeds, title=title, xlabel="seed", says=says)
    hide_repeated(axes)
    handles = []
    for name in CLASSES:
        symbol = CLASS_SYMBOLS[name]
        handles.append(patch(class_colour(name, True), f"{symbol}  {name}"))
        if name in ("fragile", "robust", "antifragile"):
            handles.append(patch(class_colour(name, False), f"{symbol}?  {name}, not decided"))
    legend(fig, handles, columns=4)
    return fig


@styled
def threshold_curves(curves: pd.DataFrame, *, most: int = MAX_PANELS) -> Figure:
    """Accuracy over the normalised threshold at the last epoch: a panel per layer, the global sweep
    first; mean over seeds and, as a band, their range. At most `most` layers, from the first on."""
    table = last_epoch(curves)
    names = layer_order(table)[:most]
    images, filters = (list(dict.fromkeys(table[column])) for column in ("images", "filter"))
    styles = dict(zip(images, ["-", *ATTACK_LINES * len(images)], strict=False))
    columns = min(len(names), 4 if len(names) <= 12 else 6)
    rows = -(-len(names) // columns)
    width = (MAX_WIDTH - 0.9) / max(columns, 3) - 0.2
    fig, axes = axes_grid(
        [[width] * columns, [0.62 * width + 0.1] * rows],
        left=0.65,
        bottom=0.95,
        top=0.3,
        gap=(0.2, 0.3),
        least=7.6,
    )
    grouped = table.groupby(["layer", "filter", "images", "normalised"], sort=True)["accuracy"]
    lines = grouped.agg(["mean", "min", "max"]).reset_index(level="normalised")
    base = table.groupby(["layer", "images"])["base_accuracy"].mean()
    several = len(table["seed"].unique()) > 1
    for index, ax in enumerate(axes.flat):
        if index >= len(names):
            ax.set_axis_off()
            continue
        layer = names[index]
        for image_set in images:
            ax.axhline(base[layer, image_set], color=GREY, lw=0.7, ls=(0, (1, 2)))
            for name in filters:
                line = lines.loc[(layer, name, image_set)]
                colour = FILTER_COLOURS.get(name, GREY)
                x = line["normalised"]
                if several:
                    ax.fill_between(x, line["min"], line["max"], color=colour, alpha=0.15, lw=0)
                drawn = ax.plot(x, line["mean"], color=colour, ls=styles[image_set], lw=1.2)
                lowest, at = line["mean"].min(), x.iloc[line["mean"].argmin()]
                text = f"{layer}, {name}, {image_set}: lowest {percent(lowest)} at {at:.2f}"
                tips(drawn[0], [f"{text}, base {percent(base[layer, image_set])}"])
        whole = (table.loc[table["layer"] == layer, "scope"] == "global").any()
        ax.set_title(
            f"{layer}, global sweep" if whole else shortened(layer, int(width * 13)),
            fontsize=8,
            pad=3,
            fontweight="bold" if whole else "normal",
        )
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        share_axis(ax, "accuracy" if index % columns == 0 else None)
        if index + columns < len(names):
            ax.tick_params(labelbottom=False)
        else:
            ax.set_xlabel("threshold (normalised)", fontsize=8)
    handles = [
        Line2D([], [], color=FILTER_COLOURS.get(name, GREY), lw=2, label=name) for name in filters
    ]
    handles += [
        Line2D([], [], color="#1f2937", lw=1.2, ls=styles[i], label=i, dash_capstyle="butt")
        for i in images
    ]
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label="base network"))
    legend(fig, handles, columns=len(handles))
    return fig


@styled
def score_map(layers: pd.DataFrame, *, synaptic_filter: str = "combined") -> Figure:
    """Scores, mean over seeds: layers down, epochs across, a panel per score and attack.

    One colour scale, symmetric about 0. A dot marks cells whose class is not decided in every seed.
    """
    table = layers[layers["filter"] == synaptic_filter]
    names, epochs = layer_order(table), sorted(table["epoch"].unique())
    panels = _score_panels(table)
    cell = cell_width(len(panels) * len(epochs), names, gap=0.2 * len(panels) + 0.8, widest=0.62)
    largest = np.nanmax(table["value"].abs().to_numpy(), initial=0.0) or 1.0
    scale = Normalize(-largest, largest)
    fig, axes = axes_grid(
        [[cell * len(epochs)] * len(panels), [0.23 * len(names)]],
        left=label_width(names),
        right=0.95,
        bottom=0.85,
        top=0.5,
        gap=(0.2, 0),
        least=6.0,
    )
    for ax, (score, attack) in zip(axes[0], panels, strict=True):
        part = table[(table["score"] == score) & (table["attack"] == attack)]
        groups = part.groupby(["layer", "epoch"])
        mean, decided = groups["value"].mean(), groups["decided"].all()
        ends, seeds = groups["value"].agg(["min", "max"]), groups["seed"].nunique()
        colours = np.full((len(names), len(epochs), 3), to_rgb("#e5e7eb"))
        says = np.full((len(names), len(epochs)), "not scored", object)
        for y, layer in enumerate(names):
            for x, epoch in enumerate(epochs):
                if (layer, epoch) not in mean.index:
                    continue
                value, one = mean[layer, epoch], (layer, epoch)
                says[y, x] = f"{layer}, epoch {epoch}: {number(value)}, seeds from " + (
                    f"{number(ends['min'][one])} to {number(ends['max'][one])} (n = {seeds[one]})"
                )
                if not np.isnan(value):
                    colours[y, x] = DIVERGING(scale(value))[:3]
                if cell >= 0.36:
                    ax.text(
                        x + 0.5,
                        y + 0.5,
                        "n/a" if np.isnan(value) else signed(value),
                        ha="center",
                        va="center_baseline",
                        fontsize=7 if cell >= 0.42 else 6,
                        color=ink_on(colours[y, x]),
                    )
                if not decided[layer, epoch]:
                    ax.plot(x + 1 - 0.055 / cell, y + 0.22, ".", ms=3, color="#1f2937")
        title = _score_title(score, attack)
        mesh(ax, colours, names, epochs, title=title, xlabel="epoch", says=says)
    hide_repeated(axes)
    colour_bar(fig, axes[0][-1], scale, label="score")
    legend(
        fig,
        [
            Line2D([], [], marker=".", ls="", color="#1f2937", label="not decided in every seed"),
            patch(to_rgb("#e5e7eb"), "undefined"),
        ],
        columns=2,
    )
    return fig


BASELINE_COLOURS = {"unfiltered": "#3b3b3b", "kept_fraction": "#0072b2", "random": "#d55e00"}


@styled
def fragile_over_tau(layers: pd.DataFrame, *, tau: dict[str, float]) -> Figure:
    """Number of layers that are fragile over tau, mean over seeds: a line per baseline, a panel per
    score and attack (S_diff, which hardly depends on the baseline, is left out).

    layers: rows of one checkpoint epoch, with the column baseline; tau: that of the run.
    """
    table = layers[layers["score"] != "S_diff"]
    panels, seeds = _score_panels(table), table["seed"].nunique()
    width = min(3.4, (MAX_WIDTH - 0.9) / len(panels) - 0.3)
    fig, axes = axes_grid(
        [[width] * len(panels), [2.2]], left=0.65, bottom=0.95, top=0.35, gap=(0.3, 0), least=7.0
    )
    largest = max(1.1 * table["value"].abs().max(), 1.5 * max(tau.values()))
    grid = np.linspace(0, largest, 201)
    names = [name for name in BASELINE_COLOURS if name in set(table["baseline"])]
    for index, (ax, (score, attack)) in enumerate(zip(axes[0], panels, strict=True)):
        part = table[(table["score"] == score) & (table["attack"] == attack)]
        for name in names:
            rows = part[part["baseline"] == name]
            for column, width in (("family_high", 1.8), ("value", 0.7)):
                below = rows[column].to_numpy(float)[:, None] < -grid
                colour = BASELINE_COLOURS[name]
                look = {"color": colour, "lw": width, "drawstyle": "steps-post"}
                drawn = ax.plot(grid, below.sum(0) / seeds, **look)
                mean = (rows[column] < -tau[score]).sum() / seeds
                sure = "decided, " if column == "family_high" else ""
                text = f"{name}: {mean:.1f} fragile at tau {tau[score]:g}, {sure}"
                tips(drawn[0], [f"{text}n = {count(range(seeds), 'seed')}"])
        ax.axvline(tau[score], color=GREY, lw=0.8, ls=(0, (1, 2)))
        ax.set_xlim(0, largest)
        ax.set_ylim(0, table["layer"].nunique() + 0.3)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(_score_title(score, attack).replace("\n", ", "))
        ax.set_xlabel("tau")
        ax.grid(lw=0.5)
        if index == 0:
            ax.set_ylabel("fragile layers")
        else:
            ax.tick_params(labelleft=False)
    handles = [Line2D([], [], color=BASELINE_COLOURS[name], lw=2, label=name) for name in names]
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label="tau of this run"))
    legend(fig, handles, columns=len(handles))
    return fig


@styled
def filter_ranking(
    filters: pd.DataFrame, *, most: int = MAX_FILTERS, unit: str = "filter"
) -> Figure:
    """The filters of one layer at the last epoch, sorted by S_clean, with intervals.

    A row per seed, a panel for S_clean and for S_adv of each attack, in the same order along a row.
    Filled: the class is decided; hollow: it is not. With more than `most` filters, the two ends.
    unit: what they are called.
    """
    table = last_epoch(filters)
    table = table[table["score"].isin(["S_clean", "S_adv"])]
    seeds, panels = sorted(table["seed"].unique()), _score_panels(table)
    count = min(table["filter"].nunique(), most)
    width = (MAX_WIDTH - 0.95) / len(panels) - 0.3
    width = min(width, max(2.6, 0.16 * count + 0.3))
    fig, axes = axes_grid(
        [[width] * len(panels), [1.7] * len(seeds)],
        left=0.75,
        bottom=0.95,
        top=0.35,
        gap=(0.3, 0.45),
        least=7.6,
    )
    limits = _limits(table, ["ci_low", "ci_high", "value"])
    for row, seed in enumerate(seeds):
        of_seed = table[table["seed"] == seed]
        clean = of_seed[of_seed["score"] == "S_clean"].sort_values(["value", "filter"])
        order = list(clean["filter"])
        cut = len(order) > most
        if cut:
            order = [*order[: most // 2], *order[-(most - most // 2) :]]
        for column, (score, attack) in enumerate(panels):
            ax = axes[row][column]
            part = of_seed[(of_seed["score"] == score) & (of_seed["attack"] == attack)]
            part = part.set_index("filter").reindex(order)
            x = np.arange(len(order)) + (3.0 * (np.arange(len(order)) >= most // 2) if cut else 0)
            _points(ax, x, part, unit)
            _class_limits(ax.axhline, part["tau"].iloc[0])
            if cut:
                ax.axvline(most // 2 + 1, color=GREY, lw=0.8, ls=(0, (4, 2)))
            if len(order) <= 48 and width >= 0.13 * len(order):
                ax.set_xticks(x, [str(f) for f in order], fontsize=6.5)
            elif len(order) <= 48:
                ax.set_xticks(x, [str(f) for f in order], fontsize=6, rotation=90)
            else:
                ax.set_xticks([])
            ax.tick_params(axis="x", length=2)
            ax.set_xlim(x[0] - 0.8, x[-1] + 0.8)
            ax.set_ylim(*limits)
            ax.grid(axis="y", lw=0.5)
            if row == 0:
                ax.set_title(_score_title(score, attack).replace("\n", ", "))
            if column == 0:
                ax.set_ylabel(f"score, seed {seed}")
            else:
                ax.tick_params(labelleft=False)
            if row == len(seeds) - 1:
                ax.set_xlabel(f"{unit}, sorted by S_clean")
    handles = [class_dot(name) for name in CLASSES]
    handles.append(
        Line2D([], [], marker="o", ls="", mfc="white", mec="#1f2937", label="hollow: not decided")
    )
    handles.append(_TAU_LINE)
    legend(fig, handles, columns=len(handles))
    return fig


@styled
def band_split(bands: pd.DataFrame, *, score: str, attack: str) -> Figure:
    """How each layer's weights split over the classes of their pulse bands, at the last epoch.

    A bar per layer, a panel per seed; pale where the class of the band is not decided.
    """
    table = last_epoch(bands)
    table = table[(table["score"] == score) & (table["attack"] == attack)]
    names, seeds = layer_order(table), sorted(table["seed"].unique())
    columns = min(len(seeds), 5)
    rows = -(-len(seeds) // columns)
    left = label_width(names)
    width = min(3.0, (MAX_WIDTH - left - 0.2) / columns - 0.35)
    fig, axes = axes_grid(
        [[width] * columns, [0.21 * len(names) + 0.1] * rows],
        left=left,
        bottom=1.1,
        top=0.35,
        gap=(0.35, 0.7),
        least=7.6,
    )
    stack = [
        *(("fragile", True), ("fragile", False), ("undefined", True), ("untouched", True)),
        *(("robust", False), ("robust", True), ("antifragile", False), ("antifragile", True)),
    ]
    for index, ax in enumerate(axes.flat):
        if index >= len(seeds):
            ax.set_axis_off()
            continue
        part = table[table["seed"] == seeds[index]]
        sure = part["decided"] | part["class"].isin(["untouched", "undefined"])
        sums = part.groupby([part["layer"], part["class"], sure])["weights"].sum()
        total = part.groupby("layer")["weights"].sum().reindex(names).to_numpy(float)
        start = np.zeros(len(names))
        for name, decided in stack:
            share = np.array([sums.get((layer, name, decided), 0) for layer in names]) / total
            share = np.nan_to_num(share)
            bars = ax.barh(
                range(len(names)),
                share,
                left=start,
                height=0.78,
                color=class_colour(name, decided),
                edgecolor=GREY if name in ("untouched", "undefined") else "none",
                linewidth=np.where(share > 0, 0.5, 0),
                hatch="xxxx" if name == "undefined" else None,
            )
            for bar, layer, part_of, n in zip(bars, names, share, total, strict=True):
                if part_of:
                    sure = "" if decided else ", not decided"
                    tips(bar, [f"{layer}: {percent(part_of)} {name}{sure}, n = {n:,.0f} weights"])
            start += share
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "50", "100"])
        ax.set_title(f"seed {seeds[index]}")
        ax.set_xlabel("share of weights (%)")
        if index % columns:
            ax.tick_params(labelleft=False)
    handles = []
    for name in ("fragile", "robust", "antifragile"):
        handles.append(patch(class_colour(name, True), name))
        handles.append(patch(class_colour(name, False), f"{name}, not decided"))
    handles.append(patch(class_colour("untouched", True), "untouched"))
    undefined = patch(class_colour("undefined", True), "undefined")
    undefined.set_hatch("xxxx")
    handles.append(undefined)
    legend(fig, handles, columns=4)
    return fig


@styled
def transfer_by_layer(pairs: pd.DataFrame) -> Figure:
    """S_adv of each layer with its interval, under transfer and re-crafted: a panel per seed.

    pairs: see `transfer.pairs`. Each marker has the colour of its own class; hollow: not decided.
    """
    names, seeds = layer_order(pairs), sorted(pairs["seed"].unique())[:MAX_SEEDS]
    left = label_width(names)
    width = min(4.0, (MAX_WIDTH - left - 0.2) / len(seeds) - 0.25)
    fig, axes = axes_grid(
        [[width] * len(seeds), [0.32 * len(names) + 0.1]],
        left=left,
        bottom=1.1,
        top=0.35,
        gap=(0.25, 0),
        least=7.6,
    )
    place, tau = {layer: y for y, layer in enumerate(names)}, pairs["tau"].iloc[0]
    limits = _limits(pairs, ["ci_low", "ci_high", "ci_low_transfer", "ci_high_transfer"])
    for ax, seed in zip(axes[0], seeds, strict=True):
        _class_limits(ax.axvline, tau)
        for row in pairs[pairs["seed"] == seed].to_dict("records"):
            y = place[row["layer"]]
            x = row["value_transfer"], row["value"]
            ax.plot(x, [y - 0.17, y + 0.17], color=GREY, lw=0.8, zorder=2)
            for kind, at in (("_transfer", y - 0.17), ("", y + 0.17)):
                colour = strong_colour(row[f"class{kind}"])
                ends = row[f"ci_low{kind}"], row[f"ci_high{kind}"]
                ax.plot(ends, [at, at], color=colour, lw=1.2, alpha=0.7)
                face = colour if row[f"decided{kind}"] else "white"
                marker = TRANSFER_MARKERS[kind]
                look = {"ms": 4.5, "mfc": face, "mec": colour, "zorder": 4}
                dot = ax.plot(row[f"value{kind}"], at, marker, **look)
                tips(dot[0], [_said(row, kind)])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), names)
        ax.set_xlim(*limits)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", lw=0.5)
        ax.set_title(f"seed {seed}")
        ax.set_xlabel("S_adv")
    hide_repeated(axes)
    handles = [
        Line2D([], [], marker=marker, ls="", ms=4.5, mfc="white", mec="#1f2937", label=label)
        for marker, label in (
            (TRANSFER_MARKERS["_transfer"], "transfer"),
            (TRANSFER_MARKERS[""], "re-crafted (hollow: not decided)"),
        )
    ]
    legend(fig, [*handles, *map(class_dot, CLASSES), _TAU_LINE], columns=4)
    return fig


@styled
def transfer_by_band(pairs: pd.DataFrame) -> Figure:
    """S_adv of every pulse band with its intervals, re-crafted over transfer: a panel per seed.

    pairs: see `transfer.pairs`. A marker's edge has the colour of the class under transfer, its
    inside that of the class when re-crafted.
    """
    seeds = sorted(pairs["seed"].unique())[:MAX_SEEDS]
    width = min(3.4, (MAX_WIDTH - 0.95) / len(seeds) - 0.25)
    fig, axes = axes_grid(
        [[width] * len(seeds), [width]], left=0.75, bottom=0.9, top=0.35, gap=(0.25, 0), least=7.6
    )
    tau, limits = pairs["tau"].iloc[0], _limits(pairs, ["value", "value_transfer"])
    for ax, seed in zip(axes[0], seeds, strict=True):
        ax.axline((0, 0), slope=1, color=GREY, lw=0.7)
        _class_limits(ax.axvline, tau)
        _class_limits(ax.axhline, tau)
        rows = pairs[pairs["seed"] == seed]
        x, y = rows["value_transfer"], rows["value"]
        spread = {"color": GREY, "lw": 0.6, "alpha": 0.35, "zorder": 2}
        ax.hlines(y, rows["ci_low_transfer"], rows["ci_high_transfer"], **spread)
        ax.vlines(x, rows["ci_low"], rows["ci_high"], **spread)
        dots = ax.scatter(
            x,
            y,
            s=36,
            c=[strong_colour(name) for name in rows["class"]],
            edgecolors=[strong_colour(name) for name in rows["class_transfer"]],
            linewidths=2,
            zorder=3,
        )
        told = [
            f"{row['layer']}, band {row['band']}: {_said(row)}; transfer {_said(row, '_transfer')}"
            for row in rows.to_dict("records")
        ]
        tips(dots, told)
        ax.set_xlim(*limits)
        ax.set_ylim(*limits)
        ax.grid(lw=0.5)
        ax.set_title(f"seed {seed}")
        ax.set_xlabel("S_adv, transfer")
    axes[0][0].set_ylabel("S_adv, re-crafted")
    hide_repeated(axes)
    equal = Line2D([], [], color=GREY, lw=0.8, label="equal")
    legend(fig, [*map(class_dot, CLASSES), equal, _TAU_LINE], columns=7)
    return fig


TRANSFER_MARKERS = {"_transfer": "D", "": "o"}

_TAU_LINE = Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label="±tau")


def _class_limits(draw, tau: float) -> None:
    draw(0, color=GREY, lw=0.7)
    for limit in (-tau, tau):
        draw(limit, color=GREY, lw=0.7, ls=(0, (1, 2)))


def _limits(table: pd.DataFrame, columns: list[str]) -> tuple[float, float]:
    """Of an axis that shows these values and 0."""
    values = table[columns].to_numpy(float)
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    pad = 0.06 * (high - low) or 0.1
    return low - pad, high + pad


def _score_panels(table: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = table[["score", "attack"]].drop_duplicates().itertuples(index=False, name=None)
    order = ["S_clean", "S_adv", "S_diff"]
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


def _score_title(score: str, attack: str) -> str:
    return score if attack == "none" else f"{score}\n{attack}"


def _said(row: dict, kind: str = "") -> str:
    """A score with its interval, class and n; kind: what ends the names of its columns."""
    sure = "" if row[f"decided{kind}"] else ", not decided"
    interval = bracket(row[f"ci_low{kind}"], row[f"ci_high{kind}"])
    value, name = number(row[f"value{kind}"]), row[f"class{kind}"]
    return f"{value} {interval}, {name}{sure}, n = {row['n']:,}"


def _points(ax, x, part: pd.DataFrame, unit: str) -> None:
    for name in CLASSES:
        for decided in (True, False):
            chosen = ((part["class"] == name) & (part["decided"] == decided)).to_numpy()
            if not chosen.any():
                continue
            rows = part[chosen]
            value = rows["value"].fillna(0).to_numpy(float)
            colour = strong_colour(name)
            known = rows["ci_low"].notna().to_numpy()
            for interval, width in (("family", 0.5), ("ci", 1.3)):
                ax.vlines(
                    x[chosen][known],
                    rows[f"{interval}_low"].to_numpy(float)[known],
                    rows[f"{interval}_high"].to_numpy(float)[known],
                    color=colour,
                    lw=width,
                    alpha=0.7,
                )
            if name in ("untouched", "undefined"):
                dots = ax.plot(x[chosen], value, class_marker(name), ms=4, color=colour)
            else:
                face = colour if decided else "white"
                dots = ax.plot(x[chosen], value, "o", ms=4, mfc=face, mec=colour, mew=1)
            tips(
                dots[0],
                [
                    f"{unit} {row['filter']}: {_said(row)}"
                    for row in rows.reset_index().to_dict("records")
                ],
            )
