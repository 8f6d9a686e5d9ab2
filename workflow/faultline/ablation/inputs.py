"""What a sweep is given, checked once, before anything of it runs."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from faultline.ablation.variants import Variant, check_mask
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, one_of
from faultline.networks.evaluation import predict
from faultline.networks.inputs import check_classes, check_device, check_images, class_numbers
from faultline.networks.layers import every_layer, filters


def checked_variants(
    variants: Iterable[Variant], network: nn.Module, ablated: Sequence[str]
) -> list[Variant]:
    """Variants in a list; UserError where there is none, one that says nothing or two things, or
    a mask of what is not there."""
    variants = variants if isinstance(variants, list) else list(variants)
    if not variants:
        raise UserError("variants: there are none; give at least one")
    layers, first = every_layer(network), variants[0]
    units: dict[str, int] = {}
    for variant in variants:
        if not isinstance(variant, Variant):
            raise UserError(f"variants: hold a {type(variant).__name__}; expected Variant")
        if variant.columns.keys() != first.columns.keys():
            raise UserError(
                f"variants: columns {sorted(variant.columns)} in one, {sorted(first.columns)} in "
                "another; name the same in all, or sweep them apart"
            )
        ways = (variant.replace is not None) + (variant.mask is not None)
        if ways > 1 or (variant.key is not None and not ways):
            has = "both replace and mask" if ways else "neither replace nor mask"
            raise UserError(f"variants: {variant.columns} has {has}; give one of them")
        if (mask := variant.mask) is not None:
            one_of(mask.layer, ablated, "variants: the layer of a mask, which must be in ablated")
            if mask.layer in layers:
                units.setdefault(mask.layer, filters(layers[mask.layer]))
                check_mask(mask, units[mask.layer])
    return variants


def checked_images(
    network: nn.Module,
    image_sets: Mapping[str, Tensor],
    labels: Tensor,
    *,
    attacks: Mapping[str, object],
    tops: Sequence[int],
) -> Tensor:
    """The labels as int64 [n]; UserError where images, labels and network do not fit together."""
    if not image_sets:
        raise UserError('image_sets: there is none; give {"clean": images}')
    for name, images in image_sets.items():
        check_images(images, f"image set {name!r}")
        numbers = class_numbers(labels, len(images))
        check_device(network, {f"image set {name!r}": images, "labels": labels})
    if attacks and "clean" not in image_sets:
        raise UserError('image_sets: attacks craft from the set "clean"; add it')
    if twice := sorted(attacks.keys() & image_sets.keys()):
        raise UserError(f"attacks: {twice[0]!r} is an image set, too; rename one of them")
    if not tops:
        raise UserError("tops: there are none; expected whole numbers such as (1, 5)")
    for top in tops:
        check_count(top, "tops")
    logits = predict(network, next(iter(image_sets.values()))[:2])
    check_classes(logits, int(numbers.max()))
    return numbers
