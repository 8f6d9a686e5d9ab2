"""What is left under stresses, for the report. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.studies.stresses.figures import severity_curves
from faultline.studies.stresses.names import ALL

if TYPE_CHECKING:
    from faultline.studies.config import Config

FEW = 4
"""Of so many stresses, their mean counted, the page tells in its appendix."""


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """Accuracy over severities, run by run, at the last epoch."""
    losses, confidence = tables["stress_losses"], f"{config.scores.confidence:.0%}"

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        part = canvas.last_epoch(part)
        figure = page.figure(
            severity_curves(part),
            name=f"stresses-{index}",
            alt=f"Accuracy of {run} under stresses of growing severity",
            caption=f"{run} at epoch {part['epoch'].iloc[0]}: accuracy on test images under each "
            f"stress. {page.n(part)}; thick: mean over seeds, thin: each seed.",
            read="The lines start at the images as they are (severity 0); the sooner one falls, "
            "the worse the network stands that stress. The first panel costs most.",
        )
        costs = _whole(page.of(losses, part, [*RUN, "epoch"]))
        shown: dict[str, Any] = {
            "stress": "stress",
            "accuracy": ("accuracy", page.percent),
            "minus the images as they are (points)": ("difference", page.points),
            f"{confidence} interval over images": ("image_ci_low", "image_ci_high", page.interval),
            "over seeds": ("ci_low", "ci_high", page.interval),
            "q": ("q_value", page.small),
            "would be told from": ("detectable", page.detectable),
            **page.same("seeds", "n"),
        }
        costs = costs.sort_values("difference", kind="stable")
        numbers = page.table("What each costs", costs, shown, source="stress_losses.tsv")
        moved = tables["stress_sets"]
        moved = moved[moved["dataset"] == part["dataset"].iloc[0]] if len(moved) else moved
        columns: dict[str, Any] = {
            **page.same("stress", "severity"),
            "a value moves by": ("moved", page.number),
            "to the end of its range": ("saturated", page.percent),
        }
        far = page.table("How far it moves the images", moved, columns, source="stress_sets.tsv")
        return page.block(run, figures=[figure], tables=[numbers, far])

    return page.Section(
        "stresses",
        "Under other stresses",
        intro="Accuracy under what no one aims at the network: noise, blur, weather, other "
        "cameras, or what the config names. All networks see the same images.",
        method="Severities are those of Hendrycks and Dietterich (2019), made for photographs of "
        "224 pixels and harder on smaller ones. What a stress costs is the mean over its "
        "severities, paired image by image with the images as they are; a further test set is "
        "compared as images of its own (Newcombe 1998; Fisher's test). Corrected for all "
        "(Benjamini-Hochberg).",
        blocks=page.by_run(tables["stresses"], block),
        needs="stresses, datasets.*.also",
        folded=not len(losses) or losses["stress"].nunique() <= FEW,
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """What costs most, and all in the mean."""
    for run, part in page.runs(tables["stress_losses"]):
        part = _whole(canvas.last_epoch(part)).sort_values("difference", kind="stable")
        further = {name for dataset in config.datasets.values() for name in dataset.also}
        made = part[~part["stress"].isin([ALL, *further])]
        said = [f"{row['stress']} costs most: {_cost(row)}" for _, row in made.head(1).iterrows()]
        if len(mean := part[part["stress"] == ALL]):
            said.append(f"the mean of {len(made)} stresses, {_cost(mean.iloc[0])}")
        others = part[part["stress"].isin(further)]
        said += [f"on {row['stress']} {_cost(row)}" for _, row in others.iterrows()]
        worst = part.iloc[0]
        seeds = page.count(range(int(worst["seeds"])), "seed")
        yield (
            f"Under other stresses, {run}",
            f"{'; '.join(said)} (mean over severities, minus the images as they are; "
            f"{config.scores.confidence:.0%} interval over {worst['n']:,} test images, {seeds}).",
        )


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["level"] == "all seeds"] if len(table) else table


def _cost(row: pd.Series) -> str:
    ends = row["image_ci_low"], row["image_ci_high"]
    between = page.interval(*ends) if np.isfinite(ends).all() else ""
    left, cost = page.percent(row["accuracy"]), page.points(row["difference"])
    return f"{left} left, {cost} points {between}".strip()
