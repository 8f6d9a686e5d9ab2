"""The remedy: compress robust and amplify fragile filters, in proportion to their fragility.

The idea is Pravin et al. 2021's; the law is ours. Filter i of a layer, of fragility d_i, gets the
gain

    g_i = 1 + s (d_i - pivot) / (max d - min d)

with one strength s in 0..1, the difference between the largest and the smallest gain, and the pivot
that keeps the layer's total feature energy, sum of E_i over its filters with E_i the mean square of
map i summed over its pixels.

A gain acts on the weight and bias of the layer or, where a normalisation follows, of that: its
input could be scaled at will without any effect that is a gain. That of an attention head acts on
its columns of the output projection, so what it adds to the attention's output is scaled. Either
way the map behind the normalisation is scaled by g_i exactly, and so is what a ReLU makes of it.
With another non-linearity, the map in front of it is scaled, and its energy is the one that is
kept.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, NoReturn, cast

import pandas as pd
import torch
from torch import Tensor, fx, nn

from faultline.ablation.facts import counted
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants
from faultline.attacks.craft import judge
from faultline.base.errors import UserError, some
from faultline.base.memory import halving
from faultline.base.seeds import seed_of
from faultline.networks.layers import TRANSPOSED, every_layer, filters, is_conv1d, kind
from faultline.networks.layers import layers as layers_of
from faultline.networks.operations import ACTIVATIONS, Kind, operation
from faultline.networks.plain import copied, preserved
from faultline.networks.symbolic import Tracer
from faultline.studies.fragile.targeting import feature_maps, hooked_maps, unit_axis


def gains(fragility: Tensor, energy: Tensor, *, strength: float) -> Tensor:
    """The gain of every filter of a layer, float64 [filters]; all 1 where none stands out.

    fragility, energy: [filters]. strength in 0..1, which keeps every gain from being negative.
    """
    d, energy = fragility.double(), energy.double()
    spread = d.max() - d.min()
    if not strength or not spread or not energy.sum():
        return torch.ones_like(d)
    slope, weight = strength / spread, energy / energy.sum()
    mean = weight @ d
    variance = weight @ (d - mean) ** 2
    # sum of energy * gain**2 = sum of energy, solved for the pivot
    return slope * (d - mean) + (1 - slope**2 * variance).sqrt()


def dealt(fragility: Tensor, *, layer: str, seed: int, draw: int) -> Tensor:
    """The fragilities of a layer's filters, dealt out among them at random: the control."""
    generator = torch.Generator().manual_seed(seed_of("random remedy", layer, seed, draw))
    return fragility[torch.randperm(len(fragility), generator=generator)]


class Carrier(NamedTuple):
    """What carries the gains of a layer.

    path: of the module whose weight and bias are scaled. passed_on: whether the layer's
    non-linearity, if any, passes a gain on as it is.
    """

    path: str
    passed_on: bool


def carrier(network: nn.Module, layer: str, *, graph: fx.Graph | None = None) -> Carrier:
    """Where the gains of a layer act; graph: of the network, if it is traced already. UserError
    with the reason where they cannot."""
    by_name = every_layer(network)
    if layer not in by_name:
        there = some(layers_of(network))
        raise UserError(f"layer {layer!r} is not in the network; there are: {there}")

    module = by_name[layer]

    def refuse(reason: str) -> NoReturn:
        raise UserError(
            f"config key remedy.layers: gains cannot act on {layer}: {reason}; leave this layer out"
        )

    if kind(module) == "recurrent":
        refuse("its hidden units read each other, so a gain would change more than their size")
    if getattr(module, "max_norm", None) is not None:
        refuse("it normalises its rows itself (max_norm), which would undo them")
    try:
        with preserved(network):
            graph = graph or Tracer().trace(network)
    except Exception:
        refuse("this network cannot be traced, so what follows the layer is not known")
    modules = dict(network.named_modules())
    calls = [n for n in graph.nodes if _called(n, modules) is module]
    if not calls:
        refuse("its own call does not show when the network is traced")
    if len(calls) > 1:
        refuse(f"it is used {len(calls)} times in one pass")
    node = place = calls[0]
    if kind(module) == "attention":  # which mixes its heads before anything follows
        return Carrier(node.target, True)
    while len(node.users) == 1:
        user = next(iter(node.users))
        does = operation(user, modules).kind
        if does is Kind.NORMALISATION and _target(user) and place is calls[0]:
            place = user
        elif does is not Kind.TRANSPARENT:
            break
        node = user
    carrying = modules[place.target]
    if place is not calls[0]:
        weight = getattr(carrying, "weight", None)
        whole = weight is not None and len(weight) == filters(module)
        axes = getattr(carrying, "normalized_shape", None)  # the first must be that of the units
        if not whole or (axes and len(axes) != max(cast(Tensor, module.weight).dim() - 1, 1)):
            refuse(f"{_plain(place)} normalises it and has no weight per filter")
        if sum(_target(n) == place.target for n in graph.nodes) != 1:
            refuse(f"{_plain(place)}, which normalises it, is used elsewhere too")
    if norm := _next_norm(node, modules):
        refuse(f"{_plain(norm)} normalises it again further on, which would undo or shift them")
    return Carrier(place.target, all(_passes_on(user, modules) for user in node.users))


def _target(node: fx.Node) -> str | None:
    return str(node.target) if node.op == "call_module" else None


def _called(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    path = _target(node)
    return None if path is None else modules.get(path)


def _plain(node: fx.Node) -> str:
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return name.removeprefix("body.")


def _next_norm(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The first normalisation that the maps themselves reach, not mixed with others on the way."""
    for user in node.users:
        does = operation(user, modules).kind
        if does is Kind.NORMALISATION:
            return user
        module = _called(user, modules)
        weighs = module is not None and (hasattr(module, "weight") or kind(module) is not None)
        mixes = len(user.all_input_nodes) > 1 or weighs
        mixes = (mixes and does is not Kind.CHANNELWISE) or does is Kind.MIXING
        if not mixes and (norm := _next_norm(user, modules)):
            return norm
    return None


def _passes_on(user: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a gain passes a user unchanged: a ReLU, or no non-linearity of the layer's own."""
    does = operation(user, modules)
    return does.homogeneous or does.kind not in {*ACTIVATIONS, Kind.GATE, Kind.MIXING}


def remedied(network: nn.Module, gain: dict[str, Tensor]) -> nn.Module:
    """A copy of the network, in eval mode, with the maps of each layer scaled by its gains,
    [filters]."""
    mended = copied(network)
    for layer, factors in gain.items():
        _scale(mended.get_submodule(carrier(network, layer).path), factors)
    return mended


def _scale(module: nn.Module, factors: Tensor) -> None:
    """Scale what each unit of a layer or normalisation gives, in place; of a head, what it adds."""
    scaled: dict[Tensor, Tensor]
    if isinstance(module, nn.MultiheadAttention):
        scaled = {module.out_proj.weight: factors.repeat_interleave(module.head_dim)}
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        scaled = {module.weight: factors}
    else:
        parameters = [getattr(module, name, None) for name in ("weight", "bias")]
        scaled = {p: factors.reshape(-1, *[1] * (p.dim() - 1)) for p in parameters if p is not None}
    if isinstance(module, TRANSPOSED):  # its weight is [inputs, outputs / groups, ...]
        rows = factors.reshape(module.groups, -1)
        rows = rows.repeat_interleave(module.in_channels // module.groups, 0)
        scaled[module.weight] = rows.reshape(*rows.shape, *[1] * (module.weight.dim() - 2))
    if is_conv1d(module):
        scaled[cast(Tensor, module.weight)] = factors
    for parameter, factor in scaled.items():
        parameter.data.mul_(factor.to(parameter))


def nodal_fragility(
    network: nn.Module,
    layer: str,
    images: Tensor,
    labels: Tensor,
    *,
    at: str,
    memory: float | None = None,
) -> Tensor:
    """d_i: the accuracy that the network loses without filter i of a layer, float64 [filters]."""
    module = every_layer(network)[layer]
    variants = list(nodal_variants(layer, module, filters=range(filters(module)), at=at))
    facts = sweep(network, variants, {"clean": images}, labels, ablated=[layer], memory=memory)
    return torch.from_numpy(facts.base["clean"].mean() - facts.correct["clean"].mean(1))


@halving
def feature_energy(
    network: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    *,
    pixels: Callable[[Tensor], Tensor],
    batch_size: int = 500,
) -> dict[str, Tensor]:
    """E_i of every layer, float64 [filters]: the mean over images of the sum of squares of a map.

    images: [n, ...] as stored, a batch of which `pixels` puts into pixel units. The map is the
    last one that gains scale exactly.
    """
    carriers = {layer: carrier(network, layer) for layer in layers}
    modules = every_layer(network)
    sums = dict.fromkeys(layers, torch.zeros((), dtype=torch.double))
    behind = [layer for layer in layers if carriers[layer].passed_on]
    before = {
        layer: (network.get_submodule(carriers[layer].path), unit_axis(modules[layer]))
        for layer in layers
        if layer not in behind
    }
    example = pixels(images[:32])
    readers = [feature_maps(network, behind, example, at="activation")] if behind else []
    readers += [hooked_maps(network, before)] if before else []
    for reader in readers:
        with reader as maps:
            for batch in images.split(batch_size):
                for layer, of_layer in maps(pixels(batch)).items():
                    sums[layer] = sums[layer] + of_layer.double().square().sum((0, 2)).cpu()
    return {layer: total / len(images) for layer, total in sums.items()}


def try_strengths(
    network: nn.Module,
    table: pd.DataFrame,
    images: Tensor,
    labels: Tensor,
    *,
    policies: Iterable[str],
    strengths: Iterable[float],
    attacks: dict[str, Callable[..., Tensor]],
    seed: int,
) -> pd.DataFrame:
    """Accuracy of the network remedied under each policy at each strength, and at 0; attacks are
    crafted on it anew. The same search for the remedy and for each draw of its control.

    table, policies, seed: as in `table_gains`. Columns: policy, strength, images, correct, n,
    accuracy.
    """

    def judged(gain: dict[str, Tensor]) -> list[dict]:
        return counted(judge(remedied(network, gain), images, labels, attacks=attacks))

    unchanged, rows = judged({}), []
    for policy in policies:
        for strength in sorted({0.0, *strengths}):
            accuracies = unchanged
            if strength:
                gain = table_gains(table, policy=policy, strength=strength, seed=seed)
                accuracies = judged(gain)
            rows += [{"policy": policy, "strength": strength} | row for row in accuracies]
    return pd.DataFrame(rows)


def best_strength(tried: pd.DataFrame, strengths: Iterable[float]) -> float:
    """The strength of the highest accuracy, mean over image sets; of equal ones the smallest.

    tried: the rows of one policy.
    """
    mean = tried.groupby("strength")["accuracy"].mean()
    return min(strengths, key=lambda strength: (-round(mean[strength], 12), strength))


def table_gains(
    table: pd.DataFrame, *, policy: str, strength: float, seed: int
) -> dict[str, Tensor]:
    """layer -> gains [filters]. Policies: "fragile", the remedy itself, and "random-0", "random-1"
    and so on, its control: the fragilities of each layer dealt out at random.

    table: columns layer, fragility, energy, one row per filter in their order.
    """
    gain = {}
    for layer, part in table.groupby("layer", sort=False):
        d, energy = (torch.tensor(part[c].to_numpy(float)) for c in ("fragility", "energy"))
        if policy != "fragile":
            d = dealt(d, layer=layer, seed=seed, draw=int(policy.removeprefix("random-")))
        gain[layer] = gains(d, energy, strength=strength)
    return gain


def tuned_gains(
    table: pd.DataFrame, tried: pd.DataFrame, *, strengths: Iterable[float], seed: int
) -> pd.DataFrame:
    """The rows of `table` for each policy that was tried, with its gain and its own best strength.

    table: as in `table_gains`; tried: as `try_strengths` makes it. Columns added: policy (the
    first), gain, strength.
    """
    tables = []
    for policy, part in tried.groupby("policy", sort=False):
        strength = best_strength(part, strengths)
        gain = torch.cat(
            [*table_gains(table, policy=policy, strength=strength, seed=seed).values()]
        )
        tables.append(table.assign(gain=gain.numpy(), strength=strength))
        tables[-1].insert(0, "policy", policy)
    return pd.concat(tables, ignore_index=True)
