"""Scores under transfer beside those of adversarial images re-crafted on each ablated network."""

import pandas as pd

from faultline.base.columns import CLASSES, PLACE, transfer

_JUDGED = ["value", "ci_low", "ci_high", "class", "decided"]


def pairs(table: pd.DataFrame, attack: str) -> pd.DataFrame:
    """S_adv of every unit (layer, combined over the synaptic filters; or pulse band) under an
    attack re-crafted on each ablated network, and of the same unit under its transfer.

    table: of classified layers or bands. Columns: those that name the unit, n, tau, and value,
    ci_low, ci_high, class and decided, as they are and as <column>_transfer.
    """
    rows = table[table["score"] == "S_adv"]
    unit = [*PLACE, "layer"]
    if "band" in rows:
        unit.append("band")
    else:
        rows = rows[(rows["scope"] == "local") & (rows["filter"] == "combined")]
    once = rows.loc[rows["attack"] == transfer(attack), unit + _JUDGED]
    beside = ["n", *(["stands_for"] if "stands_for" in rows else []), "tau"]
    anew = rows.loc[rows["attack"] == attack, [*unit, *beside, *_JUDGED]]
    return anew.merge(once, on=unit, suffixes=("", "_transfer"), validate="one_to_one")


def moves(pairs: pd.DataFrame) -> pd.DataFrame:
    """Counts of units: a row per class under transfer (column "transfer") that there is, a column
    per class when re-crafted, and "units", their sum."""
    counts = pd.crosstab(pairs["class_transfer"], pairs["class"])
    there = [name for name in CLASSES if name in counts.index]
    counts = counts.reindex(index=there, columns=list(CLASSES), fill_value=0)
    counts.insert(0, "units", counts.sum(axis=1))
    return counts.rename_axis(index="transfer", columns=None).reset_index()
