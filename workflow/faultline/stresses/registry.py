"""The stresses of inputs by their names in the config; no torch and no numpy but where one is made.

A stress does not depend on the network, so its inputs are made once for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.seeds import seed_of

if TYPE_CHECKING:
    from torch import Tensor

    from faultline.data.splits import DataSet

COLOURS = 3


@dataclass(frozen=True)
class Stress:
    """module: of this package, whose function of its name makes it. kinds: of the inputs that it is
    for, as of `Source.kind`. colour: whether it is nothing without red, green and blue."""

    module: str
    kinds: tuple[str, ...] = ("image",)
    colour: bool = False


IMAGES = {
    **dict.fromkeys(("gaussian_noise", "shot_noise", "impulse_noise"), Stress("noise")),
    **dict.fromkeys(
        ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        Stress("blur"),
    ),
    **dict.fromkeys(("snow", "frost", "fog", "brightness"), Stress("weather")),
    **dict.fromkeys(
        ("contrast", "elastic_transform", "pixelate", "jpeg_compression"), Stress("digital")
    ),
}
"""The fifteen common corruptions of Hendrycks & Dietterich 2019."""

STRESSES = IMAGES | {
    "speckle_noise": Stress("noise"),
    "gaussian_blur": Stress("blur"),
    "spatter": Stress("weather"),
    "saturate": Stress("digital", colour=True),
    **dict.fromkeys(("rotation", "shift"), Stress("moved")),
    "added_noise": Stress("moved", kinds=("signal", "vector")),
    **dict.fromkeys(("gain", "drift", "dropped_stretch"), Stress("moved", kinds=("signal",))),
    "missing": Stress("moved", kinds=("vector",)),
    **dict.fromkeys(("exchanged", "dropped_tokens"), Stress("moved", kinds=("token",))),
}


def stressed(
    kind: str, inputs: Tensor, *, severity: int, dataset: DataSet, seed: int, options: Mapping = {}
) -> Tensor:
    """Inputs under a stress, of their shape and type.

    kind: a name of `STRESSES`, or "file.py:function" of the user's own, called with (inputs,
    severity, seed) and the options, inputs in pixel units. inputs: as `DataSet.splits` stores them,
    [n, ...]. severity: 1 to 5; 0 gives the inputs themselves. Each input has draws of its own, by
    its place among all, so the first ones are the same however many there are. dataset: whose
    bounds the values are put to. UserError where a function of the user's own gives what is no
    input.
    """
    import numpy as np
    import torch

    if severity == 0:
        return inputs
    pixels = dataset.pixels(inputs)
    if plugins.is_own(kind):
        function = plugins.load(kind)
        with plugins.told(kind):
            made = function(pixels.clone(), severity, seed, **options)
        _check(made, pixels, kind)
    else:
        function = getattr(import_module(f"faultline.stresses.{STRESSES[kind].module}"), kind)
        seeds = (seed_of("stress", kind, severity, seed, i) for i in range(len(inputs)))
        values = pixels.movedim(1, -1).cpu() if pixels.dim() > 2 else pixels.cpu()
        values = values.double() if pixels.is_floating_point() else values
        of = function(
            values.numpy(), severity, [np.random.default_rng(of_input) for of_input in seeds]
        )
        made = torch.from_numpy(of)
        made = made.movedim(-1, 1) if made.dim() > 2 else made
    made = made.to(pixels)
    if dataset.bounds is not None and pixels.is_floating_point():
        low, high = (torch.as_tensor(end).to(made) for end in dataset.bounds)
        made = torch.minimum(torch.maximum(made, low), high)
    if dataset.levels is not None:
        return (made * dataset.levels).round().to(inputs.dtype)
    return made.to(inputs.dtype)


def _check(made: Any, pixels: Tensor, kind: str) -> None:
    """UserError where a function of the user's own gave what is no input."""
    import torch

    if not isinstance(made, torch.Tensor) or made.shape != pixels.shape:
        got = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
        raise UserError(f"{kind}: gave {got}; expected a tensor of shape {tuple(pixels.shape)}")
    if made.is_floating_point() and not made.isfinite().all():
        raise UserError(f"{kind}: gave NaN or infinities; give finite inputs")
