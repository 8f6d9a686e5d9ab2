"""What evaluates variants without a graph: the network itself is run, all of it or, where that
gives the same, without the modules that are done before an ablated layer begins.
"""

import functools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from faultline.ablation.propagation import Rows
from faultline.ablation.tracing import Untraceable, holds_tensor, unread
from faultline.ablation.variants import Variant, is_behind, replaced, without
from faultline.base.errors import UserError
from faultline.base.inputs import one_of
from faultline.networks.evaluation import evaluation, scale
from faultline.networks.layers import every_layer, own_weight, parameter_of
from faultline.networks.plain import State, copied, forget, preserved
from faultline.networks.reach import reached

Attack = Callable[..., Tensor]
"""(network, images, labels, *, batch_size) -> images [n, ...], attacked."""

Evaluate = Callable[[Sequence[Variant | None]], Iterator[tuple[Rows, Tensor | None]]]
"""Variants, None for the network itself, -> (rows, logits) of each: the images [n] of a batch that
it may change, None for all; their logits, None where it changes none."""

Recraft = Callable[[Variant | None], tuple[Tensor, Tensor | None]]
"""Variant -> (logits on images attacked anew for it, logits on the clean images); the latter are
those from which the attack took gradients, None where it took none there."""

NO_ACTIVATION = (
    "a network that cannot be traced does not show where its activations are; "
    'remove filters at "weights" (config key nodal_dropout: at)'
)


def logits_by(evaluate: Evaluate, variant: Variant | None) -> Tensor:
    """Logits [n, classes] of the network itself, or of a variant that changes all images."""
    ((_, logits),) = evaluate([variant])
    assert logits is not None
    return logits


def bytes_of(value: Any, images: int) -> int:
    """Of one image's share of what is the value of so many."""
    if isinstance(value, tuple | list):
        return sum(bytes_of(part, images) for part in value)
    return value.nbytes // images if holds_tensor(value) else 0


def shapes_of(layers: dict[str, nn.Module], ablated: Iterable[str]) -> dict[str, torch.Size]:
    """Of the parameters of ablated layers, by their full names."""
    own = {layer: layers[layer].named_parameters() for layer in ablated}
    return {f"{layer}.{name}": p.shape for layer, of in own.items() for name, p in of}


def replaced_in(
    variant: Variant, shapes: dict[str, torch.Size], device: torch.device
) -> dict[str, Tensor]:
    """What a variant replaces; UserError where that is no parameter of an ablated layer."""
    new = replaced(variant, device)
    for name, value in new.items():
        if name not in shapes:
            one_of(name, shapes, f"variants: {variant.columns} replaces a parameter")
        if value.shape != shapes[name]:
            raise UserError(
                f"variants: {variant.columns} replaces {name} by {list(value.shape)}; expected "
                f"{list(shapes[name])}"
            )
    return new


class Loop:
    """Evaluates variants of a network without a graph: all of it, for each variant."""

    def __init__(
        self,
        network: nn.Module,
        variants: Sequence[Variant],
        ablated: Sequence[str],
        image: Tensor,
    ):
        self.network = copied(network).requires_grad_(False)
        self.layers = every_layer(self.network)
        for layer in ablated:
            if layer not in self.layers:
                raise UserError(
                    f"layer {layer!r} is not in the network; there are: {', '.join(self.layers)}"
                )
        for mask in (variant.mask for variant in variants):
            if mask and is_behind(self.layers[mask.layer], mask.at):
                raise UserError(f"layer {mask.layer!r}: {NO_ACTIVATION}")
        self.shapes = shapes_of(self.layers, ablated)
        self.image = image

    @functools.cached_property
    def kept_by_modules(self) -> State:
        """What the network keeps beside its parameters, with which each variant begins."""
        return State(self.network)

    def bytes_per_image(self, with_gradients: bool) -> int:
        """What one image of a batch takes, by the outputs of the modules: no more is known."""
        sizes = [self.image.nbytes]

        def weigh(_: nn.Module, __: Any, output: Any) -> None:
            sizes.append(bytes_of(output, 1))

        hooks = [module.register_forward_hook(weigh) for module in self.network.modules()]
        with torch.no_grad(), preserved(self.network):
            self.network(self.image.clone())
        for hook in hooks:
            hook.remove()
        return 3 * sum(sizes) if with_gradients else 4 * max(sizes)

    def fixed(self, images: Tensor, batch_size: int = 0) -> Evaluate:
        """Evaluates variants on these images, one by one."""

        def evaluate(variants: Sequence[Variant | None]) -> Iterator[tuple[None, Tensor]]:
            for variant in variants:
                with self._applied(variant):
                    logits = self.network(images.clone())
                yield None, logits

        return evaluate

    def recrafted(self, images: Tensor, labels: Tensor, attack: Attack, batch_size: int) -> Recraft:
        """Evaluates variants on these clean images, attacked anew for each."""

        def evaluate(variant: Variant | None) -> tuple[Tensor, None]:
            with self._applied(variant):
                with torch.enable_grad():
                    adversarial = attack(self.network, images, labels)
                parts = adversarial.split(batch_size)
                return torch.cat([self.network(part.clone()) for part in parts]), None

        return evaluate

    @contextmanager
    def _applied(self, variant: Variant | None) -> Iterator[None]:
        """The variant's parameters in place of the base's, inside the block."""
        new = replaced_in(variant, self.shapes, self.image.device) if variant else {}
        if variant and variant.mask:
            new = without(variant.mask, self.layers[variant.mask.layer])
        kept = [(p, p.data) for p in (parameter_of(self.network, name) for name in new)]
        try:
            for (parameter, _), value in zip(kept, new.values(), strict=True):
                parameter.data = value
            forget(self.network)  # what it made of other weights
            with preserved(self.network, self.kept_by_modules):
                yield
        finally:
            for parameter, data in kept:
                parameter.data = data


class Resumed(Loop):
    """Evaluates variants of a network without a graph, from their layers on: each module that is
    done before the first of these begins gives back what it gave for the network itself.

    Its inputs are the same, so this holds for any control flow; it is tried out on `images`, and
    Untraceable is raised where the logits are not those of the whole network, as where what comes
    before reads the weights of an ablated layer, too.
    """

    def __init__(
        self,
        network: nn.Module,
        variants: Sequence[Variant],
        ablated: Sequence[str],
        images: Tensor,
    ):
        super().__init__(network, variants, ablated, images[:1])
        self.calls = _Calls(self.network, {name: self.layers[name] for name in ablated})
        other = {
            name: 1.5 * parameter.detach().flatten().roll(1).view_as(parameter) + 0.01
            for name in self.shapes
            for parameter in [parameter_of(self.network, name)]
        }
        changed = Variant({}, 1, replace=lambda: other)
        with torch.no_grad():
            found = logits_by(self.fixed(images), changed)
            expected = logits_by(super().fixed(images), changed)
        tolerance = 1e-4 * scale(expected).item()
        if not torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True):
            raise Untraceable("what comes before a layer depends on its weights")
        self.kept_bytes = sum(
            bytes_of(tree_leaves(call.out), len(images)) for call in self.calls.kept
        )

    def bytes_per_image(self, with_gradients: bool) -> int:
        """What one image of a batch takes, with what is kept of it."""
        return super().bytes_per_image(with_gradients) + self.kept_bytes

    def fixed(self, images: Tensor, batch_size: int = 0) -> Evaluate:
        """Evaluates variants on these images, one by one."""
        with self._applied(None):
            kept, base = self.calls.keep(lambda: self.network(images.clone()))

        def evaluate(variants: Sequence[Variant | None]) -> Iterator[tuple[None, Tensor]]:
            for variant in variants:
                logits = base
                if variant is not None:
                    with self._applied(variant), self.calls.given_back(kept):
                        logits = self.network(images.clone())
                yield None, logits

        return evaluate


class _Call(NamedTuple):
    """What a call of a module gave; number: of the calls of this module. versions: of the tensors
    in it. written: whether what comes later changes these in place, so that `out` is a copy and
    others are given back."""

    module: nn.Module
    number: int
    out: Any
    versions: list[tuple[Tensor, int]]
    written: bool


class _Calls:
    """The calls of modules in a network, which are kept, or given back in place of being made."""

    def __init__(self, network: nn.Module, layers: dict[str, nn.Module]):
        own = {id(parameter) for layer in layers.values() for parameter in layer.parameters()}
        self.begins = {*layers.values()}
        self.begins |= {m for m in network.modules() if own & {*map(id, m.parameters(False))}}
        self.around = {m for m in network.modules() if own & {*map(id, m.parameters())}}
        self.open: list[list[_Call]] | None = None  # of each call that is not done, those inside
        self.kept: list[_Call] = []
        self.times: Counter[nn.Module] = Counter()
        self.written: set[tuple[nn.Module, int]] = set()
        self.waiting: dict[nn.Module, deque[_Call]] = {}
        for module in network.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                module.forward = self._watched(module, module.forward)

    def _watched(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def called(*args: Any, **kwargs: Any) -> Any:
            if waiting := self.waiting.get(module):
                call = waiting.popleft()
                return _copied(call.out) if call.written else call.out
            if self.open is not None and module in self.begins:
                self._stop()
            if self.open is None:
                return forward(*args, **kwargs)
            self.open.append([])
            out = forward(*args, **kwargs)
            if self.open is not None:
                if module in self.around:  # it reads the weights of a layer in a way of its own
                    self._stop()
                else:
                    self._keep(module, out)
            return out

        return called

    def _keep(self, module: nn.Module, out: Any) -> None:
        assert self.open is not None
        number = self.times[module]
        self.times[module] += 1
        written = (module, number) in self.written
        out, versions = (_copied(out), []) if written else (out, _versions(out))
        self.open.pop()  # calls inside of this one are not made again
        self.open[-1].append(_Call(module, number, out, versions, written))

    def _stop(self) -> None:
        assert self.open is not None
        self.kept = [call for calls in self.open for call in calls]
        self.open = None

    def keep(self, run: Callable[[], Tensor]) -> tuple[list[_Call], Tensor]:
        """(what the modules give that are done before an ablated layer begins, what `run` gives).

        Untraceable where no ablated layer is called.
        """
        while True:
            self.open, self.kept = [[]], []
            self.times.clear()
            try:
                logits = run()
                if self.open is not None:
                    raise Untraceable("its layers are not called as modules")
            finally:
                self.open = None
            written = {(call.module, call.number) for call in self.kept if _is_written(call)}
            if not written:
                return self.kept, logits
            self.written |= written

    @contextmanager
    def given_back(self, kept: list[_Call]) -> Iterator[None]:
        """Inside the block, modules give what they gave before instead of being called. Untraceable
        where the network does not go the same way."""
        self.waiting = {}
        for call in kept:
            self.waiting.setdefault(call.module, deque()).append(call)
        try:
            yield
            if any(self.waiting.values()) or any(map(_is_written, kept)):
                raise Untraceable("what comes before a layer does not stay the same")
        finally:
            self.waiting = {}


def _copied(out: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, out)


def _versions(out: Any) -> list[tuple[Tensor, int]]:
    return [(leaf, leaf._version) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def _is_written(call: _Call) -> bool:
    return any(tensor._version != version for tensor, version in call.versions)


def check_fresh(network: nn.Module, ablated: Sequence[str], images: Tensor) -> None:
    """UserError where a network keeps what it made of its weights, so that others would not do in
    their place what they do in a new network."""
    fresh, other = (Loop(network, [], ablated, images[:1]) for _ in range(2))
    layers = fresh.layers
    weight_of = {name: own_weight(layers[name]) for name in ablated}
    new = {f"{name}.{w}": 1 - layers[name].get_parameter(w) for name, w in weight_of.items()}
    variant = Variant({}, 1, replace=lambda: new)
    with torch.no_grad():
        expected, again = (logits_by(fresh.fixed(images[:2]), variant) for _ in range(2))
    with evaluation(other.network):
        read = reached(other.network, images[:2].clone())
    for name, weight in weight_of.items():
        own = dict(other.layers[name].named_parameters())
        if not read.isdisjoint(map(id, own.values())) and id(own[weight]) not in read:
            raise UserError(unread(name, weight))
    with torch.no_grad():
        evaluate = other.fixed(images[:2])
        _, later = (logits_by(evaluate, each) for each in (None, variant))
    same = partial(torch.allclose, rtol=1e-4, atol=1e-5, equal_nan=True)
    if same(expected, again) and not same(expected, later):
        raise UserError(
            "the network keeps what it makes of its weights where it is not seen, so others would "
            "have no effect; keep it as an attribute of a module, or let train() forget it"
        )
