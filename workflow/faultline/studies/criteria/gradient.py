"""Criteria that go by the gradient of the cross-entropy with respect to the weights.

No torch but where one is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultline.studies.criteria.entry import Criterion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faultline.studies.criteria.data import Data, Score


def relative_gradient(network: nn.Module, data: Data) -> dict[str, Score]:
    """||g|| / ||w|| of the weights w of a layer and their gradient g on clean images (Lee et al.
    2023, who scale learning rates by it and pick nothing).

    Ours: several weights of a layer are one vector, biases are left out, a filter has the ratio of
    its own weights, and where these are all 0 the ratio is 0.
    """
    from faultline.networks.layers import weights
    from faultline.studies.criteria.data import Score, gradients, unit_sums

    layers = data.modules(network)
    _, by_layer = gradients(network, layers, data.images, data.labels)
    scores = {}
    for name, layer in layers.items():
        own = weights(layer)
        up, down = (
            unit_sums(layer, {key: value**2 for key, value in part.items() if key in own})
            for part in (by_layer[name], own)
        )
        scores[name] = Score(_root(up.sum(), down.sum()).item(), _root(up, down))
    return scores


def _root(up: Tensor, down: Tensor) -> Tensor:
    import torch

    return torch.where(down > 0, (up / torch.where(down > 0, down, 1.0)).sqrt(), 0.0)


def fisher(network: nn.Module, data: Data) -> dict[str, Score]:
    """The mean squared gradient per parameter: the diagonal of the empirical Fisher information.

    The square is taken image by image on clean images under their own labels, then the mean over
    images and over the parameters of a layer or filter, biases included (ours): of an attention the
    bias of its output, too, which belongs to no head.
    """
    import torch

    from faultline.studies.criteria.data import Score, image_gradients, unit_sums

    layers = data.modules(network)
    sums: dict[str, Tensor] = {}
    whole = dict.fromkeys(layers, 0.0)
    for by_layer in image_gradients(network, layers, data.images, data.labels):
        for name, own in by_layer.items():
            squares = {key: value.double() ** 2 for key, value in own.items()}
            sums[name] = sums.get(name, 0.0) + unit_sums(layers[name], squares) / len(data.images)
            whole[name] += sum(value.sum().item() for value in squares.values()) / len(data.images)
    scores = {}
    for name, layer in layers.items():
        ones = {key: torch.ones_like(value) for key, value in layer.named_parameters()}
        parameters = sum(value.numel() for value in ones.values())
        scores[name] = Score(whole[name] / parameters, sums[name] / unit_sums(layer, ones))
    return scores


def taylor_clean(network: nn.Module, data: Data) -> dict[str, Score]:
    """|sum of weight times gradient| per filter on clean images: to first order, how far the loss
    moves when the filter is removed (Molchanov et al. 2019).

    Ours: the size is taken image by image and then the mean over images, so that no score depends
    on how images are dealt to batches (the authors' code squares the sum instead); the filter's
    bias counts, as it is removed with it; a layer has the sum of its filters.
    """
    return _taylor(network, data, data.images)


def taylor_adversarial(network: nn.Module, data: Data) -> dict[str, Score]:
    """As `taylor_clean`, on the attacked images (ours)."""
    return _taylor(network, data, data.adversarial)


def _taylor(network: nn.Module, data: Data, images: Tensor) -> dict[str, Score]:
    from faultline.studies.criteria.data import Score, image_gradients, unit_sums

    layers = data.modules(network)
    sums: dict[str, Tensor] = {}
    for by_layer in image_gradients(network, layers, images, data.labels):
        for name, own in by_layer.items():
            parameters = dict(layers[name].named_parameters())
            moved = {key: parameters[key] * gradient for key, gradient in own.items()}
            size = unit_sums(layers[name], moved).abs() / len(images)
            sums[name] = sums.get(name, 0.0) + size
    return {name: Score(total.sum().item(), total) for name, total in sums.items()}


CRITERIA = {
    "relative_gradient": Criterion(relative_gradient),
    "fisher": Criterion(fisher),
    "taylor_clean": Criterion(taylor_clean),
    "taylor_adversarial": Criterion(taylor_adversarial),
}
