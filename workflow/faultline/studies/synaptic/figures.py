"""The figures of scores and classes.

Each function takes tables of one data set, network and training, as the workflow writes them under
results/tables, and returns a matplotlib Figure. Sizes are in inches.
"""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from faultline.base.columns import CLASSES
from faultline.report import canvas
from faultline.report.canvas import DARK, DOTTED, GREY, MAX_WIDTH, key, marks, tips
from faultline.report.page import bracket, count, number, percent

ATTACK_LINES = ["--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]

FILTER_COLOURS = {"high_pass": "#009e73", "low_pass": "#cc79a7", "pulse": "#0072b2"}

MAX_PANELS = 24

MAX_FILTERS = 128

MAX_SEEDS = 5

UNDEFINED = "#e5e7eb"

_UNCLASSED = "too few images for a class"


@canvas.styled
def class_map(layers: pd.DataFrame, *, synaptic_filter: str = "combined") -> Figure:
    """Classes at the last epoch: layers down, seeds across, one panel per score and attack.

    Not decided: pale, with a question mark.
    """
    table = canvas.last_epoch(layers)
    table = table[table["filter"] == synaptic_filter]
    names, seeds = canvas.layer_order(table), sorted(table["seed"].unique())
    scores = _by_score(table)
    cell = canvas.cell_width(len(scores) * len(seeds), names, gap=0.2 * len(scores), widest=0.5)
    room = canvas.Room(left=canvas.label_width(names), bottom=0.95, top=0.5, gap=(0.2, 0))
    fig, panels = canvas.panels(scores, (cell * len(seeds), 0.23 * len(names)), room, xlabel="seed")
    for ax, (score, part) in panels:
        colours = np.ones((len(names), len(seeds), 3))
        says = np.full((len(names), len(seeds)), "not scored", object)
        scored = {(row["layer"], row["seed"]): row for row in part.to_dict("records")}
        for (y, layer), (x, seed) in product(enumerate(names), enumerate(seeds)):
            if (layer, seed) not in scored:
                continue
            row = scored[layer, seed]
            name = row["class"]
            sure = canvas.is_sure(name, row["decided"])
            colours[y, x] = canvas.class_colour(name, sure)
            says[y, x] = f"{layer}, seed {seed}: {_said(row)}"
            text, ink = canvas.class_sign(name, sure), canvas.ink_on(colours[y, x])
            canvas.write(ax, x, y, text, fontsize=7.5, color=ink)
        canvas.mesh(ax, colours, names, seeds, title=_score_title(*score), says=says)
    canvas.legend(fig, canvas.class_patches(CLASSES, unsure="{}, not decided"), columns=4)
    return fig


@canvas.styled
def threshold_curves(curves: pd.DataFrame, *, most: int = MAX_PANELS) -> Figure:
    """Accuracy over the normalised threshold at the last epoch: a panel per layer, the global sweep
    first; mean over seeds and, as a band, their range. Of more than `most` panels those whose
    accuracy falls most, in the mean of all that was swept."""
    table = canvas.last_epoch(curves)
    names = canvas.layer_order(table)
    if len(names) > most:
        loss = (table["base_accuracy"] - table["accuracy"]).groupby(table["layer"]).mean()
        loss[table.loc[table["scope"] == "global", "layer"].unique()] = np.inf
        chosen = loss.sort_values(ascending=False, kind="stable").index[:most]
        names = [name for name in names if name in chosen]
        table = table[table["layer"].isin(names)]
    images, filters = (list(dict.fromkeys(table[column])) for column in ("images", "filter"))
    styles = dict(zip(images, ["-", *ATTACK_LINES * len(images)], strict=False))
    columns = min(len(names), 4 if len(names) <= 12 else 6)
    width = (MAX_WIDTH - 0.9) / max(columns, 3) - 0.2
    size = width, 0.62 * width + 0.1
    room = canvas.Room(bottom=0.95, top=0.3, gap=(0.2, 0.3))
    fig, panels = canvas.panels(
        canvas.split(table, "layer", names),
        size,
        room,
        columns=columns,
        xlabel="threshold (normalised)",
        ylabel="accuracy",
        own_x=False,
    )
    grouped = table.groupby(["layer", "filter", "images", "normalised"], sort=True)["accuracy"]
    lines = grouped.agg(["mean", "min", "max"]).reset_index(level="normalised")
    base = table.groupby(["layer", "images"])["base_accuracy"].mean()
    several = len(table["seed"].unique()) > 1
    for ax, (layer, part) in panels:
        for image_set in images:
            ax.axhline(base[layer, image_set], color=GREY, lw=0.7, ls=DOTTED)
            for name in filters:
                line = lines.loc[(layer, name, image_set)]
                colour = FILTER_COLOURS.get(name, GREY)
                x = line["normalised"]
                if several:
                    ax.fill_between(x, line["min"], line["max"], color=colour, alpha=0.15, lw=0)
                lowest, at = line["mean"].min(), x.iloc[line["mean"].argmin()]
                text = f"{layer}, {name}, {image_set}: lowest {percent(lowest)} at {at:.2f}"
                says = [f"{text}, base {percent(base[layer, image_set])}"]
                look = {"color": colour, "ls": styles[image_set], "lw": 1.2}
                marks(ax, x, line["mean"], says=says, **look)
        whole = (part["scope"] == "global").any()
        ax.set_title(
            f"{layer}, global sweep" if whole else canvas.shortened(layer, int(width * 13)),
            fontsize=8,
            pad=3,
            fontweight="bold" if whole else "normal",
        )
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.xaxis.label.set_fontsize(8)
        canvas.share_axis(ax)
    handles = [key(name, color=FILTER_COLOURS.get(name, GREY), lw=2) for name in filters]
    handles += [
        key(name, color=DARK, lw=1.2, ls=styles[name], dash_capstyle="butt") for name in images
    ]
    handles.append(key("base network", color=GREY, lw=0.8, ls=DOTTED))
    canvas.legend(fig, handles, columns=len(handles))
    return fig


@canvas.styled
def score_map(layers: pd.DataFrame, *, synaptic_filter: str = "combined") -> Figure:
    """Scores, mean over seeds: layers down, epochs across, a panel per score and attack.

    One colour scale, symmetric about 0. A dot marks cells whose class is not decided in every seed.
    """
    table = layers[layers["filter"] == synaptic_filter]
    names, epochs = canvas.layer_order(table), sorted(table["epoch"].unique())
    scores = _by_score(table)
    cell = canvas.cell_width(
        len(scores) * len(epochs), names, gap=0.2 * len(scores) + 0.8, widest=0.62
    )
    largest = np.nanmax(table["value"].abs().to_numpy(), initial=0.0) or 1.0
    scale = Normalize(-largest, largest)
    size = cell * len(epochs), 0.23 * len(names)
    room = canvas.Room(
        left=canvas.label_width(names), right=0.95, bottom=0.85, top=0.5, gap=(0.2, 0), least=6.0
    )
    fig, panels = canvas.panels(scores, size, room, xlabel="epoch")
    for ax, (score, part) in panels:
        colours = np.full((len(names), len(epochs), 3), to_rgb(UNDEFINED))
        says = np.full((len(names), len(epochs)), "not scored", object)
        groups, dots = part.groupby(["layer", "epoch"], sort=False), []
        scored = groups["value"].agg(["mean", "min", "max"])
        scored = scored.assign(n=groups["seed"].nunique(), sure=groups["decided"].all())
        for (layer, epoch), value, low, high, n, sure in scored.itertuples():
            y, x = names.index(layer), epochs.index(epoch)
            says[y, x] = f"{layer}, epoch {epoch}: {number(value)}, seeds from "
            says[y, x] += f"{number(low)} to {number(high)} (n = {n})"
            if not np.isnan(value):
                colours[y, x] = canvas.DIVERGING(scale(value))[:3]
            if cell >= 0.36:
                text, ink = (
                    "n/a" if np.isnan(value) else canvas.signed(value),
                    canvas.ink_on(colours[y, x]),
                )
                canvas.write(ax, x, y, text, fontsize=7 if cell >= 0.42 else 6, color=ink)
            if not sure:
                dots.append((x + 1 - 0.055 / cell, y + 0.22))
        if dots:
            ax.plot(*zip(*dots, strict=True), ".", ms=3, color=DARK)
        canvas.mesh(ax, colours, names, epochs, title=_score_title(*score), says=says)
    canvas.colour_bar(fig, panels[-1][0], scale, label="score")
    unsure = key("not decided in every seed", marker=".", ls="", color=DARK)
    canvas.legend(fig, [unsure, canvas.patch(to_rgb(UNDEFINED), "undefined")], columns=2)
    return fig


BASELINE_COLOURS = {"unfiltered": "#3b3b3b", "kept_fraction": "#0072b2", "random": "#d55e00"}


@canvas.styled
def fragile_over_tau(layers: pd.DataFrame, *, tau: dict[str, float]) -> Figure:
    """Number of layers that are fragile over tau, mean over seeds: a line per baseline, a panel per
    score and attack (S_diff, which hardly depends on the baseline, is left out).

    layers: rows of one checkpoint epoch, with the column baseline; tau: that of the run.
    """
    table = layers[layers["score"] != "S_diff"]
    scores, seeds = _by_score(table), table["seed"].nunique()
    size = min(3.4, (MAX_WIDTH - 0.9) / len(scores) - 0.3), 2.2
    room = canvas.Room(bottom=0.95, gap=(0.3, 0), least=7.0)
    fig, panels = canvas.panels(scores, size, room, xlabel="tau", ylabel="fragile layers")
    largest = max(1.1 * table["value"].abs().max(), 1.5 * max(tau.values()))
    grid = np.linspace(0, largest, 201)
    names = [name for name in BASELINE_COLOURS if name in set(table["baseline"])]
    for ax, ((score, attack), part) in panels:
        for name in names:
            rows = part[part["baseline"] == name]
            for column, width in (("family_high", 1.8), ("value", 0.7)):
                below = rows[column].to_numpy(float)[:, None] < -grid
                colour = BASELINE_COLOURS[name]
                look = {"color": colour, "lw": width, "drawstyle": "steps-post"}
                mean = (rows[column] < -tau[score]).sum() / seeds
                sure = "decided, " if column == "family_high" else ""
                text = f"{name}: {mean:.1f} fragile at tau {tau[score]:g}, {sure}"
                says = [f"{text}n = {count(range(seeds), 'seed')}"]
                marks(ax, grid, below.sum(0) / seeds, says=says, **look)
        ax.axvline(tau[score], color=GREY, lw=0.8, ls=DOTTED)
        ax.set_xlim(0, largest)
        ax.set_ylim(0, table["layer"].nunique() + 0.3)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(_score_title(score, attack).replace("\n", ", "))
        ax.grid(lw=0.5)
    handles = [key(name, color=BASELINE_COLOURS[name], lw=2) for name in names]
    handles.append(key("tau of this run", color=GREY, lw=0.8, ls=DOTTED))
    canvas.legend(fig, handles, columns=len(handles))
    return fig


@canvas.styled
def filter_ranking(
    filters: pd.DataFrame, *, most: int = MAX_FILTERS, unit: str = "filter"
) -> Figure:
    """The filters of one layer at the last epoch, sorted by S_clean, with intervals.

    A row per seed, a panel for S_clean and for S_adv of each attack, in the same order along a row.
    Filled: the class is decided; hollow: it is not, and grey where there are fewer images than it
    takes (column `needed`, if it is there). With more than `most` filters, the two ends.
    unit: what they are called.
    """
    table = canvas.last_epoch(filters)
    table = table[table["score"].isin(["S_clean", "S_adv"])]
    seeds, scores = sorted(table["seed"].unique()), list(_by_score(table))
    count = min(table["filter"].nunique(), most)
    width = (MAX_WIDTH - 0.95) / len(scores) - 0.3
    width = min(width, max(2.6, 0.16 * count + 0.3))
    size = width, 1.7
    room = canvas.Room(left=0.75, bottom=0.95, gap=(0.3, 0.45))
    keys = [(seed, *score) for seed in seeds for score in scores]
    parts = canvas.split(table, ["seed", "score", "attack"], keys)
    fig, panels = canvas.panels(parts, size, room, columns=len(scores))
    limits = _limits(table, ["ci_low", "ci_high", "value"])
    for ax, ((seed, score, attack), part) in panels:
        if score == "S_clean":
            order = list(part.sort_values(["value", "filter"])["filter"])
            ax.set_ylabel(f"score, seed {seed}")
            cut = len(order) > most
            if cut:
                order = [*order[: most // 2], *order[-(most - most // 2) :]]
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
        if seed == seeds[0]:
            ax.set_title(_score_title(score, attack).replace("\n", ", "))
        if seed == seeds[-1]:
            ax.set_xlabel(f"{unit}, sorted by S_clean")
    hollow = key("hollow: not decided", marker="o", ls="", mfc="white", mec=DARK)
    handles = [*map(canvas.class_dot, CLASSES), hollow, _TAU_LINE]
    canvas.legend(fig, handles, columns=len(handles))
    return fig


@canvas.styled
def band_split(bands: pd.DataFrame, *, score: str, attack: str) -> Figure:
    """How each layer's weights split over the classes of their pulse bands, at the last epoch.

    A bar per layer, a panel per seed; pale where the class of the band is not decided, and white
    where there are fewer images than it takes (column `needed`, if it is there).
    """
    table = canvas.last_epoch(bands)
    table = table[(table["score"] == score) & (table["attack"] == attack)]
    names, seeds = canvas.layer_order(table), sorted(table["seed"].unique())
    left = canvas.label_width(names)
    size = min(3.0, (MAX_WIDTH - left - 0.2) / min(len(seeds), 5) - 0.35), 0.21 * len(names) + 0.1
    room = canvas.Room(left=left, bottom=1.1, gap=(0.35, 0.7))
    fig, panels = canvas.panels(
        canvas.split(table, "seed", seeds), size, room, columns=5, xlabel="share of weights (%)"
    )
    table = table.assign(**{"class": table["class"].mask(_too_few(table), _UNCLASSED)})
    stack = [
        *(("fragile", True), ("fragile", False), ("undefined", True), ("untouched", True)),
        (_UNCLASSED, False),
        *(("robust", False), ("robust", True), ("antifragile", False), ("antifragile", True)),
    ]
    for ax, (seed, part) in panels:
        sure = part["decided"] | part["class"].isin(["untouched", "undefined"])
        sums = part.groupby([part["layer"], part["class"], sure])["weights"].sum()
        total = part.groupby("layer")["weights"].sum().reindex(names).to_numpy(float)
        start = np.zeros(len(names))
        for name, decided in stack:
            share = np.array([sums.get((layer, name, decided), 0) for layer in names]) / total
            share = np.nan_to_num(share)
            there = np.flatnonzero(share)
            edged = name in ("untouched", "undefined", _UNCLASSED)
            bars = PatchCollection(
                [Rectangle((start[y], y - 0.39), share[y], 0.78) for y in there],
                facecolor="white" if name == _UNCLASSED else canvas.class_colour(name, decided),
                edgecolor=GREY if edged else "none",
                linewidth=0.5,
                hatch="xxxx" if name == "undefined" else None,
            )
            sure = "" if decided or name == _UNCLASSED else ", not decided"
            says = [
                f"{names[y]}: {percent(share[y])} {name}{sure}, n = {total[y]:,.0f} weights"
                for y in there
            ]
            tips(ax.add_collection(bars, autolim=False), says)
            start += share
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "50", "100"])
        ax.set_title(f"seed {seed}")
    handles = []
    for name in ("fragile", "robust", "antifragile"):
        handles.append(canvas.patch(canvas.class_colour(name, True), name))
        handles.append(canvas.patch(canvas.class_colour(name, False), f"{name}, not decided"))
    handles.append(canvas.patch(canvas.class_colour("untouched", True), "untouched"))
    undefined = canvas.patch(canvas.class_colour("undefined", True), "undefined")
    undefined.set_hatch("xxxx")
    handles.append(undefined)
    if (table["class"] == _UNCLASSED).any():
        handles.append(canvas.patch("white", _UNCLASSED))
    canvas.legend(fig, handles, columns=4)
    return fig


@canvas.styled
def transfer_by_layer(pairs: pd.DataFrame) -> Figure:
    """S_adv of each layer with its interval, under transfer and re-crafted: a panel per seed.

    pairs: see `transfer.pairs`. Each marker has the colour of its own class; hollow: not decided.
    """
    names, seeds = canvas.layer_order(pairs), sorted(pairs["seed"].unique())[:MAX_SEEDS]
    left = canvas.label_width(names)
    size = min(4.0, (MAX_WIDTH - left - 0.2) / len(seeds) - 0.25), 0.32 * len(names) + 0.1
    room = canvas.Room(left=left, bottom=1.1)
    fig, panels = canvas.panels(canvas.split(pairs, "seed", seeds), size, room, xlabel="S_adv")
    place, tau = {layer: y for y, layer in enumerate(names)}, pairs["tau"].iloc[0]
    limits = _limits(pairs, ["ci_low", "ci_high", "ci_low_transfer", "ci_high_transfer"])
    for ax, (seed, part) in panels:
        _class_limits(ax.axvline, tau)
        for row in part.to_dict("records"):
            y = place[row["layer"]]
            x = row["value_transfer"], row["value"]
            ax.plot(x, [y - 0.17, y + 0.17], color=GREY, lw=0.8, zorder=2)
            for kind, at in (("_transfer", y - 0.17), ("", y + 0.17)):
                colour = canvas.strong_colour(row[f"class{kind}"])
                ends = row[f"ci_low{kind}"], row[f"ci_high{kind}"]
                ax.plot(ends, [at, at], color=colour, lw=1.2, alpha=0.7)
                face = colour if row[f"decided{kind}"] else "white"
                look = {"ms": 4.5, "mfc": face, "mec": colour, "zorder": 4}
                x, marker = row[f"value{kind}"], TRANSFER_MARKERS[kind]
                marks(ax, x, at, marker, says=[_said(row, kind)], **look)
        canvas.rows_axis(ax, names)
        ax.set_xlim(*limits)
        ax.set_title(f"seed {seed}")
    labels = {"_transfer": "transfer", "": "re-crafted (hollow: not decided)"}
    handles = [
        key(label, marker=TRANSFER_MARKERS[kind], ls="", ms=4.5, mfc="white", mec=DARK)
        for kind, label in labels.items()
    ]
    canvas.legend(fig, [*handles, *map(canvas.class_dot, CLASSES), _TAU_LINE], columns=4)
    return fig


@canvas.styled
def transfer_by_band(pairs: pd.DataFrame) -> Figure:
    """S_adv of every pulse band with its intervals, re-crafted over transfer: a panel per seed.

    pairs: see `transfer.pairs`. A marker's edge has the colour of the class under transfer, its
    inside that of the class when re-crafted.
    """
    seeds = sorted(pairs["seed"].unique())[:MAX_SEEDS]
    side = min(3.4, (MAX_WIDTH - 0.95) / len(seeds) - 0.25)
    size = side, side
    room = canvas.Room(left=0.75, bottom=0.9)
    fig, panels = canvas.panels(
        canvas.split(pairs, "seed", seeds),
        size,
        room,
        xlabel="S_adv, transfer",
        ylabel="S_adv, re-crafted",
    )
    tau, limits = pairs["tau"].iloc[0], _limits(pairs, ["value", "value_transfer"])
    for ax, (seed, rows) in panels:
        ax.axline((0, 0), slope=1, color=GREY, lw=0.7)
        _class_limits(ax.axvline, tau)
        _class_limits(ax.axhline, tau)
        x, y = rows["value_transfer"], rows["value"]
        spread: dict[str, Any] = {"color": GREY, "lw": 0.6, "alpha": 0.35, "zorder": 2}
        ax.hlines(y, rows["ci_low_transfer"], rows["ci_high_transfer"], **spread)
        ax.vlines(x, rows["ci_low"], rows["ci_high"], **spread)
        dots = ax.scatter(
            x,
            y,
            s=36,
            c=[canvas.strong_colour(name) for name in rows["class"]],
            edgecolors=[canvas.strong_colour(name) for name in rows["class_transfer"]],
            linewidths=2,
            zorder=3,
        )
        says = [
            f"{row['layer']}, band {row['band']}: {_said(row)}; transfer {_said(row, '_transfer')}"
            for row in rows.to_dict("records")
        ]
        tips(dots, says)
        ax.set_xlim(*limits)
        ax.set_ylim(*limits)
        ax.grid(lw=0.5)
        ax.set_title(f"seed {seed}")
    equal = key("equal", color=GREY, lw=0.8)
    canvas.legend(fig, [*map(canvas.class_dot, CLASSES), equal, _TAU_LINE], columns=7)
    return fig


TRANSFER_MARKERS = {"_transfer": "D", "": "o"}

_TAU_LINE = key("±tau", color=GREY, lw=0.8, ls=DOTTED)


def _class_limits(draw, tau: float) -> None:
    draw(0, color=GREY, lw=0.7)
    for limit in (-tau, tau):
        draw(limit, color=GREY, lw=0.7, ls=DOTTED)


def _limits(table: pd.DataFrame, columns: list[str]) -> tuple[float, float]:
    """Of an axis that shows these values and 0."""
    values = table[columns].to_numpy(float)
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    pad = 0.06 * (high - low) or 0.1
    return low - pad, high + pad


def _by_score(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(score, attack) -> its rows."""
    parts, order = canvas.split(table, ["score", "attack"]), ["S_clean", "S_adv", "S_diff"]
    return {pair: parts[pair] for pair in sorted(parts, key=lambda pair: order.index(pair[0]))}


def _score_title(score: str, attack: str) -> str:
    return score if attack == "none" else f"{score}\n{attack}"


def _said(row: dict, kind: str = "", *, classed: bool = True) -> str:
    """A score with its interval, class and n; kind: what ends the names of its columns."""
    sure = "" if row[f"decided{kind}"] else ", not decided"
    interval = bracket(row[f"ci_low{kind}"], row[f"ci_high{kind}"])
    value, name = number(row[f"value{kind}"]), row[f"class{kind}"]
    name = f"{name}{sure}" if classed else _UNCLASSED
    return f"{value} {interval}, {name}, n = {row['n']:,}"


def _too_few(part: pd.DataFrame) -> pd.Series:
    """Which rows have no class, as there are fewer images than `needed` to decide one."""
    needed = part.get("needed", pd.Series(np.nan, part.index))
    return ~part["decided"].astype(bool) & (needed > part["n"])


def _points(ax, x, part: pd.DataFrame, unit: str) -> None:
    few = _too_few(part)
    for name in CLASSES:
        for decided, unasked in ((True, False), (False, False), (False, True)):
            chosen = (part["class"] == name) & (part["decided"] == decided) & (few == unasked)
            chosen = chosen.to_numpy()
            if not chosen.any():
                continue
            rows = part[chosen]
            value = rows["value"].fillna(0).to_numpy(float)
            colour = GREY if unasked else canvas.strong_colour(name)
            finite = rows["ci_low"].notna().to_numpy()
            for interval, width in (("family", 0.5), ("ci", 1.3)):
                low, high = (
                    rows[f"{interval}_{end}"].to_numpy(float)[finite] for end in ("low", "high")
                )
                ax.vlines(x[chosen][finite], low, high, color=colour, lw=width, alpha=0.7)
            records = rows.reset_index().to_dict("records")
            says = [f"{unit} {row['filter']}: {_said(row, classed=not unasked)}" for row in records]
            if name in ("untouched", "undefined"):
                marks(
                    ax, x[chosen], value, canvas.class_marker(name), says=says, ms=4, color=colour
                )
            else:
                look = {"mfc": colour if decided else "white", "mec": colour, "mew": 1}
                marks(ax, x[chosen], value, "o", says=says, ms=4, **look)
