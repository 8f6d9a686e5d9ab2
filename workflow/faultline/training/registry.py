"""The recipes of training by their names in the config: an entry of `RECIPES` each, and how it
crafts the images that it trains against. `training.recipes` holds what all of them minimise.

No torch before one is run: a workflow that is parsed reads the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faultline.attacks.ascent import Ball

TRADES_START = 0.001
"""Standard deviation of the noise that TRADES starts from, in pixel units."""

FAST_STEP = 1.25
"""The step of at-fast, in eps."""

NOISE = 2.0
"""The noise that at-nfgsm steps from, in eps."""


class Batch(NamedTuple):
    """What the images are crafted of: [n, ...] in pixel units and their labels [n], with the
    settings under `adversarial`; seed: of what is drawn."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    adversarial: Mapping[str, Any]
    ball: Ball
    seed: int


@dataclass(frozen=True)
class Recipe:
    """What is known of a recipe.

    craft: a batch -> the images that it trains against; None where it trains on the batch itself.
    takes: the settings of `adversarial` that it makes use of, beside eps and norm. norms: those
    that it can hold to. divergence: whether it minimises the divergence from clean images, and not
    the cross-entropy.
    """

    craft: Callable[[Batch], Tensor] | None = None
    takes: tuple[str, ...] = ()
    norms: tuple[str, ...] = ("linf", "l2")
    divergence: bool = False


def _fgsm(batch: Batch) -> Tensor:
    from faultline.attacks.ascent import fgsm

    return fgsm(batch.network, batch.images, batch.labels, ball=batch.ball)


def _pgd(batch: Batch) -> Tensor:
    from faultline.attacks.ascent import pgd

    network, images, labels, adversarial, ball, _ = batch
    how = {key: adversarial[key] for key in ("steps", "step_size")}
    return pgd(network, images, labels, ball=ball, start=_random_start(batch), **how)


def _fast(batch: Batch) -> Tensor:
    how = {"steps": 1, "step_size": batch.adversarial["step_size"] or FAST_STEP}
    return _pgd(batch._replace(adversarial=how))


def _noisy(batch: Batch) -> Tensor:
    from faultline.attacks.ascent import input_gradient, random_start

    network, images, labels, adversarial, ball, seed = batch
    noise = random_start(images.shape, eps=NOISE * ball.eps, norm=ball.norm, seed=seed)
    noisy = images + noise.to(images)
    size = (adversarial["step_size"] or 1.0) * ball.eps
    return noisy + size * ball.direction(input_gradient(network, noisy, labels))


def _apgd(batch: Batch) -> Tensor:
    from faultline.attacks.ascent import apgd

    network, images, labels, adversarial, ball, _ = batch
    steps, start = adversarial["steps"], _random_start(batch)
    return apgd(network, images, labels, ball=ball, steps=steps, start=start)


def _trades(batch: Batch) -> Tensor:
    import torch

    from faultline.attacks.ascent import kl_gradient, pgd
    from faultline.networks.evaluation import evaluation

    network, images, _, adversarial, ball, seed = batch
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    with evaluation(network), torch.no_grad():
        clean = network(images).softmax(1)
    how = {key: adversarial[key] for key in ("steps", "step_size")}
    start = TRADES_START * noise.to(images)
    return pgd(network, images, clean, ball=ball, rise=kl_gradient, start=start, **how)


def _random_start(batch: Batch) -> Tensor:
    from faultline.attacks.ascent import random_start

    images, ball = batch.images, batch.ball
    return random_start(images.shape, eps=ball.eps, norm=ball.norm, seed=batch.seed).to(images)


RECIPES = {
    "standard": Recipe(),
    "at-fgsm": Recipe(_fgsm, norms=("linf",)),
    "at-pgd": Recipe(_pgd, takes=("steps", "step_size")),
    "at-fast": Recipe(_fast, takes=("step_size",)),
    "at-nfgsm": Recipe(_noisy, takes=("step_size",)),
    "at-trades": Recipe(_trades, takes=("steps", "step_size", "beta"), divergence=True),
    "at-apgd": Recipe(_apgd, takes=("steps",)),
}
"""Without their regularisation."""

REGULARISED = [f"{name}-lr" for name, recipe in RECIPES.items() if recipe.craft]
"""The same with the layers under `regularisation` regularised."""


def adversarial_of(attack: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under `adversarial` of a training against an attack of the config: its norm and
    eps, 10 steps, and TRADES' beta of 6 (the defaults)."""
    of = {"eps": attack["eps"], "norm": attack.get("norm", "linf")}
    return of | {"steps": 10, "step_size": None, "beta": 6}


def base_of(recipe: str) -> str:
    """The recipe without its regularisation."""
    return recipe.removesuffix("-lr")
