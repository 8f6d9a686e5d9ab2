"""Random internal perturbations of one layer (Cheney et al. 2017): variants and nothing more.

kind              strength p       what happens, weight and bias apart
synapse_knockout  share            floor(p * size) entries, drawn without replacement, become 0
gaussian          multiple of std  every entry gets N(0, (p * std)^2), std that of the tensor
resample          share            floor(p * size) entries, drawn alike, get values of the tensor
bit_flip          share            floor(p * size) entries, drawn alike, get one bit flipped (ours)
node_knockout     share            floor(p * filters) filters: their weights and bias become 0

Of a layer with several weights, such as those of an attention, or several biases, all are perturbed
alike, each with its own draw and its own statistics; node_knockout removes units of any kind, see
`networks.layers.of_units` (ours).

A draw depends on what it is for and on nothing else, so not on how the work is split into jobs.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.variants import Mask, Variant
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, one_of
from faultline.base.seeds import seed_of
from faultline.networks.layers import filters, of_units, weights
from faultline.networks.plain import plain_layer

KINDS = ("synapse_knockout", "gaussian", "resample", "bit_flip", "node_knockout")


def count_of(share: float, size: int) -> int:
    """floor(share * size), of the share as it is written: 0.29 of 100 is 29, not 28.999..."""
    return math.floor(Fraction(str(share)) * size)


def entries(size: int, count: int, rng: np.random.Generator) -> Tensor:
    """Bool [size], `count` of them True; every such choice is equally likely."""
    fewer = min(count, size - count)  # drawing takes time and memory in proportion
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[torch.from_numpy(rng.choice(size, fewer, replace=False, shuffle=False))] = True
    return chosen if fewer == count else ~chosen


def perturbed(value: Tensor, kind: str, strength: float, *, seed: int) -> Tensor:
    """A copy of a parameter under synapse_knockout, gaussian, resample or bit_flip.

    gaussian takes the population standard deviation, and resample draws the new values with
    replacement (both ours). bit_flip draws each bit from all 32 of the float32, so an entry may
    become huge, infinite or NaN. Drawn on the CPU, so that every device sees the same.
    """
    rng, size = np.random.default_rng(seed), value.numel()
    if kind == "gaussian":
        noise = torch.from_numpy(rng.standard_normal(size, dtype=np.float32))
        scale = strength * value.double().std(correction=0).item()
        return value + (noise * scale).to(value).view(value.shape)
    count = count_of(strength, size)
    chosen = entries(size, count, rng).to(value.device).view(value.shape)
    if kind == "synapse_knockout":
        return value.masked_fill(chosen, 0.0)
    if kind == "bit_flip":
        bits = torch.from_numpy(1 << rng.integers(32, size=count)).to(value.device, torch.int32)
        flipped = (value[chosen].float().view(torch.int32) ^ bits).view(torch.float32)
        return value.masked_scatter(chosen, flipped.to(value))
    drawn = torch.from_numpy(rng.integers(size, size=count)).to(value.device)
    return value.masked_scatter(chosen, value.flatten()[drawn])


def perturbation_variants(
    name: str,
    layer: nn.Module,
    *,
    place: dict[str, object],
    kinds: Sequence[str],
    parameters: Sequence[str],
    shares: Sequence[float],
    sigmas: Sequence[float],
    repeats: int,
) -> list[Variant]:
    """Every kind at every strength, `repeats` times, on each of `parameters` that the layer has.

    place: what names the checkpoint, for the seeds. node_knockout takes weight and bias of its
    filters together and comes once, whatever `parameters` says. Columns: kind, parameter
    ("weight", "bias", or "both" for node_knockout), strength, repeat, changed_weights (entries
    drawn). Raises UserError for a name or a number that makes no sense, and where nothing is left
    to perturb.
    """
    layer = plain_layer(name, layer)
    for kind in kinds:
        one_of(kind, KINDS, "perturbation_variants: kinds")
    for parameter in parameters:
        one_of(parameter, ("weight", "bias"), "perturbation_variants: parameters")
    for share in shares:
        check_number(share, "perturbation_variants: shares", high=1.0)
    for sigma in sigmas:
        check_number(sigma, "perturbation_variants: sigmas")
    check_count(repeats, "perturbation_variants: repeats")
    given = {key: tensors for key, tensors in _tensors(layer).items() if key in parameters}
    tensors = [(kind, key) for kind in kinds if kind != "node_knockout" for key in given]
    tensors += [("node_knockout", "both")] * ("node_knockout" in kinds)
    if not tensors:
        raise UserError(
            f"config key perturbations.parameters: layer {name} has no "
            f"{' and no '.join(parameters)}; add weight, or leave the layer out of "
            "perturbations.layers"
        )
    variants = []
    for kind, parameter in tensors:
        for strength in sigmas if kind == "gaussian" else shares:
            for repeat in range(repeats):
                what = (*place.values(), name, kind, parameter, strength, repeat)
                columns = {
                    "kind": kind,
                    "parameter": parameter,
                    "strength": strength,
                    "repeat": repeat,
                }
                seed = seed_of("perturbation", *what)
                if kind == "node_knockout":
                    variants.append(_nodes(name, layer, columns, seed))
                else:
                    variants.append(_entries(name, given[parameter], columns, seed))
    return variants


def _tensors(layer: nn.Module) -> dict[str, dict[str, Tensor]]:
    """ "weight" and "bias" -> these tensors of a layer by their names in it; no key without any."""
    found = {"weight": weights(layer), "bias": {}}
    for key, value in layer.named_parameters():
        if key not in found["weight"]:
            found["bias"][key] = value.detach()
    return {key: tensors for key, tensors in found.items() if tensors}


def _entries(name: str, tensors: dict[str, Tensor], columns: dict, seed: int) -> Variant:
    kind, strength = columns["kind"], columns["strength"]
    sizes = [value.numel() for value in tensors.values()]
    count = sum(sizes if kind == "gaussian" else (count_of(strength, size) for size in sizes))

    def replace() -> dict[str, Tensor]:
        alone = len(tensors) == 1
        return {
            f"{name}.{key}": perturbed(
                value, kind, strength, seed=seed if alone else seed_of("tensor", seed, key)
            )
            for key, value in tensors.items()
        }

    return Variant(
        columns | {"changed_weights": count if strength else 0},
        key=seed if strength and count else None,
        replace=replace,
    )


def _nodes(name: str, layer: nn.Module, columns: dict, seed: int) -> Variant:
    units = filters(layer)
    count = count_of(columns["strength"], units)
    chosen = entries(units, count, np.random.default_rng(seed)).nonzero().flatten().tolist()
    mask = Mask(name, tuple(chosen), "weights")
    changed = sum(int(of.sum()) for of in of_units(layer, chosen).values())
    columns = columns | {"changed_weights": changed}
    return Variant(columns, key=mask if count else None, mask=mask)
