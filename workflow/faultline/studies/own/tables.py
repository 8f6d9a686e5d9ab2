"""The table of ablations of the user's own."""

from functools import partial

import pandas as pd

from faultline.ablation.facts import Facts
from faultline.base.files import load_arrays
from faultline.run.paths import gather
from faultline.studies.own.scores import accuracy_changes


def tables(given, *, confidence: float) -> dict[str, pd.DataFrame]:
    """given.ablations: the facts of every layer, checkpoint and ablation."""
    return {"ablations": gather(given.ablations, partial(_changes, confidence=confidence))}


def _changes(path, *, confidence: float) -> pd.DataFrame:
    return accuracy_changes(Facts.from_arrays(load_arrays(path)), confidence=confidence)
