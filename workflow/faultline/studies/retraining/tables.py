"""The tables of selective retraining."""

from collections.abc import Iterable, Sequence

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.comparison import compare_policies
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of

TABLES = {
    "retraining": "accuracy after retraining, per policy and seed",
    "comparison": "retraining policies minus regular, and selective minus random, with intervals",
}


def tables(
    *, result: Iterable[str], correct: Iterable[str], confidence: float, tests: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """Of files of every checkpoint and policy. tests: what selective is compared with, where that
    was fixed beforehand."""
    hits = [unpack(load_arrays(path)) for path in correct]
    places = [place_of(path) for path in correct]
    return {
        "retraining": gather(result),
        "comparison": compare_policies(
            hits, places, confidence=confidence, tests=[("selective", of) for of in tests]
        ),
    }
