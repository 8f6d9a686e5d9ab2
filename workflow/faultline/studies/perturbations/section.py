"""The report's section on random internal perturbations. No torch."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.studies.perturbations import figures as draw
from faultline.studies.perturbations.scores import KNOCKED_OUT, LOSS


def section(tables: dict[str, pd.DataFrame], config: dict) -> dict:
    """The section; tables as in `TABLES`."""
    settings, confidence = config["perturbations"], config["scores"]["confidence"]
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["perturbations"])):
        last = canvas.last_epoch(part)
        first_best = last[last["top"] == 1]
        headline, losses, depth = (
            page.of(tables[f"perturbation_{name}"], last, [*RUN, "epoch"])
            for name in ("headline", "layers", "depth")
        )
        figures, notes = [], _nonfinite(first_best)
        what = f"{run} at epoch {last['epoch'].max()}"
        n = f"{page.n_ablated(last, config)}, {last['repeats'].max()} draws of each"
        if len(headline):
            figures.append(
                page.figure(
                    draw.knockout_headline(
                        headline[headline["top"] == 1], almost_chance=settings["almost_chance"]
                    ),
                    name=f"knockout-{index}",
                    alt=f"Relative performance of {what} with most synapses of one layer removed",
                    caption=f"{KNOCKED_OUT:.0%} of the weights of one layer removed at random. "
                    f"{n}; dot: one seed; bar: {confidence:.0%} interval over draws and images.",
                    read="The claim for a top conv or dense layer is that it lies right of the "
                    "dotted line, for the first conv that it lies left of the dashed one. Where "
                    "the bar crosses the line, that is undecided.",
                )
            )
        for images, shown in first_best.groupby("images", sort=False):
            if shown["value"].isna().all():
                notes.append(
                    f"{images}: the unperturbed network is not above chance, so nothing is told."
                )
                continue
            figures += _figures(shown, f"{index}-{images}", f"{what}, {images} images", n)
        tables_ = [
            _headline_table(headline, confidence),
            _depth_table(depth),
            _loss_table(losses, confidence),
        ]
        blocks.append(page.block(run, figures=figures, notes=notes, tables=tables_))
    return page.section(
        "perturbations",
        "Random internal perturbations",
        intro="What is left of the accuracy when one layer at a time, weights and biases apart, is "
        "perturbed at random (Cheney et al. 2017)? Relative performance: 1 is the unperturbed "
        "network, 0 a guess.",
        method="synapse_knockout sets entries to 0, node_knockout whole filters or other "
        "units, gaussian adds noise, resample puts values of the tensor in place of others"
        f"{_FLIPS if 'bit_flip' in settings['kinds'] else ''}. Relative performance is "
        "(accuracy - chance) / (base - chance). Ours: the "
        f"number of draws ({settings['repeats']}), almost chance "
        f"({settings['almost_chance']:g}), and which layers are first and last (within "
        f"{settings['ends']:g} of the depth from either end).",
        blocks=blocks,
        needs="perturbations.layers, perturbations.epochs",
    )


def findings(tables: dict[str, pd.DataFrame], config: dict) -> Iterator[tuple[str, str]]:
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
            f"at chance)? Counting each layer of each seed: {said}.",
        )


_SEEN = ["yes", "no", "undecided", "undefined"]

_FLIPS = "; ours: bit_flip flips one random bit of the float32 of entries"


def _nonfinite(curves: pd.DataFrame) -> list[str]:
    """In how many draws flipped bits gave an output that is no finite number."""
    drawn = curves[(curves["kind"] == "bit_flip") & (curves["strength"] > 0)]
    counts = [
        f"{part['nonfinite'].sum():.0f} of {part['repeats'].sum()} draws ({images} images)"
        for images, part in drawn.groupby("images", sort=False)
    ]
    said = "some output was infinite or NaN, which counts as misclassified"
    return [f"bit_flip: in {', '.join(counts)} {said}."] if counts else []


def _figures(shown: pd.DataFrame, name: str, what: str, n: str) -> list[dict]:
    return [
        page.figure(
            draw.perturbation_curves(shown),
            name=f"perturbations-{name}",
            alt=f"Relative performance of {what}, over the strength of perturbations, by layer",
            caption=f"{what}. {n}; line: mean over draws and seeds; band: standard deviation over "
            "draws.",
            read="Dark lines are layers near the input, bright ones near the output. A line that "
            "stays up is a layer that the network can lose much of; 0 is a guess.",
        ),
        page.figure(
            draw.perturbation_map(shown),
            name=f"perturbation-map-{name}",
            alt=f"Relative performance of {what}, layers against strength of perturbations",
            caption=f"{what}. {n}; mean over draws and seeds.",
            read="A row is a layer, from input to output; the sooner it darkens, the more "
            "sensitive is the layer.",
        ),
    ]


def _tops(table: pd.DataFrame) -> pd.Series:
    """Image sets in words."""
    return table["images"] + np.where(table["top"] > 1, ", top-" + table["top"].astype(str), "")


def _what(table: pd.DataFrame) -> pd.Series:
    parameter = table["parameter"]
    return table["kind"] + (", " + parameter).where(parameter != "both", "")


def _headline_table(table: pd.DataFrame, confidence: float) -> dict | None:
    if not len(table):
        return None
    columns = {
        "layer": table["role"] + ": " + table["layer"],
        "images": _tops(table),
        "seed": "seed",
        "relative performance": ("value", page.number),
        f"{confidence:.0%} interval": ("ci_low", "ci_high", page.bracket),
        "claim": "claim",
        "seen": "seen",
        "n": "n",
    }
    title = f"The claim of Cheney et al. 2017 at {KNOCKED_OUT:.0%} of the synapses"
    return page.table(title, table, columns, shown=True, source="perturbation_headline.tsv")


def _depth_table(table: pd.DataFrame) -> dict | None:
    if not len(table):
        return None
    columns = {
        "perturbation": _what(table),
        "images": _tops(table),
        "seed": "seed",
        "first layers keep": ("first_mean", page.number),
        "last layers keep": ("last_mean", page.number),
        "a last one keeps more": ("value", page.percent),
        "p (Mann-Whitney, uncorrected)": ("p_value", page.small),
        "layers": table["first_layers"].astype(str) + " and " + table["last_layers"].astype(str),
    }
    title = "Do later layers keep more? Mean relative performance over the strengths"
    return page.table(title, table, columns, source="perturbation_depth.tsv")


def _loss_table(table: pd.DataFrame, confidence: float) -> dict | None:
    if not len(table):
        return None
    lost = [
        f"{at:.2f}" if not np.isnan(at) else "n/a" if np.isnan(value) else f"not up to {most:g}"
        for at, value, most in table[["loss_strength", "value", "largest"]].to_numpy()
    ]
    columns = {
        "layer": "layer",
        "perturbation": _what(table),
        "images": _tops(table),
        "seed": "seed",
        "mean over strengths": ("value", page.number),
        f"{confidence:.0%} interval": ("ci_low", "ci_high", page.bracket),
        f"{LOSS:.0%} lost at": lost,
    }
    return page.table("Every layer", table, columns, source="perturbation_layers.tsv")
