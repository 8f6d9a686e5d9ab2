"""The tables of the networks' graphs and of what all methods say of their layers."""

import pandas as pd

from faultline.base.files import load_table
from faultline.studies.map.measures import layer_correlations, layer_measures


def tables(given, *, attack: str) -> dict[str, pd.DataFrame]:
    """given.graph, .norms: files of every network on every data set; .layers, .perturbed, .errors,
    .targeting: tables of other studies. attack: that of the scores."""
    graph, norms = (_together(paths) for paths in (given.graph, given.norms))
    names = ("layers", "perturbed", "errors", "targeting")
    others = {name: load_table(given[name]) for name in names}
    measures = layer_measures(graph=graph, norms=norms, attack=attack, **others)
    correlations = layer_correlations(measures)
    return {"graph": graph, "layer_measures": measures, "layer_correlations": correlations}


def _together(paths) -> pd.DataFrame:
    return pd.concat(map(load_table, paths), ignore_index=True) if len(paths) else pd.DataFrame()
