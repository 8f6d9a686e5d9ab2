"""What a training minimises: recipes of adversarial training, and their layer-wise regularisation.

recipe      loss J
standard    CE(f(x), y)
at-fgsm     CE(f(x'), y), x' by FGSM (Goodfellow et al. 2015)
at-pgd      the same, x' by PGD from a random start (Madry et al. 2018)
at-fast     the same, x' by one step of 1.25 eps from a random start (Wong et al. 2020)
at-apgd     the same, x' by APGD of few steps (Croce & Hein 2020)
at-trades   CE(f(x), y) + beta KL(f(x) || f(x')), x' maximises the KL (Zhang et al. 2019)

Each with "-lr" minimises J + sum over l of gamma_l CM_l(x, x'), CM_l the relative error of probe l,
mean over the batch (Khalooei et al. 2022); gradients flow through both of its ends (ours). x' is
crafted in eval mode. The forwards that are minimised run in train mode, the clean batch before the
adversarial one, so BatchNorm normalises each by itself and its statistics follow both.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from faultline.attacks import Bounds, apgd, fgsm, kl_pgd, pgd, random_start
from faultline.errors import UserError
from faultline.sustainability import relative_errors, watch

TRADES_START = 0.001
"""Standard deviation of the noise that TRADES starts from, in pixel units."""

FAST_STEP = 1.25
"""The step of at-fast, in eps."""


class Loss(NamedTuple):
    """total: what is minimised, a scalar. logits [n, classes]: those that J's cross-entropy is of.
    regulariser: the part of the total that is not J; None without one."""

    total: Tensor
    logits: Tensor
    regulariser: Tensor | None


def base_of(recipe: str) -> str:
    """The recipe without its regularisation."""
    return recipe.removesuffix("-lr")


def craft(
    network: nn.Module, images: Tensor, labels: Tensor, *, settings: Mapping, bounds: Bounds, seed
) -> Tensor:
    """The adversarial images of a batch; settings: one training of the config."""
    recipe, adversarial = base_of(settings["recipe"]), settings["adversarial"]
    eps, norm, steps = (adversarial[key] for key in ("eps", "norm", "steps"))
    if recipe == "at-fgsm":
        return fgsm(network, images, labels, eps=eps, bounds=bounds)
    common = {"eps": eps, "norm": norm, "bounds": bounds}
    share = adversarial["step_size"] or 2.5 / steps
    if recipe == "at-trades":
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        start = TRADES_START * noise.to(images)
        return kl_pgd(network, images, **common, steps=steps, step_size=share * eps, start=start)
    start = random_start(images.shape, eps=eps, norm=norm, seed=seed).to(images)
    if recipe == "at-apgd":
        return apgd(network, images, labels, **common, steps=steps, start=start)
    if recipe == "at-fast":
        share, steps = adversarial["step_size"] or FAST_STEP, 1
    return pgd(network, images, labels, **common, steps=steps, step_size=share * eps, start=start)


def loss_of(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    settings: Mapping,
    bounds: Bounds,
    seed: int,
    regularised: Mapping[str, float] | None = None,
) -> Loss:
    """The loss of one batch in the network's own mode; seed: of what is drawn to craft it.

    regularised: probe -> gamma, of -lr. One clean and one adversarial forward serve both the loss
    and the regulariser. UserError for a probe that the network does not have.
    """
    recipe = base_of(settings["recipe"])
    if recipe == "standard":
        logits = network(images)
        return Loss(cross_entropy(logits, labels), logits, None)
    gammas = {name: gamma for name, gamma in (regularised or {}).items() if gamma}
    attacked = craft(network, images, labels, settings=settings, bounds=bounds, seed=seed)
    if not gammas and recipe != "at-trades":
        logits = network(attacked)
        return Loss(cross_entropy(logits, labels), logits, None)
    at = settings["regularisation"]["at"] if gammas else "layer"
    with watch(network, at=at, names=gammas) as seen:
        clean_logits = network(images)
        clean = dict(seen)
        logits = network(attacked)
        if missing := [name for name in gammas if name not in seen]:
            raise UserError(
                f"config key regularisation.layers: the network has no {at} at {missing[0]!r}; "
                "name layers that are followed by an activation"
            )
        errors = [gamma * relative_errors(clean[p], seen[p]).mean() for p, gamma in gammas.items()]
    if recipe == "at-trades":
        total = cross_entropy(clean_logits, labels) + settings["adversarial"]["beta"] * kl_div(
            logits.log_softmax(1), clean_logits.softmax(1), reduction="batchmean"
        )
        logits = clean_logits
    else:
        total = cross_entropy(logits, labels)
    regulariser = sum(errors) if errors else None
    return Loss(total if regulariser is None else total + regulariser, logits, regulariser)
