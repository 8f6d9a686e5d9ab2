"""Figures of the page, fitted to a column of a journal: panels in fewer columns, type of one size.

Sizes are in inches, those of type in points.
"""

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from faultline.base.files import atomic, save_text
from faultline.report.canvas import STYLE, to_svg

TYPE = 7.0
PANEL = 1.3
"""Width of a panel, at least, with what stands beside it."""
SHAPES = 0.6, 1.0
"""Height of a panel over its width, at least and at most."""
TALL = 2.6
"""Height of a panel, at most."""
LETTER = 0.55 * TYPE / 72
"""Width of a letter, about."""


def narrowed(figure: Figure, *, width: float) -> Figure:
    """The same figure of panels and a legend, so wide, all its type of the size TYPE; the figure
    itself is changed."""
    with mpl.rc_context(STYLE):
        panels = _panels(figure)
        heights = [ax.get_position().height * figure.get_figheight() for ax in panels]
        widths = [ax.get_position().width * figure.get_figwidth() for ax in panels]
        columns = int(np.clip((width - 0.5) // PANEL, 1, len(panels)))
        rows = -(-len(panels) // columns)
        across = (width - 0.5) / columns - 0.1
        down = min(across * float(np.clip(heights[0] / widths[0], *SHAPES)), TALL)
        _share_labels(figure, panels, columns)
        grid = figure.add_gridspec(rows, columns)
        for index, ax in enumerate(panels):
            ax.set_subplotspec(grid[index // columns, index % columns])
            title = textwrap.fill(ax.get_title(), max(int(across / LETTER), 8))
            ax.set_title(title, fontweight=ax.title.get_fontweight())
            ax.tick_params(labelsize=TYPE)
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03)
        for text in figure.findobj(Text):
            text.set_fontsize(TYPE)
        figure.set_size_inches(width, rows * (down + 0.4) + 0.3)
        tall = _legend(figure, width)
        figure.set_size_inches(width, rows * (down + 0.4) + 0.3 + tall)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure; type stays type, and the same figure gives the same bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".svg":
        save_text(to_svg(figure, name=file.stem, alt=file.stem), file)
        return
    dates = {"CreationDate": None} if file.suffix == ".pdf" else {}
    with mpl.rc_context(STYLE | {"pdf.fonttype": 42}), atomic(file) as temporary:
        figure.savefig(temporary, format=file.suffix[1:], dpi=300, metadata=dates)


def _panels(figure: Figure) -> list[Axes]:
    """The axes that show anything; others are taken out."""
    for ax in figure.axes:
        if not ax.axison:
            ax.remove()
    return figure.axes


def _share_labels(figure: Figure, panels: list[Axes], columns: int) -> None:
    """Names of axes that are all panels' stand once, and so do numbers that are."""
    outer = [
        {"x": index + columns >= len(panels), "y": index % columns == 0}
        for index in range(len(panels))
    ]
    for name, side in (("x", "labelbottom"), ("y", "labelleft")):
        axes = [getattr(ax, f"{name}axis") for ax in panels]
        labels = {axis.get_label_text() for axis in axes} - {""}
        numbers = all(axis.get_tick_params().get(side, True) for axis in axes)
        for axis, ends in zip(axes, outer, strict=True):
            if len(labels) == 1:
                axis.set_label_text(min(labels) if ends[name] and name == "x" else "")
            if not numbers:
                axis.set_tick_params(**{side: ends[name]})
        if len(labels) == 1 and name == "y":
            figure.supylabel(min(labels))


def _legend(figure: Figure, width: float) -> float:
    """The legend below all panels, in as many columns as there is room for; its height."""
    if not figure.legends:
        return 0.0
    (old,) = figure.legends
    handles, labels = old.legend_handles, [text.get_text() for text in old.get_texts()]
    old.remove()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(
            handles=handles,
            labels=labels,
            loc="outside lower center",
            ncols=columns,
            fontsize=TYPE,
            handlelength=1.8,
            columnspacing=1.2,
        )
        box = legend.get_window_extent(renderer)
        if columns == 1 or box.width <= figure.dpi * (width - 0.1):
            return float(box.height / figure.dpi)
        legend.remove()
    return 0.0
