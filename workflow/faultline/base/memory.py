"""Memory: smaller batches where a GPU lacks it, with the same results; pages that are kept."""

import ctypes
import functools
import gc
import inspect
import math
import mmap
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")


def halving(function: Callable[P, R]) -> Callable[P, R]:
    """A function with the keyword batch_size, run again with half of it while it takes too much.

    For functions whose result does not depend on the size of the batches. The error of a batch of
    one goes on to the caller.
    """
    usual = inspect.signature(function).parameters["batch_size"].default

    @functools.wraps(function)
    def fitting(*args: P.args, **keywords: P.kwargs) -> R:
        batch_size = cast(int, keywords.setdefault("batch_size", usual))
        while True:
            try:
                return function(*args, **keywords)
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
            keywords["batch_size"] = batch_size = batch_size // 2
            gc.collect()  # what was tried holds tensors in cycles (a graph's nodes)
            torch.cuda.empty_cache()
            print(f"out of GPU memory: once more, with batches of {batch_size}")

    return fitting


def batch_size(most: int, shape: tuple[int, ...]) -> int:
    """Images of this shape for one batch: `most`, and fewer above 3 x 64 x 64 numbers each (ours).

    It depends on nothing but the shape, so that a result does not depend on the machine.
    """
    return max(1, min(most, most * 3 * 64 * 64 // math.prod(shape)))


def keep_freed() -> None:
    """Let the process keep what it frees up to 1 GiB, where the C library can be told so (glibc).

    Otherwise each large tensor may come as fresh pages from the system, which on small networks
    takes up to a third of the time.
    """
    if mallopt := _of_c("mallopt"):
        for trim_threshold_or_mmap_threshold in (-1, -3):
            mallopt(trim_threshold_or_mmap_threshold, 2**30)


def _of_c(name: str) -> Any:
    """A function of the C library, None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None


def protect(tensor: torch.Tensor) -> None:
    """Let no one write to the pages that a tensor fills alone, where its memory is a mapped file's
    and the C library can be told so: a write ends the process."""
    page, begin = mmap.PAGESIZE, tensor.data_ptr()
    first = -(-begin // page) * page
    length = (begin + tensor.nbytes - first) // page * page
    mprotect = _of_c("mprotect")
    if mprotect and length > 0:
        mprotect(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.PROT_READ)
