"""The self-checks of one attack on one network, which tell whether to believe it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from faultline.attacks.ascent import (
    Ball,
    input_gradient,
    l2_norm,
    logit_gradient,
    logits_and_gradient,
    margin_gradient,
    per_image,
    random_start,
)
from faultline.attacks.checks import FEW, SHARE_LIMIT, accuracy_monotone, overlooks, row
from faultline.attacks.craft import craft, pixel_units
from faultline.attacks.effort import MORE_STEPS, RETRIED, more_queries
from faultline.attacks.methods import Attack, AttackKeywords, Batch, method_of
from faultline.attacks.space import space
from faultline.base import memory
from faultline.data.splits import Bounds
from faultline.networks.evaluation import (
    difference,
    evaluation,
    finite,
    predict,
    predicted,
    scale,
)

MOVES = (0.1, 0.01, 0.001)
"""Shares of eps by which images are moved to see whether the network follows its gradient."""

RETRIED_LIMIT = 0.05
"""Share of the images that the judge is tried on once more which more steps fool, above which a
check warns: of honest networks another start alone finds some."""

FALSE_LIMIT = 0.1
"""Share of a network's change that its gradient does not explain, at the best of `MOVES`, from
which on a check warns: docs/methods.md has that of honest networks."""


def checks(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack | Mapping[str, Any],
    adversarial: Tensor,
    correct: Mapping[float, np.ndarray],
    parts: Mapping[str, np.ndarray] | None = None,
    batch_size: int = 500,
    **keywords: Unpack[AttackKeywords],
) -> list[dict[str, str]]:
    """The self-checks of one attack on one network: rows {check, status, detail}.

    attack, keywords: as for `craft`. adversarial, correct: what `attack_curve` returned for it;
    parts: of an attack that goes in turn, see `Parts`. The meaning of each check is in
    `attacks.checks.CHECK_MEANINGS`. After Croce and Hein's AutoAttack; the limits are ours.
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
        _softmax_outputs(logits),
        _inside_ball(*ends, attack, of.bounds),
        *signs(
            network,
            images,
            labels,
            attack=attack,
            correct=correct[attack.eps],
            parts=parts,
            logits=logits,
            batch_size=batch_size,
        ),
    ]


class Parts:
    """Which images stand after each part of an attack that goes in turn, from what `craft` tells
    `after`."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Tensor]] = []

    def __call__(self, part: str, stands: Tensor) -> None:
        """What `craft` calls after each part of a batch; of parts of one name the last counts."""
        if not self.batches or part == next(iter(self.batches[0])):
            self.batches.append({})
        self.batches[-1][part] = stands

    def of(self, n: int) -> dict[str, np.ndarray]:
        """Part -> bool [n]; batches before the last n images were given up for lack of memory."""
        names = self.batches[0] if self.batches else ()
        return {
            name: torch.cat([batch[name] for batch in self.batches])[-n:].cpu().numpy()
            for name in names
        }


def signs(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    correct: np.ndarray,
    parts: Mapping[str, np.ndarray] | None = None,
    logits: Tensor | None = None,
    batch_size: int = 500,
) -> list[dict[str, str]]:
    """What tells a network whose gradient lies from one that is robust: rows as of `checks`, for
    `attacks.checks.masked`.

    correct: bool [n], under the attack at its own eps; parts: see `checks`. logits: of the images,
    where they are known.
    """
    logits = predict(network, images) if logits is None else logits
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    first, targets = images[:batch_size], labels[:batch_size]
    return [
        _zero_gradients(network, images, labels, batch_size),
        _false_gradients(network, first, targets, attack),
        _saturated_logits(logits, labels),
        _randomised_outputs(predict(network, first), predict(network, first)),
        *_of_judge(network, images, labels, attack, correct, parts or {}),
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


def _false_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, attack: Attack
) -> dict[str, str]:
    """Whether the margin of the labels changes over small moves as its gradient says.

    Moves are along the gradient, at random where that is zero. What the gradient leaves unexplained
    shrinks with the move, by the curvature, unless the gradient is another function's: one cut to
    steps, or a part of which is detached.
    """
    of = space(network, images, attack.bounds)
    eps = attack.eps * pixel_units(attack.std, images) if attack.normalised_units else attack.eps
    ball, left = Ball(eps, attack.norm, of.bounds), dict[float, float]()
    with evaluation(of.network), torch.no_grad():
        logits, gradient = logits_and_gradient(of.network, of.points, labels, margin_gradient)
        rise = margin_gradient(logits, labels)
        flat = (gradient == 0).flatten(1).all(1)
        noise = random_start(gradient.shape, eps=1.0, norm="linf", seed=0).to(gradient)
        way = ball.direction(noise.where(per_image(flat, noise), gradient))
        for share in MOVES:
            points = ball.clip(of.points + share * eps * way)
            moved = ((of.network(points) - logits) * rise).nan_to_num(0.0, 0.0, 0.0).sum(1)
            said = (gradient * (points - of.points)).nan_to_num(0.0, 0.0, 0.0).flatten(1).sum(1)
            most = torch.maximum(moved.abs(), said.abs()).sum()
            left[share] = float((moved - said).abs().sum() / most.clamp_min(1e-30))
    share = min(left, key=left.__getitem__)
    detail = (
        f"Moved by {share:g} eps along its gradient, the network changes otherwise than the "
        f"gradient says by {left[share]:.2%}; told from {FALSE_LIMIT:.0%} on."
    )
    return row("false_gradients", left[share] < FALSE_LIMIT, detail)


def _of_judge(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    correct: np.ndarray,
    parts: Mapping[str, np.ndarray],
) -> list[dict[str, str]]:
    """Whether the judge has found what is there; nothing of attacks that are not made to judge."""
    if not method_of(attack.method).judges or attack.eps == 0:
        return []
    rows = []
    if parts:
        caught = int((parts["apgd_t"] & ~parts["square"]).sum())
        detail = (
            f"Square fooled {caught} of {len(images)} images ({caught / len(images):.2%}) that "
            f"APGD, targeted too, had left standing; told from above {SHARE_LIMIT:.0%}, and {FEW} "
            "images, on."
        )
        rows.append(row("black_box_not_stronger", not overlooks(caught, len(images)), detail))
    tried = min(RETRIED, len(images))
    stands = torch.as_tensor(correct[:tried], device=images.device)
    images, labels, fooled = images[:tried][stands], labels[:tried][stands], []
    steps, queries = MORE_STEPS * attack.steps, more_queries(attack.queries)
    for longer in (
        replace(attack, method="apgd", steps=steps, until_fooled=True),
        replace(attack, method="square", queries=queries),
    ):
        stands = torch.ones_like(labels, dtype=torch.bool)
        if len(images):
            again = craft(network, images, labels, attack=longer, seed=1)
            stands = predicted(predict(network, again)) == labels
        fooled.append(_count(~stands))
        images, labels = images[stands], labels[stands]
    by_gradient, by_search = fooled
    detail = (
        f"Of the first {tried} images, APGD of {steps} steps from another start fooled "
        f"{by_gradient} that had stood ({by_gradient / tried:.2%}), told from above "
        f"{RETRIED_LIMIT:.0%}; Square of {queries} queries {by_search} more "
        f"({by_search / tried:.2%}), told from above {SHARE_LIMIT:.0%}, and {FEW} images, on."
    )
    enough = by_gradient / tried <= RETRIED_LIMIT and not overlooks(by_search, tried)
    return [*rows, row("more_steps", enough, detail)]


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
