"""What is private in Snakemake is named in one module, which says in a line where it is missing."""

import re
import threading
from importlib.metadata import version
from logging.handlers import BufferingHandler
from types import SimpleNamespace

import pytest
from snakemake.logging import logger
from support import ROOT, error_of

from faultline.base.fingerprint import PACKAGE
from faultline.snake import hooks, internals
from faultline.snake.internals import Workflow

LACKS = f"Snakemake {version('snakemake')} has no "


def test_nobody_else_imports_snakemake():
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) snakemake\b", text, flags=re.M), path


def test_the_rules_do_not_reach_into_the_workflow():
    """But for what they find the library by, and the config, which is read before all else."""
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        text = path.read_text(encoding="utf-8")
        used = {*re.findall(r"(?<![.\w/])workflow\.(\w+)", text)}
        assert used <= {"current_basedir", "configfiles", "config_settings"}, path


def test_a_version_without_a_name_is_told_before_a_run_begins(tmp_path):
    line = error_of(Workflow(SimpleNamespace()).check)
    assert line.startswith(f"{LACKS}main_snakefile, by which faultline tells whether")
    assert line.endswith(": 9.26.1 or 9.27.1")
    with pytest.raises(SystemExit, match=f"^error: {LACKS}main_snakefile"):
        hooks.Run(SimpleNamespace(), tmp_path)


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda: Workflow(SimpleNamespace(dag=SimpleNamespace())).jobs, "dag.jobs"),
        (lambda: Workflow(SimpleNamespace()).failed, "scheduler.failed"),
        (lambda: Workflow(SimpleNamespace()).give(None), "config_settings"),
        (lambda: internals.rule_of(SimpleNamespace()), "rule.name"),
        (lambda: Workflow(SimpleNamespace(scheduler=0)).drop_rate_limit(), "job_rate_limiter"),
    ],
)
def test_so_is_one_that_is_missed_later(use, name):
    assert error_of(use).startswith(f"{LACKS}{name}, by which faultline ")


def test_what_a_run_can_do_without_is_left_out_and_this_is_said():
    logger.addHandler(handler := BufferingHandler(10))
    with internals.optional():
        Workflow(SimpleNamespace(scheduler=0)).drop_rate_limit()
    logger.removeHandler(handler)
    (record,) = handler.buffer
    assert record.msg.startswith(f"warning: left out: {LACKS}job_rate_limiter")


def test_jobs_whose_state_is_being_asked_for_are_cancelled_too(monkeypatch):
    from snakemake_interface_executor_plugins.executors import remote

    seen = {"cancelled": []}

    class Executor:
        """As the plugins' own, for what concerns its list of jobs."""

        def __init__(self):
            self.lock, self.active_jobs = threading.Lock(), []

        def report_job_submission(self, job_info, register_job=True):
            self.active_jobs.append(job_info)

        def report_job_success(self, job_info):
            seen["success"] = job_info

        def report_job_error(self, job_info, msg=None):
            seen["error"] = job_info, msg

        def cancel(self):
            with self.lock:
                seen["cancelled"] = [*self.active_jobs]

    monkeypatch.setattr(remote, "RemoteExecutor", Executor)
    internals.cancel_every_job()
    internals.cancel_every_job()  # once is enough
    executor, jobs = Executor(), [object() for _ in range(4)]
    for job in jobs:
        executor.report_job_submission(job, register_job=False)
    executor.active_jobs.clear()  # their states are asked for
    executor.report_job_success(jobs[0])
    executor.report_job_error(jobs[1], msg="of it")
    executor.cancel()
    assert seen == {"success": jobs[0], "error": (jobs[1], "of it"), "cancelled": jobs[2:]}
