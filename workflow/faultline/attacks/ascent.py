"""Gradient ascent on the input of a network: FGSM, PGD, APGD and what they are made of.

A network is any module that maps images [n, ...] to logits [n, classes]. Images are float tensors
in pixel units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faultline.attacks.space import for_some
from faultline.base import pace
from faultline.data.splits import Bounds
from faultline.networks.evaluation import evaluation, finite, predicted

Rise = Callable[[Tensor, Tensor], Tensor]
"""Of a loss that an attack ascends: (output of the network [n, k], targets) -> gradient of the sum
of the loss over images with respect to the output, of its shape."""


def input_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the images, of their shape.

    The sum makes each image's gradient independent of the batch. The network is in eval mode
    meanwhile and unchanged afterwards. Zero where no gradient path leads to the images.
    """
    with evaluation(network):
        return logits_and_gradient(network, images, labels, logit_gradient)[1]


def logits_and_gradient(
    network: nn.Module, images: Tensor, targets: Tensor, rise: Rise
) -> tuple[Tensor, Tensor]:
    """Logits [n, classes], and the gradient of a loss with respect to the images, of their shape.

    Inside of `evaluation`, which takes a walk over all modules: once an attack, not a step.
    """
    pace.passed(len(images))
    with torch.enable_grad():
        images = images.detach()
        images = (images.clone() if images.is_inference() else images).requires_grad_()
        logits: Tensor = network(images)
        if not logits.requires_grad:
            return logits, torch.zeros_like(images, requires_grad=False)
        (gradient,) = torch.autograd.grad(logits, images, rise(logits.detach(), targets))
    return logits.detach(), gradient


def logit_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """`Rise` of the cross-entropy: softmax less one-hot.

    The label's entry is minus the sum of the others. Subtracting 1 from its probability, as
    autograd does, rounds to 0 for confident images and hides their gradient from the attack.
    """
    labels = labels[:, None]
    others = logits.softmax(1).scatter(1, labels, 0.0)
    return others.scatter(1, labels, -others.sum(1, keepdim=True))


def _cross_entropy(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Per image, [n], without the rounding to 0 of confident ones."""
    labels = labels[:, None]
    others = logits.scatter(1, labels, -torch.inf).logsumexp(1)
    return nn.functional.softplus(others - logits.gather(1, labels)[:, 0])


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit less the largest other, [n]; minus infinity where the largest of all is not
    finite."""
    labels = labels[:, None]
    ahead = logits.gather(1, labels) - logits.scatter(1, labels, -torch.inf).amax(1, keepdim=True)
    return ahead[:, 0].where(finite(logits), -torch.inf)


@dataclass(frozen=True)
class Objective:
    """What APGD ascends: of logits [n, classes], labels and aims [n], the loss [n], and its
    gradient with respect to the logits. Aims are classes that images shall be taken for, where the
    loss asks for them."""

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    rise: Callable[[Tensor, Tensor, Tensor], Tensor]


def _cross_entropy_rise(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    return logit_gradient(logits, labels)


CROSS_ENTROPY = Objective(_cross_entropy, _cross_entropy_rise)


def _targeted_dlr(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Targeted difference of logits ratio, [n] (Croce & Hein 2020): the aim's logit less the
    label's, in units of the largest less the mean of the third and fourth. Of fewer than four
    classes the difference alone (ours)."""
    on = logits.isfinite()
    lowest = logits.where(on, torch.inf).amin(1, keepdim=True)
    logits = logits.where(on, lowest.nan_to_num(0.0, 0.0, 0.0))
    ahead = (logits.gather(1, aims[:, None]) - logits.gather(1, labels[:, None]))[:, 0]
    if logits.shape[1] < 4:
        return ahead
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(1)
    return ahead / (first - (third + fourth) / 2).clamp_min(1e-12)


def _targeted_dlr_rise(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_targeted_dlr(logits, labels, aims).sum(), logits)
    return gradient


TARGETED_DLR = Objective(_targeted_dlr, _targeted_dlr_rise)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """[n] -> [n, 1, ...], to be broadcast over images."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def l2_norm(images: Tensor) -> Tensor:
    """Of each image over all its pixels, [n]."""
    norms: Tensor = torch.linalg.vector_norm(images.flatten(1), dim=1)
    return norms


def _between(values: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    return values.clamp(low, high)  # type: ignore[arg-type]  # both are numbers, or both tensors


@dataclass(frozen=True, eq=False)
class Ball:
    """Where an attack may take an image: within eps of it, and within bounds.

    eps: in pixel units; for linf it may be a tensor that broadcasts over the images. norm: "linf",
    or "l2", per image over all its pixels. channels: the axis of the values that share a position.
    """

    eps: float | Tensor
    norm: str = "linf"
    bounds: Bounds = None
    channels: int = 1

    def direction(self, gradient: Tensor) -> Tensor:
        """The step of size one that raises the loss most; zero where the gradient is zero or NaN.

        For linf the sign of the gradient, for l2 the gradient divided by its norm.
        """
        if self.norm == "linf":
            return gradient.sign()
        gradient = gradient.nan_to_num(0.0)
        tiny = torch.finfo(gradient.dtype).tiny
        # The largest entry first: a confident image's gradient is so small that its squares
        # underflow.
        largest = gradient.flatten(1).abs().amax(dim=1)
        gradient = gradient / per_image(largest.clamp_min(tiny), gradient)
        return gradient / per_image(l2_norm(gradient).clamp_min(tiny), gradient)

    def clip(self, images: Tensor) -> Tensor:
        """Images [n, ...] within the bounds."""
        return images if self.bounds is None else _between(images, *self.bounds)

    def nearest(self, moved: Tensor, images: Tensor) -> Tensor:
        """The point nearest to each moved image [n, ...] that lies within eps of its image, clipped
        to the bounds."""
        delta = moved - images
        if self.norm == "linf":
            return self.clip(images + _between(delta, -self.eps, self.eps))
        tiny = torch.finfo(delta.dtype).tiny
        share = (self.eps / l2_norm(delta).clamp_min(tiny)).clamp(max=1)
        return self.clip(images + delta * per_image(share, delta))


def random_start(shape: Sequence[int], *, eps: float | Tensor, norm: str, seed: int) -> Tensor:
    """Perturbations [n, ...] drawn uniformly from the ball of radius eps, on the CPU.

    Make them for all images at once and split them with the images: batching then changes nothing.
    The same seed gives the same directions at every eps. The global random state is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    if norm == "linf":
        return eps * (2 * torch.rand(*shape, generator=generator) - 1)
    direction = Ball(eps, norm).direction(torch.randn(*shape, generator=generator))
    radius = torch.rand(shape[0], generator=generator) ** (1 / direction[0].numel())
    return eps * per_image(radius, direction) * direction


def fgsm(network: nn.Module, images: Tensor, labels: Tensor, *, ball: Ball) -> Tensor:
    """One step of eps along the sign of the gradient (Goodfellow et al. 2015), clipped to bounds;
    of a ball of linf."""
    return ball.clip(images + ball.eps * input_gradient(network, images, labels).sign())


def pgd(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    ball: Ball,
    steps: int,
    start: Tensor,
    step_size: float | None = None,
    rise: Rise = logit_gradient,
) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018).

    start: perturbations [n, ...] in the ball. step_size: a share of eps, by default 2.5 / steps.
    rise: of the loss, which is the cross-entropy, with labels as the targets, unless another is
    given; where a loss compares with the network's output at the images, the start must lie
    elsewhere, as its gradient is 0 there.
    """
    size = (step_size or 2.5 / steps) * ball.eps
    adversarial = ball.clip(images + start)
    with evaluation(network):
        for _ in range(steps):
            _, gradient = logits_and_gradient(network, adversarial, targets, rise)
            adversarial = ball.nearest(adversarial + size * ball.direction(gradient), images)
    return adversarial


def margin_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """`Rise` of the largest other logit less the label's, which no confidence saturates."""
    labels = labels[:, None]
    other = logits.scatter(1, labels, -torch.inf).argmax(1, keepdim=True)
    return torch.zeros_like(logits).scatter(1, labels, -1.0).scatter(1, other, 1.0)


def kl_gradient(logits: Tensor, clean: Tensor) -> Tensor:
    """`Rise` of KL(clean || softmax of the logits), clean: probabilities [n, classes]: the inner
    maximisation of TRADES (Zhang et al. 2019)."""
    return logits.softmax(1) - clean


def feature_gradient(features: Tensor, clean: Tensor) -> Tensor:
    """`Rise` of half the squared l2 change of what a network gives, [n, features]."""
    return features - clean


RISING, FIRST, SHORTEST, SHORTER = 0.75, 0.22, 0.06, 0.03
"""Constants of APGD: rho; first and shortest period, and decrement, as shares of the steps."""


def apgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    ball: Ball,
    steps: int,
    start: Tensor,
    until_fooled: bool = False,
    objective: Objective = CROSS_ENTROPY,
    aims: Tensor | None = None,
) -> Tensor:
    """Auto-PGD (Croce & Hein 2020), by default on the cross-entropy: the best point visited.

    Best is misclassified rather than not, and then of the highest loss. Steps start at 2 eps with a
    momentum of 0.25 and are halved, image by image, where a period brought too little; periods are
    shares of this call's steps. start: perturbations [n, ...] in the ball. until_fooled: an image
    is done with the first point at which it is misclassified, for who asks whether it can be.
    aims [n]: of the objective.
    """
    adversarial = torch.empty_like(images)
    place = torch.arange(len(images), device=images.device)
    towards = labels if aims is None else aims

    def judged(x: Tensor, *, last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(loss [n], is it misclassified [n], gradient), without the gradient at the last point."""
        if last:
            logits, gradient = network(x), x
        else:
            logits, gradient = logits_and_gradient(
                network, x, labels, lambda logits, labels: objective.rise(logits, labels, towards)
            )
        return objective.loss(logits, labels, towards), predicted(logits) != labels, gradient

    with evaluation(network), torch.no_grad():
        x = previous = ball.nearest(images + start, images)
        loss, fooled, gradient = judged(x)
        best, best_loss, best_gradient = x, loss, gradient
        result, result_loss, result_fooled = x, loss, fooled
        step = torch.full_like(loss, 2.0)  # in eps
        rising = torch.zeros_like(loss)
        kept_step, kept_loss = step, loss
        period, waited = max(int(FIRST * steps), 1), 0
        shortest, shorter = max(int(SHORTEST * steps), 1), max(int(SHORTER * steps), 1)
        for number in range(1, steps + 1):
            if until_fooled and result_fooled.any():
                adversarial[place] = result
                left = ~result_fooled
                if not left.any():
                    return adversarial
                network = for_some(network, left)
                place, images, labels, towards = (
                    place[left],
                    images[left],
                    labels[left],
                    towards[left],
                )
                x, previous, loss, gradient = x[left], previous[left], loss[left], gradient[left]
                best, best_loss, best_gradient = best[left], best_loss[left], best_gradient[left]
                result, result_loss = result[left], result_loss[left]
                result_fooled, step, rising = result_fooled[left], step[left], rising[left]
                kept_step, kept_loss = kept_step[left], kept_loss[left]
            momentum = 0.25 if number > 1 else 0.0
            ahead = x + ball.eps * per_image(step, x) * ball.direction(gradient)
            ahead = ball.nearest(ahead, images)
            moved = x + (1 - momentum) * (ahead - x) + momentum * (x - previous)
            moved = ball.nearest(moved, images)
            x, previous, before = moved, x, loss
            loss, fooled, gradient = judged(x, last=number == steps)
            rising += loss > before
            better = loss > best_loss
            best = torch.where(per_image(better, x), x, best)
            best_gradient = torch.where(per_image(better, x), gradient, best_gradient)
            best_loss = torch.where(better, loss, best_loss)
            better = (fooled & ~result_fooled) | ((fooled == result_fooled) & (loss > result_loss))
            result = torch.where(per_image(better, x), x, result)
            result_loss = torch.where(better, loss, result_loss)
            result_fooled = result_fooled | fooled
            waited += 1
            if waited == period:
                halved = rising < RISING * period
                halved |= (step == kept_step) & (best_loss == kept_loss)
                kept_step, kept_loss = step, best_loss
                step = torch.where(halved, step / 2, step)
                x = torch.where(per_image(halved, x), best, x)
                gradient = torch.where(per_image(halved, x), best_gradient, gradient)
                loss = torch.where(halved, best_loss, loss)
                rising = torch.zeros_like(rising)
                period, waited = max(period - shorter, shortest), 0
    adversarial[place] = result
    return adversarial
