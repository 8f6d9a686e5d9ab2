"""Probes: the outputs of a network's layers, or of its activation functions, watched as it runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from faultline.base.errors import UserError
from faultline.networks.evaluation import evaluation
from faultline.networks.layers import kind
from faultline.networks.layers import layers as layers_of
from faultline.networks.operations import ACTIVATIONS, Kind, of_function


class _Activations(TorchFunctionMode):
    """Tells of every activation function that is called, as a module or not."""

    def __init__(self, record: Callable[[Tensor], None]):
        super().__init__()
        self.record = record

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if of_function(function).kind in {*ACTIVATIONS, Kind.GATE} and isinstance(out, Tensor):
            self.record(out)
        return out


def output(layer: nn.Module, out: Tensor | tuple[Any, ...], n: int) -> Tensor:
    """What a layer gives for n images, [n, ...]: the first tensor that its call returns."""
    while isinstance(out, tuple):
        out = out[0]
    turned = not getattr(layer, "batch_first", True) and out.dim() == 3
    return out.transpose(0, 1) if turned else by_image(out, n)


def by_image(value: Tensor, n: int) -> Tensor:
    """A tensor that holds n images with these first: [n, ...] as it is, [tokens, n, ...] turned,
    [n * windows, ...] as [n, windows, ...]. Where there are n tokens, too, it stays as it is."""
    if len(value) == n:
        return value
    if value.dim() > 1 and value.shape[1] == n:
        return value.transpose(0, 1)
    return value if len(value) % n else value.unflatten(0, (n, -1))


@contextmanager
def watch(
    network: nn.Module, *, at: str, names: Iterable[str] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Inside the block, each forward fills the dict anew: probe -> its output [n, ...].

    at: "activation", the outputs of activation functions, modules or not, and of recurrent layers,
    which have theirs inside; or "layer", the outputs of the layers themselves. A probe is named
    after the layer that ran last before it; a second one of that name is "<layer>:2". What precedes
    all layers is no probe. names: only these probes. The outputs are copies that gradients flow
    through; the network may be in any mode, and nothing stays hooked.
    """
    seen: dict[str, Tensor] = {}
    wanted = None if names is None else set(names)
    counts: dict[str, int] = {}
    running, last, n = False, "", 1

    def record(out: Tensor) -> None:
        if not (running and last):
            return
        counts[last] = counts.get(last, 0) + 1
        name = last if counts[last] == 1 else f"{last}:{counts[last]}"
        if wanted is None or name in wanted:
            seen[name] = by_image(out, n).clone()  # what follows may work in place

    def begin(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal running, last, n
        running, last, n = True, "", len(inputs[0])
        seen.clear()
        counts.clear()

    def end(*_: object) -> None:
        nonlocal running
        running = False

    def ran(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, _: object, out: Tensor | tuple[Any, ...]) -> None:
            nonlocal last
            last = name
            if at == "layer" or kind(layer) == "recurrent":
                record(output(layer, out, n))

        return hook

    hooks = [layer.register_forward_hook(ran(name)) for name, layer in layers_of(network).items()]
    hooks.append(network.register_forward_pre_hook(begin))
    hooks.append(network.register_forward_hook(end, always_call=True))
    try:
        with _Activations(record) if at == "activation" else nullcontext():
            yield seen
    finally:
        for hook in hooks:
            hook.remove()


def probes(network: nn.Module, example: Tensor, *, at: str) -> list[str]:
    """The probes of a network, in the order in which they run; example: a few images."""
    with evaluation(network), torch.no_grad(), watch(network, at=at) as seen:
        network(example)
        return list(seen)


def some_only(name: str) -> UserError:
    """A layer sees some images of a batch, or none, so its outputs belong to no image."""
    return UserError(
        f"layer {name.partition(':')[0]} is given some of the images only, so what it gives for "
        "each cannot be compared; leave this layer or its network out here"
    )


def probe_errors(
    clean: dict[str, Tensor], perturbed: dict[str, Tensor], n: int
) -> dict[str, Tensor]:
    """Probe -> `relative_errors` [n] of what `watch` saw of n images and of the same perturbed.
    UserError for a layer that is given some of them only; one that is given none at all, such as
    positions, has no errors."""
    errors = {}
    for name, before in clean.items():
        after = perturbed.get(name)
        if after is not None and len(before) == len(after) == n:
            errors[name] = relative_errors(before, after)
        elif after is not None and torch.equal(before, after):
            errors[name] = before.new_zeros(n)
        else:
            raise some_only(name)
    return errors


def relative_errors(clean: Tensor, perturbed: Tensor) -> Tensor:
    """||clean - perturbed|| / ||clean|| per image, [n], from outputs [n, ...] of one probe.

    Where the clean output is all zero: 0 if the other is, too, and 1 if not (ours). Gradients are
    finite everywhere.
    """
    size: Tensor = torch.linalg.vector_norm(clean.flatten(1), dim=1)
    change: Tensor = torch.linalg.vector_norm((clean - perturbed).flatten(1), dim=1)
    alone = torch.where(change > 0, change, 1.0).detach()
    return change / torch.where(size > 0, size, alone)
