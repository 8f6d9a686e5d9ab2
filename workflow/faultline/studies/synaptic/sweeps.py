"""The sweeps of one checkpoint that scores come from: synaptic filters and nodal dropout."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from torch import nn

from faultline.ablation.facts import Facts
from faultline.ablation.run import Base
from faultline.ablation.synaptic import RANDOM_SHARES
from faultline.ablation.variants import (
    Variant,
    nodal_variants,
    random_variants,
    synaptic_variants,
)
from faultline.base import pace
from faultline.base.seeds import seed_of
from faultline.studies.synaptic import ALL_LAYERS

Make = Callable[[dict[str, nn.Module]], list[Variant]]
"""Layers by name -> variants of them."""

PART = 50
"""Images that have random draws of their own, at least."""

PARTS = 10
"""At most, as each costs some time by itself."""


def filtered(
    base: Base,
    layer: str,
    *,
    place: Mapping[str, str | int],
    kinds: Sequence[str],
    count: int,
    random_draws: int,
    limits: tuple[float, float] | None = None,
) -> Facts:
    """Synaptic filters of a layer over its own range of `count` thresholds, or of ALL_LAYERS at
    once over one range (see `synaptic_variants`); and as many weights removed at random.

    Draws differ more than images do, and cost as much by the image. So the images are dealt at
    random into parts, and each part has draws of its own: as many images are judged, under several
    times as many draws (ours).

    place: what names the checkpoint, which the random draws are seeded by, beside the layer.
    """
    together = layer == ALL_LAYERS
    layers = None if together else [layer]
    seed, n = seed_of(*place.values(), layer), len(base.labels)
    parts = min(n // PART, PARTS) if random_draws else 1

    def filters(layers: dict[str, nn.Module]) -> list[Variant]:
        return synaptic_variants(layers, kinds=kinds, count=count, limits=limits, together=together)

    def drawn(layers: dict[str, nn.Module], *, seed: int) -> list[Variant]:
        return random_variants(layers, draws=random_draws, seed=seed, together=together)

    if parts < 2:
        return base.sweep(layers=layers, make=lambda of: [*filters(of), *drawn(of, seed=seed)])
    part = np.random.default_rng(seed).permutation(n) % parts
    sweeps: list[tuple[Base, Make]] = [
        (base.of(part == index), partial(drawn, seed=seed_of("part", seed, index)))
        for index in range(parts)
    ]
    sizes = [random_draws * len(RANDOM_SHARES) / parts] * parts + [len(kinds) * count]
    *of_parts, whole = [
        of.sweep(layers=layers, make=make)
        for of, make in pace.each([*sweeps, (base, filters)], sizes)
    ]
    return whole.dealt(of_parts, part)


def dropped(base: Base, layer: str, filters: range, *, at: str) -> Facts:
    """Nodal dropout of some filters of a layer, one at a time; at: see `Mask`."""
    return base.sweep(
        layers=[layer],
        make=lambda layers: [*nodal_variants(layer, layers[layer], filters=filters, at=at)],
        active_at=at,
    )
