"""The fault map, and all methods in one picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from faultline.report import page
from faultline.report.before_after import before_after, sentence
from faultline.studies.map import figures as draw
from faultline.studies.map.atlas import atlas as atlas
from faultline.studies.map.atlas import atlas_findings as atlas_findings
from faultline.studies.map.drawing import map_of
from faultline.studies.map.measures import CONTROLS
from faultline.studies.map.views import views_of

if TYPE_CHECKING:
    from faultline.studies.config import Config

ROBUST = {
    "random": "no worse than losing as many weights at random",
    "kept_fraction": "no worse than the share of weights that is kept",
    "unfiltered": "no worse than losing none",
}
"""What that class says, by what scores are compared with; but for tau."""

FEW = 3
"""Of fewer methods than these there is little to compare."""


def fault_maps(tables: dict, config: Config) -> page.Section:
    """The network drawn as it is, its layers in their classes."""
    layers = tables["layers"]
    if len(layers):
        layers = layers[(layers["scope"] == "local") & (layers["filter"] == "combined")]

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block | None:
        nodes = page.of(tables["graph"], part, ("dataset", "network"))
        if not len(nodes):
            return None
        mended = page.of(tables["mended_layers"], part)
        shown = views_of(tables, part, nodes, attack=config.scored_attack)
        notes = []
        if not nodes["traced"].all():
            notes.append(
                "This network cannot be traced (why not is in the log of map_network), so its "
                "layers stand in the order in which they are called, without branches and skips."
            )
        if shown.seeds == ["all"]:
            notes.append("Single seeds are left out here, as the page would grow too large.")
        figure = page.Figure(
            f"figure-map-{index}",
            map_of(
                nodes,
                shown,
                alt=f"Fault map of {run}",
                robust=ROBUST[config.scores.baseline],
            ),
            caption=f"{run}: {len(shown.layers)} layers, coloured by their class, the score in "
            f"numbers; a bar as wide as its box is {shown.scale / 1000:.2f}. "
            f"{page.n(part, config.ablation.split)}. "
            + sentence(before_after(part, mended, attack=config.scored_attack)),
            read="The network as it is, traced from its code, runs downwards; activations, "
            "normalisation and pooling are left out. A box is a layer: its letter and colour are "
            "the class, a dashed box with a question mark is not decided, and the bar is the size "
            "of the score. The strip at its foot is its units (filters, neurons, heads), a cell "
            "each, the fragile ones first; it is grey where single units were not removed. Over "
            "several seeds: the class that most give, decided where all agree, and the mean score. "
            "Point at anything for its numbers.",
        )
        return page.block(run, figures=[figure], notes=notes)

    blocks = page.by_run(layers, block)
    return page.Section("map", "Fault map", blocks=blocks, needs="synaptic_filtering.layers")


def _methods(measures: pd.DataFrame) -> set[str]:
    """The methods that rank layers, all scores as one; without the controls."""
    names = {*measures["measure"]} - {*CONTROLS} if len(measures) else set()
    return {"scores" if name.startswith("S_") else name.partition(" (")[0] for name in names}


def methods(tables: dict, config: Config) -> page.Section:
    """All methods side by side, where any ranks layers."""
    level = 1 - config.scores.confidence

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block | None:
        if set(part["measure"]) <= {*CONTROLS}:
            return None
        correlations = page.of(tables["layer_correlations"], part)
        n = f"n = {part['layer'].nunique()} layers, {page.count(part['seed'].unique(), 'seed')}"
        first = next(iter(part["measure"]))
        figures = [
            page.figure(
                draw.rank_map(part),
                name=f"methods-{index}",
                alt=f"Ranks of the layers of {run} by every method",
                caption=f"Layers of {run} at epoch {part['epoch'].max()}, ranked by the mean over "
                f"seeds and sorted by {first}. {n}.",
                read="A row is a layer, a column a method, the cell its rank: 1 is the layer that "
                "the method calls the most fragile. Where columns look alike, methods agree. On "
                "the right what is known without removing anything: how early the layer comes, how "
                "few weights it has, how small their norm is. A column of scores that looks like "
                "one of these may say no more than it does.",
            )
        ]
        if len(correlations):
            figures.append(
                page.figure(
                    draw.correlation_map(correlations, level=level),
                    name=f"methods-correlations-{index}",
                    alt=f"Rank correlations of the methods over the layers of {run}",
                    caption=f"Spearman's rank correlations over layers. {n}; * q < {level:.2g} "
                    f"(Kendall's test, Benjamini-Hochberg over {len(correlations)} pairs).",
                    read="Blue: what the one calls fragile the other calls fragile, too; with "
                    "depth: early layers are the fragile ones, with weights and their norm: small "
                    "ones. Behind the line are the controls. Without a star the correlation may be "
                    "chance.",
                )
            )
        columns = {
            "of": "measure",
            "and": "other",
            "layers": "layers",
            "Spearman": ("spearman", page.number),
            "range over seeds": ("seed_low", "seed_high", page.bracket),
            "Kendall": ("kendall", page.number),
            "p-value": ("p_value", page.small),
            "q-value": ("q_value", page.small),
        }
        table = page.table("The numbers", correlations, columns, source="layer_correlations.tsv")
        return page.block(run, figures=figures, tables=[table])

    return page.Section(
        "methods",
        "All methods in one picture",
        intro="Do the methods agree on which layers are fragile, and do they say more than how "
        "deep a layer lies and how large it is?",
        method="Knockout is the mean relative performance while "
        "synapses are knocked out; relative error and targeting are how far the attack moves what "
        "a layer puts out. Methods that ranked fewer than three layers are left out. Ours: the "
        "measures, and that layers are ranked by their mean over seeds. Layers of one network are "
        "no random sample, so a star is about this network only.",
        blocks=page.by_run(tables["layer_measures"], block),
        needs="synaptic_filtering.layers",
        folded=len(_methods(tables["layer_measures"])) < FEW,
    )


def findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Where the score goes with what is known without it, as depth."""
    level, attack = 1 - config.scores.confidence, config.scored_attack
    for run, rows in page.runs(tables["layer_correlations"]):
        score = f"S_adv ({attack})" if f"S_adv ({attack})" in set(rows["measure"]) else "S_clean"
        rows = rows[(rows["measure"] == score) & rows["other"].isin(CONTROLS)]
        said = [
            f"{row['other']} ({page.number(row['spearman'])}, q "
            f"{'' if row['q_value'] < 0.001 else '= '}{page.small(row['q_value'])})"
            for row in rows[rows["q_value"] < level].to_dict("records")
        ]
        if said:
            yield (
                f"Scores against depth and size, {run}",
                f"{score} ranks the {rows['layers'].max()} layers much as these do, which need no "
                f"ablation (Spearman): {'; '.join(said)}.",
            )
