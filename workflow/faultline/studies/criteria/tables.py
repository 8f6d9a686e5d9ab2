"""The tables of the referee."""

import pandas as pd

from faultline.ablation.facts import Facts
from faultline.base.files import load_arrays
from faultline.run.paths import gather
from faultline.studies.criteria.agreement import agreements, predictions
from faultline.studies.criteria.removal import losses


def tables(given, *, top_share, permutations, confidence) -> dict[str, pd.DataFrame]:
    """given.criteria, .removals: files of every judged checkpoint, of its layers."""

    def lost(path: str) -> pd.DataFrame:
        return losses(Facts.from_arrays(load_arrays(path)), confidence=confidence)

    scores, removals = gather(given.criteria), gather(given.removals, lost)
    known = removals[removals["above_chance"]]
    settings = {"share": top_share, "permutations": permutations, "confidence": confidence}
    return {
        "criteria": scores,
        "removals": removals,
        "predictions": predictions(scores, known, **settings),
        "criteria_agreement": agreements(scores, confidence=confidence),
    }
