"""Adversarial targeting: how much of an attack arrives at each filter of a layer.

Pravin et al. 2021 name it; the measure is ours. With phi_i the output map of filter i, x an image
and x' the same image attacked, t_i is the mean over images of ||phi_i(x') - phi_i(x)||_1.

Anything that disturbs the image arrives at filters with large weights more than at others. What an
attack does beyond that is told against noise of equal norm (see `noisy`), image by image.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from faultline.ablation.tracing import Traced, Untraceable
from faultline.base.errors import UserError, some
from faultline.base.memory import halving
from faultline.base.seeds import seed_of
from faultline.data.splits import Bounds
from faultline.networks.evaluation import evaluation
from faultline.networks.layers import every_layer, filters, kind
from faultline.networks.layers import layers as layers_of
from faultline.networks.plain import copied
from faultline.networks.probes import by_image, output, some_only

Maps = Callable[[Tensor], dict[str, Tensor]]


@contextmanager
def feature_maps(
    network: nn.Module, layers: Iterable[str], example: Tensor, *, at: str
) -> Iterator[Maps]:
    """Inside the block: a function of images [n, ...] that gives layer -> maps [n, filters, size].

    at: "output", what the layer itself gives, or "activation", what has passed its normalisation
    and non-linearity; attention heads and hidden units have theirs inside, so they are the same at
    both. What a head gives is that which the output projection of the attention reads. A layer that
    is used several times has the maps of all its uses. example: a few images. The network is in
    eval mode meanwhile and keeps no hook. UserError for a layer that is not there or does not give
    what its units give, and for a network that does not show where its activations are.
    """
    modules, layers = every_layer(network), list(layers)
    if missing := [layer for layer in layers if layer not in modules]:
        there = some(layers_of(network))
        raise UserError(f"layer {missing[0]!r} is not in the network; there are: {there}")
    for layer in layers:
        _check(layer, modules[layer])
    inside = [name for name in layers if kind(modules[name]) in ("attention", "recurrent")]
    traced = [name for name in layers if at == "activation" and name not in inside]
    hooked = {
        name: (modules[name], unit_axis(modules[name])) for name in layers if name not in traced
    }
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        readers = []
        if traced:
            axes = {name: unit_axis(modules[name]) for name in traced}
            readers.append(_traced_maps(network, axes, example))
        if hooked:
            readers.append(stack.enter_context(hooked_maps(network, hooked)))

        def maps(images: Tensor) -> dict[str, Tensor]:
            by_layer: dict[str, Tensor] = {}
            for reader in readers:
                by_layer |= reader(images)
            return by_layer

        yield maps


def _check(name: str, layer: nn.Module) -> None:
    """UserError where what a layer gives does not show what each of its units gives."""
    if kind(layer) == "recurrent" and getattr(layer, "num_layers", 1) > 1:
        why = f"of its {layer.num_layers} depths only the last is seen from outside"
    elif kind(layer) == "recurrent" and getattr(layer, "proj_size", False):
        why = "its hidden units are mixed by its projection"
    elif len(getattr(layer, "normalized_shape", (1,))) > 1:
        why = "its channels stand along several axes"
    else:
        return
    raise UserError(
        f"config key targeting.layers: what each unit of {name} gives cannot be read: {why}; leave "
        "this layer out"
    )


def unit_axis(layer: nn.Module) -> int:
    """The axis of what a layer gives, [n, ...], along which its units stand."""
    on_rows = isinstance(layer, nn.LayerNorm | nn.RMSNorm)
    return 1 if kind(layer) == "conv" or (kind(layer) == "norm" and not on_rows) else -1


@contextmanager
def hooked_maps(network: nn.Module, places: Mapping[str, tuple[nn.Module, int]]) -> Iterator[Maps]:
    """As `feature_maps`, of any modules; places: name -> (module, axis of its filters)."""
    seen: dict[str, list[Tensor]] = {}
    n = 0

    def keep(name, axis, module):
        heads = _heads(module) if kind(module) == "attention" else None

        def hook(_, args, kwargs, out):
            value = heads(args, kwargs, n) if heads else _by_filter(output(module, out, n), axis)
            seen.setdefault(name, []).append(value.clone())  # as what follows may work in place

        return hook

    hooks = [
        module.register_forward_hook(keep(name, axis, module), with_kwargs=True)
        for name, (module, axis) in places.items()
    ]

    def maps(images: Tensor) -> dict[str, Tensor]:
        nonlocal n
        n = len(images)
        seen.clear()
        network(images)
        for name in places:
            if any(len(part) != n for part in seen.get(name, [()])):
                raise some_only(name)
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
        n = len(images)
        parts = {
            layer: [_by_filter(by_image(values[node], n), axis) for node in places[layer]]
            for layer, axis in axes.items()
        }
        return {layer: torch.cat(uses, 2) for layer, uses in parts.items()}

    return maps


def _heads(attention: nn.MultiheadAttention) -> Callable[[tuple, dict, int], Tensor]:
    """A function of what an attention is called with, for n images, that gives what each head gives
    [n, heads, size]: the attention again, with an output projection that leaves them side by side.
    """
    apart = copied(attention)
    apart.out_proj.weight.data = torch.eye(attention.embed_dim).to(attention.out_proj.weight)
    if apart.out_proj.bias is not None:
        apart.out_proj.bias.data.zero_()

    def heads(args, kwargs, n: int) -> Tensor:
        out = output(apart, apart(*args, **kwargs), n)
        return out.unflatten(-1, (filters(apart), -1)).movedim(-2, 1).flatten(2)

    return heads


def _by_filter(value: Tensor, axis: int) -> Tensor:
    """[n, filters, size]"""
    value = value.movedim(axis, 1)
    return value.flatten(2) if value.dim() > 2 else value[..., None]


def noisy(clean: Tensor, attacked: Tensor, *, bounds: Bounds, seed: int) -> Tensor:
    """One image [...] with noise whose entries are those of the perturbation `attacked - clean`,
    put on pixels (channels apart) in random order and with random signs (ours).

    So all of its norms are those of the perturbation, and no pixel leaves the bounds: where only
    one sign stays within them, it has that one, as the attack had. Some sign always does for an
    entry of at most half their distance; larger ones stay on their pixel. Bounds that the attack
    itself does not keep (in normalised units) count as far as it went. None: there are none. Where
    both are the same, of features that never change, there is no noise.
    """
    generator = torch.Generator().manual_seed(seed)
    change = (attacked - clean).cpu().flatten()
    both = torch.stack([clean, attacked])
    ends = bounds or (-torch.inf, torch.inf)
    lowest, highest = (torch.as_tensor(end, dtype=torch.double) for end in ends)
    varies = (highest > lowest).cpu().expand(clean.shape).flatten()
    low = min(lowest.min().item(), both.min().item())
    high = max(highest.max().item(), both.max().item())
    size, start = change.abs(), clean.cpu().flatten()
    free = (varies & (size <= (high - low) / 2)).nonzero().flatten()
    size[free] = size[free[torch.randperm(len(free), generator=generator)]]
    sign = 2.0 * torch.randint(2, size.shape, generator=generator) - 1
    up, down = start + size <= high, start - size >= low
    one_way = torch.where(up == down, change.sign(), up.float() - down.float())
    noise = size * torch.where(up & down, sign, one_way)
    return (start + noise).clamp(low, high).reshape(clean.shape).to(clean)  # clamps rounding only


@halving
def targeting(
    network: nn.Module,
    layers: Iterable[str],
    clean: Tensor,
    adversarial: dict[str, Tensor],
    *,
    at: str,
    bounds: Bounds,
    seed: int,
    batch_size: int = 500,
) -> pd.DataFrame:
    """One row per layer x attack x filter, in this order.

    clean: images [n, ...]; adversarial: attack -> the same images attacked. at: see `feature_maps`.
    bounds: lowest and highest pixel value; seed: of the noise, beside the attack's name and the
    image's place.

    Columns: targeting (t_i) and its std over images; share, t_i of the layer's total; relative, t_i
    of the filter's mean clean l1 norm, clean_norm; noise_targeting, noise_share and noise_relative,
    the same of noise of equal norm (see `noisy`); excess, share less noise_share; share_error,
    relative_error and excess_error, the standard errors over images by the delta method, of the
    excess with attack and noise paired; n (images). A ratio to nothing is NaN.
    """
    layers = list(layers)
    sums: dict[tuple[str, str], Tensor] = {}
    with feature_maps(network, layers, clean[:32], at=at) as maps:
        for begin in range(0, len(clean), batch_size):
            part = slice(begin, begin + batch_size)
            before = maps(clean[part])
            for attack, images in adversarial.items():
                pairs = enumerate(zip(clean[part], images[part], strict=True), begin)
                noise = [
                    noisy(*pair, bounds=bounds, seed=seed_of("targeting noise", attack, seed, i))
                    for i, pair in pairs
                ]
                after, shaken = maps(images[part]), maps(torch.stack(noise))
                for layer in layers:
                    own, key = before[layer], (layer, attack)
                    of_batch = _sums(after[layer] - own, own, shaken[layer] - own)
                    sums[key] = sums.get(key, 0) + of_batch
    tables = []
    for layer in layers:
        for attack in adversarial:
            table = _means(sums[layer, attack].cpu().numpy(), len(clean))
            table.insert(0, "layer", layer)
            table.insert(1, "attack", attack)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _sums(*maps: Tensor) -> Tensor:
    """Sums over images, [1 + 5, 5, filters], so that batches simply add up: of the l1 norms of
    three maps and of those of the first and third over all filters; behind them of the products.

    maps: the change by the attack, the clean map and the change by noise, [n, filters, size].
    """
    moved, norm, noise = (value.abs().sum(2, dtype=torch.double) for value in maps)
    totals = (value.sum(1, keepdim=True).expand_as(value) for value in (moved, noise))
    numbers = torch.stack([moved, norm, noise, *totals])
    return torch.cat([numbers.sum(1)[None], torch.einsum("anf,bnf->abf", numbers, numbers)])


def _means(sums: np.ndarray, n: int) -> pd.DataFrame:
    means, products = sums[0] / n, sums[1:] / n
    t, c, u, t_total, u_total = means
    of_means = (products - means[:, None] * means) / max(n - 1, 1)  # their covariance

    def ratio(number, to):
        return number / np.where(to > 0, to, np.nan)

    def error(of_t=0, of_c=0, of_u=0, of_t_total=0, of_u_total=0):
        """From the derivatives by each of the five means."""
        slope = np.stack(np.broadcast_arrays(of_t + 0 * t, of_c, of_u, of_t_total, of_u_total))
        return np.sqrt(np.maximum(np.einsum("af,abf,bf->f", slope, of_means, slope), 0))

    share, relative, noise_share = ratio(t, t_total), ratio(t, c), ratio(u, u_total)
    by_share = {"of_t": ratio(1, t_total), "of_t_total": -ratio(share, t_total)}
    by_noise = {"of_u": -ratio(1, u_total), "of_u_total": ratio(noise_share, u_total)}
    return pd.DataFrame(
        {
            "filter": np.arange(len(t)),
            "targeting": t,
            "std": np.sqrt(np.maximum(of_means[0, 0] * n, 0)),
            "clean_norm": c,
            "share": share,
            "share_error": error(**by_share),
            "relative": relative,
            "relative_error": error(of_t=ratio(1, c), of_c=-ratio(relative, c)),
            "noise_targeting": u,
            "noise_share": noise_share,
            "noise_relative": ratio(u, c),
            "excess": share - noise_share,
            "excess_error": error(**by_share, **by_noise),
            "n": n,
        }
    )


def kernels(network: nn.Module, layers: Iterable[str]) -> pd.DataFrame:
    """Every weight of the convolutions that see the image itself (1 to 3 channels), to be drawn.

    Columns: layer, filter, channel, row, column, weight.
    """
    modules, tables = every_layer(network), []
    for layer in layers:
        module = modules[layer]
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] <= 3:
            weight = module.weight.detach()
            where = np.indices(tuple(weight.shape)).reshape(4, -1)
            columns = dict(zip(("filter", "channel", "row", "column"), where, strict=True))
            columns["weight"] = weight.flatten().cpu().numpy()
            tables.append(pd.DataFrame({"layer": layer} | columns))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["layer"])
