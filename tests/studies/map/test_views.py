"""What the map shows of layers, worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from map_tables import filter_rows, layer_rows

from faultline.studies.map.views import MAX_CELLS, STRIP_ORDER, letter, majority, views

NONE = pd.DataFrame()


def made(layers, filters=NONE, names=("a", "b"), mended=NONE):
    shown = ("S_adv", "pgd")
    return views(layers, filters, mended, names=list(names), shown=shown)


def test_views_of_seeds_and_of_all():
    scores = {(0, 0): -0.2, (0, 1): 0.04, (1, 0): -0.12, (1, 1): np.nan}
    found = made(layer_rows(["a", "b"], values=lambda seed, epoch, score, i: scores[seed, i]))
    assert found.scores == ["S_clean", "S_adv (pgd)", "S_diff (pgd)"]
    assert found.weights == ["epoch 1", "epoch 3"] and found.seeds == ["all", "0", "1"]
    assert found.chosen == (1, 1, 0) and found.scale == 200
    both, first, second = found.views[1][1]
    assert (first.value, first.low, first.high) == ([-200, 40], [-250, -10], [-150, 90])
    assert first.classes == "FR" and first.n == "400 images"
    assert second.value == [-120, None] and second.low[1] is None and second.classes == "fX"
    assert both.value == [-160, 40] and both.low == [-200, 40] and both.high == [-120, 40]
    assert both.classes == "fr"  # not all seeds decide, not all agree
    assert both.n == "mean and range of 2 seeds, 400 images each"


def test_one_seed_is_no_mean_and_what_is_not_scored_has_no_letter():
    found = made(layer_rows(["a"], seeds=(4,)))
    assert found.seeds == ["4"] and found.views[0][0][0].classes[1] == "."
    assert found.views[0][0][0].value[1] is None


def test_single_seeds_are_left_out_where_they_are_too_many():
    names = [f"layer{i}" for i in range(100)]
    epochs = range(1 + MAX_CELLS // (100 * 3 * 3))
    found = made(layer_rows(names, epochs=epochs), names=names)
    assert found.seeds == ["all"] and len(found.views[0][0]) == 1


@pytest.mark.parametrize(
    ("classes", "mean", "expected"),
    [
        (["fragile", "fragile", "robust"], 0.0, ("fragile", False)),
        (["robust", "robust"], 0.0, ("robust", True)),
        (["fragile", "robust"], -0.2, ("fragile", False)),
        (["fragile", "robust"], -0.05, ("robust", False)),
        (["antifragile", "undefined"], 0.3, ("antifragile", False)),
        (["fragile", "antifragile"], 0.0, ("fragile", False)),  # the mean is neither
    ],
)
def test_majority(classes, mean, expected):
    rows = [{"class": name, "value": mean, "tau": 0.1} for name in classes]
    assert majority(rows) == expected


def test_letters():
    assert letter("fragile", True) == "F" and letter("fragile", False) == "f"
    assert letter("untouched", False) == "U" and letter("undefined", False) == "X"


def test_strips_count_filters_in_their_order():
    classes = {("fragile", True): 3, ("fragile", False): 1, ("robust", False): 2}
    classes |= {("antifragile", True): 1, ("untouched", False): 2}
    filters = filter_rows("b", classes)
    found = made(layer_rows(["a", "b"], seeds=(0,)), filters)
    view = found.views[1][1][0]
    assert view.strips == {1: [3, 1, 0, 2, 0, 2, 0, 1]} and STRIP_ORDER[:2] == "Ff"
    assert found.views[1][0][0].strips == found.views[0][1][0].strips == {}
    both = pd.concat([filters, filter_rows("b", {("fragile", True): 9}, seed=1)])
    found = made(layer_rows(["a", "b"]), both)
    assert found.views[1][1][0].strips == {1: [12, 1, 0, 2, 0, 2, 0, 1]}  # all seeds together


def test_mended_weights_stand_beside_those_they_come_from():
    given = layer_rows(["a", "b"], values=lambda seed, epoch, score, i: -0.2)
    after = layer_rows(["a", "b"], seeds=(1,), epochs=(3,), values=lambda *_: 0.0)
    found = made(given, mended=after)
    assert found.weights == ["epoch 1", "epoch 3", "epoch 3, mended"]
    assert found.chosen == (1, 1, 0)  # before the mend
    every, first, second = found.views[1][2]
    assert (first.classes, second.classes, every.classes) == ("..", "RR", "RR")
    assert every.value == [0, 0] and found.views[1][1][0].classes == "FF"
