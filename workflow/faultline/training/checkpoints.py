"""Checkpoints: all that it takes to train on as if there had been no end."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from faultline.base.errors import UserError


def checkpoint(
    network: nn.Module, optimizer: torch.optim.Optimizer, **facts: Any
) -> dict[str, Any]:
    """All it takes to train on: weights, optimiser state, and facts such as epoch and seed."""
    return {"network": network.state_dict(), "optimizer": optimizer.state_dict(), **facts}


def restore(
    network: nn.Module, optimizer: torch.optim.Optimizer | None, state: Mapping[str, Any]
) -> None:
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
