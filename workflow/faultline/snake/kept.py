"""Work that is done, kept under all that its bytes come from: what is asked for again is found.

In the folder of the config key `keep`, `{rule}/{key}/` holds the outputs of one job as 0, 1, ...
and `entry.json`, which tells where they went and their digests. An entry appears and goes as a
whole, and what is read from it is held against its digests: a process killed at any moment, or a
file that was damaged, costs the work anew and nothing else. Folders with a dot hold marks:
`.digests` those of large inputs, `.begun` the keys of jobs under way, `.forced` what the user wants
computed again, whatever is kept. No torch.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.files import atomic, digest, save_text
from faultline.snake import records
from faultline.snake.states import mark_of, remembered

PACKAGES = re.compile(r"(torch|torchvision|numpy|pandas|scipy|safetensors|nvidia_\w+)-\d.*-info")
STEERING = ("ATEN_", "CUBLAS_", "DNNL_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "TORCH_")
NAMES = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{16}")  # of entries, and of what is being written
TRIM_EVERY, DAY = 60, 86400  # seconds


def folder_of(config: dict) -> Path:
    """Where finished work is kept."""
    return Path(config["keep"]["folder"] or f"{records.folder_of(config)}/.kept").expanduser()


def force(config: dict, outputs: Iterable[str]) -> None:
    """Have the jobs that make these files do their work, even if it is kept."""
    for path in outputs:
        save_text("", mark_of(path, "forced", folder_of(config)), durable=False)


def forget(config: dict) -> None:
    """Drop what is kept in the results' own folder, but for what the results still hold."""
    folder = folder_of(config)
    if not config["keep"]["folder"]:
        trim(folder, 0)
        if not any(entries(folder)):
            shutil.rmtree(folder, ignore_errors=True)


class Kept:
    """What is kept of the work of one job, and where its outputs will be.

    snakemake: the object of a job's script. Making one looks for the outputs and puts them into
    their places; `log` is then what the log of the job that did the work said, and None where the
    work is to be done. `notes` are for its log.
    """

    def __init__(self, snakemake):
        self.job, self.config = snakemake, snakemake.config
        self.folder = folder_of(self.config)
        self.log, self.key, self.notes = None, None, []
        try:
            self.log = self._look()
        except (OSError, UserError) as error:
            self.notes.append(f"nothing that is kept can be used: {error}")

    def _look(self) -> str | None:
        job = self.job
        network = self.config["own_networks"].get(job.wildcards.get("network"), {})
        if plugins.is_users(network.get("function")):
            network = network | {"code": plugins.code(network["function"])}
        where = _hash(network, job.params.device, job.threads, _machine(), _gpu(job))
        self.key = self._key(where)
        forced = mark_of(job.output[0], "forced", self.folder)
        if forced.exists():
            forced.unlink(missing_ok=True)
        elif self._entry.exists():
            try:
                return self._restore()
            except (FileNotFoundError, ValueError) as error:
                self.notes.append(f"{self._entry}: damaged ({error}), dropped")
                _drop(self._entry)
        begun = mark_of(job.output[0], "begun", self.folder)
        if not any(Path(f"{path}.partial").exists() for path in job.output):
            save_text(where, begun, durable=False)
        elif not begun.exists() or begun.read_text() != where:
            # what goes on here was begun there, so the bits are neither
            save_text("elsewhere", begun, durable=False)
            self.key = None
        return None

    @property
    def _entry(self) -> Path:
        return self.folder / self.job.rule / self.key

    def _restore(self) -> str:
        date, log, digests = _entry(self._entry / "entry.json")
        with contextlib.ExitStack() as whole:
            for number, (path, sha256) in enumerate(zip(self.job.output, digests, strict=True)):
                kept, temporary = self._entry / str(number), whole.enter_context(atomic(path))
                shutil.copyfile(kept, temporary)  # a link would share its times with others
                if digest(temporary) != sha256:
                    raise ValueError(f"the bytes of {path} are others")
                with contextlib.suppress(OSError):  # so that it takes no room of its own
                    _place(temporary, kept, link=True)
        with contextlib.suppress(OSError):
            os.utime(self._entry / "entry.json")  # when it was used last
        return f"found in {self._entry}, made {date}. What was said then:\n{log}"

    def put(self, log: Path) -> None:
        """Keep the outputs of the work that has just ended, and what it said."""
        if self.key is None:
            return
        try:
            self._put(log.read_text(encoding="utf-8"))
        except (OSError, UserError) as error:
            print(f"not kept: {error}")

    def _put(self, log: str) -> None:
        torch = sys.modules.get("torch")
        if bool(torch and torch.cuda.is_initialized()) != bool(_gpu(self.job)):
            print("not kept: the work was not done where it was expected")
            return
        files, temporary = [], self._entry.with_name(_temporary())
        temporary.mkdir(parents=True)
        try:
            for number, path in enumerate(self.job.output):
                _place(Path(path), temporary / str(number))
                files.append({"path": path, "digest": digest(temporary / str(number))})
            entry = {"made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "log": log, "files": files}
            (temporary / "entry.json").write_text(json.dumps(entry), encoding="utf-8")
            _drop(self._entry)
            with contextlib.suppress(OSError):  # the same job elsewhere was faster
                temporary.rename(self._entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        mark_of(self.job.output[0], "begun", self.folder).unlink(missing_ok=True)
        self._trim_now_and_then()

    def _trim_now_and_then(self) -> None:
        mark = self.folder / ".trimmed"
        if not mark.exists() or time.time() - mark.stat().st_mtime > TRIM_EVERY:
            mark.touch()
            trim(self.folder, self.config["keep"]["gb"] * 1e9)

    def _key(self, where: str) -> str:
        """The hash of all that the outputs come from. Of the user's files, contents count alone."""
        job, results = self.job, records.folder_of(self.config)

        def name(path: str) -> str | None:
            inside = records.named(path, results)
            return inside if inside != path else None

        inputs = [[name(path), remembered(Path(path), self.folder)] for path in job.input]
        counts = {k: 1 if isinstance(v, str) else len(v) for k, v in job.input.items()}
        places = [dict(job.wildcards.items()), [*map(name, job.output)]]
        return _hash(records.work(job, inputs), counts, places, where)


def _entry(path: Path) -> tuple[str, str, list[str]]:
    """Of an entry: when it was made, the log, the digests; ValueError where it is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from None
    match content:
        case {"made": str(date), "log": str(log), "files": list(files)}:
            entries = [file.get("digest") for file in files if isinstance(file, dict)]
            digests = [each for each in entries if isinstance(each, str)]
            if len(digests) == len(files):
                return date, log, digests
    raise ValueError("entry.json is none of ours")


def _machine() -> list:
    """What the last bits of a result depend on: packages, processor, variables that steer them."""
    folders = filter(Path.is_dir, map(Path, {*sys.path}))
    names = {path.name for folder in folders for path in folder.iterdir()}
    packages = sorted(filter(PACKAGES.match, names))
    processor: str | list[str] = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        processor = [line for line in lines if line.startswith(("model name", "flags"))]
    steering = {k: v for k, v in os.environ.items() if k.startswith(STEERING)}
    return [sys.version, packages, processor, sorted(steering.items())]


def _gpu(job) -> list[str]:
    """Driver and models of the GPUs of this machine, where the job will take one; else nothing."""
    if job.params.device == "cpu" or not job.resources.get("gpu"):
        return []
    files = [Path("/proc/driver/nvidia/version")]
    files += sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    texts = [file.read_text() for file in files if file.exists()]
    lines = {line for text in texts for line in text.splitlines() if re.match("NVRM|Model", line)}
    return ["cuda", *sorted(lines)]


def _hash(*parts) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _temporary() -> str:
    """A name that no other process takes, on this machine or another."""
    return f".{os.urandom(8).hex()}"


def _place(source: Path, target: Path, *, link: bool = False) -> None:
    """The file once more under another name: one with it where the file system can, else, unless
    it must be one, a copy."""
    temporary = target.with_name(_temporary())
    try:
        os.link(source, temporary)
    except OSError:
        if link:
            raise
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _drop(entry: Path) -> None:
    """An entry is whole, or it is not there."""
    gone = entry.with_name(_temporary())
    with contextlib.suppress(OSError):
        entry.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


class Entry(NamedTuple):
    """What one job left: its folder, its bytes, those that no file of the results shares, and when
    it was used last (seconds since 1970)."""

    path: Path
    size: int
    alone: int
    used: float


def _ours(folder: Path, pattern: str) -> list[Path]:
    """What in a folder, which may hold more, has a name that only this module gives."""
    return [path for path in folder.glob(pattern) if NAMES.fullmatch(path.name)]


def entries(folder: Path) -> Iterator[Entry]:
    """All that is kept in a folder."""
    for path in _ours(folder, "[!.]*/[!.]*"):
        with contextlib.suppress(OSError):  # another process dropped it just now
            stats = {file.name: file.stat() for file in path.iterdir()}
            entry = stats.pop("entry.json", None)
            sizes = [(part.st_size, part.st_nlink == 1) for part in stats.values()]
            alone = sum(size for size, one in sizes if one)
            used = entry.st_mtime if entry else 0.0
            yield Entry(path, sum(size for size, _ in sizes), alone, used)


def trim(folder: Path, limit: float) -> list[Entry]:
    """Drop the entries that were used longest ago, until those that share no bytes with the results
    take at most `limit` bytes; what is dropped."""
    candidates = sorted((e for e in entries(folder) if e.alone), key=lambda e: e.used)
    taken, dropped = sum(e.alone for e in candidates), []
    for entry in candidates:
        if taken <= limit:
            break
        _drop(entry.path)
        dropped.append(entry)
        taken -= entry.alone
    for left in _ours(folder, "*/.*"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return dropped
