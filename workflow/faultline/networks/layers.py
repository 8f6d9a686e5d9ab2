"""The layers of a network: every Conv2d and Linear, by its module path."""

import torch
from torch import Tensor, nn


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every Conv2d and Linear by its module path, in the order of definition.

    Paths are relative to `network.body` where there is one, else to `network`.
    """
    body = getattr(network, "body", network)
    return {
        path: module
        for path, module in body.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def called(network: nn.Module, images: Tensor) -> set[str]:
    """Names of the layers that a network calls on images: others have no output to ablate."""
    seen, hooks = set(), []
    for name, layer in layers(network).items():
        hooks.append(layer.register_forward_hook(lambda *_, name=name: seen.add(name)))
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return seen


def filters(layer: nn.Module) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
