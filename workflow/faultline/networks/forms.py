"""Networks as people have them: what is around them, how they are called, and where their logits
are in what they give."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from faultline.base.errors import UserError, some

WRAP = (
    "return a module that calls it and whose forward gives these (docs/own.md, "
    '"Networks that give something else", has one to copy)'
)


class Form(NamedTuple):
    """How a network is called, and what of its output are its logits [n, classes].

    keyword: the name of its input, where it takes that by name alone. place: of the logits in a
    dict or a tuple; None where it gives nothing else. binary: whether it gives one logit z, of
    which [0, z] is made: softmax([0, z])[1] = sigmoid(z).
    """

    keyword: str = ""
    place: str | int | None = None
    binary: bool = False

    def __call__(self, network: nn.Module, x: Tensor) -> Tensor:
        """The logits of a network for inputs."""
        out = network(**{self.keyword: x}) if self.keyword else network(x)
        if self.place is not None:
            out = out[self.place]
        if self.binary:
            z = out.reshape(-1, 1)
            out = torch.cat([torch.zeros_like(z), z], 1)
        logits: Tensor = out
        return logits

    def words(self) -> str:
        """What is done so that a network gives logits; empty where nothing is."""
        parts = [f"its input is given as {self.keyword}"] * bool(self.keyword)
        if self.place is not None:
            at = f"[{self.place!r}]" if isinstance(self.place, str) else f"number {self.place}"
            parts.append(f"its logits are {at} of what it gives")
        if self.binary:
            parts.append("its one logit z becomes [0, z]")
        return ", ".join(parts)


def form_of(network: nn.Module, inputs: Tensor, *, classes: int | None = None) -> Form:
    """The form of a network in the mode that it is in, found by running it on inputs [n, ...].

    classes: None for any number of two or more. UserError, which says what to write, where it is
    called with several inputs or gives no logits.
    """
    keyword = _keyword(network)
    out = network(**{keyword: inputs}) if keyword else network(inputs)
    parts = {place: part for place, part in _parts(out) if isinstance(part, Tensor)}
    fitting = [p for p, part in parts.items() if _fits(part, len(inputs), classes)]
    binary = [p for p, part in parts.items() if _is_binary(part, len(inputs), classes)]
    for places, one in ((fitting, False), (binary, True)):
        if places:
            return Form(keyword, "logits" if "logits" in places else places[0], one)
    wanted = f"[{len(inputs)}, {classes or 'classes'}]"
    shapes = some([f"{list(part.shape)}" for part in parts.values()], 3)
    got = shapes if parts else f"a {type(out).__name__}"
    raise UserError(f"it gives {got} for {len(inputs)} inputs; expected logits {wanted}: {WRAP}")


def _parts(out: Any) -> Iterator[tuple[str | int | None, Any]]:
    """(place, part) of what a network gives, as `Form` names it."""
    if isinstance(out, Mapping):  # as those of transformers are
        yield from out.items()
    elif isinstance(out, tuple | list):
        yield from enumerate(out)
    else:
        yield None, out


def _fits(part: Tensor, n: int, classes: int | None) -> bool:
    wide = part.dim() == 2 and len(part) == n and part.is_floating_point()
    return wide and (part.shape[1] == classes if classes else part.shape[1] > 1)


def _is_binary(part: Tensor, n: int, classes: int | None) -> bool:
    return classes in (2, None) and part.shape in ((n, 1), (n,)) and part.is_floating_point()


def _keyword(network: nn.Module) -> str:
    """The name of the one input that a network takes by name alone; empty where it takes it by
    position. UserError where it needs several."""
    try:
        every = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return ""
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p for p in every if p.default is p.empty and p.kind not in starred]
    if len(needed) > 1:
        raise UserError(
            f"its forward takes {len(needed)} inputs ({some([p.name for p in needed])}); expected "
            f"one: {WRAP}"
        )
    if any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in every):
        return ""
    names = [p.name for p in needed] or [p.name for p in every if p.kind is p.KEYWORD_ONLY]
    if not names:
        raise UserError(f"its forward takes no input by position or by a name of its own: {WRAP}")
    return names[0]


def bare(network: nn.Module) -> nn.Module:
    """A network without what parallel training or torch.compile put around it and its parts, with
    weights in single precision. UserError for what has no layers to remove any more: TorchScript,
    and what is quantised."""
    network = _unwrapped(network)
    for path, module in [*network.named_modules()]:
        if (inner := _unwrapped(module)) is not module:
            network.set_submodule(path, inner)
        inner._compiled_call_impl = None
    for path, module in network.named_modules():
        at = f" ({path})" if path else ""
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"it is TorchScript{at}, whose layers cannot be removed; return the network that "
                "was scripted, with load_state_dict(scripted.state_dict())"
            )
        if _is_quantised(module):
            raise UserError(
                f"it is quantised{at}: its weights are whole numbers; return the network that was "
                "quantised, in floating point"
            )
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in network.parameters()):
        network.float()
    return network


def _unwrapped(module: nn.Module) -> nn.Module:
    """What is parallelised or compiled, without that."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif type(module).__name__ == "OptimizedModule":  # to import its class takes a second
            module = cast(nn.Module, module._orig_mod)
        else:
            return module


def _is_quantised(module: nn.Module) -> bool:
    home = type(module).__module__
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    whole = any(tensor.is_quantized for tensor in tensors)
    return whole or ".quantized" in home or home.startswith("bitsandbytes.")
