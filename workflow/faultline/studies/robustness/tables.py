"""The tables that compare trainings, and those of the searches for settings."""

import pandas as pd

from faultline.base.files import load_table
from faultline.base.paths import gather
from faultline.studies.robustness.scores import differences, over_seeds, rg_scores


def tables(
    given, *, bases: dict[str, str], published: list[dict], one_step: list[str], confidence: float
) -> dict[str, pd.DataFrame]:
    """given.accuracy: the table of accuracies, worst cases included; .tuning: the candidates of
    every search. bases: regularised training -> what it is compared with; published, one_step: see
    `over_seeds`."""
    scores = rg_scores(load_table(given.accuracy))
    return {
        "robustness": over_seeds(scores, published, beside=one_step, confidence=confidence),
        "robustness_differences": differences(scores, bases, confidence=confidence),
        "tuning": gather(given.tuning),
    }
