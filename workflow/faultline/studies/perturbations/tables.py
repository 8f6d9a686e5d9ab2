"""The tables of internal perturbations."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather
from faultline.studies.perturbations.scores import corrected

TABLES = {
    "perturbations": "relative performance over the strength of random internal perturbations",
    "perturbation_layers": "area under these curves, and where each layer has lost 30 %",
    "perturbation_headline": "relative performance with 70 % of the synapses of a layer removed",
    "perturbation_depth": "first against last layers, by rank",
}


def tables(
    *,
    curves: Iterable[str],
    layers: Iterable[str],
    headline: Iterable[str],
    depth: Iterable[str],
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Of files of every perturbed checkpoint."""
    return {
        "perturbations": gather(curves),
        "perturbation_layers": gather(layers),
        "perturbation_headline": corrected(gather(headline), confidence=confidence),
        "perturbation_depth": corrected(gather(depth), confidence=confidence),
    }
