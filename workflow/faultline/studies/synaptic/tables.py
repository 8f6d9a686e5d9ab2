"""The tables of scores and classes."""

import pandas as pd

from faultline.run.paths import gather
from faultline.studies.synaptic.classes import invariances


def tables(given, *, network_layers: dict) -> dict[str, pd.DataFrame]:
    """given.curves, .layers, .filters, .bands: files of every scored checkpoint. network_layers:
    see `invariances`."""
    found = {name: gather(given[name]) for name in ("curves", "layers", "filters", "bands")}
    return found | {"invariance": invariances(found["layers"], network_layers)}
