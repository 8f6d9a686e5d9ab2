"""The ablations: each generator yields variants of a layer and nothing more.

A variant says what is removed; `sweep` evaluates it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faultline.base.seeds import seed_of


class Mask(NamedTuple):
    """Filters of a layer that are removed.

    at "weights": their weights and bias are 0, so a following BatchNorm still passes its shift. at
    "activation": their output is 0 after normalisation and non-linearity.
    """

    layer: str
    filters: tuple[int, ...]
    at: str


@dataclass(frozen=True)
class Variant:
    """One ablated form of a network.

    columns: what is told about it, the same keys for every variant of one sweep.
    key:     equal keys mean equal networks; None means equal to the base network.
    replace: makes the replaced parameters, name -> tensor, when they are needed.
    mask:    the filters that are removed; None for variants that replace parameters.
    """

    columns: dict
    key: object
    replace: Callable[[], dict[str, Tensor]] | None = None
    mask: Mask | None = None


def thresholds(low: float, high: float, count: int) -> np.ndarray:
    """`count` thresholds from low to high, ascending, both ends included (Pravin et al. 2024)."""
    return np.linspace(low, high, count)


def removed(weight: Tensor, kind: str, alpha: float, half_width: float) -> Tensor:
    """Bool mask, shaped as `weight`: which weights a synaptic filter sets to 0.

    high_pass removes w <= alpha, low_pass w >= alpha, pulse alpha - d <= w < alpha + d with
    d = half_width (Pravin et al. 2024). Compared in double precision, where thresholds are exact.
    """
    weight = weight.double()
    if kind == "high_pass":
        return weight <= alpha
    if kind == "low_pass":
        return weight >= alpha
    return (weight >= alpha - half_width) & (weight < alpha + half_width)


def synaptic_variants(
    layers: dict[str, nn.Module],
    *,
    kinds: Sequence[str],
    count: int,
    limits: tuple[float, float] | None = None,
) -> list[Variant]:
    """Every synaptic filter at every threshold, on one layer (local) or on all at once (global).

    layers: name -> module with a weight; they share one range, `limits` or their smallest to
    largest weight. Columns: filter, threshold, normalised (0..1, ascending with the threshold),
    kept (share of the non-zero weights that stay), changed_weights (number that becomes 0), draw
    (-1, see `random_variants`).
    """
    weights = _weights(layers)
    low, high = limits or (
        min(w.min().item() for w in weights.values()),
        max(w.max().item() for w in weights.values()),
    )
    total = _count(weights)
    alphas = thresholds(low, high, count)
    half_width = (high - low) / (2 * count)
    variants = []
    for kind in kinds:
        for index, alpha in enumerate(alphas.tolist()):
            masks = {
                name: removed(weight, kind, alpha, half_width) & (weight != 0)
                for name, weight in weights.items()
            }
            changed = _count(masks)
            columns = {
                "filter": kind,
                "threshold": alpha,
                "normalised": index / (count - 1),
                "kept": 1 - changed / max(total, 1),
                "changed_weights": changed,
                "draw": -1,
            }
            variants.append(
                Variant(
                    columns,
                    key=_digest(masks) if changed else None,
                    replace=lambda kind=kind, alpha=alpha: {
                        f"{name}.weight": weight.masked_fill(
                            removed(weight, kind, alpha, half_width), 0.0
                        )
                        for name, weight in weights.items()
                    },
                )
            )
    return variants


RANDOM_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0)
"""Of the weights; between them, what random removal leaves is interpolated."""


def random_variants(layers: dict[str, nn.Module], *, draws: int, seed: int) -> list[Variant]:
    """RANDOM_SHARES of the non-zero weights of some layers together, drawn at random, removed:
    what a synaptic filter is compared with that removes as many (ours).

    Columns as of `synaptic_variants`: filter "random", no threshold, normalised (the share), draw
    (0.. `draws` - 1). The draws of every share are independent.
    """
    weights = _weights(layers)
    total, variants = _count(weights), []

    def masks(draw: int, count: int) -> dict[str, Tensor]:
        flat = torch.cat([weight.flatten() for weight in weights.values()]) != 0
        generator = torch.Generator().manual_seed(seed_of("random weights", seed, draw, count))
        chosen = torch.randperm(total, generator=generator, dtype=torch.int32) < count
        flat = flat.masked_scatter(flat, chosen.to(flat.device))
        parts = flat.split([weight.numel() for weight in weights.values()])
        return {
            name: part.reshape(weight.shape)
            for (name, weight), part in zip(weights.items(), parts, strict=True)
        }

    for draw in range(draws):
        for share in RANDOM_SHARES:
            count = round(share * total)
            columns = {
                "filter": "random",
                "threshold": np.nan,
                "normalised": share,
                "kept": 1 - count / max(total, 1),
                "changed_weights": count,
                "draw": draw,
            }
            # all weights removed are the same weights in every draw, and under a synaptic filter
            key = ("random weights", draw, count) if count < total else _digest(masks(draw, count))
            variants.append(
                Variant(
                    columns,
                    key=key if count else None,
                    replace=lambda draw=draw, count=count: {
                        f"{name}.weight": weights[name].masked_fill(mask, 0.0)
                        for name, mask in masks(draw, count).items()
                    },
                )
            )
    return variants


def _weights(layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {name: layer.weight.detach() for name, layer in layers.items()}


def _count(tensors: dict[str, Tensor]) -> int:
    return sum(int(tensor.count_nonzero()) for tensor in tensors.values())


def _digest(masks: dict[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name, mask in masks.items():
        digest.update(name.encode())
        digest.update(np.packbits(mask.cpu().numpy()).tobytes())
    return digest.digest()


def nodal_variants(
    name: str, layer: nn.Module, *, filters: Iterable[int], at: str
) -> Iterator[Variant]:
    """Nodal dropout: each of `filters` of one layer removed (Pravin et al. 2021).

    at: "weights" or "activation", see `Mask`. Columns: filter (its index), changed_weights (-1 for
    activation: no weight is touched).
    """
    weight = layer.weight.detach()
    for index in filters:
        mask = Mask(name, (index,), at)
        if at == "activation":
            yield Variant({"filter": index, "changed_weights": -1}, key=mask, mask=mask)
            continue
        changed = int(weight[index].count_nonzero())
        changed += 0 if layer.bias is None else int(layer.bias[index] != 0)
        columns = {"filter": index, "changed_weights": changed}
        yield Variant(columns, key=mask if changed else None, mask=mask)


def band_of(weight: Tensor, alphas: np.ndarray) -> Tensor:
    """For every weight the index of the pulse band that it lies in, ties to the lower band.

    Bands are narrower than the spacing of their centres, so a weight between two bands belongs to
    the nearer centre (ours).
    """
    edges = torch.as_tensor((alphas[1:] + alphas[:-1]) / 2, device=weight.device)
    return torch.bucketize(weight.double(), edges)
