"""What the stages that hold a network share: the data set, the network, its checkpoint."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from faultline.attacks import craft
from faultline.data import DataSet
from faultline.facts import Facts
from faultline.files import load_tensors
from faultline.filters import Variant
from faultline.job import free_memory
from faultline.networks import Network, build, called
from faultline.networks import layers as layers_of
from faultline.seeds import seed_of
from faultline.sweep import active_images, sweep
from faultline.training import restore


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


def test_images(dataset: DataSet) -> tuple[torch.Tensor, torch.Tensor]:
    """(images in pixel units, labels) of the test split."""
    images, labels = dataset.splits["test"]
    return dataset.pixels(images), labels


def crafters(attacks: dict[str, dict], dataset: DataSet, *, seed: int) -> dict:
    """attack -> function (network, images, labels) -> adversarial images at its own eps."""
    return {
        name: partial(
            craft,
            attack=attack,
            eps=attack["eps"],
            bounds=dataset.bounds,
            seed=seed_of("attack", name, seed),
            std=dataset.std,
        )
        for name, attack in attacks.items()
    }


def ablate(
    job,
    device: torch.device,
    *,
    layers: list[str] | None,
    make: Callable[[dict[str, nn.Module]], list[Variant]],
    active_at: str | None = None,
    tops: Sequence[int] = (1,),
) -> Facts:
    """Sweep the variants of some layers (None: all in use) of the checkpoint that a job names.

    job: the `snakemake` object of an ablation rule: input.data, input.checkpoint, input.adversarial
    (the stored sets, in the order of params.attacks; empty where the attack is re-crafted on each
    variant), params.images (how many test images, None: all), resources.mem_mb. make: layers by
    name -> variants.
    active_at: for nodal dropout, where to count the images that a filter is active for; it becomes
    the column changed_activations. tops: what `sweep` counts as correct.
    """
    dataset = load_dataset(job.input.data, device)
    network, state = load_network(
        job.input.checkpoint, job.wildcards.network, dataset, device=device
    )
    clean, labels = test_images(dataset)
    images = {"clean": clean}
    for attack, path in zip(job.params.attacks, job.input.adversarial, strict=False):
        images[attack] = load_tensors(path, "adversarial test images", device=device)["images"]
    # the test split is in a stratified order, so its first images are a fair sample of it
    images = {name: chosen[: job.params.images] for name, chosen in images.items()}
    labels = labels[: job.params.images]
    recrafted = {} if job.input.adversarial else job.params.attacks
    known = layers_of(network)
    if layers is None:
        used = called(network, clean[:1])
        layers = [name for name in known if name in used]
    chosen = {name: known[name] for name in layers}
    facts = sweep(
        network,
        make(chosen),
        images,
        labels,
        ablated=list(chosen),
        attacks=crafters(recrafted, dataset, seed=state["seed"]),
        tops=tops,
        memory=free_memory(job, device),
    )
    if active_at:
        active = active_images(
            network,
            layers[0],
            torch.cat([*images.values()]),
            at=active_at,
            memory=free_memory(job, device),
        )
        facts.variants["changed_activations"] = active[facts.variants["filter"]]
    return facts
