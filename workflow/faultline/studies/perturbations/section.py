"""The report's section on random internal perturbations. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.studies.perturbations import figures as draw
from faultline.studies.perturbations.scores import KNOCKED_OUT, LOSS

if TYPE_CHECKING:
    from faultline.studies.config import Config


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """What random perturbations of each layer cost."""
    settings, confidence = config.perturbations, config.scores.confidence

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        last = canvas.last_epoch(part)
        first_best = last[last["top"] == 1]
        headline, losses, depth = (
            page.of(tables[f"perturbation_{name}"], last, [*RUN, "epoch"])
            for name in ("headline", "layers", "depth")
        )
        figures, notes = [], _nonfinite(first_best)
        what = f"{run} at epoch {last['epoch'].max()}"
        n = f"{page.n(last, config.ablation.split)}, {last['repeats'].max()} draws of each"
        if len(headline):
            figures.append(
                page.figure(
                    draw.knockout_headline(
                        headline[headline["top"] == 1], almost_chance=settings.almost_chance
                    ),
                    name=f"knockout-{index}",
                    alt=f"Relative performance of {what} with most synapses of one layer removed",
                    caption=f"{KNOCKED_OUT:.0%} of the weights of one layer removed at random. "
                    f"{n}; dot: one seed; bar: {confidence:.0%} interval over draws and images.",
                    read="The claim for a top conv or dense layer is that it lies right of the "
                    "dotted line, for the first conv that it lies left of the dashed one. Where "
                    "the bar crosses the line, that is undecided, as it is where q says so, which "
                    "is corrected for all these claims (Benjamini-Hochberg).",
                )
            )
        for images, rows in first_best.groupby("images", sort=False):
            if rows["value"].isna().all():
                notes.append(
                    f"{images}: the unperturbed network is not above chance, so nothing is told."
                )
                continue
            figures += _figures(rows, f"{index}-{images}", f"{what}, {images} images", n)
        shown = [_headline_table(headline, confidence), _depth_table(depth)]
        shown.append(_loss_table(losses, confidence))
        return page.block(run, figures=figures, notes=notes, tables=shown)

    return page.Section(
        "perturbations",
        "Random internal perturbations",
        intro="What is left of the accuracy when one layer at a time, weights and biases apart, is "
        "perturbed at random (Cheney et al. 2017)? Relative performance: 1 is the unperturbed "
        "network, 0 a guess.",
        method="synapse_knockout sets entries to 0, node_knockout whole filters or other units, "
        "gaussian adds noise, resample puts values of the tensor in place of "
        f"others{''.join(_OURS.get(kind, '') for kind in settings.kinds)}. Relative performance is "
        "(accuracy - chance) / (base - chance). Ours: the number of draws "
        f"({settings.repeats}), almost chance ({settings.almost_chance:g}), and which layers "
        f"are first and last (within {settings.ends:g} of the depth from either end).",
        blocks=page.by_run(tables["perturbations"], block),
        needs="perturbations.layers, perturbations.epochs",
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """(heading, text) of what was found, for the top of the report."""
    for run, part in page.runs(tables["perturbation_headline"]):
        last = canvas.last_epoch(part)
        clean = last[(last["images"] == "clean") & (last["top"] == 1)]
        if not len(clean):
            continue
        kept = [
            f"{role} {layer} {page.span(rows['value'])}"
            for (role, layer), rows in clean.groupby(["role", "layer"], sort=False)
        ]
        counts = clean["seen"].value_counts()
        said = ", ".join(f"{seen} for {counts[seen]}" for seen in _SEEN if seen in counts)
        yield (
            f"Knockouts, {run}",
            f"With {KNOCKED_OUT:.0%} of the weights of one layer removed, this much of the clean "
            f"performance above chance is left: {', '.join(kept)}. Is it as Cheney et al. 2017 "
            f"found (less than {LOSS:.0%} lost in top conv and dense layers, the first conv almost "
            f"at chance)? Counting each layer of each seed, corrected: {said}.",
        )


_SEEN = ["yes", "no", "undecided", "undefined"]

_OURS = {
    "bit_flip": "; ours: bit_flip flips one random bit of the float32 of entries",
    "bit_faults": "; ours: bit_faults flips every bit of the float32 of entries at a rate",
    "bit_faults_int8": "; ours: bit_faults_int8 the same of entries stored in int8, one scale for "
    "each channel",
}


def _nonfinite(curves: pd.DataFrame) -> list[str]:
    """In how many draws flipped bits gave an output that is no finite number."""
    drawn = curves[curves["kind"].isin(["bit_flip", "bit_faults"]) & (curves["strength"] > 0)]
    said = "some output was infinite or NaN, which counts as misclassified"
    notes = []
    for kind, of_kind in drawn.groupby("kind", sort=False):
        counts = [
            f"{part['nonfinite'].sum():.0f} of {part['repeats'].sum()} draws ({images} images)"
            for images, part in of_kind.groupby("images", sort=False)
        ]
        notes.append(f"{kind}: in {', '.join(counts)} {said}.")
    return notes


def _figures(curves: pd.DataFrame, name: str, what: str, n: str) -> list[page.Figure]:
    return [
        page.figure(
            draw.perturbation_curves(curves),
            name=f"perturbations-{name}",
            alt=f"Relative performance of {what}, over the strength of perturbations, by layer",
            caption=f"{what}. {n}; line: mean over draws and seeds; band: standard deviation over "
            "draws.",
            read="Dark lines are layers near the input, bright ones near the output. A line that "
            "stays up is a layer that the network can lose much of; 0 is a guess.",
        ),
        page.figure(
            draw.perturbation_map(curves),
            name=f"perturbation-map-{name}",
            alt=f"Relative performance of {what}, layers against strength of perturbations",
            caption=f"{what}. {n}; mean over draws and seeds.",
            read="A row is a layer, from input to output; the sooner it darkens, the more "
            "sensitive is the layer.",
        ),
    ]


def _images(name: str, top: int) -> str:
    """An image set in words."""
    return f"{name}, top-{top}" if top > 1 else name


def _what(kind: str, parameter: str) -> str:
    return kind if parameter == "both" else f"{kind}, {parameter}"


def _lost_at(strength: float, value: float, largest: float) -> str:
    if np.isnan(strength):
        return "n/a" if np.isnan(value) else f"not up to {largest:g}"
    return f"{strength:.2g}"


def _headline_table(table: pd.DataFrame, confidence: float) -> page.Table | None:
    columns = {
        "layer": ("role", "layer", "{}: {}".format),
        "images": ("images", "top", _images),
        "seed": "seed",
        "relative performance": ("value", page.number),
        f"{confidence:.0%} interval": ("ci_low", "ci_high", page.bracket),
        "q": ("q_value", page.small),
        **page.same("claim", "seen", "n"),
    }
    title = f"The claim of Cheney et al. 2017 at {KNOCKED_OUT:.0%} of the synapses"
    return page.table(title, table, columns, shown=True, source="perturbation_headline.tsv")


def _depth_table(table: pd.DataFrame) -> page.Table | None:
    columns = {
        "perturbation": ("kind", "parameter", _what),
        "images": ("images", "top", _images),
        "seed": "seed",
        "first layers keep": ("first_mean", page.number),
        "last layers keep": ("last_mean", page.number),
        "a last one keeps more": ("value", page.percent),
        "p (Mann-Whitney)": ("p_value", page.small),
        "q": ("q_value", page.small),
        "layers": ("first_layers", "last_layers", "{} and {}".format),
    }
    title = "Do later layers keep more? Mean relative performance over the strengths"
    return page.table(title, table, columns, source="perturbation_depth.tsv")


def _loss_table(table: pd.DataFrame, confidence: float) -> page.Table | None:
    columns = {
        "layer": "layer",
        "perturbation": ("kind", "parameter", _what),
        "images": ("images", "top", _images),
        "seed": "seed",
        "mean over strengths": ("value", page.number),
        f"{confidence:.0%} interval": ("ci_low", "ci_high", page.bracket),
        f"{LOSS:.0%} lost at": ("loss_strength", "value", "largest", _lost_at),
    }
    return page.table("Every layer", table, columns, source="perturbation_layers.tsv")
