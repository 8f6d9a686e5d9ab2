"""A small run of the whole workflow, made once, and copies of it."""

import re

import pytest
from support import Copy, copy_workflow


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
    """Tests that mostly wait come first: others run beside them."""
    items.sort(key=lambda item: "slurm" not in item.keywords)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Copy:
    """The tiny run, finished. Tests read it; those that change anything take `rerun`."""
    copy = copy_workflow(tmp_path_factory.mktemp("finished") / "run")
    copy.run("--cores", "2")
    return copy


@pytest.fixture
def rerun(finished, tmp_path) -> Copy:
    """A copy of the finished tiny run, to change and to run again."""
    return finished.duplicate(tmp_path / "run")


@pytest.fixture
def fresh(tmp_path) -> Copy:
    """A copy of the workflow with the tiny config and no results."""
    return copy_workflow(tmp_path / "run")


@pytest.fixture(scope="module")
def one_thread():
    """torch on one thread, as in a job."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
