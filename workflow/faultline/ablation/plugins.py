"""Ablations of the user's own: what their generators yield is checked, then swept as ours are."""

import copy
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.facts import CHANGES
from faultline.ablation.variants import Variant
from faultline.base import plugins
from faultline.base.columns import PLACE
from faultline.base.errors import UserError
from faultline.base.seeds import seeded
from faultline.networks.layers import filters as filters_of

TAKEN = {*PLACE, "layer", "ablation", "variant", *CHANGES, "stands_for"}
"""Columns that a variant may not have, as the tables have them already."""


def own_variants(function: str, name: str, layer: nn.Module, *, options: dict) -> list[Variant]:
    """The variants that the user's function(name, layer, **options) yields, checked.

    The function gets a copy of the layer. Raises UserError where it fails, yields nothing or what
    is no variant of this layer, or changes the layer in place. torch's random numbers are seeded.
    """
    generate, given = plugins.load(function), copy.deepcopy(layer)
    with plugins.told(function), seeded("own ablation", name):
        variants = list(generate(name, given, **options))
    if not variants:
        raise UserError(f"{function} yields no variant of layer {name}; yield at least one")
    checked = [_checked(variant, variants[0], function, name, layer, given) for variant in variants]
    with plugins.told(function):  # a key that cannot be hashed
        keys = Counter(variant.key for variant in checked if variant.key is not None)
    for key, times in keys.items():
        if times > 1:
            raise UserError(
                f"{function}, layer {name}: {times} variants have the key {key!r}, which says that "
                "they are equal; give each a key of its own"
            )
    return checked


def _checked(
    variant: Variant, first: Variant, function: str, name: str, layer: nn.Module, given: nn.Module
) -> Variant:
    def wrong(what: str, remedy: str) -> UserError:
        return UserError(f"{function}, layer {name}: {what}; {remedy}")

    if not isinstance(variant, Variant):
        found = type(variant).__name__
        raise wrong(f"yields a {found}", "expected faultline.Variant")
    columns = variant.columns
    if columns.keys() != first.columns.keys():
        raise wrong(
            f"columns {sorted(columns)} in one variant, {sorted(first.columns)} in another",
            "name the same in all",
        )
    if taken := sorted(TAKEN & columns.keys()):
        raise wrong(f"column {taken[0]!r} is one of the table itself", "rename it")
    for key, value in columns.items():
        if not isinstance(value, str | int | float | np.number):
            raise wrong(
                f"column {key!r} holds a {type(value).__name__}", "expected a number or a text"
            )
    if (variant.replace is None) == (variant.mask is None):
        raise wrong("a variant has both replace and mask or neither", "give one of them")
    if variant.mask:
        _, filters, at = variant.mask
        count = filters_of(layer)
        there = all(isinstance(f, int | np.integer) and 0 <= f < count for f in filters)
        if variant.mask.layer != name or not there or at not in ("weights", "activation"):
            raise wrong(
                f"{variant.mask} is no mask of it",
                f"expected Mask({name!r}, filters in 0..{count - 1}, 'weights' or 'activation')",
            )
        return variant

    parameters = {f"{name}.{key}": p.detach() for key, p in layer.named_parameters()}

    def made() -> dict[str, Tensor]:
        with plugins.told(function), torch.no_grad(), seeded("own ablation", name, variant.key):
            return {key: value.detach() for key, value in variant.replace().items()}

    replaced = made()
    for key, value in replaced.items():
        if key not in parameters:
            raise wrong(f"replaces {key!r}", f"expected one of {', '.join(parameters)}")
        if value.shape != parameters[key].shape or value.dtype != parameters[key].dtype:
            found = f"{list(value.shape)} of {value.dtype}"
            expected = f"{list(parameters[key].shape)} of {parameters[key].dtype}"
            raise wrong(f"replaces {key} by {found}", f"expected {expected}")
    for key, parameter in given.named_parameters():
        if not torch.equal(parameter, parameters[f"{name}.{key}"]):
            raise wrong(f"changes its {key} in place", "change a copy (weight.detach().clone())")
    same = all(torch.equal(value, parameters[key]) for key, value in replaced.items())
    if variant.key is None and not same:
        raise wrong(
            "key None says that a variant equals the whole network, but it does not",
            "give each variant a key of its own",
        )
    return replace(variant, replace=made)
