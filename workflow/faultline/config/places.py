"""The files and folders that a config names. No torch."""

import os
from contextlib import suppress
from pathlib import Path

from faultline.base import plugins
from faultline.base.errors import UserError, short, some
from faultline.base.fingerprint import PACKAGE
from faultline.config.unused import entries

FUNCTIONS = ("networks.*", "own_networks.*.function", "attacks.*.method", "ablations.*.function")
FILES = (
    *("results", "keep.folder", "published", "datasets.*.folder", "datasets.*.file"),
    *("trainings.*.weights.*", "trainings.*.weights.*.file"),
)
"""Keys of files and folders; those of `FUNCTIONS` may name a function in one."""

WORKFLOW = PACKAGE.parents[1]
PARTS = ["benchmarks", "configs", "docs", "envs", "profiles", "rules", "slurm", "tests", "workflow"]
OURS = (
    *("logs", "tables", "config.resolved.yaml", "files.tsv", "report.html", "report.partial.html"),
    *("run.html", "compare.html", "runs.html"),
)
"""What a run, or a comparison of runs, leaves at the top of its folder."""


def write_out(config) -> None:
    """Puts the home folder for ~; UserError where a path cannot even be looked for."""
    for pattern in (*FUNCTIONS, *FILES):
        for key, holder, last in entries(config, pattern):
            value = holder[last]
            if not isinstance(value, str) or (pattern in FUNCTIONS and not plugins.is_own(value)):
                continue
            try:
                if value.startswith("~"):
                    value = holder[last] = str(Path(value).expanduser())
                with suppress(FileNotFoundError, NotADirectoryError):
                    (plugins.parts(value)[0] if pattern in FUNCTIONS else Path(value)).stat()
            except (OSError, RuntimeError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error).rstrip(".")
                message = f"config key {key}: {short(value)!r}: {why}; name another"
                raise UserError(message) from None


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
