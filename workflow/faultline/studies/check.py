"""Which units a network cannot do without, from images without labels: a screen by gradients, and
the worst ones removed in truth, as far as there is time."""

import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from torch import Tensor, nn

import faultline.report
from faultline.ablation.graph import graph, graph_table
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.base.errors import UserError
from faultline.base.inputs import check_number, one_of
from faultline.base.memory import batch_size
from faultline.base.statistics import wilson_interval
from faultline.networks.architectures import Network
from faultline.networks.evaluation import finite, predict
from faultline.networks.inputs import check_device, check_images
from faultline.networks.layers import kind
from faultline.networks.layers import layers as layers_of
from faultline.networks.reach import IMAGES, used
from faultline.networks.registry import classifier
from faultline.studies.map.drawing import map_of
from faultline.studies.map.views import views
from faultline.studies.screen import screened

LOOK = Path(faultline.report.__path__[0]) / "assets/map.css"

SCREENED = 64
"""Images that the gradients are taken of, at most (ours)."""

FIRST = 32
"""Units that are removed before the first table; then twice as many, and so on (ours)."""

SHOWN = 20
"""Rows of the table on the page."""

ROOM = 2e9
"""Bytes that a sweep may take on top of the images."""

COLUMNS = ["layer", "kind", "filter", "expected", "lost", "ci_low", "ci_high", "n"]


@dataclass(frozen=True, repr=False)
class Check:
    """What `check` found. units: a row per unit, the worst first: layer, kind, filter, the share of
    images expected to get another prediction without it, and of those that were removed the share
    that did (lost), its interval by itself (Wilson, 95 %) and n; the others follow, as expected.
    map: the fault map, as HTML. removed: how many units were. limit: what a unit may lose."""

    units: pd.DataFrame
    map: Markup
    removed: int
    limit: float

    @property
    def fragile(self) -> pd.DataFrame:
        """The units that lose more than the limit."""
        return self.units[self.units["lost"] > self.limit]

    def __repr__(self) -> str:
        return f"{self.summary()}\n{self.units.head(SHOWN).round(3).to_string(index=False)}"

    def _repr_html_(self) -> str:
        look, table = LOOK.read_text(encoding="utf-8"), self.units.head(SHOWN).round(3)
        return f"<style>{look}</style>{self.map}{table.to_html(index=False, na_rep='')}"

    def summary(self) -> str:
        """In one sentence."""
        n = self.units["n"].max()
        return (
            f"{len(self.fragile)} of {self.removed} units that were removed, of {len(self.units)}, "
            f"change more than {self.limit:.1%} of the network's own predictions (n = {n:.0f})"
        )

    def page(self, title: str) -> str:
        """One screen of HTML."""
        title = html.escape(title)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            "<style>body {font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 70em}"
            "td, th {padding: 0 .7em; text-align: right}</style>"
            f"<h1>{title}</h1><p>{html.escape(self.summary())}.</p>{self._repr_html_()}</html>\n"
        )

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        rows = self.units.astype(object).where(self.units.notna(), None)
        return {
            "limit": self.limit,
            "removed": self.removed,
            "fragile": len(self.fragile),
            "units": rows.to_dict("records"),
        }


def check(
    network: nn.Module,
    images: Tensor,
    *,
    minutes: float = 1.0,
    limit: float = 0.05,
    layers: Sequence[str] | None = None,
    tell: Callable[["Check"], object] | None = None,
) -> Check:
    """Which units (filters, neurons, heads) a network cannot do without: how many of its own
    predictions change when one is removed, weights and bias 0. No labels are needed.

    All units are screened by gradients; the worst by these are removed one by one, exactly, until
    the minutes are over: then a layer that was begun is ended. network: see `classifier`; it stays
    as it is. images: float [n, ...] in pixel units. limit: the share of predictions that a unit may
    change. layers: names, by default all that the logits depend on. tell: called with what is known
    after each round. UserError where network, images and settings do not fit.
    """
    check_number(minutes, "check: minutes", open=True)
    until = time.monotonic() + 60 * minutes
    check_number(limit, "check: limit")
    check_images(images, "images")
    check_device(network, {"images": images})
    network = network if isinstance(network, Network) else classifier(network, images)
    logits = predict(network, images)
    known = finite(logits)
    if not known.all():
        raise UserError(
            f"{(~known).sum()} of {len(images)} outputs are not finite; leave these out"
        )
    there = layers_of(network)
    for name in layers or ():
        one_of(name, there, "check: layers")
    in_use = used(network, images) if layers is None else {*layers}
    chosen = {name: layer for name, layer in there.items() if name in in_use}
    if not chosen:
        raise UserError("check: the network has no layer to ablate; see `layers(network)`")
    at_once = batch_size(SCREENED, tuple(images.shape[1:]))
    expected = screened(network, images[:SCREENED], chosen, batch_size=at_once)
    units = pd.DataFrame(
        [
            (name, kind(chosen[name]), unit, share)
            for name, of in expected.items()
            for unit, share in enumerate(of)
        ],
        columns=COLUMNS[:4],
    ).sort_values("expected", ascending=False, kind="stable", ignore_index=True)
    units = units.assign(lost=np.nan, ci_low=np.nan, ci_high=np.nan, n=len(images))
    nodes, why = graph(network, images[:IMAGES])
    table = graph_table(network, nodes, traced=not why)
    labels, begin, count = logits.argmax(1), 0, FIRST

    def found() -> Check:
        worst = units.sort_values(
            ["lost", "expected"], ascending=False, kind="stable", na_position="last"
        ).reset_index(drop=True)
        return Check(
            worst[COLUMNS], _map(table, worst, limit), int(worst["lost"].notna().sum()), limit
        )

    while begin < len(units) and (not begin or time.monotonic() < until):
        part = units.iloc[begin : begin + count]
        for name, rows in part.groupby("layer", sort=False):
            if begin and time.monotonic() >= until:
                break
            places = [*rows.sort_values("filter").index]
            removed = nodal_variants(
                str(name), chosen[str(name)], filters=units.loc[places, "filter"], at="weights"
            )
            facts = sweep(
                network,
                list(removed),
                {"clean": images},
                labels,
                ablated=[str(name)],
                memory=ROOM,
                say=lambda _: None,
            )
            hits = facts.correct["clean"]
            share, low, high = wilson_interval((~hits).sum(1), hits.shape[1], confidence=0.95)
            units.loc[places, ["lost", "ci_low", "ci_high"]] = np.stack([share, low, high], 1)
        begin, count = begin + count, 2 * count
        if tell:
            tell(found())
    return found()


def _map(nodes: pd.DataFrame, units: pd.DataFrame, limit: float) -> Markup:
    """The fault map of what was removed; a layer stands for its worst unit."""
    removed = units[units["lost"].notna()].assign(
        value=-units["lost"], score="S_clean", attack="none", seed=0, epoch=0
    )
    removed["class"] = np.where(removed["lost"] > limit, "fragile", "robust")
    removed["decided"] = (removed["ci_low"] > limit) | (removed["ci_high"] <= limit)
    removed["ci_low"], removed["ci_high"] = -removed["ci_high"], -removed["ci_low"]
    worst = removed.sort_values("value", kind="stable").drop_duplicates("layer")
    names = list(dict.fromkeys(name for name in nodes["layer"] if name))
    shown = views(worst, removed, pd.DataFrame(), names=names, shown=("S_clean", "none"))
    shown = shown._replace(weights=["weights as given"], seeds=["0"])
    return map_of(nodes, shown, alt="Fault map")
