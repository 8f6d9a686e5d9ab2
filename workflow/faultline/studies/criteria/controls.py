"""What is known of a part without any image: what a criterion must beat."""

import torch
from torch import nn

from faultline.base.seeds import seed_of
from faultline.networks.layers import filters, weights
from faultline.networks.layers import layers as layers_of
from faultline.studies.criteria.data import Data, Score, unit_sums


def magnitude(network: nn.Module, data: Data) -> dict[str, Score]:
    """Sum of the sizes of a filter's weights (Li et al. 2017); of a layer their mean size (ours),
    as their number is a control of its own."""
    scores = {}
    for name, layer in data.modules(network).items():
        sizes = {key: weight.abs() for key, weight in weights(layer).items()}
        count = sum(weight.numel() for weight in sizes.values())
        sums = unit_sums(layer, sizes)
        scores[name] = Score((sum(s.double().sum() for s in sizes.values()) / count).item(), sums)
    return scores


def depth(network: nn.Module, data: Data) -> dict[str, Score]:
    """1 for the first layer of the network to 0 for the last, in the order of definition: early
    layers are said to matter more."""
    order = [*layers_of(network, norms=True)]
    return {name: Score(1 - order.index(name) / max(len(order) - 1, 1)) for name in data.layers}


def weights_held(network: nn.Module, data: Data) -> dict[str, Score]:
    """How many weights a layer has."""
    return {
        name: Score(float(sum(weight.numel() for weight in weights(layer).values())))
        for name, layer in data.modules(network).items()
    }


def at_random(network: nn.Module, data: Data) -> dict[str, Score]:
    """Numbers drawn uniformly from 0 to 1, of a layer and of each filter alike."""
    scores = {}
    for name, layer in data.modules(network).items():
        generator = torch.Generator().manual_seed(seed_of("random criterion", data.seed, name))
        whole, *units = torch.rand(1 + filters(layer), generator=generator, dtype=torch.double)
        scores[name] = Score(whole.item(), torch.stack(units))
    return scores
