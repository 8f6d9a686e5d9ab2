"""An ablation job: the variants of some layers of one checkpoint, swept; and the images for it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from faultline.ablation.choosing import choose, expected_changes, margins
from faultline.ablation.facts import Facts
from faultline.ablation.sweep import active_images, sweep
from faultline.ablation.variants import Variant
from faultline.attacks.run import crafters
from faultline.base.columns import PLACE, transfer
from faultline.base.files import load_arrays
from faultline.base.sampling import Strata
from faultline.base.seeds import seed_of
from faultline.networks.evaluation import predict
from faultline.networks.layers import layers as layers_of
from faultline.networks.reach import used
from faultline.run.job import free_memory
from faultline.run.loading import adversarial_images, judging_images, opened


def ablate(job, **what) -> Facts:
    """One sweep of the checkpoint that a job names; see `ablations`."""
    return ablations(job)(**what)


def ablations(job) -> Callable[..., Facts]:
    """A function that sweeps layers of the checkpoint that a job names, which is opened once.

    job: as for `opened`, with params.sets (see `Plan.image_sets`), input.adversarial (the stored
    sets, in the order of sets["transferred"]), input.chosen (what `chosen_images` made, if any) and
    resources.mem_mb.
    """
    dataset, network, state, device = opened(job)
    sets = job.params.sets
    sample = load_arrays(*job.input.chosen) if job.input.chosen else None
    clean, labels = judging_images(
        dataset, split=sets["split"], count=sets["images"], index=sample and sample["index"]
    )
    images = {"clean": clean}
    for name, stored in _stored(job, device).items():
        images[name] = stored[sample["index"]] if sample else stored
    known = layers_of(network, norms=True)

    def ablate(
        *,
        layers: list[str] | None,
        make: Callable[[dict[str, nn.Module]], list[Variant]],
        active_at: str | None = None,
        tops: Sequence[int] = (1,),
    ) -> Facts:
        """Sweep the variants of some layers (None: all in use). make: layers by name -> variants.

        active_at: for nodal dropout, where to count the images that a filter is active for; it
        becomes the column changed_activations. tops: what `sweep` counts as correct.
        """
        if layers is None:
            in_use = used(network, clean)
            layers = [name for name in layers_of(network) if name in in_use]
        chosen = {name: known[name] for name in layers}
        attacks = crafters(
            sets["recrafted"], dataset, seed=state["seed"], until_fooled=max(tops) == 1
        )
        facts = sweep(
            network,
            make(chosen),
            images,
            labels,
            ablated=list(chosen),
            attacks=attacks,
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
        if sample:
            strata = Strata(sample["stratum"], sample["sizes"])
            return replace(facts, strata=strata, chance=float(sample["chance"]))
        return facts

    return ablate


def _stored(job, device: torch.device) -> dict[str, torch.Tensor]:
    """The image sets that all ablated networks share."""
    return {
        transfer(attack): adversarial_images(path, device)
        for attack, path in zip(job.params.sets["transferred"], job.input.adversarial, strict=True)
    }


def chosen_images(job) -> dict[str, np.ndarray]:
    """Which images of the split all ablated networks of a checkpoint are judged on, where they are
    chosen by margin: index and stratum [n], sizes [strata], and chance over the whole split.

    job: as for `ablations`, but for input.chosen. The margins are those of the network itself, on
    all images of the split, clean and under every attack that it is judged under.
    """
    dataset, network, state, device = opened(job)
    sets = job.params.sets
    images, labels = judging_images(dataset, split=sets["split"], count=None)
    of = {"clean": images} | _stored(job, device)
    for attack, craft in crafters(sets["recrafted"], dataset, seed=state["seed"]).items():
        if transfer(attack) not in of:  # else the same images
            of[attack] = craft(network, images, labels)
    found = {name: margins(predict(network, part), labels) for name, part in of.items()}
    seed = seed_of("judging images", *(job.wildcards[key] for key in PLACE))
    index, strata = choose(expected_changes(found), sets["images"], seed=seed)
    print(f"{len(index)} of {len(labels)} images: {strata.drawn} of strata of {strata.sizes}")
    return {
        "index": index,
        "stratum": strata.stratum.astype(np.uint8),
        "sizes": strata.sizes,
        "chance": labels.unique(return_counts=True)[1].max().item() / len(labels),
    }
