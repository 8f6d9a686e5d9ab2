"""Several attacks one after the other, each on the images that still stand (Croce & Hein 2020)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faultline.attacks.ascent import TARGETED_DLR, Ball, apgd, margin
from faultline.attacks.effort import TARGETS
from faultline.attacks.space import for_some
from faultline.attacks.square import square
from faultline.base import pace
from faultline.networks.evaluation import evaluation, predicted


class Standing(NamedTuple):
    """Images [n, ...] that are still classified correctly, labels [n] and start of each; leads [n,
    classes]: the label's logit less that of each class on the image as it is; taken [n]: the most
    that was taken off a lead so far."""

    images: Tensor
    labels: Tensor
    start: Tensor
    leads: Tensor
    taken: Tensor


Part = Callable[[nn.Module, Standing], Tensor]
"""One attack: the network for what still stands, and this -> adversarial images."""

REACH = 1.5
"""A class is aimed at where the label's lead over it is at most so many times what attacks before
have taken off the lead over any class (ours). Of 96 images that targeted APGD fooled on five
networks none asked for more than 1.38."""


def apgd_t(
    network: nn.Module, images: Tensor, labels: Tensor, *, ball: Ball, steps: int, start: Tensor
) -> Tensor:
    """Targeted APGD on the difference of logits ratio (Croce & Hein 2020): an image is done with
    the first point at which it is misclassified; otherwise it becomes that of the smallest margin.
    """
    parts = _targeted(ball=ball, steps=steps)
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

    def ascend(network: nn.Module, of: Standing) -> Tensor:
        images, labels, start, *_ = of
        return apgd(network, images, labels, ball=ball, steps=steps, start=start, until_fooled=True)

    def search(network: nn.Module, of: Standing) -> Tensor:
        return square(network, of.images, of.labels, ball=ball, queries=queries, seed=seed)

    parts = [("apgd", ascend), *_targeted(ball=ball, steps=steps), ("square", search)]
    return _in_turn(network, images, labels, start=start, parts=parts, after=after)


def _targeted(*, ball: Ball, steps: int) -> list[tuple[str, Part]]:
    """Targeted APGD at one class after the other, by rank among an image's logits: at the first
    always, at others where that is worth it, see `REACH`."""

    def towards(rank: int, network: nn.Module, of: Standing) -> Tensor:
        if rank >= of.leads.shape[1]:
            return of.images
        others = of.leads.scatter(1, of.labels[:, None], torch.inf)
        lead, aims = (values[:, rank - 1] for values in others.sort(1))
        worth = (lead <= REACH * of.taken) | (rank == 1)
        moved = of.images.clone()
        if worth.any():
            moved[worth] = apgd(
                for_some(network, worth),
                of.images[worth],
                of.labels[worth],
                ball=ball,
                steps=steps,
                start=of.start[worth].roll(rank, -1),  # of each class another
                until_fooled=True,
                objective=TARGETED_DLR,
                aims=aims[worth],
            )
        return moved

    return [("apgd_t", partial(towards, rank)) for rank in range(1, TARGETS + 1)]


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
    leads, standing = _leads(logits, labels), predicted(logits) == labels
    lowest, taken = margin(logits, labels), torch.zeros_like(leads[:, 0])
    for name, part in pace.each(parts):
        place = standing.nonzero()[:, 0]
        if len(place):
            of, here = (images, labels, start, leads, taken), for_some(network, place)
            moved = part(here, Standing(*(values[place] for values in of)))
            logits = _logits(here, moved)
            off = (leads[place] - _leads(logits, labels[place])).nan_to_num(0.0, 0.0, 0.0)
            taken[place] = torch.maximum(taken[place], off.amax(1))
            value, stands = margin(logits, labels[place]), predicted(logits) == labels[place]
            better = (value < lowest[place]) | ~stands
            adversarial[place[better]] = moved[better]
            lowest[place[better]] = value[better]
            standing[place] = stands
        if after is not None:
            after(name, standing.clone())
    return adversarial


def _leads(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit less that of each class, [n, classes]."""
    return logits.gather(1, labels[:, None]) - logits


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    with evaluation(network), torch.no_grad():
        logits: Tensor = network(images)
    return logits
