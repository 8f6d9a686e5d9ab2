"""The layers of a network, their kinds, and what of their parameters belongs to each unit.

A unit is what can be removed of a layer: a filter, a neuron, an attention head, a column of an
embedding, a hidden unit of a recurrent layer, a channel of a normalisation, a bare parameter.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from faultline.networks.architectures import body_of

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


class Bare(nn.Module):
    """A parameter that a module holds by itself, such as a class token or a layer scale, seen as a
    layer of one unit. It has no call of its own."""

    def __init__(self, value: nn.Parameter):
        super().__init__()
        self.value = value


_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED),
    "linear": (nn.Linear,),
    "attention": (nn.MultiheadAttention,),
    "embedding": (nn.Embedding, nn.EmbeddingBag),
    "recurrent": _RECURRENT,
    "parameter": (Bare,),
    "norm": (
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.RMSNorm),
    ),
}

_COUNTS = {
    "conv": "out_channels",
    "linear": "out_features",
    "attention": "num_heads",
    "embedding": "embedding_dim",
}
"""Kind of a layer -> the attribute that says how many units it has."""


def kind(module: nn.Module) -> str | None:
    """The kind of a layer, one of `base.columns.UNITS`; None for a module that is no layer."""
    of = next((name for name, types in _KINDS.items() if isinstance(module, types)), None)
    of = "linear" if is_conv1d(module) else of
    return None if of == "norm" and next(module.parameters(), None) is None else of


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D, a linear layer whose weight is [inputs, outputs]."""
    names = ((kind.__module__, kind.__name__) for kind in type(module).__mro__)
    return ("transformers.pytorch_utils", "Conv1D") in names


def by_rows(layer: nn.Module) -> bool:
    """Whether each parameter of a layer has one row for each of its units."""
    turned = isinstance(layer, TRANSPOSED) or is_conv1d(layer)
    return kind(layer) in ("conv", "linear") and not turned


def layers(network: nn.Module, *, norms: bool = False) -> dict[str, nn.Module]:
    """Every layer by its module path, in the order of definition; of normalisations if asked for.

    Paths begin at the network proper, behind our normalisation. A module inside of a layer, such as
    the output projection of an attention, is a part of it.
    """
    by_path: dict[str, nn.Module] = {}
    for path, module in body_of(network).named_modules():
        parents = path.split(".")
        if any(".".join(parents[:depth]) in by_path for depth in range(1, len(parents))):
            continue
        of = kind(module)
        if of and (norms or of != "norm"):
            by_path[path] = module
    return by_path


def every_layer(network: nn.Module) -> dict[str, nn.Module]:
    """`layers`, with normalisations, and the parameters that belong to none of them, each by its
    path (see `Bare`), in the order of definition."""
    own = layers(network, norms=True)
    seen = {id(parameter) for layer in own.values() for parameter in layer.parameters()}
    by_path: dict[str, nn.Module] = {}
    for path, module in body_of(network).named_modules():
        if path in own:
            by_path[path] = own[path]
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                by_path[f"{path}.{name}".lstrip(".")] = Bare(parameter)
    return by_path


def parameter_of(network: nn.Module, name: str) -> nn.Parameter:
    """The parameter of a network proper that a layer calls "<layer>.<its name in it>"."""
    path, _, last = name.rpartition(".")
    try:
        return body_of(network).get_parameter(name)
    except AttributeError:
        if last != "value":
            raise
        return body_of(network).get_parameter(path)


def filters(layer: nn.Module) -> int:
    """How many units a layer has.

    Of a recurrent layer they are counted depth by depth, the backward direction after the forward
    one.
    """
    of = kind(layer)
    if isinstance(layer, Bare):
        return 1
    if is_conv1d(layer):
        return len(layer.get_parameter("bias"))
    if isinstance(layer, _RECURRENT):
        return layer.hidden_size * len(_passes(layer))
    return int(getattr(layer, _COUNTS[of])) if of in _COUNTS else next(layer.parameters()).numel()


def weights(layer: nn.Module) -> dict[str, Tensor]:
    """The weights of a layer by their names in it, all that is no bias; detached."""
    return {
        name: parameter.detach()
        for name, parameter in layer.named_parameters()
        if "bias" not in name
    }


def own_weight(layer: nn.Module) -> str:
    """The name that torch gives to the weight of a layer, one of them where there are several."""
    names = {"attention": "out_proj.weight", "recurrent": "weight_hh_l0", "parameter": "value"}
    return (
        "weight_hh" if isinstance(layer, nn.RNNCellBase) else names.get(kind(layer) or "", "weight")
    )


def of_units(layer: nn.Module, units: Iterable[int]) -> dict[str, Tensor]:
    """Parameter of a layer -> bool mask in its shape: what belongs to these units.

    Set to 0, it makes a filter, neuron, column or channel give 0, a head add nothing to the output
    of its attention, and a hidden unit that starts at 0 stay there.
    """
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in layer.named_parameters()}
    units, of = list(units), kind(layer)
    if isinstance(layer, nn.MultiheadAttention):
        _mark_heads(layer, units, masks)
    elif isinstance(layer, _RECURRENT):
        _mark_hidden(layer, units, masks)
    elif isinstance(layer, Bare):
        masks["value"][...] = bool(units)
    elif of == "embedding":
        masks["weight"][:, units] = True
    elif is_conv1d(layer):
        for mask in masks.values():
            mask[..., units] = True
    elif isinstance(layer, TRANSPOSED):  # its weight is [inputs, outputs / groups, ...]
        inputs, outputs = (c // layer.groups for c in (layer.in_channels, layer.out_channels))
        for unit in units:
            group, place = divmod(unit, outputs)
            masks["weight"][group * inputs : (group + 1) * inputs, place] = True
        if "bias" in masks:
            masks["bias"][units] = True
    else:
        for mask in masks.values():
            (mask.view(-1) if of == "norm" else mask)[units] = True
    return {name: mask for name, mask in masks.items() if mask.any()}


def _mark_heads(layer: nn.MultiheadAttention, units: list[int], masks: dict[str, Tensor]) -> None:
    """Rows of query, key and value, and columns of the output."""
    size = layer.head_dim
    for unit in units:
        part = slice(unit * size, (unit + 1) * size)
        for name, mask in masks.items():
            if name == "out_proj.weight":
                mask[:, part] = True
            elif name.startswith("in_proj"):
                mask.view(3, layer.embed_dim, *mask.shape[1:])[:, part] = True
            elif name in ("bias_k", "bias_v"):
                mask[..., part] = True
            elif name != "out_proj.bias":
                mask[part] = True


def _mark_hidden(
    layer: nn.RNNBase | nn.RNNCellBase, units: list[int], masks: dict[str, Tensor]
) -> None:
    """Rows of every gate."""
    for unit in units:
        place, row = divmod(unit, layer.hidden_size)
        ending = _passes(layer)[place]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            if (mask := masks.get(name + ending)) is not None:
                mask[row :: layer.hidden_size] = True


def _passes(layer: nn.RNNBase | nn.RNNCellBase) -> list[str]:
    """How the names of a recurrent layer's parameters end, one for each pass over the input."""
    if isinstance(layer, nn.RNNCellBase):
        return [""]
    ways = ("", "_reverse") if layer.bidirectional else ("",)
    return [f"_l{depth}{way}" for depth in range(layer.num_layers) for way in ways]
