"""The figures about fragile filters and their remedy; see `report.canvas`."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from faultline.report.canvas import (
    CLASS_COLOURS,
    CLASS_SYMBOLS,
    GREY,
    MAX_WIDTH,
    axes_grid,
    class_colour,
    class_dot,
    epoch_colours,
    ink_on,
    legend,
    mesh,
    patch,
    strong_colour,
    styled,
    tips,
)
from faultline.report.page import bracket, count, minus, number, said, span

MAX_PICTURES = 32

MAX_SEEDS = 5

PER_ROW = 16

SEED_MARKERS = "osD^v"


def ranked(targeting: pd.DataFrame) -> list[int]:
    """Filters of one layer of one seed, the most fragile first."""
    once = targeting.drop_duplicates("filter")
    return list(once.sort_values(["fragility", "filter"], ascending=[False, True])["filter"])


@styled
def filter_gallery(kernels: pd.DataFrame, targeting: pd.DataFrame) -> Figure:
    """The weights of each filter of a layer as a picture, with its class, fragility and targeting.

    Both tables hold one layer at one epoch. A block of rows per seed, the most fragile filter
    first, at most MAX_PICTURES of them. Grey is 0, black and white are the largest weight of the
    seed. Three channels are drawn as red, green and blue, two as their mean.
    """
    seeds = sorted(targeting["seed"].unique())[:MAX_SEEDS]
    attacks = list(dict.fromkeys(targeting["attack"]))[:3]
    filters = {s: ranked(targeting[targeting["seed"] == s])[:MAX_PICTURES] for s in seeds}
    rows = [
        (s, of[i : i + PER_ROW]) for s, of in filters.items() for i in range(0, len(of), PER_ROW)
    ]
    columns, left, gap = max(len(of) for _, of in rows), 1.35, 0.08
    size = min(0.75, (MAX_WIDTH - left - 0.2) / columns - gap)
    texts = 0.15 * (2 + len(attacks))
    fig, axes = axes_grid(
        [[size] * columns, [size] * len(rows)],
        left=left,
        bottom=texts + 0.45,
        top=0.3,
        gap=(gap, texts + 0.25),
        least=6.6,
    )
    for row, (seed, chosen) in enumerate(rows):
        weights = kernels[kernels["seed"] == seed]
        facts = targeting[targeting["seed"] == seed]
        largest = weights["weight"].abs().max() or 1.0
        labels = [
            f"seed {seed}, filter",
            "fragility (points)",
            *(f"{a} (% of it)" for a in attacks),
        ]
        for line, label in enumerate(labels):
            _below(axes[row, 0], -0.12, line, size, label, ha="right")
        for column, ax in enumerate(axes[row]):
            if column >= len(chosen):
                ax.set_axis_off()
                continue
            of_filter = facts[facts["filter"] == chosen[column]]
            one = of_filter.iloc[0]
            _picture(ax, weights[weights["filter"] == chosen[column]], largest)
            sure = bool(one["decided"]) or one["class"] not in ("fragile", "robust", "antifragile")
            colour = class_colour(one["class"], sure) if one["class"] in CLASS_COLOURS else GREY
            # filled, if unseen, so that the whole picture can be pointed at
            look = {"fc": (1, 1, 1, 0.002), "ec": colour, "lw": 4}
            edge = Rectangle((0, 0), 1, 1, transform=ax.transAxes, **look)
            ax.add_patch(edge).set_clip_on(False)
            told = [
                f"{row['attack']} {said(row, value='share', scale=100, places=1)}"
                for row in of_filter[of_filter["attack"].isin(attacks)].to_dict("records")
            ]
            name = one["class"] + ("" if sure else ", not decided")
            tips(edge, [f"filter {chosen[column]}, {name}; % of {'; '.join(told)}"])
            symbol = CLASS_SYMBOLS.get(one["class"], "") + ("" if sure else "?")
            shares = of_filter.set_index("attack")["share"]
            lost = one["fragility"]
            values = [
                f"{chosen[column]} {symbol}",
                "n/a" if np.isnan(lost) else f"{100 * lost:.1f}",
            ]
            values += [f"{100 * shares[attack]:.1f}" for attack in attacks]
            for line, value in enumerate(values):
                _below(ax, 0.5, line, size, value.replace("-", "\u2212"), ha="center")
    handles = []
    for name in ("fragile", "robust", "antifragile"):
        handles.append(patch(class_colour(name, True), f"{CLASS_SYMBOLS[name]}  {name}"))
        handles.append(patch(class_colour(name, False), f"{CLASS_SYMBOLS[name]}?  not decided"))
    legend(fig, handles, columns=6)
    return fig


def _below(ax, x: float, line: int, size: float, text: str, *, ha: str) -> None:
    y = -(0.13 + 0.15 * line) / size
    ax.text(x, y, text, transform=ax.transAxes, ha=ha, va="center", fontsize=6.5)


def _picture(ax, weights: pd.DataFrame, largest: float) -> None:
    shape = [weights[axis].max() + 1 for axis in ("channel", "row", "column")]
    order = weights.sort_values(["channel", "row", "column"])["weight"]
    values = order.to_numpy(float).reshape(shape) / largest
    if shape[0] == 3:
        colours = (1 + values.transpose(1, 2, 0)) / 2
    else:
        colours = np.repeat((1 + values.mean(0)[..., None]) / 2, 3, axis=2)
    ax.pcolormesh(colours)
    ax.set_ylim(shape[1], 0)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


MEASURED = {
    "share": ("ci_low", "ci_high", "share of the attack (%)"),
    "excess": ("excess_low", "excess_high", "less the share of noise (points)"),
}
"""Measure -> its interval and its axis, in `targeting_scatter`."""


@styled
def targeting_scatter(
    targeting: pd.DataFrame, association: pd.DataFrame, *, unit: str = "filter"
) -> Figure:
    """What arrives at a filter against its fragility: a row per attack, its share and that less the
    share of noise of equal norm.

    Both tables hold one layer at one epoch. A marker shape per seed, class colours, hollow where
    the class is not decided; bars are intervals over images.
    """
    attacks, seeds = list(dict.fromkeys(targeting["attack"])), sorted(targeting["seed"].unique())
    fig, axes = axes_grid(
        [[4.1] * 2, [2.7] * len(attacks)], left=0.75, bottom=0.95, top=0.5, gap=(0.75, 0.95)
    )
    for row, attack in zip(axes, attacks, strict=True):
        part = targeting[targeting["attack"] == attack]
        for ax, (measure, (low, high, label)) in zip(row, MEASURED.items(), strict=True):
            for seed in seeds:
                of_seed = part[part["seed"] == seed]
                marker = SEED_MARKERS[seeds.index(seed) % len(SEED_MARKERS)]
                for (name, decided), chosen in of_seed.groupby(["class", "decided"], sort=False):
                    colour = strong_colour(name) if name in CLASS_COLOURS else GREY
                    x, y = 100 * chosen["fragility"], 100 * chosen[measure]
                    ax.vlines(x, 100 * chosen[low], 100 * chosen[high], color=colour, lw=0.8)
                    face = colour if decided else "white"
                    dots = ax.plot(x, y, marker, ls="", ms=5, mfc=face, mec=colour, mew=1)
                    told = chosen.assign(x=x, y=y).to_dict("records")
                    of = [(row, 100 * row[low], 100 * row[high]) for row in told]
                    tips(dots[0], [_said(*each, unit) for each in of])
            even = 100 / part["filter"].nunique() if measure == "share" else 0
            ax.axhline(even, color=GREY, lw=0.8, ls=(0, (1, 2)))
            ax.axvline(0, color=GREY, lw=0.6)
            ax.set_title(f"{attack}\n{_correlation(association, attack, measure)}")
            ax.set_xlabel("fragility: clean accuracy lost (points)")
            ax.set_ylabel(label)
            ax.grid(lw=0.5)
    handles = [class_dot(name) for name in ("fragile", "robust", "antifragile")]
    handles += [
        Line2D([], [], marker=m, ls="", mfc="white", mec="#1f2937", ms=5, label=f"seed {seed}")
        for seed, m in zip(seeds, SEED_MARKERS * len(seeds), strict=False)
    ]
    handles.append(
        Line2D([], [], color=GREY, lw=0.8, ls=(0, (1, 2)), label="even share, or as noise")
    )
    legend(fig, handles, columns=len(handles))
    return fig


def _said(row: dict, low: float, high: float, unit: str) -> str:
    sure = "" if row["decided"] else ", not decided"
    return minus(
        f"seed {row['seed']}, {unit} {row['filter']}: {row['y']:.2f} [{low:.2f}, {high:.2f}], "
        f"fragility {row['x']:.2f}, {row['class']}{sure}, n = {row['n']:,}"
    )


def _correlation(association: pd.DataFrame, attack: str, measure: str) -> str:
    rows = association[(association["attack"] == attack) & (association["level"] == "all seeds")]
    row = rows[(rows["measure"] == measure) & (rows["statistic"] == "spearman")]
    if not len(row) or np.isnan(row.iloc[0]["value"]):
        return "Spearman undefined"
    row = row.iloc[0]
    return f"Spearman {row['value']:+.2f}, q = {row['q_value']:.3f}".replace("-", "\u2212")


@styled
def fragile_sets(filters: pd.DataFrame, *, unit: str = "filter") -> Figure:
    """Classes of one layer's filters by S_clean: filters down, epochs across, a panel per seed.

    Pale with a question mark: not decided.
    """
    table = filters[filters["score"] == "S_clean"]
    names, epochs = sorted(table["filter"].unique()), sorted(table["epoch"].unique())
    seeds = sorted(table["seed"].unique())[:MAX_SEEDS]
    cell = min(0.55, (MAX_WIDTH - 0.9) / len(seeds) / len(epochs) - 0.08)
    fig, axes = axes_grid(
        [[cell * len(epochs)] * len(seeds), [0.19 * len(names)]],
        left=0.65,
        bottom=0.95,
        top=0.35,
        gap=(0.3, 0),
        least=6.6,
    )
    for ax, seed in zip(axes[0], seeds, strict=True):
        part = table[table["seed"] == seed]
        colours = np.ones((len(names), len(epochs), 3))
        says = np.full(colours.shape[:2], "not scored", object)
        for row in part.to_dict("records"):
            name, decided = row["class"], row["decided"]
            y, x = names.index(row["filter"]), epochs.index(row["epoch"])
            sure = bool(decided) or name in ("untouched", "undefined")
            colours[y, x] = class_colour(name, sure)
            says[y, x] = f"{unit} {row['filter']}, epoch {row['epoch']}: {said(row)}, {name}"
            says[y, x] += "" if sure else ", not decided"
            if cell >= 0.25:
                mark = CLASS_SYMBOLS[name] + ("" if sure else "?")
                ink = ink_on(colours[y, x])
                at = {"ha": "center", "va": "center_baseline", "fontsize": 6.5, "color": ink}
                ax.text(x + 0.5, y + 0.5, mark, **at)
        mesh(ax, colours, names, epochs, title=f"seed {seed}", xlabel="epoch", says=says)
        ax.tick_params(axis="y", labelsize=6.5)
    axes[0][0].set_ylabel(unit)
    handles = []
    for name in ("fragile", "robust", "antifragile"):
        handles.append(patch(class_colour(name, True), f"{CLASS_SYMBOLS[name]}  {name}"))
        handles.append(patch(class_colour(name, False), f"{CLASS_SYMBOLS[name]}?  not decided"))
    handles.append(
        patch(class_colour("untouched", True), f"{CLASS_SYMBOLS['untouched']}  untouched")
    )
    legend(fig, handles, columns=4)
    return fig


@styled
def overlap_dots(overlaps: pd.DataFrame) -> Figure:
    """Jaccard overlap of the fragile sets of one layer, between epochs and between seeds.

    One row per pair of epochs (a dot per seed) or pair of seeds (a dot per epoch), each over the
    central interval of chance, in grey.
    """
    panels = [
        ("epoch", "epoch", "other_epoch", "between epochs, a dot per seed"),
        ("seed", "seed", "other_seed", "between seeds, a dot per epoch"),
    ]
    panels = [panel for panel in panels if (overlaps["over"] == panel[0]).any()]
    parts = [overlaps[overlaps["over"] == panel[0]] for panel in panels]
    pairs = [
        list(dict.fromkeys(zip(part[panel[1]], part[panel[2]], strict=True)))
        for panel, part in zip(panels, parts, strict=True)
    ]
    width = (MAX_WIDTH - 1.2) / len(panels) - 0.9
    fig, axes = axes_grid(
        [[min(width, 4.3)] * len(panels), [0.42 * max(map(len, pairs)) + 0.2]],
        left=0.9,
        bottom=0.95,
        top=0.35,
        gap=(0.9, 0),
        least=6.6,
    )
    for ax, panel, part, of in zip(axes[0], panels, parts, pairs, strict=True):
        for y, pair in enumerate(of):
            rows = part[(part[panel[1]] == pair[0]) & (part[panel[2]] == pair[1])]
            at = y + (np.arange(len(rows)) - (len(rows) - 1) / 2) * 0.7 / max(len(rows), 2)
            ax.hlines(at, rows["chance_low"], rows["chance_high"], color="#cbd5e1", lw=4)
            ax.plot(rows["chance"], at, "|", ms=6, color=GREY)
            dots = ax.plot(rows["value"], at, "o", ms=4.5, color="#1f2937")
            each = "seed" if panel[0] == "epoch" else "epoch"
            told = [
                f"{each} {row[each]}: {number(row['value'])}, "
                f"chance {bracket(row['chance_low'], row['chance_high'])}, n = {row['n']}"
                for row in rows.to_dict("records")
            ]
            tips(dots[0], told)
        ax.set_yticks(range(len(of)), [f"{one} and {other}" for one, other in of])
        ax.set_ylim(len(of) - 0.4, -0.6)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("Jaccard overlap")
        ax.set_title(panel[3])
        ax.grid(axis="x", lw=0.5)
    handles = [
        Line2D([], [], marker="o", ls="", ms=4.5, color="#1f2937", label="overlap"),
        Line2D([], [], marker="|", ms=6, color=GREY, mec=GREY, ls="", label="mean of chance"),
        Patch(facecolor="#cbd5e1", label="interval of chance"),
    ]
    legend(fig, handles, columns=3)
    return fig


@styled
def strength_curves(strengths: pd.DataFrame) -> Figure:
    """Accuracy on the validation split over the strength, of the remedy and of its control.

    A thin line is a seed, of the control a draw of a seed. A ring marks the strength chosen in it.
    """
    images = list(dict.fromkeys(strengths["images"]))
    colours = dict(zip(images, epoch_colours(range(len(images))).values(), strict=True))
    panels = {
        "the remedy": strengths[strengths["policy"] == "fragile"],
        "its control, at random": strengths[strengths["policy"] != "fragile"],
    }
    fig, axes = axes_grid([[3.9] * 2, [2.4]], left=0.65, bottom=0.95, top=0.35, gap=(0.3, 0))
    for ax, (title, rows) in zip(axes[0], panels.items(), strict=True):
        for name in images:
            part = rows[rows["images"] == name]
            lines = part.pivot_table(
                index="strength", columns=["seed", "policy"], values="accuracy"
            )
            if lines.shape[1] > 1:
                ax.plot(lines.index, lines, color=colours[name], lw=0.6, alpha=0.5)
            mean, n = lines.mean(axis=1), f"n = {part['n'].max():,}"
            drawn = ax.plot(lines.index, mean, color=colours[name], lw=1.8, marker="o", ms=3)
            n += f", {count(lines.columns, 'seed' if title == 'the remedy' else 'draw')}"
            told = [f"{name}, {at:g}: {span(of)}, {n}" for at, of in lines.iterrows()]
            tips(drawn[0], told)
            at = part[part["chosen"]]
            ax.plot(at["strength"], at["accuracy"], "o", ms=7, mfc="none", mec=colours[name])
        ax.set_title(title)
        ax.set_xlabel("strength: largest gain less smallest")
        ax.grid(lw=0.5)
    low, high = min(ax.get_ylim()[0] for ax in axes[0]), max(ax.get_ylim()[1] for ax in axes[0])
    for ax in axes[0]:
        ax.set_ylim(low, high)
    axes[0][0].set_ylabel("accuracy")
    axes[0][1].tick_params(axis="y", labelleft=False)
    handles = [Line2D([], [], color=colours[name], lw=2, label=name) for name in images]
    handles.append(
        Line2D([], [], marker="o", ls="", ms=7, mfc="none", mec="#1f2937", label="chosen")
    )
    legend(fig, handles, columns=len(handles))
    return fig
