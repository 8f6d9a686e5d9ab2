"""The tables of examples."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather

TABLES = {
    "examples": "a few test images and their adversarial versions, with what is predicted",
    "lost_images": "images that are right, and wrong without one of the most fragile filters",
}


def tables(*, examples: Iterable[str], lost: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Of files of one checkpoint of each network on each data set."""
    return {"examples": gather(examples), "lost_images": gather(lost)}
