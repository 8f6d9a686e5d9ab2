import logging
from types import SimpleNamespace

import pytest
from snakemake.logging import DefaultFormatter, LogEvent
from snakemake.settings.types import ExecMode

from faultline.snake.console import Announced, Console, duration, install, why_failed
from faultline.snake.internals import Workflow
from faultline.snake.launch import WHY_KILLED

WHERE = {"dataset": "digits", "network": "small_conv", "seed": "0", "epoch": "2"}


class Run:
    """A console that is told of jobs, and the lines that it made; its clock is set by hand."""

    def __init__(self, **stats: int):
        self.now, self.lines = 0.0, []
        self.console = Console(DefaultFormatter(), clock=lambda: self.now)
        self.tell(LogEvent.RUN_INFO, stats=stats | {"total": sum(stats.values())})

    def tell(self, event, message="", **more):
        record = logging.makeLogRecord({"msg": message, "event": event, **more})
        if self.console.filter(record):
            self.lines.append(self.console.format(record))

    def start(self, job, rule, wildcards=None, log=()):
        told = {"jobid": job, "rule_name": rule, "wildcards": wildcards or {}, "log": log}
        self.tell(LogEvent.JOB_INFO, **told)

    def finish(self, job):
        self.tell(LogEvent.JOB_FINISHED, f"Finished jobid: {job}", job_id=job)


def test_one_line_a_job_and_none_of_the_rest():
    run = Run(train=2, report=1, all=1)
    run.tell(LogEvent.WORKFLOW_STARTED, "Workflow has started!")
    run.tell(None, "Select jobs to execute...")
    run.start(1, "train", WHERE)
    run.now = 3.2
    run.finish(1)
    run.tell(LogEvent.PROGRESS, done=1, total=4)
    run.start(4, "all")
    run.finish(4)
    run.tell(None, "Trying to restart job 2.")
    assert run.lines == [
        "3 jobs: 1 report, 2 train",
        "[1/3] train digits small_conv seed 0 epoch 2 (3.2 s)",
        "Trying to restart job 2.",
    ]


def test_a_dry_run_counts_the_jobs_of_each_rule_and_says_why_what_is_there_is_made_again():
    dry = Announced(
        DefaultFormatter(),
        lambda: ["made again, as they are missing: a.tsv"],
        lambda stages: ["cost: of all"] * (not stages),
    )
    lines = []
    for event, message, more in (
        (LogEvent.WORKFLOW_STARTED, "Workflow has started!", {}),
        (None, "Building DAG of jobs...", {}),
        (None, "Given weights: a note of ours", {}),
        (LogEvent.RUN_INFO, "", {"stats": {"train": 12, "report": 1, "all": 1, "total": 14}}),
        (LogEvent.JOB_INFO, "", {}),
    ):
        record = logging.makeLogRecord({"msg": message, "event": event, **more})
        lines += dry.format(record).splitlines() if dry.filter(record) else []
    assert lines == [
        "Given weights: a note of ours",
        "train   12",
        "report   1",
        "made again, as they are missing: a.tsv",
        "13 jobs would run: this was a dry run; -p lists each",
        "cost: of all",
    ]


def test_of_a_dry_run_the_cost_alone(monkeypatch):
    monkeypatch.setenv("FAULTLINE_COST", "1")
    dry = Announced(DefaultFormatter(), list, lambda stages: [f"cost: by stages: {stages}"])
    lines = []
    for event, message, more in (
        (None, "Given weights: a note of ours", {"levelno": logging.INFO}),
        (LogEvent.RUN_INFO, "", {"stats": {"train": 12, "total": 12}, "levelno": logging.INFO}),
        (None, "error: no such file", {"levelno": logging.ERROR}),
    ):
        record = logging.makeLogRecord({"msg": message, "event": event, **more})
        lines += dry.format(record).splitlines() if dry.filter(record) else []
    assert lines == ["cost: by stages: True", "error: no such file"]


def test_a_job_that_runs_for_long_is_told_of_with_the_last_line_of_its_log(tmp_path):
    log = tmp_path / "a.log"
    run = Run(train=2)
    run.start(1, "train", WHERE, log=[log])
    run.start(2, "all")
    told = []
    for run.now in (0, 9, 10, 11, 19, 20, 39, 40, 100, 159, 160):
        log.write_text(f"epoch {run.now:.0f}\n\n", encoding="utf-8")
        told += run.console.progress()
    of = "    train digits small_conv seed 0 epoch 2 runs for "
    assert told == [
        f"{of}10 s: epoch 10",
        f"{of}20 s: epoch 20",
        f"{of}40 s: epoch 40",
        f"{of}1 min 40 s: epoch 100",
        f"{of}2 min 40 s: epoch 160",
    ]


def test_the_time_left_comes_from_what_each_rule_took_and_how_many_ran_at_once():
    run = Run(slow=2, quick=10)
    for job in range(5):  # in pairs of ten seconds each, and a slow one of fifty beside them
        run.start(job, "quick")
    run.start(9, "slow")
    run.now = 10.0
    for job in range(4):
        run.finish(job)
    assert all("left" not in line for line in run.lines)  # too few to tell
    run.now = 50.0
    run.finish(9)
    # work left: 1 slow of 50 s, 6 quick of 10 s; 90 s of work took 50 s
    assert run.lines[-1] == f"[ 5/12, {duration(110 * 50 / 90)} left] slow (50 s)"


def test_warnings_of_a_job_are_shown_below_its_line(tmp_path):
    (tmp_path / "a.log").write_text("epoch 1\nwarning: no mean\n", encoding="utf-8")
    run = Run(train=1)
    run.start(1, "train", log=[tmp_path / "a.log", tmp_path / "none.log"])
    run.finish(1)
    assert run.lines[-1] == "[1/1] train (0.0 s)\n    warning: no mean"


def test_what_a_log_says_moves_no_terminal(tmp_path):
    (tmp_path / "a.log").write_text("warning: \x1b[2J\r\x9bx\nerror: \x1b]0;x", encoding="utf-8")
    run = Run(train=1)
    run.start(1, "train", log=[tmp_path / "a.log"])
    run.finish(1)
    assert run.lines[-1].isascii() and "\x1b" not in run.lines[-1]
    assert "\n    warning: \\x1b[2J" in run.lines[-1]
    assert why_failed([tmp_path / "a.log"]) == r"error: \x1b]0;x"


def test_a_failure_is_told_with_its_reason_and_again_at_the_end(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("epoch 1\nerror: data.pt: cannot be read\n\n", encoding="utf-8")
    run = Run(train=3)
    for job in (1, 2):
        run.start(job, "train", WHERE)
        run.tell(LogEvent.JOB_ERROR, jobid=job, rule_name="train", log=[str(log)])
    assert run.lines[1].splitlines() == [
        "failed: train digits small_conv seed 0 epoch 2",
        "    error: data.pt: cannot be read",
        f"    log: {log}",
    ]
    run.now = 61.0
    assert run.console.end(report="report.partial.html", earlier=2).splitlines() == [
        "2 of 3 jobs failed:",
        "    2 with error: data.pt: cannot be read",
        "report: report.partial.html",
        "2 files in the results are of earlier runs, not of this one: faultline kept names them",
        "took 1 min 1 s",
    ]


def test_a_job_that_could_not_say_why_was_probably_killed_for_memory(tmp_path):
    log = tmp_path / "train.log"
    for text in (None, "", "epoch 1\n"):
        if text is not None:
            log.write_text(text, encoding="utf-8")
        assert why_failed([log]) == f"error: it was {WHY_KILLED}"


@pytest.mark.parametrize(
    ("of_slurm", "told"),
    [
        ("srun: error: node: task 0: Exited with exit code 1", f"it was {WHY_KILLED}"),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***",
            "SLURM cancelled it, as by scancel",
        ),
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00 DUE TO TIME LIMIT ***",
            "SLURM cancelled it, due to time limit",
        ),
        (
            "slurmstepd: error: StepId=7.0 exceeded memory limit (2 > 1), being killed\n"
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***",
            f"it was {WHY_KILLED}",
        ),
    ],
    ids=["killed", "cancelled", "limit", "memory"],
)
def test_of_a_job_of_slurm_its_own_log_tells_why_before_that_of_slurm(tmp_path, of_slurm, told):
    own, other = tmp_path / "train.log", tmp_path / "7.log"
    other.write_text(f"{of_slurm}\nWorkflowError:\nAt least one job did not complete.\n")
    assert why_failed([own, other]) == f"error: {told}"
    own.write_text("epoch 1\nerror: data.pt: 9 bytes\n")
    assert why_failed([own, other]) == "error: data.pt: 9 bytes"


def test_a_full_disk_is_one_line_also_where_snakemake_finds_it():
    run = Run(train=3)
    for text in (
        "Traceback (most recent call last):\n  File\nOSError: [Errno 28] No space left on device",
        "WorkflowError:\nError recording metadata ([Errno 28] No space left on device). Please",
        "RuleException:\nOSError: [Errno 28] No space left on device: 'results/a.tsv'",
    ):
        run.tell(LogEvent.ERROR, text)
    assert [line for line in run.lines[1:] if line] == [
        "error: .snakemake: no space left; free some and run again",
        "error: results/a.tsv: no space left; free some and run again",
    ]


def test_a_run_that_is_stopped_says_so_in_one_line(tmp_path):
    run = Run(train=3)
    run.start(1, "train", WHERE)
    run.start(2, "train", WHERE)
    run.finish(1)
    said = run.console.stopped("Ctrl-C")
    assert said == "stopped by Ctrl-C after 1 of 3 jobs; the same command goes on from there"
    before = [*run.lines]
    run.tell(LogEvent.JOB_ERROR, jobid=2, rule_name="train", log=[str(tmp_path / "none.log")])
    run.tell(None, "Terminating processes on user request, this might take some time.")
    assert run.lines == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.97, "10 s"), (59.6, "1 min 0 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("asked", [None, "quiet", "verbose", "printshellcmds"])
def test_whoever_asks_for_another_form_gets_it(asked):
    handler = logging.StreamHandler()
    handler.name = "DefaultStreamHandler"
    handler.setFormatter(DefaultFormatter())
    flags = ("dryrun", "quiet", "verbose", "printshellcmds", "debug_dag")
    workflow = SimpleNamespace(
        output_settings=SimpleNamespace(**{flag: flag == asked for flag in flags}),
        logger_manager=SimpleNamespace(logger=SimpleNamespace(handlers=[handler])),
        exec_mode=ExecMode.DEFAULT,
    )
    assert (install(Workflow(workflow)) is handler.formatter) == (asked is None)
