"""The self-checks of one attack on one network, which tell whether to believe it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from faultline.attacks.ascent import Ball, input_gradient, l2_norm, logit_gradient
from faultline.attacks.checks import accuracy_monotone, row
from faultline.attacks.craft import pixel_units
from faultline.attacks.methods import Attack, AttackKeywords, Batch, method_of
from faultline.attacks.space import space
from faultline.base import memory
from faultline.data.splits import Bounds
from faultline.networks.evaluation import difference, finite, predict, predicted, scale

SHARE_LIMIT = 0.01
"""Share of images without a usable gradient above which a check warns."""


def checks(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack | Mapping[str, Any],
    adversarial: Tensor,
    correct: Mapping[float, np.ndarray],
    batch_size: int = 500,
    **keywords: Unpack[AttackKeywords],
) -> list[dict[str, str]]:
    """The self-checks of one attack on one network: rows {check, status, detail}.

    attack, keywords: as for `craft`. adversarial, correct: what `attack_curve` returned for it. The
    meaning of each check is in `attacks.checks.CHECK_MEANINGS`. After Croce and Hein's AutoAttack;
    the limits are ours.
    """
    attack = Attack.of(attack, **keywords)
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    first, targets = images[:batch_size], labels[:batch_size]
    of = space(network, first, attack.bounds)
    few = replace(attack, steps=min(attack.steps, 5), queries=min(attack.queries, 5))
    ball = Ball(0.0, attack.norm, of.bounds, channels=of.channels)
    batch = Batch(attack=few, ball=ball, start=torch.zeros_like(of.points), seed=0)
    unchanged = method_of(attack.method).perturb(of.network, of.points, targets, batch)
    moved = _count((unchanged != of.points).flatten(1).any(1))
    ends = space(network, images).points, space(network, adversarial).points
    logits = predict(network, images)
    is_finite = adversarial.flatten(1).isfinite().all(1)  # else see inside_ball
    after = predict(network, adversarial)[is_finite]
    return [
        row("eps_zero_identity", moved == 0, f"At eps 0, {moved} of {len(first)} images changed."),
        _finite_outputs(logits, after),
        accuracy_monotone(correct),
        _zero_gradients(network, images, labels, batch_size),
        _saturated_logits(logits, labels),
        _softmax_outputs(logits),
        _randomised_outputs(predict(network, first), predict(network, first)),
        _inside_ball(*ends, attack, of.bounds),
    ]


def _count(flags: Tensor) -> int:
    return int(flags.sum())


def _finite_outputs(logits: Tensor, after: Tensor) -> dict[str, str]:
    clean, adversarial = (_count(~finite(values)) for values in (logits, after))
    detail = (
        f"The largest output is NaN or infinite for {clean} of {len(logits)} images, and for "
        f"{adversarial} of their adversarial forms."
    )
    return row("finite_outputs", clean + adversarial == 0, detail)


def _zero_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, batch_size: int
) -> dict[str, str]:
    zero = without = 0
    parts = (torch.split(each, batch_size) for each in (images, labels))
    for batch, targets in zip(*parts, strict=True):
        of = space(network, batch)
        gradient = input_gradient(of.network, of.points, targets).flatten(1)
        zero += _count((gradient == 0).all(1))
        without += _count((gradient.nan_to_num() == 0).all(1))
    share, also = without / len(images), f" or NaN ({without - zero})" * (without > zero)
    detail = (
        f"{without} of {len(images)} images ({share:.2%}) have an input gradient of exactly zero"
        f"{also}."
    )
    return row("zero_gradients", share <= SHARE_LIMIT, detail)


def _saturated_logits(logits: Tensor, labels: Tensor) -> dict[str, str]:
    right = predicted(logits) == labels
    saturated = _count(right & (logit_gradient(logits, labels) == 0).all(1))
    share = saturated / max(_count(right), 1)
    detail = (
        f"{saturated} of {_count(right)} correctly classified images ({share:.2%}) have a "
        f"cross-entropy without any gradient; the largest logit is {float(scale(logits)):.3g}."
    )
    return row("saturated_logits", share <= SHARE_LIMIT, detail)


def _softmax_outputs(logits: Tensor) -> dict[str, str]:
    sums = logits.sum(1)
    probabilities = bool((logits >= 0).all() and ((sums - 1).abs() < 1e-4).all())
    detail = (
        f"The smallest output is {float(logits.min()):.3g}; the outputs of an image sum to "
        f"{float(sums.min()):.3g} at least and {float(sums.max()):.3g} at most."
    )
    return row("softmax_outputs", not probabilities, detail)


def _randomised_outputs(logits: Tensor, again: Tensor) -> dict[str, str]:
    apart, largest = float(difference(logits, again).max()), float(scale(logits))
    detail = (
        f"Two passes over the same {len(logits)} images differ by {apart:.3g} at most, "
        f"where the largest output is {largest:.3g}."
    )
    # Some GPU kernels do not repeat to the last bit; that is not what this check looks for.
    return row("randomised_outputs", apart <= 1e-4 * largest, detail)


def _inside_ball(
    images: Tensor, adversarial: Tensor, attack: Attack, bounds: Bounds
) -> dict[str, str]:
    delta = adversarial - images
    if attack.normalised_units:
        delta = delta / pixel_units(attack.std, images)
    sizes = l2_norm(delta) if attack.norm == "l2" else delta.flatten(1).abs().amax(1)
    largest, low, high = float(sizes.max()), float(adversarial.min()), float(adversarial.max())
    ok = largest <= attack.eps * (1 + 1e-5) + 1e-6
    limits = "no bounds"
    if bounds is not None:
        ok = ok and bool((adversarial >= bounds[0]).all() and (adversarial <= bounds[1]).all())
        ends = torch.as_tensor(bounds[0]).min().item(), torch.as_tensor(bounds[1]).max().item()
        limits = f"bounds {ends[0]:g} to {ends[1]:g}"
    detail = (
        f"The largest {attack.norm} perturbation is {largest:.6g} at eps {attack.eps:g}; values "
        f"go from {low:.6g} to {high:.6g} with {limits}."
    )
    return row("inside_ball", ok, detail)
