"""Training, epoch by epoch, so that a chain of segments gives the bits of one uninterrupted run.

Everything random in an epoch comes from (seed, epoch) alone, so the random state that a checkpoint
must carry is its seed and its epoch; the learning rate follows from the epoch too.
"""

import torch
from torch import nn

from faultline.base.errors import UserError


def checkpoint(network: nn.Module, optimizer: torch.optim.Optimizer, **facts) -> dict:
    """All it takes to train on: weights, optimiser state, and facts such as epoch and seed."""
    return {"network": network.state_dict(), "optimizer": optimizer.state_dict(), **facts}


def restore(network: nn.Module, optimizer: torch.optim.Optimizer | None, state: dict) -> None:
    """Put the state of a checkpoint into a network and, if given, its optimiser."""
    try:
        network.load_state_dict(state["network"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"a checkpoint does not fit its network ({first}); delete it and run again"
        ) from None
