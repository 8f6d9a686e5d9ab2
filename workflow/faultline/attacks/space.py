"""Where attacks work: on the images themselves, or on what is added to the embedding of tokens."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faultline.data.splits import Bounds
from faultline.networks.architectures import TokenNetwork


class _Shifts(nn.Module):
    """A network of some tokens as one of what is added to their embedding [n, t, c], in its unit.

    of: the network of tokens that it is, or stands for. inputs: tokens [n, t], or with what is
    already added to their embedding [n, t, 1 + c].
    """

    def __init__(self, network: nn.Module, of: TokenNetwork, inputs: Tensor):
        super().__init__()
        self.network, self.unit = network, of.unit
        if inputs.is_floating_point():
            self.tokens, self.points = inputs[..., :1], inputs[..., 1:] / self.unit
        else:
            self.tokens = inputs[..., None].to(of.embedding.weight.dtype)
            self.points = self.tokens.new_zeros(*inputs.shape, of.embedding.embedding_dim)

    def of(self, keep: Tensor) -> "_Shifts":
        """The same of some of the tokens, an index [m] or bool [n]."""
        part = copy.copy(self)
        part.tokens, part.points = self.tokens[keep], self.points[keep]
        return part

    def inputs(self, points: Tensor) -> Tensor:
        """Tokens with what is added to their embedding, [n, t, 1 + c]."""
        return torch.cat([self.tokens, self.unit * points], dim=-1)

    def forward(self, points: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.network(self.inputs(points))
        return logits


def for_some(network: nn.Module, keep: Tensor) -> nn.Module:
    """A network of the points of some images as that of a part of them, an index [m] or bool [n]:
    one of what is added to tokens goes by the tokens, each of the others is itself."""
    return network.of(keep) if isinstance(network, _Shifts) else network


class Forward(nn.Module):
    """A function of the inputs of a network, in its place for attacks. run: inputs -> logits."""

    def __init__(self, run: Callable[[Tensor], Tensor], network: nn.Module):
        super().__init__()
        self.run, self.tokens = run, tokens_of(network)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [n, classes]."""
        return self.run(inputs)


def tokens_of(network: nn.Module) -> TokenNetwork | None:
    """The network of tokens that a network is, or stands in the place of."""
    if isinstance(network, Forward):
        return network.tokens
    return network if isinstance(network, TokenNetwork) else None


class Space(NamedTuple):
    """network: as a function of points. points: those of the images. bounds: theirs. images: points
    -> images. channels: the axis of the values of points that share a position."""

    network: nn.Module
    points: Tensor
    bounds: Bounds
    images: Callable[[Tensor], Tensor]
    channels: int = 1


def space(network: nn.Module, images: Tensor, bounds: Bounds = None) -> Space:
    """What an attack on some images works on, see `Space`.

    Points are the images but for tokens: there they are what is added to the output of their
    embedding, in units of the root mean square of its weights, without bounds (ours).
    """
    if (of := tokens_of(network)) is None:
        return Space(network, images, bounds, lambda points: points)
    shifts = _Shifts(network, of, images)
    return Space(shifts, shifts.points, None, shifts.inputs, channels=2)
