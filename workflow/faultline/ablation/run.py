"""The sweep of an ablation rule: its checkpoint, its images and its variants make facts."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from faultline.ablation.facts import Facts
from faultline.ablation.sweep import active_images, sweep
from faultline.ablation.variants import Variant
from faultline.attacks.run import crafters
from faultline.base.files import load_tensors
from faultline.data.splits import test_images
from faultline.networks.layers import called
from faultline.networks.layers import layers as layers_of
from faultline.run.job import free_memory
from faultline.run.loading import load_dataset, load_network


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
