"""What stands fewer bits or fewer weights, for the report. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from faultline.base.columns import RUN
from faultline.base.paths import CHECKPOINT
from faultline.report import canvas, page
from faultline.studies.compression import figures as draw
from faultline.studies.compression.names import ALL, SAFE
from faultline.studies.compression.verdicts import agreed

if TYPE_CHECKING:
    from faultline.studies.config import Config


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """Each layer alone, then all together, run by run, at the last epoch."""
    settings, confidence = config.compression, f"{config.scores.confidence:.0%}"
    limit = f"{100 * settings.loss:g} points"

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        part = canvas.last_epoch(part)
        whole = page.of(tables["compressed"], part, [*RUN, "epoch"])
        at = f"{run} at epoch {part['epoch'].iloc[0]}"
        together = page.figure(
            draw.together_chart(whole, loss=settings.loss),
            name=f"compressed-{index}",
            alt=f"What fewer bits or weights of {run} cost, all layers together",
            caption=f"{at}, compressed as a whole: clean accuracy minus that of the network as it "
            f"is. {page.n(whole)}; bars: {confidence} intervals that hold for all of a network at "
            "once; in brackets the mean bits of a weight.",
            read=f"A network is safe where its bar ends right of the dotted line, at {limit}; "
            "costly where it ends left of it. Validation images said which layers these are; test "
            "images, which chose nothing, judge.",
        )
        alone = page.figure(
            draw.alone_map(part, loss=settings.loss),
            name=f"compression-{index}",
            alt=f"What fewer bits or weights of each layer of {run} cost",
            caption=f"{at}, one layer at a time: points of clean accuracy. "
            f"{page.n(part, 'validation')}.",
            read="A row is a layer, a column what becomes of its weights: rounded to so many bits, "
            "or a share of them, the smallest, set to 0. Grey is safe, orange costly; pale ones "
            "are not decided in every seed.",
        )
        common = {
            "minus the network as it is (points)": ("difference", page.points),
            f"{confidence} interval": ("ci_low", "ci_high", page.interval),
            "for all at once": ("family_low", "family_high", page.interval),
            **page.same("verdict", "n"),
        }
        columns = {
            **page.same("form", "compressed"),
            "layers": ("layers", "of", "{} of {}".format),
            "bits per weight": ("bits_per_weight", "{:.3g}".format),
            "seed": "seed",
            "accuracy": ("accuracy", page.percent),
            **common,
            "written": ("written", page.yes),
        }
        shown = [page.table("Together", whole, columns, shown=True, source="compressed.tsv")]
        shown.append(
            page.table(
                "Each layer alone",
                part,
                {**page.same("layer", "form", "seed", "weights"), **common},
                source="compression.tsv",
            )
        )
        return page.block(run, figures=[together, alone], tables=shown)

    scale = "each unit of a layer has" if settings.scales == "channel" else "each layer has"
    others = "biases and activations stay"
    if settings.inputs:
        others = (
            "biases stay. What goes into a layer is rounded where a form says so, to values evenly "
            "between the lowest and the highest that validation images show"
        )
    return page.Section(
        "compression",
        "Fewer bits, fewer weights",
        intro="Which layers can be stored in fewer bits, or lose their smallest weights, without "
        f"losing {limit} of clean accuracy; and are layers that are safe alone safe in company?",
        method=f"Weights are rounded, symmetric about 0; {scale} a scale of its own; "
        f"{others}. A layer is safe alone where the interval that holds for all layers and "
        "forms at once lies below that loss. Of the safe ones those that cost most are left out "
        "until the rest is safe together on validation images; what is then left is judged on test "
        "images. precision.json beside the checkpoint says the smallest network that is safe "
        "there, layer by layer, for the tool that makes it.",
        blocks=page.by_run(tables["compression"], block),
        needs="compression.layers",
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """What can be smaller, alone and together."""
    for run, part in page.runs(tables["compression"]):
        part = canvas.last_epoch(part)
        whole = page.of(tables["compressed"], part, [*RUN, "epoch"])
        said = []
        for form, rows in part.groupby("form", sort=False):
            verdicts = [agreed(of) for _, of in rows.groupby("layer", sort=False)]
            of = whole[(whole["form"] == form) & (whole["compressed"] == ALL)]
            said.append(
                f"{form}: {verdicts.count(SAFE)} of {page.count(verdicts, 'layer')} safe alone, "
                f"all together {agreed(of)} ({page.points(of['difference'].mean())})"
            )
        seeds = page.count(part["seed"].unique(), "seed")
        yield (
            f"Fewer bits and weights, {run}",
            f"{'; '.join(said)} points of clean accuracy, {seeds}.",
        )


def advice(tables: dict[str, pd.DataFrame], run: pd.DataFrame, config: Config) -> Iterator[tuple]:
    """(what to do, because of what, where that is shown): the smallest network that is safe."""
    rows = page.of(tables["compressed"], run)
    if not len(rows):
        return
    rows = canvas.last_epoch(rows)
    for row in rows[rows["written"].astype(bool)].to_dict("records"):
        file = f"{config.results}/{CHECKPOINT.format(**row)}/compression/precision.json"
        cost = f"{page.points(row['difference'])} "
        cost += page.interval(row["family_low"], row["family_high"])
        yield (
            f"store {row['layers']} of {row['of']} layers as {file} says",
            f"together {row['bits_per_weight']:.3g} bits a weight cost {cost} points of clean "
            f"accuracy (n = {row['n']:,} test images)",
            "compression",
        )
