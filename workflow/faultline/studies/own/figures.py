"""The figure about ablations of the user's own; see `report.canvas`."""

import pandas as pd
from matplotlib.figure import Figure

from faultline.report import canvas
from faultline.report.canvas import GREY, MAX_WIDTH, key, marks
from faultline.report.page import said

MAX_ROWS = 60

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#3b3b3b"]


def rows(part: pd.DataFrame) -> list[tuple[str, str]]:
    """(layer, variant) of an ablation, in the order of the table."""
    return list(dict.fromkeys(zip(part["layer"], part["variant"], strict=True)))


@canvas.styled
def changes(part: pd.DataFrame) -> Figure:
    """Difference of accuracy with its interval: layers and variants down, one panel per image set.

    part: one ablation of one run at one epoch. Of more than MAX_ROWS, those that changed most.
    """
    images, seeds = list(dict.fromkeys(part["images"])), sorted(part["seed"].unique())
    names = rows(part)
    if len(names) > MAX_ROWS:
        size = part.assign(size=part["difference"].abs()).groupby(["layer", "variant"])["size"]
        chosen = set(size.max().nlargest(MAX_ROWS).index)
        names = [row for row in names if row in chosen]
    labels = [f"{layer}: {variant}" for layer, variant in names]
    left = canvas.label_width(labels)
    size = max(1.6, min(3.2, (MAX_WIDTH - left) / len(images) - 0.4)), 0.24 * len(names) + 0.1
    room = canvas.Room(left=left, bottom=0.85, least=5.0)
    fig, panels = canvas.panels(
        canvas.split(part, "images", images), size, room, xlabel="change of accuracy (points)"
    )
    place = {row: y for y, row in enumerate(names)}
    colours = {seed: COLOURS[i % len(COLOURS)] for i, seed in enumerate(seeds)}
    low, high = 100 * min(part["ci_low"].min(), 0), 100 * max(part["ci_high"].max(), 0)
    pad = 0.05 * (high - low)
    for ax, (name, of_images) in panels:
        ax.axvline(0, color=GREY, lw=0.9)
        for row in of_images.to_dict("records"):
            if (row["layer"], row["variant"]) not in place:
                continue
            spread = (seeds.index(row["seed"]) + 0.5) / len(seeds) - 0.5
            y, colour = place[row["layer"], row["variant"]] + 0.6 * spread, colours[row["seed"]]
            ax.plot([100 * row["ci_low"], 100 * row["ci_high"]], [y, y], color=colour, lw=1.2)
            change = said(row, value="difference", scale=100, places=2)
            says = [f"seed {row['seed']}: {change}"]
            marks(ax, 100 * row["difference"], y, "o", says=says, ms=4, color=colour)
        canvas.rows_axis(ax, labels)
        ax.set_xlim(low - pad, high + pad)
        ax.set_title(canvas.images_title(name))
    handles = [key(f"seed {seed}", marker="o", ms=4, lw=1.2, color=colours[seed]) for seed in seeds]
    canvas.legend(fig, handles, columns=5)
    return fig
