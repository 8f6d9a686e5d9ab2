"""Several attacks one after the other, each on the images that still stand (Croce & Hein 2020)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from faultline.attacks.ascent import TARGETED_DLR, Ball, apgd, margin
from faultline.attacks.square import square
from faultline.networks.evaluation import evaluation, predicted

Part = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One attack: (images [n, ...], labels [n], start) -> adversarial images."""

AIMS = 9
"""Classes that targeted APGD aims at: those of the largest logits beside the label's."""


def apgd_t(
    network: nn.Module, images: Tensor, labels: Tensor, *, ball: Ball, steps: int, start: Tensor
) -> Tensor:
    """Targeted APGD on the difference of logits ratio (Croce & Hein 2020): an image is done with
    the first point at which it is misclassified; otherwise it becomes that of the smallest margin.
    """
    parts = _targeted(network, ball=ball, steps=steps)
    return _in_turn(network, images, labels, start=start, parts=parts)


def standard(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    ball: Ball,
    steps: int,
    queries: int,
    start: Tensor,
    seed: int,
    after: Callable[[str, Tensor], object] | None = None,
) -> Tensor:
    """APGD on the cross-entropy, targeted APGD and Square, as AutoAttack (Croce & Hein 2020)
    without FAB: an image is done with the first point at which it is misclassified, be it the image
    itself; otherwise it becomes the point of the smallest margin.

    after: called with the name of a part, and which images [n] stand after it.
    """

    def ascend(images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        return apgd(network, images, labels, ball=ball, steps=steps, start=start, until_fooled=True)

    def search(images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        return square(network, images, labels, ball=ball, queries=queries, seed=seed)

    parts = [("apgd", ascend), *_targeted(network, ball=ball, steps=steps), ("square", search)]
    return _in_turn(network, images, labels, start=start, parts=parts, after=after)


def _targeted(network: nn.Module, *, ball: Ball, steps: int) -> list[tuple[str, Part]]:
    """Targeted APGD at one class after the other, by rank among an image's logits."""

    def towards(rank: int, images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        logits = _logits(network, images)
        if rank >= logits.shape[1]:
            return images
        others = logits.scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
        return apgd(
            network,
            images,
            labels,
            ball=ball,
            steps=steps,
            start=start.roll(rank, -1),  # of each class another
            until_fooled=True,
            objective=TARGETED_DLR,
            aims=others[:, rank - 1],
        )

    return [("apgd_t", partial(towards, rank)) for rank in range(1, AIMS + 1)]


def _in_turn(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    start: Tensor,
    parts: Sequence[tuple[str, Part]],
    after: Callable[[str, Tensor], object] | None = None,
) -> Tensor:
    """Each part on the images that are classified correctly after those before it."""
    adversarial = images.clone()
    logits = _logits(network, images)
    lowest, standing = margin(logits, labels), predicted(logits) == labels
    for name, part in parts:
        place = standing.nonzero()[:, 0]
        if len(place):
            moved = part(images[place], labels[place], start[place])
            logits = _logits(network, moved)
            value, stands = margin(logits, labels[place]), predicted(logits) == labels[place]
            better = (value < lowest[place]) | ~stands
            adversarial[place[better]] = moved[better]
            lowest[place[better]] = value[better]
            standing[place] = stands
        if after is not None:
            after(name, standing.clone())
    return adversarial


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    with evaluation(network), torch.no_grad():
        logits: Tensor = network(images)
    return logits
