"""What the parts of the fault campaign share: the finished run, its jobs, and what went wrong."""

import ast
import hashlib
import os
import pickle
import re
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml
from support import TINY, Copy, copy_workflow

NATURE = re.compile(r"(logs|\.kept|\.run)/|run\.html$|\.lock$")
"""Files of the results that differ by nature: they tell of times, processes and memory."""


@dataclass
class Tally:
    """What was tried, by kind, and a line on each thing that went wrong."""

    tried: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, problem: str | None = None) -> None:
        self.tried[kind] += 1
        if problem:
            self.fail(f"{kind}: {problem}")

    def fail(self, line: str) -> None:
        line = " ".join(line.split())[:600]
        print(f"WRONG {line}", flush=True)
        self.wrong.append(line)

    def join(self, other: "Tally") -> None:
        self.tried += other.tried
        self.wrong += other.wrong


@dataclass(frozen=True)
class Job:
    """A job of the finished run; used: what it took, written at its end; script: what Snakemake
    ran for it, which can be run again."""

    rule: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    log: str
    used: str
    script: str
    cpu_seconds: float


def make_reference(
    folder: Path, config: str = TINY + "keep: {gb: 0}\n", files=lambda copy: None, *arguments: str
) -> Copy:
    """A run, undisturbed and with nothing kept, and the scripts of its jobs. files: makes those of
    the user's that the config names."""
    copy = copy_workflow(folder, config)
    files(copy)
    copy.run("--cores", "2", "--skip-script-cleanup", *arguments)
    return copy


def jobs_of(copy: Copy) -> list[Job]:
    """Every job of a run, read from its scripts."""
    jobs = []
    for script in sorted((copy.folder / ".snakemake/scripts").glob("*.py")):
        text = script.read_text(encoding="utf-8")
        (told,) = re.findall(r"snakemake = pickle\.loads\((b.*?)\);from snakemake", text)
        told = pickle.loads(ast.literal_eval(told))
        used = Path(told.log[0]).with_suffix(".used.tsv")
        seconds = pd.read_csv(copy.folder / used, sep="\t")["cpu_seconds"][0]
        paths = [tuple(map(str, files)) for files in (told.input, told.output)]
        place = str(script.relative_to(copy.folder))
        jobs.append(Job(told.rule, *paths, told.log[0], str(used), place, float(seconds)))
    return jobs


def digests(copy: Copy) -> dict[str, str]:
    """Path -> sha256 of all results but those that differ by nature."""
    results, found = copy.folder / "results", {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.is_file() and not NATURE.search(name):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(found: dict[str, str], expected: dict[str, str]) -> str:
    """In words; empty where there are none."""
    lost, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    differ = sorted(
        name for name in found.keys() & expected.keys() if found[name] != expected[name]
    )
    parts = (("lost", lost), ("left over", more), ("other bytes", differ))
    return "; ".join(f"{len(names)} {what}: {names[:3]}" for what, names in parts if names)


def restore(copy: Copy, reference: Copy, paths) -> None:
    """Put files of the reference, and the records beside them, back into their places."""
    for path in paths:
        place, name = (copy.folder / path).parent, Path(path).name
        remove(copy, [path])
        place.mkdir(parents=True, exist_ok=True)
        for each in (name, f".{name}.made"):
            if (reference.folder / path).with_name(each).exists():
                shutil.copy2((reference.folder / path).with_name(each), place / each)


def remove(copy: Copy, paths) -> None:
    """Remove files, or what is in their places."""
    for path in map(copy.folder.joinpath, paths):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def what_follows(jobs: list[Job], first: Job) -> list[Job]:
    """The jobs that need what a job makes, directly or not."""
    made, found = set(first.output), []
    while more := [job for job in jobs if job not in found and made & set(job.input)]:
        found += more
        made.update(file for job in more for file in job.output)
    return found


def living(folder: Path) -> list[int]:
    """Processes that work in a folder, but for this one."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            inside = place.readlink().is_relative_to(folder)
        except OSError:  # it has ended, or waits to be asked for its status
            continue
        if inside and int(place.parent.name) != os.getpid():
            found.append(int(place.parent.name))
    return found


def holding(file: Path, processes: list[int]) -> list[int]:
    """Those of some processes that have a file open, or were started with its name below their
    folder: of its log, a job and the process that waits for it."""
    found = []
    for process in processes:
        try:
            open_files = [str(place.readlink()) for place in Path(f"/proc/{process}/fd").iterdir()]
            words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        except OSError:
            continue
        named = any(word and str(file).endswith(f"/{word}") for word in words)
        if named or str(file) in open_files:
            found.append(process)
    return found


def cpu_seconds(process: int) -> float:
    """What a process has taken, its children included; 0 where it has ended."""
    try:
        told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, told[11:15])) / os.sysconf("SC_CLK_TCK")


def send(number: int, processes: list[int]) -> int:
    """Send a signal; how many were there to get it."""
    got = 0
    for process in processes:
        try:
            os.kill(process, number)
            got += 1
        except ProcessLookupError:
            pass
    return got


def end_all(folder: Path, *, seconds: float) -> int:
    """Wait until no process works in a folder any more; how many had to be killed."""
    end = time.monotonic() + seconds
    while (left := living(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    return send(signal.SIGKILL, left)


def settle(copy: Copy, expected: dict[str, str], *arguments: str) -> str | None:
    """Run undisturbed to the end; what is wrong with that or with the results."""
    shutil.rmtree(copy.folder / ".snakemake/locks", ignore_errors=True)  # what --unlock does
    done = copy.snakemake("--cores", "2", *arguments)
    if done.returncode:
        return f"the undisturbed run failed: {done.stdout[-500:]}"
    return differences(digests(copy), expected) or None


def changed(config: dict, key: str, value) -> str:
    """The text of a config with another value, set with all that leads to it."""
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return yaml.safe_dump(config, sort_keys=False)


def trace(said: str) -> str:
    """The first traceback of a text: where it was raised, and the error."""
    lines = said[said.index("Traceback") :].splitlines()
    where = [line.strip() for line in lines if line.lstrip().startswith("File ")][-1:]
    errors = [
        line for line in lines[1:] if re.match(r"[A-Za-z_.]*(Error|Exception|Interrupt)", line)
    ]
    return f"a traceback, {[*where, *errors[:1]]}"
