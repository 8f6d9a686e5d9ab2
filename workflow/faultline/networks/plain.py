"""A module as it computes: weights that are made of others as plain parameters, and what it keeps
from one call to the next as it was before."""

import copy
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from faultline.base.errors import UserError, first_line
from faultline.networks.layers import own_weight

M = TypeVar("M", bound=nn.Module)

_HOOKS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
"""What makes a weight anew before each call, in torch's older way."""

REMOVE = (
    "make weights parameters, by torch.nn.utils.parametrize.remove_parametrizations, "
    "torch.nn.utils.prune.remove or torch.nn.utils.remove_weight_norm"
)

_TORCHS = frozenset(vars(nn.Module()))
"""Attributes that torch itself gives to a module: its parameters, hooks and mode."""


class State:
    """What modules keep beside their parameters, as it is now: attributes, the containers among
    them, buffers and other tensors."""

    def __init__(self, module: nn.Module):
        self.attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.containers: dict[int, tuple[Any, Any]] = {}
        self.tensors: dict[int, tuple[Tensor, Tensor, int | None]] = {}
        for part in module.modules():
            self.attributes.append((vars(part), _own(part)))
            for value in (part._buffers, *_own(part).values()):
                self._keep(value)

    def _keep(self, value: object) -> None:
        if isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter):
                with torch.no_grad():
                    self.tensors[id(value)] = value, value.detach().clone(), _version(value)
        elif isinstance(value, dict | list | set | tuple) and id(value) not in self.containers:
            self.containers[id(value)] = value, copy.copy(value)
            for inner in value.values() if isinstance(value, dict) else value:
                self._keep(inner)
        elif _is_plain_object(value):
            self._keep(vars(value))

    def restore(self) -> None:
        """Put all of it back."""
        for now, before in self.attributes:
            for name in [n for n in now if n not in before and n not in _TORCHS]:
                del now[name]
            built = now["_modules"].keys() | now["_parameters"].keys()  # in a first call
            now.update({name: value for name, value in before.items() if name not in built})
        for now, before in self.containers.values():
            if not isinstance(now, tuple):
                now.clear()
                now.extend(before) if isinstance(now, list) else now.update(before)
        for tensor, values, version in self.tensors.values():
            if version is None or tensor._version != version:
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.copy_(values)

    def changed(self) -> bool:
        """Whether anything is other than it was."""
        return (
            any(not _alike(_rest(now), before) for now, before in self.attributes)
            or any(not _alike(now, before) for now, before in self.containers.values())
            or any(
                tensor._version != version if version is not None else not tensor.equal(before)
                for tensor, before, version in self.tensors.values()
            )
        )


def _is_plain_object(value: object) -> bool:
    """Whether it is of a class of the user's own, such as a cache."""
    home = type(value).__module__.partition(".")[0]
    foreign = home in sys.stdlib_module_names or home in ("torch", "numpy")
    return hasattr(value, "__dict__") and not isinstance(value, nn.Module) and not foreign


def _own(module: nn.Module) -> dict[str, Any]:
    return _rest(vars(module))


def _rest(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in _TORCHS}


def _alike(one: Any, other: Any) -> bool:
    """Whether two containers hold the same objects."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
    return len(one) == len(other) and {*map(id, one)} == {*map(id, other)}


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


@contextmanager
def preserved(module: nn.Module, state: State | None = None) -> Iterator[State]:
    """On leaving, what the module keeps beside its parameters is what it was: a cache that it has
    filled meanwhile, statistics that it has updated. What lies outside of its modules' attributes
    and what these hold, in a closure or a global, stays as it is then. state: what it was, where
    that has been looked at before."""
    state = state or State(module)
    try:
        yield state
    finally:
        state.restore()


def copied(module: M) -> M:
    """A copy in eval mode, which keeps nothing that the module forgets when it is set to training.
    Raises UserError where it cannot be copied."""
    memo: dict[int, Tensor] = {}
    for tensor, _, _ in State(module).tensors.values():
        if not tensor.is_leaf or tensor.is_inference():  # made in a call
            memo[id(tensor)] = tensor.detach().clone()
    try:
        copy_ = copy.deepcopy(module, memo)
    except Exception as error:
        raise UserError(
            f"the network, a {type(module).__name__}, cannot be copied ({first_line(error)}); "
            "build it anew and load its state_dict(), or keep nothing on it that is made in a call"
        ) from None
    forget(copy_)
    return copy_


def forget(module: nn.Module) -> None:
    """Puts a module into eval mode without what it forgets when it is set to training."""
    if any(map(_switches, module.modules())):
        module.train()  # which one of the user's own may return nothing
        module.eval()


def _switches(part: nn.Module) -> bool:
    """Whether setting a module to training and back is more than two flags."""
    own = (getattr(switch, "__func__", None) for switch in (part.train, part.eval))
    return part.training or tuple(own) != (nn.Module.train, nn.Module.eval)


def plain(module: nn.Module) -> nn.Module:
    """The module itself where all its weights are parameters; else a copy in eval mode in which
    those that torch parametrises, normalises or prunes are, with the values that they have there.

    Weights that are made of the same parameters stay one. Raises UserError where others are tied.
    """
    if not any(map(_is_made, module.modules())):
        return module
    stripped = copied(module)
    places = _places(stripped)
    with torch.no_grad():
        values = {of: [_value(part, name) for part, name in places[of]] for of in places}
    for part in [part for part in stripped.modules() if _is_made(part)]:
        _strip(part)
    for of, (value, *others) in values.items():
        if not all(value.equal(other) for other in others):
            raise UserError(f"two weights use one parameter in two ways; {REMOVE}")
        weight = nn.Parameter(value.clone())
        for part, name in places[of]:
            setattr(part, name, weight)
    return stripped


def plain_layer(name: str, layer: nn.Module) -> nn.Module:
    """`plain` of a layer to be ablated; UserError where its weights are no parameters then."""
    layer = plain(layer)
    if not has_weights(layer):
        raise UserError(
            f"layer {name!r} has a weight or bias that is no parameter of its own; {REMOVE}, and "
            "run lazy layers once"
        )
    return layer


def has_weights(layer: nn.Module) -> bool:
    """Whether the weights of a layer are there, and parameters of its own under torch's names."""
    own = dict(layer.named_parameters())
    whole = not any(map(_is_made, layer.modules()))
    whole &= not any(isinstance(parameter, UninitializedParameter) for parameter in own.values())
    return whole and own_weight(layer) in own


def _is_made(module: nn.Module) -> bool:
    """Whether a parameter of its own is made of others."""
    return parametrize.is_parametrized(module) or any(
        isinstance(hook, _HOOKS) for hook in module._forward_pre_hooks.values()
    )


def _sources(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Name of each weight that is made -> the parameters that it is made of."""
    sources = {name: [*maker.parameters()] for name, maker in _parametrised(module).items()}
    for name, hook in _hooks(module).items():
        endings = "gv" if isinstance(hook, WeightNorm) else ["orig"]
        sources[name] = [getattr(module, f"{name}_{ending}") for ending in endings]
    return sources


def _parametrised(module: nn.Module) -> dict[str, nn.Module]:
    """Name of each weight that torch parametrises -> what makes it."""
    parametrised = parametrize.is_parametrized(module)
    return dict(cast(nn.ModuleDict, module.parametrizations).items()) if parametrised else {}


def _hooks(module: nn.Module) -> dict[str, Any]:
    """Name of each weight that is made in torch's older way -> what makes it."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, _HOOKS)]
    pruned = prune.BasePruningMethod
    return {hook._tensor_name if isinstance(hook, pruned) else hook.name: hook for hook in hooks}


def _places(module: nn.Module) -> dict[tuple[int, ...], list[tuple[nn.Module, str]]]:
    """Ids of parameters -> the weights that are made of them, as (module, name). UserError where a
    parameter that a weight is made of has another use, too."""
    places, uses = defaultdict(list), defaultdict(set)
    inside: set[nn.Module] = set()
    for part in module.modules():
        for maker in _parametrised(part).values():
            inside.update(maker.modules())
        for name, sources in _sources(part).items():
            of = tuple(map(id, sources))
            places[of].append((part, name))
            for source in of:
                uses[source].add(of)
    for part in module.modules():
        mine = {id(source) for sources in _sources(part).values() for source in sources}
        for parameter in part._parameters.values() if part not in inside else ():
            if id(parameter) in uses and id(parameter) not in mine:
                uses[id(parameter)].add(())
    if any(len(of) > 1 for of in uses.values()):
        raise UserError(f"two weights use one parameter in two ways; {REMOVE}")
    return places


def _value(module: nn.Module, name: str) -> Tensor:
    hook = _hooks(module).get(name)
    value: Tensor
    if isinstance(hook, WeightNorm):
        value = hook.compute_weight(module)
    elif isinstance(hook, SpectralNorm):
        value = hook.compute_weight(module, do_power_iteration=False)
    else:
        value = hook.apply_mask(module) if hook else getattr(module, name)
    return value


def _strip(module: nn.Module) -> None:
    """Takes away what makes weights of its own. Torch's own way changes the class, which a copy
    shares with its original."""
    for name, hook in _hooks(module).items():
        older: Callable[..., object] = (
            remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm
        )
        remove = prune.remove if isinstance(hook, prune.BasePruningMethod) else older
        remove(module, name)
    if parametrize.is_parametrized(module):
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
