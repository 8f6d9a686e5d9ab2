"""Ablations of the user's own: what their generators yield is checked, then swept as ours are."""

import copy
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.facts import CHANGES
from faultline.ablation.variants import Mask, Variant
from faultline.base import plugins
from faultline.base.columns import PLACE
from faultline.base.errors import UserError
from faultline.base.seeds import seeded
from faultline.networks.evaluation import same
from faultline.networks.layers import filters as filters_of

TAKEN = {*PLACE, "layer", "ablation", "variant", *CHANGES, "stands_for"}
"""Columns that a variant may not have, as the tables have them already."""


def own_variants(
    function: str, name: str, layer: nn.Module, *, options: dict[str, Any]
) -> list[Variant]:
    """The variants that the user's function(name, layer, **options) yields, checked.

    The function gets a copy of the layer. Raises UserError where it fails, yields nothing or what
    is no variant of this layer, changes the layer in place, or yields something else when it is
    called again. torch's random numbers are seeded.
    """
    generate = plugins.load(function)

    def yielded() -> Iterator[tuple[Variant, dict[str, Tensor]]]:
        """Each variant with what it replaces."""
        own = copy.deepcopy(layer)
        with plugins.told(function), seeded("own ablation", name):
            variants = list(generate(name, own, **copy.deepcopy(options)))
        for variant in variants:
            yield _checked(variant, variants[0], function, name, layer)
        for key, parameter in own.named_parameters():
            if not same(parameter, layer.get_parameter(key)):
                raise UserError(
                    f"{function}, layer {name}: changes its {key} in place; change a copy "
                    "(weight.detach().clone())"
                )

    checked = [variant for variant, _ in yielded()]
    if not checked:
        raise UserError(f"{function} yields no variant of layer {name}; yield at least one")
    with plugins.told(function):  # a key that cannot be hashed
        keys = Counter(variant.key for variant in checked if variant.key is not None)
    for key, times in keys.items():
        if times > 1:
            raise UserError(
                f"{function}, layer {name}: {times} variants have the key {key!r}, which says that "
                "they are equal; give each a key of its own"
            )
    for one, other in zip_longest(checked, yielded()):
        if one is None or other is None or not _alike(one, *other):
            raise UserError(
                f"{function}, layer {name}: yields other variants when it is called again; draw "
                "random numbers with torch, which is seeded, and keep nothing between calls"
            )
    return checked


def _alike(one: Variant, other: Variant, replaced: dict[str, Tensor]) -> bool:
    """Whether a variant, asked for the second time, is what another one is and replaces."""
    first, second = ((repr(v.columns), v.key, v.mask) for v in (one, other))
    before = one.replace() if one.replace else {}
    if first != second or before.keys() != replaced.keys():
        return False
    return all(same(before[key], value) for key, value in replaced.items())


def _is_mask(mask: object, name: str, count: int) -> bool:
    """Whether it is a mask of some of a layer's filters, or other units."""
    if not isinstance(mask, Mask) or not isinstance(mask.filters, Collection):
        return False
    there = all(isinstance(f, int | np.integer) and 0 <= f < count for f in mask.filters)
    return there and mask.layer == name and mask.at in ("weights", "activation")


def _checked(
    variant: Variant, first: Variant, function: str, name: str, layer: nn.Module
) -> tuple[Variant, dict[str, Tensor]]:
    def wrong(what: str, remedy: str) -> UserError:
        return UserError(f"{function}, layer {name}: {what}; {remedy}")

    if not isinstance(variant, Variant):
        raise wrong(f"yields a {type(variant).__name__}", "expected faultline.Variant")
    columns = variant.columns
    if not isinstance(columns, dict) or not all(isinstance(key, str) for key in columns):
        raise wrong("the columns of a variant are no dict", "expected {name: value}")
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
    if variant.mask is not None:
        count = filters_of(layer)
        if not _is_mask(variant.mask, name, count):
            raise wrong(
                f"{' '.join(repr(variant.mask).split()):.100} is no mask of it",
                f"expected Mask({name!r}, filters in 0..{count - 1}, 'weights' or 'activation')",
            )
        mask = variant.mask._replace(filters=tuple(map(int, variant.mask.filters)))
        return replace(variant, mask=mask), {}

    parameters = {f"{name}.{key}": p.detach() for key, p in layer.named_parameters()}

    make = variant.replace or dict

    def checked() -> dict[str, Tensor]:
        with plugins.told(function), torch.no_grad(), seeded("own ablation", name, variant.key):
            new = make()
        if not isinstance(new, dict):
            raise wrong(f"replace gives a {type(new).__name__}", "expected {parameter: tensor}")
        for key, value in new.items():
            if not isinstance(value, Tensor):
                raise wrong(f"replaces {key!r} by a {type(value).__name__}", "expected a tensor")
        return {key: value.detach() for key, value in new.items()}

    replaced = checked()
    for key, value in replaced.items():
        if key not in parameters:
            raise wrong(f"replaces {key!r}", f"expected one of {', '.join(parameters)}")
        if value.shape != parameters[key].shape or value.dtype != parameters[key].dtype:
            got = f"{list(value.shape)} of {value.dtype}"
            expected = f"{list(parameters[key].shape)} of {parameters[key].dtype}"
            raise wrong(f"replaces {key} by {got}", f"expected {expected}")
        if not value.isfinite().all() and parameters[key].isfinite().all():
            raise wrong(f"replaces {key} by NaN or infinite values", "give finite ones")
    equal = all(same(value, parameters[key]) for key, value in replaced.items())
    if variant.key is None and not equal:
        raise wrong(
            "key None says that a variant equals the whole network, but it does not",
            "give each variant a key of its own",
        )
    return replace(variant, replace=checked), replaced
