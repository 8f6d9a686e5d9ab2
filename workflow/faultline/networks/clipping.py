"""Outputs of layers kept within the range that images show, so that what breaks in one layer does
not flood the next (after Ranger, Chen et al. 2021, and FT-ClipAct, Hoang et al. 2020, which clip
what follows a non-linearity)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from faultline.networks.evaluation import predict
from faultline.networks.layers import layers

Bounds = tuple[float, float]
"""The lowest and the highest of what a layer gives or takes."""

Watch = Callable[[Callable[[str, Tensor], None]], list[Any]]


def ranges(network: nn.Module, images: Tensor, watch: Watch) -> dict[str, Bounds]:
    """Name -> the range of what is seen under it while the network runs on some images [n, ...].
    Names of which a value is not finite are left out.

    watch: gets a function that is to be called with a name and a tensor of floats; it puts hooks in
    place that do so, and gives them back.
    """
    ends: dict[str, list[Tensor]] = {}

    def see(name: str, value: Tensor) -> None:
        ends.setdefault(name, []).append(torch.stack(value.double().aminmax()).cpu())

    hooks = watch(see)
    try:
        predict(network, images)
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: torch.stack(of) for name, of in ends.items()}
    return {
        name: (of[:, 0].min().item(), of[:, 1].max().item())
        for name, of in found.items()
        if of.isfinite().all()
    }


def is_floats(value: object) -> bool:
    """Whether it is a tensor of floats."""
    return isinstance(value, Tensor) and value.is_floating_point()


def output_bounds(network: nn.Module, images: Tensor) -> dict[str, Bounds]:
    """Layer -> the range of its outputs on some images [n, ...]. Layers that are not called as
    modules, or give no single tensor of floats, are left out."""

    def watch(see: Callable[[str, Tensor], None]) -> list[Any]:
        def seen(name: str, _: nn.Module, __: Any, output: Any) -> None:
            if is_floats(output):
                see(name, output)

        every = layers(network).items()
        return [layer.register_forward_hook(partial(seen, name)) for name, layer in every]

    return ranges(network, images, watch)


class _Clip:
    """A forward hook: outputs within bounds, 0 in place of NaN."""

    def __init__(self, bounds: Bounds):
        self.bounds = bounds

    def __call__(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        low, high = self.bounds
        return output.nan_to_num(0.0, high, low).clamp(low, high)


def clip(network: nn.Module, bounds: Mapping[str, Bounds]) -> None:
    """Keep what layers give within bounds, from now on; in place of those of an earlier call.

    bounds: see `output_bounds`; none let all pass.
    """
    for name, layer in layers(network).items():
        for key, hook in [*layer._forward_hooks.items()]:
            if isinstance(hook, _Clip):
                del layer._forward_hooks[key]
        if name in bounds:
            layer.register_forward_hook(_Clip(bounds[name]))


def bounds_of(network: nn.Module) -> dict[str, Bounds]:
    """The bounds that `clip` has set."""
    return {
        name: hook.bounds
        for name, layer in layers(network).items()
        for hook in layer._forward_hooks.values()
        if isinstance(hook, _Clip)
    }
