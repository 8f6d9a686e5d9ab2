"""The variants of some layers of one checkpoint, swept; and the images that they are judged on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from faultline.ablation.choosing import choose, expected_changes, margins
from faultline.ablation.facts import Facts
from faultline.ablation.sweep import active_images, sweep
from faultline.ablation.variants import Variant
from faultline.attacks.run import crafters
from faultline.base.columns import transfer
from faultline.base.sampling import Strata
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.networks.evaluation import chance, predict
from faultline.networks.layers import every_layer
from faultline.networks.layers import layers as layers_of
from faultline.networks.reach import used


@dataclass(frozen=True)
class Base:
    """A network whose layers are ablated, and what each ablated network is judged on.

    images: name of an image set -> [n, ...] in pixel units, one of them clean; labels [n];
    recrafted: settings of the attacks that are crafted anew on each ablated network, seeded by
    seed; sample: what `chosen_images` made, where images are chosen by margin; memory: tells how
    many bytes may still be taken.
    """

    network: nn.Module
    dataset: DataSet
    images: dict[str, torch.Tensor]
    labels: torch.Tensor
    recrafted: dict[str, dict[str, Any]]
    seed: int
    memory: Callable[[], float]
    sample: dict[str, np.ndarray] | None = None

    def of(self, chosen: np.ndarray) -> "Base":
        """The same on some of the images, bool [n], as if these were all."""
        where = torch.as_tensor(chosen, device=self.labels.device)
        images = {name: images[where] for name, images in self.images.items()}
        return replace(self, images=images, labels=self.labels[where], sample=None)

    def sweep(
        self,
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
        network = self.network
        if layers is None:
            in_use = used(network, self.images["clean"])
            layers = [name for name in layers_of(network) if name in in_use]
        every = every_layer(network)
        chosen = {name: every[name] for name in layers}
        facts: Facts = sweep(
            network,
            make(chosen),
            self.images,
            self.labels,
            ablated=list(chosen),
            attacks=crafters(
                self.recrafted, self.dataset, seed=self.seed, until_fooled=max(tops) == 1
            ),
            tops=tops,
            memory=self.memory(),
        )
        if active_at:
            active = active_images(
                network,
                layers[0],
                torch.cat([*self.images.values()]),
                at=active_at,
                memory=self.memory(),
            )
            facts.variants["changed_activations"] = active[facts.variants["filter"]]
        if self.sample:
            strata = Strata(self.sample["stratum"], self.sample["sizes"])
            return replace(facts, strata=strata, chance=float(self.sample["chance"]))
        return facts


def chosen_images(
    base: Base, count: int, *, place: Mapping[str, str | int]
) -> dict[str, np.ndarray]:
    """Which images of the split all ablated networks of a checkpoint are judged on, where they are
    chosen by margin: index and stratum [n], sizes [strata], and chance over the whole split.

    base: with the whole split; place: what names the checkpoint, which the choice is seeded by. The
    margins are those of the network itself, on all images of the split, clean and under every
    attack that it is judged under.
    """
    images, labels, of = base.images["clean"], base.labels, dict(base.images)
    for attack, craft in crafters(base.recrafted, base.dataset, seed=base.seed).items():
        if transfer(attack) not in of:  # else the same images
            of[attack] = craft(base.network, images, labels)
    margin = {name: margins(predict(base.network, part), labels) for name, part in of.items()}
    seed = seed_of("judging images", *place.values())
    index, strata = choose(expected_changes(margin), count, seed=seed)
    print(f"{len(index)} of {len(labels)} images: {strata.drawn} of strata of {strata.sizes}")
    return {
        "index": index,
        "stratum": strata.stratum.astype(np.uint8),
        "sizes": strata.sizes,
        "chance": np.array(chance(labels)),
    }
