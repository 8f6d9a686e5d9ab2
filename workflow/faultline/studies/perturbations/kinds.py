"""The kinds of random internal perturbation (Cheney et al. 2017), by their names in the config.

Each works on weight and bias apart, or on filters. A strength p that is a share concerns
floor(p * size) entries, or filters, drawn without replacement. An entry here, with its function,
is all that a further kind needs.

No torch but where a tensor is perturbed. What is drawn is drawn on the CPU, so that every device
sees the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of perturbation.

    function: of entries, (tensor, strength, generator) -> a perturbed copy of the tensor; of
    filters, (their number, strength, generator) -> which of them are removed, bool [filters].
    strengths: "shares" of the entries or filters, which then change, or "sigmas", multiples of the
    standard deviation, where all change.
    """

    function: Callable[..., Tensor]
    strengths: Literal["shares", "sigmas"] = "shares"
    of: Literal["entries", "filters"] = "entries"


def count_of(share: float, size: int) -> int:
    """floor(share * size), of the share as it is written: 0.29 of 100 is 29, not 28.999..."""
    return math.floor(Fraction(str(share)) * size)


def entries(size: int, count: int, rng: np.random.Generator) -> Tensor:
    """Bool [size], `count` of them True; every such choice is equally likely."""
    import torch

    fewer = min(count, size - count)  # drawing takes time and memory in proportion
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[torch.from_numpy(rng.choice(size, fewer, replace=False, shuffle=False))] = True
    return chosen if fewer == count else ~chosen


def chosen_of(value: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """`entries` of a tensor, in its shape: this share of them."""
    size = value.numel()
    return entries(size, count_of(share, size), rng).to(value.device).view(value.shape)


def synapse_knockout(value: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Entries become 0."""
    return value.masked_fill(chosen_of(value, strength, rng), 0.0)


def node_knockout(filters: int, strength: float, rng: np.random.Generator) -> Tensor:
    """Weights and biases of filters become 0."""
    return entries(filters, count_of(strength, filters), rng)


def gaussian(value: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Every entry gets N(0, (p * std)^2), std the population one of the tensor (ours)."""
    import torch

    noise = torch.from_numpy(rng.standard_normal(value.numel(), dtype=np.float32))
    scale = strength * value.double().std(correction=0).item()
    return value + (noise * scale).to(value).view(value.shape)


def resample(value: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Entries get values of the tensor, drawn with replacement (ours)."""
    import torch

    size, chosen = value.numel(), chosen_of(value, strength, rng)
    sources = torch.from_numpy(rng.integers(size, size=count_of(strength, size))).to(value.device)
    return value.masked_scatter(chosen, value.flatten()[sources])


def bit_flip(value: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Entries get one bit flipped, drawn from all 32 of the float32: one may become huge, infinite
    or NaN (ours)."""
    import torch

    chosen, count = chosen_of(value, strength, rng), count_of(strength, value.numel())
    bits = torch.from_numpy(1 << rng.integers(32, size=count)).to(value.device, torch.int32)
    flipped = (value[chosen].float().view(torch.int32) ^ bits).view(torch.float32)
    return value.masked_scatter(chosen, flipped.to(value))


KINDS = {
    "synapse_knockout": Kind(synapse_knockout),
    "node_knockout": Kind(node_knockout, of="filters"),
    "gaussian": Kind(gaussian, strengths="sigmas"),
    "resample": Kind(resample),
    "bit_flip": Kind(bit_flip),
}
