"""The tables of layer sustainability."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather
from faultline.studies.sustainability.lists import agreement

TABLES = {
    "sustainability": "relative error of every layer under every perturber",
    "sustainability_lists": "the most vulnerable layers of every checkpoint, over eta",
    "sustainability_agreement": "how far these lists agree over seeds, epochs and perturbers",
}


def tables(*, probes: Iterable[str], lists: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Of files of every analysed checkpoint."""
    of_probes, of_lists = gather(probes), gather(lists)
    return {
        "sustainability": of_probes,
        "sustainability_lists": of_lists,
        "sustainability_agreement": agreement(of_lists, of_probes),
    }
