"""The report's sections on fragile filters, what attacks target, and the remedy. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.attacks.doubt import believed, doubt
from faultline.base.columns import RUN
from faultline.report import canvas, page
from faultline.report.comparison import (
    SEED,
    TESTED,
    compared_sets,
    helped,
    in_short,
    policy_comparison,
)
from faultline.studies.fragile import figures as draw

if TYPE_CHECKING:
    from faultline.studies.config import Config

MAX_LAYERS = 2

MAX_FILTERS = 64

COMPARED = {"policy": "fragile", "reference": "no change"}

DEFAULT_AT = "activation, or output in networks that do not show where their activations are"


def targeting_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Whether attacks aim at the fragile filters of the first layer that was asked for."""
    for run, part in page.runs(tables["association"]):
        last = canvas.last_epoch(part)
        for layer, of_layer in last.groupby("layer", sort=False):
            level = 1 - config.scores.confidence
            said = [
                _associated(attack, rows, level, f"{page.unit(tables, part, layer)}s")
                for attack, rows in of_layer.groupby("attack", sort=False)
            ]
            texts, rests = (" ".join(filter(None, of)) for of in zip(*said, strict=True))
            yield f"Fragility and targeting, {run}, {layer}", texts, rests
            break  # the others are in the tables below


def remedy_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Whether the remedy helped."""
    for run, part in page.runs(tables["remedy"]):
        part, level = canvas.last_epoch(part), 1 - config.scores.confidence
        control, why = "gains dealt at random and tuned alike", doubt(tables, part)
        part = believed(part, why)
        texts = compared_sets(part, "remedied", control=control, level=level, **COMPARED)
        short = f"{why} {in_short(part, level=level, **COMPARED)}".strip()
        yield f"Remedy, {run}", short, " ".join(texts)


def verdict(tables: dict, config: Config) -> dict:
    """Whether the remedy helped."""
    level, control = 1 - config.scores.confidence, "gains dealt at random"
    rows = tables["remedy"]
    why = doubt(tables, canvas.last_epoch(rows)) if len(rows) else ""
    cell = helped(rows, control=control, level=level, link="remedy", doubt=why, **COMPARED)
    return {"did the remedy help?": cell}


def _associated(attack: str, rows: pd.DataFrame, level: float, units: str) -> tuple[str, str]:
    """That an attack aims at fragile filters is said where its excess over noise of equal norm goes
    with fragility, corrected for all tests at hand, and nowhere else. And the rest of it."""
    whole = rows[rows["level"] == "all seeds"].set_index(["measure", "statistic"])
    excess = whole.loc[("excess", "spearman")]
    if np.isnan(excess["value"]):
        return (
            f"{attack}: whether it aims at fragile {units} cannot be told, as Spearman's "
            "correlation is undefined: nothing varies.",
            "",
        )
    sure = excess["q_value"] < level
    verdict = f"whether it aims at fragile {units} cannot be told"
    if sure:
        verdict = f"it {'aims at' if excess['value'] > 0 else 'spares'} fragile {units}"
    text = (
        f"{attack}: {verdict} (Spearman of fragility with the share of the attack minus that of "
        f"noise of equal norm: {page.number(excess['value'])}, corrected p "
        f"{_p(excess['q_value'])}, {excess['n']} {units} in "
        f"{page.count(range(excess['seeds']), 'seed')})."
    )
    rest = f"{attack}: p {_p(excess['p_value'])} before correction"
    if not sure and not np.isnan(excess["detectable"]):
        rest += (
            f"; told from chance, with 80 % power, would be {page.number(excess['detectable'])}, "
            f"were it the only one of {excess['tests']} tests"
        )
    measures = {"share alone": "share", "change over clean norm": "relative"}
    others = [f"{name} {_tested(whole.loc[(m, 'spearman')])}" for name, m in measures.items()]
    rest += f". Spearman with the {'; with the '.join(others)}"
    share, over = (whole.loc[(measure, "on_fragile")] for measure in ("share", "excess"))
    if np.isnan(share["value"]) or np.isnan(over["value"]):
        unit = units.removesuffix("s")
        which = {0: f"no {unit} is fragile", share["n"]: f"every {unit} is fragile"}.get(
            share["fragile"], f"in each seed every {unit} is fragile, or none"
        )
        return text, f"{rest}. {which[0].upper()}{which[1:]}, so no share of theirs is compared."
    low, high = (page.percent(share[c]) for c in ("chance_low", "chance_high"))
    return text, rest + (
        f". {page.percent(share['value'])} of the attack falls on the fragile {units}, by chance "
        f"{low} to {high}, and of the noise {page.percent(share['value'] - over['value'])} "
        f"(difference: q {_p(over['q_value'])})."
    )


def _any_told(association: pd.DataFrame, level: float) -> bool:
    """Whether any attack is told to aim at fragile filters, or to spare them."""
    if not len(association):
        return False
    rows = association[(association["level"] == "all seeds") & (association["measure"] == "excess")]
    return bool((rows.loc[rows["statistic"] == "spearman", "q_value"] < level).any())


def _tested(row: pd.Series) -> str:
    if np.isnan(row["value"]):
        return "undefined"
    p_values = f"p {_p(row['p_value'])}, corrected {page.small(row['q_value'])}"
    return f"{page.number(row['value'])} ({p_values})"


def _p(value: float) -> str:
    text = page.small(value)
    return text if text.startswith("<") else f"= {text}"


def _each_layer(table: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame, list[str]]]:
    """(what ends the names of its figures, run, layer, rows, notes) of the first layers of each
    run; a note says where there are more."""
    for index, (run, part) in enumerate(page.runs(table)):
        names = list(dict.fromkeys(part["layer"]))
        note = f"The first {MAX_LAYERS} of {len(names)} layers are shown; all are in the tables."
        notes = [note] if len(names) > MAX_LAYERS else []
        for layer in names[:MAX_LAYERS]:
            yield f"{index}-{layer}", run, layer, part[part["layer"] == layer], notes
            notes = []


def targeting(tables: dict, config: Config) -> page.Section:
    """How much of an attack arrives at each filter, beside its fragility."""
    settings, confidence = config.targeting, config.scores.confidence
    blocks = []
    for name, run, layer, rows, notes in _each_layer(tables["targeting"]):
        rows = canvas.last_epoch(rows)
        place = [*RUN, "epoch", "layer"]
        kernels, tests = (page.of(tables[key], rows, place) for key in ("kernels", "association"))
        n, unit = page.n(rows, config.ablation.split), page.unit(tables, rows, layer)
        count = rows["filter"].nunique()
        where = f"{layer} at epoch {rows['epoch'].max()}. {n}, {count} {unit}s each"
        figures = []
        if len(kernels):
            figures.append(_gallery(kernels, rows, name, run, where))
        if rows["fragility"].notna().any():
            figures.append(
                page.figure(
                    draw.targeting_scatter(rows, tests, unit=unit),
                    name=f"targeting-{name}",
                    alt=f"Fragility against targeting of the {unit}s of {layer} of {run}",
                    caption=f"{where}; bars: {confidence:.0%} intervals over images; q: "
                    "permutation p-values, two-sided, corrected for all tests of this epoch.",
                    read=f"If attacks sought out the fragile {unit}s, dots would rise to the "
                    "right, also beyond what noise of equal norm does (the right panel). Hollow: "
                    "the class is not decided. Fragility is measured with an error of its own, "
                    "which weakens any correlation.",
                )
            )
        else:
            notes = [*notes, f"{layer} has no fragility: it is not in nodal_dropout.layers."]
        shown = [_association_table(tests, unit), _filter_table(rows, unit)]
        blocks.append(page.block(f"{run}, {layer}", figures=figures, notes=notes, tables=shown))
    return page.Section(
        "targeting",
        "Fragile filters and what attacks target",
        intro="Do attacks aim at the filters that the network can least do without? Fragility is "
        "the clean accuracy lost without a filter (Pravin et al. 2021), targeting how much of the "
        "change that an attack makes arrives at it (ours).",
        method="Targeting is the l1 norm of the change that an attack makes in the filter's "
        "output, mean over images, as a share of the layer's total; the output is read at: "
        f"{settings.at or DEFAULT_AT}. Beside it the change over the filter's clean norm, and "
        "the share minus that of noise of equal norm: each image's own perturbation, its pixels in "
        "random order and with random signs. Chance: targeting dealt to the filters at random, "
        f"{settings.permutations:,} times, each seed on its own. q-values are corrected "
        "(Benjamini-Hochberg) for all tests of an epoch over all runs, layers, attacks, measures "
        "and statistics, those over all seeds and those of single seeds apart. That an attack aims "
        "at fragile filters is said only where the q-value of Spearman's correlation with the "
        f"excess over noise is below {1 - confidence:.2g}. Smallest told: the critical value of "
        "Spearman's correlation (t approximation) at that level over the number of tests. Filters "
        "whose removal changed nothing are counted as untouched and left out.",
        blocks=blocks,
        needs="targeting.layers, targeting.epochs",
        folded=not _any_told(tables["association"], 1 - confidence),
    )


def _gallery(kernels, targeting, name, run, where) -> page.Figure:
    seeds, filters = targeting["seed"].nunique(), targeting["filter"].nunique()
    cut = ""
    if filters > draw.MAX_PICTURES:
        cut += f" The {draw.MAX_PICTURES} most fragile of each seed."
    if seeds > draw.MAX_SEEDS:
        cut += f" The first {draw.MAX_SEEDS} seeds."
    return page.figure(
        draw.filter_gallery(kernels, targeting),
        name=f"gallery-{name}",
        alt=f"Weights of the filters of {run}, with class, fragility and targeting",
        caption=f"{where}, the most fragile first.{cut}",
        read="A picture is a filter's weights: white positive, black negative, grey 0, one scale "
        "per seed (three channels: red, green, blue). The frame is its class. Below: its number, "
        "the clean accuracy lost without it, and its share of each attack.",
    )


def _association_table(rows: pd.DataFrame, unit: str) -> page.Table | None:
    measures = {"relative": "change / clean norm", "excess": "share minus that of noise"}
    statistics = {"on_fragile": f"sum over fragile {unit}s"}
    columns = {
        "attack": "attack",
        "targeting": ("measure", lambda name: measures.get(name, name)),
        "statistic": ("statistic", lambda name: statistics.get(name, name)),
        "seed": "seed",
        "value": ("value", page.number),
        "by chance": ("chance", page.number),
        "interval of chance": ("chance_low", "chance_high", page.bracket),
        "p": ("p_value", page.small),
        "q": ("q_value", page.small),
        "smallest told": ("detectable", page.number),
        f"{unit}s": "n",
        **page.same("fragile", "untouched"),
    }
    return page.table("Association, against chance", rows, columns, source="association.tsv")


def _filter_table(rows: pd.DataFrame, unit: str) -> page.Table | None:
    rows = rows.sort_values(["seed", "attack", "fragility"], ascending=[True, True, False])
    columns = {
        **page.same("seed", "attack"),
        unit: "filter",
        "class": "class",
        "decided": ("decided", page.yes),
        "fragility (points)": ("fragility", page.points),
        "share of the attack": ("share", page.percent),
        "interval": ("ci_low", "ci_high", page.bracket),
        "share of noise": ("noise_share", page.percent),
        "difference (points)": ("excess", page.points),
        "its interval": ("excess_low", "excess_high", page.interval),
        "change / clean norm": ("relative", page.number),
        "of noise": ("noise_relative", page.number),
        "mean l1 change": ("targeting", page.number),
        "std over images": ("std", page.number),
    }
    return page.table(f"{unit.capitalize()} by {unit}", rows, columns, source="targeting.tsv")


def overlap(tables: dict, config: Config) -> page.Section:
    """Fragile filters that checkpoints share."""
    blocks = []
    for name, run, layer, rows, notes in _each_layer(tables["fragile_overlap"]):
        sets = page.of(tables["filters"], rows, [*RUN, "layer"])
        figures, unit = [], page.unit(tables, rows, layer)
        if sets["filter"].nunique() <= MAX_FILTERS:
            many = sets["seed"].nunique() > draw.MAX_SEEDS
            seeds = f"; the first {draw.MAX_SEEDS} seeds." if many else "."
            figures.append(
                page.figure(
                    draw.fragile_sets(sets, unit=unit),
                    name=f"fragile-sets-{name}",
                    alt=f"Classes of the {unit}s of {layer} of {run} at every epoch",
                    caption=f"{layer}: classes by S_clean. "
                    f"{page.n(sets, config.ablation.split)}{seeds}",
                    read=f"A row that keeps its colour is a {unit} that stays what it is. Pale "
                    "with a question mark: not decided.",
                )
            )
        if rows["value"].notna().any():
            figures.append(
                page.figure(
                    draw.overlap_dots(rows),
                    name=f"overlap-{name}",
                    alt=f"Overlap of the fragile sets of {layer} of {run}",
                    caption=f"{layer}: {unit}s that are fragile in both checkpoints, of those "
                    "fragile in either. Grey: what sets of the same sizes, drawn at random, give "
                    f"in the central {config.scores.confidence:.0%} of cases.",
                    read=f"Right of the grey, the fragile set lasts. Between seeds {unit}s share "
                    "nothing but their number, so chance is expected there.",
                )
            )
        else:
            notes = [*notes, f"{layer}: no two checkpoints have a fragile {unit} to compare."]
        shown = [_overlap_table(rows, unit)]
        blocks.append(page.block(f"{run}, {layer}", figures=figures, notes=notes, tables=shown))
    return page.Section(
        "overlap",
        "Does the fragile set last?",
        intro="The filters of a layer that are fragile by S_clean (decided or not), compared "
        "between checkpoints: Jaccard overlap, both fragile / either fragile (ours).",
        blocks=blocks,
        needs="nodal_dropout.layers, seeds, trainings.*.epochs",
    )


def _overlap_table(rows: pd.DataFrame, unit: str) -> page.Table | None:
    columns = {
        "one": ("seed", "epoch", "seed {}, epoch {}".format),
        "other": ("other_seed", "other_epoch", "seed {}, epoch {}".format),
        "fragile": ("fragile", "other_fragile", "{}, {}".format),
        "both": "both",
        "overlap": ("value", page.number),
        "by chance": ("chance", page.number),
        "interval of chance": ("chance_low", "chance_high", page.bracket),
        "p (as large, uncorrected)": ("p_value", page.small),
        f"{unit}s": "n",
        "left out": "left_out",
    }
    return page.table("Overlaps", rows, columns, source="fragile_overlap.tsv")


def remedy(tables: dict, config: Config) -> page.Section:
    """What amplifying fragile filters changes."""
    settings, blocks = config.remedy, []
    for index, (run, part) in enumerate(page.runs(tables["remedy"])):
        tried, gains = (page.of(tables[name], part) for name in ("strengths", "gains"))
        for epoch, of_epoch in part.groupby("epoch"):
            here, dealt = (table[table["epoch"] == epoch] for table in (tried, gains))
            mine = dealt["policy"] == "fragile"
            spans = {
                name: f"gains {rows['gain'].min():.2f} to {rows['gain'].max():.2f}"
                for name, rows in (("fragile", dealt[mine]), ("random", dealt[~mine]))
            }
            over = (
                "; diamond: mean over seeds with its t interval (an arrow where it leaves the axis)"
            )
            over = over if of_epoch["seeds"].max() > 1 else ""
            compared = page.figure(
                policy_comparison(
                    of_epoch,
                    notes=spans,
                    policies=("fragile", "random"),
                    reference="no change",
                ),
                name=f"remedy-{index}-{epoch}",
                alt=f"Accuracy of the remedied networks of {run} minus no change",
                caption=f"Test accuracy at epoch {epoch}, attacks crafted anew on every network. "
                f"{page.n(of_epoch)}; dot: one seed with its interval over images (paired){over}.",
                read="Right of the line is better than no change; the remedy works only where it "
                "is also right of random. Intervals are not corrected for the number of "
                "comparisons.",
            )
            curves = page.figure(
                draw.strength_curves(here),
                name=f"strengths-{index}-{epoch}",
                alt=f"Validation accuracy over the strength of the remedy for {run}",
                caption=f"How the strength was chosen: {int(here['n'].max()):,} validation "
                f"images, {page.count(here['seed'].unique(), 'seed')}; thin: a seed, of the "
                "control a draw of a seed; thick: their mean.",
                read="At 0 nothing is changed. The strength with the highest mean over all image "
                "sets is taken for each thin line by itself, and judged on test images above.",
            )
            blocks.append(
                page.block(
                    f"{run}, epoch {epoch}",
                    figures=[compared, curves],
                    notes=[doubt(tables, of_epoch)],
                    tables=[_remedy_table(of_epoch), _gain_table(dealt)],
                )
            )
    return page.Section(
        "remedy",
        "The remedy",
        intro="Does it help to amplify fragile filters and compress robust ones, in proportion to "
        "their fragility? (The idea: Pravin et al. 2021; the law is ours.) Control: gains dealt to "
        "the filters at random.",
        method="Gain 1 + strength x (fragility minus a pivot) / its range, the pivot such that the "
        "layer's feature energy on the training data stays. Fragility and strength come from the "
        "validation split, so no test image decides anything. Control: the same fragilities dealt "
        f"to the filters at random ({settings.random_draws} draws, averaged), same energy, and "
        "for each draw its own strength, chosen as that of the remedy.",
        blocks=blocks,
        needs="remedy.layers, remedy.from_epochs",
    )


def _remedy_table(rows: pd.DataFrame) -> page.Table | None:
    """Minus no change and, pair by pair in the same way, minus the control."""
    columns = {
        **page.same("images", "policy"),
        "seed": SEED,
        "accuracy": ("accuracy", page.percent),
        "minus": ("reference", lambda name: "no change" if name == "none" else name),
        "its accuracy": ("reference_accuracy", page.percent),
        **TESTED,
        **page.same("draws", "n"),
    }
    return page.table(
        "Minus no change, and minus the control", rows, columns, shown=True, source="remedy.tsv"
    )


def _gain_table(rows: pd.DataFrame) -> page.Table | None:
    columns = {
        **page.same("policy", "seed", "layer", "filter"),
        "fragility (points)": ("fragility", page.points),
        "feature energy": ("energy", page.number),
        "gain": ("gain", page.number),
        "strength": "strength",
    }
    return page.table("Gains", rows, columns, source="gains.tsv")
