"""What is said of fewer bits and fewer weights, over seeds. No torch."""

import pandas as pd

from faultline.report.page import count, interval, points
from faultline.studies.compression.names import COSTLY, SAFE, UNDECIDED

CLASS = {SAFE: "robust", COSTLY: "fragile"}
"""Verdict -> the class that says as much, and has its colour."""


def agreed(rows: pd.DataFrame) -> str:
    """The verdict of all seeds; undecided where they differ."""
    verdicts = set(rows["verdict"])
    return verdicts.pop() if len(verdicts) == 1 else UNDECIDED


def likely(rows: pd.DataFrame, loss: float) -> str:
    """The class that says as much as the verdict; where that is undecided, as the mean does."""
    name = COSTLY if rows["difference"].mean() < -loss else SAFE
    return CLASS[agreed(rows) if agreed(rows) in CLASS else name]


def told(rows: pd.DataFrame) -> str:
    """The difference in points, of one seed with the interval that holds for all rows at once."""
    text = points(rows["difference"].mean())
    if len(rows) == 1:
        row = rows.iloc[0]
        text += f" {interval(row['family_low'], row['family_high'])}"
    return f"{text} points, {agreed(rows)}, n = {rows['n'].max():,}, {count(rows, 'seed')}"
