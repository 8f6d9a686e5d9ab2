"""What the figures share: colours, axes of fixed sizes, marks and legends. No pyplot, no files.

Sizes are in inches.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from faultline.base.columns import CLASSES
from faultline.report.svg import fit, tips_id

# Colours that stay apart with any colour vision (after Okabe & Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
"""Of what has no order."""

CLASS_COLOURS = {
    "fragile": "#d55e00",
    "robust": "#aab2bd",
    "antifragile": "#0072b2",
    "untouched": "#ffffff",
    "undefined": "#faf0a8",
}

CLASS_SYMBOLS = dict(zip(CLASSES, "FRA\u2013\u00d7", strict=True))

DIVERGING = LinearSegmentedColormap.from_list("faultline", ["#a84300", "#f6f6f4", "#00578a"])

GREY, DARK = "#6b7280", "#1f2937"

DOTTED = (0, (1, 2))
"""The dashes of what is there to compare with."""

MAX_WIDTH = 11.0

STYLE: dict[Any, Any] = {
    "font.sans-serif": ["DejaVu Sans"],
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


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """A figure drawn in the style of the page."""

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
    svg = fit(buffer.getvalue())
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def tips(artist, texts: Sequence[str]) -> None:
    """What the marks of a line, its path if it has none, or the cells of a mesh say when they are
    pointed at, one after the other. Texts of points that are not finite are left out."""
    if isinstance(artist, Line2D) and artist.get_marker() != "None":
        drawn = np.isfinite(np.asarray(artist.get_xydata(), float)).all(axis=1)
        texts = [text for text, finite in zip(texts, drawn, strict=True) if finite]
    artist.set_gid(tips_id(texts))


def marks(ax: Axes, *data, says: Sequence[str] | None, **look) -> None:
    """A line or dots as of `Axes.plot`, with what `tips` gives them to say, if anything."""
    (line,) = ax.plot(*data, **look)
    if says is not None:
        tips(line, says)


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


def by_seed(table: pd.DataFrame, *, x: str, y: str) -> pd.DataFrame:
    """x down, a column per seed."""
    return table.pivot_table(index=x, columns="seed", values=y)


def is_sure(name: str, decided) -> bool:
    """Whether a class is decided, or one of those that need not be."""
    return bool(decided) or name in ("untouched", "undefined")


def class_colour(name: str, decided: bool) -> np.ndarray:
    """RGB of a class; pale where it is not decided."""
    colour = np.array(to_rgb(CLASS_COLOURS[name]))
    return colour if decided else 1 - 0.28 * (1 - colour)


def class_sign(name: str, sure: bool) -> str:
    """The letter of a class, with a question mark where it is not decided."""
    return CLASS_SYMBOLS[name] + ("" if sure else "?")


def class_patches(names: Sequence[str], *, unsure: str = "not decided") -> list[Patch]:
    """What signs and colours of classes stand for; unsure: of those that are not decided."""
    patches = []
    for name in names:
        patches.append(patch(class_colour(name, True), f"{class_sign(name, True)}  {name}"))
        if not is_sure(name, False):
            label = f"{class_sign(name, False)}  {unsure.format(name)}"
            patches.append(patch(class_colour(name, False), label))
    return patches


def ink_on(colour) -> str:
    """White or black, whichever has the larger contrast with a colour (WCAG 2)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ [0.2126, 0.7152, 0.0722] < 0.179 else "black"


def epoch_colours(epochs: Sequence[int]) -> dict[int, tuple]:
    """A colour for each epoch, the later the darker."""
    shades = mpl.colormaps["viridis"](np.linspace(0.85, 0.05, max(len(epochs), 2)))
    shades = shades[-len(epochs) :] if len(epochs) == 1 else shades
    return dict(zip(epochs, map(tuple, shades), strict=True))


def shortened(name: str, length: int) -> str:
    """The end of a name that is longer than so many characters."""
    return name if len(name) <= length else "…" + name[-(length - 1) :]


def text_width(text: str) -> float:
    """Of a label, about, in inches."""
    return 0.071 * len(text)


def label_width(names: Sequence[str]) -> float:
    """Room for labels at the left of axes, in inches."""
    return 0.3 + max(text_width(str(name)) for name in names)


def cell_width(count: int, names: Sequence[str], *, gap: float, widest: float) -> float:
    """Of a cell of a mesh: as wide as the page leaves room for `count` beside the names."""
    room = MAX_WIDTH - label_width(names) - 0.2 - gap
    return max(min(widest, room / count), 0.12)


class Room(NamedTuple):
    """What is around the axes of a figure and between them (across, down); least: its width at the
    least. In inches."""

    bottom: float
    left: float = 0.65
    right: float = 0.2
    top: float = 0.35
    gap: tuple[float, float] = (0.25, 0.75)
    least: float = 7.6


def axes_grid(sizes, room: Room) -> tuple[Figure, np.ndarray]:
    """A figure of axes [rows][columns] of the given widths and heights."""
    widths, heights = sizes
    bottom, left, right, top, gap, least = room
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


def mean_line(ax: Axes, lines: pd.DataFrame, colour, *, says, thin: float = 0.45, **look) -> None:
    """The mean of some lines, its points with what they say, and where there are several, each of
    them thin. lines: x down, a line across."""
    if lines.shape[1] > 1:
        ax.plot(lines.index, lines, color=colour, lw=0.6, alpha=thin)
    marks(ax, lines.index, lines.mean(axis=1), says=says, color=colour, lw=1.8, **look)


def split(table: pd.DataFrame, by: str | list[str], keys=None) -> dict:
    """Value -> the rows with it, in the order of the table or of `keys`; of several columns the
    values are tuples."""
    parts = dict(iter(table.groupby(by, sort=False)))
    return parts if keys is None else {key: parts.get(key, table.iloc[:0]) for key in keys}


def panels(
    parts: Mapping,
    size: tuple[float | Sequence[float], float],
    room: Room,
    *,
    columns: int = 100,
    xlabel: str = "",
    ylabel: str = "",
    own_x: bool = True,
    own_y: bool = False,
) -> tuple[Figure, list[tuple[Axes, tuple]]]:
    """A figure with a panel for each of some parts, see `split`, and (axes, (key, part)) of each.

    size: width of a panel, or of each column, and height; columns: how many at most, those beyond
    stand in further rows. own_x, own_y: whether each panel has numbers of its own at its axis; else
    those of the lowest panels, and of the first column, are all panels'.
    """
    width, height = size
    columns = min(len(parts), columns)
    rows = -(-len(parts) // columns)
    widths = [width] * columns if isinstance(width, int | float) else width
    fig, axes = axes_grid((widths, [height] * rows), room)
    for ax in axes.flat[len(parts) :]:
        ax.set_axis_off()
    for index, ax in enumerate(axes.flat[: len(parts)]):
        if index % columns == 0:
            ax.set_ylabel(ylabel)
        elif not own_y:
            ax.tick_params(labelleft=False)
        if own_x or index + columns >= len(parts):
            ax.set_xlabel(xlabel)
        else:
            ax.tick_params(labelbottom=False)
    return fig, [*zip(axes.flat, parts.items(), strict=False)]


def mesh(ax, colours, rows, columns, *, title="", xlabel="", says=None) -> None:
    """says: the text of each cell for `tips`, [rows][columns]."""
    cells = ax.pcolormesh(
        np.arange(len(columns) + 1),
        np.arange(len(rows) + 1),
        colours,
        edgecolors="white",
        linewidth=1.2,
    )
    if says is not None:
        tips(cells, [text for row in says for text in row])
    ax.set_xlim(0, len(columns))
    ax.set_ylim(len(rows), 0)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [str(c) for c in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [str(r) for r in rows])
    ax.tick_params(length=0)
    if rows[0] == "all layers" and len(rows) > 1:
        ax.axhline(1, color=DARK, lw=1.2)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(title)
    if xlabel:
        ax.set_xlabel(xlabel)


def write(ax: Axes, x: int, y: int, text: str, **look) -> None:
    """A text in the middle of a cell of a mesh."""
    ax.text(x + 0.5, y + 0.5, text, **{"ha": "center", "va": "center_baseline"} | look)


def hide_repeated(axes) -> None:
    """The labels of the first panel of a row are those of all."""
    for ax in axes[0][1:]:
        ax.tick_params(labelleft=False)


def rows_axis(ax: Axes, labels: Sequence[str], *, pad: float = 0.5) -> None:
    """A row for each label, the first on top; pad: between the outer ones and the edge."""
    ax.set_ylim(len(labels) - 1 + pad, -pad)
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", lw=0.5)


def eps_axis(ax: Axes) -> None:
    """Few round numbers along the axis."""
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter("{x:g}")


def images_title(images: str) -> str:
    """What a panel of an image set is called."""
    return "clean" if images == "clean" else f"adversarial, {images}"


def share_axis(ax: Axes) -> None:
    """Shares down the axis, from 0 to 1."""
    ax.set_ylim(-0.02, 1.02)
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_yticks([0.25, 0.75], minor=True)
    ax.grid(lw=0.5)


def strong_colour(name: str) -> str:
    """Of a class, for marks and lines, which pale colours would hide."""
    return {"robust": GREY, "untouched": DARK, "undefined": DARK}.get(name, CLASS_COLOURS[name])


def class_marker(name: str) -> str:
    """What a class is drawn with."""
    return {"untouched": "_", "undefined": "x"}.get(name, "o")


def class_dot(name: str) -> Line2D:
    """A class in a legend."""
    colour = strong_colour(name)
    return key(name, marker=class_marker(name), ls="", ms=4, mfc=colour, mec=colour)


def key(label: str, **look) -> Line2D:
    """A line or mark of a legend."""
    return Line2D([], [], label=label, **look)


def patch(colour, label: str) -> Patch:
    """An area in a legend."""
    return Patch(facecolor=colour, edgecolor=GREY, linewidth=0.5, label=label)


def legend(fig: Figure, handles, *, columns: int) -> None:
    """Below all panels, at the left."""
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


def colour_bar(fig: Figure, ax, scale: Normalize, *, label: str, colours=DIVERGING) -> None:
    """What the colours of a mesh stand for, beside it."""
    box, (width, height) = ax.get_position(), fig.get_size_inches()
    tall = min(box.height * height, 2.4)
    bar = fig.add_axes((box.x1 + 0.15 / width, box.y1 - tall / height, 0.14 / width, tall / height))
    assert scale.vmin is not None and scale.vmax is not None
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
