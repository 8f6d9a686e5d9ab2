"""Accuracy under attack, training curves and self-checks, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from faultline.attacks.checks import CHECK_MEANINGS
from faultline.attacks.doubt import doubt
from faultline.attacks.methods import weakest_first
from faultline.attacks.worst import by_unit, norms_of, worst_cases
from faultline.data.sources import RANGED
from faultline.report import canvas, page
from faultline.studies.accuracy import figures as draw

if TYPE_CHECKING:
    from faultline.studies.config import Config

MAX_ACCURACIES = 8


def accuracy_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """Accuracy, clean and under each attack, and in the worst case."""
    runs = [*page.runs(tables["accuracy"])]
    if len(runs) > MAX_ACCURACIES:
        yield "Accuracy", f"That of {len(runs)} trainings is in the figures below."
        return
    for run, part in runs:
        part = canvas.last_epoch(part)
        texts, clean = [], part[part["eps"] == 0].groupby("seed")["accuracy"].first()
        for name, settings in config.attacks.items():
            at = part[(part["attack"] == name) & np.isclose(part["eps"], settings.eps)]
            if len(at):
                where = f"{name} (eps {settings.eps:g}, {settings.norm})"
                texts.append(f"{page.span(at['accuracy'])} under {where}")
        worst = _worst_texts(part, config.attack_settings)
        spread = "mean over seeds, lowest to highest in brackets" if len(clean) > 1 else "one seed"
        first, rest = (worst, texts) if worst else (texts, [])
        said = f"{'; '.join([f'{page.span(clean)} clean', *first])} (epoch {part['epoch'].max()}, "
        yield (
            f"Accuracy, {run}",
            f"{doubt(tables, part)} {said}{spread}).".strip(),
            f"{'; '.join(rest)}." if rest else "",
        )


def _worst_texts(part: pd.DataFrame, attacks: dict) -> list[str]:
    """The accuracy in each worst case, at the eps that its attacks are set to."""
    texts = []
    for worst, names in worst_cases(attacks).items():
        for eps in sorted({attacks[name]["eps"] for name in names} - {0}):
            at = part[(part["attack"] == worst) & np.isclose(part["eps"], eps)]
            if len(at):
                where = f"{at['over'].iloc[0]} (eps {eps:g}, {attacks[names[0]]['norm']})"
                texts.append(f"{page.span(at['accuracy'])} in the worst case over {where}")
    return texts


def verdict(tables: dict, config: Config) -> dict:
    """Clean accuracy, and the lowest of those under the attacks and in the worst cases."""
    part = canvas.last_epoch(tables["accuracy"]) if len(tables["accuracy"]) else pd.DataFrame()
    if not len(part):
        return {"clean": "", "under the worst attack": ""}
    attacks, clean = (
        config.attack_settings,
        part[part["eps"] == 0].groupby("seed")["accuracy"].first(),
    )
    sizes = [(name, settings.eps) for name, settings in config.attacks.items()]
    for worst, names in worst_cases(attacks).items():
        sizes += [(worst, attacks[name]["eps"]) for name in names]
    cases = []
    for name, eps in sizes:
        at = part[(part["attack"] == name) & np.isclose(part["eps"], eps) & (part["eps"] > 0)]
        if len(at):
            cases.append((at["accuracy"], f"{name}, eps {eps:g}"))
    cells = {"clean": _spread(clean), "under the worst attack": ""}
    if cases and (why := doubt(tables, part)):
        cell = page.cell("not to be believed", small=why, link="checks", tone="no")
        cells["under the worst attack"] = cell
    elif cases:
        cells["under the worst attack"] = _spread(*min(cases, key=lambda case: case[0].mean()))
    return cells


def _spread(values: pd.Series, where: str = "") -> page.Cell:
    """The mean over seeds, and in small print lowest and highest."""
    mean, _, ends = page.span(values).partition(" [")
    small = ", ".join(filter(None, [ends and f"[{ends}", where]))
    return page.cell(mean, small=small, link="robustness")


def warnings(tables: dict, config: Config) -> dict:
    """How many self-checks gave a warning, and image sets at chance."""
    checks, base = tables["checks"], tables["base"]
    warned = checks[checks["status"] == "warning"] if len(checks) else checks
    count = warned["check"].nunique() if len(warned) else 0
    small = f"of {page.count(checks['check'].unique() if len(checks) else [], 'check')}"
    if len(base) and not (last := canvas.last_epoch(base))["above_chance"].all():
        names = page.listed(dict.fromkeys(last.loc[~last["above_chance"], "images"]))
        small += f"; at chance: {names}"
    cell = page.cell(str(count), small=small, link="checks", tone="no" if count else "")
    return {"warnings": cell}


def _check_sentence(checks: pd.DataFrame) -> str:
    warned = checks.loc[checks["status"] == "warning", "check"]
    if not len(warned):
        return f"All {len(checks)} checks of the attacks passed."
    times = [
        f"{_in_words(name)} ({count} of {(checks['check'] == name).sum()} times)"
        for name, count in warned.value_counts(sort=False).items()
    ]
    return f"A warning came from {page.listed(times)}."


def _in_words(check: str) -> str:
    """The name of a check, as people would say it."""
    return check.replace("_", " ")


def not_asked_findings(tables: dict, config: Config) -> Iterator[tuple[str, ...]]:
    """For each norm without APGD, what stands for the strongest attack there."""
    attacks = config.attack_settings
    for unit, names in by_unit(attacks).items():
        if any(attacks[name]["method"] in ("apgd", "standard") for name in names):
            continue
        ranked, unranked = weakest_first({name: attacks[name] for name in names})
        strongest = f"nothing is known of how strong {page.listed(unranked)} are"
        if ranked:
            strongest = f"the strongest attack run is {ranked[-1]}"
        text = f"At {unit}, {strongest}; what APGD would find is not known."
        yield "APGD was not asked", text


def under_attack(tables: dict, config: Config) -> page.Section:
    """Accuracy over eps."""
    norms, worst = norms_of(config.attack_settings), worst_cases(config.attack_settings)

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        last = canvas.last_epoch(part)
        figure = page.figure(
            draw.robustness_curves(last, norms=norms, worst=worst),
            name=f"robustness-{index}",
            alt=f"Accuracy against eps for {run}, by attack",
            caption=f"Test accuracy under attack at epoch {last['epoch'].max()}. {page.n(last)}; "
            f"thick: mean over seeds, thin: each seed.{_worst_words(last)}",
            read="The line starts at the clean accuracy (eps 0); the sooner it falls, the less "
            "robust the network. eps of different norms cannot be compared.",
        )
        wide = last.pivot_table(index=["attack", "eps"], columns="seed", values="accuracy")
        numbers = wide.map(page.percent).rename(columns=lambda s: f"seed {s}").reset_index()
        numbers["eps"] = [f"{eps:g}" for eps in numbers["eps"]]
        title = f"Accuracy at epoch {last['epoch'].max()}"
        table = page.table(title, numbers, source="accuracy.tsv")
        notes = [doubt(tables, last)]
        return page.block(run, notes=notes, figures=[figure], tables=[table])

    return page.Section(
        "robustness",
        "Robustness curves",
        intro="Accuracy under attacks of growing size. Every attack is crafted "
        "on the very network that it is tried on. eps is in " + _units(config),
        blocks=page.by_run(tables["accuracy"], block),
        needs="attacks",
    )


def _worst_words(part: pd.DataFrame) -> str:
    """What a worst case is over, where there is one."""
    over = part.loc[part["over"] != "", "over"] if "over" in part else []
    if not len(over):
        return ""
    return (
        " Worst case: the share of images that are correct under each of the attacks that share "
        f"the eps ({'; '.join(dict.fromkeys(over))})."
    )


def _units(config: Config) -> str:
    attacks = config.attacks.items()
    normalised = [name for name, settings in attacks if settings.normalised_units]
    if normalised:
        return f"pixel units, but in normalised units, not clipped, for {page.listed(normalised)}."
    if any(settings.source in RANGED for settings in config.datasets.values()):
        return (
            "the units of the data (pixels: 0 to 1; features and channels of signals: shares of "
            "the range that each has in the training split; tokens are attacked in the space of "
            "their embedding, in root mean squares of its weights)."
        )
    return "the units of the data (pixels: 0 to 1)."


def training(tables: dict, config: Config) -> page.Section:
    """Loss and accuracy over the epochs."""

    def block(index: int, run: str, part: pd.DataFrame) -> page.Block:
        figure = page.figure(
            draw.training_curves(part),
            name=f"training-{index}",
            alt=f"Loss and accuracy while {run} trained",
            caption=f"Training of {run}, {page.count(part['seed'].unique(), 'seed')}; thick: mean "
            "over seeds, thin: each seed. The validation images are no test images.",
            read="Validation lines that turn away from training lines show overfitting.",
        )
        return page.block(run, figures=[figure])

    return page.Section(
        "training",
        "Training curves",
        intro="Loss and accuracy after every epoch: on training images the loss that the recipe "
        "minimises, on validation images the cross-entropy of clean ones.",
        blocks=page.by_run(tables["history"], block),
        needs="trainings.*.epochs",
    )


def self_checks(tables: dict, config: Config) -> page.Section:
    """What the attacks' checks of themselves say."""
    checks, blocks = tables["checks"], []
    if len(checks):
        rows = []
        for check, part in checks.groupby("check", sort=False):
            warned = part[part["status"] == "warning"]
            row = {
                "name": check,
                "check": _in_words(check),
                "made": len(part),
                "warnings": len(warned),
            }
            if len(warned):
                first = warned.iloc[0]
                where = (
                    f"{first['dataset']} · {first['network']} · {first['training']}, seed "
                    f"{first['seed']}, epoch {first['epoch']}, {first['attack']}"
                )
                row["example"] = f"{where}: {first['detail']}"
                row["what a warning means"] = CHECK_MEANINGS.get(check, "")
            rows.append(row)
        table = pd.DataFrame(rows)
        warned = table["warnings"] > 0
        columns = {
            "check": "check",
            "made": "made",
            "what a warning would mean": ("name", lambda name: CHECK_MEANINGS.get(name, "")),
        }
        title, source = "Checks that passed everywhere", "checks.tsv"
        shown = [
            page.table("Warnings", table[warned].drop(columns="name"), shown=True, source=source)
        ]
        shown.append(page.table(title, table[~warned], columns, source=source))
        blocks.append(page.block("", notes=[_check_sentence(checks)], tables=shown))
    return page.Section(
        "checks",
        "Self-checks of the attacks",
        intro="Each attack tests itself on every checkpoint; a warning says what not to trust.",
        blocks=blocks,
        needs="attacks",
    )
