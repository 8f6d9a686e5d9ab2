"""A GPU that lacks the memory for a batch: smaller batches, the same results."""

import functools
import inspect
import math
from collections.abc import Callable

import torch


def halving(function: Callable) -> Callable:
    """A function with the keyword batch_size, run again with half of it while it takes too much.

    For functions whose result does not depend on the size of the batches. The error of a batch of
    one goes on to the caller.
    """
    usual = inspect.signature(function).parameters["batch_size"].default

    @functools.wraps(function)
    def fitting(*args, batch_size: int = usual, **settings):
        while True:
            try:
                return function(*args, batch_size=batch_size, **settings)
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
            batch_size //= 2
            torch.cuda.empty_cache()
            print(f"out of GPU memory: once more, with batches of {batch_size}")

    return fitting


def batch_size(most: int, shape: tuple[int, ...]) -> int:
    """Images of this shape for one batch: `most`, and fewer above 3 x 64 x 64 numbers each (ours).

    It depends on nothing but the shape, so that a result does not depend on the machine.
    """
    return max(1, min(most, most * 3 * 64 * 64 // math.prod(shape)))
