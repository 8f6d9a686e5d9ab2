"""The fault map as a figure, for print."""

import numpy as np
import pytest
import torch
from map_tables import RUN, graph_rows, layer_rows
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from faultline.ablation.graph import graph
from faultline.networks.registry import build
from faultline.report.canvas import CLASS_COLOURS
from faultline.studies.map.drawing import parts_of
from faultline.studies.map.still import map_figure
from faultline.studies.map.views import first_view, views


@pytest.fixture(scope="module")
def small_resnet():
    """(its graph, the views of random scores of its layers)."""
    network = build("small_resnet", shape=(1, 8, 8), classes=10, mean=0.5, std=0.2, seed=0)
    nodes, _ = graph(network, torch.rand(4, 1, 8, 8))
    table = graph_rows(network, nodes)
    names = [name for name in dict.fromkeys(table["layer"]) if name]
    sure = np.random.default_rng(1)
    layers = layer_rows(names, seeds=(0,)).assign(**RUN)
    layers = layers.assign(decided=sure.uniform(size=len(layers)) < 0.5)
    empty = layers.iloc[:0]
    shown = views(layers, empty, empty, names=names, shown=first_view(layers, "pgd"))
    return table, shown


@pytest.mark.parametrize("width", [2.5, 3.25, 7.0])
def test_it_says_of_each_layer_its_name_class_and_score(small_resnet, width):
    table, shown = small_resnet
    weights = shown.chosen[1]
    figure = map_figure(parts_of(table), shown, weights=weights, width=width, title="S_adv")
    FigureCanvasAgg(figure).draw()
    assert figure.get_figwidth() == width
    (ax,) = figure.axes
    texts = [text.get_text() for text in ax.texts]
    assert {text.get_fontsize() for text in ax.texts} == {7.0}
    view = shown.views[shown.chosen[0]][weights][0]
    for value in view.value:
        assert f"{value / 1000:+.2f}".replace("-", "\u2212") in texts
    signs = [letter.upper() + "?" * letter.islower() for letter in view.classes]
    for sign in set(signs):
        assert texts.count(sign) >= signs.count(sign)
    if width >= 3.25:
        assert texts.count("conv1") == 4 and texts.count("conv2") == 3
    assert {"input", "output", "+", "layer1", "S_adv"} <= {*texts}
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()


def test_a_layer_that_is_decided_has_its_colour(small_resnet):
    table, shown = small_resnet
    figure = map_figure(parts_of(table), shown, weights=1, width=3.25, title="")
    view = shown.views[shown.chosen[0]][1][0]
    faces = [
        patch.get_facecolor() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)
    ]
    for letter, name in (("F", "fragile"), ("A", "antifragile")):
        key = view.classes.upper().count(letter) > 0  # once more, in the key
        assert faces.count(to_rgba(CLASS_COLOURS[name])) == view.classes.count(letter) + key
