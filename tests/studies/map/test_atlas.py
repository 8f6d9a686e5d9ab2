"""Layers under every stress: the cells, how alike columns are, the picture, the sentence."""

import numpy as np
import pandas as pd
import pytest
from map_tables import RUN, layer_rows, make_config, measures_of
from scipy import stats

from faultline.studies.map.atlas import (
    SHOWN,
    alike,
    atlas,
    atlas_cells,
    atlas_figure,
    atlas_findings,
    filter_cells,
    pairs_of,
)
from faultline.studies.map.measures import layer_correlations

EMPTY = pd.DataFrame()
NAMES = ["conv1", "conv2", "conv3", "conv4", "fc"]


def tables(names=NAMES, *, seeds=(0, 1)) -> dict:
    """conv1 is fragile whatever comes; under fog the others are ranked the other way about."""

    def of(turned):
        return lambda seed, epoch, score, i: -0.4 if i == 0 else 0.02 * (-i if turned else i)

    layers = layer_rows(names, values=of(False), seeds=seeds)
    fog = layer_rows(names, values=of(True), seeds=seeds)
    fog = fog[fog["score"] != "S_clean"].assign(attack="fog")
    layers = pd.concat([layers, fog], ignore_index=True)
    graph = pd.DataFrame({"layer": ["", *names], "node": ["x", *names], "weights": 10})
    graph = graph.assign(**{key: RUN[key] for key in ("dataset", "network")})
    places = [RUN | {"seed": seed, "epoch": 3, "layer": name} for seed in seeds for name in names]
    norms = pd.DataFrame(places).assign(value=1.0)
    compression = pd.DataFrame(places).assign(form="int4", n=300, verdict="safe", difference=0.0)
    compression.loc[compression["layer"] == "conv1", ["verdict", "difference"]] = "costly", -0.1
    compression.loc[compression["layer"] == "fc", "difference"] = -0.01
    compression.loc[compression.index[-1], "verdict"] = "undecided"
    compression = compression.assign(family_low=-0.02, family_high=0.02)
    measures = measures_of(graph=graph, norms=norms, layers=layers, compression=compression)
    correlations = layer_correlations(measures, confidence=0.95)
    return {
        **{"layers": layers, "compression": compression, "graph": graph},
        **{"layer_measures": measures, "layer_correlations": correlations, "filters": EMPTY},
    }


def test_cells_are_classes_of_scores_and_verdicts_in_the_order_of_the_network():
    of = tables()
    last = of["layers"][of["layers"]["epoch"] == 3]
    cells = atlas_cells(last, of["compression"], of["graph"], loss=0.02).set_index(
        ["layer", "column"]
    )
    assert [*dict.fromkeys(cells.index.get_level_values(0))] == NAMES
    assert [*dict.fromkeys(cells.index.get_level_values(1))] == ["clean", "pgd", "fog", "int4"]
    assert (cells.loc["conv1", "class"] == "fragile").all() and cells.loc["conv1", "sure"].all()
    assert tuple(cells.loc[("fc", "int4"), ["class", "sure"]]) == ("robust", False)  # seeds differ
    assert tuple(cells.loc[("conv3", "clean"), ["class", "sure"]]) == ("robust", True)
    assert cells.loc[("fc", "int4"), "says"].endswith("undecided, n = 300, 2 seeds")


def test_correlations_have_the_names_of_the_columns_and_an_interval():
    pairs = alike(tables()["layer_correlations"], ["clean", "pgd", "fog", "int4"])
    found = pairs.set_index(["measure", "other"])
    assert set(found.index) <= {
        *[("clean", "pgd"), ("clean", "fog"), ("clean", "int4"), ("pgd", "fog")],
        *[("pgd", "int4"), ("fog", "int4")],
    }
    row = found.loc[("clean", "fog")]
    clean = [-0.4, 0.02, 0.04, 0.06, 0.08]
    rho = stats.spearmanr(clean, [-0.4, -0.02, -0.04, -0.06, -0.08])[0]
    assert row["spearman"] == pytest.approx(rho)
    half = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / 2)
    assert np.arctanh(row["ci_high"]) - np.arctanh(row["ci_low"]) == pytest.approx(2 * half)
    assert np.isnan(found.loc[("clean", "pgd"), "ci_low"])  # equal ranks leave no width


def test_the_section_draws_and_says_it():
    of, config = tables(), make_config()
    (block,) = atlas(of, config).blocks
    text = str(block.figures[0].svg)
    assert "fog" in text and "int4" in text and "R?" in text
    ((heading, said),) = atlas_findings(of, config)
    assert heading == "In the same places? small_resnet"
    assert said.startswith("Most alike are clean and pgd, 1.000, least ")
    assert said.endswith("Fragile whatever comes: conv1.")
    of["compression"] = EMPTY
    of["layers"] = of["layers"][of["layers"]["attack"] != "fog"]
    assert not atlas(of, config).blocks and not [*atlas_findings(of, config)]


def test_many_layers_stay_legible():
    names = [f"layer{i // 3}.{i % 3}.conv" for i in range(54)]
    of = tables(names, seeds=(0,))
    last = of["layers"][of["layers"]["epoch"] == 3]
    cells = atlas_cells(last, of["compression"], of["graph"], loss=0.02)
    pairs = alike(of["layer_correlations"], [*dict.fromkeys(cells["column"])])
    figure = atlas_figure(cells, pairs)
    width, height = figure.get_size_inches()
    assert width <= 11.2 and height < 10
    assert len(figure.axes[0].get_yticks()) == 54


def filter_scores(count: int, *, layer: str = "conv1", seed: int = 0) -> pd.DataFrame:
    """Filter 0 costs most under everything; under fog the others are ranked the other way about."""
    rows = []
    for score, attack, sign in (("S_clean", "none", 1), ("S_adv", "pgd", 1), ("S_adv", "fog", -1)):
        for of in range(count):
            value = -0.5 if of == 0 else -0.001 * sign * of
            row = RUN | {"seed": seed, "epoch": 3, "layer": layer, "filter": of, "value": value}
            row |= {"score": score, "attack": attack, "decided": of == 0, "n": 300}
            row |= {"ci_low": value - 0.1, "ci_high": value + 0.1}
            rows.append(row | {"class": "fragile" if of == 0 else "robust"})
    return pd.DataFrame(rows)


def test_filters_of_the_layer_of_which_one_costs_most_have_an_atlas_of_their_own():
    other = filter_scores(9, layer="fc").assign(value=-0.2)
    cells = filter_cells(pd.concat([other, filter_scores(6)]))
    assert [*dict.fromkeys(cells["layer"])] == [f"conv1, filter {of}" for of in range(6)]
    assert [*dict.fromkeys(cells["column"])] == ["clean", "pgd", "fog"]
    of = cells.set_index(["layer", "column"])
    assert tuple(of.loc[("conv1, filter 0", "fog"), ["class", "sure"]]) == ("fragile", True)
    assert tuple(of.loc[("conv1, filter 3", "clean"), ["class", "sure"]]) == ("robust", False)
    found = pairs_of(cells, confidence=0.95).set_index(["measure", "other"])
    clean = [-0.5, *(-0.001 * of for of in range(1, 6))]
    rho = stats.spearmanr(clean, [-0.5, *(0.001 * of for of in range(1, 6))])[0]
    assert found.loc[("clean", "fog"), "spearman"] == pytest.approx(rho)
    assert found.loc[("clean", "pgd"), "spearman"] == pytest.approx(1)
    assert (found["layers"] == 6).all() and found.loc[("clean", "fog"), "ci_low"] > -1
    assert not len(filter_cells(other.iloc[:0]))


def test_of_many_filters_those_that_cost_most_are_shown():
    cells = filter_cells(filter_scores(200))
    names = [*dict.fromkeys(cells["layer"])]
    assert len(names) == SHOWN and names[0] == "conv1, filter 0" and "conv1, filter 199" in names
    figure = atlas_figure(cells, pairs_of(cells, confidence=0.95), units="filters")
    assert figure.get_size_inches()[1] < 12


def test_the_section_draws_the_filters_of_one_seed():
    of, config = tables(), make_config()
    of["filters"] = pd.concat([filter_scores(5, seed=seed) for seed in (0, 1)])
    (block,) = atlas(of, config).blocks
    _, figure = block.figures
    assert "seed 0, at epoch 3: all 5 filters of conv1" in figure.caption
    assert "n = 5 filters" in str(figure.svg)
    of["filters"] = of["filters"][of["filters"]["attack"] != "fog"]
    (block,) = atlas(of, config).blocks
    assert len(block.figures) == 1
