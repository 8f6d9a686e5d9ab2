"""The figure of mending; see `report.canvas`."""

import pandas as pd
from matplotlib.figure import Figure

from faultline.base.statistics import wilson_interval
from faultline.report import canvas
from faultline.report.canvas import COLOURS, DARK, DOTTED, GREY, MAX_WIDTH, key, marks
from faultline.studies.mending.names import GIVEN

MAX_SEEDS = 3


@canvas.styled
def trade_off(
    mends: pd.DataFrame, paths: pd.DataFrame, *, clean_loss: float, confidence: float
) -> Figure:
    """Accuracy in the worst case over clean accuracy, in %, a panel per seed.

    mends, paths: rows of one checkpoint epoch. Large marks: the given network (diamond) and each
    mend on test images with their intervals, the chosen one ringed; thin: the way there on
    validation images, at the learning rate that is kept, under the quick attack; dotted: the
    budget, from the given network.
    """
    seeds = sorted(mends["seed"].unique())[:MAX_SEEDS]
    names = [name for name in dict.fromkeys(mends["candidate"]) if name != GIVEN]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    width = min(3.4, (MAX_WIDTH - 0.9) / len(seeds) - 0.25)
    fig, panels = canvas.panels(
        {seed: mends[mends["seed"] == seed] for seed in seeds},
        (width, 2.9),
        canvas.Room(bottom=0.95),
        xlabel="clean accuracy (%)",
        ylabel="accuracy in the worst case (%)",
        own_y=True,
    )
    for ax, (seed, part) in panels:
        given = part[part["candidate"] == GIVEN].iloc[0]
        for name, colour in colours.items():
            way = paths[(paths["seed"] == seed) & (paths["candidate"] == name)]
            rate = way.loc[way["best"].astype(bool), "rate"].max()
            line = way[way["rate"].isna() | (way["rate"] == rate)].sort_values("share")
            points = 100 * line["clean"], 100 * line["adversarial"]
            ax.plot(*points, color=colour, lw=0.8, marker=".", ms=3, alpha=0.6)
        for _, row in part.iterrows():
            is_given = row["candidate"] == GIVEN
            colour = DARK if is_given else colours[row["candidate"]]
            x, y = 100 * row["clean"], 100 * row["worst"]
            ax.hlines(y, *_ends(row, "clean", confidence), color=colour, lw=1.2)
            ax.vlines(x, *_ends(row, "worst", confidence), color=colour, lw=1.2)
            says = (
                f"{row['candidate']}: {x:.1f} % clean, {y:.1f} % in the worst case, "
                f"n = {row['n']:,}"
            )
            marks(ax, [x], [y], "D" if is_given else "o", says=[says], ms=6, color=colour)
            if row["chosen"]:
                ax.plot(x, y, "o", ms=12, mfc="none", mec=colour, mew=1.4)
        ax.axvline(100 * (given["clean"] - clean_loss), color=GREY, ls=DOTTED, lw=1)
        ax.set_title(f"seed {seed}")
        ax.grid(lw=0.5)
    handles = [key(GIVEN, marker="D", ls="", ms=5, color=DARK)]
    handles += [key(name, marker="o", color=colour, lw=0.7) for name, colour in colours.items()]
    handles += [
        key("chosen", marker="o", ls="", ms=9, mfc="none", mec=DARK),
        key("budget of clean accuracy", color=GREY, ls=DOTTED, lw=1),
    ]
    canvas.legend(fig, handles, columns=min(len(handles), 5))
    return fig


def _ends(row: pd.Series, column: str, confidence: float) -> tuple[float, float]:
    """The interval of an accuracy, in %."""
    hits = round(row[column] * row["n"])
    _, low, high = wilson_interval(hits, row["n"], confidence=confidence)
    return 100 * float(low), 100 * float(high)
