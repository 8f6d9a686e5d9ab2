"""Figures of the page in a column of a journal."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from faultline.report import canvas
from faultline.report.narrow import narrowed, save


@canvas.styled
def panels(count: int, *, own_y: bool) -> Figure:
    parts = {f"a panel with a long name, {i}": None for i in range(count)}
    room = canvas.Room(bottom=0.8)
    fig, drawn = canvas.panels(
        parts, (2.0, 1.6), room, columns=4, xlabel="eps", ylabel="accuracy", own_y=own_y
    )
    for ax, (name, _) in drawn:
        ax.plot([0, 1], [0, 1])
        ax.set_title(name)
    canvas.legend(fig, [canvas.key(f"a long label {i}", lw=1) for i in range(6)], columns=6)
    return fig


@pytest.mark.parametrize(("count", "width"), [(1, 3.25), (5, 3.25), (5, 7.0)])
def test_all_type_has_one_size_and_nothing_is_cut(count, width):
    fig = narrowed(panels(count, own_y=False), width=width)
    agg = FigureCanvasAgg(fig)
    agg.draw()
    assert fig.get_figwidth() == width and len(fig.axes) == count
    texts = [text for text in fig.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_fontsize() for text in texts} == {7.0}
    drawn = fig.get_tightbbox(agg.get_renderer())  # inches
    assert drawn.x0 >= -0.01 and drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01 and drawn.y1 <= fig.get_figheight() + 0.01
    (legend,) = fig.legends
    below = min(ax.get_tightbbox().y0 for ax in fig.axes)
    assert legend.get_window_extent().y1 <= below + 1
    assert len(legend.get_texts()) == 6


def test_panels_go_into_as_many_columns_as_fit_and_numbers_stand_at_the_first():
    fig = narrowed(panels(5, own_y=False), width=3.25)
    FigureCanvasAgg(fig).draw()
    left = [round(ax.get_position().x0, 2) for ax in fig.axes]
    assert len(set(left)) == 2 and left[0] == left[2] == left[4] < left[1] == left[3]
    numbered = [ax.yaxis.get_tick_params()["labelleft"] for ax in fig.axes]
    assert numbered == [True, False, True, False, True]
    assert [ax.get_xlabel() for ax in fig.axes] == ["", "", "", "eps", "eps"]
    fig = narrowed(panels(5, own_y=True), width=3.25)
    assert all(ax.yaxis.get_tick_params().get("labelleft", True) for ax in fig.axes)


def test_files_are_alike(tmp_path):
    for name in ("a.pdf", "b.pdf"):
        save(narrowed(panels(2, own_y=False), width=3.0), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
