"""What is known of a part without any image: what a criterion must beat.

No torch but where one is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultline.base.seeds import seed_of
from faultline.studies.criteria.entry import Criterion

if TYPE_CHECKING:
    from torch import nn

    from faultline.studies.criteria.data import Data, Score


def magnitude(network: nn.Module, data: Data) -> dict[str, Score]:
    """Sum of the sizes of a filter's weights (Li et al. 2017); of a layer their mean size (ours),
    as their number is a control of its own."""
    from faultline.networks.layers import weights
    from faultline.studies.criteria.data import Score, unit_sums

    scores = {}
    for name, layer in data.modules(network).items():
        sizes = {key: weight.abs() for key, weight in weights(layer).items()}
        count = sum(weight.numel() for weight in sizes.values())
        sums = unit_sums(layer, sizes)
        scores[name] = Score(sum(s.double().sum().item() for s in sizes.values()) / count, sums)
    return scores


def depth(network: nn.Module, data: Data) -> dict[str, Score]:
    """1 for the first layer of the network to 0 for the last, in the order of definition: early
    layers are said to matter more."""
    from faultline.networks.layers import layers
    from faultline.studies.criteria.data import Score

    order = [*layers(network, norms=True)]
    return {name: Score(1 - order.index(name) / max(len(order) - 1, 1)) for name in data.layers}


def weights_held(network: nn.Module, data: Data) -> dict[str, Score]:
    """How many weights a layer has."""
    from faultline.networks.layers import weights
    from faultline.studies.criteria.data import Score

    return {
        name: Score(float(sum(weight.numel() for weight in weights(layer).values())))
        for name, layer in data.modules(network).items()
    }


def at_random(network: nn.Module, data: Data) -> dict[str, Score]:
    """Numbers drawn uniformly from 0 to 1, of a layer and of each filter alike."""
    import torch

    from faultline.networks.layers import filters
    from faultline.studies.criteria.data import Score

    scores = {}
    for name, layer in data.modules(network).items():
        generator = torch.Generator().manual_seed(seed_of("random criterion", data.seed, name))
        whole, *units = torch.rand(1 + filters(layer), generator=generator, dtype=torch.double)
        scores[name] = Score(whole.item(), torch.stack(units))
    return scores


CONTROLS = {
    "magnitude": Criterion(magnitude),
    "depth": Criterion(depth),
    "weights": Criterion(weights_held),
    "random": Criterion(at_random),
}
