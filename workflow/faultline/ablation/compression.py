"""Fewer bits and fewer weights: layers as they are shipped, alone or all at once. Weights change,
and what goes into a layer, where that is asked for; biases stay.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from faultline.ablation.variants import Variant
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, count_of
from faultline.networks.clipping import Bounds, is_floats, ranges
from faultline.networks.layers import TRANSPOSED, Bare, every_layer, is_conv1d, kind, weights
from faultline.networks.plain import copied, plain, plain_layer

FULL = 32
"""Bits of a weight that is left as it is, as networks are mostly stored."""


class Form(NamedTuple):
    """What becomes of a weight: so many bits, or 0 if it is among a share of the smallest. inputs:
    whether what goes into the layer gets as many bits, too."""

    bits: int | None = None
    share: float | None = None
    inputs: bool = False

    @property
    def name(self) -> str:
        """As tables call it: int8, int8 and inputs, prune 0.5."""
        if self.bits:
            return f"int{self.bits}{' and inputs' if self.inputs else ''}"
        return f"prune {self.share:g}"

    @property
    def size(self) -> float:
        """Bits of a weight in the mean, where weights that are 0 take none and nothing else is
        stored of them."""
        return float(self.bits) if self.bits else FULL * (1 - (self.share or 0.0))


def forms(bits: Sequence[int], shares: Sequence[float], *, inputs: bool = False) -> list[Form]:
    """Of so many bits each, with `inputs` these once more with what goes into the layer, and
    without such a share of the weights each."""
    for count in bits:
        check_count(count, "compression: bits", low=2)
    for share in shares:
        check_number(share, "compression: prune", high=1.0)
    also = (False, True) if inputs else (False,)
    return [
        *(Form(bits=count, inputs=with_inputs) for with_inputs in also for count in bits),
        *(Form(share=share) for share in shares),
    ]


def scale_of(weight: Tensor, bits: int, axis: int | None = None) -> Tensor:
    """max |w| / (2^(bits - 1) - 1), of each channel along an axis or of all weights, float64, to be
    broadcast; 1 where all weights are 0."""
    dims = [d for d in range(weight.dim()) if axis is None or d != axis % weight.dim()]
    largest = weight.double().abs().amax(dims, keepdim=True)
    return torch.where(largest == 0, 1.0, largest / (2 ** (bits - 1) - 1))


def quantised(weight: Tensor, bits: int, axis: int | None = None) -> Tensor:
    """Weights at the nearest of 2^bits - 1 values that lie symmetric about 0, up to the largest;
    see `scale_of`."""
    scale = scale_of(weight, bits, axis)
    return ((weight.double() / scale).round() * scale).to(weight)


def pruned(tensors: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights, several tensors as one, of which floor(share * size), the smallest by |w|, become 0;
    of equal ones the first."""
    flat = torch.cat([value.flatten() for value in tensors.values()])
    order = flat.abs().argsort(stable=True)
    flat = flat.index_fill(0, order[: count_of(share, len(flat))], 0.0)
    parts = flat.split([value.numel() for value in tensors.values()])
    return {
        name: part.view(value.shape)
        for (name, value), part in zip(tensors.items(), parts, strict=True)
    }


def channel_axis(layer: nn.Module) -> int | None:
    """The axis of a layer's weights along which its units lie, one after the other; None where
    they have none such."""
    if isinstance(layer, Bare) or kind(layer) == "norm":
        return None
    return 1 if isinstance(layer, TRANSPOSED) or is_conv1d(layer) else 0


def compressed(layer: nn.Module, form: Form, *, by_channel: bool = True) -> dict[str, Tensor]:
    """The weights of a layer in a form, by their names in it."""
    own = weights(layer)
    if form.share is not None:
        return pruned(own, form.share)
    axis = channel_axis(layer) if by_channel else None
    return {name: quantised(value, form.bits or FULL, axis) for name, value in own.items()}


def compression_variant(
    layers: Mapping[str, nn.Module],
    of: Mapping[str, Form],
    *,
    by_channel: bool = True,
    as_one: bool = False,
) -> Variant:
    """Some layers, each in a form, at once.

    layers: name -> module with weights; of: layer -> its form. as_one: prune the weights of all as
    one, of which the first form says the share. Columns: form ("int8", "prune 0.5", or "several"),
    weights (of these layers), changed_weights.
    """
    if not of:
        raise UserError("compression_variant: no layer is named; give {layer: Form(bits=8)}")
    if any(form.inputs for form in of.values()):
        raise UserError(
            "compression_variant: changes weights alone; for inputs that are rounded, too, take "
            "compressed_network"
        )
    own = {name: plain_layer(name, layers[name]) for name in of}
    given = {
        f"{name}.{key}": value
        for name, layer in own.items()
        for key, value in weights(layer).items()
    }

    def replace() -> dict[str, Tensor]:
        if as_one:
            return pruned(given, next(iter(of.values())).share or 0.0)
        return {
            f"{name}.{key}": value
            for name, layer in own.items()
            for key, value in compressed(layer, of[name], by_channel=by_channel).items()
        }

    changed = sum(int((value != given[name]).sum()) for name, value in replace().items())
    names = {form.name for form in of.values()}
    columns = {
        "form": names.pop() if len(names) == 1 else "several",
        "weights": sum(value.numel() for value in given.values()),
        "changed_weights": changed,
    }
    return Variant(columns, key=(*of.items(), as_one) if changed else None, replace=replace)


def input_ranges(
    network: nn.Module, layers: Mapping[str, nn.Module], images: Tensor
) -> dict[str, Bounds]:
    """Layer -> the range of what goes into it on some images [n, ...], 0 in it. Layers that are not
    called as modules, or with other than floats, are left out, and so are those of which a value is
    not finite."""

    def watch(see: Callable[[str, Tensor], None]) -> list[Any]:
        def seen(name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for value in filter(is_floats, tree_leaves((args, kwargs))):
                see(name, value)

        return [_before(layer, partial(seen, name)) for name, layer in layers.items()]

    found = ranges(network, images, watch)
    return {name: (min(0.0, low), max(0.0, high)) for name, (low, high) in found.items()}


def rounded(value: Tensor, bits: int, within: Bounds) -> Tensor:
    """The nearest of 2^bits values, evenly from the lowest to the highest of a range and shifted so
    that 0 is one of them; what lies beyond is put to the end."""
    low, high = within
    step = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / step)
    level = (value.double() / step).round().add(zero).clamp(0, 2**bits - 1)
    return ((level - zero) * step).to(value.dtype)


def compressed_network(
    network: nn.Module,
    of: Mapping[str, Form],
    ranges: Mapping[str, Bounds],
    *,
    by_channel: bool = True,
) -> nn.Module:
    """A copy of a network in eval mode with some layers, each in a form; see `input_ranges`."""
    compact = plain(copied(network))
    layers = every_layer(compact)
    for name, form in of.items():
        with torch.no_grad():
            for key, value in compressed(layers[name], form, by_channel=by_channel).items():
                layers[name].get_parameter(key).copy_(value)
        if form.inputs and form.bits and name in ranges:
            _before(layers[name], partial(_rounded_inputs, form.bits, ranges[name]))
    return compact


def _before(layer: nn.Module, hook: Callable[..., Any]) -> Any:
    return layer.register_forward_pre_hook(hook, with_kwargs=True)


def _rounded_inputs(
    bits: int, within: Bounds, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return tree_map(lambda v: rounded(v, bits, within) if is_floats(v) else v, (args, kwargs))
