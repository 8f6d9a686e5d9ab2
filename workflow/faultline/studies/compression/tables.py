"""The tables of compression."""

from collections.abc import Iterable

import pandas as pd

from faultline.base.paths import gather

TABLES = {
    "compression": "what fewer bits or weights of each layer alone cost, on validation images",
    "compressed": "the same of all layers together, and of those that stand it, on test images",
}


def tables(*, alone: Iterable[str], together: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Files of every checkpoint."""
    return {"compression": gather(alone), "compressed": gather(together)}
