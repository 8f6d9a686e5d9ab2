"""The studies, and what the report shows of each, in its order. No other place lists them.

A study is a folder here (its tables in `tables.py`, what it asks of the config in
`config.py`, its sections in `section.py`) and a rule file of its name in rules/.
"""

import ast
import functools
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

STUDIES = (
    "accuracy",
    "synaptic",
    "retraining",
    "mending",
    "fragile",
    "perturbations",
    "sustainability",
    "robustness",
    "stresses",
    "compression",
    "map",
    "own",
    "examples",
    "criteria",
)

CHAPTERS = {
    "Fault map": ("map.fault_maps",),
    "What is fragile": (
        "map.atlas",
        "criteria.answer",
        "criteria.section",
        "synaptic.class_maps",
        "synaptic.filter_rankings",
        "map.methods",
        "fragile.targeting",
        "fragile.remedy",
        "compression.section",
        "perturbations.section",
        "sustainability.section",
        "own.section",
        "synaptic.transfer",
    ),
    "Robustness and mending": (
        "accuracy.under_attack",
        "robustness.section",
        "stresses.section",
        "mending.section",
        "retraining.section",
    ),
    "What to do": ("advice.section",),
    "Appendix": (
        "examples.section",
        "synaptic.threshold_curves",
        "synaptic.score_maps",
        "synaptic.baselines",
        "synaptic.band_splits",
        "fragile.overlap",
        "synaptic.invariance",
        "accuracy.training",
        "accuracy.self_checks",
    ),
}
"""Of the page: the functions of each study's `section.py` in their order, see
`report.render.Sections`. The last holds what is folded, wherever it stands here."""

SECTIONS = tuple(name for names in CHAPTERS.values() for name in names)

FINDINGS = {
    "synaptic.chance_findings": "glance",
    "accuracy.accuracy_findings": "robustness",
    "robustness.findings": "trainings",
    "stresses.findings": "stresses",
    "compression.findings": "compression",
    "synaptic.layer_findings": "classes",
    "synaptic.decided_findings": "classes",
    "fragile.targeting_findings": "targeting",
    "fragile.remedy_findings": "remedy",
    "perturbations.findings": "perturbations",
    "sustainability.findings": "sustainability",
    "map.findings": "methods",
    "map.atlas_findings": "atlas",
    "criteria.answer_findings": "referee",
    "criteria.findings": "criteria",
    "own.findings": "own",
    "retraining.findings": "retraining",
    "mending.findings": "mending",
    "accuracy.not_asked_findings": "glance",
}
"""Function, see `report.render.Findings` -> the section that shows what it finds."""

VERDICTS = (
    "accuracy.verdict",
    "mending.verdict",
    "synaptic.verdict",
    "retraining.verdict",
    "fragile.verdict",
    "criteria.verdict",
    "accuracy.warnings",
)
"""Columns of the table on the first screen: (tables of one data set, network and training, config)
-> heading -> a value or a `page.cell`."""


@functools.cache
def tables_of(study: str) -> dict[str, str]:
    """Table -> what it holds: TABLES of a study's `tables.py`, which is read and not run, as that
    takes what parsing a workflow can do without."""
    file = Path(__file__).with_name(study) / "tables.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TABLES":
            return ast.literal_eval(node.value)
    return {}


def described() -> dict[str, str]:
    """Table -> what it holds, of all studies."""
    tables: dict[str, str] = {}
    for study in STUDIES:
        tables |= tables_of(study)
    return tables


def functions(names: Iterable[str]) -> list:
    """The functions that names of `CHAPTERS`, `FINDINGS` or `VERDICTS` stand for."""
    parts = [name.split(".") for name in names]
    return [
        getattr(import_module(f"faultline.studies.{of}{'.section' * (of in STUDIES)}"), name)
        for of, name in parts
    ]
