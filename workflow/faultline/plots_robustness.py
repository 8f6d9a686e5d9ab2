"""The figures that compare trainings with each other; see `faultline.plots`.

Tables are robustness.tsv and robustness_differences.tsv of one data set and network, at the last
epoch: values in % or points, intervals over seeds.
"""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from faultline.plots import GREY, _axes, _label_width, _legend, _styled

COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"]
ATTACK_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#3b3b3b"]
PUBLISHED = "#1f2937"
SCORE = "rg_score"


@_styled
def groups_over_eps(table: pd.DataFrame, groups: dict[str, list[str]], *, attack: str) -> Figure:
    """Accuracy over eps, a panel per base: the base, what regularises it, and in grey the trainings
    that belong to no group. groups: base -> regularised trainings. Crosses: published."""
    part = table[(table["attack"] == attack) & (table["eps"] != SCORE)]
    part = part.assign(eps=part["eps"].astype(float))
    grouped = {name for base, others in groups.items() for name in (base, *others)}
    alone = [name for name in dict.fromkeys(part["training"]) if name not in grouped]
    panels = groups or {name: [] for name in alone}
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    fig, axes = _axes(
        [[2.25] * columns, [1.9] * rows],
        left=0.65,
        bottom=0.85,
        top=0.3,
        gap=(0.2, 0.45),
        least=7.6,
    )
    kinds = {name: name.removeprefix(base).lstrip("-") for base in panels for name in panels[base]}
    colours = dict(zip(dict.fromkeys(kinds.values()), cycle(COLOURS), strict=False))
    for index, ax in enumerate(axes.flat):
        if index >= len(panels):
            ax.set_axis_off()
            continue
        base = list(panels)[index]
        drawn = dict.fromkeys(alone, GREY) | {base: "black"}
        for name, colour in (drawn | {n: colours[kinds[n]] for n in panels[base]}).items():
            line = part[part["training"] == name].sort_values("eps")
            ax.fill_between(
                line["eps"], line["ci_low"], line["ci_high"], color=colour, alpha=0.15, lw=0
            )
            ax.plot(line["eps"], line["value"], color=colour, lw=1.4)
            if attack.startswith("fgsm"):
                ax.plot(line["eps"], line["published"], "x", color=colour, ms=4.5, mew=1.1)
        ax.set_title(base)
        ax.set_ylim(0, 100)
        ax.grid(lw=0.5)
        ax.tick_params(labelleft=index % columns == 0)
        ax.set_xlabel("eps" if index >= len(panels) - columns else "")
    axes[0][0].set_ylabel(f"accuracy under {attack} (%)")
    handles = [Line2D([], [], color="black", lw=1.6, label="as named above")]
    handles += [Line2D([], [], color=c, lw=1.6, label=kind) for kind, c in colours.items()]
    if alone and groups:
        handles.append(Line2D([], [], color=GREY, lw=1.6, label=", ".join(alone)))
    if part["published"].notna().any() and attack.startswith("fgsm"):
        handles.append(
            Line2D([], [], marker="x", ls="", color=PUBLISHED, ms=4.5, label="published")
        )
    _legend(fig, handles, columns=4)
    return fig


@_styled
def scores(table: pd.DataFrame) -> Figure:
    """The R&G score of every training, a dot with its interval per attack; diamonds: published."""
    part = table[table["eps"] == SCORE]
    attacks, names = (list(dict.fromkeys(part[c])) for c in ("attack", "training"))
    fig, axes = _axes(
        [[5.2], [len(names) * (0.1 * len(attacks) + 0.14)]],
        left=_label_width(names),
        bottom=0.85,
        top=0.1,
        least=7.6,
    )
    ax, step = axes[0][0], 0.7 / len(attacks)
    for index, attack in enumerate(attacks):
        rows = part[part["attack"] == attack].set_index("training").reindex(names)
        at = np.arange(len(names)) - 0.35 + step * (index + 0.5)
        colour = ATTACK_COLOURS[index % len(ATTACK_COLOURS)]
        ax.hlines(at, rows["ci_low"], rows["ci_high"], color=colour, lw=1.4)
        ax.plot(rows["value"], at, "o", ms=3.5, color=colour)
    published = part.groupby("training")["published"].first().reindex(names)
    ax.plot(published, range(len(names)), "D", ms=4.5, mfc="none", mec=PUBLISHED)
    _rows(ax, names)
    ax.set_xlabel("R&G score: sum of accuracies in % over eps")
    handles = [
        Line2D([], [], marker="o", ms=4, color=ATTACK_COLOURS[i % 5], lw=1.4, label=attack)
        for i, attack in enumerate(attacks)
    ]
    if published.notna().any():
        mark = {"marker": "D", "ls": "", "mfc": "none", "mec": PUBLISHED, "ms": 4.5}
        handles.append(Line2D([], [], **mark, label="published (FGSM)"))
    _legend(fig, handles, columns=5)
    return fig


@_styled
def gains(differences: pd.DataFrame) -> Figure:
    """R&G score of every regularised training less its base, with intervals, by attack."""
    part = differences[differences["eps"] == SCORE]
    attacks, names = (list(dict.fromkeys(part[c])) for c in ("attack", "training"))
    fig, axes = _axes(
        [[5.2], [len(names) * (0.1 * len(attacks) + 0.14)]],
        left=_label_width(names),
        bottom=0.85,
        top=0.1,
        least=7.6,
    )
    ax, step = axes[0][0], 0.7 / len(attacks)
    for index, attack in enumerate(attacks):
        rows = part[part["attack"] == attack].set_index("training").reindex(names)
        at = np.arange(len(names)) - 0.35 + step * (index + 0.5)
        colour = ATTACK_COLOURS[index % len(ATTACK_COLOURS)]
        ax.hlines(at, rows["ci_low"], rows["ci_high"], color=colour, lw=1.4)
        ax.plot(rows["value"], at, "o", ms=3.5, color=colour)
    ax.axvline(0, color="#d55e00", lw=0.9, zorder=0.9)
    _rows(ax, names)
    ax.set_xlabel("R&G score less that of the base (points)")
    handles = [
        Line2D([], [], marker="o", ms=4, color=ATTACK_COLOURS[i % 5], lw=1.4, label=attack)
        for i, attack in enumerate(attacks)
    ]
    _legend(fig, handles, columns=5)
    return fig


def _rows(ax, names) -> None:
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    for y in range(1, len(names)):
        ax.axhline(y - 0.5, color="#e5e7eb", lw=0.6)
    ax.grid(axis="x", lw=0.5)
