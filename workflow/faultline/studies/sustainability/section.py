"""The report's section on layer sustainability. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from faultline.report import canvas, page
from faultline.studies.sustainability import figures as draw
from faultline.studies.sustainability.lists import listed_layers

if TYPE_CHECKING:
    from faultline.studies.config import Config
    from faultline.studies.sustainability.config import Sustainability


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """Relative errors of the layers, and the most vulnerable ones."""
    settings, confidence = config.sustainability, config.scores.confidence
    eta = settings.eta

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        lists = page.of(tables["sustainability_lists"], part)
        last, epoch = canvas.last_epoch(part), part["epoch"].max()
        n, one = _n(last, settings), len(last["seed"].unique()) == 1
        spread = f"{confidence:.0%} interval over images" if one else "range over seeds"
        figures = [
            page.figure(
                draw.error_profiles(part),
                name=f"sustainability-{index}",
                alt=f"Relative error over the layers of {run}, by perturber",
                caption=f"{run} at epoch {epoch}. {n}; line: mean, band: {spread}.",
                read="Layers run from the input to the output. A line that rises is a perturbation "
                "that grows on its way; dots are the layers that stand out for their perturber.",
            ),
            page.figure(
                draw.error_limits(part, lists, eta=eta),
                name=f"sustainability-limits-{index}",
                alt=f"Relative error over the layers of {run} against the limit of the list",
                caption=f"What makes the list, at epoch {epoch}. {n}; "
                + (f"bars: {spread}." if one else "thin: each seed, limits: mean over seeds."),
                read="\u03bc and \u03c3 are over all images and layers of a perturber; layers "
                "above the dotted line are most vulnerable. Each panel has a scale of its own.",
            ),
            page.figure(
                draw.list_map(part, lists, eta=eta),
                name=f"sustainability-lists-{index}",
                alt=f"Most vulnerable layers of {run} over eta, by perturber",
                caption=f"The list over \u03b7, at epoch {epoch}. {n}.",
                read="A row is a layer; the further it reaches to the right, the more it stands "
                "out. Pale cells are layers that only some seeds list.",
            ),
        ]
        if len(part["epoch"].unique()) > 1:
            figures.append(
                page.figure(
                    draw.error_epochs(part),
                    name=f"sustainability-epochs-{index}",
                    alt=f"Relative error of the layers of {run} over epochs, by perturber",
                    caption=f"Over the training. {_n(part, settings)}; mean over images and seeds.",
                    read="Dark lines are layers near the input, bright ones near the output. A "
                    "line that falls is a layer that learned to withstand the perturbation.",
                )
            )
        shown = [
            _list_table(canvas.last_epoch(lists), eta),
            _agreement_table(page.of(tables["sustainability_agreement"], part)),
            _probe_table(last, confidence),
        ]
        return page.block(run, figures=figures, tables=shown)

    return page.Section(
        "sustainability",
        "Layer sustainability",
        intro="How far perturbed images move what each layer puts out (Khalooei et al. 2022): the "
        "relative error ||\u03c6(x) \u2212 \u03c6(x')|| / ||\u03c6(x)||, image by image.",
        method="The most vulnerable layers are those whose mean exceeds \u03bc + \u03b7 \u03c3, "
        "the mean and standard deviation over all images and layers. Read at "
        f"{_AT[settings.at]}; images of the {settings.split} split; {_strengths(config)}. "
        f"Ours: \u03b7 = {eta:g}, the strengths of the noises, and that each image counts alike.",
        blocks=page.by_run(tables["sustainability"], block),
        needs="sustainability.epochs",
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """(heading, text) of what was found, for the top of the report."""
    eta = config.sustainability.eta
    for run, part in page.runs(tables["sustainability_lists"]):
        last = canvas.last_epoch(part)
        last = last[last["eta"] == eta]
        seeds = last["seed"].nunique()
        by_list: dict[tuple[str, ...], list[str]] = {}
        for perturber, rows in last.groupby("perturber", sort=False):
            by_list.setdefault(_steady(rows["mvl"]), []).append(perturber)
        said = "; ".join(
            f"{page.listed(names) or 'no layer'} under {page.listed(perturbers)}"
            for names, perturbers in by_list.items()
        )
        every = f" in every one of {seeds} seeds" if seeds > 1 else ""
        text = f"At \u03b7 = {eta:g}, epoch {last['epoch'].max()}, most vulnerable{every}: {said}."
        agreement = page.of(tables["sustainability_agreement"], part)
        if len(agreement):
            over_seeds = agreement[(agreement["over"] == "seed") & (agreement["eta"] == eta)]
            for value in over_seeds["value"].dropna():
                text += (
                    f" Of the layers on either of two seeds' lists, {page.percent(value)} are on "
                    "both (mean over perturbers and epochs)."
                )
        yield f"Most vulnerable layers, {run}", text


_AT = {
    "activation": "the outputs of the activation functions, each named after the layer before it",
    "layer": "the outputs of the layers themselves",
}


def _steady(lists: pd.Series) -> tuple[str, ...]:
    """The layers that are on every list, in the order of the first one."""
    first, *others = (listed_layers(text) for text in lists)
    return tuple(name for name in first if all(name in other for other in others))


def _strengths(config: Config) -> str:
    chosen, attacks = config.sustainability, config.attacks
    said = [f"{name} (eps {attacks[name].eps:g})" for name in chosen.perturbers or []]
    for name, noise in (chosen.noises or {}).items():
        kind = "" if name == noise.kind else f"{noise.kind} "
        said.append(f"{name} ({kind}{noise.strength:g})")
    return page.listed(said)


def _n(table: pd.DataFrame, settings: Sustainability) -> str:
    seeds = page.count(table["seed"].unique(), "seed")
    return f"n = {table['n'].iloc[0]:,} {settings.split} images, {seeds}"


def _list_table(lists: pd.DataFrame, eta: float) -> page.Table | None:
    rows = lists[lists["eta"] == eta]
    rows = rows.sort_values(
        "perturber", kind="stable", key=lambda c: c.map(list(dict.fromkeys(c)).index)
    )
    columns = {
        **page.same("perturber", "seed"),
        "\u03bc": ("mu", page.number),
        "\u03c3": ("sigma", page.number),
        "limit": ("limit", page.number),
        "most vulnerable, the most first": rows["mvl"].str.replace(",", ", "),
    }
    title = f"The most vulnerable layers at \u03b7 = {eta:g}"
    return page.table(title, rows, columns, shown=True, source="sustainability_lists.tsv")


def _agreement_table(table: pd.DataFrame) -> page.Table | None:
    columns = {
        "lists of two": ("over", lambda over: f"{over}s"),
        "\u03b7": ("eta", lambda eta: page.minus(f"{eta:g}")),
        "layers listed": ("layers", page.number),
        "shared": ("value", page.percent),
        "kappa": ("kappa", page.number),
        "pairs": "pairs",
    }
    title = "How far two lists agree: layers on both, of those on either; kappa is against chance"
    return page.table(title, table, columns, source="sustainability_agreement.tsv")


def _probe_table(table: pd.DataFrame, confidence: float) -> page.Table | None:
    columns = {
        "perturber": "perturber",
        "layer": "probe",
        "seed": "seed",
        "relative error": ("value", page.number),
        f"{confidence:.0%} interval": ("ci_low", "ci_high", page.bracket),
        "std over images": ("std", page.number),
        "most vulnerable": ("mvl", page.yes),
    }
    return page.table("Every layer", table, columns, source="sustainability.tsv")
