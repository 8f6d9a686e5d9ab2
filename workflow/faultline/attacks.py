"""Attacks on the input of a network, and the checks that tell whether to believe them.

A network is any module that maps images [n, ...] to logits [n, classes]. Images are float tensors
in pixel units; `bounds` is their (lowest, highest) value, or None where they have none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faultline import data, own
from faultline.checks import accuracy_monotone, row
from faultline.errors import UserError
from faultline.memory import halving
from faultline.seeds import seeded

Bounds = tuple[float, float] | None

SHARE_LIMIT = 0.01
"""Share of images without a usable gradient above which a check warns."""


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Eval mode, no gradient for parameters; each module and parameter is restored on leaving."""
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        network.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@halving
def predict(network: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Logits [n, classes] of the network in eval mode; smaller batches for large images."""
    batch_size = data.batch_size(batch_size, images.shape[1:])
    with evaluation(network), torch.inference_mode():
        logits = [network(batch) for batch in images.split(batch_size)]
    return torch.cat(logits)  # outside of inference mode, so that the result is an ordinary tensor


def judge(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attacks: Mapping[str, Callable[..., Tensor]],
) -> dict[str, np.ndarray]:
    """Image set -> bool [n], classified correctly: "clean" and each attack, crafted on the network.

    attacks: name -> function of (network, images, labels).
    """
    sets = {"clean": images}
    sets |= {name: craft(network, images, labels) for name, craft in attacks.items()}
    return {
        name: (predict(network, chosen).argmax(1) == labels).cpu().numpy()
        for name, chosen in sets.items()
    }


def input_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the images, of their shape.

    The sum makes each image's gradient independent of the batch. The network is in eval mode
    meanwhile and unchanged afterwards. Zero where no gradient path leads to the images.
    """
    with evaluation(network):
        return _logits_and_gradient(network, images, labels, _logit_gradient)[1]


def _logits_and_gradient(network, images, labels, logit_gradient) -> tuple[Tensor, Tensor]:
    """Inside of `evaluation`, which takes a walk over all modules: once an attack, not a step."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = network(images)
        if not logits.requires_grad:
            return logits, torch.zeros_like(images, requires_grad=False)
        (gradient,) = torch.autograd.grad(logits, images, logit_gradient(logits, labels))
    return logits.detach(), gradient


def _logit_gradient(logits: Tensor, labels: Tensor) -> Tensor:
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


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """[n] -> [n, 1, ...], to be broadcast over images."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _l2(images: Tensor) -> Tensor:
    return torch.linalg.vector_norm(images.flatten(1), dim=1)


def _direction(gradient: Tensor, norm: str) -> Tensor:
    """The step of size one that raises the loss most; zero where the gradient is zero."""
    if norm == "linf":
        return gradient.sign()
    tiny = torch.finfo(gradient.dtype).tiny
    # The largest entry first: a confident image's gradient is so small that its squares underflow.
    largest = gradient.flatten(1).abs().amax(dim=1)
    gradient = gradient / _per_image(largest.clamp_min(tiny), gradient)
    return gradient / _per_image(_l2(gradient).clamp_min(tiny), gradient)


def _project(delta: Tensor, eps: float | Tensor, norm: str) -> Tensor:
    """The nearest perturbation in the ball of radius eps."""
    if norm == "linf":
        return delta.clamp(-eps, eps)
    tiny = torch.finfo(delta.dtype).tiny
    return delta * _per_image((eps / _l2(delta).clamp_min(tiny)).clamp(max=1), delta)


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
    return eps * _per_image(radius, direction) * direction


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
    return _ascend(network, images, labels, _logit_gradient, start=start, **given)


def _ascend(
    network, images, targets, logit_gradient, *, eps, norm, steps, step_size, bounds, start
) -> Tensor:
    """Projected ascent on any loss, told by its gradient (logits, targets) -> [n, classes]."""
    adversarial = _clip(images + start, bounds)
    with evaluation(network):
        for _ in range(steps):
            _, gradient = _logits_and_gradient(network, adversarial, targets, logit_gradient)
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
    with evaluation(network), torch.no_grad():
        target = network(images).softmax(1)
    given = {"eps": eps, "norm": norm, "steps": steps, "step_size": step_size, "bounds": bounds}
    return _ascend(network, images, target, _divergence_gradient, start=start, **given)


def _divergence_gradient(logits: Tensor, target: Tensor) -> Tensor:
    """Gradient of the summed KL(target || softmax of the logits) with respect to the logits."""
    return logits.detach().softmax(1) - target


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
) -> Tensor:
    """Auto-PGD on the cross-entropy (Croce & Hein 2020): the best point that was visited.

    Best is misclassified rather than not, and then of the highest loss. Steps start at 2 eps with a
    momentum of 0.25 and are halved, image by image, where a period brought too little; periods are
    shares of this call's steps. start: perturbations [n, ...] in the ball.
    """

    def inside(x):
        return _clip(images + _project(x - images, eps, norm), bounds)

    def judged(x, *, last=False):
        """(loss [n], is it misclassified [n], gradient), without the gradient at the last point."""
        if last:
            logits, gradient = network(x), x
        else:
            logits, gradient = _logits_and_gradient(network, x, labels, _logit_gradient)
        return _cross_entropy(logits, labels), logits.argmax(1) != labels, gradient

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
            momentum = 0.25 if number > 1 else 0.0
            ahead = inside(x + eps * _per_image(step, x) * _direction(gradient, norm))
            moved = inside(x + (1 - momentum) * (ahead - x) + momentum * (x - previous))
            x, previous, before = moved, x, loss
            loss, fooled, gradient = judged(x, last=number == steps)
            rising += loss > before
            better = loss > best_loss
            best = torch.where(_per_image(better, x), x, best)
            best_gradient = torch.where(_per_image(better, x), gradient, best_gradient)
            best_loss = torch.where(better, loss, best_loss)
            better = (fooled & ~result_fooled) | ((fooled == result_fooled) & (loss > result_loss))
            result = torch.where(_per_image(better, x), x, result)
            result_loss = torch.where(better, loss, result_loss)
            result_fooled = result_fooled | fooled
            waited += 1
            if waited == period:
                halved = rising < RISING * period
                halved |= (step == kept_step) & (best_loss == kept_loss)
                kept_step, kept_loss = step, best_loss
                step = torch.where(halved, step / 2, step)
                x = torch.where(_per_image(halved, x), best, x)
                gradient = torch.where(_per_image(halved, x), best_gradient, gradient)
                loss = torch.where(halved, best_loss, loss)
                rising = torch.zeros_like(rising)
                period, waited = max(period - shorter, shortest), 0
    return result


def _fgsm(network, images, labels, *, attack, eps, bounds, start):
    return fgsm(network, images, labels, eps=eps, bounds=bounds)


def _pgd(network, images, labels, *, attack, eps, bounds, start):
    share = attack.get("step_size") or 2.5 / attack["steps"]
    return pgd(
        network,
        images,
        labels,
        eps=eps,
        norm=attack["norm"],
        steps=attack["steps"],
        step_size=share * eps,
        bounds=bounds,
        start=start,
    )


def _apgd(network, images, labels, *, attack, eps, bounds, start):
    given = {"norm": attack["norm"], "steps": attack["steps"], "bounds": bounds, "start": start}
    return apgd(network, images, labels, eps=eps, **given)


def _own(function, network, images, labels, *, attack, eps, bounds, start):
    """A user's function in the form of `Method.perturb`; its result must be finite images.

    The network is in eval mode and gives no gradient to its parameters; torch's random numbers are
    seeded by `start`, which follows from the seed.
    """
    perturb, seed = own.load(function), start.double().sum().item()
    with own.told(function), evaluation(network), torch.enable_grad(), seeded("attack", seed):
        made = perturb(
            network, images.clone(), labels, attack=attack, eps=eps, bounds=bounds, start=start
        )
    expected = f"expected images {list(images.shape)}, as it was given"
    if not isinstance(made, Tensor) or made.shape != images.shape:
        got = list(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise UserError(f"{function} returned {got}; {expected}")
    if not made.isfinite().all():
        raise UserError(f"{function} returned values that are not finite; {expected}")
    return made.detach().to(images)


@dataclass(frozen=True)
class Method:
    """One method of attack.

    perturb: (network, images, labels, *, attack, eps, bounds, start) -> adversarial images of one
    batch, with eps and start in pixel units. needs: the settings that `attack` must hold.
    """

    perturb: Callable[..., Tensor]
    norms: tuple[str, ...]
    needs: tuple[str, ...] = ()
    random: bool = True


METHODS = {
    "fgsm": Method(_fgsm, norms=("linf",), random=False),
    "pgd": Method(_pgd, norms=("linf", "l2"), needs=("steps",)),
    "apgd": Method(_apgd, norms=("linf", "l2"), needs=("steps",)),
}


def _resolve(attack: Mapping[str, Any], bounds: Bounds) -> tuple[Method, dict[str, Any], Bounds]:
    """The method, the attack with its norm, and the bounds that apply; UserError on a clash."""
    name = attack.get("method")
    if own.is_own(name):
        method = Method(partial(_own, name), norms=("linf", "l2"))
    elif name in METHODS:
        method = METHODS[name]
    else:
        raise UserError(f"attack: method is {name!r}; choose one of {', '.join(METHODS)}")
    attack = {"norm": "linf", **attack}
    if attack["norm"] not in method.norms:
        raise UserError(
            f"attack: norm is {attack['norm']!r}; choose one of {', '.join(method.norms)} "
            f"with method {name}"
        )
    for key in method.needs:
        if attack.get(key) is None:
            raise UserError(f"attack: method {name} needs the key {key}; add it")
    if attack.get("normalised_units"):
        if attack["norm"] != "linf":
            raise UserError("attack: normalised_units needs norm linf; change one of the two")
        bounds = None
    return method, attack, bounds


def _pixel_units(std: Sequence[float] | Tensor | None, images: Tensor) -> Tensor:
    """The size [channels, 1, ...] of one normalised unit in pixels."""
    if std is None:
        raise UserError("attack: normalised_units needs the data set's std; give it or turn it off")
    std = torch.as_tensor(std, dtype=images.dtype, device=images.device)
    return _per_image(std.flatten(), images[0])


@halving
def craft(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Mapping[str, Any],
    eps: float,
    bounds: Bounds,
    seed: int,
    batch_size: int = 500,
    std: Sequence[float] | Tensor | None = None,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Adversarial images, of the shape, type and device of the images; the images at eps 0.

    attack: method (of `METHODS`, or "file.py:function" of the user's own), norm ("linf", the
    default, or "l2"), steps, step_size (a share of eps, by default 2.5 / steps) and
    normalised_units. With normalised_units, eps is in units of the input divided by its std
    [channels] and bounds do not apply: only to repeat the notebook of Pravin et al. 2024.
    progress: called with the number of images done since the last call.
    batch_size: at most; large images go in smaller batches.
    UserError where the attack's settings are unknown or clash.
    """
    method, attack, bounds = _resolve(attack, bounds)
    if eps == 0:
        return images.clone()
    radius = eps * _pixel_units(std, images) if attack.get("normalised_units") else eps
    batch_size = data.batch_size(batch_size, images.shape[1:])
    starts = [None] * len(images.split(batch_size))
    if method.random:
        unit = random_start(images.shape, eps=1.0, norm=attack["norm"], seed=seed)
        starts = unit.split(batch_size)
    adversarial = []
    for batch, targets, start in zip(
        images.split(batch_size), labels.split(batch_size), starts, strict=True
    ):
        adversarial.append(
            method.perturb(
                network,
                batch,
                targets,
                attack=attack,
                eps=radius,
                bounds=bounds,
                start=None if start is None else radius * start.to(images),
            )
        )
        if progress is not None:
            progress(len(batch))
    return torch.cat(adversarial)


def attack_curve(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Mapping[str, Any],
    eps_grid: Iterable[float],
    eps: float,
    bounds: Bounds,
    seed: int,
    batch_size: int = 500,
    std: Sequence[float] | Tensor | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[dict[float, np.ndarray], Tensor]:
    """Correctness bool [n] for every eps of the grid, in rising order, and the images of one eps.

    `eps` is the one whose adversarial images are returned; it joins the grid, and its entry is the
    correctness on these very images. The other settings are those of `craft`.
    """
    correct = {}
    for value in sorted({*eps_grid, eps}):
        crafted = craft(
            network,
            images,
            labels,
            attack=attack,
            eps=value,
            bounds=bounds,
            seed=seed,
            batch_size=batch_size,
            std=std,
            progress=progress,
        )
        correct[value] = (predict(network, crafted).argmax(1) == labels).cpu().numpy()
        if value == eps:
            adversarial = crafted
    return correct, adversarial


def checks(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Mapping[str, Any],
    eps: float,
    bounds: Bounds,
    adversarial: Tensor,
    correct: Mapping[float, np.ndarray],
    batch_size: int = 500,
    std: Sequence[float] | Tensor | None = None,
) -> list[dict[str, str]]:
    """The self-checks of one attack on one network: rows {check, status, detail}.

    adversarial, correct: what `attack_curve` returned for this attack. The meaning of each check is
    in `faultline.checks.CHECK_MEANINGS`. After Croce and Hein's AutoAttack; the limits are ours.
    """
    method, attack, bounds = _resolve(attack, bounds)
    batch_size = data.batch_size(batch_size, images.shape[1:])
    first, targets = images[:batch_size], labels[:batch_size]
    unchanged = method.perturb(
        network,
        first,
        targets,
        attack=attack,
        eps=0.0,
        bounds=bounds,
        start=torch.zeros_like(first),
    )
    moved = _count((unchanged != first).flatten(1).any(1))
    logits = predict(network, images)
    return [
        row("eps_zero_identity", moved == 0, f"At eps 0, {moved} of {len(first)} images changed."),
        accuracy_monotone(correct),
        _zero_gradients(network, images, labels, batch_size),
        _saturated_logits(logits, labels),
        _softmax_outputs(logits),
        _randomised_outputs(predict(network, first), predict(network, first)),
        _inside_ball(images, adversarial, attack, eps, bounds, std),
    ]


def _count(flags: Tensor) -> int:
    return int(flags.sum())


def _zero_gradients(network, images, labels, batch_size) -> dict[str, str]:
    zero = sum(
        _count((input_gradient(network, batch, targets) == 0).flatten(1).all(1))
        for batch, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True)
    )
    share = zero / len(images)
    detail = f"{zero} of {len(images)} images ({share:.2%}) have an input gradient of exactly zero."
    return row("zero_gradients", share <= SHARE_LIMIT, detail)


def _saturated_logits(logits, labels) -> dict[str, str]:
    right = logits.argmax(1) == labels
    saturated = _count(right & (_logit_gradient(logits, labels) == 0).all(1))
    share = saturated / max(_count(right), 1)
    detail = (
        f"{saturated} of {_count(right)} correctly classified images ({share:.2%}) have a "
        f"cross-entropy without any gradient; the largest logit is {float(logits.abs().max()):.3g}."
    )
    return row("saturated_logits", share <= SHARE_LIMIT, detail)


def _softmax_outputs(logits) -> dict[str, str]:
    sums = logits.sum(1)
    probabilities = bool((logits >= 0).all() and ((sums - 1).abs() < 1e-4).all())
    detail = (
        f"The smallest output is {float(logits.min()):.3g}; the outputs of an image sum to "
        f"{float(sums.min()):.3g} at least and {float(sums.max()):.3g} at most."
    )
    return row("softmax_outputs", not probabilities, detail)


def _randomised_outputs(logits, again) -> dict[str, str]:
    difference, scale = float((logits - again).abs().max()), float(logits.abs().max())
    detail = (
        f"Two passes over the same {len(logits)} images differ by {difference:.3g} at most, "
        f"where the largest output is {scale:.3g}."
    )
    # Some GPU kernels do not repeat to the last bit; that is not what this check looks for.
    return row("randomised_outputs", difference <= 1e-4 * scale, detail)


def _inside_ball(images, adversarial, attack, eps, bounds, std) -> dict[str, str]:
    delta = adversarial - images
    if attack.get("normalised_units"):
        delta = delta / _pixel_units(std, images)
    sizes = _l2(delta) if attack["norm"] == "l2" else delta.flatten(1).abs().amax(1)
    largest, low, high = float(sizes.max()), float(adversarial.min()), float(adversarial.max())
    ok = largest <= eps * (1 + 1e-5) + 1e-6
    limits = "no bounds"
    if bounds is not None:
        ok = ok and low >= bounds[0] and high <= bounds[1]
        limits = f"bounds {bounds[0]:g} to {bounds[1]:g}"
    detail = (
        f"The largest {attack['norm']} perturbation is {largest:.6g} at eps {eps:g}; values go "
        f"from {low:.6g} to {high:.6g} with {limits}."
    )
    return row("inside_ball", ok, detail)
