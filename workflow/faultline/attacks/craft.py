"""Adversarial images by the attacks of the config, and the accuracy that they leave."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from faultline.attacks.ascent import Ball, per_image, random_start
from faultline.attacks.methods import Attack, AttackKeywords, Batch, method_of
from faultline.attacks.space import space, tokens_of
from faultline.base import memory, pace
from faultline.base.errors import UserError
from faultline.base.inputs import check_count
from faultline.base.memory import halving
from faultline.networks.evaluation import NOT_FINITE, finite, predict, predicted
from faultline.networks.inputs import (
    check_classes,
    check_device,
    check_differentiable,
    check_images,
    checked_once,
    class_numbers,
)


def judge(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attacks: Mapping[str, Callable[..., Tensor]],
    say: Callable[[str], None] = print,
) -> dict[str, np.ndarray]:
    """Image set -> bool [n], classified correctly: "clean" and each attack, crafted on the network.

    attacks: name -> function of (network, images, labels). Outputs that are not finite count as
    misclassified, and how many there are is told by `say`.
    """
    sets = {"clean": images}
    sets |= {name: craft(network, images, labels) for name, craft in attacks.items()}
    return {name: _correct(network, chosen, labels, name, say) for name, chosen in sets.items()}


def _correct(
    network: nn.Module, images: Tensor, labels: Tensor, what: str, say: Callable[[str], None]
) -> np.ndarray:
    logits = predict(network, images)
    check_classes(logits, int(labels.max()))
    if broken := int((~finite(logits)).sum()):
        say(f"{what}: {broken} outputs of {len(labels)} {NOT_FINITE}")
    correct: np.ndarray = (predicted(logits) == labels).cpu().numpy()
    return correct


def pixel_units(std: Sequence[float] | Tensor | None, images: Tensor) -> Tensor:
    """The size [channels, 1, ...] of one normalised unit in pixels."""
    if std is None:
        raise UserError("attack: normalised_units needs the data set's std; give it or turn it off")
    std = torch.as_tensor(std, dtype=images.dtype, device=images.device)
    return per_image(std.flatten(), images[0])


@halving
@torch.inference_mode(False)
def craft(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack | Mapping[str, Any],
    seed: int,
    batch_size: int = 500,
    progress: Callable[[int], object] | None = None,
    after: Callable[[str, Tensor], object] | None = None,
    **keywords: Unpack[AttackKeywords],
) -> Tensor:
    """Adversarial images, of the shape, type and device of the images; the images at eps 0.

    Of tokens they are [n, t, 1 + c]: the tokens, and what is added to their embedding.
    attack: an `Attack`, or its settings as in the config with the keywords eps, bounds and so on of
    `Attack.of`. progress: called with the number of images done since the last call. after: see
    `Batch`; called batch by batch.
    batch_size: at most; large images go in smaller batches.
    UserError where the attack's settings are unknown, clash or make no sense, and for images that
    are no pixels within bounds or labels that are no classes of theirs.
    """
    attack = Attack.of(attack, **keywords)
    method, bounds = method_of(attack.method), attack.bounds
    check_count(batch_size, "batch_size")
    tokens = tokens_of(network) is not None
    check_images(images, "images", bounds=None if tokens else bounds, tokens=tokens)
    labels = class_numbers(labels, len(images))
    check_device(network, {"images": images, "labels": labels})
    check_differentiable(network)
    if attack.eps == 0:
        return images.clone()
    eps = attack.eps * pixel_units(attack.std, images) if attack.normalised_units else attack.eps
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    unit = None
    if method.random:
        shape = space(network, images).points.shape
        unit = random_start(shape, eps=1.0, norm=attack.norm, seed=seed)
    adversarial = []
    with checked_once(network, labels):
        for first in pace.each(range(0, len(images), batch_size)):
            part = slice(first, first + batch_size)
            of = space(network, images[part], bounds)
            zero = torch.zeros_like(of.points)
            batch = Batch(
                attack=attack,
                ball=Ball(eps, attack.norm, of.bounds, channels=of.channels),
                start=zero if unit is None else eps * unit[part].to(zero),
                seed=seed,
                after=after,
            )
            moved = method.perturb(of.network, of.points, labels[part], batch)
            adversarial.append(of.images(moved))
            if progress is not None:
                progress(len(moved))
    return torch.cat(adversarial)


def attack_curve(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack | Mapping[str, Any],
    seed: int,
    batch_size: int = 500,
    progress: Callable[[int], object] | None = None,
    after: Callable[[str, Tensor], object] | None = None,
    say: Callable[[str], None] = print,
    **keywords: Unpack[AttackKeywords],
) -> tuple[dict[float, np.ndarray], Tensor]:
    """Correctness bool [n] for every eps of the grid, in rising order, and the images of one eps.

    The attack's `eps` is the one whose adversarial images are returned; it joins its `eps_grid`,
    and its entry is the correctness on these very images. Outputs that are not finite count as
    misclassified, and how many there are is told by `say`. after is told of the attack's own eps
    alone. All else is as for `craft`.
    """
    attack, correct = Attack.of(attack, **keywords), {}
    grid = sorted({*attack.eps_grid, attack.eps})
    for eps in pace.each(grid, [float(eps > 0) for eps in grid]):
        crafted = craft(
            network,
            images,
            labels,
            attack=attack,
            eps=eps,
            until_fooled=eps != attack.eps,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
            after=after if eps == attack.eps else None,
        )
        correct[eps] = _correct(network, crafted, labels, f"eps {eps:g}", say)
        if eps == attack.eps:
            adversarial = crafted
    return correct, adversarial
