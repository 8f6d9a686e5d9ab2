"""The ablations: each generator yields variants of a layer and nothing more.

A variant says what is removed; `sweep` evaluates it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.synaptic import RANDOM_SHARES, SYNAPTIC_FILTERS
from faultline.base.errors import UserError, some
from faultline.base.inputs import check_count, one_of
from faultline.base.seeds import seed_of
from faultline.networks.layers import by_rows, of_units, weights
from faultline.networks.layers import filters as filters_of
from faultline.networks.layers import kind as kind_of
from faultline.networks.plain import plain_layer

PLACES = ("weights", "activation")
"""Where units are removed, see `Mask`."""


class Mask(NamedTuple):
    """Filters of a layer, or other units of it, that are removed.

    at "weights": what belongs to them is 0 (see `of_units`), so a BatchNorm that follows still
    passes its shift. at "activation": the output of filters and neurons is 0 after normalisation
    and non-linearity; of heads, columns and hidden units the same as at "weights", as these give
    nothing then.
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

    columns: dict[str, Any]
    key: object
    replace: Callable[[], dict[str, Tensor]] | None = None
    mask: Mask | None = None


def replaced(variant: Variant, device: torch.device) -> dict[str, Tensor]:
    """What a variant puts in place of parameters, on a device: it may have been made before the
    network was moved there. Nothing where it has a mask."""
    new = variant.replace() if variant.replace else {}
    return {name: value.to(device, non_blocking=True) for name, value in new.items()}


def check_mask(mask: Mask, units: int) -> None:
    """UserError where a mask names a place or a unit that its layer does not have."""
    one_of(mask.at, PLACES, f"layer {mask.layer}: at")
    for unit in mask.filters:
        if not 0 <= unit < units:
            raise UserError(
                f"layer {mask.layer}: has no filter {unit}; its {units} are 0 to {units - 1}"
            )


def is_behind(layer: nn.Module, at: str) -> bool:
    """Whether units of a layer are removed from what becomes of its output, not in it."""
    return at == "activation" and kind_of(layer) in ("conv", "linear")


def without(mask: Mask, layer: nn.Module) -> dict[str, Tensor]:
    """Parameter by its full name -> its value where removed units have none."""
    own = dict(layer.named_parameters())
    return {
        f"{mask.layer}.{name}": own[name].detach().masked_fill(belongs, 0.0)
        for name, belongs in of_units(layer, mask.filters).items()
    }


def thresholds(low: float, high: float, count: int) -> np.ndarray:
    """`count` thresholds from low to high, ascending, both ends included (Pravin et al. 2024)."""
    return np.linspace(low, high, count)


def removed(weight: Tensor, kind: str, alpha: float, half_width: float) -> Tensor:
    """Bool mask, shaped as `weight`: which weights a synaptic filter sets to 0 (Pravin et al.
    2024).

    Compared in double precision, where thresholds are exact.
    """
    return SYNAPTIC_FILTERS[kind](weight.double(), alpha, half_width)


def synaptic_variants(
    layers: dict[str, nn.Module],
    *,
    kinds: Sequence[str],
    count: int,
    limits: tuple[float, float] | None = None,
    together: bool = False,
) -> list[Variant]:
    """Every synaptic filter at every threshold, on one layer (local) or on all at once (global).

    layers: name -> module with weights (see `weights`); one, or with `together` several, which
    share one range, `limits` or their smallest to largest finite weight. kinds: of
    SYNAPTIC_FILTERS. count: of thresholds, 2 or more. UserError for a name or a number that makes
    no sense.

    Columns: filter, threshold, normalised (0..1, ascending with the threshold), kept (share of the
    non-zero weights that stay), changed_weights (number that becomes 0), draw (-1, see
    `random_variants`).
    """
    check_count(count, "synaptic_variants: count", low=2)
    for kind in kinds:
        one_of(kind, SYNAPTIC_FILTERS, "synaptic_variants: kinds")
    of = _weights(layers, "synaptic_variants", together)
    low, high = limits or _range(of)
    if not -np.inf < low <= high < np.inf:
        raise UserError(
            f"synaptic_variants: limits ({low}, {high}); expected the lowest and the highest "
            "threshold, in this order"
        )
    total = _count(of)
    alphas = thresholds(low, high, count)
    half_width = (high - low) / (2 * count)
    variants = []
    for kind in kinds:
        for index, alpha in enumerate(alphas.tolist()):
            masks = {
                name: removed(weight, kind, alpha, half_width) & (weight != 0)
                for name, weight in of.items()
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
                    replace=partial(_filtered, of, kind, alpha, half_width),
                )
            )
    return variants


def _filtered(
    weights: dict[str, Tensor], kind: str, alpha: float, half_width: float
) -> dict[str, Tensor]:
    return {
        name: weight.masked_fill(removed(weight, kind, alpha, half_width), 0.0)
        for name, weight in weights.items()
    }


def random_variants(
    layers: dict[str, nn.Module], *, draws: int, seed: int, together: bool = False
) -> list[Variant]:
    """RANDOM_SHARES of the non-zero weights of a layer, or with `together` of several as one, drawn
    at random, removed: what a synaptic filter is compared with that removes as many (ours).

    Columns as of `synaptic_variants`: filter "random", no threshold, normalised (the share), draw
    (0.. `draws` - 1). The draws of every share are independent.
    """
    check_count(draws, "random_variants: draws", low=0)
    of = _weights(layers, "random_variants", together)
    total, variants = _count(of), []

    def masks(draw: int, count: int) -> dict[str, Tensor]:
        flat = torch.cat([weight.flatten() for weight in of.values()]) != 0
        generator = torch.Generator().manual_seed(seed_of("random weights", seed, draw, count))
        chosen = torch.randperm(total, generator=generator, dtype=torch.int32) < count
        flat = flat.masked_scatter(flat, chosen.to(flat.device))
        parts = flat.split([weight.numel() for weight in of.values()])
        return {
            name: part.reshape(weight.shape)
            for (name, weight), part in zip(of.items(), parts, strict=True)
        }

    def without_drawn(draw: int, count: int) -> dict[str, Tensor]:
        return {name: of[name].masked_fill(m, 0.0) for name, m in masks(draw, count).items()}

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
                    replace=partial(without_drawn, draw, count),
                )
            )
    return variants


def _weights(layers: dict[str, nn.Module], what: str, together: bool) -> dict[str, Tensor]:
    """By their full names. UserError for several layers that are not meant to be one."""
    if not layers:
        raise UserError(f"{what}: no layer is there; give a dict, name -> layer")
    if len(layers) > 1 and not together:
        raise UserError(
            f"{what}: {len(layers)} layers ({some(layers, 3)}) are there; call it for each alone, "
            "or set together=True for a global sweep, which takes weights of all at once"
        )
    return {
        f"{name}.{key}": weight
        for name, layer in layers.items()
        for key, weight in weights(plain_layer(name, layer)).items()
    }


def _range(tensors: dict[str, Tensor]) -> tuple[float, float]:
    """The lowest and the highest finite number; 0 and 0 without one."""
    parts = [tensor[tensor.isfinite()] for tensor in tensors.values()]
    ends = [end.item() for part in parts if part.numel() for end in part.aminmax()] or [0.0]
    return min(ends), max(ends)


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
    """Nodal dropout: each of `filters` of one layer, or other units, removed (Pravin et al. 2021).

    at: "weights" or "activation", see `Mask`. Columns: filter (its index), changed_weights (-1
    where no weight is touched, at the activation of filters and neurons). UserError for another
    place and for a filter that is not there.
    """
    layer = plain_layer(name, layer)
    units = filters_of(layer)
    masks = [Mask(name, (index,), at) for index in filters]
    for mask in masks:
        check_mask(mask, units)
    touched = [-1] * len(masks)
    if not is_behind(layer, at):
        touched = _nonzero(layer, [mask.filters[0] for mask in masks])
    for mask, changed in zip(masks, touched, strict=True):
        columns = {"filter": mask.filters[0], "changed_weights": changed}
        yield Variant(columns, key=mask if changed else None, mask=mask)


def _nonzero(layer: nn.Module, units: list[int]) -> list[int]:
    """How many parameters of each of some units are not 0."""
    parameters = dict(layer.named_parameters())
    if by_rows(layer):
        parts = ([p[unit] for p in parameters.values()] for unit in units)
    else:
        owned = (of_units(layer, [unit]).items() for unit in units)
        parts = ([(parameters[name] != 0) & mask for name, mask in own] for own in owned)
    counts = [torch.stack([part.count_nonzero() for part in own]).sum() for own in parts]
    return torch.stack(counts).tolist() if counts else []


def band_of(weight: Tensor, alphas: np.ndarray) -> Tensor:
    """For every weight the index of the pulse band that it lies in, ties to the lower band.

    Bands are narrower than the spacing of their centres, so a weight between two bands belongs to
    the nearer centre (ours).
    """
    edges = torch.as_tensor((alphas[1:] + alphas[:-1]) / 2, device=weight.device)
    return torch.bucketize(weight.double(), edges)
