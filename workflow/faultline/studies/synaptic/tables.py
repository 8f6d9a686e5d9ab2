"""The tables of scores and classes."""

import pandas as pd

from faultline.base.paths import gather
from faultline.studies.synaptic.classes import invariances


def tables(given, *, network_layers: dict) -> dict[str, pd.DataFrame]:
    """given.base, .baselines, .curves, .layers, .filters, .bands: files of every scored checkpoint.
    network_layers: see `invariances`."""
    names = ("base", "baselines", "curves", "layers", "filters", "bands")
    found = {name: gather(given[name]) for name in names}
    return found | {"invariance": invariances(found["layers"], network_layers)}
