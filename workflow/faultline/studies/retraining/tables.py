"""The tables of selective retraining."""

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.comparison import compare_policies
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of


def tables(given, *, confidence: float) -> dict[str, pd.DataFrame]:
    """given.result, .correct: files of every checkpoint and policy."""
    hits = [unpack(load_arrays(path)) for path in given.correct]
    places = [place_of(path) for path in given.correct]
    return {
        "retraining": gather(given.result),
        "comparison": compare_policies(hits, places, confidence=confidence),
    }
