"""What the report says of mends."""

import numpy as np
import pandas as pd
import pytest
from run_tables import make_config, said

from faultline.base.comparison import compare_policies
from faultline.report.page import Cell
from faultline.studies.mending.mended import bought
from faultline.studies.mending.section import findings, section, verdict

RUN = {"dataset": "digits", "network": "small_conv", "training": "standard"}


def layers_of(seeds, classes):
    """layer -> (class, decided), of the table of layers."""
    rows = [
        RUN | {"seed": seed, "epoch": 8, "layer": layer, "class": name, "decided": decided}
        for seed in seeds
        for layer, (name, decided) in classes.items()
    ]
    table = pd.DataFrame(rows).assign(scope="local", filter="combined", score="S_adv")
    return table.assign(attack="pgd", value=-0.1, ci_low=-0.2, ci_high=0.0, n=50)


def tables_of(seeds=(0, 1), *, handed_back=(True, True), gain=60, why=""):
    """Of 100 images the given network stands on 20, and `harden` on `gain` more."""
    hits, places, mends, paths, buys = [], [], [], [], []
    for seed, kept in zip(seeds, handed_back, strict=True):
        place = RUN | {"seed": seed, "epoch": 8}
        clean = np.arange(100) < 98
        given = {"clean": clean, "worst case": np.arange(100) < 20}
        mended = {"clean": np.arange(100) < 97, "worst case": np.arange(100) < 20 + gain}
        for name, of in (("given", given), ("harden", mended), ("chosen", mended)):
            hits.append(of)
            places.append(place | {"policy": name})
            if name != "chosen":
                row = {"candidate": name, "masked": "", "rate": 0.01, "share": 1.0, "passes": 9}
                row |= {"chosen": name == "harden", "handed_back": name == "harden" and kept}
                row |= {"why": why if name == "harden" and not kept else "", "n": 100}
                row |= {"clean": of["clean"].mean(), "worst": of["worst case"].mean()}
                mends.append(place | row)
        rows = [(np.nan, 0.0, 0.98, 0.2), (0.01, 0.5, 0.98, 0.5), (0.01, 1.0, 0.9, 0.8)]
        path = pd.DataFrame(rows, columns=["rate", "share", "clean", "adversarial"])
        path = path.assign(n=100, passes=9, note="", best=[False, False, True])
        paths.append(path.assign(**place, candidate="harden"))
        buys.append(bought({"harden": path}, (0.01, 0.1)).assign(**place))
    return {
        "mends": pd.DataFrame(mends),
        "mending": compare_policies(hits, places, reference="given", confidence=0.95),
        "mending_paths": pd.concat(paths),
        "mending_bought": pd.concat(buys),
        **dict.fromkeys(("layers", "mended_layers"), pd.DataFrame()),
    }


@pytest.fixture
def config():
    return make_config(mending={"from_epochs": "last"})


def test_what_was_handed_back_is_told_with_its_price(config):
    cell = verdict(tables_of(), config)["mended?"]
    assert isinstance(cell, Cell) and cell.tone == "yes" and cell.text == "+60.0 points"
    assert "clean −1.0" in cell.small and "by harden: mended.pt" in cell.small
    text = said(findings(tables_of(), config))
    assert "Seed 0, harden: +60.0 [" in text and "Over 2 seeds" in text
    shown = section(tables_of(), config)
    assert shown.blocks[0].figures and "98.0 %" in said(shown)
    assert "50.0 % (harden)" in said(shown) and "80.0 % (harden)" in said(shown)


def test_what_kept_it_from_that_is_told(config):
    why = "No gain is told on test images."
    some = tables_of(handed_back=(True, False), why=why)
    cell = verdict(some, config)["mended?"]
    assert (cell.text, cell.tone, cell.small) == ("1 of 2", "no", why)
    assert f"Not handed back: {why}" in said(findings(some, config))


def test_where_nothing_gains_a_larger_budget_is_named(config):
    tables = tables_of(handed_back=(False, False))
    tables["mends"]["chosen"] = False
    assert verdict(tables, config)["mended?"].text == "no"
    text = said(findings(tables, config))
    assert "nothing gains within 5 points" in text and "with 10 it would be harden, 80.0 %" in text


def test_one_seed_says_nothing_of_others(config):
    assert "Over" not in said(findings(tables_of([4], handed_back=[True]), config))


def test_what_became_of_fragile_layers_is_told(config):
    fragile, robust, unsure = ("fragile", True), ("robust", True), ("fragile", False)
    tables = tables_of()
    given = {"conv1": fragile, "conv2": fragile, "conv3": robust, "fc": unsure}
    tables["layers"] = layers_of((0, 1), given)
    after = {"conv1": robust, "conv2": fragile, "conv3": robust, "fc": robust}
    tables["mended_layers"] = pd.concat(
        [layers_of([0], after), layers_of([1], after | {"conv1": fragile, "conv3": fragile})]
    )
    text = said(findings(tables, config))
    assert (
        "After the mend, by S_adv (pgd): conv1 (1 of 2 seeds) ceased to be fragile; "
        "conv1 (1 of 2 seeds), conv2 stayed fragile; conv3 (1 of 2 seeds) became fragile." in text
    )
    shown = section(tables, config).blocks[0].tables[-1]
    assert shown.title == "Layers before and after" and len(shown.rows) == 8
    tables["mended_layers"] = layers_of([0], {"conv3": robust})
    text = said(findings(tables, config))
    assert "conv1" not in text and "no layer is fragile, nor was." in text
    tables["mended_layers"] = layers_of([0], {"conv1": ("robust", False), "fc": fragile})
    text = said(findings(tables, config))
    assert "conv1 no longer decided; fc fragile now, not decided before." in text
