"""What to do, made from what is told of a run and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.base.paths import CHECKPOINT
from faultline.report import canvas, page
from faultline.studies.compression.section import advice as compressed
from faultline.studies.mending.names import WORST
from faultline.studies.mending.section import difference, worst_of
from faultline.studies.synaptic.section import (
    against,
    judged,
    lower_eps,
    of_class,
    rounded,
    with_needed,
)

if TYPE_CHECKING:
    from faultline.studies.config import Config

MOST_NAMED = 4
"""Layers of one piece of advice."""


def section(tables: dict, config: Config) -> page.Section:
    """A row for each thing to do: what, because of which number, and where on the page that is."""
    several = len([*page.runs(tables["accuracy"])]) > 1
    rows = []
    for run, part in page.runs(tables["accuracy"]):
        for advise in (_load, _allow, compressed, _keep, _prune, _chance, _images):
            for what, because, link in advise(tables, part, config):
                rows.append(_row(run * several, what, because, link))
    if rows and len(config.seeds) == 1:
        what, because = "add seeds", "one seed says what holds of this network, not of others"
        rows.append(_row("all" * several, what, because, "run"))
    table = page.table("Each with the number behind it", pd.DataFrame(rows), shown=True)
    return page.Section(
        "advice",
        "What to do",
        blocks=[page.block("", tables=[table])] if table else [],
        needs="mending.from_epochs, synaptic_filtering.layers",
    )


def _row(network: str, what: str, because: str, link: str) -> dict[str, str | page.Cell]:
    row: dict[str, str | page.Cell] = {"network": network} if network else {}
    return row | {"do": page.cell(what, link=link), "because": because}


Advice = Iterator[tuple[str, str, str]]
"""(what to do, because of what, the section that shows it)."""


def _load(tables: dict, run: pd.DataFrame, config: Config) -> Advice:
    """The weights that were handed back."""
    mends = page.of(tables["mends"], run)
    if not len(mends):
        return
    mends = canvas.last_epoch(mends)
    kept = mends[mends["handed_back"].astype(bool)]
    rows = canvas.last_epoch(page.of(tables["mending"], mends))
    for _, row in kept.iterrows():
        gain, clean = (difference(rows, images, row["seed"]) for images in (WORST, "clean"))
        path = f"{config.results}/{CHECKPOINT.format(**row)}/mended.pt"
        bounds = " and its bounds, as mended.md says" if row["candidate"] == "clip" else ""
        yield (
            f"load {path}{bounds}",
            f"{gain[0]} {gain[1]} points {worst_of(config)}, clean {clean[0]} {clean[1]} "
            f"(n = {row['n']:,} test images)",
            "mending",
        )


def _allow(tables: dict, run: pd.DataFrame, config: Config) -> Advice:
    """A larger budget, where nothing gains within the one that is set."""
    mends, bought = (page.of(tables[name], run) for name in ("mends", "mending_bought"))
    if not len(mends) or canvas.last_epoch(mends)["chosen"].astype(bool).any():
        return
    bought = canvas.last_epoch(bought)
    named = bought["candidate"].fillna("").astype(bool)
    more = bought[named & (bought["budget"] > config.mending.clean_loss)]
    for budget, rows in [*more.groupby("budget")][:1]:
        yield (
            f"set mending.clean_loss to {budget:g}",
            f"{page.listed(dict.fromkeys(rows['candidate']))} would then leave "
            f"{page.span(rows['adversarial'])} of validation images under attack",
            "mending",
        )


def _layers(
    tables: dict, run: pd.DataFrame, config: Config, name: str, what: str, left: str
) -> Advice:
    """What to do with the layers of a class, decided in every seed, the strongest first. what: with
    their names at {}; left: "less" or "more", than what they are compared with."""
    part = page.of(tables["layers"], run)
    if not len(part):
        return
    rows, score, _ = judged(part, config)
    layers = of_class(rows, name)
    layers = layers[layers["sure"]][:: -1 if left == "more" else 1]
    if len(layers):
        scores = [canvas.signed(value) for value in layers["mean"].head(MOST_NAMED)]
        yield (
            what.format(page.first_of([*layers.index], MOST_NAMED)),
            f"{score} {page.listed(scores)}: without them {left} relative accuracy is left than "
            f"{against(config)}",
            "classes",
        )


def _keep(tables: dict, run: pd.DataFrame, config: Config) -> Advice:
    """What must not be removed: fragile layers, and the filter that costs most."""
    what = "keep {} out of pruning and quantisation"
    yield from _layers(tables, run, config, "fragile", what, "less")
    filters = page.of(tables["filters"], run)
    if not len(filters):
        return
    filters = canvas.last_epoch(filters)
    sure = filters[filters["decided"].astype(bool) & (filters["class"] == "fragile")]
    sure = sure[sure["score"].isin(["S_clean", "S_adv"])]
    if len(sure):
        worst = sure.iloc[sure["value"].argmin()]
        unit = page.unit(tables, run, worst["layer"])
        where = f" of seed {worst['seed']}" if len(filters["seed"].unique()) > 1 else ""
        of = "clean images" if worst["score"] == "S_clean" else f"images under {worst['attack']}"
        yield (
            f"never remove {unit} {worst['filter']} of {worst['layer']}{where}",
            f"alone it takes {page.percent(-worst['value'])} "
            f"[{page.percent(-worst['ci_high'])}, {page.percent(-worst['ci_low'])}] of the "
            f"accuracy on {of} with it",
            "filters",
        )


def _prune(tables: dict, run: pd.DataFrame, config: Config) -> Advice:
    """Antifragile layers: their weights are the first to go."""
    what = "prune {} first, one at a time"
    yield from _layers(tables, run, config, "antifragile", what, "more")


def _chance(tables: dict, run: pd.DataFrame, config: Config) -> Advice:
    """Attacks under which nothing is left to score, and a clean accuracy that is chance."""
    base = page.of(tables["base"], run)
    if not len(base):
        return
    base = canvas.last_epoch(base)
    for images, rows in base[~base["above_chance"].astype(bool)].groupby("images", sort=False):
        because = f"{page.span(rows['accuracy'])} on {images} images is not above chance"
        if images == "clean":
            yield "train longer", because, "training"
        else:
            eps = lower_eps(tables["accuracy"], rows, config)
            yield eps[0].lower() + eps[1:], f"{because}, so nothing can be scored", "scores"


def _images(tables: dict, run: pd.DataFrame, config: Config) -> Advice:
    """More images, where so few are judged that no filter that changes nothing is decided."""
    part = page.of(tables["filters"], run)
    if not len(part):
        return
    part = with_needed(tables, canvas.last_epoch(part), config)
    few = part[(part["needed"] > part["n"]) & ~part["decided"].astype(bool)]
    few = few[np.isfinite(few["needed"])]
    if len(few):
        needed, split = rounded(few["needed"].max()), config.ablation.split
        there = getattr(config.datasets[str(run["dataset"].iloc[0])], str(split))
        more = f", and give as many (datasets.*.{split})" if there and there < needed else ""
        yield (
            f"judge on {needed:,} {split} images (ablation.images){more}",
            f"of {few['n'].max():,}, {len(few)} classes of single filters are not decided: of so "
            "few none can be decided as robust",
            "filters",
        )
