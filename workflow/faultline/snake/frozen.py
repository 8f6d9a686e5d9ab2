"""What a run was when it began: its code, its config, and the files of the user's that it reads.

Each job imports the code from the disk, on a cluster it reads the config, too, and all this may be
hours after the run began. So Snakemake tells its jobs the digest of every source (the environment
variable `SOURCES`), and a job that would import other bytes ends with one line. The rest lies in a
folder of the run, in its results (`RUN`): the config, from which jobs that start Snakemake anew
take theirs, and the states of the user's files. No torch.
"""

import atexit
import hashlib
import importlib.machinery
import json
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import yaml

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.files import save_text
from faultline.base.fingerprint import PACKAGE, source
from faultline.snake import internals
from faultline.snake.states import WRITTEN, state

SOURCES = "FAULTLINE_SOURCES"
"""The environment variable with what `sources` gave when the run began."""
RUN = "FAULTLINE_RUN"
"""The environment variable that names the folder of the run."""
REFUSED = "FAULTLINE_REFUSED"
"""The environment variable in which a Snakemake that was started for one job says why not."""

ROOT = PACKAGE.parents[1]
CONFIG, STATES = "config.yaml", "states.json"


def sources(config: dict) -> str:
    """{"files": source, below the top folder -> its digest, "own": function of the user's -> the
    fingerprint of its code} as JSON."""
    named = [
        part.get("function", part.get("method"))
        for key in ("own_networks", "attacks")
        for part in config[key].values()
    ]
    named += [part["function"] for part in config["ablations"].values()]
    named += config["criteria"]["methods"]
    own = sorted({name for name in named if plugins.is_users(name)})
    files = [*PACKAGE.parent.rglob("*.py"), *PACKAGE.parent.glob("schemas/*")]
    files += [*ROOT.glob("rules/*.smk"), *ROOT.glob("Snakefile")]
    digests = {str(file.relative_to(ROOT)): _digest(source(file)) for file in sorted(files)}
    return json.dumps({"files": digests, "own": {name: plugins.code(name) for name in own}})


def begin(workflow: internals.Workflow, config: dict, results: str) -> None:
    """Write the folder of a run, and have the jobs that start Snakemake anew go by it.

    config: as it was given, without defaults. To be called while this run holds the folder of the
    results, so that what lies there is of runs that have ended. The folder goes when this process
    ends.
    """
    folder = Path(results, ".run", os.urandom(4).hex()).absolute()
    shutil.rmtree(folder.parent, ignore_errors=True)
    outputs = {file for job in workflow.jobs for file in job.output}
    inputs = {file for job in workflow.unfinished() for file in job.input}
    parts = {
        CONFIG: yaml.safe_dump(_plain(config), sort_keys=False),
        SOURCES: os.environ[SOURCES],
        STATES: json.dumps({file: state(file, WRITTEN) for file in sorted(inputs - outputs)}),
    }
    for name, text in parts.items():
        save_text(text, folder / name, durable=False)
    os.environ[RUN] = str(folder)
    workflow.give(folder / CONFIG)
    atexit.register(_end, folder.parent, os.getpid())


def _plain(value):
    """Snakemake's kinds of dicts and lists as YAML has them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _end(folder: Path, process: int) -> None:
    if os.getpid() == process:  # no copy of it
        shutil.rmtree(folder, ignore_errors=True)


def resume(workflow: internals.Workflow) -> bool:
    """In a Snakemake that was started for a job: go by the run that the job is of, and have the job
    say so where the code has changed since. False where there is no such run."""
    if not workflow.is_a_job:
        return False
    folder = next((Path(file).parent for file in workflow.config_files), Path())
    try:
        text = (folder / SOURCES).read_text(encoding="utf-8")
    except OSError:  # that run left no folder, as one of which this workflow is a module
        return SOURCES in os.environ
    os.environ |= {SOURCES: text, RUN: str(folder)}
    try:
        hold()
        for name, digest in json.loads(text)["files"].items():
            if not name.endswith(".py"):  # which are looked at when they are imported
                _check(ROOT / name, digest)
    except UserError as error:
        os.environ[REFUSED] = str(error)
    return True


def hold() -> None:
    """From here on, import no code but what the run began with; UserError where what was imported
    before is other code."""
    if refused := os.environ.get(REFUSED):
        raise UserError(refused)
    began = json.loads(os.environ.get(SOURCES) or "{}")
    plugins.CODES.update(began.get("own", {}))
    digests = {f"{ROOT}/{name}": digest for name, digest in began.get("files", {}).items()}
    if not digests:
        return
    finder = _Finder(digests)
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] == PACKAGE.name:
            finder.check(module.__file__)
    if script := internals.own_script():
        file, text = PACKAGE.parent / script[0], script[1]
        if str(file) in digests:
            _check(file, digests[str(file)], text)
    sys.meta_path.insert(0, finder)


class _Finder:
    """Finds modules of the package where Python does, and refuses those that have changed."""

    def __init__(self, digests: dict[str, str]):
        self.digests = digests

    def check(self, file: str | None) -> None:
        if file and (digest := self.digests.get(file)):
            _check(Path(file), digest)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != PACKAGE.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        self.check(spec and spec.origin)
        return spec


def _check(file: Path, digest: str, content: bytes | None = None) -> None:
    with suppress(OSError):
        if _digest(file.read_bytes() if content is None else content) == digest:
            return
    raise UserError(plugins.changed(file.relative_to(ROOT)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def check_files(paths: Iterable[str]) -> None:
    """UserError where a file of the user's was written to since the run began."""
    if RUN not in os.environ:
        return
    try:
        states = json.loads(Path(os.environ[RUN], STATES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        folder = os.environ[RUN]
        raise UserError(f"{folder}: gone, so the run that this job is of has ended") from None
    for path in {*paths} & {*states}:
        if states[path] != state(path, WRITTEN):
            raise UserError(plugins.changed(path))
