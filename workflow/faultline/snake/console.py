"""What Snakemake tells in the terminal: one line a job, with progress and the time that is left.

A dry run tells one line a rule. The long form, with every input and reason, goes to Snakemake's own
log file as ever, and to the terminal with `--printshellcmds`, `--verbose`, `--quiet` or another
logger. No torch.
"""

import errno
import logging
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from faultline.base.errors import printable, some
from faultline.base.pace import duration
from faultline.snake import internals, records, stopping
from faultline.snake.launch import WHY_KILLED

NOISE = (
    *("Building DAG", "Using shell", "Conda environments", "Select jobs", "Execute ", "Elapsed"),
    *("Finished jobid", "Assuming unrestricted", "Singularity", "Job rate limit"),
    "RuleException:\nCalledProcessError",  # the log says why
)
SILENT = {
    *(LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.PROGRESS),
    *(LogEvent.SHELLCMD, LogEvent.JOB_INFO),
}
TARGETS = ("total", "all")
NOTHING = "Nothing to be done"
ONLY_COST = "FAULTLINE_COST"
"""The environment variable with which a dry run tells what the run will cost, and nothing else."""
NAMED = 3
"""So many files are named, where there are many."""
LONG = 120
"""Characters of a log's line that are shown of a job that runs."""
FULL = re.compile(rf"\[Errno (?:{errno.ENOSPC}|{errno.EDQUOT})\][^':\n]*(?:: '([^'\n]+)')?")
NO_SPACE = "no space left; free some and run again"
CANCELLED = re.compile(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+ ?(DUE TO [A-Z ]*[A-Z])?")
OF_MEMORY = re.compile("memory limit|oom.?kill|out of memory", re.IGNORECASE)
LITTLE = 1e6  # bytes; where less is free, a line of a log may find no room
FEW = 5
"""Finished jobs from which on the time that is left is told."""
SILENT_FOR = 10.0
"""Seconds after which a job is told of; then after as many again, but at least once a minute."""


def install(
    workflow: internals.Workflow, costs: Callable[[bool], list[str]] = lambda _: []
) -> "Console | None":
    """Say less, in the terminal whose user asked for no other form; None where that is so, and in a
    dry run, which ends with what the run will cost; costs: see `Announced`."""
    asked = workflow.quiet or workflow.verbose or workflow.commands or workflow.debugs
    if asked or workflow.is_a_job:
        return None
    for handler in workflow.handlers:
        if isinstance(handler, logging.FileHandler):
            # a full disk would be told for each record
            handler.handleError = lambda record: None  # type: ignore[method-assign]
    with internals.optional():
        handler = workflow.terminal()
        long = handler.formatter or logging.Formatter()
        console = None if workflow.dry else Console(long)
        said = console or Announced(long, lambda: reasons(workflow), costs)
        handler.setFormatter(said)
        handler.addFilter(said)
        if workflow.dry:
            workflow.count_only()
        return console
    return None


def reasons(workflow: internals.Workflow) -> list[str]:
    """Why a run makes files again, each reason in a line; what follows from these is left out, and
    what was never made before."""
    files_of: dict[str, list[str]] = {}
    for job in workflow.unfinished():
        why, files = workflow.why(job), job.output
        missing = [file for file in files if not Path(file).exists()]
        if lost := [file for file in missing if records.beside(file).exists()]:
            text, files = "they are missing", lost
        elif why.settings:
            doubts = why.old_params & records.DOUBTS
            text = min(doubts) if doubts else "their settings or their code have changed"
        elif why.inputs:
            text = "their inputs have changed"
        elif why.unfinished:
            text = "they were not finished"
        else:
            continue
        files_of.setdefault(text, []).extend(map(str, files))
    return [
        f"made again, as {text}: {some(sorted(files), NAMED)}"
        for text, files in sorted(files_of.items())
    ]


class Announced(logging.Formatter):
    """The lines of a dry run, as a filter and a formatter in one. reasons: why files that were made
    before are made again, costs: whether stages
    are told one by one -> what the run will cost, a line each."""

    def __init__(
        self,
        long: logging.Formatter,
        reasons: Callable[[], list[str]],
        costs: Callable[[bool], list[str]] = lambda _: [],
    ):
        super().__init__()
        self.long, self.reasons, self.costs = long, reasons, costs

    def filter(self, record: Any) -> bool:
        """Whether a record makes a line; record: with what Snakemake puts on it."""
        event = getattr(record, "event", None)
        if ONLY_COST in os.environ and record.levelno < logging.WARNING:
            return event == LogEvent.RUN_INFO or str(record.msg).startswith(NOTHING)
        return event not in SILENT and not str(record.msg).startswith(NOISE)

    def format(self, record: Any) -> str:
        """One line for each rule; other records as Snakemake has them."""
        if getattr(record, "event", None) != LogEvent.RUN_INFO:
            return self.long.format(record)
        if ONLY_COST in os.environ:
            return "\n".join(self.costs(True))
        counts = {k: n for k, n in record.stats.items() if k not in TARGETS}
        wide, long = max(map(len, counts), default=0), len(str(max(counts.values(), default=0)))
        lines = [f"{rule:<{wide}}  {count:>{long}}" for rule, count in counts.items()]
        jobs = f"{(n := sum(counts.values()))} job{'' if n == 1 else 's'}"
        total = f"{jobs} would run: this was a dry run; -p lists each"
        return "\n".join([*lines, *self.reasons(), total, *self.costs(False)])


class Console(logging.Formatter):
    """The lines of one run, as a filter and a formatter in one. clock: seconds, of any origin."""

    def __init__(self, long: logging.Formatter, clock=time.monotonic):
        super().__init__()
        self.long, self.clock, self.began = long, clock, clock()
        self.total: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running: dict[int, tuple[str, str, list, float]] = {}
        self.took: Counter = Counter()  # seconds of the finished jobs of each rule
        self.failed: Counter = Counter()  # by their reasons
        self.next: dict[int, float] = {}  # seconds after which a running job is told of
        self.silent = False
        self.said: set[str] = set()

    def filter(self, record: Any) -> bool:
        """Whether a record makes a line; record: with what Snakemake puts on it."""
        if self.silent:
            return False
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            job = record.rule_name, _of(record.wildcards), record.log or [], self.clock()
            self.running[record.jobid] = job
        if event == LogEvent.JOB_FINISHED:
            begun = self.running.get(record.job_id)
            return begun is not None and begun[0] != "all"
        return event not in SILENT and not str(record.msg).startswith(NOISE)

    def format(self, record: Any) -> str:
        """One line for a job that begins or ends; other records as Snakemake has them."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.total = Counter({k: n for k, n in record.stats.items() if k not in TARGETS})
            return f"{self.total.total()} jobs: " + ", ".join(
                f"{count} {rule}" for rule, count in sorted(self.total.items())
            )
        if event == LogEvent.JOB_FINISHED:
            return self._finished(*self.running.pop(record.job_id))
        if event == LogEvent.JOB_ERROR:
            rule, of, *_ = self.running.pop(record.jobid, None) or (record.rule_name, "")
            why = why_failed(record.log)
            self.failed[why] += 1
            return (
                f"failed: {rule} {of}".rstrip() + f"\n    {why}\n    log: {', '.join(record.log)}"
            )
        text = self.long.format(record)
        if full := FULL.search(text or ""):  # while Snakemake wrote what it remembers
            line = f"error: {full[1] or '.snakemake'}: {NO_SPACE}"
            text = "" if line in self.said else line
            self.said.add(line)
        return text

    def watch(self, tell: Callable[[str], None]) -> None:
        """Tell of jobs while they run, from now until this process ends."""

        def look() -> None:
            while not self.silent:
                for line in self.progress():
                    tell(line)
                time.sleep(1)

        threading.Thread(target=look, daemon=True).start()

    def progress(self) -> list[str]:
        """A line for each job of which it is time to tell: how long it runs, and the last line of
        its log."""
        lines = []
        for job, (rule, of, logs, start) in [*self.running.items()]:
            seconds = self.clock() - start
            if rule in TARGETS or seconds < self.next.get(job, SILENT_FOR):
                continue
            self.next[job] = seconds + min(seconds, 60.0)
            said = [line for log in logs for line in lines_of(log) if line.strip()]
            told = f": {said[-1][:LONG]}" if said else ""
            lines.append(f"    {rule} {of}runs for {duration(seconds)}{told}")
        return lines

    def stopped(self, by: str) -> str:
        """The last line of a run that is stopped by a signal; what its jobs say then is no news."""
        self.silent = True
        done = f" after {self.done.total()} of {self.total.total()} jobs" if self.total else ""
        return stopping.line(by, done)

    def end(self, *, report: str | None, earlier: int) -> str:
        """The last lines: what failed and why, where the report is, how many files of earlier runs
        lie beside this one's, how long it took."""
        lines = []
        if self.failed:
            lines.append(f"{self.failed.total()} of {self.total.total()} jobs failed:")
            lines += [f"    {count} with {why}" for why, count in self.failed.items()]
        if report:
            lines.append(f"report: {report}")
        if earlier:
            lines.append(
                f"{earlier} files in the results are of earlier runs, not of this one: "
                "faultline kept names them"
            )
        return "\n".join([*lines, f"took {duration(self.clock() - self.began)}"])

    def _finished(self, rule: str, of: str, logs: list, start: float) -> str:
        seconds = self.clock() - start
        self.took[rule] += seconds
        self.done[rule] += 1
        done, total = self.done.total(), self.total.total()
        progress = f"{done:>{len(str(total))}}/{total}{self._left()}"
        warnings = [line for log in logs for line in lines_of(log) if line.startswith("warning: ")]
        line = f"[{progress}] {rule} {of}({duration(seconds)})"
        return "\n    ".join([line, *warnings])

    def _left(self) -> str:
        """From the mean of the finished jobs of each rule and how many ran at once."""
        done, elapsed = self.done.total(), self.clock() - self.began
        if not FEW <= done < self.total.total():
            return ""
        every, work = self.took.total() / done, 0.0
        for rule, count in self.total.items():
            each = self.took[rule] / self.done[rule] if self.done[rule] else every
            work += (count - self.done[rule]) * each
        return f", {duration(work * elapsed / self.took.total())} left"


def _of(wildcards: dict) -> str:
    """A job's wildcards in a few words, with a space behind them."""
    named = ("seed", "epoch", "first", "last")
    words = [f"{key} {value}" if key in named else str(value) for key, value in wildcards.items()]
    return " ".join(words) + " " if words else ""


def lines_of(log) -> list[str]:
    """The lines of a log, fit for a terminal; none where there is none."""
    try:
        text = Path(log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [printable(line) for line in text.splitlines()]


def why_failed(logs) -> str:
    """The last line of a failed job's log, or what SLURM has in its own of it; one that was killed,
    or found no room for its log, could not say why."""
    texts = [[line for line in lines_of(log) if line.strip()] for log in logs]
    for last in (lines[-1] for lines in texts if lines):
        if last.startswith("error: "):
            return last
    text = "\n".join(line for lines in texts for line in lines)
    if (cancelled := CANCELLED.search(text)) and not OF_MEMORY.search(text):
        return f"error: SLURM cancelled it, {(cancelled[1] or 'as by scancel').lower()}"
    for folder in {Path(log).parent for log in logs}:
        with suppress(OSError):
            if shutil.disk_usage(folder).free < LITTLE:
                return f"error: {folder}: {NO_SPACE}"
    return f"error: it was {WHY_KILLED}"
