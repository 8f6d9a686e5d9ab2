"""The tables of fragile filters, what attacks target, and the remedy."""

from collections.abc import Iterable

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.comparison import compare_policies
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.studies.fragile.fragility import association, join, overlaps

TABLES = {
    "targeting": "how much of each attack, and of noise, arrives at each filter; its fragility",
    "kernels": "weights of the filters that are drawn",
    "association": "how fragility and targeting go together, against chance and noise",
    "fragile_overlap": "overlap of the fragile sets of a layer over epochs and seeds",
    "gains": "fragility and feature energy of every filter, and its gain under each policy",
    "strengths": "accuracy on the validation split, every policy at every strength",
    "remedy": "remedy and its control minus no change, and one minus the other, with intervals",
}


def tables(
    *,
    filters: Iterable[str],
    targeting: Iterable[str],
    kernels: Iterable[str],
    gains: Iterable[str],
    strengths: Iterable[str],
    correct: Iterable[str],
    permutations: int,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """filters: files of the classified filters of every scored checkpoint; targeting, kernels,
    gains, strengths: of every checkpoint with targeting or remedy; correct: of every policy of the
    remedy."""
    classified = gather(filters)
    targeted = join(gather(targeting), classified, confidence=confidence)
    hits = [unpack(load_arrays(path)) for path in correct]
    places = [place_of(path) for path in correct]
    return {
        "targeting": targeted,
        "kernels": gather(kernels),
        "association": association(targeted, permutations=permutations, confidence=confidence),
        "fragile_overlap": overlaps(classified, confidence=confidence),
        "gains": gather(gains),
        "strengths": gather(strengths),
        "remedy": compare_policies(hits, places, reference="none", confidence=confidence),
    }
