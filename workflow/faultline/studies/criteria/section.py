"""The referee, for the report. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.attacks.doubt import doubt
from faultline.base.columns import CONTROL, RUN, policy_of
from faultline.report import canvas, page
from faultline.report.comparison import TESTED, summary
from faultline.studies.criteria.agreement import FEWEST
from faultline.studies.criteria.figures import (
    SAID,
    answer_chart,
    picks_chart,
    prediction_chart,
    where,
)
from faultline.studies.criteria.names import CONTROLS, REFERENCES, SHIFTED
from faultline.studies.criteria.use import PAIR

if TYPE_CHECKING:
    from faultline.studies.config import Config
    from faultline.studies.criteria.config import Use

ALL_ALIKE = (
    f"Layers are not compared: there are fewer than {FEWEST}, or to remove any costs as much as "
    "any other."
)


def section(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """Which criterion predicts what is lost, run by run, at the last epoch."""
    level, settings = 1 - config.scores.confidence, config.criteria

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        part = canvas.last_epoch(part)
        removals = page.of(tables["removals"], part, [*RUN, "epoch"])
        tests = _tests(tables)
        confidence = f"{config.scores.confidence:.0%}"
        chart = page.figure(
            prediction_chart(part, level=level),
            name=f"criteria-{index}",
            alt=f"How well criteria predict the accuracy lost in {run}",
            caption=f"{run} at epoch {part['epoch'].iloc[0]}: Spearman's rank correlation of each "
            "criterion with the accuracy lost when a layer, or a filter, is removed whole. "
            f"{_n(part)}; {page.n(removals)}. Diamond: mean over seeds with its {confidence} "
            f"interval (t); grey: the central {confidence} where scores are dealt to units at "
            f"random; q: Benjamini-Hochberg over {tests} predictions.",
            read="Right of the grey bar, what the criterion calls important costs more when it is "
            "removed than chance would have it. Filters are compared within their layer. Below "
            "the gap are controls, which see no image: a criterion that does no better is not "
            "worth its cost. The dashed line is about what the true loss itself would reach, as so "
            "many images measure it with so much noise.",
        )
        columns = {
            **page.same("units", "images", "criterion"),
            "control": ("criterion", lambda name: page.yes(name in CONTROLS)),
            "Spearman": ("spearman", page.number),
            "over seeds": ("spearman_low", "spearman_high", page.bracket),
            "by chance": ("chance_low", "chance_high", page.bracket),
            "at best": ("ceiling", page.number),
            "p": ("p_value", page.small),
            "corrected": ("q_value", page.small),
            "apart from the highest, corrected": ("apart_q", page.small),
            "Kendall": ("kendall", page.number),
            "of the top": ("precision", page.percent),
            "of the top by chance": ("chance", page.percent),
            "units compared": ("n", lambda n: "n/a" if pd.isna(n) else f"{n:.0f}"),
            "seeds": "seeds",
            "images through the network": ("passes", _cost),
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
        notes = [note, "" if "layers" in set(part["units"]) else ALL_ALIKE]
        return page.block(run, figures=[chart], notes=notes, tables=[numbers, alike])

    return page.Section(
        "criteria",
        "Which criterion finds what matters",
        intro="Each criterion ranks the layers and filters by what it says of validation images; "
        "the truth is the accuracy that the network loses on test images, which chose nothing, "
        "when a layer or filter is removed whole.",
        method="Accuracy is that on clean images and under attacks that are crafted anew on what "
        f"is left. Of the top: of the {settings.top_share:.0%} of the units that cost most, the "
        "share among as many that the criterion ranks highest. A layer's neighbours resemble it, "
        "and layers of one network are no random sample: this is about these networks.",
        blocks=page.by_run(tables["predictions"], block),
        needs="criteria.methods",
    )


def findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """The answer: which criteria predict better than chance what is lost, run by run."""
    level = 1 - config.scores.confidence
    for run, part in page.runs(tables["predictions"]):
        part = _whole(canvas.last_epoch(part))
        texts = [
            _answer(rows, unit, level=level) for unit, rows in part.groupby("units", sort=False)
        ]
        seeds = page.count(range(part["seeds"].max()), "seed")
        rest = (
            f"{seeds}; q is about these networks alone: Benjamini-Hochberg over {_tests(tables)} "
            "predictions of the run; brackets: over seeds; at best: what the true loss would "
            "reach, as these test images measure it."
        )
        yield f"Which criterion finds what matters, {run}", " ".join(filter(None, texts)), rest


def verdict(tables: dict[str, pd.DataFrame], config: Config) -> dict:
    """Which criterion goes with what is lost most, those that are not told from it, and how many
    pick what is worth training."""
    level = 1 - config.scores.confidence
    cells: dict[str, str | page.Cell] = {
        "which criterion finds what matters?": "",
        "worth training?": "",
    }
    if len(table := tables["predictions"]):
        rows = _whole(canvas.last_epoch(table))
        rows = rows[rows["units"] == ("layers" if "layers" in set(rows["units"]) else "filters")]
        control = rows["criterion"].isin(CONTROLS)
        units, count = rows["units"].iloc[0], rows.loc[~control, "criterion"].nunique()
        text, small = "none told", f"{count} criteria, {units}"
        better = _better(rows, level=level)
        if len(sure := rows[better & ~control]):
            best = sure.loc[sure["spearman"].idxmax()]
            beside = better & control & (rows["images"] == best["images"])
            also = rows.loc[beside, "criterion"]
            text = best["criterion"]
            small = f"Spearman {_numbers(best)}; {units}, {where(best['images'])}; {count} criteria"
            do = "does" if len(also) == 1 else "do"
            small += f"; so {do} {page.listed(also)}" if len(also) else ""
            alike = _alike(rows[(rows["images"] == best["images"]) & ~control], best, level=level)
            small += f"; not told from {page.listed(alike)}" if alike else ""
        cells["which criterion finds what matters?"] = page.cell(text, small=small, link="criteria")
    if len(table := answered(tables, level=level)):
        gains = table.loc[table["told"], "gain"]
        text = "none told"
        if len(gains):
            text = f"{(gains > 0).sum()} better, {(gains < 0).sum()} worse"
        small = f"of {page.count(range(len(table)), 'comparison')} with random layers"
        if doubted := sorted(set(table["doubt"]) - {""}):
            text = text if len(gains) else "not to be believed"
            small += f". {' '.join(doubted)}"
        cells["worth training?"] = page.cell(text, small=small, link="referee")
    return cells


def _alike(rows: pd.DataFrame, best: pd.Series, *, level: float) -> list[str]:
    """Which other criteria are not told to predict less than the one that predicts most; none where
    no seeds could tell."""
    if rows["apart_q"].isna().all():
        return []
    return [*rows.loc[~(rows["apart_q"] < level), "criterion"].drop(best.name, errors="ignore")]


def _better(rows: pd.DataFrame, *, level: float) -> pd.Series:
    """Which of some predictions are told to be better than chance."""
    return (rows["q_value"] < level) & (rows["spearman"] > 0)


def _answer(rows: pd.DataFrame, unit: str, *, level: float) -> str:
    """Of one kind of units."""
    control = rows["criterion"].isin(CONTROLS)
    if control.all():
        return ""
    better = _better(rows, level=level)
    said = []
    for images, part in rows.groupby("images", sort=False):
        best = part.loc[(better & ~control)[part.index]].sort_values("spearman", ascending=False)
        names = page.listed(_named(row) for row in best.to_dict("records")) or "none"
        beside = part.loc[(better & control)[part.index], "criterion"]
        text = "on clean images " if images == "clean" else f"under {images} "
        controls = "does the control" if len(beside) == 1 else "do the controls"
        alike = _alike(part[~control[part.index]], best.iloc[0], level=level) if len(best) else []
        names += f", the first not told from {page.listed(alike)}" if alike else ""
        text += names + (f", but so {controls} {page.listed(beside)}" if len(beside) else "")
        ceiling = part["ceiling"].mean()
        most = "cannot be told" if pd.isna(ceiling) else page.number(ceiling)
        said.append(f"{text} (at best: {most})")
    count = rows.loc[~control, "criterion"].nunique()
    start = f"Of {count} criteria, these tell better than chance which {unit} cost most:"
    return f"{start} {'; '.join(said)}."


def _named(row: dict) -> str:
    return f"{row['criterion']} ({_numbers(row)})"


def _numbers(row) -> str:
    """The correlation of a prediction, its interval and q."""
    ends = page.bracket(row["spearman_low"], row["spearman_high"])
    between = "" if ends == "n/a" else f" {ends}"
    return f"{page.number(row['spearman'])}{between}, q {_equals(row['q_value'])}"


def _equals(p: float) -> str:
    """A p-value behind its name."""
    said = page.small(p)
    return said if "<" in said else f"= {said}"


def _cost(images: float) -> str:
    return "part of the run" if pd.isna(images) else f"{images:,.0f}"


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["level"] == "all seeds"] if len(table) else table


def _tests(tables: dict[str, pd.DataFrame]) -> int:
    """How many predictions are corrected together."""
    return int(_whole(tables["predictions"])["p_value"].count())


def _n(part: pd.DataFrame) -> str:
    whole = _whole(part)
    counts = [f"{rows['n'].max():.0f} {unit}" for unit, rows in whole.groupby("units", sort=False)]
    return f"n = {page.listed(counts)}"


# The answer


def answer(tables: dict[str, pd.DataFrame], config: Config) -> page.Section:
    """Of every criterion on every run what it predicts, what training its picks gains, its cost."""
    level, use, blocks = 1 - config.scores.confidence, config.criteria.use, []
    if len(table := answered(tables, level=level)):
        chart = page.figure(
            answer_chart(table, level=level),
            name="referee",
            alt="Agreement, gain and cost of each criterion on each data set and network",
            caption=f"Agreement: Spearman's rank correlation, over layers, with the accuracy lost "
            "when they are removed. Gain: accuracy after training what the criterion picks minus "
            f"that of random layers, in points, mean over seeds; {page.n(tables['criteria_use'])}, "
            f"{page.count(range(use.random_draws), 'draw')} at random per seed. Bold: q below "
            f"{level:.2g}, Benjamini-Hochberg over {_tests(tables)} predictions and over "
            f"{_compared(tables)} comparisons. Dash: layers cannot be compared. Images passed: "
            "through the network for the criterion, forwards and back, mean over runs.",
            read="A criterion that finds what matters is blue on the left; one that is of use is "
            "blue on the right too, and more so than the controls at the bottom, which see no "
            "image.",
        )
        columns = {
            **page.same(*RUN),
            "criterion": "criterion",
            "picks": ("criterion", lambda name: _picks(name, use)),
            "images": "images",
            "agreement": ("agreement", page.number),
            "over seeds": ("agreement_low", "agreement_high", page.bracket),
            "its q": ("agreement_q", page.small),
            "recipe": "recipe",
            "accuracy": ("accuracy", page.percent),
            "gain (points)": ("gain", page.points),
            "its interval": ("gain_low", "gain_high", page.interval),
            "q": ("gain_q", page.small),
            "detectable": ("detectable", page.detectable),
            "seeds": "seeds",
            "images passed": ("passes", _cost),
        }
        numbers = page.table("Every criterion", table, columns, source="referee.tsv")
        shown = {"figures": [chart], "notes": [_shares(tables)]}
        blocks = [page.block("All runs", **shown, tables=[numbers, _references(tables)])]
        blocks += page.by_run(tables["criteria_use"], partial(_picks_block, tables, config))
    return page.Section(
        "referee",
        "Is what criteria pick worth training?",
        intro="What each criterion picks, its highest scores or, as the authors of some do, its "
        f"lowest, holds {use.share:.0%} of the parameters of all layers, and is trained on for "
        f"{page.epochs(use.epochs)} while all other layers are frozen. Test images judge, which "
        "chose nothing. The control trains as many parameters of random layers.",
        blocks=blocks,
        needs="criteria.use.recipes",
    )


def answer_findings(tables: dict[str, pd.DataFrame], config: Config) -> Iterator[tuple[str, ...]]:
    """Which criteria pick what is worth more training than random layers, in a sentence."""
    level = 1 - config.scores.confidence
    if not len(table := answered(tables, level=level)):
        return
    text = ""
    for recipe, part in table.groupby("recipe", sort=False):
        better = part[part["told"] & (part["gain"] > 0)].sort_values("gain", ascending=False)
        worse = part[part["told"] & (part["gain"] < 0)].sort_values("gain")
        counts = f"{len(better)} better{_some(better)} and {len(worse)} worse{_some(worse)}"
        counts = counts if part["told"].any() else "none better or worse"
        text += f"Trained with {recipe}, {counts} than random layers, of {len(part)} comparisons. "
    least = table["detectable"].median()
    if np.isinf(least):
        text += f"Of half of them or more, {page.cannot_tell(int(table['seeds'].max()))}. "
    elif not np.isnan(least):
        text += f"Half of all gains would have been told from {page.detectable(least)} points on "
        text += "(80 % power). "
    text += (
        f"{table['criterion'].nunique()} criteria, controls among them; "
        f"{page.n(tables['criteria_use'])}; q: Benjamini-Hochberg over {_compared(tables)} "
        "comparisons, with nothing and everything trained."
    )
    for why, part in table[table["doubt"] != ""].groupby("doubt", sort=False):
        text += f" {page.listed(dict.fromkeys(part['run']))}: {why}"
    yield "Is what criteria pick worth training?", text
    for run, part in page.runs(tables.get("criteria_tests", pd.DataFrame())):
        if told := _tested(tables, canvas.last_epoch(part), level=level):
            yield f"Tests fixed before the run, {run}", " ".join(told)


def _tested(tables: dict[str, pd.DataFrame], tests: pd.DataFrame, *, level: float) -> list[str]:
    """What the tests that were fixed beforehand say of one run, a sentence each."""
    if not len(tests):
        return []
    whole, said = tables["criteria_tests"], []
    count = int(_whole(whole)["p_value"].count() or whole["p_value"].count())
    for (recipe, images, pick), part in tests.groupby(["recipe", "images", "criterion"]):
        told, seeds = [], 0
        for other, rows in part.groupby("reference", sort=False):
            row, ends, verdict = summary(rows, level=level)
            seeds = int(row["seeds"])
            why = doubt(tables, rows, _made(tables, row, [pick, other]))
            of_test = why or (
                f"{page.points(row['difference'])} points {page.interval(*ends)}, {verdict} "
                f"(p {_equals(row['q_value'])})"
            )
            told.append(f"minus {SAID.get(other, other)}: {of_test}")
        said.append(
            f"Trained with {recipe}, accuracy {_on(images)} of what {pick} picks, "
            f"{'; '.join(told)}. {page.count(range(seeds), 'seed')}; Holm over "
            f"{page.count(range(count), 'test')}."
        )
    return said


def _picks_block(
    tables: dict[str, pd.DataFrame], config: Config, index: int, run: str, part: pd.DataFrame
) -> page.Block:
    """Of one run: what each pick leaves, and what the tests that were fixed beforehand say."""
    part = canvas.last_epoch(part)
    charts = [
        page.figure(
            picks_chart(rows),
            name=f"picks-{index}-{number}",
            alt=f"Accuracy after training what each criterion picks in {run}",
            caption=f"{run} at epoch {part['epoch'].iloc[0]}, trained with {recipe}: accuracy on "
            "test images, and where in the network lies what was trained, from 0, its first layer, "
            f"to 1, its last. {page.n(rows)}; of draws at random, their mean.",
            read="Diamond: mean over seeds. If it is depth that counts, and not what a criterion "
            "says, accuracy falls, or rises, from top to bottom.",
        )
        for number, (recipe, rows) in enumerate(part.groupby("recipe", sort=False))
    ]
    tests = page.of(tables.get("criteria_tests", pd.DataFrame()), part, [*RUN, "epoch"])
    columns = {
        **page.same("recipe", "images"),
        "picked by": "criterion",
        "minus": ("reference", lambda name: SAID.get(name, name)),
        "accuracy": ("accuracy", page.percent),
        **TESTED,
        "seeds": "seeds",
    }
    numbers = page.table(
        "Tests fixed before the run", _whole(tests), columns, source="criteria_tests.tsv"
    )
    return page.block(run, figures=charts, tables=[numbers])


def _made(tables: dict[str, pd.DataFrame], row: Mapping, picks: Collection[str]) -> pd.DataFrame:
    """The networks of the run of a row that were made by its recipe, under some picks."""
    used, keys = tables["criteria_use"], [*RUN, "epoch", "recipe"]
    alike = (used[keys] == [row[key] for key in keys]).all(axis=1)
    return used[alike & used["criterion"].map(policy_of).isin([*picks])]


def answered(tables: dict[str, pd.DataFrame], *, level: float) -> pd.DataFrame:
    """The referee's table at each run's last epoch, with `run`, `told` and `doubt`: why an accuracy
    under attack is not to be believed, of which then nothing is told; of one seed the interval and
    q of its images."""
    table = tables["referee"]
    if not len(table):
        return table
    table = table[table["epoch"] == table.groupby(RUN)["epoch"].transform("max")]
    names = RUN if len(table["training"].unique()) > 1 else RUN[:2]
    gains = dict(iter(tables["criteria_gains"].groupby([*PAIR, "recipe"])))
    keys = table[[*PAIR, "recipe"]].itertuples(index=False, name=None)
    rows, ends, said = zip(*(summary(gains[key], level=level) for key in keys), strict=True)
    doubts = [_doubt(tables, row) for row in table.to_dict("records")]
    low, high = zip(*ends, strict=True)
    return table.assign(
        run=table[names].agg(" \u00b7 ".join, axis=1),
        told=[
            text in ("better", "worse") and not why for text, why in zip(said, doubts, strict=True)
        ],
        doubt=doubts,
        gain_low=low,
        gain_high=high,
        gain_q=[row["q_value"] for row in rows],
    )


def _doubt(tables: dict[str, pd.DataFrame], row: dict) -> str:
    """`doubt` of a row of the referee's table."""
    if row["images"] in ("clean", SHIFTED):
        return ""
    made = _made(tables, row, [row["criterion"], CONTROL])
    return doubt(tables, pd.DataFrame([row]), made)


def _some(rows: pd.DataFrame) -> str:
    """What criteria, on what, gain how much; the largest three."""
    named = [
        f"{row['criterion']} on {row['run']}, {row['images']}: {page.points(row['gain'])} points "
        f"{page.interval(row['gain_low'], row['gain_high'])}"
        for row in rows.head(3).to_dict("records")
    ]
    more = f", and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f" ({page.listed(named)}{more})" if named else ""


def _picks(name: str, use: Use) -> str:
    return "lowest" if use.ranked(name)["lowest"] else "highest"


def _compared(tables: dict[str, pd.DataFrame]) -> int:
    """How many gains are corrected together: over seeds, or of the images of the only one."""
    gains = tables["criteria_gains"]
    return int(_whole(gains)["p_value"].count() or gains["p_value"].count())


def _references(tables: dict[str, pd.DataFrame]) -> page.Table | None:
    """What training everything or nothing gives."""
    whole = _whole(tables["criteria_gains"])
    columns = {
        **page.same(*RUN),
        "trained": ("criterion", SAID.get),
        **page.same("images", "recipe"),
        "accuracy": ("accuracy", page.percent),
        "random layers": ("reference_accuracy", page.percent),
        "gain (points)": ("difference", page.points),
        "its interval": ("ci_low", "ci_high", page.interval),
        "q": ("q_value", page.small),
        "seeds": "seeds",
    }
    rows = whole[whole["criterion"].isin(REFERENCES)]
    return page.table("Everything, or nothing, trained", rows, columns, source="criteria_gains.tsv")


def _shares(tables: dict[str, pd.DataFrame]) -> str:
    part = tables["criteria_use"]
    shares = (part["trained"] / part["trainable"])[~part["criterion"].isin(REFERENCES)]
    return f"Picked: {100 * shares.min():.1f} to {100 * shares.max():.1f} % of the parameters."


def _on(images: str) -> str:
    return "on the shifted data" if images == SHIFTED else f"under {images}"
