"""Fewer bits and fewer weights: layers as they are shipped, alone or all at once. Weights change,
biases stay.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faultline.ablation.variants import Variant
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, count_of
from faultline.networks.layers import TRANSPOSED, Bare, is_conv1d, kind, weights
from faultline.networks.plain import plain_layer

FULL = 32
"""Bits of a weight that is left as it is, as networks are mostly stored."""


class Form(NamedTuple):
    """What becomes of a weight: so many bits, or 0 if it is among a share of the smallest."""

    bits: int | None = None
    share: float | None = None

    @property
    def name(self) -> str:
        """As tables call it: int8, prune 0.5."""
        return f"int{self.bits}" if self.bits else f"prune {self.share:g}"

    @property
    def size(self) -> float:
        """Bits of a weight in the mean, where weights that are 0 take none and nothing else is
        stored of them."""
        return float(self.bits) if self.bits else FULL * (1 - (self.share or 0.0))


def forms(bits: Sequence[int], shares: Sequence[float]) -> list[Form]:
    """Of so many bits each, and without such a share of the weights each."""
    for count in bits:
        check_count(count, "compression: bits", low=2)
    for share in shares:
        check_number(share, "compression: prune", high=1.0)
    return [*(Form(bits=count) for count in bits), *(Form(share=share) for share in shares)]


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
    plain = {name: plain_layer(name, layers[name]) for name in of}
    given = {
        f"{name}.{key}": value
        for name, layer in plain.items()
        for key, value in weights(layer).items()
    }

    def replace() -> dict[str, Tensor]:
        if as_one:
            return pruned(given, next(iter(of.values())).share or 0.0)
        return {
            f"{name}.{key}": value
            for name, layer in plain.items()
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
