"""What faultline adds to a run of Snakemake: as it is parsed, as its jobs begin, and as outputs are
deleted. No torch."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from faultline.base.errors import UserError
from faultline.base.paths import MAYBE_BESIDE
from faultline.snake import console, frozen, internals, kept, lock, records, stopping, warm


@contextmanager
def in_one_line() -> Iterator[None]:
    """End Snakemake with one line where the user, the disk or Snakemake's version is at fault."""
    try:
        yield
    except (UserError, OSError) as error:  # such as a full disk
        sys.exit(f"error: {error}")


class Run:
    """The run that a Snakefile is parsed for.

    alone: not as a module of another workflow, which speaks for itself and has a --config of its
    own; leads: it is, and this process is not one that Snakemake started for a job; here: its jobs
    run on this machine. workflow: Snakemake's, root: the folder of this workflow.
    """

    def __init__(self, workflow, root: Path):
        self.workflow, self.root = internals.Workflow(workflow), root
        with in_one_line():
            self.workflow.check()
            self.alone = root in Path(self.workflow.main_file).resolve().parents
            self.leads = self.alone and not self.workflow.is_a_job
            self.here = self.workflow.is_here
            self.console = console.install(self.workflow, self._costs) if self.alone else None
        self.costs: Callable[[list, bool], list[str]] | None = None
        """(jobs, see `internals.described`; whether stages are told one by one) -> what they will
        cost, a line each."""
        self.stopped = self.console.stopped if self.console else stopping.line
        if self.leads:
            stopping.stop_with_jobs(self.stopped)

    def _costs(self, stages: bool) -> list[str]:
        return self.costs(self._jobs(), stages) if self.costs else []

    def _jobs(self) -> list[tuple[str, dict[str, str], list[str]]]:
        jobs = map(internals.described, self.workflow.unfinished())
        return [job for job in jobs if job[0] not in console.TARGETS]

    def prepare(self, config: dict) -> None:
        """Once the config is known, resolved: have Snakemake go by the records of files, and what
        belongs to outputs go with them."""
        results, folder = records.folder_of(config), kept.folder_of(config)
        with internals.optional():
            internals.look_once()
        with in_one_line():
            records.carry(results, digests=folder)
            if self.leads:
                with internals.optional():
                    internals.on_delete(lambda: _hold(results), lambda jobs: _forget(jobs, config))

    def warm_up(self) -> None:
        """Once all is parsed: where jobs run on this machine, have them end with this process, and
        start them from one that has imported what they all need; it does so while Snakemake works
        out what to run."""
        workflow = self.workflow
        if self.here and not workflow.is_a_job:
            stopping.be_watched()
        if self.here and not (workflow.dry or workflow.deployment):
            warm.start()
        address = os.environ.get(warm.ADDRESS, "")
        if address not in ("", "off") and not workflow.deployment:
            command = [sys.executable, str(warm.LAUNCH), address]
            with internals.optional():
                internals.start_by(command, self.root / "workflow")

    def tell(self, notes: Mapping[str, str]) -> None:
        """heading -> text, each in a line."""
        if self.leads:
            for heading, text in notes.items():
                internals.tell(f"{heading}: {text}")

    def begin(
        self,
        config: dict,
        given: dict,
        *,
        report: str,
        notes: Mapping[str, str],
        check: Callable[[list, int], None],
    ) -> None:
        """As the jobs begin. config: resolved, given: without defaults; report: the page that a
        whole run makes; notes: see `tell`; check: given jobs that run here, and how many at once,
        refuses what takes too long."""
        workflow, results = self.workflow, records.folder_of(config)
        with in_one_line():
            if self.leads and self.here and not workflow.touches:
                check(self._jobs(), workflow.cores)
            if self.leads:
                lock.take(results)
                frozen.begin(workflow, given, results)
                if any(report in job.output for job in workflow.jobs):
                    records.list_files(workflow.jobs, results)
                # Snakemake has put a handler of its own in place.
                stopping.stop_with_jobs(self.stopped, also=workflow.stop)
            if self.leads and self.here and self.console:
                self.console.watch(internals.tell)
            self.tell(notes)
            if self.leads:
                for line in console.reasons(workflow):
                    internals.tell(line)
            if workflow.touches:  # whoever asks for this takes what is there for what would be made
                records.forget(file for job in workflow.unfinished() for file in job.output)
            # Who forces jobs wants them and what follows computed again, though it is kept.
            if config["keep"]["gb"] and not workflow.elsewhere:
                kept.force(config, [job.output[0] for job in workflow.forced() if job.output])
            with internals.optional():
                workflow.drop_rate_limit()


def _hold(results: str) -> None:
    with in_one_line():
        lock.take(results)


def _forget(jobs: Iterable, config: dict) -> None:
    files = [Path(file) for job in jobs for file in job.output]
    gone = [file for file in files if not file.exists()]
    records.forget(gone)
    for file in gone:
        for name in MAYBE_BESIDE.get(file.name, ()):
            file.with_name(name).unlink(missing_ok=True)
    kept.forget(config)
