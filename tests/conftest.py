"""A small run of the whole workflow, made once, and copies of it."""

import pytest
from support import Copy, copy_workflow


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
