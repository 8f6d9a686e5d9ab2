"""A checkpoint trained on for some epochs, then judged on test images, clean and attacked anew."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faultline.attacks.run import correct_under, judged
from faultline.data.splits import DataSet
from faultline.training.checkpoints import checkpoint, restore
from faultline.training.epochs import make_optimizer, train_epochs


class Further(NamedTuple):
    """history: rows of `train_epochs`; correct, masked: see `Judged`, of the test split;
    checkpoint: of the network as it was judged; moved: see `interpolate`."""

    history: list[dict[str, Any]]
    correct: dict[str, np.ndarray]
    checkpoint: dict[str, Any]
    moved: float
    masked: str


def train_further(
    network: nn.Module,
    dataset: DataSet,
    state: dict[str, Any],
    *,
    settings: dict[str, Any],
    epochs: int,
    attacks: dict[str, dict[str, Any]],
    frozen: dict[str, Tensor] | None = None,
    regularised: Mapping[str, float] | None = None,
    shares: Sequence[float] = (1,),
    chosen_under: dict[str, dict[str, Any]] | None = None,
    chosen_on: int | None = None,
) -> Further:
    """Train the network of a checkpoint on, in place and with its optimiser's state, and judge it
    under the attacks.

    state: the checkpoint, whose seed seeds what follows. settings, frozen, regularised: as for
    `train_epochs`. shares: as for `interpolate`, which goes by the accuracy, mean of clean and
    under the attacks `chosen_under`, on the first `chosen_on` validation images.
    """
    seed, first = state["seed"], state["epoch"]
    optimizer = make_optimizer(network, settings)
    restore(network, optimizer, state)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = train_epochs(
        network,
        optimizer,
        dataset,
        settings=settings,
        seed=seed,
        epochs=range(first, first + epochs),
        frozen=frozen,
        regularised=regularised,
    )
    history = [*training]
    network.eval()

    def accuracy() -> float:
        correct = correct_under(
            chosen_under or {}, network, dataset, split="validation", count=chosen_on, seed=seed
        )
        return float(np.mean([hits.mean() for hits in correct.values()]))

    moved = interpolate(network, before, shares=shares, accuracy=accuracy)
    correct, masked, _ = judged(attacks, network, dataset, seed=seed)
    trained = checkpoint(network, optimizer, epoch=first + epochs, seed=seed)
    return Further(history, correct, trained, moved, masked)


def interpolate(
    network: nn.Module,
    before: Mapping[str, Tensor],
    *,
    shares: Sequence[float],
    accuracy: Callable[[], float],
) -> float:
    """Moves a network to before + share * (after - before), after being what it is, and returns the
    share: the one with the highest accuracy(), of equals the smallest (Zhu et al. 2023, RiFT, who
    choose on the test set). What is counted, as by a BatchNorm, is as after. Of one share alone
    nothing is asked."""
    after = {name: value.clone() for name, value in network.state_dict().items()}

    def move(share: float) -> None:
        network.load_state_dict(mixed(before, after, share))

    best, most = shares[0], -np.inf
    for share in sorted(shares) if len(shares) > 1 else ():
        move(share)
        if (at_share := accuracy()) > most:
            best, most = share, at_share
    move(best)
    return best


def mixed(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """The state of a network at a share of the way from one state to another; what is counted, as
    by a BatchNorm, is as after."""
    return {
        name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
        for name, value in after.items()
    }
