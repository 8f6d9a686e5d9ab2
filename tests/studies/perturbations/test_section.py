import re

import numpy as np
import pandas as pd
import pytest
import yaml
from support import TINY

from faultline.ablation.facts import Facts
from faultline.networks.facts import networks
from faultline.studies.config import resolve
from faultline.studies.perturbations.scores import (
    corrected,
    curves,
    depth_test,
    headline,
    layer_losses,
    places,
)
from faultline.studies.perturbations.section import findings, section
from faultline.studies.perturbations.tables import TABLES

N = 50
COMMON = {"chance": 0.1, "confidence": 0.95}
PLAIN = {"kinds": ["gaussian"], "repeats": 2, "almost_chance": 0.1, "ends": 0.34}


def facts_of(rng, *, hopeless=False, biased=True):
    grid = [
        (kind, parameter, strength, repeat)
        for kind, parameter in (
            ("synapse_knockout", "weight"),
            *([("synapse_knockout", "bias")] * biased),
            ("gaussian", "weight"),
            ("node_knockout", "both"),
        )
        for strength in ((0.5, 1.0, 2.0) if kind == "gaussian" else (0.0, 0.4, 0.7, 0.9))
        for repeat in range(2)
    ]
    kind, parameter, strength, repeat = map(np.array, zip(*grid, strict=True))
    base = {"clean": rng.uniform(size=N) < 0.9, "pgd": rng.uniform(size=N) < 0.5}
    if hopeless:
        base["pgd"][:] = False
    base["clean@5"] = np.ones(N, bool)
    kept = rng.uniform(size=(len(grid), N)) > strength[:, None] * rng.uniform()
    return Facts(
        variants={"kind": kind, "parameter": parameter, "strength": strength, "repeat": repeat},
        base=base,
        correct={images: hits & kept for images, hits in base.items()},
        changed={images: np.full(len(grid), N) for images in base},
    )


def make_tables(*, seeds=(0, 1), epochs=(2,), **options):
    rng, parts = np.random.default_rng(0), {name: [] for name in TABLES}
    where = places(networks()["small_conv"]["layers"])
    for seed in seeds:
        for epoch in epochs:
            head = {"dataset": "digits", "network": "small_conv", "training": "standard"}
            head |= {"seed": seed, "epoch": epoch}
            losses = []
            for layer, (_, depth, roles) in where.iterrows():
                facts = facts_of(rng, biased=layer == "fc", **options)
                here = head | {"layer": layer, "depth": depth}
                losses.append(layer_losses(facts, **COMMON).assign(**here))
                parts["perturbations"].append(curves(facts, **COMMON).assign(**here))
                found = headline(facts, roles, almost_chance=0.1, **COMMON)
                parts["perturbation_headline"].append(found.assign(**here))
            parts["perturbation_layers"] += losses
            test = depth_test(pd.concat(losses), ends=0.34)
            parts["perturbation_depth"].append(test.assign(**head))
    tables = {name: pd.concat(part, ignore_index=True) for name, part in parts.items()}
    for name in ("perturbation_headline", "perturbation_depth"):
        tables[name] = corrected(tables[name], confidence=0.95)
    return tables


@pytest.fixture
def config():
    return resolve(yaml.safe_load(TINY))


def test_the_section_shows_first_and_tells_then(config):
    shown = section(make_tables(epochs=(1, 2)), config)
    (block,) = shown.blocks
    assert len(block.figures) == 1 + 2 * 2  # the headline; curves and map, clean and under pgd
    assert block.notes == []
    for figure in block.figures:
        assert "n = 50 validation images, 2 seeds, 2 draws of each" in figure.caption
        assert figure.svg.startswith("<svg") and figure.read
        assert re.search(r"<title>[^<]*\d.*(n = \d| of 2 seeds)", figure.svg)
    assert "95% interval over draws and images" in block.figures[0].caption
    claim, depth, layers = block.tables
    assert claim.open and len(claim.rows) == 3 * 3 * 2  # layers, image sets, seeds
    assert {row[1] for row in claim.rows} == {"clean", "pgd", "clean, top-5"}
    assert {row[8] for row in depth.rows} == {"2 and 2", "1 and 1"} - {"1 and 1"}
    assert len(layers.rows) == (3 * 3 + 4) * 3 * 2
    assert not any("nan" in str(cell) for table in block.tables for r in table.rows for cell in r)


def test_findings_tell_what_is_left_and_whether_it_is_as_claimed(config):
    tables = make_tables(seeds=[0])
    (finding,) = findings(tables, config)
    heading, text = finding
    assert heading == "Knockouts, small_conv"
    table = tables["perturbation_headline"]
    clean = table[(table["images"] == "clean") & (table["top"] == 1)]
    for row in clean.to_dict("records"):
        assert f"{row['role']} {row['layer']} {100 * row['value']:.1f} %" in text
    counts = clean["seen"].value_counts()
    for seen, count in counts.items():
        assert f"{seen} for {count}" in text
    assert sum(counts) == 3


def test_what_is_undefined_is_said(config):
    shown = section(make_tables(hopeless=True), config)
    (block,) = shown.blocks
    assert len(block.figures) == 3
    assert block.notes == ["pgd: the unperturbed network is not above chance, so nothing is told."]
    undefined = [row for row in block.tables[0].rows if row[-2] == "undefined"]
    assert len(undefined) == 3 * 2 and {row[3] for row in undefined} == {"n/a"}


def test_a_run_without_knockouts_of_weights(config):
    tables = make_tables()
    tables["perturbation_headline"] = tables["perturbation_headline"].iloc[:0]
    shown = section(tables, config)
    assert len(shown.blocks[0].figures) == 4
    assert list(findings(tables, config)) == []


def test_flipped_bits_that_broke_outputs_are_told(config):
    config.perturbations.kinds = ["bit_flip"]
    tables = make_tables()
    told = tables["perturbations"]
    told.loc[told["kind"] == "synapse_knockout", "kind"] = "bit_flip"
    told["nonfinite"] = np.where(told["strength"] == 0.9, 1, 0)
    shown = section(tables, config)
    # weights of four layers and a bias, two seeds: 3 strengths of 2 draws, of which 1 of 6 broke
    assert shown.blocks[0].notes == [
        "bit_flip: in 10 of 60 draws (clean images), 10 of 60 draws (pgd images) some output was "
        "infinite or NaN, which counts as misclassified."
    ]
    assert "bit_flip flips one random bit" in shown.method
    config.perturbations.kinds = PLAIN["kinds"]
    assert "bit_flip" not in section(make_tables(), config).method


def test_nothing_perturbed(config):
    tables = {name: pd.DataFrame() for name in TABLES}
    shown = section(tables, config)
    assert shown.blocks == [] and "perturbations.layers" in shown.needs
    assert list(findings(tables, config)) == []
