"""Robustness of trainings over seeds: accuracy over eps, R&G score, and what regularising adds.

The R&G score of Khalooei et al. 2022 is the sum of the accuracies in % over the eps grid, eps 0
included. Everything here is in %, or points of it; intervals are Student's t over seeds, cut to
what is possible, and NaN where all seeds are equal. No torch.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from faultline.base.columns import RUN
from faultline.base.statistics import (
    benjamini_hochberg,
    detectable_difference,
    mean_interval,
    mean_p_value,
)

CHECKPOINT = [*RUN, "epoch"]

WHAT = ["attack", "eps"]


def rg_scores(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table of accuracies in %, and one of the R&G score per checkpoint and attack,
    whose eps is "rg_score". Columns: checkpoint, seed, attack, eps (text), value, highest (that it
    can be), n."""
    columns = [*CHECKPOINT, "seed", *WHAT, "value", "highest", "n"]
    if not len(accuracy):
        return pd.DataFrame(columns=columns)
    each = accuracy.assign(value=100 * accuracy["accuracy"], highest=100.0)
    total = each.groupby([*CHECKPOINT, "seed", "attack"], sort=False, as_index=False).agg(
        value=("value", "sum"), highest=("highest", "sum"), n=("n", "first")
    )
    each["eps"] = [f"{eps:g}" for eps in each["eps"]]
    return pd.concat([each[columns], total.assign(eps="rg_score")[columns]], ignore_index=True)


def over_seeds(
    scores: pd.DataFrame,
    published: Sequence[Mapping] = (),
    *,
    beside: Collection[str] = (),
    confidence: float,
) -> pd.DataFrame:
    """One row per checkpoint, attack and eps: mean over seeds, ci_low, ci_high, std, seeds, n.

    scores: see `rg_scores`. published: rows {training, network or none for any, dataset,
    values: {eps (text) or "rg_score": value in %}}. They stand beside the attacks `beside`.
    """
    by_place = {
        (row["training"], row["network"], key): (value, row["dataset"])
        for row in published
        for key, value in row["values"].items()
    }
    nothing = np.nan, ""
    rows = []
    for key, part in scores.groupby([*CHECKPOINT, *WHAT], sort=False):
        head = dict(zip([*CHECKPOINT, *WHAT], key, strict=True))
        mean, *ends = mean_interval(part["value"], confidence=confidence)
        low, high = np.clip(ends, 0, part["highest"].min())
        place = head["training"], head["network"], head["eps"]
        reference = by_place.get(place, by_place.get((place[0], None, place[2]), nothing))
        value, dataset = reference if head["attack"] in beside else nothing
        rows.append(
            head
            | {
                "value": mean,
                "ci_low": low,
                "ci_high": high,
                "std": part["value"].std(ddof=1),
                "seeds": len(part),
                "n": part["n"].iloc[0],
                "published": value,
                "published_dataset": dataset,
            }
        )
    columns = ["value", "ci_low", "ci_high", "std", "seeds", "n", "published", "published_dataset"]
    return pd.DataFrame(rows, columns=[*CHECKPOINT, *WHAT, *columns])


def differences(
    scores: pd.DataFrame, bases: Mapping[str, str], *, confidence: float
) -> pd.DataFrame:
    """Each regularised training less its base, paired by seed, at the same epoch, attack and eps.

    scores: see `rg_scores`; bases: training -> its base. Columns: base, base_value, value (points,
    mean over seeds), ci_low, ci_high, p_value (t test over seeds, two-sided), q_value (adjusted
    for the trainings compared at this data set, network, epoch, attack and eps), detectable (see
    `detectable_difference`; at the level over their number, as for a lone difference; infinite
    where no value can differ by as much from that of the base), floor (both have no image correct
    in any seed, which tells nothing of them), seeds.
    """
    rows, changes, possible = [], [], []
    keys = ["dataset", "network", "epoch", *WHAT]
    for training, base in bases.items():
        pairs = scores[scores["training"] == training].merge(
            scores[scores["training"] == base], on=[*keys, "seed"], suffixes=("", "_base")
        )
        for key, part in pairs.groupby(keys, sort=False):
            change = (part["value"] - part["value_base"]).to_numpy()
            mean, *ends = mean_interval(change, confidence=confidence)
            highest = part["highest"].min()
            low, high = np.clip(ends, -highest, highest)
            before = part["value_base"].mean()
            changes.append(change)
            possible.append(max(before, highest - before))
            rows.append(
                dict(zip(keys, key, strict=True))
                | {
                    "training": training,
                    "base": base,
                    "base_value": before,
                    "value": mean,
                    "ci_low": low,
                    "ci_high": high,
                    "p_value": mean_p_value(change),
                    "floor": not part[["value", "value_base"]].any(axis=None),
                    "seeds": len(change),
                }
            )
    columns = ["base", "base_value", "value", "ci_low", "ci_high", "p_value", "q_value"]
    columns += ["detectable", "floor", "seeds"]
    table = pd.DataFrame(rows, columns=[*CHECKPOINT, *WHAT, *columns])
    if len(table):
        families = table.groupby(keys, sort=False)["p_value"]
        table["q_value"] = families.transform(benjamini_hochberg)
        levels = (1 - confidence) / families.transform("count").clip(lower=1)
        table["detectable"] = [
            detectable_difference(change, confidence=1 - level)
            for change, level in zip(changes, levels, strict=True)
        ]
        table.loc[table["detectable"] > possible, "detectable"] = np.inf
    return table
