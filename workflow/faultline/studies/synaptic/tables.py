"""The tables of scores and classes."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather
from faultline.studies.synaptic.classes import invariances


def tables(*, network_layers: dict, **files: Iterable[str]) -> dict[str, pd.DataFrame]:
    """files: base, baselines, curves, layers, filters, bands, of every scored checkpoint.
    network_layers: see `invariances`."""
    each = {name: gather(of) for name, of in files.items()}
    return each | {"invariance": invariances(each["layers"], network_layers)}
