"""What the stages that hold a network share: the data set, the network, its checkpoint."""

import torch

from faultline.base.files import load_tensors
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.networks.architectures import Network
from faultline.networks.registry import build
from faultline.training.checkpoints import restore


def load_dataset(path, device: torch.device) -> DataSet:
    """A prepared data set, resident on the device."""
    return DataSet.from_tensors(load_tensors(path, "a prepared data set", device=device))


def build_network(name: str, dataset: DataSet, *, seed: int, device: torch.device) -> Network:
    """A freshly initialised network that fits the data set."""
    shape = tuple(dataset.splits["train"][0].shape[1:])
    network = build(
        name,
        shape=shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        seed=seed_of("initialisation", name, seed),
    )
    return network.to(device)


def load_network(
    path, name: str, dataset: DataSet, *, device: torch.device
) -> tuple[Network, dict]:
    """(network in eval mode, checkpoint) from a checkpoint file."""
    state = load_tensors(path, "a checkpoint", device=device)
    network = build_network(name, dataset, seed=state["seed"], device=device)
    restore(network, None, state)
    return network.eval(), state
