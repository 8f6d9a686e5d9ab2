"""Gradient ascent on the input of a network: FGSM, PGD, APGD and what they are made of.

A network is any module that maps images [n, ...] to logits [n, classes]. Images are float tensors
in pixel units; `bounds` is their (lowest, highest) value, two numbers or two tensors that broadcast
over one image, or None where they have none.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from faultline.base import pace
from faultline.networks.evaluation import evaluation, predicted

Bounds = tuple[float, float] | tuple[Tensor, Tensor] | None


def input_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the images, of their shape.

    The sum makes each image's gradient independent of the batch. The network is in eval mode
    meanwhile and unchanged afterwards. Zero where no gradient path leads to the images.
    """
    with evaluation(network):
        return _logits_and_gradient(network, images, labels, logit_gradient)[1]


def _logits_and_gradient(network, images, labels, rise) -> tuple[Tensor, Tensor]:
    """Inside of `evaluation`, which takes a walk over all modules: once an attack, not a step."""
    pace.passed(len(images))
    with torch.enable_grad():
        images = images.detach()
        images = (images.clone() if images.is_inference() else images).requires_grad_()
        logits = network(images)
        if not logits.requires_grad:
            return logits, torch.zeros_like(images, requires_grad=False)
        (gradient,) = torch.autograd.grad(logits, images, rise(logits, labels))
    return logits.detach(), gradient


def logit_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the logits: softmax less one-hot.

    The label's entry is minus the sum of the others. Subtracting 1 from its probability, as
    autograd does, rounds to 0 for confident images and hides their gradient from the attack.
    """
    labels = labels[:, None]
    others = logits.detach().softmax(1).scatter(1, labels, 0.0)
    return others.scatter(1, labels, -others.sum(1, keepdim=True))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per image, [n], without the rounding to 0 of confident ones."""
    labels = labels[:, None]
    others = logits.scatter(1, labels, -torch.inf).logsumexp(1)
    return nn.functional.softplus(others - logits.gather(1, labels)[:, 0])


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """[n] -> [n, 1, ...], to be broadcast over images."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def l2_norm(images: Tensor) -> Tensor:
    return torch.linalg.vector_norm(images.flatten(1), dim=1)


def _direction(gradient: Tensor, norm: str) -> Tensor:
    """The step of size one that raises the loss most; zero where the gradient is zero or NaN."""
    if norm == "linf":
        return gradient.sign()
    gradient = gradient.nan_to_num(0.0)
    tiny = torch.finfo(gradient.dtype).tiny
    # The largest entry first: a confident image's gradient is so small that its squares underflow.
    largest = gradient.flatten(1).abs().amax(dim=1)
    gradient = gradient / per_image(largest.clamp_min(tiny), gradient)
    return gradient / per_image(l2_norm(gradient).clamp_min(tiny), gradient)


def _project(delta: Tensor, eps: float | Tensor, norm: str) -> Tensor:
    """The nearest perturbation in the ball of radius eps."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    tiny = torch.finfo(delta.dtype).tiny
    return delta * per_image((eps / l2_norm(delta).clamp_min(tiny)).clamp(max=1), delta)


def _clip(images: Tensor, bounds: Bounds) -> Tensor:
    return images if bounds is None else images.clamp(*bounds)


def random_start(shape: Sequence[int], *, eps: float, norm: str, seed: int) -> Tensor:
    """Perturbations [n, ...] drawn uniformly from the ball of radius eps, on the CPU.

    Make them for all images at once and split them with the images: batching then changes nothing.
    The same seed gives the same directions at every eps. The global random state is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    if norm == "linf":
        return eps * (2 * torch.rand(*shape, generator=generator) - 1)
    direction = _direction(torch.randn(*shape, generator=generator), norm)
    radius = torch.rand(shape[0], generator=generator) ** (1 / direction[0].numel())
    return eps * per_image(radius, direction) * direction


def fgsm(
    network: nn.Module, images: Tensor, labels: Tensor, *, eps: float | Tensor, bounds: Bounds
) -> Tensor:
    """One step of eps along the sign of the gradient (Goodfellow et al. 2015), clipped to bounds.

    eps: in pixel units, a number or a tensor that broadcasts over the images.
    """
    return _clip(images + eps * input_gradient(network, images, labels).sign(), bounds)


def pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | Tensor,
    norm: str,
    steps: int,
    step_size: float | Tensor,
    bounds: Bounds,
    start: Tensor,
) -> Tensor:
    """Projected gradient ascent on the cross-entropy (Madry et al. 2018).

    norm: "linf", steps along the sign of the gradient, or "l2", per image over all its pixels,
    steps along the gradient divided by its norm. eps and step_size are in pixel units; a tensor
    that broadcasts over the images is for linf only. start: perturbations [n, ...] in the ball.
    """
    given = {"eps": eps, "norm": norm, "steps": steps, "step_size": step_size, "bounds": bounds}
    return _ascend(network, images, labels, logit_gradient, start=start, **given)


def _ascend(
    network, images, targets, rise, *, eps, norm, steps, step_size, bounds, start
) -> Tensor:
    """Projected ascent on any loss, told by its gradient (logits, targets) -> [n, classes]."""
    adversarial = _clip(images + start, bounds)
    with evaluation(network):
        for _ in range(steps):
            _, gradient = _logits_and_gradient(network, adversarial, targets, rise)
            delta = adversarial + step_size * _direction(gradient, norm) - images
            adversarial = _clip(images + _project(delta, eps, norm), bounds)
    return adversarial


def kl_pgd(
    network: nn.Module,
    images: Tensor,
    *,
    eps: float,
    norm: str,
    steps: int,
    step_size: float,
    bounds: Bounds,
    start: Tensor,
) -> Tensor:
    """As `pgd`, but ascending KL(f(x) || f(x')), the inner maximisation of TRADES (Zhang et al.
    2019). At x' = x its gradient is 0: the start must lie elsewhere."""
    given = {"eps": eps, "norm": norm, "steps": steps, "step_size": step_size, "bounds": bounds}
    # the gradient of the summed KL with respect to the logits is the difference of the softmaxes
    return _ascend_from_clean(network, images, lambda z: z.softmax(1), start=start, **given)


def _ascend_from_clean(network, images, of, **settings) -> Tensor:
    """Projected ascent on a loss whose gradient with respect to the network's output is the change
    of what `of` makes of it."""
    with evaluation(network), torch.no_grad():
        clean = of(network(images))

    def rise(output: Tensor, clean: Tensor) -> Tensor:
        return of(output.detach()) - clean

    return _ascend(network, images, clean, rise, **settings)


def feature_pgd(
    network: nn.Module,
    images: Tensor,
    *,
    eps: float,
    norm: str,
    steps: int,
    step_size: float,
    bounds: Bounds,
    start: Tensor,
) -> Tensor:
    """As `pgd`, but ascending the squared l2 change of what the network gives, [n, features]. At
    x' = x its gradient is 0: the start must lie elsewhere."""
    given = {"eps": eps, "norm": norm, "steps": steps, "step_size": step_size, "bounds": bounds}
    # half of the gradient of the squared change with respect to the features is the change
    return _ascend_from_clean(network, images, lambda z: z, start=start, **given)


RISING, FIRST, SHORTEST, SHORTER = 0.75, 0.22, 0.06, 0.03
"""Constants of APGD: rho; first and shortest period, and decrement, as shares of the steps."""


def apgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str,
    steps: int,
    bounds: Bounds,
    start: Tensor,
    until_fooled: bool = False,
) -> Tensor:
    """Auto-PGD on the cross-entropy (Croce & Hein 2020): the best point that was visited.

    Best is misclassified rather than not, and then of the highest loss. Steps start at 2 eps with a
    momentum of 0.25 and are halved, image by image, where a period brought too little; periods are
    shares of this call's steps. start: perturbations [n, ...] in the ball. until_fooled: an image
    is done with the first point at which it is misclassified, for who asks whether it can be.
    """
    found, place = torch.empty_like(images), torch.arange(len(images), device=images.device)

    def inside(x):
        return _clip(images + _project(x - images, eps, norm), bounds)

    def judged(x, *, last=False):
        """(loss [n], is it misclassified [n], gradient), without the gradient at the last point."""
        if last:
            logits, gradient = network(x), x
        else:
            logits, gradient = _logits_and_gradient(network, x, labels, logit_gradient)
        return _cross_entropy(logits, labels), predicted(logits) != labels, gradient

    with evaluation(network), torch.no_grad():
        x = previous = inside(images + start)
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
                found[place] = result
                left = ~result_fooled
                if not left.any():
                    return found
                place, images, labels = place[left], images[left], labels[left]
                x, previous, loss, gradient = x[left], previous[left], loss[left], gradient[left]
                best, best_loss, best_gradient = best[left], best_loss[left], best_gradient[left]
                result, result_loss = result[left], result_loss[left]
                result_fooled, step, rising = result_fooled[left], step[left], rising[left]
                kept_step, kept_loss = kept_step[left], kept_loss[left]
            momentum = 0.25 if number > 1 else 0.0
            ahead = inside(x + eps * per_image(step, x) * _direction(gradient, norm))
            moved = inside(x + (1 - momentum) * (ahead - x) + momentum * (x - previous))
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
    found[place] = result
    return found
