"""What the stages that hold a network share: the data set, the network, its checkpoint."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from faultline.attacks import attack_curve, checks, craft
from faultline.data import DataSet
from faultline.errors import UserError
from faultline.facts import Facts
from faultline.files import load_arrays, load_tensors
from faultline.filters import Variant
from faultline.job import free_memory
from faultline.networks import Network, build, called
from faultline.networks import layers as layers_of
from faultline.seeds import seed_of
from faultline.sustainability import Perturb, noise
from faultline.sweep import active_images, sweep
from faultline.training import restore
from faultline.vulnerability import by_perturber, most_vulnerable


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


def regularised_layers(settings: dict, errors=None) -> dict[str, float] | None:
    """probe -> gamma of a training with -lr; None for one without.

    settings: one training of the config. errors: the file of relative errors of the standard
    training, where its most vulnerable layers are meant; the list is told in the log. UserError
    where it is empty and the training is to stop then.
    """
    chosen = settings["regularisation"]
    if chosen is None:
        return None
    layers, gamma = chosen["layers"], chosen["gamma"]
    if layers == "mvl":
        found = by_perturber(load_arrays(errors))[chosen["perturber"]]
        layers, mu, sigma = most_vulnerable(found, eta=chosen["eta"])
        limit = mu + chosen["eta"] * sigma
        print(f"most vulnerable layers, above {limit:.4f}: {', '.join(layers) or 'none'}")
        if not layers and chosen["on_empty"] == "stop":
            raise UserError(
                f"no layer is most vulnerable at eta {chosen['eta']:g}; lower "
                "trainings.*.regularisation.eta, or set on_empty to base"
            )
        if not layers:
            print("nothing to regularise: training goes on as the recipe without -lr")
    return {layer: gamma[layer] if isinstance(gamma, dict) else gamma for layer in layers}


def test_images(dataset: DataSet) -> tuple[torch.Tensor, torch.Tensor]:
    """(images in pixel units, labels) of the test split."""
    images, labels = dataset.splits["test"]
    return dataset.pixels(images), labels


class Attacked(NamedTuple):
    """accuracy: rows {eps, correct, n, accuracy}; checks: rows, see `attacks.checks`.

    correct: eps -> bool [n]; images: the adversarial images of the attack's own eps.
    """

    accuracy: list[dict]
    checks: list[dict]
    correct: dict[float, np.ndarray]
    images: torch.Tensor


def attacked(
    network: nn.Module, dataset: DataSet, *, attack: dict, name: str, seed: int
) -> Attacked:
    """One attack of the config on the test images, over its eps grid; told in the log."""
    images, labels = test_images(dataset)
    common = {"attack": attack, "eps": attack["eps"], "bounds": dataset.bounds, "std": dataset.std}
    correct, adversarial = attack_curve(
        network,
        images,
        labels,
        eps_grid=attack["eps_grid"],
        seed=seed_of("attack", name, seed),
        **common,
    )
    found = checks(network, images, labels, adversarial=adversarial, correct=correct, **common)
    rows = []
    for eps, hits in correct.items():
        rows.append({"eps": eps, "correct": hits.sum(), "n": len(hits), "accuracy": hits.mean()})
        print(f"{name}, eps {eps:g}: accuracy {hits.mean():.4f} (n = {len(hits)})")
    for check in found:
        print(f"{check['status']}: {check['check']}: {check['detail']}")
    return Attacked(rows, found, correct, adversarial)


def perturbers(
    attacks: dict[str, dict], noises: dict[str, dict], dataset: DataSet, *, seed: int
) -> dict[str, Perturb]:
    """Name -> perturber for `sustainability.analyse`, of attacks at their eps and of noises."""
    made: dict[str, Perturb] = {
        name: lambda network, images, labels, chunk, name=name, attack=attack: craft(
            network,
            images,
            labels,
            attack=attack,
            eps=attack["eps"],
            bounds=dataset.bounds,
            std=dataset.std,
            seed=seed_of("sustainability", name, seed, chunk),
        )
        for name, attack in attacks.items()
    }
    for name, given in noises.items():
        made[name] = noise(
            given["kind"],
            strength=given["strength"],
            bounds=dataset.bounds,
            seed=seed_of("sustainability", name, seed),
        )
    return made


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
