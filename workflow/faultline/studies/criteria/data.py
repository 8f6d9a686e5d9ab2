"""What a criterion sees of a checkpoint, and what several of them do with it.

A criterion is a function (network, data) -> layer -> `Score`. The higher a score, the more the part
is said to matter: the more should be lost when it is removed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faultline.base import memory
from faultline.base.memory import halving
from faultline.data.splits import Bounds
from faultline.networks.evaluation import evaluation
from faultline.networks.layers import by_rows, every_layer, filters, of_units
from faultline.networks.plain import preserved
from faultline.networks.probes import some_only, watch


class Score(NamedTuple):
    """Of a whole layer; and of each of its units, [units], where a criterion tells them apart."""

    layer: float
    filters: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Data:
    """What a criterion may see; all images are of the validation split.

    images:  [n, ...] in pixel units; labels: int64 [n].
    layers:  names of those to be scored, in the order of definition.
    attack:  settings of the attack, as in the config; bounds: of the pixels, see `ascent`.
    craft:   (network, images, labels) -> adversarial images under this attack.
    initial: makes the network as it was before training.
    redrawn: makes networks whose parameters are drawn anew, each draw its own.
    seed:    differs between checkpoints.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor
    layers: Sequence[str]
    attack: Mapping
    bounds: Bounds
    craft: Callable[[nn.Module, Tensor, Tensor], Tensor]
    initial: Callable[[], nn.Module]
    redrawn: Callable[[], Iterator[nn.Module]]
    seed: int

    @cached_property
    def adversarial(self) -> Tensor:
        """The images, attacked on the network, of their shape."""
        return self.craft(self.network, self.images, self.labels)

    def modules(self, network: nn.Module) -> dict[str, nn.Module]:
        """The layers to be scored, by name, as a network has them."""
        layers = every_layer(network)
        return {name: layers[name] for name in self.layers}


@contextmanager
def passes(network: nn.Module) -> Iterator[list[int]]:
    """Inside the block, the one number of the list is how many images went through the network,
    those that gradients went back for counted twice."""
    count = [0]

    def add(images: int) -> None:
        count[0] += images

    def passed(_, inputs, output) -> None:
        n = len(inputs[0])
        add(n)
        start = inputs[0] if inputs[0].requires_grad else output
        if start.requires_grad:
            start.register_hook(lambda _: add(n))

    hook = network.register_forward_hook(passed)
    try:
        yield count
    finally:
        hook.remove()


@contextmanager
def _differentiable(network: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[dict]:
    """Layer -> parameter -> itself, with a gradient; the network in eval mode, and as it was
    afterwards."""
    with evaluation(network):
        parameters = {name: dict(layer.named_parameters()) for name, layer in layers.items()}
        for own in parameters.values():
            for parameter in own.values():
                parameter.requires_grad_(True)
        with torch.enable_grad():
            yield parameters


def _summed(network: nn.Module, parameters: dict, images: Tensor, labels: Tensor):
    """(summed cross-entropy, layer -> parameter -> its gradient); 0 where no path leads to it."""
    flat = [parameter for own in parameters.values() for parameter in own.values()]
    with preserved(network):  # what it kept would have a graph that is gone by the next batch
        loss = nn.functional.cross_entropy(network(images), labels, reduction="sum")
        gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    values = {
        name: {
            key: torch.zeros_like(parameter) if gradient is None else gradient
            for (key, parameter), gradient in zip(own.items(), gradients, strict=False)
        }
        for name, own in parameters.items()
    }
    return loss.detach(), values


@halving
def gradients(
    network: nn.Module,
    layers: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 500,
) -> tuple[float, dict[str, dict[str, Tensor]]]:
    """(mean cross-entropy over images, layer -> parameter -> gradient of this, in its shape)."""
    total = 0.0
    sums: dict[str, dict[str, Tensor]] = {}
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    with _differentiable(network, layers) as parameters:
        for batch, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            loss, by_layer = _summed(network, parameters, batch, targets)
            total += loss.item()
            for name, own in by_layer.items():
                for key, gradient in own.items():
                    before = sums.setdefault(name, {}).get(key, 0.0)
                    sums[name][key] = before + gradient / len(images)
    return total / len(images), sums


def image_gradients(
    network: nn.Module, layers: Mapping[str, nn.Module], images: Tensor, labels: Tensor
) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Image by image, layer -> parameter -> gradient of its cross-entropy."""
    with _differentiable(network, layers) as parameters:
        for image, label in zip(images.split(1), labels.split(1), strict=True):
            yield _summed(network, parameters, image, label)[1]


def unit_sums(layer: nn.Module, values: Mapping[str, Tensor]) -> Tensor:
    """Sum over what belongs to each unit of a layer (see `of_units`), float64 [units].

    values: parameter -> tensor in its shape; parameters may be left out.
    """
    values = {name: value.detach().double() for name, value in values.items()}
    sums = next(iter(values.values())).new_zeros(filters(layer))
    if by_rows(layer):
        return sum((value.reshape(len(value), -1).sum(1) for value in values.values()), sums)
    for unit in range(len(sums)):
        for name, mask in of_units(layer, [unit]).items():
            if name in values:
                sums[unit] += values[name][mask].sum()
    return sums


@contextmanager
def replaced(layer: nn.Module, values: Mapping[str, Tensor]) -> Iterator[dict[str, nn.Parameter]]:
    """Inside the block, some parameters of a layer have other values; afterwards, bit for bit,
    their own. Yields these parameters, which may be written to meanwhile."""
    own = {name: p for name, p in layer.named_parameters() if name in values}
    before = {name: parameter.detach().clone() for name, parameter in own.items()}

    def put(values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(values[name])

    try:
        put(values)
        yield own
    finally:
        put(before)


class Features(nn.Module):
    """What a layer gives for images, [n, features]."""

    def __init__(self, network: nn.Module, layer: str):
        super().__init__()
        self.network, self.layer = network, layer

    def forward(self, images: Tensor) -> Tensor:
        """The outputs [n, N] of the layer."""
        with watch(self.network, at="layer", names=[self.layer]) as seen:
            self.network(images)
        output = seen.get(self.layer)
        if output is None or (len(output) != len(images) and output.requires_grad):
            raise some_only(self.layer)
        return output.flatten(1)
