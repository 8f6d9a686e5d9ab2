"""The tables that compare trainings, and those of the searches for settings."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.files import load_table
from faultline.base.paths import gather
from faultline.studies.robustness.scores import differences, over_seeds, rg_scores

TABLES = {
    "robustness": "accuracy of every training over eps, and its R&G score, mean over seeds",
    "robustness_differences": "each regularised training minus its base, paired by seed",
    "tuning": "every candidate of the searches for settings",
}


def tables(
    *,
    accuracy: str,
    tuning: Iterable[str],
    bases: dict[str, str],
    published: list[dict],
    one_step: list[str],
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """accuracy: the file of the table of accuracies, worst cases included; tuning: of the
    candidates of every search. bases: regularised training -> what it is compared with; published,
    one_step: see `over_seeds`."""
    scores = rg_scores(load_table(accuracy))
    return {
        "robustness": over_seeds(scores, published, beside=one_step, confidence=confidence),
        "robustness_differences": differences(scores, bases, confidence=confidence),
        "tuning": gather(tuning),
    }
