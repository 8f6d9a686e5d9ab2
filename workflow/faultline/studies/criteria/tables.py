"""The tables of the referee."""

from collections.abc import Iterable, Sequence

import pandas as pd

from faultline.ablation.facts import load_facts, unpack
from faultline.base.columns import PLACE
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.studies.criteria.agreement import agreements, predictions
from faultline.studies.criteria.removal import losses
from faultline.studies.criteria.use import fixed_tests, gains, referee

TABLES = {
    "criteria": "how much every criterion says that each layer and filter matters",
    "removals": "accuracy lost on test images when a layer or filter is removed whole",
    "predictions": "how well every criterion predicts the accuracy lost",
    "criteria_agreement": "how alike two criteria rank layers and filters",
    "criteria_use": "accuracy after training what each criterion picks",
    "criteria_gains": "the same minus as many parameters of random layers, with intervals",
    "criteria_tests": "the tests of the first criterion that were fixed before the run",
    "referee": "what each criterion predicts, what training its picks gains, and what it costs",
}


def tables(
    *,
    criteria: Iterable[str],
    removals: Iterable[str],
    result: Iterable[str],
    correct: Iterable[str],
    top_share: float,
    permutations: int,
    confidence: float,
    tests: Sequence[tuple[str, str]] = (),
) -> dict[str, pd.DataFrame]:
    """criteria, removals: files of every judged checkpoint, of its layers; result, correct: of
    every training of picks. tests: see `compare_policies`."""

    def lost(path: str) -> pd.DataFrame:
        return losses(load_facts(path), confidence=confidence)

    scores, removed = gather(criteria), gather(removals, lost)
    judged, truth = scores.iloc[:0], removed
    if len(scores) and len(removed):  # else this is of a run that failed in part
        judged = scores[_units(scores).isin(_units(removed))]
        truth = removed[removed["above_chance"]]
    predicted = predictions(
        judged, truth, share=top_share, permutations=permutations, confidence=confidence
    )
    hits = [unpack(load_arrays(path)) for path in correct]
    places = [place_of(path) for path in correct]
    gained = gains(hits, places, confidence=confidence)
    return {
        "criteria": scores,
        "removals": removed,
        "predictions": predicted,
        "criteria_agreement": agreements(scores, confidence=confidence),
        "criteria_use": gather(result),
        "criteria_gains": gained,
        "criteria_tests": fixed_tests(hits, places, tests, confidence=confidence)
        if tests
        else gained.iloc[:0],
        "referee": referee(predicted, gained),
    }


def _units(table: pd.DataFrame) -> pd.MultiIndex:
    """The layer or filter that each row is about."""
    filled = table["filter"].astype("Int64").fillna(-1)
    return pd.MultiIndex.from_frame(table[[*PLACE, "layer"]].assign(filter=filled))
