"""Every process collects the same tests, at any time: two that differ cannot share the work.

Where they share it, pytest-xdist ends at once if any two differ; only a process that is alone has
to collect them a second time."""

import os
import sys

import pytest
from support import ROOT, ran


def collected(seed: int) -> list[str]:
    """The ids of all tests, in their order, as a process of its own has them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", "-pno:cacheprovider"]
    done = ran(command, ROOT, os.environ | {"PYTHONHASHSEED": str(seed)})
    assert done.returncode == 0, done.stdout
    return [line for line in done.stdout.splitlines() if "::" in line]


@pytest.mark.slow
def test_two_processes_collect_the_same_tests(request):
    names = [item.nodeid for item in request.session.items]
    if "PYTEST_XDIST_WORKER" not in os.environ:
        one, other = collected(1), names
        if len(other) < len(one):  # this process has collected a part only
            other = collected(2)
        assert one == other and len(one) > 1000
        names = one
    for name in names:
        assert name.isascii() and name.isprintable() and len(name) < 200, name
