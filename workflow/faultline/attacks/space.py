"""Where attacks work: on the images themselves, or on what is added to the embedding of tokens."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faultline.attacks.ascent import Bounds
from faultline.networks.architectures import TokenNetwork


class _Shifts(nn.Module):
    """A network of some tokens as one of what is added to their embedding [n, t, c], in its unit.

    inputs: tokens [n, t], or with what is already added to their embedding [n, t, 1 + c].
    """

    def __init__(self, network: TokenNetwork, inputs: Tensor):
        super().__init__()
        self.network = network
        if inputs.is_floating_point():
            self.tokens, self.points = inputs[..., :1], inputs[..., 1:] / network.unit
        else:
            self.tokens = inputs[..., None].to(network.embedding.weight.dtype)
            columns = network.embedding.embedding_dim
            self.points = self.tokens.new_zeros(*inputs.shape, columns)

    def inputs(self, points: Tensor) -> Tensor:
        return torch.cat([self.tokens, self.network.unit * points], dim=-1)

    def forward(self, points: Tensor) -> Tensor:
        return self.network(self.inputs(points))


class Space(NamedTuple):
    """network: as a function of points. points: those of the images. bounds: theirs. images: points
    -> images."""

    network: nn.Module
    points: Tensor
    bounds: Bounds
    images: Callable[[Tensor], Tensor]


def space(network: nn.Module, images: Tensor, bounds: Bounds = None) -> Space:
    """What an attack on some images works on, see `Space`.

    Points are the images but for tokens: there they are what is added to the output of their
    embedding, in units of the root mean square of its weights, without bounds (ours).
    """
    if not isinstance(network, TokenNetwork):
        return Space(network, images, bounds, lambda points: points)
    shifts = _Shifts(network, images)
    return Space(shifts, shifts.points, None, shifts.inputs)
