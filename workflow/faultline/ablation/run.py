"""An ablation job: the variants of some layers of one checkpoint, swept."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from faultline.ablation.facts import Facts
from faultline.ablation.sweep import active_images, sweep
from faultline.ablation.variants import Variant
from faultline.attacks.run import crafters
from faultline.base.columns import transfer
from faultline.base.files import load_tensors
from faultline.base.memory import keep_freed
from faultline.networks.layers import called
from faultline.networks.layers import layers as layers_of
from faultline.run.job import free_memory
from faultline.run.loading import judging_images, opened


def ablate(
    job,
    *,
    layers: list[str] | None,
    make: Callable[[dict[str, nn.Module]], list[Variant]],
    active_at: str | None = None,
    tops: Sequence[int] = (1,),
) -> Facts:
    """Sweep the variants of some layers (None: all in use) of the checkpoint that a job names.

    job: as for `opened`, with params.sets (see `Plan.image_sets`), input.adversarial (the stored
    sets, in the order of sets["transferred"]) and resources.mem_mb. make: layers by name ->
    variants.
    active_at: for nodal dropout, where to count the images that a filter is active for; it becomes
    the column changed_activations. tops: what `sweep` counts as correct.
    """
    keep_freed()
    dataset, network, state, device = opened(job)
    sets = job.params.sets
    clean, labels = judging_images(dataset, split=sets["split"], count=sets["images"])
    images = {"clean": clean}
    for attack, path in zip(sets["transferred"], job.input.adversarial, strict=True):
        stored = load_tensors(path, "adversarial images", device=device)
        images[transfer(attack)] = stored["images"]
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
        attacks=crafters(sets["recrafted"], dataset, seed=state["seed"]),
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
