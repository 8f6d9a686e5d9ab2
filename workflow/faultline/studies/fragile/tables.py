"""The tables of fragile filters, what attacks target, and the remedy."""

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.comparison import compare_policies
from faultline.base.files import load_arrays
from faultline.base.paths import gather, place_of
from faultline.studies.fragile.fragility import association, join, overlaps


def tables(given, *, permutations: int, confidence: float) -> dict[str, pd.DataFrame]:
    """given.filters: the classified filters of every scored checkpoint; .targeting, .kernels,
    .gains, .strengths: files of every checkpoint with targeting or remedy; .correct: of every
    policy of the remedy."""
    filters = gather(given.filters)
    targeting = join(gather(given.targeting), filters, confidence=confidence)
    hits = [unpack(load_arrays(path)) for path in given.correct]
    places = [place_of(path) for path in given.correct]
    return {
        "targeting": targeting,
        "kernels": gather(given.kernels),
        "association": association(targeting, permutations=permutations, confidence=confidence),
        "fragile_overlap": overlaps(filters, confidence=confidence),
        "gains": gather(given.gains),
        "strengths": gather(given.strengths),
        "remedy": compare_policies(hits, places, reference="none", confidence=confidence),
    }
