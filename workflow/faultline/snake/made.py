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
from collections.abc import Iterable
from pathlib import Path

from faultline.base.errors import UserError
from faultline.base.files import digest, save_text
from faultline.snake.kept import remembered

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


def beside(path) -> Path:
    """Where the record of a file lies."""
    path = Path(path)
    return path.with_name(f".{path.name}.made")


def forget(paths: Iterable) -> None:
    """Remove the records of some files, which are about to be written, or are gone."""
    for path in map(beside, paths):
        if path.is_dir():
            raise UserError(f"{path}: a folder, in the place of a record; remove it")
        path.unlink(missing_ok=True)


def checked(paths: Iterable[str], *, results: str) -> list[list[str]]:
    """Each of some files with its sha256. UserError where one is not what its record says; what has
    none, as files of the user's, is taken as it is. results: the folder of the run; what lies
    elsewhere may be of another run's, from any place in it."""
    return [[_named(path, results), _checked(path, results)] for path in paths]


def _checked(path: str, results: str) -> str:
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; run the workflow again")
    told, found = _record(path), digest(path)
    if told is None:
        return found
    inside = path.startswith(f"{results}/")
    place = told.get("file", "").removeprefix(RESULTS)
    at_home = path.endswith(place)
    ours = at_home and path.removesuffix(place) == results if told else inside
    remedy = f"name a whole copy, or remove {beside(path)} to take it as it is"
    if ours:
        remedy = "delete it and run again"
    if not told:
        what = f"its record, {beside(path)}, is damaged"
    elif inside and not at_home:
        what = f"this is {results}{place}, moved or copied"
        remedy = f"run again to make it anew; if it is a file of yours, {remedy}"
    elif told["sha256"] == found:
        return found
    elif (size := Path(path).stat().st_size) != told["bytes"]:
        what = f"{size} bytes, but rule {told['rule']} wrote {told['bytes']}"
    else:
        what = f"not the bytes that rule {told['rule']} wrote"
    raise UserError(f"{path}: {what}; {remedy}")


def state(path: str) -> list[int] | None:
    """Changes when a file is written to or replaced; the time of its inode cannot be set back, but
    tells of links, too, which what a job made gets."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    ours = beside(path).exists()
    return [found.st_size, found.st_mtime_ns, found.st_ino, *[found.st_ctime_ns] * (not ours)]


def check_unchanged(states: dict[str, list[int] | None]) -> None:
    """UserError where a file is no longer in its state: it may have been read half and half."""
    for path, before in states.items():
        if state(path) != before:
            raise UserError(f"{path}: changed while the job went on; run again")


def record(job, inputs: list[list[str]]) -> None:
    """Write the records of a job's outputs. job: the `snakemake` object of its script, with all
    outputs written; inputs: what `checked` gave of its inputs."""
    results = folder_of(job.config)
    common = {
        "rule": job.rule,
        "params": {name: repr(value) for name, value in job.params.items()},
        "inputs": inputs,
    }
    for path in job.output:
        of_file = {"file": _named(path, results), "bytes": Path(path).stat().st_size}
        told = of_file | {"sha256": digest(path)} | common
        # half a record would make its file anew, no worse than none
        save_text(json.dumps(told, indent=1), beside(path), durable=False)


def list_files(dag, results: str) -> None:
    """Write which files belong to a whole run, and what rule each is of, into the results: others
    may lie there since the config named other epochs, say."""
    rows = [
        f"{file.removeprefix(f'{results}/')}\t{job.rule.name}\n"
        for job in dag.jobs
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
    listed, found = {line.partition("\t")[0] for line in lines[1:]}, []
    for folder, _, names in os.walk(results):
        for name in names:
            file = Path(folder, name.removeprefix(".").removesuffix(".made"))
            below = str(file.relative_to(results))
            if name != beside(file).name or below in listed or not file.exists():
                continue
            if (_record(str(file)) or {}).get("file") == f"{RESULTS}/{below}":
                found.append(file)
    return sorted(found)


def folder_of(config: dict) -> str:
    """The folder of the results, as the paths of a run begin."""
    return config["results"].rstrip("/")


def carry(results: str, *, digests: Path) -> None:
    """Have Snakemake go by the records of the files in the folder `results`.

    What it asks of a file is what rule, params and inputs made it; the record answers, where there
    is one. A file that is not what its record says, or of which neither the record nor Snakemake
    knows anything, has params (one of `DOUBTS`) that fit no job, so it is made again. digests: the
    folder that remembers those of large files of the user's.
    """
    from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord, PersistenceBase

    remembers = PersistenceBase.metadata

    @functools.cache
    def now(name: str) -> str | None:
        """The sha256 of an input, as its own record says or as it is."""
        path = name.replace(RESULTS, results, 1)
        if told := _record(path):
            return told["sha256"]
        return remembered(Path(path), digests) if Path(path).exists() else None

    def known(path: str) -> dict | None:
        """What a record makes known of a file, in Snakemake's words."""
        told, doubt = _record(path), None
        if told is None:
            return None
        if not told:
            doubt = DAMAGED
        elif told["file"] != _named(path, results):
            doubt = ELSEWHERE
        elif any(now(name) not in (None, found) for name, found in told["inputs"]):
            doubt = INPUTS
        if doubt:
            return {"params": [doubt]}
        inputs = [(name.replace(RESULTS, results, 1), found) for name, found in told["inputs"]]
        return {
            "rule": told["rule"],
            "params": sorted(told["params"].values()),
            "input": sorted(path for path, _ in inputs),
            "input_checksums": {path: f"sha256:{found}" for path, found in inputs},
        }

    @functools.lru_cache(maxsize=256)  # Snakemake asks for each eight times
    def of(self, target, time: int):
        told, facts = remembers(self, target), known(str(target))
        if facts is None:
            if told is not None:
                return told
            facts = {"params": [UNKNOWN]}
        if told is None:
            told = MetadataRecord(starttime=time / 1e9, endtime=time / 1e9)
        return told.model_copy(update=facts | {"record_format_version": RECORD_FORMAT_VERSION})

    def metadata(self, target):
        try:
            time = Path(target).stat().st_mtime_ns
        except OSError:
            return remembers(self, target)
        inside = str(target).startswith(f"{results}/")
        return of(self, target, time) if inside else remembers(self, target)

    PersistenceBase.metadata = metadata


def _named(path: str, results: str) -> str:
    inside = path.startswith(f"{results}/")
    return f"{RESULTS}{path.removeprefix(results)}" if inside else path


def _record(path: str) -> dict | None:
    """The record of a file; None where there is none, empty where it is damaged."""
    try:
        told = json.loads(beside(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    known = {"file", "bytes", "sha256", "rule", "params", "inputs"}
    return told if isinstance(told, dict) and told.keys() == known else {}
