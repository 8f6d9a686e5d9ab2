import re

import numpy as np
import pandas as pd
import pytest
import yaml
from support import TINY

from faultline.report import canvas
from faultline.studies.config import resolve
from faultline.studies.sustainability import figures as draw
from faultline.studies.sustainability.lists import agreement, list_table, probe_table
from faultline.studies.sustainability.section import findings, section
from faultline.studies.sustainability.tables import TABLES

PROBES = ["conv1", "conv2", "conv3"]
N = 30
RUN = {"dataset": "digits", "network": "small_conv", "training": "standard"}


@pytest.fixture
def config():
    return resolve(yaml.safe_load(TINY))


def make_tables(config, *, seeds=(0, 1), epochs=(1, 2), probes=PROBES):
    """conv3 stands out under fgsm and pgd, and from seed 1 on conv2 under gaussian; salt hits all
    layers alike."""
    rng, settings = np.random.default_rng(0), config.sustainability
    parts, lists = [], []
    for seed in seeds:
        for epoch in epochs:
            errors = {}
            for perturber in ("fgsm", "pgd", "gaussian", "salt"):
                means = np.full(len(probes), 0.125)
                if perturber != "salt":
                    means[1 if perturber == "gaussian" and seed else 2] = 0.5
                scatter = (
                    0 if perturber == "salt" else rng.normal(scale=0.01, size=(N, len(probes)))
                )
                values = np.broadcast_to(means + scatter, (N, len(probes)))
                errors[perturber] = dict(zip(probes, values.T, strict=True))
            place = RUN | {"seed": seed, "epoch": epoch}
            table = probe_table(errors, eta=settings.eta, confidence=0.95)
            parts.append(table.assign(**place))
            lists.append(list_table(errors, etas=settings.eta_grid).assign(**place))
    probes, lists = pd.concat(parts, ignore_index=True), pd.concat(lists, ignore_index=True)
    return {
        "sustainability": probes,
        "sustainability_lists": lists,
        "sustainability_agreement": agreement(lists, probes),
    }


def test_the_section_shows_first_and_tells_then(config):
    shown = section(make_tables(config), config)
    assert "validation split" in shown.method and "pgd (eps 0.1)" in shown.method
    assert "salt (0.05)" in shown.method and "\u03b7 = 0.5" in shown.method
    (block,) = shown.blocks
    assert len(block.figures) == 4
    for figure in block.figures:
        assert "n = 30 validation images, 2 seeds" in figure.caption
        assert figure.svg.startswith("<svg") and figure.read
        assert re.search(r"<title>[^<]*\d.*(n = \d| of 2 seeds)", figure.svg)
    assert "band: range over seeds" in block.figures[0].caption
    lists, agreed, layers = block.tables
    assert lists.open and len(lists.rows) == 4 * 2  # perturbers, seeds of the last epoch
    assert [row[:2] for row in lists.rows[:3]] == [["fgsm", 0], ["fgsm", 1], ["pgd", 0]]
    assert [row[-1] for row in lists.rows] == ["conv3"] * 5 + ["conv2"] + ["none"] * 2
    assert {row[0] for row in agreed.rows} == {"seeds", "epochs", "perturbers"}
    assert len(layers.rows) == 4 * 2 * 3
    assert not any("nan" in str(cell) for table in block.tables for r in table.rows for cell in r)


def test_one_seed_and_one_epoch(config):
    shown = section(make_tables(config, seeds=[3], epochs=[2]), config)
    (block,) = shown.blocks
    assert len(block.figures) == 3  # nothing over epochs
    assert "95% interval over images" in block.figures[0].caption
    assert {row[0] for row in block.tables[1].rows} == {"perturbers"}
    ((_, text),) = findings(make_tables(config, seeds=[3], epochs=[2]), config)
    assert "seed" not in text


def test_findings_name_what_every_seed_lists(config):
    ((heading, text),) = findings(make_tables(config), config)
    assert heading == "Most vulnerable layers, small_conv"
    assert text.startswith(
        "At \u03b7 = 0.5, epoch 2, most vulnerable in every one of 2 seeds: conv3 under fgsm, pgd; "
        "no layer under gaussian, salt."
    )
    # fgsm, pgd agree at both epochs, gaussian at none; salt lists nothing
    assert "66.7 % are on both" in text


def test_nothing_analysed(config):
    tables = {name: pd.DataFrame() for name in TABLES}
    assert section(tables, config).blocks == []
    assert list(findings(tables, config)) == []


def test_figures_draw_errors_limits_and_lists(config):
    tables = make_tables(config)
    probes, lists = tables["sustainability"], tables["sustainability_lists"]
    last = canvas.last_epoch(probes)
    expected = last[last["perturber"] == "pgd"].groupby("position")["value"].mean()

    figure = draw.error_profiles(probes)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == PROBES
    assert any(
        np.allclose(line.get_ydata(), expected) for line in ax.lines if len(line.get_xdata()) == 3
    )

    figure = draw.error_limits(probes, lists, eta=0.5)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["fgsm", "pgd", "gaussian", "salt"]
    limits = canvas.last_epoch(lists)
    limit = limits[(limits["perturber"] == "pgd") & (limits["eta"] == 0.5)]["limit"].mean()
    assert any(np.allclose(line.get_ydata(), limit) for line in figure.axes[1].lines)
    dots = [
        line for line in figure.axes[2].lines if line.get_marker() == "o" and len(line.get_xdata())
    ]
    assert [list(dot.get_xdata()) for dot in dots] == [[1, 2]]  # each in some seeds
    assert dots[0].get_markerfacecolor() == "white"

    figure = draw.list_map(probes, lists, eta=0.5)
    colours = figure.axes[2].collections[0].get_array()
    at = sorted(lists["eta"].unique()).index(0.5)
    none, half, other = colours[:, at]
    assert np.allclose(half, other) and not np.allclose(half, none)


@pytest.mark.parametrize("count", [1, 2, 70])
def test_few_and_many_layers_fit(config, count):
    probes = [f"body.layer{i}.downsample.conv" for i in range(count - 1)] + ["fc"]
    config.sustainability.eta_grid = [0.5]
    rng = np.random.default_rng(0)
    errors = {name: {probe: rng.uniform(size=9) for probe in probes} for name in ("pgd", "fgsm")}
    place = RUN | {"seed": 0, "epoch": 1}
    table = probe_table(errors, eta=0.5, confidence=0.95).assign(**place)
    lists = list_table(errors, etas=[0.5]).assign(**place)
    figures = [
        draw.error_profiles(table),
        draw.error_limits(table, lists, eta=0.5),
        draw.list_map(table, lists, eta=0.5),
        draw.error_epochs(pd.concat([table, table.assign(epoch=2)])),
    ]
    for figure in figures:
        assert figure.get_figwidth() <= canvas.MAX_WIDTH + 0.01
        canvas.to_svg(figure, name="figure", alt="")
