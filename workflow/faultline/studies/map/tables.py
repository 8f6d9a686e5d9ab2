"""The tables of the networks' graphs and of what all methods say of their layers."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.files import load_table
from faultline.studies.map.measures import layer_correlations, layer_measures

TABLES = {
    "graph": "the layers of each network, where its branches meet, and where inputs come from",
    "layer_measures": "what every method says of each layer, beside its depth, size and norm",
    "layer_correlations": "rank correlations of these over the layers of a network",
}


def tables(*, attack: str, confidence: float, **files) -> dict[str, pd.DataFrame]:
    """files: graph, norms, of every network on every data set; layers, perturbed, errors,
    targeting, compression, tables of other studies. attack: that of the scores."""
    each = {name: _together(of) for name, of in files.items()}
    measures, graph = layer_measures(**each, attack=attack), each["graph"]
    correlations = layer_correlations(measures, confidence=confidence)
    return {"graph": graph, "layer_measures": measures, "layer_correlations": correlations}


def _together(files: str | Iterable[str]) -> pd.DataFrame:
    """One table of several files, or of one."""
    parts = [load_table(file) for file in ([files] if isinstance(files, str) else files)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
