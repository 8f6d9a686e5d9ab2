"""What a mend is to hold under where bits of its weights flip, as where memory fails.

Its state holds, beside the weights, the bounds of outputs of a network that clips them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet, images_of
from faultline.networks.clipping import Bounds, bounds_of, clip
from faultline.networks.evaluation import right
from faultline.networks.layers import layers
from faultline.studies.mending.under import severities
from faultline.studies.perturbations.kinds import KINDS
from faultline.studies.stresses.judged import NAME, Stored, correct_under_stresses

BOUNDS = "bounds of "
"""Begins the name of bounds in a state; that of the layer follows."""

LEARNED = "bit_faults_int8"
"""What candidates train under: what float32 becomes by a flip may be huge or NaN, which gives no
gradient to learn from (ours)."""


class Faults(NamedTuple):
    """kinds: of `perturbations.kinds`; rate: at which every bit flips; draws: of each, under every
    one of which an image is to be right."""

    kinds: Sequence[str]
    rate: float
    draws: int


@contextmanager
def faulty(network: nn.Module, kind: str, rate: float, *, seed: int) -> Iterator[None]:
    """Inside the block, bits of all parameters of the layers flip at a rate."""
    rng = np.random.default_rng(seed)
    own = {id(p): p for layer in layers(network).values() for p in layer.parameters()}
    kept = [(parameter, parameter.data) for parameter in own.values()]
    try:
        for parameter, value in kept:
            parameter.data = KINDS[kind].function(value, rate, rng)
        yield
    finally:
        for parameter, value in kept:
            parameter.data = value


def correct_under_faults(
    network: nn.Module, dataset: DataSet, faults: Faults, *, split: str, seed: int
) -> dict[str, np.ndarray]:
    """Image set ("clean", or kind@draw) -> bool [n]: which images of a split are classified
    correctly, as the network is and under each draw. The draws of each split are others."""
    images, labels = images_of(dataset, split)
    correct = {"clean": right(network, images, labels)}
    for kind in faults.kinds:
        for draw in range(faults.draws):
            name = NAME.format(stress=kind, severity=draw)
            with faulty(network, kind, faults.rate, seed=seed_of(name, split, seed)):
                correct[name] = right(network, images, labels)
    return correct


def correct_held(
    network: nn.Module, dataset: DataSet, held: Stored | Faults, *, split: str, seed: int
) -> dict[str, np.ndarray]:
    """The same under what a mend is to hold under: inputs of the split under stresses, or faults,
    which are drawn by the seed."""
    if isinstance(held, Faults):
        return correct_under_faults(network, dataset, held, split=split, seed=seed)
    return correct_under_stresses(network, dataset, held, split=split)


@contextmanager
def learning(network: nn.Module, faults: Faults, seed: int) -> Iterator[None]:
    """Inside the block, which is one step of training: of half of the steps, drawn by the seed,
    under faults, so that weights are learned with and without them (ours)."""
    if np.random.default_rng(seed).random() < 0.5:
        yield
        return
    with faulty(network, LEARNED, faults.rate, seed=seed):
        yield


def in_words(held: Stored | Faults, under: Sequence[str]) -> str:
    """As notes have it; under: the stresses that judge."""
    if isinstance(held, Faults):
        return f"{' and '.join(held.kinds)} (a rate of {held.rate:g}, {held.draws} draws of each)"
    return severities({name: held[name] for name in under})


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of its weights, and of the bounds of its outputs, if it has any."""
    state = {key: value.detach().clone() for key, value in network.state_dict().items()}
    bounds = {f"{BOUNDS}{name}": torch.tensor(of) for name, of in bounds_of(network).items()}
    return state | bounds


def apart(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Bounds]]:
    """(weights, bounds) of a state."""
    weights, bounds = {}, {}
    for key, value in state.items():
        if key.startswith(BOUNDS):
            low, high = value.tolist()
            bounds[key.removeprefix(BOUNDS)] = low, high
        else:
            weights[key] = value
    return weights, bounds


def load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives a network the weights of a state, and its bounds in place of others."""
    weights, bounds = apart(state)
    network.load_state_dict(weights)
    clip(network, bounds)
