"""The first screen: what was run and what came of it."""

import pandas as pd
import pytest
from run_tables import make_config, make_tables

from faultline.studies import order
from faultline.studies.overview import verdict, what_was_run


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def answers(tables, config=None):
    """heading -> (text, small print) of the first row."""
    table = verdict(tables, config or make_config())
    cells = zip(table.columns, table.rows[0], strict=True)
    return {heading: (cell.text, cell.small) for heading, cell in cells}


def test_one_row_answers_for_a_network_on_a_data_set(tables):
    found = answers(tables)
    assert list(found) == [
        *("network", "clean", "under the worst attack", "fragile layers", "robust", "antifragile"),
        *("did retraining help?", "did the remedy help?", "warnings"),
    ]
    assert found["network"] == ("small_conv", "epoch 3, 2 seeds")
    assert found["clean"] == ("90.0 %", "")
    assert found["under the worst attack"] == ("40.0 %", "pgd, eps 0.1")
    assert found["warnings"] == ("0", "of 1 check")


def test_layers_count_where_they_are_decided_in_every_seed(tables):
    layers = tables["layers"].assign(decided=False)
    assert answers(tables | {"layers": layers})["fragile layers"] == ("0", "of 4 by S_adv (pgd)")
    here = (layers["layer"] == "conv2") & (layers["score"] == "S_adv")
    layers.loc[here, ["class", "decided"]] = "fragile", True
    found = answers(tables | {"layers": layers})["fragile layers"]
    assert found == ("1", "of 4 by S_adv (pgd): conv2")
    layers.loc[here & (layers["seed"] == 1), "decided"] = False
    assert answers(tables | {"layers": layers})["fragile layers"][0] == "0"


def test_what_was_not_run_is_said_or_left_out(tables):
    empty = {name: pd.DataFrame() for name in order.described()}
    assert verdict(empty, make_config()) is None
    only = empty | {"accuracy": tables["accuracy"]}
    assert [*answers(only)] == ["network", "clean", "under the worst attack", "warnings"]
    assert verdict(only, make_config()).read.startswith("Accuracy: ")
    assert "elped" not in verdict(only, make_config()).read
    other = tables["accuracy"].assign(network="other")
    both = verdict(tables | {"accuracy": pd.concat([tables["accuracy"], other])}, make_config())
    place = both.columns.index("did retraining help?")
    assert both.rows[0][place].text != both.rows[1][place].text == "not run"


def test_each_training_has_a_row(tables):
    accuracy = tables["accuracy"]
    both = pd.concat([accuracy, accuracy.assign(training="other", accuracy=0.2)])
    shown = verdict(tables | {"accuracy": both}, make_config())
    names = [row[0].text for row in shown.rows]
    assert names == ["small_conv · standard", "small_conv · other"]
    assert shown.rows[1][1].text == "20.0 %"


def test_given_weights_are_named(tmp_path):
    (tmp_path / "w.pt").touch()
    tables = {name: pd.DataFrame() for name in order.described()}
    for weights, said in (
        (str(tmp_path / "w.pt"), "weights of small_conv, which"),
        ({"file": str(tmp_path / "w.pt"), "key": "ema"}, "weights of small_conv (ema), which"),
    ):
        trainings = {"given": {"epochs": [0], "weights": {"small_conv": weights}}}
        assert said in what_was_run(tables, make_config(trainings=trainings))


def test_one_checkpoint_is_not_several():
    config = make_config(trainings={"standard": {"epochs": [0]}})
    tables = {name: pd.DataFrame() for name in order.described()}
    assert "(checkpoint at epoch 0)" in what_was_run(tables, config)
