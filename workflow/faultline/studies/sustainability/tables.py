"""The tables of layer sustainability."""

import pandas as pd

from faultline.base.paths import gather
from faultline.studies.sustainability.lists import agreement


def tables(given) -> dict[str, pd.DataFrame]:
    """given.probes, .lists: files of every analysed checkpoint."""
    probes, lists = gather(given.probes), gather(given.lists)
    return {
        "sustainability": probes,
        "sustainability_lists": lists,
        "sustainability_agreement": agreement(lists, probes),
    }
