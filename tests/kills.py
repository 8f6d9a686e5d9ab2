"""Kills of the fault campaign: at random moments, spread evenly over all rules."""

import os
import shutil
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

from faults import (
    Job,
    Tally,
    cpu_seconds,
    differences,
    digests,
    end_all,
    holding,
    jobs_of,
    living,
    remove,
    send,
    settle,
    trace,
    what_follows,
)
from support import Copy

# What is struck, and how often beside the others. Only the first leave the run going.
FAULTS = {
    "the job, -9": 30,
    "the job, SIGTERM": 5,
    "everything, -9": 4,
    "Snakemake, -9": 2,
    "the process that jobs start from, -9": 1,
    "Snakemake, SIGTERM": 1,
    "Snakemake, SIGINT": 1,
    "Snakemake, SIGHUP": 1,
    "the process group, SIGINT": 1,
}
NUMBERS = {"-9": signal.SIGKILL}
AT_ONCE = 9  # jobs to strike in one run
RUNS = 12  # until the results are compared
START = "(Snakemake itself)"
PATIENCE = 180.0  # seconds that a run may take


class Kills:
    """Runs in one folder, one after the other, that are struck while they work."""

    def __init__(self, reference: Copy, folder: Path, seed: str):
        self.rng, self.tally, self.hit = Random(seed), Tally(), Counter()
        self.reference, self.copy = reference, reference.duplicate(folder)
        self.expected, self.jobs = digests(reference), jobs_of(reference)
        self.pending: list[Job] = []
        self.since: list[str] = []  # what was done since the results were compared
        self.of_rule = defaultdict(list)
        for job in self.jobs:
            self.of_rule[job.rule].append(job)
        self.hit.update(dict.fromkeys([*self.of_rule, START], 0))

    def go(self, wanted: int, deadline: float) -> Tally:
        self.at_once, runs = min(AT_ONCE, wanted), 0
        while self.hit.total() < wanted and time.monotonic() < deadline:
            self.run()
            runs += 1
            if runs % RUNS == 0:
                self.compare()
        if runs % RUNS:
            self.compare()
        self.tally.tried.update({f"kills in {rule}": n for rule, n in self.hit.items()})
        return self.tally

    def run(self) -> None:
        """One run, of a few jobs whose outputs are gone, and its end."""
        rare = sorted(self.of_rule, key=lambda rule: (self.hit[rule], self.rng.random()))
        jobs = self.pending[-2:]  # killed before: they go on from where they were
        jobs += [self.rng.choice(self.of_rule[rule]) for rule in rare[: self.at_once - len(jobs)]]
        jobs = [*dict.fromkeys(jobs)]
        gone = [*jobs]
        if self.rng.random() < 0.1:
            gone += what_follows(self.jobs, jobs[-1])
        remove(self.copy, {file for job in gone for file in job.output})
        remove(self.copy, {job.log for job in gone} | {job.used for job in gone})
        faults = self.rng.choices([*FAULTS], [*FAULTS.values()], k=len(jobs))
        planned = {
            job: (self.rng.random() * job.cpu_seconds, fault)
            for job, fault in zip(jobs, faults, strict=True)
        }
        early = None
        if self.hit[START] <= min(self.hit[rule] for rule in self.of_rule):
            early = self.rng.uniform(0, 5)
        arguments = ["--cores", self.rng.choice("12")]
        if self.rng.random() < 0.75:
            arguments.append("--nolock")
        if self.rng.random() < 0.15:
            arguments += ["--config", "keep={gb: 5}", "--"]
        elif self.rng.random() < 0.9:  # else the whole run
            arguments += ["--", *(file for job in jobs for file in job.output)]
        if any((self.copy.folder / ".snakemake/locks").glob("*")):
            self.copy.snakemake("--unlock")
        self._watch(arguments, planned, early)
        self.pending = [job for job in jobs if not all(map(self._there, job.output))]

    def _there(self, path: str) -> bool:
        return (self.copy.folder / path).exists()

    def _watch(self, arguments: list[str], planned: dict, early: float | None) -> None:
        """Strike each job when it has worked for as long as planned."""
        said = self.copy.folder / "said"
        start, struck = time.monotonic(), None
        begun: dict[Job, list[int]] = {}  # and the processes of each
        with said.open("wb") as file:
            process = self.copy.start(*arguments, said=file)
        while process.poll() is None and time.monotonic() < start + PATIENCE:
            now = time.monotonic()
            if early is not None and now > start + early:
                struck, early = self.rng.choice(["everything, -9", "Snakemake, -9"]), None
                self._strike(struck, START, [process.pid], process.pid)
                break
            for job in [job for job in planned if self._there(job.used)]:
                del planned[job]  # it has ended before its time
            for job in [job for job in planned if not begun.get(job) and self._there(job.log)]:
                begun[job] = holding(self.copy.folder / job.log, living(self.copy.folder))
            for job in [job for job in planned if begun.get(job)]:
                due, fault = planned[job]
                if max(map(cpu_seconds, begun[job])) < due:
                    continue
                del planned[job]
                own = holding(self.copy.folder / job.log, living(self.copy.folder))
                if own and self._strike(fault, job.rule, own, process.pid):
                    struck = None if fault.startswith("the job") else fault
                if struck:
                    break
            if struck:
                break
            time.sleep(0.01)
        self._ended(process, struck, said, begun)

    def _strike(self, fault: str, rule: str, own: list[int], snakemake: int) -> bool:
        """own: the processes of the job."""
        target, _, name = fault.rpartition(", ")
        number = NUMBERS.get(name) or getattr(signal, name)
        if target == "the process group":
            os.killpg(snakemake, number)
            got = 1
        else:
            everything = living(self.copy.folder)
            self.rng.shuffle(everything)
            got = send(
                number,
                {
                    "the job": lambda: own if self.rng.random() < 0.3 else [self.rng.choice(own)],
                    "everything": lambda: everything,
                    "Snakemake": lambda: [snakemake],
                    "the process that jobs start from": lambda: warm(everything),
                }[target](),
            )
        if got:
            self.hit[rule] += 1
            self.tally.tried[f"of them: {fault}"] += 1
            self.since.append(f"{rule}: {fault}")
        return bool(got)

    def _ended(self, process, struck: str | None, said: Path, begun: dict) -> None:
        what = struck or "jobs alone"
        try:
            process.wait(PATIENCE)
        except Exception:
            self.tally.fail(f"kills: Snakemake does not end after {self.since[-3:]}")
        if self.rng.random() < 0.5 or process.poll() is None:  # else the next run begins at once
            if left := end_all(self.copy.folder, seconds=10):
                self.tally.fail(f"kills: {left} processes left after {what} {self.since[-3:]}")
            process.wait()
        texts = [said, *(self.copy.folder / job.log for job in begun)]
        for text in texts:
            content = text.read_text(errors="replace") if text.exists() else ""
            if "Traceback" in content:
                place = text.relative_to(self.copy.folder)
                self.tally.fail(f"kills: {place} after {self.since[-3:]}: {trace(content)}")

    def compare(self) -> None:
        end_all(self.copy.folder, seconds=10)
        if problem := settle(self.copy, self.expected):
            self.tally.fail(f"kills: {problem} after {self.since}")
            shutil.rmtree(self.copy.folder)
            self.reference.duplicate(self.copy.folder)
        self.tally.tried["comparisons after kills"] += 1
        self.since, self.pending = [], []


def warm(processes: list[int]) -> list[int]:
    """The first of those that jobs start from."""
    found = []
    for process in sorted(processes):
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if b"snake/warm.py" in command:
            found.append(process)
    return found[:1]


def kill(reference: Copy, folder: Path, *, wanted: int, seed: str, deadline: float) -> Tally:
    """Strike `wanted` times; a repeated run says that nothing is left to do."""
    kills = Kills(reference, folder, seed)
    tally = kills.go(wanted, deadline)
    said = kills.copy.snakemake("-n")
    if "Nothing to be done" not in said.stdout:
        tally.fail(f"kills: a finished run would go on: {said.stdout[-300:]}")
    if problem := differences(digests(kills.copy), kills.expected):
        tally.fail(f"kills: at the end {problem}")
    shutil.rmtree(folder, ignore_errors=True)
    return tally
