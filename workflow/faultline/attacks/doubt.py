"""Whether accuracies under attack are to be believed, by the tables of a run. No torch."""

from collections.abc import Mapping

import pandas as pd

from faultline.attacks.checks import masked
from faultline.base.columns import RUN


def doubt(
    tables: Mapping[str, pd.DataFrame], part: pd.DataFrame, made: pd.DataFrame | None = None
) -> str:
    """`masked` of the checkpoints that rows of one run are of, in any seed, and of the networks
    made of them; "" where the accuracy under attack of all of these may be believed.

    part: rows of one data set, network and training. made: rows of the networks, with a column
    `masked`.
    """
    checks = tables.get("checks", pd.DataFrame())
    if len(checks):
        alike = (checks[RUN] == part.iloc[0][RUN]).all(axis=1)
        checks = checks[alike & checks["epoch"].isin(part["epoch"])]
    texts = [masked(checks.to_dict("records"))]
    if made is not None and "masked" in made:
        texts += made["masked"].dropna().tolist()
    return next(filter(None, texts), "")


def believed(rows: pd.DataFrame, why: str) -> pd.DataFrame:
    """The rows of image sets whose accuracy is to be believed: clean images alone under a doubt."""
    return rows[rows["images"] == "clean"] if why else rows
