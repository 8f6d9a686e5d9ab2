"""Attacks that are functions of the user's own."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from faultline.attacks.ascent import Ball, input_gradient
from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.seeds import seeded
from faultline.networks.evaluation import evaluation, same


def perturbed(
    function: str,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    settings: Mapping[str, Any],
    ball: Ball,
    start: Tensor,
) -> Tensor:
    """What a user's function makes of a batch, checked: finite images of the same shape.

    Where an ablation broke the network so that its gradient is not finite, the pixels concerned
    stay as they are. The network is in eval mode and gives no gradient to its parameters, which the
    function must leave as they are; of all else it gets copies. torch's random numbers are seeded
    by `start`, which follows from the seed. UserError for what it does wrong.
    """
    perturb, seed = plugins.load(function), start.double().sum().item()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with plugins.told(function), evaluation(network), torch.enable_grad(), seeded("attack", seed):
        adversarial = perturb(
            network,
            images.clone(),
            labels.clone(),
            attack=copy.deepcopy(dict(settings)),
            eps=ball.eps,
            bounds=ball.bounds,
            start=start.clone(),
        )
        after = network.state_dict()
        for key in dict.fromkeys([*before, *after]):
            if not (key in before and key in after and same(before[key], after[key])):
                raise UserError(
                    f"{function} changes {key} of the network; work on a copy "
                    "(copy.deepcopy(network))"
                )
    expected = f"expected images {list(images.shape)}, as it was given"
    if not isinstance(adversarial, Tensor):
        raise UserError(f"{function} returned a {type(adversarial).__name__}; {expected}")
    if adversarial.shape != images.shape:
        raise UserError(f"{function} returned {list(adversarial.shape)}; {expected}")
    if not adversarial.isfinite().all():
        if input_gradient(network, images, labels).isfinite().all():
            raise UserError(f"{function} returned values that are not finite; {expected}")
        adversarial = torch.where(adversarial.isfinite(), adversarial, images)
    return adversarial.detach().to(images)
