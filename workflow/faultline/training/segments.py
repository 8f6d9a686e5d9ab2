"""One segment of the chain of checkpoints that a training is."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from faultline.data.splits import DataSet
from faultline.training.checkpoints import checkpoint, restore
from faultline.training.epochs import make_optimizer, train_epochs
from faultline.training.unfinished import Unfinished


def train_segment(
    network: nn.Module,
    dataset: DataSet,
    *,
    settings: dict[str, Any],
    seed: int,
    last: int,
    previous: dict[str, Any] | None,
    regularised: Mapping[str, float] | None,
    own: dict[str, Any] | None,
    unfinished: Unfinished,
) -> dict[str, Any]:
    """Train a network up to epoch `last`, in place, and return its checkpoint, with its history.

    previous: the checkpoint before, whose state the network takes over; None starts with what the
    network is. regularised: as for `train_epochs`. own: what else the network depends on, a
    function of the user's; it goes into the checkpoint. unfinished: where a training that is
    interrupted goes on after its last whole epoch.
    """
    optimizer = make_optimizer(network, settings)
    state = previous or {"epoch": 0, "history": []}
    if resumed := unfinished.load(device=dataset.splits["train"][1].device):
        state = resumed
        print(f"resuming after epoch {state['epoch']}")
    if "network" in state:
        restore(network, optimizer, state)
    history = state["history"]
    facts = {"epoch": state["epoch"], "seed": seed, "history": history}
    if own:  # whoever reads the checkpoint depends on the code of its network as well
        facts["own"] = own
    training = train_epochs(
        network,
        optimizer,
        dataset,
        settings=settings,
        seed=seed,
        epochs=range(state["epoch"], last),
        regularised=regularised,
    )
    for row in training:
        history.append(row)
        facts["epoch"] = row["epoch"]
        if row["epoch"] < last:
            unfinished.save(checkpoint(network, optimizer, **facts))
    return checkpoint(network, optimizer, **facts)
