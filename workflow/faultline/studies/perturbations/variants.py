"""Random internal perturbations of one layer (Cheney et al. 2017): variants and nothing more.

Of a layer with several weights, such as those of an attention, or several biases, all are perturbed
alike, each with its own draw and its own statistics; what is of filters removes units of any kind,
see `networks.layers.of_units` (ours).

A draw depends on what it is for and on nothing else, so not on how the work is split into jobs.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from faultline.ablation.variants import Mask, Variant
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, one_of
from faultline.base.seeds import seed_of
from faultline.networks.layers import filters, of_units, weights
from faultline.networks.plain import plain_layer
from faultline.studies.perturbations.kinds import KINDS


def perturbed(value: Tensor, kind: str, strength: float, *, seed: int) -> Tensor:
    """A copy of a parameter under a kind of perturbation that is of entries."""
    return KINDS[kind].function(value, strength, np.random.default_rng(seed))


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
    rates: Sequence[float] = (),
) -> list[Variant]:
    """Every kind at every strength, `repeats` times, on each of `parameters` that the layer has.

    place: what names the checkpoint, for the seeds. A kind of filters takes their weights and
    biases together and comes once, whatever `parameters` says. Columns: kind, parameter ("weight",
    "bias", or "both" for kinds of filters), strength, repeat, changed_weights (entries, or bits of
    them, that are drawn).
    Raises UserError for a name or a number that makes no sense, and where nothing is left to
    perturb.
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
    for rate in rates:
        check_number(rate, "perturbation_variants: rates", high=1.0)
    check_count(repeats, "perturbation_variants: repeats")
    tensors = {key: own for key, own in _tensors(layer).items() if key in parameters}
    pairs = [(kind, key) for kind in kinds if KINDS[kind].of == "entries" for key in tensors]
    pairs += [(kind, "both") for kind in kinds if KINDS[kind].of == "filters"]
    if not pairs:
        raise UserError(
            f"config key perturbations.parameters: layer {name} has no "
            f"{' and no '.join(parameters)}; add weight, or leave the layer out of "
            "perturbations.layers"
        )
    variants, strengths = [], {"shares": shares, "sigmas": sigmas, "rates": rates}
    for kind, parameter in pairs:
        for strength in strengths[KINDS[kind].strengths]:
            for repeat in range(repeats):
                what = (*place.values(), name, kind, parameter, strength, repeat)
                columns = {
                    "kind": kind,
                    "parameter": parameter,
                    "strength": strength,
                    "repeat": repeat,
                }
                seed = seed_of("perturbation", *what)
                if KINDS[kind].of == "filters":
                    variants.append(_filters(name, layer, columns, seed))
                else:
                    variants.append(_entries(name, tensors[parameter], columns, seed))
    return variants


def _tensors(layer: nn.Module) -> dict[str, dict[str, Tensor]]:
    """ "weight" and "bias" -> these tensors of a layer by their names in it; no key without any."""
    own: dict[str, dict[str, Tensor]] = {"weight": weights(layer), "bias": {}}
    for key, value in layer.named_parameters():
        if key not in own["weight"]:
            own["bias"][key] = value.detach()
    return {key: tensors for key, tensors in own.items() if tensors}


def _entries(name: str, tensors: dict[str, Tensor], columns: dict, seed: int) -> Variant:
    kind, strength, alone = KINDS[columns["kind"]], columns["strength"], len(tensors) == 1
    seeds = {key: seed if alone else seed_of("tensor", seed, key) for key in tensors}
    count = sum(
        kind.drawn(strength, value.numel(), np.random.default_rng(seeds[key]))
        for key, value in tensors.items()
    )

    def replace() -> dict[str, Tensor]:
        return {
            f"{name}.{key}": perturbed(value, columns["kind"], strength, seed=seeds[key])
            for key, value in tensors.items()
        }

    return Variant(
        columns | {"changed_weights": count if strength else 0},
        key=seed if strength and (count or kind.rounds) else None,
        replace=replace,
    )


def _filters(name: str, layer: nn.Module, columns: dict, seed: int) -> Variant:
    choose, rng = KINDS[columns["kind"]].function, np.random.default_rng(seed)
    chosen = choose(filters(layer), columns["strength"], rng).nonzero().flatten().tolist()
    mask = Mask(name, tuple(chosen), "weights")
    changed = sum(int(of.sum()) for of in of_units(layer, chosen).values())
    columns = columns | {"changed_weights": changed}
    return Variant(columns, key=mask if chosen else None, mask=mask)
