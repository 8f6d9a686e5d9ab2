"""Sections and figures of scores and classes, from tables alone."""

import numpy as np
import pytest
from run_tables import make_config, make_tables, said

from faultline.report import canvas
from faultline.studies.synaptic import section
from faultline.studies.synaptic.figures import class_map, filter_ranking, threshold_curves


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def test_one_seed_one_epoch_and_no_global_sweep():
    tables = make_tables(seeds=[4], epochs=[0])
    for name in ("layers", "curves"):
        tables[name] = tables[name][tables[name]["scope"] == "local"]
    config = make_config(seeds=[4], trainings={"standard": {"epochs": [0]}})
    assert "no global sweep" in said(section.threshold_curves(tables, config))
    assert "one checkpoint epoch only" in said(section.score_maps(tables, config))
    assert "nothing to compare" in said(section.invariance(tables, config))


def test_undefined_scores_are_shown_as_such():
    tables, config = make_tables(hopeless=True), make_config()
    assert "S_adv is undefined here" in said(section.layer_findings(tables, config))
    assert "S_adv (pgd) is undefined" in said(section.band_splits(tables, config))
    assert "66.7 % of the scores are undefined" in said(section.score_maps(tables, config))


def test_long_tables_and_many_layers_are_cut_and_say_so():
    layers = [f"layer{i}" for i in range(70)]
    tables = make_tables(layers=layers, seeds=[0], epochs=[1], filters=140)
    config = make_config()
    assert "The first 60 of 71 panels" in said(section.threshold_curves(tables, config))
    words = said(section.filter_rankings(tables, config))
    assert "layer0 has 140 filters: the 64 lowest and the 64 highest" in words
    assert "layer69" in said(section.class_maps(tables, config))


def test_threshold_curves_show_mean_and_range_over_seeds(tables):
    figure = threshold_curves(tables["curves"])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["all layers, global sweep", "conv1"]
    part = canvas.last_epoch(tables["curves"])
    part = part[(part["layer"] == "conv1") & (part["filter"] == "pulse")]
    expected = part[part["images"] == "pgd"].groupby("normalised")["accuracy"].mean()
    drawn = [line.get_ydata() for line in figure.axes[1].lines if line.get_linestyle() == "--"]
    assert any(len(y) == 5 and np.allclose(y, expected) for y in drawn)


def test_class_map_marks_what_is_not_decided(tables):
    layers = canvas.last_epoch(tables["layers"])
    layers = layers[layers["filter"] == "combined"]
    figure = class_map(tables["layers"])
    marks = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert len(marks) == len(layers)
    open_ = ~layers["decided"] & layers["class"].isin(["fragile", "robust", "antifragile"])
    assert sum(mark.endswith("?") for mark in marks) == open_.sum() > 0


def test_filters_are_ranked_by_clean_score_and_cut_in_the_middle(tables):
    one = canvas.last_epoch(tables["filters"])
    clean = one[(one["score"] == "S_clean") & (one["seed"] == 0)].sort_values(["value", "filter"])
    figure = filter_ranking(tables["filters"], most=4)
    ranks = [int(label.get_text()) for label in figure.axes[0].get_xticklabels()]
    ranked = list(clean["filter"])
    assert ranks == ranked[:2] + ranked[-2:]
