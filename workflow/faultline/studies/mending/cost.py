"""What a mend costs: image passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Passes:
    """Forwards and backwards of an image through a network so far, each counted as one."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, of: Tensor) -> None:
        """Those of a batch."""
        self.count += len(of)


@contextmanager
def counted(network: nn.Module) -> Iterator[Passes]:
    """Counts the passes through a network meanwhile, those of attacks on it included."""
    passes = Passes()

    def forward(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        passes.add(logits)
        if logits.requires_grad:
            logits.register_hook(passes.add)

    handle = network.register_forward_hook(forward)
    try:
        yield passes
    finally:
        handle.remove()
