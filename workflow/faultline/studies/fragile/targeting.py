"""Adversarial targeting: how much of an attack arrives at each filter of a layer.

Pravin et al. 2021 name it; the measure is ours. With phi_i the output map of filter i, x an image
and x' the same image attacked, t_i is the mean over images of ||phi_i(x') - phi_i(x)||_1.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from faultline.ablation.tracing import Traced, Untraceable
from faultline.base.errors import UserError
from faultline.base.memory import halving
from faultline.networks.evaluation import evaluation
from faultline.networks.layers import layers as layers_of

Maps = Callable[[Tensor], dict[str, Tensor]]


@contextmanager
def feature_maps(
    network: nn.Module, layers: Iterable[str], example: Tensor, *, at: str
) -> Iterator[Maps]:
    """Inside the block: a function of images [n, ...] that gives layer -> maps [n, filters, size].

    at: "output", what the layer itself gives, or "activation", what has passed its normalisation
    and non-linearity. A layer that is used several times has the maps of all its uses. example:
    a few images. The network is in eval mode meanwhile and keeps no hook. UserError for a layer
    that is not there and for a network that does not show where its activations are.
    """
    known = layers_of(network)
    if missing := [layer for layer in layers if layer not in known]:
        raise UserError(
            f"layer {missing[0]!r} is not in the network; there are: {', '.join(known)}"
        )
    axes = {layer: 1 if isinstance(known[layer], nn.Conv2d) else -1 for layer in layers}
    if at == "activation":
        with torch.no_grad():
            yield _traced_maps(network, axes, example)
    else:
        with hooked_maps(network, {layer: (known[layer], axes[layer]) for layer in layers}) as maps:
            yield maps


@contextmanager
def hooked_maps(network: nn.Module, places: dict[str, tuple[nn.Module, int]]) -> Iterator[Maps]:
    """As `feature_maps`, of any modules; places: name -> (module, axis of its filters)."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name, axis):
        # a copy, as what follows may work in place
        return lambda _, __, out: seen.setdefault(name, []).append(_by_filter(out, axis).clone())

    hooks = [
        module.register_forward_hook(keep(name, axis)) for name, (module, axis) in places.items()
    ]

    def maps(images: Tensor) -> dict[str, Tensor]:
        seen.clear()
        network(images)
        return {name: torch.cat(parts, 2) for name, parts in seen.items()}

    try:
        with evaluation(network), torch.no_grad():
            yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _traced_maps(network: nn.Module, axes: dict[str, int], example: Tensor) -> Maps:
    try:
        traced = Traced(network, list(axes), example)
    except Untraceable as reason:
        raise UserError(
            "this network does not show where its activations are: "
            f"{reason}; set config key targeting.at to output"
        ) from None
    places = {layer: traced.places(layer, "activation") for layer in axes}
    wanted = {node for nodes in places.values() for node in nodes}
    nodes = [*traced.before, *traced.after]
    nodes = nodes[: 1 + max(nodes.index(node) for node in wanted)]

    def maps(images: Tensor) -> dict[str, Tensor]:
        values = traced.run(nodes, {}, keep=wanted, images=images)
        return {
            layer: torch.cat([_by_filter(values[node], axis) for node in places[layer]], 2)
            for layer, axis in axes.items()
        }

    return maps


def _by_filter(value: Tensor, axis: int) -> Tensor:
    """[n, filters, size]"""
    value = value.movedim(axis, 1)
    return value.flatten(2) if value.dim() > 2 else value[..., None]


@halving
def targeting(
    network: nn.Module,
    layers: Iterable[str],
    clean: Tensor,
    adversarial: dict[str, Tensor],
    *,
    at: str,
    batch_size: int = 500,
) -> pd.DataFrame:
    """One row per layer x attack x filter, in this order.

    clean: images [n, ...]; adversarial: attack -> the same images attacked. at: see `feature_maps`.

    Columns: targeting (t_i) and its std over images; share, t_i of the layer's total; relative, t_i
    of the filter's mean clean l1 norm, clean_norm; the standard errors of the two ratios, over
    images by the delta method; n (images). A ratio to nothing is NaN.
    """
    layers = list(layers)
    sums: dict[tuple[str, str], Tensor] = {}
    with feature_maps(network, layers, clean[:32], at=at) as maps:
        for begin in range(0, len(clean), batch_size):
            part = slice(begin, begin + batch_size)
            before = maps(clean[part])
            for attack, images in adversarial.items():
                after = maps(images[part])
                for layer in layers:
                    moved = (after[layer] - before[layer]).abs().sum(2, dtype=torch.double)
                    norm = before[layer].abs().sum(2, dtype=torch.double)
                    key = layer, attack
                    sums[key] = sums.get(key, 0) + _sums(moved, norm)
    tables = []
    for layer in layers:
        for attack in adversarial:
            table = _means(sums[layer, attack].cpu().numpy(), len(clean))
            table.insert(0, "layer", layer)
            table.insert(1, "attack", attack)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _sums(moved: Tensor, norm: Tensor) -> Tensor:
    """Sums over images of all that `_means` needs, [8, filters], so that batches simply add up."""
    total = moved.sum(1, keepdim=True).expand_as(moved)
    terms = [moved, norm, total, moved**2, norm**2, total**2, moved * norm, moved * total]
    return torch.stack([term.sum(0) for term in terms])


def _means(sums: np.ndarray, n: int) -> pd.DataFrame:
    t, c, total, tt, cc, total_total, tc, t_total = sums / n

    def ratio(to, square, product):
        to = np.where(to > 0, to, np.nan)
        value = t / to
        spread = np.maximum(tt - 2 * value * product + value**2 * square, 0)
        return value, np.sqrt(spread / max(n - 1, 1)) / to

    share, share_error = ratio(total, total_total, t_total)
    relative, relative_error = ratio(c, cc, tc)
    return pd.DataFrame(
        {
            "filter": np.arange(len(t)),
            "targeting": t,
            "std": np.sqrt(np.maximum(tt - t**2, 0) * n / max(n - 1, 1)),
            "clean_norm": c,
            "share": share,
            "share_error": share_error,
            "relative": relative,
            "relative_error": relative_error,
            "n": n,
        }
    )


def kernels(network: nn.Module, layers: Iterable[str]) -> pd.DataFrame:
    """Every weight of the convolutions that see the image itself (1 to 3 channels), to be drawn.

    Columns: layer, filter, channel, row, column, weight.
    """
    known, tables = layers_of(network), []
    for layer in layers:
        weight = known[layer].weight.detach()
        if weight.dim() == 4 and weight.shape[1] <= 3:
            where = np.indices(tuple(weight.shape)).reshape(4, -1)
            columns = dict(zip(("filter", "channel", "row", "column"), where, strict=True))
            columns["weight"] = weight.flatten().cpu().numpy()
            tables.append(pd.DataFrame({"layer": layer} | columns))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["layer"])
