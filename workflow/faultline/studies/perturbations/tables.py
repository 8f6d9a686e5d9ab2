"""The tables of internal perturbations."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather


def tables(
    *,
    curves: Iterable[str],
    layers: Iterable[str],
    headline: Iterable[str],
    depth: Iterable[str],
) -> dict[str, pd.DataFrame]:
    """Of files of every perturbed checkpoint."""
    return {
        "perturbations": gather(curves),
        "perturbation_layers": gather(layers),
        "perturbation_headline": gather(headline),
        "perturbation_depth": gather(depth),
    }
