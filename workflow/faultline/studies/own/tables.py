"""The table of ablations of the user's own."""

from collections.abc import Iterable
from functools import partial

import pandas as pd

from faultline.ablation.facts import load_facts
from faultline.base.columns import PLACE
from faultline.base.paths import gather
from faultline.base.statistics import benjamini_hochberg
from faultline.studies.own.scores import accuracy_changes

TABLES = {"ablations": "accuracy under ablations of one's own minus that of the whole network"}


def tables(*, ablations: Iterable[str], confidence: float) -> dict[str, pd.DataFrame]:
    """ablations: files of the facts of every layer, checkpoint and ablation."""
    return {"ablations": corrected(gather(ablations, partial(_changes, confidence=confidence)))}


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """With q_value: p_value corrected (Benjamini-Hochberg) for all variants and layers of one
    ablation, checkpoint and image set."""
    if not len(table):
        return table
    families = table.groupby([*PLACE, "ablation", "images"], sort=False)["p_value"]
    return table.assign(q_value=families.transform(benjamini_hochberg))


def _changes(path, *, confidence: float) -> pd.DataFrame:
    return accuracy_changes(load_facts(path), confidence=confidence)
