"""The report of a run that failed in part: what there is, what is missing, and why."""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pandas as pd

from faultline.base.errors import UserError
from faultline.base.files import load_table, save_table, save_text
from faultline.report.page import count, listed
from faultline.report.render import load_look, versions
from faultline.snake import records
from faultline.snake.console import why_failed
from faultline.snake.internals import rule_of
from faultline.studies.config import Config
from faultline.studies.order import STUDIES, described
from faultline.studies.report import report

TABULATE = "tabulate_"


def write(jobs: Iterable, *, unfinished: set, failed: set, path: str) -> str | None:
    """Write the report of what the finished jobs made, to `path`, and return that; None where no
    report was asked for or none can be made. jobs: Snakemake's, all of the run; unfinished: those
    that should have run and did not, the failed ones among them."""
    jobs = list(jobs)
    page = next((job for job in jobs if rule_of(job) == "report"), None)
    if page is None:
        return None
    lacking = {str(file) for job in unfinished for file in job.output}
    tables = {name: pd.DataFrame() for name in described()}
    notes = [("This run failed in part", _what_failed(unfinished, failed))]
    results = records.folder_of(page.params.config)
    tabulating = {
        rule_of(job).removeprefix(TABULATE): job
        for job in jobs
        if rule_of(job).startswith(TABULATE)
    }
    for study in STUDIES:
        if study not in tabulating:
            continue
        try:
            tables |= _tables(tabulating[study], study, tables, lacking=lacking, results=results)
        except UserError as error:
            notes.append((f"Missing: {study}", f"{error}."))
        except Exception as error:
            why = (
                f"Its tables could not be made of what there is ({type(error).__name__}: {error})."
            )
            notes.append((f"Missing: {study}", why))
    try:
        html = report(
            tables,
            config=Config.model_validate(page.params.config),
            versions=versions(),
            **load_look(page.input.template),
            notes=[*notes, *page.params.notes],
            failed=True,
        )
    except Exception as error:  # it must not hide why the jobs failed
        print(f"no {path}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    save_text(html, path)
    return path


def _tables(
    job, study: str, so_far: dict[str, pd.DataFrame], *, lacking: set[str], results: str
) -> dict[str, pd.DataFrame]:
    """Those of a study: as they were made, or of the files that there are and the tables made so
    far. UserError where it needs one that is in neither."""
    if not lacking & {str(file) for file in job.output}:
        records.checked(map(str, job.output), results=results)
        return {name: load_table(file) for name, file in job.output.items()}
    tabulate = import_module(f"faultline.studies.{study}.tables").tables
    with tempfile.TemporaryDirectory() as folder:
        inputs = {}
        for name, files in job.input.items():
            one = isinstance(files, str)
            there = [str(file) for file in ([files] if one else files)]
            there = [file for file in there if file not in lacking and Path(file).exists()]
            records.checked(there, results=results)
            if one and not there:
                table = so_far.get(Path(files).stem, ())
                if not len(table):
                    raise UserError(f"It needs {files}, which was not made")
                there = [f"{folder}/{Path(files).name}"]
                save_table(table, there[0])
            inputs[name] = there[0] if one else there
        return tabulate(**inputs, **job.params.settings)


def _what_failed(unfinished: set, failed: set) -> str:
    """The jobs that failed by their reasons, and how many wait for them."""
    why: dict[str, list[str]] = {}
    for job in failed:
        why.setdefault(why_failed(job.log), []).append(rule_of(job))
    reasons = [
        f"{line} ({listed(f'{n} {rule}' for rule, n in sorted(Counter(rules).items()))})"
        for line, rules in sorted(why.items())
    ]
    waiting = Counter(rule_of(job) for job in unfinished - failed)
    text = f"{count(failed, 'job')} failed: {'; '.join(reasons)}."
    if waiting:
        rules = listed(f"{n} {rule}" for rule, n in sorted(waiting.items()) if rule != "all")
        text += f" Not run, as they need what is missing: {rules}."
    return f"{text} Below is what there is; run again to make the rest."
