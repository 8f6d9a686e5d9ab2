"""The tables of internal perturbations."""

import pandas as pd

from faultline.base.paths import gather


def tables(given) -> dict[str, pd.DataFrame]:
    """given.curves, .layers, .headline, .depth: files of every perturbed checkpoint."""
    return {
        "perturbations": gather(given.curves),
        "perturbation_layers": gather(given.layers),
        "perturbation_headline": gather(given.headline),
        "perturbation_depth": gather(given.depth),
    }
