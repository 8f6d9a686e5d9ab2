"""A small run of the whole workflow, made once, and copies of it."""

import fcntl
import os
import re
import shutil
import signal

import pytest
import torch
from support import Copy, copy_workflow, one_warm_process

TOGETHER = (
    *("test_slurm.py", "test_installed.py", "test_rule_values.py", "test_script_values.py"),
    *("test_site.py", "test_devices.py"),
)
"""Files in tests/workflow whose tests share what takes long to set up, as elsewhere all may."""
APART = ("test_sweep.py", "test_every_kind.py", "test_scores.py", "test_statistics.py")
"""Files elsewhere whose tests take long, but share nothing."""


def pytest_configure():
    """Under nohup or in the background some signals are ignored, by all that tests start, too."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, None)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler or signal.SIG_DFL)


def pytest_make_parametrize_id(val, argname):
    """Short ids in plain characters, without bytes: these may hold a time. None: pytest's own."""
    if isinstance(val, bytes):
        return f"{len(val)}-bytes"
    if getattr(val, "__name__", "") == "<lambda>":
        return argname
    text = re.sub(r"[^\w.]+", "-", " ".join(words(val)), flags=re.ASCII).strip("-.")
    if isinstance(val, dict | list | tuple) and 0 < len(text) <= 40:
        return text
    if isinstance(val, str) and not re.fullmatch(r"[\w ./:+-]{1,40}", val, flags=re.ASCII):
        return text[:40] or argname
    return None


def words(value) -> list[str]:
    """The texts and numbers of nested lists and dicts, in their order."""
    if isinstance(value, dict):
        return [word for pair in value.items() for word in words(pair)]
    if isinstance(value, list | tuple):
        return [word for part in value for word in words(part)]
    return [str(value)] if isinstance(value, str | int | float | None) else []


def pytest_collection_modifyitems(items):
    """Tests that mostly wait come first: others run beside them. Then long ones."""
    items.sort(key=lambda item: ("slurm" not in item.keywords, "slow" not in item.keywords))


@pytest.hookimpl(optionalhook=True)  # there is no such hook without pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """A free process takes the next file, and of tests that share nothing the next test."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            runs = file.startswith("tests/workflow/")
            whole = file.endswith(TOGETHER) if runs else not file.endswith(APART)
            return file if whole else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """shared(name, make): a copy of the workflow that make(folder) gave, once for all processes of
    this run of the tests. Tests read it; one that changes or runs anything duplicates it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name, make) -> Copy:
        folder, made = base / f"shared-{name}", base / f"shared-{name}.made"
        with made.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                made.touch()
        return Copy(folder)

    return get


@pytest.fixture(scope="session")
def finished(shared) -> Copy:
    """The tiny run, finished, and the scripts of its jobs, which the fault campaign runs again."""
    command = ("--cores", "2", "--skip-script-cleanup")
    return shared("finished", lambda folder: copy_workflow(folder).run(*command))


@pytest.fixture(scope="session")
def faster(shared, finished) -> Copy:
    """The tiny run, finished, and then made anew in its place with another learning rate."""

    def make(folder):
        copy = finished.duplicate(folder)
        copy.edit("config.yaml", "batch_size: 50", "batch_size: 50, lr: 0.003")
        copy.run("--cores", "2")

    return shared("faster", make)


@pytest.fixture
def rerun(finished, tmp_path) -> Copy:
    """A copy of the finished tiny run, to change and to run again."""
    return finished.duplicate(tmp_path / "run")


@pytest.fixture
def fresh(tmp_path) -> Copy:
    """A copy of the workflow with the tiny config and no results."""
    return copy_workflow(tmp_path / "run")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """torch on one thread, as in a job: processes of tests that share cores would wait for each
    other's threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def runs_share_a_warm_process():
    Copy.more_environment = staticmethod(one_warm_process)
