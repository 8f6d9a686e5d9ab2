"""A network in eval mode, unchanged afterwards; and whether tensors are the same."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from faultline.base import memory, pace
from faultline.base.memory import halving
from faultline.networks.plain import preserved


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Eval mode, no gradient for parameters; each module and parameter is restored on leaving, and
    so is what modules keep beside these, see `preserved`."""
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with preserved(network):
            network.eval()
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@halving
def predict(network: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Logits [n, classes] of the network in eval mode; smaller batches for large images."""
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    pace.passed(len(images))
    with evaluation(network), torch.inference_mode():
        logits = [network(batch) for batch in images.split(batch_size)]
    return torch.cat(logits)  # outside of inference mode, so that the result is an ordinary tensor


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, where NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
