"""The fault map as a figure of matplotlib, for print: of any width, with type of one size."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from faultline.base.columns import CLASSES, UNITS
from faultline.report.canvas import (
    CLASS_COLOURS,
    CLASS_SYMBOLS,
    DARK,
    GREY,
    STYLE,
    ink_on,
    shortened,
    signed,
)
from faultline.report.narrow import TYPE
from faultline.studies.map.drawing import JOIN_WORDS, STRIP_HEIGHT, STRIP_Y, WORDS
from faultline.studies.map.layout import Box, Part
from faultline.studies.map.views import STRIP_ORDER, Views

MARKS = {join: mark for join, mark, _ in JOIN_WORDS} | {"join": "\u00b7"}
DOWN, ACROSS = 0.7, 0.62
"""Points that a pixel of the layout becomes, down the page, and across it at least where parts
stand side by side."""
APART, LINE = 14.0, 11.0
"""Between parts, and of a line of type, in points."""
CHIP = 15.0
LETTER = 0.56 * TYPE
"""Widths of a layer's sign and of a letter, about, in points."""


def map_figure(
    parts: Sequence[Part], shown: Views, *, weights: int, width: float, title: str
) -> Figure:
    """The map in the view of `shown` that is first, but of the weights of this number; width: in
    inches."""
    score, _, seed = shown.chosen
    view, whole = shown.views[score][weights][seed], 72 * width - 2
    widest = max(part.width for part in parts)
    columns = int(np.clip((whole + APART) // (ACROSS * widest + APART), 1, len(parts)))
    across = min((whole - APART * (columns - 1)) / columns / widest, 1.1)
    rows = [parts[i : i + columns] for i in range(0, len(parts), columns)]
    room = 2 * LINE if len(parts) > 1 else 4  # lines for what goes on elsewhere
    tall = sum(DOWN * max(part.height for part in row) + room for row in rows)
    key = _key(view.classes, whole)
    with mpl.rc_context(STYLE | {"font.size": TYPE}):
        height = LINE + 4 + tall + LINE * len(key)
        figure = Figure(figsize=(width, height / 72))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_xlim(-1, 72 * width - 1)
        ax.set_ylim(height, 0)
        ax.set_axis_off()
        ax.text(0, LINE / 2, shortened(title, int(whole / LETTER)), va="center", weight="bold")
        top = LINE + 4
        for row in rows:
            for column, part in enumerate(row):
                drawn = _Drawn(ax, shown, view, left=column * (across * widest + APART), top=top)
                drawn.part(part, across)
            top += DOWN * max(part.height for part in row) + room
        for line, signs in enumerate(key):
            _signs(ax, signs, height - LINE * (len(key) - line - 0.5))
    return figure


def _key(classes: str, whole: float) -> list[list[tuple[str, str, str]]]:
    """(colour, sign, word) of the classes that stand in the map, in lines that fit."""
    there = {WORDS[letter.upper()] for letter in classes if letter != "."}
    signs = [(CLASS_COLOURS[n], CLASS_SYMBOLS[n], n) for n in CLASSES if n in there]
    if any(letter.islower() for letter in classes):
        signs.append(("white", "?", "dashed: not decided"))
    lines: list[list[tuple[str, str, str]]] = [[]]
    for sign in signs:
        if lines[-1] and sum(_long(s) for s in [*lines[-1], sign]) > whole:
            lines.append([])
        lines[-1].append(sign)
    return lines


def _long(sign: tuple[str, str, str]) -> float:
    return CHIP + 10 + LETTER * len(sign[2])


def _signs(ax: Axes, signs: list[tuple[str, str, str]], y: float) -> None:
    x = 0.0
    for sign in signs:
        colour, letter, word = sign
        box = Rectangle((x, y - 4.5), 10, 9, facecolor=colour, edgecolor=GREY, lw=0.5)
        ax.add_patch(box)
        ax.text(x + 5, y, letter, ha="center", va="center_baseline", color=ink_on(colour))
        ax.text(x + 13, y, word, va="center_baseline")
        x += _long(sign)


class _Drawn:
    """Draws a part; left, top: of its place, in points."""

    def __init__(self, ax: Axes, shown: Views, view, *, left: float, top: float):
        self.ax, self.shown, self.view, self.left, self.top = ax, shown, view, left, top
        self.number = {name: i for i, name in enumerate(shown.layers)}

    def part(self, part: Part, across: float) -> None:
        """All of it, `across` points a pixel wide."""
        self.across = across
        for frame in part.frames:
            x, y, w, h = self.place(frame.x, frame.y, frame.width, frame.height)
            look: dict[str, Any] = {
                "facecolor": "#f3f4f6",
                "edgecolor": "#d1d5db",
                "lw": 0.5,
                "zorder": 0,
            }
            self.ax.add_patch(Rectangle((x, y), w, h, **look))
            text = shortened(frame.label, max(int(w / LETTER) - 1, 4))
            self.ax.text(x + w - 2, y + 5.5, text, ha="right", va="center", color=GREY)
        for way in part.ways:
            xs, ys = zip(*(self.place(*corner)[:2] for corner in way), strict=True)
            self.ax.plot(xs, ys, color=GREY, lw=0.8, solid_joinstyle="round", zorder=1)
        for box in part.boxes:
            self.box(box)
        x, low, *_ = self.place(part.spine, part.boxes[-1].y + part.boxes[-1].height)
        if part.before:
            text = self.fitting(f"from {part.before}", x)
            self.ax.text(x + 4, self.top - 2, text, va="center", color=GREY)
        if part.after:
            self.ax.plot([x, x], [low, low + LINE], color=GREY, lw=0.8, zorder=1)
            text = self.fitting(f"to {part.after}", x)
            self.ax.text(x + 4, low + LINE, text, va="center", color=GREY)

    def place(self, x: float, y: float, width: float = 0, height: float = 0):
        """Pixels of the layout in points."""
        here = self.left + x * self.across, self.top + y * DOWN
        return *here, width * self.across, height * DOWN

    def fitting(self, text: str, x: float) -> str:
        return shortened(text, max(int((self.ax.get_xlim()[1] - x) / LETTER), 6))

    def box(self, box: Box) -> None:
        """A node."""
        x, y, w, h = self.place(box.x, box.y, box.width, box.height)
        if box.kind in UNITS:
            self.layer(box, x, y, w, h)
            return
        middle: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 4}
        look: dict[str, Any] = {"facecolor": "white", "edgecolor": GREY, "lw": 0.7, "zorder": 3}
        if box.kind in ("input", "output"):
            rounded = f"round,pad=0,rounding_size={h / 2}"
            self.ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=rounded, **look))
            self.ax.text(x + w / 2, y + h / 2, box.label, **middle)
            return
        self.ax.add_patch(Circle((x + w / 2, y + h / 2), 4.5, **look))
        self.ax.text(x + w / 2, y + h / 2, MARKS[box.kind], **middle)

    def layer(self, box: Box, x: float, y: float, w: float, h: float) -> None:
        """A layer: its sign, its name, its score with a bar, and its units as a strip."""
        i = self.number[box.node.split(":")[0]]
        letter = self.view.classes[i : i + 1] or "."
        name = WORDS.get(letter.upper(), "")
        sure, colour = letter.isupper(), CLASS_COLOURS.get(name, GREY)
        edge = colour if name in CLASSES[:3] else GREY
        lines: dict[str, Any] = {"edgecolor": edge, "lw": 1.1, "ls": "-" if sure else (0, (3, 2))}
        self.ax.add_patch(Rectangle((x, y), w, h, facecolor="white", zorder=2, lw=0))
        value = self.view.value[i]
        if value:
            long = (w - CHIP) * abs(value) / self.shown.scale
            self.ax.add_patch(
                Rectangle((x + CHIP, y), long, h, facecolor=edge, alpha=0.3, lw=0, zorder=2.1)
            )
        if sure:
            self.ax.add_patch(Rectangle((x, y), CHIP, h, facecolor=colour, lw=0, zorder=2.2))
        self.ax.add_patch(Rectangle((x, y), w, h, facecolor="none", zorder=3, **lines))
        middle: dict[str, Any] = {"va": "center_baseline", "zorder": 4}
        sign = CLASS_SYMBOLS.get(name, "") + ("" if sure or not name else "?")
        ink = ink_on(colour) if sure else DARK
        at = y + h / 2
        self.ax.text(x + CHIP / 2, at, sign, ha="center", weight="bold", color=ink, **middle)
        score = "" if value is None else signed(value / 1000)
        line = y + (0.4 if i in self.view.strips else 0.5) * h
        self.ax.text(x + w - 3, line, score, ha="right", **middle)
        room = int((w - CHIP - 6) / LETTER) - len(score) - 1
        if room >= 3:
            self.ax.text(x + CHIP + 3, line, shortened(box.label, room), **middle)
        self.strip(i, x + CHIP + 3, y + STRIP_Y * DOWN, w - CHIP - 6)

    def strip(self, i: int, x: float, y: float, width: float) -> None:
        """One cell per unit, the fragile first."""
        counts = self.view.strips.get(i)
        if not counts:
            return
        each, done = width / sum(counts), 0
        for letter, count in zip(STRIP_ORDER, counts, strict=True):
            if count:
                name = WORDS[letter.upper()]
                colour = CLASS_COLOURS[name] if name in CLASSES[:3] else GREY
                look: dict[str, Any] = {
                    "facecolor": colour,
                    "alpha": 1 if letter.isupper() else 0.45,
                    "lw": 0,
                }
                place = x + done * each, y
                cell = Rectangle(place, count * each, STRIP_HEIGHT * DOWN, zorder=3.5, **look)
                self.ax.add_patch(cell)
            done += count
