"""The files and folders that a config names. No torch."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from faultline.base import plugins
from faultline.base.errors import UserError, short, some
from faultline.base.fingerprint import PACKAGE
from faultline.config.fields import ON_DISK, Code, OnDisk, Section, keys

WORKFLOW = PACKAGE.parents[1]
PARTS = ["benchmarks", "configs", "docs", "envs", "profiles", "rules", "slurm", "tests", "workflow"]
OURS = (
    *("logs", "tables", "config.resolved.yaml", "files.tsv", "report.html", "report.partial.html"),
    *("run.html", "compare.html", "runs.html"),
)
"""What a run, or a comparison of runs, leaves at the top of its folder."""


class Keep(Section):
    """Finished trainings, attacks, sweeps and retrainings are kept under all that they come
    from, so that what is asked for again (a setting switched back, an input made anew with the
    same bytes) is found and not computed."""

    folder: Annotated[str | None, ON_DISK] = Field(None, pattern="[^/]")
    """Where, relative to the working directory; several results may share one. null is .kept in
    the results."""
    gb: float = Field(5, ge=0, le=1_000_000)
    """Disk space (10^9 bytes) that it may take beyond what the results themselves take; what
    was used longest ago goes first. 0 keeps nothing and takes nothing from what is kept."""


def write_out(config: Section) -> None:
    """Puts the home folder for ~; UserError where a path cannot even be looked for."""
    for key in keys(config):
        if key.marked(OnDisk) or key.marked(Code):
            value = getattr(key.holder, key.name)
            change = partial(_written_out, code=key.marked(Code) is not None)
            if isinstance(value, list):
                value[:] = [change(part, f"{key.where}.{n}") for n, part in enumerate(value)]
            elif isinstance(value, dict):
                value |= {name: change(part, f"{key.where}.{name}") for name, part in value.items()}
            elif value is not None:
                setattr(key.holder, key.name, change(value, key.where))


def _written_out(value: object, where: str, *, code: bool) -> object:
    if not isinstance(value, str) or (code and not plugins.is_own(value)):
        return value
    try:
        if value.startswith("~"):
            value = str(Path(value).expanduser())
        with suppress(FileNotFoundError, NotADirectoryError):
            (plugins.parts(value)[0] if code else Path(value)).stat()
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        message = f"config key {where}: {short(value)!r}: {why}; name another"
        raise UserError(message) from None
    return value


def check_folder(given: str | None, *, key: str, holds_runs: bool) -> None:
    """UserError where a folder of the config, to be written to, belongs to something else.

    holds_runs: whether it must hold runs, where it holds anything that is not hidden.
    """
    if given is None:
        return
    folder, key = Path(given), f"config key {key}"
    if long := [part for part in folder.parts if len(part) > 100]:
        raise UserError(f"{key}: {short(long[0])!r} is longer than 100 characters; name another")
    whole = folder.resolve()
    ours = {whole, *whole.parents} & {WORKFLOW / part for part in PARTS}
    if ours or whole in (WORKFLOW, *WORKFLOW.parents) or {".snakemake", ".git"} & {*whole.parts}:
        raise UserError(f"{key}: {given} is part of the workflow, or holds it; name a new folder")
    found = sorted(path.name for path in folder.glob("[!.]*")) if holds_runs else []
    left = [*OURS, *(f"{sub}/{name}" for sub in found for name in (*OURS, "data.pt"))]
    if found and not any(map(os.path.exists, (folder / name for name in left))):  # or unreadable
        what = f"holds {some(found, 3)} and no run"
        raise UserError(f"{key}: {given} {what}; name a new folder, or an empty one")


def check_results(folder: str) -> None:
    """UserError where results cannot be written."""
    path = Path(folder)
    there = next(part for part in (path, *path.parents) if part.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise UserError(
            f"config key results: {there} is no folder that can be written to; name another"
        )
