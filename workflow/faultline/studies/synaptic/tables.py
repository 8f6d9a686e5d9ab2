"""The tables of scores and classes."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather
from faultline.studies.synaptic.classes import invariances

TABLES = {
    "curves": "accuracy over the threshold of every synaptic filter, layer by layer and globally",
    "base": "accuracy of the unablated network on the images that it is ablated on, beside chance",
    "layers": "scores and classes of the layers",
    "baselines": "scores of the layers (combined) against each baseline",
    "filters": "scores and classes of single filters (nodal dropout)",
    "bands": "scores and classes of the pulse bands of each layer's weights",
    "invariance": "how far layers keep their class over seeds, epochs, data sets and networks",
}


def tables(*, network_layers: dict, **files: Iterable[str]) -> dict[str, pd.DataFrame]:
    """files: base, baselines, curves, layers, filters, bands, of every scored checkpoint.
    network_layers: see `invariances`."""
    each = {name: gather(of) for name, of in files.items()}
    return each | {"invariance": invariances(each["layers"], network_layers)}
