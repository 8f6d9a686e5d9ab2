"""Retraining compared, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from faultline.attacks.doubt import believed, doubt
from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.report.comparison import (
    compared_sets,
    helped,
    in_short,
    policies_over_epochs,
    policy_comparison,
)

if TYPE_CHECKING:
    from faultline.studies.config import Config

UNITS = {
    "layer": "layers",
    "band": "bands, matched layer by layer where a layer has such bands and over layers elsewhere,",
}
"""retraining.by -> what `random` draws."""

COMPARED, CONTROL = {"policy": "selective", "reference": "regular"}, "random freezing"


def findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Whether selective retraining helped."""
    comparison = tables["comparison"]
    shares, level = _frozen(tables["retraining"]), 1 - config.scores.confidence
    for run, part in page.runs(comparison):
        part = canvas.last_epoch(part)
        of_run = page.of(shares, part)
        of_run = of_run[of_run["epoch"] == part["epoch"].max()]
        why = doubt(tables, part, of_run)
        part = believed(part, why)
        texts = compared_sets(part, "selective", control=CONTROL, level=level, **COMPARED)
        short = f"{why} {in_short(part, level=level, **COMPARED)}".strip()
        start = (
            f"{page.epochs(config.retraining.epochs)} on from epoch {part['epoch'].max()}; "
            f"{config.scores.confidence:.0%} intervals in brackets. {_note(of_run)}"
        )
        yield f"Selective retraining, {run}", short, start + " ".join(texts)


def verdict(tables: dict, config: Config) -> dict:
    """Whether selective retraining helped."""
    shares = _frozen(tables["retraining"])
    if len(shares):
        shares = canvas.last_epoch(shares)
    level, comparison = 1 - config.scores.confidence, tables["comparison"]
    why = doubt(tables, canvas.last_epoch(comparison), shares) if len(comparison) else ""
    cell = helped(
        comparison, control=CONTROL, level=level, link="retraining", doubt=why, **COMPARED
    )
    selective = shares.loc[shares["policy"] == "selective", "share"]
    if len(selective) and (selective == 0).all():
        small = "nothing was fragile, so nothing was frozen"
        cell = page.cell("cannot tell", small=small, link="retraining")
    return {"did retraining help?": cell}


def section(tables: dict, config: Config) -> page.Section:
    """Retraining and its controls."""
    comparison, shares = tables["comparison"], _frozen(tables["retraining"])
    settings, blocks = config.retraining, []
    for index, (run, part) in enumerate(page.runs(comparison)):
        last, here = canvas.last_epoch(part), page.of(shares, part)
        epoch, several = last["epoch"].max(), len(part["epoch"].unique()) > 1
        words = {
            policy: f"{_range(rows['share'])} frozen"
            for policy, rows in here[here["epoch"] == epoch].groupby("family")
            if policy != "regular"
        }
        seeds = last.loc[last["level"] == "seed", "seed"].nunique()
        over = "one seed, so no interval over seeds"
        if seeds > 1:
            over = f"diamond: mean over {seeds} seeds with its t interval (an arrow where it "
            over += "leaves the axis)"
        length = page.epochs(settings.epochs)
        figures = [
            page.figure(
                policy_comparison(last, notes=words),
                name=f"retraining-{index}",
                alt=f"Accuracy of retraining policies minus regular for {run} from epoch {epoch}",
                caption=f"{length} of retraining from epoch {epoch}. {page.n(last)}; "
                f"dot: one seed with its interval over images (paired); {over}.",
                read="Right of the line is better than regular retraining. An interval that "
                "reaches over the line does not tell the policy from regular. Intervals are not "
                "corrected for the number of comparisons.",
            )
        ]
        if several:
            figures.append(
                page.figure(
                    policies_over_epochs(part),
                    name=f"retraining-{index}-epochs",
                    alt=f"Accuracy of retraining policies minus regular for {run}, by epoch",
                    caption=f"{length} of retraining from each checkpoint. {page.n(part)}; "
                    + ("mean over seeds with its t interval." if seeds > 1 else f"{over}."),
                    read="Above the line is better than regular retraining from the same "
                    "checkpoint. Intervals are not corrected for the number of comparisons.",
                )
            )
        columns = {
            **({"from epoch": "epoch"} if several else {}),
            **page.same("images", "policy"),
            "accuracy": ("accuracy", page.percent),
            "minus": "reference",
            "its accuracy": ("reference_accuracy", page.percent),
            "difference (points)": ("difference", page.points),
            "over seeds": ("ci_low", "ci_high", page.interval),
            "over images": ("image_ci_low", "image_ci_high", page.interval),
            "p": ("p_value", page.small),
            "corrected": ("q_value", page.small),
            "detectable": ("detectable", page.detectable),
            **page.same("seeds", "draws"),
        }
        whole = part[part["level"] == "all seeds"].sort_values(
            "epoch", ascending=False, kind="stable"
        )
        table = page.table("Mean over seeds", whole, columns, source="comparison.tsv")
        notes = []
        for at, of_epoch in part.groupby("epoch"):
            frozen = here[here["epoch"] == at]
            said = filter(None, (doubt(tables, of_epoch, frozen), _note(frozen).strip()))
            notes += [f"From epoch {at}: {note}" if several else note for note in said]
        heading = run if several else f"{run}, from epoch {epoch}"
        blocks.append(page.block(heading, figures=figures, notes=notes, tables=[table]))
    return page.Section(
        "retraining",
        "Retraining compared",
        intro="Does it help to train on with the fragile parameters frozen (selective)? Beside it: "
        "all others frozen (fragile_only), as many at random (random), none (regular).",
        method=f"selective freezes the fragile parameters (by {settings.by}, "
        f"{settings.score} of {config.scored_attack}, from {config.ablation.split} "
        f"images), fragile_only all others, random other whole {UNITS[settings.by]} that hold "
        f"about as many parameters as selective froze ({settings.random_draws} draws, "
        "averaged); regular freezes nothing. All train equally long on the same order of data, and "
        "are attacked anew afterwards. Shares are of the parameters that can be frozen.",
        blocks=blocks,
        needs="retraining.from_epochs",
    )


# Words and numbers


def _frozen(retraining: pd.DataFrame) -> pd.DataFrame:
    """Share of the freezable parameters that were frozen, per retraining; draws as one family."""
    if not len(retraining):
        return pd.DataFrame(columns=[*RUN, "epoch", "seed", "policy", "family", "share"])
    table = retraining.drop_duplicates([*RUN, "epoch", "seed", "policy"])
    share = table["frozen"] / table["freezable"].where(table["freezable"] > 0)
    return table.assign(share=share, family=table["policy"].str.replace(r"-\d+$", "", regex=True))


def _note(shares: pd.DataFrame) -> str:
    """What selective froze in some seeds, where it says nothing, and how well random matches it."""
    share = shares.loc[shares["policy"] == "selective", "share"]
    if not len(share):
        return ""
    if (share == 0).all():
        return "selective froze nothing, as nothing was fragile: it is regular retraining. "
    if (share == 1).all():
        return (
            "selective froze everything that can be frozen, as all of it was fragile; random could "
            "draw nothing else. "
        )
    none, all_of_it = (share == 0).sum(), (share == 1).sum()
    text = ""
    if none:
        text = f"selective froze nothing in {none} of {len(share)} seeds. "
    elif all_of_it:
        text = (
            f"selective froze everything that can be frozen in {all_of_it} of {len(share)} seeds. "
        )
    random = shares[(shares["family"] == "random") & (shares["frozen"] > 0)]
    if not len(random):
        return text
    return text + (
        f"random froze {_range(random['frozen'] / random['fragile'])} of the number that selective "
        f"did, and {_range(random['fragile_frozen'] / random['frozen'])} of what it froze was "
        "fragile, too. "
    )


def _range(shares) -> str:
    shares = shares.dropna()
    if not len(shares):
        return "nothing"
    low, high = 100 * shares.min(), 100 * shares.max()
    return f"{low:.0f} %" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f} %"
