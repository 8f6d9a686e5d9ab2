"""Adversarial images by the attacks of the config, and the accuracy that they leave."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faultline.attacks.ascent import (
    Bounds,
    apgd,
    fgsm,
    input_gradient,
    per_image,
    pgd,
    random_start,
)
from faultline.attacks.methods import SETTINGS, method_of
from faultline.attacks.space import space, tokens_of
from faultline.base import memory, plugins
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, one_of
from faultline.base.memory import halving
from faultline.base.seeds import seeded
from faultline.networks.evaluation import (
    NOT_FINITE,
    evaluation,
    finite,
    predict,
    predicted,
    same,
)
from faultline.networks.inputs import (
    check_classes,
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


def _correct(network, images, labels, what: str, say: Callable[[str], None]) -> np.ndarray:
    logits = predict(network, images)
    check_classes(logits, int(labels.max()))
    if broken := int((~finite(logits)).sum()):
        say(f"{what}: {broken} outputs of {len(labels)} {NOT_FINITE}")
    return (predicted(logits) == labels).cpu().numpy()


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


def _apgd(network, images, labels, *, attack, eps, bounds, start, until_fooled=False):
    given = {"norm": attack["norm"], "steps": attack["steps"], "bounds": bounds, "start": start}
    return apgd(network, images, labels, eps=eps, **given, until_fooled=until_fooled)


def _own(function, network, images, labels, *, attack, eps, bounds, start):
    """A user's function in the form of `PERTURB`; its result must be finite images. Where an
    ablation broke the network so that its gradient is not, the pixels concerned stay as they are.

    The network is in eval mode and gives no gradient to its parameters, which the function must
    leave as they are; of all else it gets copies. torch's random numbers are seeded by `start`,
    which follows from the seed.
    """
    perturb, seed = plugins.load(function), start.double().sum().item()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    given = {"attack": copy.deepcopy(dict(attack)), "eps": eps, "bounds": bounds}
    with plugins.told(function), evaluation(network), torch.enable_grad(), seeded("attack", seed):
        made = perturb(network, images.clone(), labels.clone(), start=start.clone(), **given)
        after = network.state_dict()
        for key in dict.fromkeys([*before, *after]):
            if not (key in before and key in after and same(before[key], after[key])):
                raise UserError(
                    f"{function} changes {key} of the network; work on a copy "
                    "(copy.deepcopy(network))"
                )
    expected = f"expected images {list(images.shape)}, as it was given"
    if not isinstance(made, Tensor) or made.shape != images.shape:
        got = list(made.shape) if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise UserError(f"{function} returned {got}; {expected}")
    if not made.isfinite().all():
        if input_gradient(network, images, labels).isfinite().all():
            raise UserError(f"{function} returned values that are not finite; {expected}")
        made = torch.where(made.isfinite(), made, images)
    return made.detach().to(images)


PERTURB: dict[str, Callable[..., Tensor]] = {"fgsm": _fgsm, "pgd": _pgd, "apgd": _apgd}
"""What each of `METHODS` does with one batch: (network, images, labels, *, attack, eps, bounds,
start) -> adversarial images, with eps and start in pixel units."""


def resolve_method(
    attack: Mapping[str, Any], bounds: Bounds
) -> tuple[Callable[..., Tensor], dict[str, Any], Bounds]:
    """What the method does (see `PERTURB`), the attack with its norm, and the bounds that apply;
    UserError on a clash."""
    name = attack.get("method")
    method = method_of(name)
    is_own = plugins.is_own(name)
    perturb = partial(_own, name) if is_own else PERTURB[name]
    for key in () if is_own else attack:
        one_of(key, SETTINGS, "attack: a key")
    attack = {"norm": "linf", **attack}
    if attack["norm"] not in method.norms:
        raise UserError(
            f"attack: norm is {attack['norm']!r}; choose one of {', '.join(method.norms)} "
            f"with method {name}"
        )
    for key in method.needs:
        if attack.get(key) is None:
            raise UserError(f"attack: method {name} needs the key {key}; add it")
        check_count(attack[key], f"attack: {key}")
    if not is_own and attack.get("step_size") is not None:
        check_number(attack["step_size"], "attack: step_size", open=True)
    if attack.get("normalised_units"):
        if attack["norm"] != "linf":
            raise UserError("attack: normalised_units needs norm linf; change one of the two")
        bounds = None
    return perturb, attack, bounds


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
    attack: Mapping[str, Any],
    eps: float,
    bounds: Bounds,
    seed: int,
    batch_size: int = 500,
    std: Sequence[float] | Tensor | None = None,
    progress: Callable[[int], object] | None = None,
    until_fooled: bool = False,
) -> Tensor:
    """Adversarial images, of the shape, type and device of the images; the images at eps 0.

    Of tokens they are [n, t, 1 + c]: the tokens, and what is added to their embedding; eps is in
    units of the root mean square of its weights, and bounds do not apply (see `space`).
    attack: method (of `attacks.methods`, or "file.py:function" of the user's own), norm ("linf",
    the default, or "l2"), steps, step_size (a share of eps, by default 2.5 / steps) and
    normalised_units. With normalised_units, eps is in units of the input divided by its std
    [channels] and bounds do not apply: only to repeat the notebook of Pravin et al. 2024.
    progress: called with the number of images done since the last call.
    batch_size: at most; large images go in smaller batches. until_fooled: APGD leaves an image as
    soon as it is misclassified, for who asks no more; other attacks go on as they are defined.
    UserError where the attack's settings are unknown, clash or make no sense, and for images that
    are no pixels within bounds or labels that are no classes of theirs.
    """
    perturb, attack, bounds = resolve_method(attack, bounds)
    check_number(eps, "attack: eps")
    check_count(batch_size, "batch_size")
    tokens = tokens_of(network) is not None
    check_images(images, "images", bounds=None if tokens else bounds, tokens=tokens)
    labels = class_numbers(labels, len(images))
    check_differentiable(network)
    if eps == 0:
        return images.clone()
    if until_fooled and perturb is _apgd:
        perturb = partial(_apgd, until_fooled=True)
    radius = eps * pixel_units(std, images) if attack.get("normalised_units") else eps
    batch_size = memory.batch_size(batch_size, images.shape[1:])
    starts = [None] * len(images.split(batch_size))
    if method_of(attack["method"]).random:
        shape = space(network, images).points.shape
        unit = random_start(shape, eps=1.0, norm=attack["norm"], seed=seed)
        starts = unit.split(batch_size)
    adversarial = []
    with checked_once(network, labels):
        for batch, targets, start in zip(
            images.split(batch_size), labels.split(batch_size), starts, strict=True
        ):
            of = space(network, batch, bounds)
            found = perturb(
                of.network,
                of.points,
                targets,
                attack=attack,
                eps=radius,
                bounds=of.bounds,
                start=None if start is None else radius * start.to(of.points),
            )
            adversarial.append(of.images(found))
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
    say: Callable[[str], None] = print,
) -> tuple[dict[float, np.ndarray], Tensor]:
    """Correctness bool [n] for every eps of the grid, in rising order, and the images of one eps.

    `eps` is the one whose adversarial images are returned; it joins the grid, and its entry is the
    correctness on these very images. Outputs that are not finite count as misclassified, and how
    many there are is told by `say`. The other settings are those of `craft`.
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
            until_fooled=value != eps,
        )
        correct[value] = _correct(network, crafted, labels, f"eps {value:g}", say)
        if value == eps:
            adversarial = crafted
    return correct, adversarial
