"""The layers of a network before and after it was mended."""

from collections import Counter

import pandas as pd

from faultline.report import page

AS_GIVEN = ("value", "ci_low", "ci_high", "class", "decided")


def before_after(given: pd.DataFrame, mended: pd.DataFrame, *, attack: str) -> pd.DataFrame:
    """A row per seed and layer that was swept twice: the score under the attack (S_clean where
    there is none), interval and class, and those after, as `mended_value` and so on.

    given: rows of the table of layers, mended: of that of mended layers, of one data set, network
    and training.
    """
    sides = []
    for table in (given, mended):
        if not len(table):
            return pd.DataFrame()
        table = table[(table["scope"] == "local") & (table["filter"] == "combined")]
        under = table[(table["score"] == "S_adv") & (table["attack"] == attack)]
        sides.append(under if len(under) else table[table["score"] == "S_clean"])
    keys = ["seed", "epoch", "layer", "score", "attack"]
    parts = [side[[*keys, *AS_GIVEN, "n"]] for side in sides]
    columns = {name: f"mended_{name}" for name in AS_GIVEN}
    return parts[0].merge(parts[1].drop(columns="n").rename(columns=columns), on=keys)


def sentence(rows: pd.DataFrame) -> str:
    """What became of the layers that were fragile, and which became so; of those that are decided
    before and after alone. "" without rows."""
    if not len(rows):
        return ""
    decided = rows[rows["decided"].astype(bool) & rows["mended_decided"].astype(bool)]
    before, after = (decided[name] == "fragile" for name in ("class", "mended_class"))
    groups = {
        "ceased to be fragile": decided[before & ~after],
        "became fragile": decided[~before & after],
        "stayed fragile": decided[before & after],
    }
    told = [f"{_named(part, rows)} {what}" for what, part in groups.items()]
    if not (before | after).any():
        told = ["none is fragile, before or after"]
    first = rows.iloc[0]
    score = first["score"] + ("" if first["attack"] == "none" else f" ({first['attack']})")
    left = len(rows) - len(decided)
    more = f"; {left} of {len(rows)} not decided on both sides" if left else ""
    return f"Layers by {score} after the mend: {'; '.join(told)}{more}."


def _named(part: pd.DataFrame, rows: pd.DataFrame) -> str:
    """The layers of some rows, in the order of all, and in how many seeds where not in all."""
    counts, seeds = Counter(part["layer"]), rows["seed"].nunique()
    names = (
        name + ("" if counts[name] == seeds else f" ({counts[name]} of {seeds} seeds)")
        for name in rows["layer"].unique()
        if counts[name]
    )
    return page.listed(names) or "none"
