"""The referee, for the report. No torch."""

from collections.abc import Iterator

import pandas as pd

from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.studies.criteria.figures import prediction_chart
from faultline.studies.criteria.names import CONTROLS


def section(tables: dict[str, pd.DataFrame], config: dict) -> dict:
    """Which criterion predicts what is lost, run by run, at the last epoch."""
    level, settings = 1 - config["scores"]["confidence"], config["criteria"]
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["predictions"])):
        part = canvas.last_epoch(part)
        epoch = part["epoch"].iloc[0]
        removals = page.of(tables["removals"], part, [*RUN, "epoch"])
        tests = _tests(tables)
        confidence = f"{config['scores']['confidence']:.0%}"
        chart = page.figure(
            prediction_chart(part, level=level),
            name=f"criteria-{index}",
            alt=f"How well criteria predict the accuracy lost in {run}",
            caption=f"{run} at epoch {epoch}: Spearman's rank correlation of each criterion with "
            f"the accuracy lost when a layer, or a filter, is removed whole. {_n(part)}; "
            f"{page.n(removals)}. Diamond: mean over seeds with its {confidence} interval (t); "
            f"grey: the central {confidence} where scores are dealt to units at random; q: "
            f"Benjamini-Hochberg over {tests} predictions.",
            read="Right of the grey bar, what the criterion calls important costs more when it is "
            "removed than chance would have it. Filters are compared within their layer. Below "
            "the gap are controls, which see no image: a criterion that does no better is not "
            "worth its cost. The dashed line is about what the true loss itself would reach, as so "
            "many images measure it with so much noise.",
        )
        columns = {
            "units": "units",
            "images": "images",
            "criterion": "criterion",
            "control": ("criterion", lambda name: page.yes(name in CONTROLS)),
            "Spearman": ("spearman", page.number),
            "over seeds": ("spearman_low", "spearman_high", page.bracket),
            "by chance": ("chance_low", "chance_high", page.bracket),
            "at best": ("ceiling", page.number),
            "p": ("p_value", page.small),
            "corrected": ("q_value", page.small),
            "Kendall": ("kendall", page.number),
            "of the top": ("precision", page.percent),
            "of the top by chance": ("chance", page.percent),
            "units compared": ("n", lambda n: "n/a" if pd.isna(n) else f"{n:.0f}"),
            "seeds": "seeds",
            "images through the network": (
                "passes",
                lambda cost: "part of the run" if pd.isna(cost) else f"{cost:,.0f}",
            ),
        }
        numbers = page.table("The numbers", _whole(part), columns, source="predictions.tsv")
        agreement = _whole(page.of(tables["criteria_agreement"], part, [*RUN, "epoch"]))
        columns = {
            "units": "units",
            "of": "criterion",
            "and": "other",
            "Spearman": ("spearman", page.number),
            "over seeds": ("spearman_low", "spearman_high", page.bracket),
            "Kendall": ("kendall", page.number),
            "p": ("p_value", page.small),
            "seeds": "seeds",
        }
        alike = page.table(
            "How alike two criteria rank", agreement, columns, source="criteria_agreement.tsv"
        )
        undefined = [n for n in dict.fromkeys(removals["images"]) if n not in set(part["images"])]
        note = undefined and (
            f"Not compared: {page.listed(undefined)}, as the whole network's accuracy is not above "
            "chance there in any seed, so there is nothing to lose."
        )
        blocks.append(page.block(run, figures=[chart], notes=[note], tables=[numbers, alike]))
    intro = (
        "Each criterion ranks the layers and filters by what it says of validation images; the "
        "truth is the accuracy that the network loses on test images, which chose nothing, when a "
        "layer or filter is removed whole, clean and under attacks that are crafted anew on what "
        f"is left. Of the top: of the {settings['top_share']:.0%} of the units that cost most, the "
        "share among as many that the criterion ranks highest. A layer's neighbours resemble it, "
        "and layers of one network are no random sample: this is about these networks."
    )
    return page.section(
        "criteria",
        "Which criterion finds what matters",
        intro=intro,
        blocks=blocks,
        needs="criteria.methods",
    )


def findings(tables: dict[str, pd.DataFrame], config: dict) -> Iterator[tuple[str, str]]:
    """The answer: which criteria predict better than chance what is lost, run by run."""
    level = 1 - config["scores"]["confidence"]
    for run, part in page.runs(tables["predictions"]):
        part = _whole(canvas.last_epoch(part))
        texts = [
            _answer(rows, unit, level=level) for unit, rows in part.groupby("units", sort=False)
        ]
        seeds = page.count(range(part["seeds"].max()), "seed")
        texts.append(
            f"({seeds}; q is about these networks alone: Benjamini-Hochberg over {_tests(tables)} "
            "predictions of the run; brackets: over seeds; at best: what the true loss would "
            "reach, as these test images measure it.)"
        )
        yield f"Which criterion finds what matters, {run}", " ".join(filter(None, texts))


def _answer(rows: pd.DataFrame, unit: str, *, level: float) -> str:
    """Of one kind of units."""
    control = rows["criterion"].isin(CONTROLS)
    if control.all():
        return ""
    better = (rows["q_value"] < level) & (rows["spearman"] > 0)
    said = []
    for images, part in rows.groupby("images", sort=False):
        told = part.loc[(better & ~control)[part.index]].sort_values("spearman", ascending=False)
        names = page.listed(_named(row) for row in told.to_dict("records")) or "none"
        beside = page.listed(part.loc[(better & control)[part.index], "criterion"])
        text = "on clean images " if images == "clean" else f"under {images} "
        text += names + (f", but so do the controls {beside}" if beside else "")
        said.append(f"{text} (at best {page.number(part['ceiling'].mean())})")
    count = rows.loc[~control, "criterion"].nunique()
    start = f"Of {count} criteria, these tell better than chance which {unit} cost most:"
    return f"{start} {'; '.join(said)}."


def _named(row: dict) -> str:
    ends = page.bracket(row["spearman_low"], row["spearman_high"])
    q = page.small(row["q_value"])
    between = "" if ends == "n/a" else f" {ends}"
    equals = "" if "<" in q else "= "
    return f"{row['criterion']} ({page.number(row['spearman'])}{between}, q {equals}{q})"


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["level"] == "all seeds"] if len(table) else table


def _tests(tables: dict[str, pd.DataFrame]) -> int:
    """How many predictions are corrected together."""
    return int(_whole(tables["predictions"])["p_value"].count())


def _n(part: pd.DataFrame) -> str:
    whole = _whole(part)
    counts = [f"{rows['n'].max():.0f} {unit}" for unit, rows in whole.groupby("units", sort=False)]
    return f"n = {page.listed(counts)}"
