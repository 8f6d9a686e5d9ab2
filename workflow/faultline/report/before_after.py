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
    """What became of the layers that were fragile, and which are so now; of classes that are
    decided. "" without rows."""
    if not len(rows):
        return ""
    was, now = (rows[name] == "fragile" for name in ("class", "mended_class"))
    sure, still_sure = (rows[name].astype(bool) for name in ("decided", "mended_decided"))
    before, after = was & sure, now & still_sure
    groups = {
        "ceased to be fragile": before & ~now & still_sure,
        "stayed fragile": before & after,
        "no longer decided": before & ~still_sure,
        "became fragile": after & ~was & sure,
        "fragile now, not decided before": after & ~sure,
    }
    told = [f"{_named(rows[where], rows)} {what}" for what, where in groups.items() if where.any()]
    first = rows.iloc[0]
    score = first["score"] + ("" if first["attack"] == "none" else f" ({first['attack']})")
    return f"After the mend, by {score}: {'; '.join(told) or 'no layer is fragile, nor was'}."


def _named(part: pd.DataFrame, rows: pd.DataFrame) -> str:
    """The layers of some rows, in the order of all, and in how many seeds where not in all."""
    counts, seeds = Counter(part["layer"]), rows["seed"].nunique()
    names = (
        name + ("" if counts[name] == seeds else f" ({counts[name]} of {seeds} seeds)")
        for name in rows["layer"].unique()
        if counts[name]
    )
    return page.listed(names)
