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
    "map",
    "own",
    "examples",
    "criteria",
)

SECTIONS = (
    "map.fault_maps",
    "criteria.answer",
    "criteria.section",
    "synaptic.class_maps",
    "synaptic.transfer",
    "robustness.section",
    "accuracy.under_attack",
    "mending.section",
    "examples.section",
    "synaptic.threshold_curves",
    "synaptic.score_maps",
    "synaptic.baselines",
    "synaptic.filter_rankings",
    "map.methods",
    "fragile.targeting",
    "fragile.overlap",
    "fragile.remedy",
    "synaptic.band_splits",
    "perturbations.section",
    "sustainability.section",
    "own.section",
    "retraining.section",
    "synaptic.invariance",
    "accuracy.training",
    "accuracy.self_checks",
)
"""Functions of each study's `section.py`, see `report.render.Section`."""

FINDINGS = {
    "synaptic.chance_findings": "glance",
    "accuracy.accuracy_findings": "robustness",
    "robustness.findings": "trainings",
    "synaptic.layer_findings": "classes",
    "synaptic.decided_findings": "classes",
    "fragile.targeting_findings": "targeting",
    "fragile.remedy_findings": "remedy",
    "perturbations.findings": "perturbations",
    "sustainability.findings": "sustainability",
    "map.findings": "methods",
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
    """The functions that names of `SECTIONS`, `FINDINGS` or `VERDICTS` stand for."""
    parts = [name.split(".") for name in names]
    return [
        getattr(import_module(f"faultline.studies.{study}.section"), name) for study, name in parts
    ]
