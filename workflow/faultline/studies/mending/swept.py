"""The layers of a mended network, swept by the same facts as those of the one that was given."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from faultline.ablation.run import Base
from faultline.attacks.run import crafters
from faultline.base import pace
from faultline.base.columns import put_first, transfer
from faultline.studies.mending.judging import put
from faultline.studies.synaptic.checkpoint import score_tables
from faultline.studies.synaptic.classes import classify_units
from faultline.studies.synaptic.sweeps import filtered


def swept(
    base: Base,
    weights: Mapping[str, Tensor],
    *,
    layers: Sequence[str],
    stored: Mapping[str, Mapping[str, Any]],
    place: Mapping[str, str | int],
    filters: Sequence[str],
    thresholds: int,
    random_draws: int,
    scores: Mapping[str, Any],
    tau: dict[str, float],
) -> pd.DataFrame:
    """Scores and classes of layers, as in the table of layers, of a network under other weights:
    over all synaptic filters together.

    base: the network that was given, with its clean images; stored: settings of the attacks whose
    images are crafted once, here on the mended network. place: names the checkpoint, so that the
    random draws are those of the given network. The rest: settings of the sweeps and scores.
    """
    put(base.network, weights)
    craft = crafters(dict(stored), base.dataset, seed=base.seed)
    clean = base.images["clean"]
    once = {transfer(name): of(base.network, clean, base.labels) for name, of in craft.items()}
    base = replace(base, images=base.images | once)
    facts = {}
    for layer in pace.each(layers):
        facts[layer] = filtered(
            base, layer, place=place, kinds=filters, count=thresholds, random_draws=random_draws
        )
        print(f"{layer}: {len(next(iter(facts[layer].correct.values())))} variants")
    table = classify_units(score_tables(facts, None, {}, **scores)["layers"], "layers", tau=tau)
    return put_first(table[table["filter"] == "combined"].copy(), place)
