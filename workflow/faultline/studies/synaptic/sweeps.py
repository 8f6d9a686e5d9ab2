"""The sweeps of one checkpoint that scores come from: synaptic filters and nodal dropout."""

from collections.abc import Mapping, Sequence

from faultline.ablation.facts import Facts
from faultline.ablation.run import Base
from faultline.ablation.variants import nodal_variants, random_variants, synaptic_variants
from faultline.base.seeds import seed_of
from faultline.studies.synaptic import ALL_LAYERS


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

    place: what names the checkpoint, which the random draws are seeded by, beside the layer.
    """
    together = layer == ALL_LAYERS
    seed = seed_of(*place.values(), layer)
    return base.sweep(
        layers=None if together else [layer],
        make=lambda layers: [
            *synaptic_variants(layers, kinds=kinds, count=count, limits=limits, together=together),
            *random_variants(layers, draws=random_draws, seed=seed, together=together),
        ],
    )


def dropped(base: Base, layer: str, filters: range, *, at: str) -> Facts:
    """Nodal dropout of some filters of a layer, one at a time; at: see `Mask`."""
    return base.sweep(
        layers=[layer],
        make=lambda layers: [*nodal_variants(layer, layers[layer], filters=filters, at=at)],
        active_at=at,
    )
