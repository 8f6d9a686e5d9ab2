"""What a training minimises: recipes of adversarial training, and their layer-wise regularisation.

recipe      loss J
standard    CE(f(x), y)
at-fgsm     CE(f(x'), y), x' by FGSM (Goodfellow et al. 2015)
at-pgd      the same, x' by PGD from a random start (Madry et al. 2018)
at-fast     the same, x' by one step of 1.25 eps from a random start (Wong et al. 2020)
at-nfgsm    the same, x' by one step of eps from noise of 2 eps, neither projected on the ball nor
            clipped (N-FGSM, de Jorge et al. 2022)
at-apgd     the same, x' by APGD of few steps (Croce & Hein 2020)
at-trades   CE(f(x), y) + beta KL(f(x) || f(x')), x' maximises the KL (Zhang et al. 2019)

Each with "-lr" minimises J + sum over l of gamma_l CM_l(x, x'), CM_l the relative error of probe l,
mean over the batch (Khalooei et al. 2022); gradients flow through both of its ends (ours). x' is
crafted in eval mode. The forwards that are minimised run in train mode. Where a loss needs both
batches, the clean one goes first: BatchNorm normalises each by itself, its statistics follow both,
and under a regulariser both meet the same dropout, which would else be part of CM (ours).
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from faultline.attacks.ascent import Ball
from faultline.attacks.space import space
from faultline.base.errors import UserError
from faultline.base.inputs import one_of
from faultline.data.splits import Bounds
from faultline.networks.probes import probe_errors, probes, watch
from faultline.training.registry import RECIPES, Batch, base_of


class Loss(NamedTuple):
    """total: what is minimised, a scalar. clean, adversarial: the logits [n, classes] of either
    batch, None where the recipe has no use for it. regulariser: the part of the total that is not
    J, None without one."""

    total: Tensor
    clean: Tensor | None
    adversarial: Tensor | None
    regulariser: Tensor | None = None


def craft(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    settings: Mapping[str, Any],
    bounds: Bounds,
    seed: int,
) -> Tensor:
    """The images of a batch that a recipe trains against; settings: one training of the config."""
    adversarial, recipe = settings["adversarial"], RECIPES[base_of(settings["recipe"])]
    ball = Ball(adversarial["eps"], adversarial["norm"], bounds)
    return (
        images
        if recipe.craft is None
        else recipe.craft(Batch(network, images, labels, adversarial, ball, seed))
    )


def loss_of(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    settings: Mapping[str, Any],
    bounds: Bounds,
    seed: int,
    regularised: Mapping[str, float] | None = None,
) -> Loss:
    """The loss of one batch in the network's own mode; seed: of what is drawn to craft it.

    regularised: probe -> gamma, of -lr. One clean and one adversarial forward serve both the loss
    and the regulariser. UserError for a probe that the network does not have.
    """
    recipe = RECIPES[one_of(base_of(settings["recipe"]), RECIPES, "training: recipe")]
    if recipe.craft is None:
        logits = network(images)
        return Loss(cross_entropy(logits, labels), logits, None)
    clean: Tensor | None = None
    regulariser: Tensor | None = None
    gammas = {name: gamma for name, gamma in (regularised or {}).items() if gamma}
    of = space(network, images, bounds)
    attacked = of.images(
        craft(of.network, of.points, labels, settings=settings, bounds=of.bounds, seed=seed)
    )
    if gammas:
        clean, adversarial, errors = _both(
            network, images, attacked, names=gammas, at=settings["regularisation"]["at"], seed=seed
        )
        first, *others = (gamma * errors[name] for name, gamma in gammas.items())
        regulariser = sum(others, first)
    else:
        if recipe.divergence:
            clean = network(images)
        adversarial = network(attacked)
    if recipe.divergence and clean is not None:
        # of logarithms, as probabilities that round to 0 would make the gradient NaN
        divergence = kl_div(
            adversarial.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True
        )
        total = cross_entropy(clean, labels) + settings["adversarial"]["beta"] * divergence
    else:
        total = cross_entropy(adversarial, labels)
    return Loss(
        total if regulariser is None else total + regulariser, clean, adversarial, regulariser
    )


def _both(
    network: nn.Module,
    images: Tensor,
    attacked: Tensor,
    *,
    names: Collection[str],
    at: str,
    seed: int,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(clean logits, adversarial logits, probe -> mean relative error) under one dropout."""
    with watch(network, at=at, names=names) as seen:
        torch.manual_seed(seed)
        clean_logits, clean = network(images), dict(seen)
        torch.manual_seed(seed)
        logits = network(attacked)
    if missing := [name for name in names if not {name} <= clean.keys() & seen.keys()]:
        near = get_close_matches(missing[0], probes(network, images[:1], at=at), n=1, cutoff=0)
        raise UserError(
            f"config key trainings.*.regularisation.layers: the network has no {at} at "
            f"{missing[0]!r}; the nearest is {near[0] if near else 'none'!r}"
        )
    errors = probe_errors(clean, {name: seen[name] for name in names}, len(images))
    return clean_logits, logits, {name: errors[name].mean() for name in names}
