"""What every file of the results was made from, in JSON beside it: `.NAME.made`.

A job writes it when its outputs are whole: rule, params (settings and the fingerprint of the code),
the sha256 of each input and of the file itself. Whoever reads the file holds its bytes against
that. When a run begins, Snakemake goes by it (`carry`), too: its own memory, `.snakemake`, stays
behind where results are copied or moved, and tells of paths, not of what was put there since. No
torch.
"""

import functools
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from faultline.base.errors import UserError
from faultline.base.files import digest, save_text
from faultline.snake import internals
from faultline.snake.states import REPLACED, TOUCHED, remembered, state

RESULTS = "{results}"
"""Stands for the folder of the results, so that it may be moved."""

UNKNOWN = "it is not known what they were made from"
DAMAGED = "the record of what they were made from is damaged"
ELSEWHERE = "they come from another place of the results"
INPUTS = "what they were made from has changed"
DOUBTS = {UNKNOWN, DAMAGED, ELSEWHERE, INPUTS}
"""Why a file is made again that is there."""

LIST = "files.tsv"
"""The list of the files of a run, in its results."""


@dataclass(frozen=True)
class Record:
    """A file, by its name in the results (see `named`), its bytes, and what made it: see `work`."""

    file: str
    bytes: int
    sha256: str
    rule: str
    params: dict[str, str]
    inputs: list[list[str]]

    @classmethod
    def read(cls, path: str) -> "Record | None":
        """That beside a file; None where there is none, ValueError where it is damaged."""
        try:
            content = json.loads(beside(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, RecursionError) as error:
            raise ValueError(str(error)) from None
        match content:
            case {"file": str(), "bytes": int(), "sha256": str(), "rule": str(), **more}:
                match more:
                    case {"params": dict(params), "inputs": list(inputs)} if len(more) == 2:
                        if _texts(params.values()) and all(map(_is_pair, inputs)):
                            return cls(**content)
        raise ValueError(f"{beside(path)}: no record")


def work(job, inputs: Sequence[Sequence[str | None]]) -> dict:
    """What a job does and with what, all that its outputs come from but for the machine: rule,
    params (name -> repr of the value, as Snakemake remembers them) and inputs, [name, sha256] of
    each. job: the `snakemake` object of its script."""
    params = {name: repr(value) for name, value in job.params.items()}
    return {"rule": job.rule, "params": params, "inputs": inputs}


def _texts(values: Iterable) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_pair(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and _texts(value)


def beside(path) -> Path:
    """Where the record of a file lies."""
    path = Path(path)
    return path.with_name(f".{path.name}.made")


def named(path: str, results: str) -> str:
    """The name of a file in the results, wherever these lie; of any other, its path."""
    inside = path.startswith(f"{results}/")
    return f"{RESULTS}{path.removeprefix(results)}" if inside else path


def folder_of(config: dict) -> str:
    """The folder of the results, as the paths of a run begin."""
    return config["results"].rstrip("/")


def forget(paths: Iterable) -> None:
    """Remove the records of some files, which are about to be written, or are gone."""
    for path in map(beside, paths):
        if path.is_dir():
            raise UserError(f"{path}: a folder, in the place of a record; remove it")
        path.unlink(missing_ok=True)


def checked(paths: Iterable[str], *, results: str) -> list[list[str]]:
    """[name, sha256] of each of some files, see `named`. UserError where one is not what its record
    says; what has none, as files of the user's, is taken as it is. results: the folder of the run;
    what lies elsewhere may be of another run's, from any place in it."""
    return [[named(path, results), _checked(path, results)] for path in paths]


def _checked(path: str, results: str) -> str:
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; run the workflow again")
    try:
        record, damaged = Record.read(path), False
    except ValueError:
        record, damaged = None, True
    sha256 = digest(path)
    if record is None and not damaged:
        return sha256
    inside = path.startswith(f"{results}/")
    place = record.file.removeprefix(RESULTS) if record else ""
    at_home = path.endswith(place)
    ours = at_home and path.removesuffix(place) == results if record else inside
    remedy = f"name a whole copy, or remove {beside(path)} to take it as it is"
    if ours:
        remedy = "delete it and run again"
    if record is None:
        what = f"its record, {beside(path)}, is damaged"
    elif inside and not at_home:
        what = f"this is {results}{place}, moved or copied"
        remedy = f"run again to make it anew; if it is a file of yours, {remedy}"
    elif record.sha256 == sha256:
        return sha256
    elif (size := Path(path).stat().st_size) != record.bytes:
        what = f"{size} bytes, but rule {record.rule} wrote {record.bytes}"
    else:
        what = f"not the bytes that rule {record.rule} wrote"
    raise UserError(f"{path}: {what}; {remedy}")


def states(paths: Iterable[str]) -> dict[str, list[int] | None]:
    """The states of a job's inputs, for `check_unchanged`. What a job made gets links where it is
    kept, while it is read."""
    return {path: state(path, REPLACED if beside(path).exists() else TOUCHED) for path in paths}


def check_unchanged(before: dict[str, list[int] | None]) -> None:
    """UserError where a file is no longer in its state: it may have been read half and half."""
    now = states(before)
    for path in before:
        if now[path] != before[path]:
            raise UserError(f"{path}: changed while the job went on; run again")


def write(job, inputs: list[list[str]]) -> None:
    """Write the records of a job's outputs. job: the `snakemake` object of its script, with all
    outputs written; inputs: what `checked` gave of its inputs."""
    results, of_job = folder_of(job.config), work(job, inputs)
    for path in job.output:
        size = Path(path).stat().st_size
        record = Record(named(path, results), size, digest(path), **of_job)
        # half a record would make its file anew, no worse than none
        save_text(json.dumps(asdict(record), indent=1), beside(path), durable=False)


def list_files(jobs: Iterable, results: str) -> None:
    """Write which files belong to a whole run, and what rule each is of, into the results: others
    may lie there since the config named other epochs, say. jobs: Snakemake's."""
    rows = [
        f"{file.removeprefix(f'{results}/')}\t{internals.rule_of(job)}\n"
        for job in jobs
        for file in job.output
    ]
    save_text("file\trule\n" + "".join(sorted(rows)), f"{results}/{LIST}")


def earlier(results) -> list[Path]:
    """The files that jobs of earlier runs made and the last whole one does not have; none where no
    list tells. Those of a run whose results lie in these are not meant."""
    try:
        lines = Path(results, LIST).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    listed, others = {line.partition("\t")[0] for line in lines[1:]}, []
    for folder, _, names in os.walk(results):
        for name in names:
            file = Path(folder, name.removeprefix(".").removesuffix(".made"))
            below = str(file.relative_to(results))
            if name != beside(file).name or below in listed or not file.exists():
                continue
            try:
                record = Record.read(str(file))
            except ValueError:
                continue
            if record and record.file == f"{RESULTS}/{below}":
                others.append(file)
    return sorted(others)


def carry(results: str, *, digests: Path) -> None:
    """Have Snakemake go by the records of the files in the folder `results`.

    What it asks of a file is what rule, params and inputs made it; the record answers, where there
    is one. A file that is not what its record says, or of which neither the record nor Snakemake
    knows anything, has params (one of `DOUBTS`) that fit no job, so it is made again. digests: the
    folder that remembers those of large files of the user's.
    """

    @functools.cache
    def now(name: str) -> str | None:
        """The sha256 of an input, as its own record says or as it is."""
        path = name.replace(RESULTS, results, 1)
        try:
            record = Record.read(path)
        except ValueError:
            record = None
        if record:
            return record.sha256
        return remembered(Path(path), digests) if Path(path).exists() else None

    def facts(path: str, is_remembered: bool) -> dict | None:
        """What a record says of a file, in Snakemake's words."""
        if not path.startswith(f"{results}/"):
            return None
        try:
            record = Record.read(path)
        except ValueError:
            return {"params": [DAMAGED]}
        if record is None:
            return None if is_remembered else {"params": [UNKNOWN]}
        if record.file != named(path, results):
            return {"params": [ELSEWHERE]}
        if any(now(name) not in (None, sha256) for name, sha256 in record.inputs):
            return {"params": [INPUTS]}
        inputs = {name.replace(RESULTS, results, 1): sha256 for name, sha256 in record.inputs}
        return {
            "rule": record.rule,
            "params": sorted(record.params.values()),
            "input": sorted(name.replace(RESULTS, results, 1) for name, _ in record.inputs),
            "input_checksums": {path: f"sha256:{sha256}" for path, sha256 in inputs.items()},
        }

    internals.remember(facts)
