"""Which layers and parameters of a network its logits come from, for the inputs that it is given.

Where a network sends inputs different ways, by what they are, each input shows a part of them.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from faultline.base import memory
from faultline.networks.layers import every_layer
from faultline.networks.plain import preserved
from faultline.networks.symbolic import Tracer

IMAGES = 256
"""At most so many show what a network uses (ours)."""

BATCHES = (1, 1, 2, 4, 8, 16, 32, 8)
"""So many at once, the last again and again: what is decided may depend on a batch's mean."""


class Reach:
    """What inputs have reached so far.

    called: names of layers. parameters: ids of those that the logits depend on; empty where the
    network has no gradient. inputs: how many there were. routes: whether others might reach more;
    a network that torch.fx can trace sends all inputs the same way.
    """

    def __init__(self, network: nn.Module):
        self.network, self.every = network, every_layer(network)
        self.called: set[str] = set()
        self.parameters: set[int] = set()
        self.inputs, self.routes = 0, True

    def add(self, inputs: Tensor) -> None:
        """Runs the network on a batch [n, ...], in the mode that it is in; it stays as it is."""
        hooks = [
            layer.register_forward_hook(lambda *_, name=name: self.called.add(name))
            for name, layer in self.every.items()
        ]
        try:
            with preserved(self.network):
                parameters = reached(self.network, inputs)
                if not parameters:
                    with torch.no_grad():
                        self.network(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        if not self.inputs:
            self.routes = not _traces(self.network)
        self.parameters |= parameters
        self.inputs += len(inputs)

    @property
    def layers(self) -> set[str]:
        """Names of those that are called, or whose parameters another module reads."""
        return self.called | {
            name
            for name, layer in self.every.items()
            if any(id(parameter) in self.parameters for parameter in layer.parameters())
        }

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing that a further input could reach."""
        if not self.routes:
            return True
        seen = {id(p) for name in self.called for p in self.every[name].parameters()}
        every = {id(parameter) for parameter in self.network.parameters()}
        return every <= seen | self.parameters


def _traces(network: nn.Module) -> bool:
    try:
        with preserved(network):
            Tracer().trace(network)
    except Exception:
        return False
    return True


def reached(network: nn.Module, images: Tensor) -> set[int]:
    """The `id` of every parameter that the logits depend on; none where they have no gradient."""
    parameters = list(network.parameters())
    asked = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            logits = network(images)
            gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    except RuntimeError:  # an operation without a gradient
        return set()
    finally:
        for parameter, before in zip(parameters, asked, strict=True):
            parameter.requires_grad_(before)
    return {
        id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None
    }


def batches(images: Tensor) -> Iterator[Tensor]:
    """Images [n, ...] in batches of several sizes, at most IMAGES of them."""
    images, sizes = images[:IMAGES], [memory.batch_size(s, images.shape[1:]) for s in BATCHES]
    while len(images):
        yield images[: sizes[0]]
        images, sizes = images[sizes[0] :], sizes[1:] or sizes


def reach(network: nn.Module, inputs: Iterable[Tensor]) -> Reach:
    """What batches of inputs reach, as far as there is more to reach."""
    so_far = Reach(network)
    for batch in inputs:
        so_far.add(batch)
        if so_far.is_complete:
            break
    return so_far


def used(network: nn.Module, images: Tensor) -> set[str]:
    """Names of the layers that the logits of any image [n, ...] depend on."""
    return reach(network, batches(images)).layers
