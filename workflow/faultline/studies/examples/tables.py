"""The tables of examples."""

import pandas as pd

from faultline.base.paths import gather


def tables(given) -> dict[str, pd.DataFrame]:
    """given.examples, .lost: files of one checkpoint of each network on each data set."""
    return {"examples": gather(given.examples), "lost_images": gather(given.lost)}
