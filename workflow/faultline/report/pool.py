"""Parts of a page that are made side by side, each in a copy of the process."""

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

P = TypeVar("P")
M = TypeVar("M")

PR_SET_PDEATHSIG = 1

_workers = 1
_make: Callable[[Any], Any]
_parts: Sequence[Any]


@contextmanager
def side_by_side(workers: int) -> Iterator[None]:
    """Inside the block, `made` may use so many processes."""
    global _workers
    before, _workers = _workers, workers if sys.platform == "linux" else 1
    try:
        yield
    finally:
        _workers = before


def made(make: Callable[[P], M], parts: Sequence[P]) -> list[M]:
    """What a function makes of each part, in their order. What it makes must bear pickling."""
    global _make, _parts, _workers
    workers = min(_workers, len(parts))
    if workers < 2:
        return [*map(make, parts)]
    _make, _parts = make, parts  # a copy of the process has them: functions bear no pickling
    before, _workers = _workers, 1
    try:
        with ProcessPoolExecutor(workers, get_context("fork"), _end_with_parent) as pool:
            return [*pool.map(_made, range(len(parts)))]
    finally:
        _workers = before


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _made(part: int) -> Any:
    return _make(_parts[part])
