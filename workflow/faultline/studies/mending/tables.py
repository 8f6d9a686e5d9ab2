"""The tables of mending."""

from collections.abc import Iterable

import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.columns import PLACE
from faultline.base.comparison import compare_policies
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
    """`compare_policies` of the mends less the given network, the candidate as the policy, and of
    the others less the first of them."""
    hits, places = [], []
    for file, table in zip(correct, result, strict=True):
        sets: dict[str, dict] = {}
        for name, vector in unpack(load_arrays(file)).items():
            network, images = name.split("|", 1)
            sets.setdefault(network, {})[images] = vector
        rows = load_table(table)
        for network in rows.loc[rows["chosen"].astype(bool), "candidate"]:
            sets[CHOSEN] = sets[network]
        place = {key: value for key, value in place_of(file).items() if key in PLACE}
        for network, of in sets.items():
            hits.append(of)
            places.append(place | {"policy": network})
    policies = dict.fromkeys(str(place["policy"]) for place in places)
    mends = [name for name in policies if name not in (GIVEN, CHOSEN)]
    pairs = [(name, GIVEN) for name in policies if name != GIVEN]
    pairs += [(name, mends[0]) for name in mends[1:]]
    return compare_policies(hits, places, reference=GIVEN, pairs=pairs, confidence=confidence)
