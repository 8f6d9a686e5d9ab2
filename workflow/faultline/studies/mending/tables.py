"""The tables of mending."""

from collections.abc import Iterable
from itertools import compress

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.columns import PLACE
from faultline.base.comparison import compare_policies, with_correction
from faultline.base.files import load_arrays, load_table
from faultline.base.paths import gather, place_of
from faultline.studies.mending.names import CHOSEN, GIVEN

TABLES = {
    "mends": "the given network and each mend on test images; what was chosen and handed back",
    "mending": "mends minus the given network, and minus the first of them, paired, with intervals",
    "mending_paths": "accuracy on validation images at every learning rate and share of the way",
    "mending_bought": "what points of clean accuracy buy, on validation images",
    "mended_layers": "scores and classes of the layers of mended networks (combined)",
}


def tables(
    *,
    path: Iterable[str],
    result: Iterable[str],
    bought: Iterable[str],
    correct: Iterable[str],
    layers: Iterable[str],
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """path: files of every checkpoint and candidate; result, bought, correct: of every checkpoint,
    layers: of those whose mends are swept.
    In `mending` the one that was chosen stands a second time, as `CHOSEN`."""
    result = [*result]
    return {
        "mends": gather(result),
        "mending": compared(correct, result, confidence=confidence),
        "mending_paths": gather(path),
        "mending_bought": gather(bought),
        "mended_layers": gather(layers),
    }


def compared(correct: Iterable[str], result: Iterable[str], *, confidence: float) -> pd.DataFrame:
    """`compare_policies` of the mends less the given network, the candidate as the policy; behind
    these, of the others less the first of them, corrected for all at once."""
    hits, places = [], []
    names: dict[str, None] = {}
    for file, table in zip(correct, result, strict=True):
        sets: dict[str, dict] = {}
        for name, vector in unpack(load_arrays(file)).items():
            network, images = name.split("|", 1)
            sets.setdefault(network, {})[images] = vector
        names |= dict.fromkeys(name for name in sets if name != GIVEN)
        rows = load_table(table)
        for network in rows.loc[rows["chosen"].astype(bool), "candidate"]:
            sets[CHOSEN] = sets[network]
        place = {key: value for key, value in place_of(file).items() if key in PLACE}
        for network, of in sets.items():
            hits.append(of)
            places.append(place | {"policy": network})
    less_given = compare_policies(hits, places, reference=GIVEN, confidence=confidence)
    if len(names) < 2:
        return less_given
    mends = [place["policy"] in names for place in places]
    less_first = compare_policies(
        *([*compress(of, mends)] for of in (hits, places)),
        reference=next(iter(names)),
        confidence=confidence,
    )
    both = pd.concat([less_given, less_first], ignore_index=True).drop(columns="q_value")
    return with_correction(both, confidence=confidence)
