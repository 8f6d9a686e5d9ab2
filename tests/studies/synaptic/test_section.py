"""Sections and figures of scores and classes, from tables alone."""

import numpy as np
import pandas as pd
import pytest
from run_tables import make_config, make_tables, said

from faultline.base.columns import CLASSES
from faultline.report import canvas, page
from faultline.studies import order
from faultline.studies.overview import what_was_run
from faultline.studies.synaptic import section
from faultline.studies.synaptic.figures import (
    class_map,
    filter_ranking,
    threshold_curves,
    transfer_by_band,
    transfer_by_layer,
)
from faultline.studies.synaptic.transfer import moves, pairs


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def test_the_table_of_classes_shows_each_interval_in_its_column(tables):
    layers = tables["layers"]  # of a family each, so with one interval for both
    layers = layers.assign(family_low=layers["ci_low"] - 1, family_high=layers["ci_high"] + 1)
    made = section.class_maps(tables | {"layers": layers}, make_config())
    ranked, table = made.blocks[0].tables
    assert len(ranked.rows) == 4 and ranked.columns[-1] == "worst filter alone"
    rows = layers[(layers["epoch"] == 3) & (layers["filter"] == "combined")]
    assert len(table.rows) == len(rows)
    for shown, row in zip(table.rows, rows.to_dict("records"), strict=True):
        shown = dict(zip(table.columns, shown, strict=True))
        assert shown["layer"] == row["layer"]
        assert shown["value"] == page.number(row["value"])
        assert shown["interval"] == page.bracket(row["ci_low"], row["ci_high"])
        assert shown["for all at once"] == page.bracket(row["family_low"], row["family_high"])
        assert shown["q-value"] == page.small(row["q_value"])
        assert (shown["class"], shown["decided"]) == (row["class"], page.yes(row["decided"]))


def test_one_seed_one_epoch_and_no_global_sweep():
    tables = make_tables(seeds=[4], epochs=[0])
    for name in ("layers", "curves"):
        tables[name] = tables[name][tables[name]["scope"] == "local"]
    config = make_config(seeds=[4], trainings={"standard": {"epochs": [0]}})
    assert "no global sweep" in said(section.threshold_curves(tables, config))
    assert "one checkpoint epoch only" in said(section.score_maps(tables, config))
    assert section.invariance(tables, config).blocks == []


def test_undefined_scores_are_shown_as_such():
    tables, config = make_tables(hopeless=True), make_config()
    assert "S_adv is undefined here" in said(section.layer_findings(tables, config))
    assert "S_adv (pgd) is undefined" in said(section.band_splits(tables, config))
    assert "66.7 % of the scores are undefined" in said(section.score_maps(tables, config))


def test_images_at_chance_are_told_first_with_an_eps_that_leaves_more():
    tables, config = make_tables(hopeless=True), make_config()
    (heading, text), *more = section.chance_findings(tables, config)
    assert heading == "Self-check: at chance, small_conv" and not more
    assert "classifies 0.0 % correctly under pgd at epoch 3" in text
    assert text.startswith("Of n = 40 validation images, 2 seeds") and "chance (0.0 %" in text
    assert text.endswith("Lower attacks.pgd.eps; every eps that was tried is too large.")
    small = tables["accuracy"][tables["accuracy"]["eps"] > 0].assign(eps=0.05, accuracy=0.6)
    tables["accuracy"] = pd.concat([tables["accuracy"], small.assign(ci_low=0.4)])
    [(_, text)] = section.chance_findings(tables, config)
    assert text.endswith("Lower attacks.pgd.eps: 0.05 leaves 60.0 % of the test images.")
    assert not list(section.chance_findings(make_tables(), config))
    assert order.FINDINGS["synaptic.chance_findings"] == "glance"


def test_long_tables_and_many_layers_are_cut_and_say_so():
    layers = [f"layer{i}" for i in range(70)]
    tables = make_tables(layers=layers, seeds=[0], epochs=[1], filters=140)
    config = make_config()
    curves = said(section.threshold_curves(tables, config))
    assert "Of 71 panels the 24 whose accuracy falls most" in curves
    words = said(section.filter_rankings(tables, config))
    assert "layer0 has 140 filters: the 64 lowest and the 64 highest" in words
    assert "layer69" in said(section.class_maps(tables, config))


def test_of_many_threshold_curves_those_that_fall_most_are_shown_in_the_order_of_the_network():
    curves = make_tables(layers=["a", "b", "c", "d"], seeds=[0], epochs=[1])["curves"]
    fall = curves["layer"].map({"a": 0.1, "b": 0.3, "c": 0.0, "d": 0.2}).fillna(0.0)
    figure = threshold_curves(curves.assign(base_accuracy=0.9, accuracy=0.9 - fall), most=3)
    assert [ax.get_title() for ax in figure.axes] == ["all layers, global sweep", "b", "d"]


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


def test_filters_and_bands_have_no_class_where_there_are_too_few_images(tables):
    # 40 images, n accuracies of all units: none is decided but where the interval is narrow
    def of(table, **columns):
        return {**tables, table: tables[table].assign(decided=False, **columns)}

    few = of("filters", tau=0.01)
    made = section.filter_rankings(few, make_config())
    (note,) = made.blocks[0].notes
    base = tables["base"][(tables["base"]["epoch"] == 3) & (tables["base"]["images"] == "clean")]
    last = canvas.last_epoch(few["filters"])
    compared = last[(last["score"] == "S_clean") & (last["class"] != "untouched")]["compared"].max()
    least = np.log(2 * compared / 0.05) / np.log(1.01) / base["accuracy"].max()
    said = int(note.split(" for S_clean")[0].split()[-1].replace(",", ""))
    assert least <= said <= 1.2 * np.log(2 * 6 / 0.05) / np.log(1.01) / base["accuracy"].min()
    assert note.startswith("Single filters need more images here: about ") and "S_adv (pgd)" in note
    assert "40 are judged" in note and f"all {last['compared'].max()} at once" in note
    svg = made.blocks[0].figures[0].svg
    assert "too few images for a class" in svg and "robust, not decided" not in svg
    enough = of("filters", tau=5.0)
    assert not section.filter_rankings(enough, make_config()).blocks[0].notes
    bands = section.band_splits(of("bands", tau=0.05), make_config()).blocks[0]
    (note,) = bands.notes
    assert (
        note.startswith("Single bands need more images here: at least ") and "S_clean" not in note
    )
    assert "too few images for a class" in bands.figures[0].svg
    assert not section.band_splits(of("bands", tau=5.0), make_config()).blocks[0].notes
    never = section.filter_rankings(of("filters", tau=0.0), make_config()).blocks[0].notes
    assert "more than any number for S_clean" in never[0]


def test_units_are_called_what_they_are(tables):
    graph = pd.DataFrame({"dataset": "digits", "network": "small_conv"} | {"layer": ["conv1"]})

    def shown(kind):
        made = dict(tables) | {"graph": graph.assign(kind=kind)}
        (figure,) = section.filter_rankings(made, make_config()).blocks[0].figures
        return figure

    heads, filters = shown("attention"), shown("conv")
    assert "its 6 heads at" in heads.caption and "the same heads" in heads.read
    assert "filter" not in heads.caption + heads.read and "head, sorted" in heads.svg
    assert "its 6 filters at" in filters.caption and "filter, sorted" in filters.svg


def both(tables):
    """Tables that hold the scores of each attack under transfer too, of other networks."""
    made = dict(tables)
    for unit in ("layers", "bands"):
        table = made[unit]
        rows = table[table["attack"] == "pgd"]
        value, names = rows["value"] + 0.2, rows["class"].replace("robust", "antifragile")
        again = rows.assign(attack="pgd transfer", value=value, **{"class": names})
        made[unit] = pd.concat([table, again], ignore_index=True)
    return made


def test_transfer_stands_beside_what_is_recrafted(tables):
    tables, config = both(tables), make_config(ablation={"target": "both"})
    for unit, figure in (("layers", transfer_by_layer), ("bands", transfer_by_band)):
        found = pairs(canvas.last_epoch(tables[unit]), "pgd")
        assert len(found) == 2 * (4 if unit == "layers" else 4 * 5)  # seeds, layers, bands
        assert np.allclose(found["value_transfer"] - found["value"], 0.2)
        counted = moves(found)
        assert counted["units"].sum() == len(found)
        for row in counted.to_dict("records"):
            of_row = found[found["class_transfer"] == row["transfer"]]
            assert row["units"] == len(of_row) > 0
            assert all(row[name] == (of_row["class"] == name).sum() for name in CLASSES)
        drawn = figure(found)
        assert [ax.get_title() for ax in drawn.axes] == ["seed 0", "seed 1"]
    words = said(section.transfer(tables, config))
    assert "S_adv (pgd) of 8 layers at epoch 3" in words and "40 validation images" in words
    assert "of 40 bands" in words and "95% intervals" in words
    assert not section.transfer(tables, make_config()).blocks


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("ablated", "re-crafted on each ablated network;"),
        ("base", "crafted on the unablated network and reused (transfer);"),
        ("both", "re-crafted on each ablated network, and beside it crafted on the unablated"),
    ],
)
def test_the_report_says_which_network_is_attacked(tables, target, expected):
    config = make_config(ablation={"target": target})
    assert expected in said(section.class_maps(tables, config))
    assert ("(transfer)" in what_was_run(tables, config)) == (target != "ablated")


def test_captions_name_the_split(tables):
    assert "n = 40 validation images" in said(section.class_maps(tables, make_config()))
    config = make_config(retraining={"from_epochs": []})
    assert "n = 40 test images" in said(section.class_maps(tables, config))
    assert "validation" not in said(section.class_maps(tables, config))


def test_a_run_on_clean_images_alone_says_so():
    tables = make_tables()
    for name in ("layers", "filters", "bands", "baselines"):
        tables[name] = tables[name][tables[name]["score"] == "S_clean"]
    tables["curves"] = tables["curves"][tables["curves"]["images"] == "clean"]
    config = make_config(ablation={"attacks": []}, retraining={"from_epochs": []})
    assert "on clean images only" in what_was_run(tables, config)
    words = said(section.layer_findings(tables, config))
    assert "fragile by S_clean" in words and "undefined" not in words
    for part in (section.class_maps, section.threshold_curves, section.baselines):
        assert part(tables, config).blocks
