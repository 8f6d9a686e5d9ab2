"""The kinds of random internal perturbation (Cheney et al. 2017), by their names in the config.

Each works on weight and bias apart, or on filters. A strength p that is a share concerns
floor(p * size) entries, or filters, drawn without replacement; one that is a rate every bit of each
entry, independently. An entry here, with its function, is all that a further kind needs.

No torch but where a tensor is perturbed. What is drawn is drawn on the CPU, so that every device
sees the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from faultline.base.inputs import count_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of perturbation.

    function: of entries, (tensor, strength, generator) -> a perturbed copy of the tensor; of
    filters, (their number, strength, generator) -> which of them are removed, bool [filters].
    strengths: "shares" of the entries or filters, which then change; "sigmas", multiples of the
    standard deviation, where all change; or "rates", of the `bits` that an entry is stored in.
    rounds: whether it changes entries even where it draws none.
    """

    function: Callable[..., Tensor]
    strengths: Literal["shares", "sigmas", "rates"] = "shares"
    of: Literal["entries", "filters"] = "entries"
    bits: int = 32
    rounds: bool = False

    def drawn(self, strength: float, size: int, rng: np.random.Generator) -> int:
        """How many of `size` entries, or of their bits, are drawn; rng: as the function gets it."""
        if self.strengths == "rates":
            return _faults(self.bits * size, strength, rng)
        return count_of(strength, size) if self.strengths == "shares" else size


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


def _faults(bits: int, rate: float, rng: np.random.Generator) -> int:
    """How many of so many bits flip."""
    return int(rng.binomial(bits, rate))


def _flips(size: int, bits: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """uint32 [size]: the bits of each entry that flip."""
    count = _faults(bits * size, rate, rng)
    entry, bit = np.divmod(rng.choice(bits * size, count, replace=False, shuffle=False), bits)
    flips = np.zeros(size, np.uint32)
    np.bitwise_xor.at(flips, entry, np.uint32(1) << bit.astype(np.uint32))
    return flips


def bit_faults(value: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Every bit of the float32 of each entry flips at this rate."""
    import torch

    flips = torch.from_numpy(_flips(value.numel(), 32, strength, rng).view(np.int32))
    flipped = value.float().view(torch.int32) ^ flips.to(value.device).view(value.shape)
    return flipped.view(torch.float32).to(value)


def bit_faults_int8(value: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Entries are stored in int8, with one scale for each channel of a weight, and every bit of
    these flips at this rate. Without a flip they are still rounded."""
    import torch

    from faultline.ablation.compression import scale_of

    scale = scale_of(value, 8, 0 if value.dim() > 1 else None)
    stored = (value.double() / scale).round().to(torch.int8)
    flips = _flips(value.numel(), 8, strength, rng).astype(np.uint8).view(np.int8)
    stored = stored ^ torch.from_numpy(flips).to(value.device).view(value.shape)
    return (stored * scale).to(value)


KINDS = {
    "synapse_knockout": Kind(synapse_knockout),
    "node_knockout": Kind(node_knockout, of="filters"),
    "gaussian": Kind(gaussian, strengths="sigmas"),
    "resample": Kind(resample),
    "bit_flip": Kind(bit_flip),
    "bit_faults": Kind(bit_faults, strengths="rates"),
    "bit_faults_int8": Kind(bit_faults_int8, strengths="rates", bits=8, rounds=True),
}
