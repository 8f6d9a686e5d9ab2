"""The tables of examples."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather


def tables(*, examples: Iterable[str], lost: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Of files of one checkpoint of each network on each data set."""
    return {"examples": gather(examples), "lost_images": gather(lost)}
