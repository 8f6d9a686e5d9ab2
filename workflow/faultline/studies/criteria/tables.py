"""The tables of the referee."""

import pandas as pd

from faultline.ablation.facts import Facts, unpack
from faultline.base.columns import PLACE
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.studies.criteria.agreement import agreements, predictions
from faultline.studies.criteria.removal import losses
from faultline.studies.criteria.use import gains, referee


def tables(given, *, top_share, permutations, confidence) -> dict[str, pd.DataFrame]:
    """given.criteria, .removals: files of every judged checkpoint, of its layers; .result,
    .correct: of every training of picks."""

    def lost(path: str) -> pd.DataFrame:
        return losses(Facts.from_arrays(load_arrays(path)), confidence=confidence)

    scores, removals = gather(given.criteria), gather(given.removals, lost)
    known, removed = removals, scores.iloc[:0]
    if len(scores) and len(removals):  # else this is of a run that failed in part
        known = removals[removals["above_chance"]]
        removed = scores[_units(scores).isin(_units(removals))]
    settings = {"share": top_share, "permutations": permutations, "confidence": confidence}
    predicted = predictions(removed, known, **settings)
    hits = [unpack(load_arrays(path)) for path in given.correct]
    found = gains(hits, [place_of(path) for path in given.correct], confidence=confidence)
    return {
        "criteria": scores,
        "removals": removals,
        "predictions": predicted,
        "criteria_agreement": agreements(scores, confidence=confidence),
        "criteria_use": gather(given.result),
        "criteria_gains": found,
        "referee": referee(predicted, found),
    }


def _units(table: pd.DataFrame) -> pd.MultiIndex:
    """The layer or filter that each row is about."""
    filled = table["filter"].astype("Int64").fillna(-1)
    return pd.MultiIndex.from_frame(table[[*PLACE, "layer"]].assign(filter=filled))
