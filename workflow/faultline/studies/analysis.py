"""All layers of a network in one call, for a script or a notebook."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from torch import Tensor, nn

import faultline.report
from faultline.ablation.graph import graph, graph_table
from faultline.ablation.run import Base
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, one_of
from faultline.data.splits import Bounds, DataSet
from faultline.networks.inputs import class_numbers
from faultline.networks.layers import layers as layers_of
from faultline.networks.reach import IMAGES, used
from faultline.studies.map.drawing import map_of
from faultline.studies.map.views import views
from faultline.studies.synaptic.checkpoint import score_tables
from faultline.studies.synaptic.classes import classify_units
from faultline.studies.synaptic.config import Scores, SynapticFiltering, Taus
from faultline.studies.synaptic.sweeps import filtered

FILTERING, SCORES, TAU = SynapticFiltering(), Scores(), Taus().layers.model_dump()
SHOWN = ["layer", "score", "attack", "value", "ci_low", "ci_high", "class", "decided", "n"]
LOOK = Path(faultline.report.__path__[0]) / "assets/map.css"

ROOM = 2e9
"""Bytes that a sweep may take on top of the images."""


@dataclass(frozen=True, repr=False)
class Analysis:
    """What `analyse` found. layers: a row per layer and score, in the network's order: value,
    interval (ci_low, ci_high), class and whether it is decided, n; scores: all that is behind it,
    filter by filter; curves: the accuracy over the thresholds, for `threshold_curves`; base: what
    the network has to lose; map: the fault map, as HTML; notes: what the sweeps said, such as of
    outputs that are not finite. A notebook shows the map and the table."""

    layers: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    base: pd.DataFrame
    map: Markup
    notes: list[str]

    def __repr__(self) -> str:
        return str(self.layers.round(3).to_string(index=False))

    def _repr_html_(self) -> str:
        look = LOOK.read_text(encoding="utf-8")
        return f"<style>{look}</style>{self.map}{self.layers.round(3).to_html(index=False)}"


def analyse(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Mapping[str, Any] | None = None,
    bounds: Bounds = (0.0, 1.0),
    layers: Sequence[str] | None = None,
    thresholds: int = FILTERING.thresholds,
    random_draws: int = FILTERING.random_draws,
    tau: Mapping[str, float] = TAU,
    confidence: float = SCORES.confidence,
    seed: int = 0,
) -> Analysis:
    """Which layers are fragile: each swept by the three synaptic filters, scored against as many
    weights removed at random, and classified, as a run does it with the defaults of its config.

    network: any module from images [n, ...] in pixel units to logits [n, classes], which stays as
    it is; labels [n]. attack: as in a config, with method and eps, crafted anew on each ablated
    network; without one there is S_clean alone. bounds: of the pixels. layers: names, by default
    all that the logits depend on; thresholds, random_draws, tau, confidence: as the keys of the
    config. UserError where network, images, labels and settings do not fit.
    """
    labels = class_numbers(labels, len(images))
    there = layers_of(network)
    for name in layers or ():
        one_of(name, there, "analyse: layers")
    if layers is None:
        in_use = used(network, images)
        layers = [name for name in there if name in in_use]
    if not layers:
        raise UserError("analyse: the network has no layer to ablate; see `layers(network)`")
    check_count(thresholds, "analyse: thresholds", low=2)
    check_count(random_draws, "analyse: random_draws", low=2)
    if attack is not None and not attack.get("eps"):
        raise UserError("analyse: attack: needs an eps above 0; add it")
    attacks = {str(attack["method"]): {"norm": "linf", **attack}} if attack else {}
    splits = dict.fromkeys(("train", "validation", "test"), (images, labels))
    base = Base(
        network=network,
        dataset=DataSet("images", int(labels.max()) + 1, bounds, None, None, None, splits),
        images={"clean": images},
        labels=labels,
        recrafted=attacks,
        seed=seed,
        memory=lambda: ROOM,
    )
    with contextlib.redirect_stdout(io.StringIO()) as said:
        facts = {
            name: filtered(
                base,
                name,
                place={"seed": seed},
                kinds=FILTERING.filters,
                count=thresholds,
                random_draws=random_draws,
            )
            for name in layers
        }
    tables = score_tables(
        facts,
        None,
        {},
        baseline=SCORES.baseline,
        integration=SCORES.integration,
        confidence=confidence,
    )
    scores = classify_units(tables["layers"], "layers", tau=dict(tau))
    combined = scores[scores["filter"] == "combined"].reset_index(drop=True)
    return Analysis(
        layers=combined[SHOWN],
        scores=scores.drop(columns="scope").reset_index(drop=True),
        curves=tables["curves"],
        base=tables["base"],
        map=_map(network, images, combined, attack=next(iter(attacks), "none")),
        notes=said.getvalue().splitlines(),
    )


def _map(network: nn.Module, images: Tensor, layers: pd.DataFrame, *, attack: str) -> Markup:
    nodes, why = graph(network, images[:IMAGES])
    shown = views(
        layers.assign(seed=0, epoch=0),
        pd.DataFrame(),
        pd.DataFrame(),
        names=list(dict.fromkeys(node.layer for node in nodes if node.layer)),
        shown=("S_clean" if attack == "none" else "S_adv", attack),
    )
    table = graph_table(network, nodes, traced=not why)
    # one network, as it is: there is no epoch
    shown = shown._replace(weights=["weights as given"], seeds=["0"])
    return map_of(table, shown, alt="Fault map")
