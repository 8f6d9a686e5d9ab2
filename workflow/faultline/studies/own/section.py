"""The report's section on ablations of the user's own. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from faultline.report import canvas, page
from faultline.studies.own import figures as draw

if TYPE_CHECKING:
    from faultline.studies.config import Config


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """What ablations of the user's own change."""
    confidence = config.scores.confidence

    def block(index: int, heading: str, part: pd.DataFrame) -> page.Block:
        rows, notes = len(draw.rows(part)), []
        if rows > draw.MAX_ROWS:
            notes.append(
                f"The {draw.MAX_ROWS} of {rows} variants with the largest changes are shown; "
                "all are in ablations.tsv."
            )
        epoch = part["epoch"].max()
        figure = page.figure(
            draw.changes(part),
            name=f"own-{index}",
            alt=f"Change of accuracy under {heading}, by layer and variant",
            caption=f"{heading} at epoch {epoch}: accuracy minus that of the whole network. "
            f"{page.n(part, config.ablation.split)}; dot: one seed; bar: {confidence:.0%} interval "
            "over images, paired.",
            read="Left of the line accuracy is lost. A bar that reaches over the line does not "
            "tell the variant from the whole network; bars are not corrected for their number.",
        )
        columns = {
            **page.same("layer", "variant", "images", "seed"),
            "accuracy": ("accuracy", page.percent),
            "whole network": ("base_accuracy", page.percent),
            "difference (points)": ("difference", page.points),
            f"{confidence:.0%} interval": ("ci_low", "ci_high", page.interval),
            "p (McNemar)": ("p_value", page.small),
            "corrected": ("q_value", page.small),
            "n": "n",
        }
        table = page.table("Every variant", part, columns, source="ablations.tsv")
        return page.block(heading, figures=[figure], notes=notes, tables=[table])

    functions = [f"{name} ({of.function})" for name, of in config.ablations.items()]
    return page.Section(
        "own",
        "Ablations of your own",
        intro=f"Each variant that these functions yield, one layer at a time: "
        f"{page.listed(functions)}.",
        blocks=[block(i, *of) for i, of in enumerate(_parts(tables["ablations"]))],
        needs="ablations",
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """(heading, text) of what was found, for the top of the report."""
    for heading, part in _parts(tables["ablations"]):
        clean = part[part["images"] == "clean"]
        seeds = clean["seed"].nunique()
        level = 1 - config.scores.confidence
        sure = clean.assign(lost=(clean["difference"] < 0) & (clean["q_value"] < level))
        groups = sure.groupby(["layer", "variant"], sort=False)
        lost = groups["lost"].all().sum()
        mean = groups["difference"].mean()
        layer, variant = mean.idxmin()
        every = f"in every one of {seeds} seeds" if seeds > 1 else "in the one seed"
        yield (
            heading,
            f"{lost} of {page.count(mean, 'variant')} cost clean accuracy, {every} (p-values "
            f"corrected, below {level:g}); the lowest difference is "
            f"{page.points(mean.min())} points ({variant} in {layer}).",
        )


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each ablation of each run, at its last epoch."""
    for run, of_run in page.runs(table):
        for name, part in of_run.groupby("ablation", sort=False):
            yield f"{name}, {run}", canvas.last_epoch(part)
