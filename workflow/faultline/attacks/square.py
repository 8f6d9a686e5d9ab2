"""Square attack: random search that asks a network for logits only (Andriushchenko et al. 2020)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from faultline.attacks.ascent import Ball, l2_norm, margin, per_image
from faultline.attacks.space import for_some
from faultline.base import pace
from faultline.networks.evaluation import evaluation, predicted

SHARE = 0.8
"""Share of the positions that the first patches cover."""

HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the share is halved."""


def square(
    network: nn.Module, images: Tensor, labels: Tensor, *, ball: Ball, queries: int, seed: int
) -> Tensor:
    """The first misclassified point, or that of the smallest margin among `queries` points.

    A patch is a square of an image [n, c, h, w], a stretch of a signal [n, c, t] or of the
    embedding of tokens [n, t, c], or some features of a row [n, f]; all but the first are ours.
    Images share the draws, so that batching changes nothing.
    """
    adversarial, best = torch.empty_like(images), images
    place = torch.arange(len(images), device=images.device)
    lowest = torch.full((len(images),), torch.inf, device=images.device)
    patches = _Patches(images, ball, seed)
    with evaluation(network), torch.no_grad():
        for number in range(queries):
            share = SHARE / 2 ** sum(number * 10_000 > at * queries for at in HALVED)
            tried = ball.nearest(images + patches.next(best - images, share, number == 0), images)
            pace.passed(len(images))
            logits = network(tried)
            value, fooled = margin(logits, labels), predicted(logits) != labels
            better = (value < lowest) | fooled
            best = torch.where(per_image(better, images), tried, best)
            lowest = torch.where(better, value, lowest)
            if fooled.any():
                adversarial[place] = best
                left = ~fooled
                network = for_some(network, left)
                place, images, labels = place[left], images[left], labels[left]
                best, lowest = best[left], lowest[left]
            if not len(place):
                break
    adversarial[place] = best
    return adversarial


class _Patches:
    """What is tried next in place of what is added to the images, [n, channels, positions...]."""

    def __init__(self, images: Tensor, ball: Ball, seed: int):
        self.ball, self.features = ball, images.ndim == 2
        self.generator = torch.Generator().manual_seed(seed)
        self.channels, *self.size = self._inside(images).shape[1:]

    def next(self, added: Tensor, share: float, first: bool) -> Tensor:
        """added [n, ...] of the images -> of their shape, with a patch of a share of the positions
        anew; first: all of it."""
        if self.ball.norm == "l2":
            inside = self._inside(added)
            return self._outside(self._tiles(inside) if first else self._moved(inside, share))
        signs = torch.zeros(1, self.channels, *self.size)
        if first:
            # stripes: in an image, each column of a channel has one sign
            signs += self._signs(self.channels, *[1] * (len(self.size) - 1), self.size[-1])
        else:
            sides = self._sides(share)
            each = sides if self.features else [1] * len(self.size)
            signs[self._window(sides)] = self._signs(self.channels, *each)
        signs = self._outside(signs).to(added)
        return torch.where(signs == 0, added, self.ball.eps * signs)

    def _inside(self, added: Tensor) -> Tensor:
        return added[:, None] if self.features else added.movedim(self.ball.channels, 1)

    def _outside(self, inside: Tensor) -> Tensor:
        return inside[:, 0] if self.features else inside.movedim(1, self.ball.channels)

    def _signs(self, *shape: int) -> Tensor:
        return 2.0 * torch.randint(2, shape, generator=self.generator) - 1

    def _sides(self, share: float, least: int = 1) -> list[int]:
        side = round((share * math.prod(self.size)) ** (1 / len(self.size)))
        return [min(max(side, least), size) for size in self.size]

    def _window(self, sides: Sequence[int]) -> Any:
        """Positions at random, as an index of what ends with positions."""
        if self.features:
            return ..., torch.randperm(self.size[0], generator=self.generator)[: sides[0]]
        axes = []
        for axis, (side, size) in enumerate(zip(sides, self.size, strict=True)):
            first = int(torch.randint(size - side + 1, (), generator=self.generator))
            along = [-1 if other == axis else 1 for other in range(len(sides))]
            axes.append(torch.arange(first, first + side).reshape(along))
        return ..., *axes

    def _bump(self, sides: Sequence[int]) -> Tensor:
        """Of l2: two bumps of opposite sign side by side, of norm 1, shape `sides`."""
        if self.features:
            bump = self._signs(*sides)
        else:
            half = sides[0] // 2
            bump = torch.cat([_bump([half, *sides[1:]]), -_bump([sides[0] - half, *sides[1:]])])
            if len(set(sides)) == 1 and len(sides) == 2 and self._signs(1) > 0:
                bump = bump.T
        unit: Tensor = bump / torch.linalg.vector_norm(bump)
        return unit

    def _tiles(self, inside: Tensor) -> Tensor:
        """Of l2, what is tried first: bumps all over."""
        sides = [size if self.features else max(size // 5, 2) for size in self.size]
        sides = [min(side, size) for side, size in zip(sides, self.size, strict=True)]
        counts = [math.ceil(size / side) for side, size in zip(sides, self.size, strict=True)]
        tiles = self._bump(sides).tile(counts)[tuple(slice(size) for size in self.size)]
        signs = self._signs(self.channels, *counts)
        for axis, side in enumerate(sides, start=1):
            signs = signs.repeat_interleave(side, axis).narrow(axis, 0, self.size[axis - 1])
        new = (signs * tiles)[None].to(inside)
        return (self.ball.eps * new / per_image(l2_norm(new), new)).expand_as(inside)

    def _moved(self, inside: Tensor, share: float) -> Tensor:
        """Of l2: what one window has is put, with what is left of eps, as a bump into another."""
        sides = self._sides(share, least=3)
        to, source = self._window(sides), self._window(sides)
        bump = (self._bump(sides) * self._signs(self.channels, *[1] * len(sides))).to(inside)
        both = torch.zeros(self.size, dtype=torch.bool)
        both[to] = both[source] = True
        both = both.to(inside.device)
        unused = (self.ball.eps**2 - per_image(l2_norm(inside), inside) ** 2).clamp_min(0)
        budget = (_norm(inside * both) ** 2 + unused / self.channels).sqrt()
        old = inside[to]
        tiny = torch.finfo(old.dtype).tiny
        mixed = bump + old / _norm(old).clamp_min(tiny)
        new = inside.clone()
        new[source] = 0
        new[to] = mixed / _norm(mixed).clamp_min(tiny) * budget
        return new


def _norm(inside: Tensor) -> Tensor:
    """Of each channel, [n, c, 1...]."""
    axes = tuple(range(2, inside.ndim))
    norm: Tensor = torch.linalg.vector_norm(inside, dim=axes, keepdim=True)
    return norm


def _bump(sides: Sequence[int]) -> Tensor:
    """Highest in the middle, of shape `sides`: sum of 1 / (n + 1 - k)^2, k from 0 to what lies
    between a position and the nearest edge."""
    depth = [torch.minimum(torch.arange(side), side - 1 - torch.arange(side)) for side in sides]
    from_edge = depth[0]
    for other in depth[1:]:
        from_edge = torch.minimum(from_edge[..., None], other)
    n = max(sides) // 2
    heights = (1.0 / (n + 1 - torch.arange(n + 1)) ** 2).cumsum(0)
    return heights[from_edge]
