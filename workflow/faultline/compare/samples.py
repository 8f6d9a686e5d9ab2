"""Two files of right and wrong, sample by sample, whatever was evaluated. No torch."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from faultline.ablation.facts import unpack
from faultline.base.comparison import compare, with_correction
from faultline.base.errors import UserError, printable, some
from faultline.base.files import load_arrays

IDS = ("doc_id", "sample_id", "question_id", "id", "index")
"""What a sample goes by: the first that all have."""
NO_METRICS = {*IDS, "task", "filter"}
HARNESS = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT[\d.-]+\.jsonl")
"""A file of lm-evaluation-harness: of one task, when it was evaluated."""
RIGHT = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
ALL = "all"
"""The task of samples that name none."""

COLUMNS = [
    *("task", "metric", "n", "left_out", "first", "second", "difference", "ci_low", "ci_high"),
    *("only_first", "only_second", "p_value", "q_value", "detectable"),
]


class Sample(NamedTuple):
    """What two files say of one sample: metric -> right or wrong, and the hash of what was asked;
    "" where a file has none."""

    metrics: Mapping[str, bool]
    asked: str


Tasks = dict[str, dict[str, Sample]]
"""Task -> id -> sample."""


def load_samples(path: Path, *, metric: str = "", identity: str = "") -> Tasks:
    """The samples of a file: lines of JSON (.jsonl), a table (.csv, .tsv), or arrays of ours
    (.npz, a task for each of them); or of all samples_*.jsonl of lm-evaluation-harness below a
    folder.

    metric: the key or column that says right (1, true) or wrong; by default each that holds nothing
    else, those in `metrics` first where the samples have that. identity: what a sample goes by, by
    default the first of IDS. A task is the column `task`, that in the harness' name of the file,
    or ALL, with the harness' `filter` behind it. UserError for what is none of these.
    """
    tasks: Tasks = {}
    for file in _files(path):
        named = HARNESS.fullmatch(file.name)
        of_file = named[1] if named else ALL
        for task, rows in _by_task(_read(file), of_file).items():
            if task in tasks:
                raise UserError(f"{path}: has the task {printable(task)} twice; name one file")
            tasks[task] = _samples(rows, f"{file}", metric=metric, identity=identity)
    return tasks


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (files := [f for f in sorted(path.rglob("*.jsonl")) if HARNESS.fullmatch(f.name)]):
        raise UserError(f"{path}: no samples_TASK_DATE.jsonl in it; name a file of samples")
    return files


def _read(file: Path) -> Iterable[dict[str, Any]]:
    if file.suffix == ".npz":
        arrays = unpack(load_arrays(file))
        return (
            {"task": name, "id": str(number), "correct": right}
            for name, hits in arrays.items()
            for number, right in enumerate(hits.tolist())
        )
    if file.suffix not in (".jsonl", ".csv", ".tsv"):
        raise UserError(f"{file}: expected samples as .jsonl, .csv, .tsv or .npz, or their folder")
    try:
        if file.suffix == ".jsonl":
            return [*_lines(file)]
        apart = "\t" if file.suffix == ".tsv" else ","
        table = pd.read_csv(file, sep=apart, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (ValueError, RecursionError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(f"{file}: cannot be read as {file.suffix}: {said}") from None
    return table.to_dict("records")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """What can name a sample or be right or wrong, of each line; the rest may be megabytes."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object")
            metrics = row.get("metrics")
            kept = {k: v for k, v in row.items() if isinstance(v, str | int | float)}
            yield kept | ({"metrics": metrics} if isinstance(metrics, list) else {})


def _by_task(rows: Iterable[dict[str, Any]], of_file: str) -> dict[str, list[dict[str, Any]]]:
    tasks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        task, chosen = str(row.get("task", of_file)), row.get("filter", "none")
        tasks.setdefault(task if chosen == "none" else f"{task}, {chosen}", []).append(row)
    return tasks


def _samples(
    rows: list[dict[str, Any]], file: str, *, metric: str, identity: str
) -> dict[str, Sample]:
    name = next((n for n in ([identity] if identity else IDS) if all(n in r for r in rows)), None)
    if name is None:
        what = f"no {identity} in every sample" if identity else f"no id, such as {some(IDS, 5)}"
        raise UserError(f"{file}: {what}; name it with --id")
    if not (metrics := [metric] if metric else _metrics(rows)):
        raise UserError(f"{file}: nothing in it is right (1, true) or wrong (0, false) throughout")
    samples: dict[str, Sample] = {}
    for row in rows:
        right = {m: _right(row.get(m)) for m in metrics}
        if (one := str(row[name])) in samples:
            raise UserError(
                f"{file}: {name} {printable(one)} stands there twice; --id names another"
            )
        if metric and right[metric] is None:
            said = "missing" if metric not in row else printable(row[metric])
            raise UserError(
                f"{file}: {metric} of {name} {printable(one)} is {said}; expected 1 (right) or 0"
            )
        there = {m: bool(value) for m, value in right.items()}
        samples[one] = Sample(there, str(row.get("doc_hash", "")))
    return samples


def _metrics(rows: list[dict[str, Any]]) -> list[str]:
    first = rows[0].get("metrics")
    names = first if isinstance(first, list) else [n for n in rows[0] if n not in NO_METRICS]
    return [n for n in names if all(_right(row.get(n)) is not None for row in rows)]


def _right(value: object) -> bool | None:
    """Right or wrong; None for what is neither."""
    return RIGHT.get(str(value).strip().lower())


def compared_samples(first: Tasks, second: Tasks, *, confidence: float) -> pd.DataFrame:
    """Rows of COLUMNS, one per task that both have, paired by id: accuracies, the second less the
    first with the interval of Agresti & Min 2005, how many samples each alone has right, McNemar's
    exact p-value, corrected over the tasks (Benjamini-Hochberg), and the smallest difference that
    so many samples, of which so many changed, would have told with 80 % power.

    left_out: samples that one lacks. UserError where no task, metric or sample is in both, or an id
    stands for two questions.
    """
    tasks = [task for task in first if task in second]
    if not tasks:
        said = " and ".join(some(sorted(map(printable, of)), 3) for of in (first, second))
        raise UserError(f"no task is in both: {said}")
    rows = [_compared(task, first[task], second[task], confidence=confidence) for task in tasks]
    table = with_correction(pd.concat(rows, ignore_index=True), confidence=confidence)
    table = table.rename(columns={"reference_accuracy": "first", "accuracy": "second"})
    return table[COLUMNS]


def _compared(
    task: str, first: dict[str, Sample], second: dict[str, Sample], *, confidence: float
) -> pd.DataFrame:
    shown = printable(task)
    if not (ids := [one for one in first if one in second]):
        raise UserError(f"{shown}: no sample is in both; --id names what pairs them")
    for one in ids:
        hashes = {first[one].asked, second[one].asked} - {""}
        if len(hashes) > 1:
            raise UserError(f"{shown}: {printable(one)} is another question in each (doc_hash)")
    metrics = [m for m in first[ids[0]].metrics if m in second[ids[0]].metrics]
    if not metrics:
        raise UserError(f"{shown}: no metric is in both; --metric names one")
    metric = metrics[0]
    right = {
        name: np.array([of[one].metrics[metric] for one in ids])
        for name, of in (("first", first), ("second", second))
    }
    table = compare({task: right}, reference="first", confidence=confidence)
    return table[table["level"] == "seed"].assign(
        task=task,
        metric=metric,
        left_out=len(first) + len(second) - 2 * len(ids),
        only_first=int((right["first"] & ~right["second"]).sum()),
        only_second=int((right["second"] & ~right["first"]).sum()),
    )


def said_of(row: Mapping[str, Any], names: tuple[str, str], *, level: float) -> str:
    """Which of the two is better, or what would have been told. names: what they are called."""
    if row["q_value"] < level and (row["ci_low"] > 0 or row["ci_high"] < 0):
        return f"{names[row['difference'] > 0]} is better"
    if np.isinf(row["detectable"]):
        return f"{row['n']} samples cannot tell this"
    return f"cannot tell; from {100 * row['detectable']:.1f} points on it would have been told"


def written(table: pd.DataFrame, names: tuple[str, str], *, confidence: float) -> pd.DataFrame:
    """A table of `compared_samples` as texts, to be read."""
    from faultline.report import page  # with matplotlib

    percent: Callable[[float], str] = page.percent
    rows = []
    for row in table.to_dict("records"):
        rows.append(
            {
                "task": printable(row["task"]),
                "metric": printable(row["metric"]),
                "n": str(row["n"]),
                names[0]: percent(row["first"]),
                names[1]: percent(row["second"]),
                "difference": page.points(row["difference"]),
                f"{confidence:.0%} interval": page.interval(row["ci_low"], row["ci_high"]),
                f"only {names[0]}": str(row["only_first"]),
                f"only {names[1]}": str(row["only_second"]),
                "p": page.small(row["p_value"]),
                "corrected": page.small(row["q_value"]) if len(table) > 1 else "",
                "": said_of(row, names, level=1 - confidence),
            }
        )
    return pd.DataFrame(rows)
