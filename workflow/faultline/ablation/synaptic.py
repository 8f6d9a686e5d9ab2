"""The synaptic filters (Pravin et al. 2024) by their names in the config. No torch.

Each tells of weights [...], float64, which of them it sets to 0 at a threshold alpha: bool, in
their shape. An entry here is all that a further filter needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def high_pass(weight: Tensor, alpha: float, half_width: float) -> Tensor:
    """w <= alpha."""
    return weight <= alpha


def low_pass(weight: Tensor, alpha: float, half_width: float) -> Tensor:
    """w >= alpha."""
    return weight >= alpha


def pulse(weight: Tensor, alpha: float, half_width: float) -> Tensor:
    """alpha - half_width <= w < alpha + half_width."""
    return (weight >= alpha - half_width) & (weight < alpha + half_width)


SYNAPTIC_FILTERS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "high_pass": high_pass,
    "low_pass": low_pass,
    "pulse": pulse,
}

RANDOM_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0)
"""Of the weights, removed at random; between them, what that leaves is interpolated."""
