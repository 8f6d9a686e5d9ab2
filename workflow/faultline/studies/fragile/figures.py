"""The figures about fragile filters and their remedy; see `report.canvas`."""

import numpy as np
import pandas as pd
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from faultline.report import canvas
from faultline.report.canvas import DARK, DOTTED, GREY, MAX_WIDTH, key, marks, tips
from faultline.report.page import bracket, count, minus, number, said, span

MAX_PICTURES = 32

MAX_SEEDS = 5

PER_ROW = 16

SEED_MARKERS = "osD^v"

JUDGED = ("fragile", "robust", "antifragile")
"""The classes that are decided or not."""


def ranked(targeting: pd.DataFrame) -> list[int]:
    """Filters of one layer of one seed, the most fragile first."""
    once = targeting.drop_duplicates("filter")
    return list(once.sort_values(["fragility", "filter"], ascending=[False, True])["filter"])


@canvas.styled
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
    pitch = size + gap, size + texts + 0.25
    room = canvas.Room(left=left, bottom=texts + 0.45, top=0.3, least=6.6)
    box = pitch[0] * columns - gap, pitch[1] * len(rows) - texts - 0.25
    fig, axes = canvas.axes_grid([[box[0]], [box[1]]], room)
    ax = axes[0, 0]
    ax.set_axis_off()
    for row, (seed, chosen) in enumerate(rows):
        y = row * pitch[1]
        weights = kernels[kernels["seed"] == seed]
        pictures = canvas.split(weights[weights["filter"].isin(chosen)], "filter")
        facts: dict[int, list[dict]] = {index: [] for index in chosen}
        of_row = (targeting["seed"] == seed) & targeting["filter"].isin(chosen)
        for fact in targeting[of_row].to_dict("records"):
            facts[fact["filter"]].append(fact)
        largest = weights["weight"].abs().max() or 1.0
        labels = [
            f"seed {seed}, filter",
            "fragility (points)",
            *(f"{a} (% of it)" for a in attacks),
        ]
        _below(ax, -0.12 * size, y + size, labels, ha="right")
        edges, colours, says = [], [], []
        for column, index in enumerate(chosen):
            x, of_filter = column * pitch[0], facts[index]
            one = of_filter[0]
            ax.imshow(
                _picture(pictures[index], largest),
                extent=(x, x + size, y + size, y),
                interpolation="none",
                aspect="auto",
            )
            sure = bool(one["decided"]) or one["class"] not in JUDGED
            classed = one["class"] in canvas.CLASS_COLOURS
            colours.append(canvas.class_colour(one["class"], sure) if classed else to_rgb(GREY))
            edges.append(Rectangle((x, y), size, size))
            shown = [
                f"{row['attack']} {said(row, value='share', scale=100, places=1)}"
                for row in of_filter
                if row["attack"] in attacks
            ]
            name = one["class"] + ("" if sure else ", not decided")
            says.append(f"filter {index}, {name}; % of {'; '.join(shown)}")
            symbol = canvas.CLASS_SYMBOLS.get(one["class"], "") + ("" if sure else "?")
            shares, lost = {row["attack"]: row["share"] for row in of_filter}, one["fragility"]
            values = [f"{index} {symbol}", "n/a" if np.isnan(lost) else f"{100 * lost:.1f}"]
            values += [f"{100 * shares[attack]:.1f}" for attack in attacks]
            _below(ax, x + size / 2, y + size, [*map(minus, values)], ha="center")
        # filled, if unseen, so that the whole picture can be pointed at
        frames = PatchCollection(edges, facecolors=(1, 1, 1, 0.002), edgecolors=colours, lw=4)
        frames.set_clip_on(False)
        tips(ax.add_collection(frames, autolim=False), says)
    ax.set_xlim(0, box[0])  # inches, from the upper left corner
    ax.set_ylim(box[1], 0)
    canvas.legend(fig, canvas.class_patches(JUDGED), columns=6)
    return fig


def _below(ax, x: float, y: float, texts: list[str], *, ha: str) -> None:
    """Lines of text below a picture whose lower edge is y."""
    for line, text in enumerate(texts):
        at = y + 0.13 + 0.15 * line
        ax.text(x, at, text, ha=ha, va="center", fontsize=6.5)


def _picture(weights: pd.DataFrame, largest: float) -> np.ndarray:
    """RGB of a filter, (height, width, 3)."""
    place = weights[["channel", "row", "column"]].to_numpy(int)
    values = np.empty(place.max(0) + 1)
    values[tuple(place.T)] = weights["weight"] / largest
    if len(values) == 3:
        return (1 + values.transpose(1, 2, 0)) / 2
    return np.repeat((1 + values.mean(0)[..., None]) / 2, 3, axis=2)


MEASURED = {
    "share": ("ci_low", "ci_high", "share of the attack (%)"),
    "excess": ("excess_low", "excess_high", "minus the share of noise (points)"),
}
"""Measure -> its interval and its axis, in `targeting_scatter`."""


@canvas.styled
def targeting_scatter(
    targeting: pd.DataFrame, association: pd.DataFrame, *, unit: str = "filter"
) -> Figure:
    """What arrives at a filter against its fragility: a row per attack, its share and that less the
    share of noise of equal norm.

    Both tables hold one layer at one epoch. A marker shape per seed, class colours, hollow where
    the class is not decided; bars are intervals over images.
    """
    attacks, seeds = list(dict.fromkeys(targeting["attack"])), sorted(targeting["seed"].unique())
    room = canvas.Room(left=0.75, bottom=0.95, top=0.5, gap=(0.75, 0.95), least=0)
    fig, axes = canvas.axes_grid([[4.1] * 2, [2.7] * len(attacks)], room)
    for row, attack in zip(axes, attacks, strict=True):
        part = targeting[targeting["attack"] == attack]
        for ax, (measure, (low, high, label)) in zip(row, MEASURED.items(), strict=True):
            for seed in seeds:
                of_seed = part[part["seed"] == seed]
                marker = SEED_MARKERS[seeds.index(seed) % len(SEED_MARKERS)]
                for (name, decided), chosen in of_seed.groupby(["class", "decided"], sort=False):
                    colour = canvas.strong_colour(name) if name in canvas.CLASS_COLOURS else GREY
                    x, y = 100 * chosen["fragility"], 100 * chosen[measure]
                    ax.vlines(x, 100 * chosen[low], 100 * chosen[high], color=colour, lw=0.8)
                    face = colour if decided else "white"
                    says = [
                        _said(row, 100 * row[low], 100 * row[high], unit)
                        for row in chosen.assign(x=x, y=y).to_dict("records")
                    ]
                    look = {"ms": 5, "mfc": face, "mec": colour, "mew": 1}
                    marks(ax, x, y, marker, says=says, ls="", **look)
            even = 100 / part["filter"].nunique() if measure == "share" else 0
            ax.axhline(even, color=GREY, lw=0.8, ls=DOTTED)
            ax.axvline(0, color=GREY, lw=0.6)
            ax.set_title(f"{attack}\n{_correlation(association, attack, measure)}")
            ax.set_xlabel("fragility: clean accuracy lost (points)")
            ax.set_ylabel(label)
            ax.grid(lw=0.5)
    handles = [canvas.class_dot(name) for name in JUDGED]
    handles += [
        key(f"seed {seed}", marker=m, ls="", mfc="white", mec=DARK, ms=5)
        for seed, m in zip(seeds, SEED_MARKERS * len(seeds), strict=False)
    ]
    handles.append(key("even share, or as noise", color=GREY, lw=0.8, ls=DOTTED))
    canvas.legend(fig, handles, columns=len(handles))
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


@canvas.styled
def fragile_sets(filters: pd.DataFrame, *, unit: str = "filter") -> Figure:
    """Classes of one layer's filters by S_clean: filters down, epochs across, a panel per seed.

    Pale with a question mark: not decided.
    """
    table = filters[filters["score"] == "S_clean"]
    names, epochs = sorted(table["filter"].unique()), sorted(table["epoch"].unique())
    seeds = sorted(table["seed"].unique())[:MAX_SEEDS]
    cell = min(0.55, (MAX_WIDTH - 0.9) / len(seeds) / len(epochs) - 0.08)
    size = cell * len(epochs), 0.19 * len(names)
    room = canvas.Room(bottom=0.95, gap=(0.3, 0), least=6.6)
    fig, panels = canvas.panels(
        canvas.split(table, "seed", seeds), size, room, xlabel="epoch", ylabel=unit, own_y=True
    )
    for ax, (seed, part) in panels:
        colours = np.ones((len(names), len(epochs), 3))
        says = np.full(colours.shape[:2], "not scored", object)
        for row in part.to_dict("records"):
            name, sure = row["class"], canvas.is_sure(row["class"], row["decided"])
            y, x = names.index(row["filter"]), epochs.index(row["epoch"])
            colours[y, x] = canvas.class_colour(name, sure)
            says[y, x] = f"{unit} {row['filter']}, epoch {row['epoch']}: {said(row)}, {name}"
            says[y, x] += "" if sure else ", not decided"
            if cell >= 0.25:
                sign, ink = canvas.class_sign(name, sure), canvas.ink_on(colours[y, x])
                canvas.write(ax, x, y, sign, fontsize=6.5, color=ink)
        canvas.mesh(ax, colours, names, epochs, title=f"seed {seed}", says=says)
        ax.tick_params(axis="y", labelsize=6.5)
    canvas.legend(fig, canvas.class_patches([*JUDGED, "untouched"]), columns=4)
    return fig


@canvas.styled
def overlap_dots(overlaps: pd.DataFrame) -> Figure:
    """Jaccard overlap of the fragile sets of one layer, between epochs and between seeds.

    One row per pair of epochs (a dot per seed) or pair of seeds (a dot per epoch), each over the
    central interval of chance, in grey.
    """
    titles = {"epoch": "between epochs, a dot per seed", "seed": "between seeds, a dot per epoch"}
    parts = {over: overlaps[overlaps["over"] == over] for over in titles}
    parts = {over: part for over, part in parts.items() if len(part)}
    pairs = {
        over: list(dict.fromkeys(zip(part[over], part[f"other_{over}"], strict=True)))
        for over, part in parts.items()
    }
    width = min((MAX_WIDTH - 1.2) / len(parts) - 0.9, 4.3)
    size = width, 0.42 * max(map(len, pairs.values())) + 0.2
    room = canvas.Room(left=0.9, bottom=0.95, gap=(0.9, 0), least=6.6)
    fig, panels = canvas.panels(parts, size, room, xlabel="Jaccard overlap", own_y=True)
    for ax, (over, part) in panels:
        each = "seed" if over == "epoch" else "epoch"
        for y, (one, other) in enumerate(pairs[over]):
            rows = part[(part[over] == one) & (part[f"other_{over}"] == other)]
            at = y + (np.arange(len(rows)) - (len(rows) - 1) / 2) * 0.7 / max(len(rows), 2)
            ax.hlines(at, rows["chance_low"], rows["chance_high"], color="#cbd5e1", lw=4)
            ax.plot(rows["chance"], at, "|", ms=6, color=GREY)
            says = [
                f"{each} {row[each]}: {number(row['value'])}, "
                f"chance {bracket(row['chance_low'], row['chance_high'])}, n = {row['n']}"
                for row in rows.to_dict("records")
            ]
            marks(ax, rows["value"], at, "o", says=says, ms=4.5, color=DARK)
        ax.set_yticks(range(len(pairs[over])), [f"{a} and {b}" for a, b in pairs[over]])
        ax.set_ylim(len(pairs[over]) - 0.4, -0.6)
        ax.set_xlim(-0.03, 1.03)
        ax.set_title(titles[over])
        ax.grid(axis="x", lw=0.5)
    handles = [
        key("overlap", marker="o", ls="", ms=4.5, color=DARK),
        key("mean of chance", marker="|", ms=6, color=GREY, mec=GREY, ls=""),
        Patch(facecolor="#cbd5e1", label="interval of chance"),
    ]
    canvas.legend(fig, handles, columns=3)
    return fig


@canvas.styled
def strength_curves(strengths: pd.DataFrame) -> Figure:
    """Accuracy on the validation split over the strength, of the remedy and of its control.

    A thin line is a seed, of the control a draw of a seed. A ring marks the strength chosen in it.
    """
    images = list(dict.fromkeys(strengths["images"]))
    colours = dict(zip(images, canvas.epoch_colours(range(len(images))).values(), strict=True))
    parts = {
        "the remedy": strengths[strengths["policy"] == "fragile"],
        "its control, at random": strengths[strengths["policy"] != "fragile"],
    }
    size = 3.9, 2.4
    room = canvas.Room(bottom=0.95, gap=(0.3, 0), least=0)
    fig, panels = canvas.panels(
        parts, size, room, xlabel="strength: largest gain minus smallest", ylabel="accuracy"
    )
    for ax, (title, rows) in panels:
        for name in images:
            part = rows[rows["images"] == name]
            lines = part.pivot_table(
                index="strength", columns=["seed", "policy"], values="accuracy"
            )
            n = f"n = {part['n'].max():,}, "
            n += count(lines.columns, "seed" if title == "the remedy" else "draw")
            says = [f"{name}, {at:g}: {span(of)}, {n}" for at, of in lines.iterrows()]
            canvas.mean_line(ax, lines, colours[name], says=says, thin=0.5, marker="o", ms=3)
            at = part[part["chosen"]]
            ax.plot(at["strength"], at["accuracy"], "o", ms=7, mfc="none", mec=colours[name])
        ax.set_title(title)
        ax.grid(lw=0.5)
    low, high = zip(*(ax.get_ylim() for ax, _ in panels), strict=True)
    for ax, _ in panels:
        ax.set_ylim(min(low), max(high))
    handles = [key(name, color=colours[name], lw=2) for name in images]
    handles.append(key("chosen", marker="o", ls="", ms=7, mfc="none", mec=DARK))
    canvas.legend(fig, handles, columns=len(handles))
    return fig
