"""All scores of one checkpoint, from the facts of its sweeps. No torch."""

from collections.abc import Mapping
from itertools import chain

import pandas as pd

from faultline.ablation.facts import Facts
from faultline.base.columns import put_first
from faultline.studies.synaptic import ALL_LAYERS
from faultline.studies.synaptic.scores import (
    BASELINES,
    RANDOM,
    band_scores,
    base_accuracy,
    curves,
    filter_scores,
    layer_scores,
)


def score_tables(
    local: Mapping[str, Facts],
    together: Facts | None,
    nodal: Mapping[str, Facts],
    *,
    baseline: str,
    integration: str,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Table -> its rows: base, layers, baselines (of combined filters, against each baseline that
    there is), curves, bands, filters. One without rows has the column layer.

    local: layer -> facts of its synaptic filters; together: those of all layers at once; nodal:
    layer -> facts of its nodal dropout. Scores of layers are compared with those of all local ones,
    those of all at once with none.
    """
    names = "base", "layers", "baselines", "curves", "bands", "filters"
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    first = next(chain(local.values(), [together] if together else [], nodal.values()))
    parts["base"].append(base_accuracy(first, confidence=confidence))
    sweeps = chain(
        (("local", layer, facts) for layer, facts in local.items()),
        [("global", ALL_LAYERS, together)] if together else [],
    )
    for scope, layer, facts in sweeps:
        columns = {"scope": scope, "layer": layer}
        by_baseline = {
            name: layer_scores(
                facts,
                baseline=name,
                integration=integration,
                confidence=confidence,
                compared=len(local) if scope == "local" else 1,
            )
            for name in BASELINES
            if name != RANDOM or RANDOM in facts.variants["filter"]
        }
        parts["layers"].append(put_first(by_baseline[baseline].copy(), columns))
        for name, scores in by_baseline.items():
            combined = scores[scores["filter"] == "combined"].assign(baseline=name)
            parts["baselines"].append(put_first(combined, columns))
        parts["curves"].append(put_first(curves(facts, confidence=confidence), columns))
        if scope == "local" and "pulse" in facts.variants["filter"]:
            bands = band_scores(facts, baseline=baseline, confidence=confidence)
            parts["bands"].append(put_first(bands, {"layer": layer}))
    for layer, facts in nodal.items():
        filters = filter_scores(facts, confidence=confidence)
        parts["filters"].append(put_first(filters, {"layer": layer}))
    return {
        name: pd.concat(tables) if tables else pd.DataFrame(columns=["layer"])
        for name, tables in parts.items()
    }
