"""The figures of the report. No pyplot, no files, no torch.

Each function takes tables of one data set, network and training, as the workflow writes them under
results/tables, and returns a matplotlib Figure. Sizes are in inches.
"""

import functools
import io
import re
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from faultline.classes import CLASSES

# Colours that stay apart with any colour vision (after Okabe & Ito).
CLASS_COLOURS = {
    "fragile": "#d55e00",
    "robust": "#aab2bd",
    "antifragile": "#0072b2",
    "untouched": "#ffffff",
    "undefined": "#ffffff",
}
CLASS_SYMBOLS = dict(zip(CLASSES, "FRA\u2013\u00d7", strict=True))
FILTER_COLOURS = {"high_pass": "#009e73", "low_pass": "#cc79a7", "pulse": "#3b3b3b"}
DIVERGING = LinearSegmentedColormap.from_list("faultline", ["#a84300", "#f6f6f4", "#00578a"])
ATTACK_LINES = ["--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]
GREY = "#6b7280"

MAX_WIDTH = 11.0
MAX_PANELS = 60
MAX_FILTERS = 128

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.parse_math": False,
}


def _styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    @functools.wraps(function)
    def draw(*args, **kwargs):
        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def to_svg(figure: Figure, *, name: str, alt: str) -> str:
    """The figure as an <svg> element to put into a page; the same figure gives the same bytes.

    name must be unique within the page: it keeps the ids of its figures apart.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]*_\d+"', "", svg)
    svg = re.sub(
        r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]).replace("\n", ""), svg
    )
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def last_epoch(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last checkpoint."""
    return table[table["epoch"] == table["epoch"].max()]


def signed(value: float) -> str:
    """A number with its sign and two decimals, zero without."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\u2212")


def layer_order(table: pd.DataFrame) -> list[str]:
    """Layers in the order of the table, which is that of the network; the global sweep first."""
    local = table[table["scope"] == "local"] if "scope" in table else table
    names = list(dict.fromkeys(local["layer"]))
    others = [name for name in dict.fromkeys(table["layer"]) if name not in names]
    return others + names


@_styled
def class_map(layers: pd.DataFrame, *, synaptic_filter: str = "combined") -> Figure:
    """Classes at the last epoch: layers down, seeds across, one panel per score and attack.

    Not decided: pale, with a question mark.
    """
    table = last_epoch(layers)
    table = table[table["filter"] == synaptic_filter]
    names, seeds = layer_order(table), sorted(table["seed"].unique())
    panels = _score_panels(table)
    cell = _cell(len(panels) * len(seeds), names, gap=0.2 * len(panels), widest=0.5)
    fig, axes = _axes(
        [[cell * len(seeds)] * len(panels), [0.23 * len(names)]],
        left=_label_width(names),
        bottom=0.95,
        top=0.5,
        gap=(0.2, 0),
        least=7.6,
    )
    for ax, (score, attack) in zip(axes[0], panels, strict=True):
        part = table[(table["score"] == score) & (table["attack"] == attack)]
        found = {
            (layer, seed): (name, decided)
            for layer, seed, name, decided in zip(
                part["layer"], part["seed"], part["class"], part["decided"], strict=True
            )
        }
        colours = np.ones((len(names), len(seeds), 3))
        for y, layer in enumerate(names):
            for x, seed in enumerate(seeds):
                if (layer, seed) not in found:
                    continue
                name, decided = found[layer, seed]
                sure = bool(decided) or name in ("untouched", "undefined")
                colours[y, x] = _colour(name, sure)
                ax.text(
                    x + 0.5,
                    y + 0.5,
                    CLASS_SYMBOLS[name] + ("" if sure else "?"),
                    ha="center",
                    va="center_baseline",
                    fontsize=7.5,
                    color="white" if sure and name in ("fragile", "antifragile") else "#1f2937",
                )
        _mesh(ax, colours, names, seeds, title=_score_title(score, attack), xlabel="seed")
    _hide_repeated(axes)
    handles = []
    for name in CLASSES:
        symbol = CLASS_SYMBOLS[name]
        handles.append(_patch(_colour(name, True), f"{symbol}  {name}"))
        if name in ("fragile", "robust", "antifragile"):
            handles.append(_patch(_colour(name, False), f"{symbol}?  {name}, not decided"))
    _legend(fig, handles, columns=4)
    return fig


@_styled
def robustness_curves(accuracy: pd.DataFrame, *, norms: dict[str, str]) -> Figure:
    """Accuracy against eps: a panel per attack, a line per checkpoint epoch, thin lines per seed.

    norms: attack -> its norm; panels of one norm share their eps axis.
    """
    attacks = sorted(accuracy["attack"].unique(), key=lambda a: list(norms).index(a))
    epochs = sorted(accuracy["epoch"].unique())
    colours = _epoch_colours(epochs)
    columns = min(4, len(attacks))
    rows = -(-len(attacks) // columns)
    width = min(3.4, (MAX_WIDTH - 0.9) / columns - 0.3)
    fig, axes = _axes(
        [[width] * columns, [2.4] * rows],
        left=0.65,
        bottom=0.8 + 0.16 * -(-len(epochs) // 6),
        top=0.35,
        gap=(0.3, 0.75),
        least=6.6,
    )
    for index, ax in enumerate(axes.flat):
        if index >= len(attacks):
            ax.set_axis_off()
            continue
        attack = attacks[index]
        part = accuracy[accuracy["attack"] == attack]
        for epoch in epochs:
            lines = _by_seed(part[part["epoch"] == epoch], x="eps", y="accuracy")
            if lines.shape[1] > 1:
                ax.plot(lines.index, lines, color=colours[epoch], lw=0.6, alpha=0.45)
            ax.plot(lines.index, lines.mean(axis=1), color=colours[epoch], lw=1.8, marker="o", ms=3)
        same = accuracy[accuracy["attack"].map(norms) == norms[attack]]["eps"]
        ax.set_xlim(0, same.max() * 1.02)
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(f"{attack} ({norms[attack]})")
        ax.set_xlabel(f"eps ({norms[attack]})")
        _share_axis(ax, "accuracy" if index % columns == 0 else None)
    handles = [Line2D([], [], color=colours[e], lw=2, label=f"epoch {e}") for e in epochs]
    _legend(fig, handles, columns=min(6, len(handles)))
    return fig


@_styled
def threshold_curves(curves: pd.DataFrame, *, most: int = MAX_PANELS) -> Figure:
    """Accuracy over the normalised threshold at the last epoch: a panel per layer, the global sweep
    first; mean over seeds and, as a band, their range. At most `most` layers, from the first on."""
    table = last_epoch(curves)
    names = layer_order(table)[:most]
    images = list(dict.fromkeys(table["images"]))
    styles = dict(zip(images, ["-", *ATTACK_LINES * len(images)], strict=False))
    columns = min(len(names), 4 if len(names) <= 12 else 6)
    rows = -(-len(names) // columns)
    width = (MAX_WIDTH - 0.9) / max(columns, 3) - 0.2
    fig, axes = _axes(
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
            for name in dict.fromkeys(table["filter"]):
                line = lines.loc[(layer, name, image_set)]
                colour = FILTER_COLOURS.get(name, GREY)
                x = line["normalised"]
                if several:
                    ax.fill_between(x, line["min"], line["max"], color=colour, alpha=0.15, lw=0)
                ax.plot(x, line["mean"], color=colour, ls=styles[image_set], lw=1.2)
        whole = (table.loc[table["layer"] == layer, "scope"] == "global").any()
        ax.set_title(
            f"{layer}, global sweep" if whole else _short(layer, int(width * 13)),
            fontsize=8,
            pad=3,
            fontweight="bold" if whole else "normal",
        )
        ax.set_xlim(0, 1)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        _share_axis(ax, "accuracy" if index % columns == 0 else None)
        if index + columns < len(names):
            ax.tick_params(labelbottom=False)
        else:
            ax.set_xlabel("threshold (normalised)", fontsize=8)
    handles = [
        Line2D([], [], color=FILTER_COLOURS.get(name, GREY), lw=2, label=name)
        for name in dict.fromkeys(table["filter"])
    ]
    handles += [
        Line2D([], [], color="#1f2937", lw=1.2, ls=styles[i], label=i, dash_capstyle="butt")
        for i in images
    ]
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label="base network"))
    _legend(fig, handles, columns=len(handles))
    return fig


@_styled
def score_map(layers: pd.DataFrame, *, synaptic_filter: str = "combined") -> Figure:
    """Scores, mean over seeds: layers down, epochs across, a panel per score and attack.

    One colour scale, symmetric about 0. A dot marks cells whose class is not decided in every seed.
    """
    table = layers[layers["filter"] == synaptic_filter]
    names, epochs = layer_order(table), sorted(table["epoch"].unique())
    panels = _score_panels(table)
    cell = _cell(len(panels) * len(epochs), names, gap=0.2 * len(panels) + 0.8, widest=0.62)
    largest = np.nanmax(table["value"].abs().to_numpy(), initial=0.0) or 1.0
    scale = Normalize(-largest, largest)
    fig, axes = _axes(
        [[cell * len(epochs)] * len(panels), [0.23 * len(names)]],
        left=_label_width(names),
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
        colours = np.full((len(names), len(epochs), 3), to_rgb("#e5e7eb"))
        for y, layer in enumerate(names):
            for x, epoch in enumerate(epochs):
                if (layer, epoch) not in mean.index:
                    continue
                value = mean[layer, epoch]
                if not np.isnan(value):
                    colours[y, x] = DIVERGING(scale(value))[:3]
                if cell >= 0.36:
                    dark = not np.isnan(value) and abs(value) > 0.6 * largest
                    ax.text(
                        x + 0.5,
                        y + 0.5,
                        "n/a" if np.isnan(value) else signed(value),
                        ha="center",
                        va="center_baseline",
                        fontsize=7 if cell >= 0.42 else 6,
                        color="white" if dark else "#1f2937",
                    )
                if not decided[layer, epoch]:
                    ax.plot(x + 1 - 0.055 / cell, y + 0.22, ".", ms=3, color="#1f2937")
        _mesh(ax, colours, names, epochs, title=_score_title(score, attack), xlabel="epoch")
    _hide_repeated(axes)
    _colour_bar(fig, axes[0][-1], scale, label="score")
    _legend(
        fig,
        [
            Line2D([], [], marker=".", ls="", color="#1f2937", label="not decided in every seed"),
            _patch(to_rgb("#e5e7eb"), "undefined"),
        ],
        columns=2,
    )
    return fig


@_styled
def filter_ranking(filters: pd.DataFrame, *, most: int = MAX_FILTERS) -> Figure:
    """The filters of one layer at the last epoch, sorted by S_clean, with intervals.

    A row per seed, a panel for S_clean and for S_adv of each attack, in the same order along a row.
    Filled: the class is decided; hollow: it is not. With more than `most` filters, the two ends.
    """
    table = last_epoch(filters)
    table = table[table["score"].isin(["S_clean", "S_adv"])]
    seeds, panels = sorted(table["seed"].unique()), _score_panels(table)
    count = min(table["filter"].nunique(), most)
    width = (MAX_WIDTH - 0.95) / len(panels) - 0.3
    width = min(width, max(2.6, 0.16 * count + 0.3))
    fig, axes = _axes(
        [[width] * len(panels), [1.7] * len(seeds)],
        left=0.75,
        bottom=0.95,
        top=0.35,
        gap=(0.3, 0.45),
        least=7.6,
    )
    spread = table[["ci_low", "ci_high", "value"]].to_numpy(float)
    low, high = np.nanmin(spread, initial=0.0), np.nanmax(spread, initial=0.0)
    pad = 0.06 * (high - low) or 0.1
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
            _points(ax, x, part)
            ax.axhline(0, color=GREY, lw=0.7)
            tau = part["tau"].iloc[0]
            for limit in (-tau, tau):
                ax.axhline(limit, color=GREY, lw=0.7, ls=(0, (1, 2)), zorder=3)
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
            ax.set_ylim(low - pad, high + pad)
            ax.grid(axis="y", lw=0.5)
            if row == 0:
                ax.set_title(_score_title(score, attack).replace("\n", ", "))
            if column == 0:
                ax.set_ylabel(f"score, seed {seed}")
            else:
                ax.tick_params(labelleft=False)
            if row == len(seeds) - 1:
                ax.set_xlabel("filter, sorted by S_clean")
    handles = [_dot(name, decided=True) for name in CLASSES]
    handles.append(
        Line2D([], [], marker="o", ls="", mfc="white", mec="#1f2937", label="hollow: not decided")
    )
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label="±tau"))
    _legend(fig, handles, columns=len(handles))
    return fig


@_styled
def band_split(bands: pd.DataFrame, *, score: str, attack: str) -> Figure:
    """How each layer's weights split over the classes of their pulse bands, at the last epoch.

    A bar per layer, a panel per seed; pale where the class of the band is not decided.
    """
    table = last_epoch(bands)
    table = table[(table["score"] == score) & (table["attack"] == attack)]
    names, seeds = layer_order(table), sorted(table["seed"].unique())
    columns = min(len(seeds), 5)
    rows = -(-len(seeds) // columns)
    left = _label_width(names)
    width = min(3.0, (MAX_WIDTH - left - 0.2) / columns - 0.35)
    fig, axes = _axes(
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
            ax.barh(
                range(len(names)),
                share,
                left=start,
                height=0.78,
                color=_colour(name, decided),
                edgecolor=GREY if name in ("untouched", "undefined") else "none",
                linewidth=np.where(share > 0, 0.5, 0),
                hatch="xxxx" if name == "undefined" else None,
            )
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
        handles.append(_patch(_colour(name, True), name))
        handles.append(_patch(_colour(name, False), f"{name}, not decided"))
    handles.append(_patch(_colour("untouched", True), "untouched"))
    _legend(fig, handles, columns=4)
    return fig


POLICY_ORDER = ("selective", "random", "fragile_only")


@_styled
def policy_comparison(
    comparison: pd.DataFrame,
    *,
    notes: dict[str, str],
    policies: Sequence[str] = POLICY_ORDER,
    reference: str = "regular",
) -> Figure:
    """Accuracy of each policy less that of the reference, in percentage points.

    comparison: rows of one checkpoint epoch. Dots: seeds with their interval over images; diamonds:
    the mean over seeds with its t interval. notes: policy -> what it did, in words.
    """
    images = list(dict.fromkeys(comparison["images"]))
    policies = [p for p in policies if p in set(comparison["policy"])]
    columns = min(len(images), 4)
    rows = -(-len(images) // columns)
    seeds = comparison.loc[comparison["level"] == "seed", "seed"].nunique()
    labels = [f"{policy}\n{notes.get(policy, '')}" for policy in policies]
    left = _label_width([part for label in labels for part in label.split("\n")])
    width = min(4.2, (MAX_WIDTH - left - 0.2) / columns - 0.25)
    height = len(policies) * (0.16 * seeds + 0.5)
    fig, axes = _axes(
        [[width] * columns, [height] * rows],
        left=left,
        bottom=0.95,
        top=0.35,
        gap=(0.25, 0.75),
        least=7.6,
    )
    points = comparison.assign(
        **{k: 100 * comparison[k].astype(float) for k in ("difference", "ci_low", "ci_high")}
    )
    of_seeds = points[points["level"] == "seed"]
    reach = np.nanmax(np.abs(of_seeds[["ci_low", "ci_high"]].to_numpy()), initial=0.1)
    wanted = np.nanmax(np.abs(points[["ci_low", "ci_high"]].to_numpy()), initial=reach)
    limit = 1.08 * min(wanted, 2.5 * reach)
    step = 0.8 / (seeds + 1.5)
    for index, ax in enumerate(axes.flat):
        if index >= len(images):
            ax.set_axis_off()
            continue
        part = points[points["images"] == images[index]]
        for y, policy in enumerate(policies):
            rows_of = part[part["policy"] == policy]
            each = rows_of[rows_of["level"] == "seed"].sort_values("seed")
            mean = rows_of[rows_of["level"] == "all seeds"].iloc[0]
            at = y - 0.4 + step * (np.arange(len(each)) + 0.75)
            ax.hlines(at, each["ci_low"], each["ci_high"], color="#9ca3af", lw=1)
            ax.plot(each["difference"], at, "o", ms=3.5, color="#6b7280")
            here = y - 0.4 + step * (seeds + 0.85)
            if not np.isnan(mean["ci_low"]):
                ends = max(mean["ci_low"], -limit), min(mean["ci_high"], limit)
                ax.hlines(here, *ends, color="#1f2937", lw=2.2)
                for end, marker, beyond in (
                    (-limit, "<", mean["ci_low"] < -limit),
                    (limit, ">", mean["ci_high"] > limit),
                ):
                    if beyond:
                        ax.plot(end, here, marker, ms=5, color="#1f2937", clip_on=False)
            ax.plot(mean["difference"], here, "D", ms=5.5, color="#1f2937")
            if y:
                ax.axhline(y - 0.5, color="#e5e7eb", lw=0.8)
        ax.axvline(0, color="#d55e00", lw=0.9, zorder=0.9)
        ax.set_xlim(-limit, limit)
        ax.set_ylim(len(policies) - 0.5, -0.5)
        ax.set_yticks(range(len(policies)), labels)
        ax.tick_params(axis="y", length=0, labelleft=index % columns == 0)
        ax.grid(axis="x", lw=0.5)
        ax.set_title("clean" if images[index] == "clean" else f"adversarial, {images[index]}")
        ax.set_xlabel(f"accuracy less that of {reference} (points)")
    handles = [
        Line2D([], [], marker="o", ms=3.5, color="#9ca3af", mfc=GREY, mec=GREY, lw=1, label="seed"),
        Line2D([], [], marker="D", ms=5, color="#1f2937", lw=2, label="mean over seeds"),
        Line2D([], [], color="#d55e00", lw=0.9, label=f"as {reference}"),
    ]
    _legend(fig, handles, columns=3)
    return fig


TRAINING_LINES = {
    "train": ("#0072b2", "training"),
    "train_adversarial": ("#cc79a7", "training, attacked images"),
    "validation": ("#d55e00", "validation"),
}


@_styled
def training_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy over the epochs, training and validation; thin lines are seeds.

    Adversarial training has no clean training images, or not only: what there is is drawn.
    """
    fig, axes = _axes([[4.3, 4.3], [2.2]], left=0.65, bottom=0.95, top=0.3, gap=(0.85, 0))
    handles = {}
    for ax, what in zip(axes[0], ("loss", "accuracy"), strict=True):
        for split, (colour, label) in TRAINING_LINES.items():
            column = f"{split}_{what}"
            if column not in history or history[column].isna().all():
                continue
            handles[split] = Line2D([], [], color=colour, lw=2, label=label)
            lines = _by_seed(history, x="epoch", y=column)
            marker = "o" if len(lines) < 3 else None
            if lines.shape[1] > 1:
                ax.plot(lines.index, lines, color=colour, lw=0.6, alpha=0.45)
            ax.plot(lines.index, lines.mean(axis=1), color=colour, lw=1.8, marker=marker, ms=4)
        ax.set_xlabel("epoch")
        ax.set_ylabel(what)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(lw=0.5)
    axes[0][0].set_ylim(bottom=0)
    _legend(fig, [*handles.values()], columns=len(handles))
    return fig


def _score_panels(table: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = table[["score", "attack"]].drop_duplicates().itertuples(index=False, name=None)
    order = ["S_clean", "S_adv", "S_diff"]
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


def _score_title(score: str, attack: str) -> str:
    return score if attack == "none" else f"{score}\n{attack}"


def _by_seed(table: pd.DataFrame, *, x: str, y: str) -> pd.DataFrame:
    return table.pivot_table(index=x, columns="seed", values=y)


def _colour(name: str, decided: bool) -> np.ndarray:
    colour = np.array(to_rgb(CLASS_COLOURS[name]))
    return colour if decided else 1 - 0.28 * (1 - colour)


def _epoch_colours(epochs: Sequence[int]) -> dict[int, tuple]:
    shades = mpl.colormaps["viridis"](np.linspace(0.85, 0.05, max(len(epochs), 2)))
    shades = shades[-len(epochs) :] if len(epochs) == 1 else shades
    return dict(zip(epochs, map(tuple, shades), strict=True))


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else "…" + name[-(length - 1) :]


def _label_width(names: Sequence[str]) -> float:
    return 0.3 + 0.071 * max(len(str(name)) for name in names)


def _cell(count: int, names: Sequence[str], *, gap: float, widest: float) -> float:
    room = MAX_WIDTH - _label_width(names) - 0.2 - gap
    return max(min(widest, room / count), 0.12)


def _axes(sizes, *, left, bottom, top, right=0.2, gap=(0.2, 0.2), least=0.0):
    """A figure of axes [rows][columns] of the given widths and heights, margins and gaps fixed."""
    widths, heights = sizes
    total = left + sum(widths) + gap[0] * (len(widths) - 1) + right
    total = max(total, least)
    height = bottom + sum(heights) + gap[1] * (len(heights) - 1) + top
    fig = Figure(figsize=(total, height))
    axes, y = np.empty((len(heights), len(widths)), object), height - top
    for row, h in enumerate(heights):
        x, y = left, y - h
        for column, w in enumerate(widths):
            box = (x / total, y / height, w / total, h / height)
            axes[row, column] = fig.add_axes(box)
            x += w + gap[0]
        y -= gap[1]
    return fig, axes


def _mesh(ax, colours, rows, columns, *, title, xlabel) -> None:
    ax.pcolormesh(
        np.arange(len(columns) + 1),
        np.arange(len(rows) + 1),
        colours,
        edgecolors="white",
        linewidth=1.2,
    )
    ax.set_xlim(0, len(columns))
    ax.set_ylim(len(rows), 0)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [str(c) for c in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [str(r) for r in rows])
    ax.tick_params(length=0)
    if rows[0] == "all layers" and len(rows) > 1:
        ax.axhline(1, color="#1f2937", lw=1.2)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(title)
    ax.set_xlabel(xlabel)


def _hide_repeated(axes) -> None:
    for ax in axes[0][1:]:
        ax.tick_params(labelleft=False)


def _share_axis(ax, label: str | None) -> None:
    ax.set_ylim(-0.02, 1.02)
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_yticks([0.25, 0.75], minor=True)
    ax.grid(lw=0.5)
    if label:
        ax.set_ylabel(label)
    else:
        ax.tick_params(labelleft=False)


def _points(ax, x, part: pd.DataFrame) -> None:
    for name in CLASSES:
        for decided in (True, False):
            chosen = ((part["class"] == name) & (part["decided"] == decided)).to_numpy()
            if not chosen.any():
                continue
            rows = part[chosen]
            value = rows["value"].fillna(0).to_numpy(float)
            colour = _strong(name)
            known = rows["ci_low"].notna().to_numpy()
            ax.vlines(
                x[chosen][known],
                rows["ci_low"].to_numpy(float)[known],
                rows["ci_high"].to_numpy(float)[known],
                color=colour,
                lw=0.9,
                alpha=0.7,
            )
            if name in ("untouched", "undefined"):
                ax.plot(x[chosen], value, _marker(name), ms=4, color=colour)
            else:
                face = colour if decided else "white"
                ax.plot(x[chosen], value, "o", ms=4, mfc=face, mec=colour, mew=1)


def _strong(name: str) -> str:
    return {"robust": "#6b7280", "untouched": "#1f2937", "undefined": "#1f2937"}.get(
        name, CLASS_COLOURS[name]
    )


def _marker(name: str) -> str:
    return {"untouched": "_", "undefined": "x"}.get(name, "o")


def _dot(name: str, *, decided: bool) -> Line2D:
    colour = _strong(name)
    return Line2D([], [], marker=_marker(name), ls="", ms=4, mfc=colour, mec=colour, label=name)


def _patch(colour, label: str) -> Patch:
    return Patch(facecolor=colour, edgecolor=GREY, linewidth=0.5, label=label)


def _legend(fig: Figure, handles, *, columns: int) -> None:
    height = fig.get_figheight()
    fig.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.02, 0.03 / height),
        ncols=columns,
        handlelength=1.8,
        columnspacing=1.4,
        borderaxespad=0.2,
    )


def _colour_bar(fig: Figure, ax, scale: Normalize, *, label: str, colours=DIVERGING) -> None:
    box, (width, height) = ax.get_position(), fig.get_size_inches()
    tall = min(box.height * height, 2.4)
    bar = fig.add_axes((box.x1 + 0.15 / width, box.y1 - tall / height, 0.14 / width, tall / height))
    steps = np.linspace(scale.vmin, scale.vmax, 65)
    bar.pcolormesh(
        [0, 1],
        steps,
        (steps[1:, None] + steps[:-1, None]) / 2,
        cmap=colours,
        edgecolors="face",
        linewidth=0.6,
    )
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set_ylabel(label)
