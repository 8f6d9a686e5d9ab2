"""What figures share."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from faultline.report import canvas
from faultline.report.svg import TIPS


def titles(svg):
    return re.findall(r"<title>([^<]*)</title></(\w+)>", svg)


def test_marks_and_cells_tell_their_texts_in_order():
    figure = Figure()
    ax = figure.add_subplot()
    cells = ax.pcolormesh(np.arange(4).reshape(2, 2))
    canvas.tips(cells, ["a & b", '"<c>"', "d", "e"])
    (line,) = ax.plot([0, 1, 2], [0, np.nan, 1], "o-")
    canvas.tips(line, ["first", "undefined", "last"])
    (curve,) = ax.plot([0, 2], [1, 0])
    canvas.tips(curve, ["curve"])
    svg = canvas.to_svg(figure, name="figure", alt="")
    said = ["a &amp; b", "&quot;&lt;c&gt;&quot;", "d", "e"]
    assert titles(svg) == [
        *((text, "path") for text in said),
        *(("first", "use"), ("last", "use"), ("curve", "path")),
    ]
    assert TIPS not in svg


def test_marks_that_are_off_the_figure_tell_nothing_rather_than_wrongly():
    figure = Figure()
    ax = figure.add_subplot()
    (line,) = ax.plot([1, 1e9], [0, 1], "o")
    ax.set_xlim(0, 1e-9)
    canvas.tips(line, ["here", "far away"])
    svg = canvas.to_svg(figure, name="figure", alt="")
    assert not titles(svg) and TIPS not in svg


def contrast(one, other):
    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    return max(luminance(one) / luminance(other), luminance(other) / luminance(one))


@pytest.mark.parametrize("name", canvas.CLASS_COLOURS)
@pytest.mark.parametrize("decided", [True, False])
def test_letters_on_classes_can_be_read(name, decided):
    colour = canvas.class_colour(name, decided)
    assert contrast(canvas.ink_on(colour), colour) >= 4.5


def test_no_two_classes_look_alike():
    assert len(set(canvas.CLASS_COLOURS.values())) == len(canvas.CLASS_COLOURS)
