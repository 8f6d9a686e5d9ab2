"""An entry of the registry of criteria. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from faultline.studies.criteria.data import Data, Score


@dataclass(frozen=True)
class Criterion:
    """What is known of a criterion.

    function: (network, data) -> layer -> its score; None where other studies of the run say it.
    lowest: whether the lowest scores are picked by default, as its authors do, and not the highest.
    layers: whether it scores whole layers, not filters alone.
    moves_pixels: whether it seeks images of its own, which tokens and attacks in normalised units
    do not let it.
    """

    function: Callable[[nn.Module, Data], dict[str, Score]] | None
    lowest: bool = False
    layers: bool = True
    moves_pixels: bool = False
