"""The figure of stresses; see `report.canvas`."""

import pandas as pd
from matplotlib.figure import Figure

from faultline.report import canvas
from faultline.report.page import count, span


@canvas.styled
def severity_curves(table: pd.DataFrame) -> Figure:
    """Accuracy in % over the severity, a panel for each stress, the one that costs most first; thin
    lines are seeds. table: rows of one run at one epoch."""
    means = table[table["severity"] > 0].groupby("stress")["accuracy"].mean()
    parts = canvas.split(table, "stress", [*means.sort_values(kind="stable").index])
    columns = min(len(parts), 5)
    width = min(2.2, (canvas.MAX_WIDTH - 0.9) / max(columns, 3) - 0.2)
    room = canvas.Room(bottom=0.6, top=0.3, gap=(0.2, 0.65))
    fig, panels = canvas.panels(
        parts,
        (width, 0.8 * width),
        room,
        columns=columns,
        xlabel="severity",
        ylabel="accuracy (%)",
    )
    for ax, (stress, part) in panels:
        lines = 100 * canvas.by_seed(part, x="severity", y="accuracy")
        n = f"n = {part['n'].max():,}, {count(lines.columns, 'seed')}"
        says = [
            f"{stress}, severity {severity}: {span(of / 100)}, {n}"
            for severity, of in lines.iterrows()
        ]
        canvas.mean_line(ax, lines, canvas.COLOURS[0], says=says, marker="o", ms=3)
        ax.set_title(canvas.shortened(stress, int(width * 13)), fontsize=8, pad=3)
        ax.set_xticks(range(6))
        ax.set_ylim(-2, 102)
        ax.grid(lw=0.5)
    return fig
