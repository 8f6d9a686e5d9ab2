"""The tables of the networks' graphs and of what all methods say of their layers."""

import pandas as pd

from faultline.base.files import load_table
from faultline.studies.map.measures import layer_correlations, layer_measures


def tables(given, *, attack: str) -> dict[str, pd.DataFrame]:
    """given.graph, .norms: files of every network on every data set; .layers, .perturbed, .errors,
    .targeting: tables of other studies. attack: that of the scores."""
    names = ("graph", "norms", "layers", "perturbed", "errors", "targeting")
    found = {name: _together(given[name]) for name in names}
    measures, graph = layer_measures(**found, attack=attack), found["graph"]
    correlations = layer_correlations(measures)
    return {"graph": graph, "layer_measures": measures, "layer_correlations": correlations}


def _together(files) -> pd.DataFrame:
    """One table of several files, or of one."""
    parts = [load_table(file) for file in ([files] if isinstance(files, str) else files)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
