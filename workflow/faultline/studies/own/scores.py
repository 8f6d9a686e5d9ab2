"""What an ablation changed, of the user's own or any other."""

import pandas as pd

from faultline.ablation.facts import CHANGES, Facts
from faultline.base.inputs import check_number
from faultline.base.statistics import mcnemar, paired_difference_interval


def accuracy_changes(facts: Facts, *, confidence: float) -> pd.DataFrame:
    """Accuracy of every variant less that of the base network: one row per variant x image set.

    Columns: variant (its columns as a text), those columns, and CHANGES: difference with the paired
    interval of Agresti & Min 2005 and McNemar's p-value, exact (by strata: `Strata.change`);
    changed_outputs, images with other logits. Shares, but for the counts. Where images were drawn
    by strata, the last column is stands_for.
    """
    check_number(confidence, "confidence, a share such as 0.95", high=1.0, open=True)
    columns = facts.variants
    text = [
        ", ".join(
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in one
        )
        for one in (
            zip(columns, values, strict=True)
            for values in zip(*(column.tolist() for column in columns.values()), strict=True)
        )
    ]
    tables = []
    for images, base in facts.base.items():
        correct, n = facts.correct[images], len(base)
        if facts.strata:
            change = facts.strata.change(base & ~correct, ~base & correct, confidence=confidence)
        else:
            gained, lost = (correct & ~base).sum(1), (~correct & base).sum(1)
            difference = paired_difference_interval(gained, lost, n, confidence=confidence)
            change = *difference, mcnemar(gained, lost)
        mean = facts.design.mean
        numbers = [correct.sum(1), n, mean(correct), mean(base), *change, facts.changed[images]]
        changes = dict(zip(CHANGES, [images, *numbers], strict=True))
        table = pd.DataFrame({"variant": text, **columns})
        whole = dict.fromkeys(table.select_dtypes("integer"), "Int64")  # also beside missing ones
        tables.append(table.astype(whole).assign(**changes, **facts.stands_for))
    return pd.concat(tables, ignore_index=True)
