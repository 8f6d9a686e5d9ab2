"""Which units of a network look as if it could not do without them, by gradients alone.

Without a unit, its output is 0. To first order, the lead of the predicted class over another then
falls by the sum of output times gradient of that lead (Molchanov et al. 2017, there of the loss).
An image counts as lost the more, the larger that is beside the lead itself, for that of the four
next classes where it is largest (ours): a smooth count of predictions that change. A rise counts
half as much as a fall: where much is removed, the first order tells how much moves better than
which way. Of the layer that gives the logits it is exact, and only falls count.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from faultline.networks.evaluation import evaluation
from faultline.networks.layers import filters, is_conv1d, kind, of_units

RIVALS = 4
"""Classes that the predicted one is held against (ours)."""

STEEPNESS = 4.0
"""Of the count: an image whose lead falls by all of it counts half (ours)."""

RISE = 0.5
"""Of the count: what a rise of the lead weighs, but for the layer that gives the logits (ours)."""

LEAST = 1e-3
"""Leads below it count as such (ours)."""


def screened(
    network: nn.Module, images: Tensor, layers: Mapping[str, nn.Module], *, batch_size: int
) -> dict[str, np.ndarray]:
    """Layer -> share of the images [n, ...] that are expected to get another prediction without
    each of its units, float64 [units]. The network stays as it is."""
    lost = {name: torch.zeros(filters(layer)) for name, layer in layers.items()}
    with evaluation(network), torch.enable_grad():
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        for batch in images.split(batch_size):
            for name, falls in _falls(network, batch, layers).items():
                count = torch.sigmoid(STEEPNESS * (falls.amax(0) - 1)).sum(0)
                lost[name] += count.nan_to_num(0.0).cpu()
    return {name: (of / len(images)).double().numpy() for name, of in lost.items()}


def _falls(
    network: nn.Module, images: Tensor, layers: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Layer -> the fall of each lead without each unit as a share of it [rivals, n, units]; of a
    rise `RISE` of it."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        outputs.setdefault(name, []).append(output)
        return output.clone()  # what follows may change it in place

    shown = [name for name, layer in layers.items() if _axis(layer)]
    hooks = [
        layers[name].register_forward_hook(lambda _, __, out, name=name: keep(name, out))
        for name in shown
    ]
    try:
        logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    inner = {name: dict(layers[name].named_parameters()) for name in layers if name not in shown}
    places = [(name, at) for name, of in outputs.items() for at in range(len(of))]
    weights = [(name, key) for name, of in inner.items() for key in of]
    asked = [outputs[name][at] for name, at in places] + [inner[n][key] for n, key in weights]
    order = logits.detach().argsort(1, descending=True)
    rivals = min(RIVALS, logits.shape[1] - 1)
    exact = {name for name, of in outputs.items() if torch.equal(of[-1].to(logits), logits)}
    falls: dict[str, list[Tensor]] = {name: [] for name in layers}
    for rival in range(1, rivals + 1):
        lead = (logits.gather(1, order[:, :1]) - logits.gather(1, order[:, rival, None]))[:, 0]
        gradients = torch.autograd.grad(
            lead.sum(), asked, retain_graph=rival < rivals, allow_unused=True
        )
        of = {name: logits.new_zeros(len(images), filters(layer)) for name, layer in layers.items()}
        for (name, at), gradient in zip(places, gradients, strict=False):
            if gradient is not None:
                fall = (gradient * outputs[name][at].detach()).movedim(_axis(layers[name]), -1)
                of[name] += fall.reshape(len(images), -1, fall.shape[-1]).sum(1)
        found = dict(zip(weights, gradients[len(places) :], strict=True))
        for name, parameters in inner.items():
            for unit in range(filters(layers[name])):
                masks = of_units(layers[name], [unit])
                parts = [
                    (parameters[key].detach() * gradient)[mask].sum()
                    for key, mask in masks.items()
                    if (gradient := found[name, key]) is not None
                ]
                of[name][:, unit] = sum(parts, start=logits.new_zeros(())) / len(images)
        share = lead.detach().clamp_min(LEAST)[:, None]
        for name, fall in of.items():
            counted = fall if name in exact else torch.maximum(fall, -RISE * fall)
            falls[name].append(counted / share.to(fall))
    return {name: torch.stack(of) for name, of in falls.items()}


def _axis(layer: nn.Module) -> int:
    """Along which an output of a layer has its units; 0 where no output shows them."""
    of = kind(layer)
    return 1 if of == "conv" else -1 if of in ("linear", "embedding") or is_conv1d(layer) else 0
