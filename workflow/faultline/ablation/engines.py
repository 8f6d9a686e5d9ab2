"""What evaluates variants: the graph of a network, or, where it has none or that fails, the network
itself, see `whole`.

What does not depend on the ablated layers is computed once per batch of images, a removed filter
is followed only as far as it changes anything, and what cannot change is not computed at all.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from faultline.ablation.propagation import ALMOST_ALL, Batch, Change, Propagation, Rows
from faultline.ablation.tracing import CONVOLUTIONS, PASSED_ON, Traced, Untraceable
from faultline.ablation.variants import Mask, Variant, replaced, without
from faultline.ablation.whole import (
    Attack,
    Evaluate,
    Loop,
    Recraft,
    Resumed,
    bytes_of,
    check_fresh,
    logits_by,
    replaced_in,
    shapes_of,
)
from faultline.attacks.space import Forward
from faultline.base.errors import first_line
from faultline.networks.layers import every_layer

CHECKED = 32
"""Images on which the trace of a network is compared with the network."""

FEW = 0.5
"""Share of a layer's filters up to which changed weights are followed filter by filter."""

LARGE = 1e6
"""Weights beyond this, or NaN, run in the network as it is: what overflows depends on the order of
its operations, which the graph changes."""

DOMINANT = 1e3
"""Removed filters that give values beyond this share of what the others give are not taken from a
sum that holds both, as the difference of two large numbers: what comes after them is run anew."""

AHEAD = 32
"""Changed filters that are begun with before any of them goes on: a GPU then waits once for all."""

JOINED = 64
"""Images up to which a CPU computes those of several variants as one batch (ours); a GPU does so up
to its whole batch."""


def engine_of(
    network: nn.Module,
    variants: Sequence[Variant],
    ablated: Sequence[str],
    images: Tensor,
    say: Callable[[str], None],
    *,
    crafted: bool = False,
) -> "Engine":
    """What evaluates variants of a network on images like these, [n, ...], n >= 1.

    crafted: whether attacks craft images anew; only a graph has shortcuts for these.
    """
    few = images[:CHECKED]
    loop = partial(Loop, network, variants, ablated, few[:1])
    resumed = partial(Resumed, network, variants, ablated, few)
    try:
        traced = Traced(network, ablated, few)
    except Untraceable as reason:
        engine = Engine([resumed, loop], say)
        check_fresh(network, ablated, images)
        began = time.monotonic()
        with torch.no_grad():
            logits_by(engine.fixed(few), None)
        rate = len(few) / (time.monotonic() - began)
        part = "what follows its layers" if isinstance(engine.way, Resumed) else "all of it"
        say(
            f"this network gets no shortcuts of a graph: {reason}. Each variant runs {part}; the "
            f"whole runs at about {rate:.0f} images/s"
        )
        return engine
    if traced.keeping:
        check_fresh(network, ablated, images)
    graph = partial(Graph, network, traced, variants)
    graphs = [graph, partial(graph, parts=False)]
    if not crafted and traced.is_inside_whole():
        return Engine([resumed, *graphs, loop], say)
    return Engine([*graphs, resumed, loop], say)


class Engine:
    """Ways to evaluate variants, the best first: where one fails, that is said, and the next one
    goes on from there."""

    def __init__(self, ways: list["Callable[[], Graph | Loop]"], say: Callable[[str], None]):
        self.ways, self.say = ways, say
        self.way = self._next()

    def _next(self) -> "Graph | Loop":
        while True:
            make = self.ways.pop(0)
            try:
                return make()
            except PASSED_ON:
                raise
            except Exception as error:
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Says that a way fails, if another is left."""
        if not self.ways:
            raise error
        if not isinstance(error, Untraceable):
            self.say(
                f"a shortcut fails here ({type(error).__name__}: {first_line(error)}), so more of "
                "the network is run for each variant; the results are the same"
            )

    def bytes_per_image(self, with_gradients: bool) -> int:
        """What one image of a batch takes at most."""
        return self.way.bytes_per_image(with_gradients)

    def fixed(self, images: Tensor, batch_size: int = JOINED) -> Evaluate:
        """Evaluates variants on these images; batch_size: how many may be run at once."""
        begun: dict[Graph | Loop, Evaluate] = {}

        def evaluate(variants: Sequence[Variant | None]) -> Iterator[tuple[Rows, Tensor | None]]:
            left = [*variants]
            while left:
                try:
                    if self.way not in begun:
                        begun.clear()
                        begun[self.way] = self.way.fixed(images, batch_size)
                    for found in begun[self.way]([*left]):
                        del left[0]
                        yield found
                except PASSED_ON:
                    raise
                except Exception as error:
                    self._go_on(error)

        return evaluate

    def recrafted(self, images: Tensor, labels: Tensor, attack: Attack, batch_size: int) -> Recraft:
        """Evaluates variants on these clean images, attacked anew for each."""
        begun: dict[Graph | Loop, Recraft] = {}

        def evaluate(variant: Variant | None) -> tuple[Tensor, Tensor | None]:
            while True:
                try:
                    if self.way not in begun:
                        begun.clear()
                        begun[self.way] = self.way.recrafted(images, labels, attack, batch_size)
                    return begun[self.way](variant)
                except PASSED_ON:
                    raise
                except Exception as error:
                    self._go_on(error)

        return evaluate

    def _go_on(self, error: Exception) -> None:
        self._tell(error)
        self.way = self._next()


class Graph:
    """Evaluates variants of a traced network."""

    def __init__(
        self,
        network: nn.Module,
        traced: Traced,
        variants: Sequence[Variant],
        *,
        parts: bool = True,
    ):
        self.network, self.traced, self.parts = network, traced, parts
        self.device = traced.device
        self.layers = every_layer(network)
        self.propagations: dict[tuple[str, str], Propagation] = {}
        self.large: dict[int, Variant] = {}
        self.shapes = shapes_of(self.layers, traced.layers)
        self.odd: dict[str, bool] = {}
        self.changes: dict[int, Mask | None] = {}
        self.reads: set[fx.Node] = set()
        self.room = max(bytes_of(value, 2) for value in traced.example.values())
        self.sizes: dict[int, int] = {}  # bytes of an image's share of what a variant begins
        self.indices: dict[tuple[int, ...], Tensor] = {}
        for variant in variants:
            change = self.changes[id(variant)] = self._change(variant)
            if change is None or not change.filters:
                continue
            propagation = self._propagation(change)
            plan = propagation.plan(change.filters)
            self.reads |= plan.reads
            whole = [(traced.example[node][0], edge) for node, edge in plan.edge.items()]
            self.sizes[id(variant)] = sum(len(e.where) * v.element_size() for v, e in whole)
            self.reads.update(s for place in propagation.places for s in place.all_input_nodes)
        self.plain: Loop | None = None  # evaluates what is large
        if self.large:
            self.plain = Loop(network, [*self.large.values()], [*traced.layers], traced.images[:1])

    def _propagation(self, mask: Mask) -> Propagation:
        key = mask.layer, mask.at
        if key not in self.propagations:
            self.propagations[key] = Propagation(self.traced, mask.layer, at=mask.at)
        return self.propagations[key]

    def _change(self, variant: Variant) -> Mask | None:
        """The filters that a variant changes, None where it is better computed as a whole."""
        if mask := variant.mask:
            places = self.traced.places(mask.layer, mask.at)
            alone = mask.layer in self.traced.direct and self.traced.apart.issuperset(places)
            return mask if alone and self.parts else None
        if variant.key is None:
            return None
        new = replaced_in(variant, self.shapes, self.device)
        if not all(value.abs().max() <= LARGE for value in new.values()):
            self.large[id(variant)] = variant
            return None
        (layer, *others) = {name.rpartition(".")[0] for name in new}
        if others or layer not in self.traced.direct or len(self.traced.nodes[layer]) > 1:
            return None
        if not self.parts:
            return None
        module = self.layers[layer]
        rows = isinstance(module, (nn.Linear, *CONVOLUTIONS))
        if not rows or getattr(module, "groups", 1) > 1:
            return None
        if not self.traced.apart.issuperset(self.traced.nodes[layer]):
            return None
        changed = torch.stack(
            [
                (value != getattr(module, name.rpartition(".")[2])).reshape(len(value), -1).any(1)
                for name, value in new.items()
            ]
        ).any(0)
        filters = tuple(changed.nonzero().flatten().tolist())
        return Mask(layer, filters, "weights") if len(filters) <= FEW * len(changed) else None

    def bytes_per_image(self, with_gradients: bool) -> int:
        """What one image of a batch takes at most, by the sizes of the values of all nodes."""
        sizes = {node: bytes_of(value, 2) for node, value in self.traced.example.items()}
        most = sorted(sizes.values())[-4:]
        plain = self.plain.bytes_per_image(with_gradients) if self.plain else 0
        if with_gradients:
            return max(3 * sum(sizes.values()), plain)
        kept = sum(sizes[node] for node in self.reads | set(self.traced.boundary))
        begun = max([self.room, *self.sizes.values()]) if self.sizes else 0
        return 2 * (kept + begun) + max(2 * sum(most), plain)

    def fixed(self, images: Tensor, batch_size: int = JOINED) -> Evaluate:
        """Evaluates variants on these images; batch_size: how many may be run at once."""
        traced = self.traced
        boundary, peaks = traced.start(images, self.reads), _Peaks(self.propagations, traced)
        values = traced.run(
            traced.after,
            boundary,
            keep=[*(self.reads - set(boundary)), traced.result],
            masked=peaks.looks,
        )
        batch = Batch(boundary | values)
        plain = self.plain.fixed(images) if self.plain else None

        most = min(batch_size, JOINED) if self.device.type == "cpu" else batch_size
        every = torch.arange(len(images), device=self.device)

        def begun(variant: Variant | None) -> _Begun | None:
            """What a variant changes in part; None where it does not, or is run as a whole."""
            change = self.changes[id(variant)] if variant else None
            if not variant or not change or not change.filters or peaks.dominated(change):
                return None
            new = partial(self._fill, change)
            if not variant.mask:
                new = partial(self._recomputed, variant, change, batch)
            propagation = self._propagation(change)
            first = propagation.start(change.filters, batch, new=new)
            return _Begun(variant, propagation, first, every) if first else None

        def alone(variant: Variant | None) -> tuple[Rows, Tensor | None]:
            """Of a variant that changes nothing in part."""
            if variant is None:
                return None, values[traced.result]
            if plain and id(variant) in self.large:
                (found,) = plain([variant])
                return found
            change = self.changes[id(variant)]
            if change and not (change.filters and peaks.dominated(change)):
                return None, None
            return None, traced.finish(boundary, **self._changes(variant))

        def evaluate(variants: Sequence[Variant | None]) -> Iterator[tuple[Rows, Tensor | None]]:
            for some in self._ahead(variants):
                left = deque(zip(some, _with_rows([*map(begun, some)]), strict=True))
                while left:
                    variant, own = left.popleft()
                    if own is None:
                        yield alone(variant)
                        continue
                    together = [own]
                    while left and own.joins(left[0][1], together, most):
                        together += filter(None, [left.popleft()[1]])
                    yield from self._finished(together, batch, every)

        return evaluate

    def _ahead(self, variants: Sequence[Variant | None]) -> Iterator[list[Variant | None]]:
        """Variants that are begun at once: no more than `AHEAD`, and no more of each image than its
        largest value takes."""
        some: list[Variant | None] = []
        taken = 0
        for variant in variants:
            own = self.sizes.get(id(variant), 0)
            if some and (len(some) == AHEAD or taken + own > self.room):
                yield some
                some, taken = [], 0
            some.append(variant)
            taken += own
        yield some

    def _finished(
        self, together: Sequence["_Begun"], batch: Batch, every: Tensor
    ) -> Iterator[tuple[Rows, Tensor | None]]:
        """(rows, logits) of each of some variants that join, or of one."""
        variant, propagation, *_ = together[0]
        if not len(together[0].rows):
            yield None, None
            return
        pairs: list[tuple[Change, Rows]] = [(own.change, own.rows) for own in together]
        if together[0].rows is every and len(together) == 1:
            pairs = [(together[0].change, None)]
        mask = partial(self._mask, variant.mask) if variant.mask else None
        logits = propagation.finish(pairs, batch, mask=mask)
        for own, part in zip(together, logits.split([len(o.rows) for o in together]), strict=True):
            yield None if own.rows is every else own.rows, part

    def recrafted(self, images: Tensor, labels: Tensor, attack: Attack, batch_size: int) -> Recraft:
        """Evaluates variants on these clean images, attacked anew for each."""
        starts = _Starts(self.traced, images, most=-(-len(images) // batch_size))
        plain = None
        if self.plain:
            plain = self.plain.recrafted(images, labels, attack, batch_size)

        def evaluate(variant: Variant | None) -> tuple[Tensor, Tensor | None]:
            if plain and id(variant) in self.large:
                return plain(variant)
            changes = self._changes(variant) if variant else {}
            clean: dict[int, Tensor] = {}

            def run(part: Tensor) -> Tensor:
                boundary, place = starts(part)
                logits = self.traced.finish(boundary, **changes)
                if place is not None:
                    clean[place] = logits.detach()
                return logits

            with torch.enable_grad():
                adversarial = attack(Forward(run, self.network), images, labels)
            logits = [
                self.traced.finish(self.traced.start(part), **changes)
                for part in adversarial.split(batch_size)
            ]
            parts = [clean[place] for place in sorted(clean)]
            begins = [0, *accumulate(map(len, parts))]
            whole = [*sorted(clean), len(images)] == begins
            return torch.cat(logits), torch.cat(parts) if whole else None

        return evaluate

    def _changes(self, variant: Variant) -> dict[str, Any]:
        """A variant as `Traced.finish` takes it."""
        if (mask := variant.mask) and mask.layer in self.traced.direct:
            places = self.traced.places(mask.layer, mask.at)
            changes: dict[str, Any] = {"masked": dict.fromkeys(places, partial(self._mask, mask))}
            if self._is_odd(mask.layer):  # 0 times NaN is NaN, on the way of a gradient, too
                new = without(mask, self.layers[mask.layer])
                changes["replaced"] = self.traced.placed(new)
            return changes
        own = mask and without(mask, self.layers[mask.layer])
        new = replaced(variant, self.device) if own is None else own
        return {"replaced": self.traced.placed(new)}

    def _is_odd(self, layer: str) -> bool:
        """Whether some parameter of a layer is large or no number."""
        if layer not in self.odd:
            own = self.layers[layer].parameters()
            self.odd[layer] = not all(parameter.abs().max() <= LARGE for parameter in own)
        return self.odd[layer]

    def _fill(self, mask: Mask, place: fx.Node) -> Tensor:
        """New elements [1, p] of removed filters."""
        silence, value = self._silence(mask), self.traced.example[place]
        each = value[0].numel() // value.shape[self.traced.axis(mask.layer)]
        along = self.traced.axis(mask.layer) == 1
        return (silence.repeat_interleave(each) if along else silence.repeat(each))[None]

    def _mask(self, mask: Mask, value: Tensor) -> Tensor:
        """A copy of a layer's output with filters removed."""
        value = value.clone()
        by_filter = value.movedim(self.traced.axis(mask.layer), -1)
        by_filter[..., self._index(mask.filters)] = self._silence(mask)
        return value

    def _silence(self, mask: Mask) -> Tensor:
        """What removed filters give instead, [filters]."""
        silent = self.traced.silent(mask.layer)[self._index(mask.filters)]
        return silent if mask.at == "weights" else torch.zeros_like(silent)

    def _index(self, filters: tuple[int, ...]) -> Tensor:
        """Some filters as an index on the device."""
        if filters not in self.indices:
            self.indices[filters] = torch.tensor(filters).to(self.device, non_blocking=True)
        return self.indices[filters]

    def _recomputed(self, variant: Variant, change: Mask, batch: Batch, place: fx.Node) -> Tensor:
        """New elements [n, p] of filters whose weights are replaced."""
        chosen, module = self._index(change.filters), self.traced.modules[str(place.target)]
        own = {name: getattr(module, name) for name in ("weight", "bias")}
        own |= self.traced.placed(replaced(variant, self.device))[place]
        rows = {name: None if value is None else value[chosen] for name, value in own.items()}
        value: Tensor = self.traced.call(place, batch.values.__getitem__, rows)
        return value.flatten(1)


class _Begun(NamedTuple):
    """A variant with what it changes in part, and the images of the batch that this reaches."""

    variant: Variant
    propagation: Propagation
    change: Change
    rows: Tensor

    def joins(self, other: "_Begun | None", together: "list[_Begun]", most: int) -> bool:
        """Whether another one is computed in one batch with those that are together already."""
        return (
            other is not None
            and other.propagation is self.propagation
            and self.change.plan.joins
            and len(self.rows) > 0 < len(other.rows)
            and sum(len(own.rows) for own in [*together, other]) <= most
            and self.change.plan.like(other.change.plan)
        )


def _with_rows(begun: Sequence[_Begun | None]) -> list[_Begun | None]:
    """The same with the images that each reaches: all of them where these are almost all. Here a
    GPU waits, once."""
    changed = [own.change.changed for own in begun if own]
    if not changed:
        return [*begun]
    reached = [each.nonzero().flatten() for each in torch.stack(changed).cpu()]
    there = torch.cat(reached).to(changed[0].device, non_blocking=True)
    rows = iter(there.split([*map(len, reached)]))

    def with_rows(own: _Begun) -> _Begun:
        part, every = next(rows), own.rows
        few = own.change.plan.apart and len(part) <= ALMOST_ALL * len(every)
        return own._replace(rows=part) if few or not len(part) else own

    return [own and with_rows(own) for own in begun]


class _Peaks:
    """The largest value that each filter of the propagated layers gives, as a batch shows it.

    looks: node -> a function for `Traced.run` that leaves its value as it is.
    """

    def __init__(self, propagations: dict[tuple[str, str], Propagation], traced: Traced):
        self.peaks: dict[tuple[str, str], Tensor] = {}
        self.listed: dict[tuple[str, str], tuple[list[float], list[int]]] = {}
        self.axes = {key: traced.axis(key[0]) for key in propagations}
        of: dict[fx.Node, list[tuple[str, str]]] = {}
        for key, propagation in propagations.items():
            for place in propagation.places:
                of.setdefault(place, []).append(key)
        self.looks = {place: partial(self._look, keys) for place, keys in of.items()}

    def _look(self, keys: Iterable[tuple[str, str]], value: Tensor) -> Tensor:
        for key in keys:
            axis = self.axes[key] % value.dim()
            peak = value.abs().amax([d for d in range(value.dim()) if d != axis])
            self.peaks[key] = torch.maximum(self.peaks.get(key, peak), peak)
        return value

    def dominated(self, change: Mask) -> bool:
        """Whether these filters give values that are not finite, or `DOMINANT` over the others."""
        key = change.layer, change.at
        if key not in self.listed:
            each = self.peaks[key].nan_to_num(torch.inf, torch.inf).cpu()
            self.listed[key] = each.tolist(), each.argsort(descending=True).tolist()
        (peaks, largest_first), chosen = self.listed[key], {*change.filters}
        own = max(peaks[unit] for unit in chosen)
        rest = next((peaks[unit] for unit in largest_first if unit not in chosen), 0.0)
        return own == torch.inf or own > DOMINANT * rest


def fitting(batch_size: int, memory: float | None, each: int) -> int:
    """How many images may be run at once, each taking so many bytes."""
    return batch_size if memory is None else max(1, min(batch_size, int(memory / each)))


class _Starts:
    """What comes before the ablated layers, for attacks that begin at the same images each time.

    Values of images that come back are kept with their graph, so that a gradient with respect to
    the images can be taken from them again and again. clean: the images that surely do. most: how
    many batches are kept.
    """

    def __init__(self, traced: Traced, clean: Tensor, *, most: int):
        self.traced, self.clean, self.most = traced, clean, most
        self.places: dict[int, dict[bytes, int]] = {}
        self.seen: set[bytes] = set()
        self.kept: dict[bytes, tuple[Tensor, dict[fx.Node, Any]]] = {}

    def __call__(self, images: Tensor) -> tuple[dict[fx.Node, Any], int | None]:
        """(values at the boundary, the first image's place among the clean ones, which follow one
        another in batches of this size; None for others and where no gradient is asked for)."""
        if not images.requires_grad:
            return self.traced.start(images), None
        digest = _digest(images)
        place = self._places(len(images)).get(digest)
        if digest not in self.kept:
            again = place is not None or digest in self.seen
            if not again or len(self.kept) >= self.most:
                self.seen.add(digest)
                return self.traced.start(images), place
            leaf = images.detach().clone().requires_grad_()
            self.kept[digest] = leaf, self.traced.start(leaf)
        leaf, boundary = self.kept[digest]
        linked = [n for n, v in boundary.items() if isinstance(v, Tensor) and v.requires_grad]
        values = _Again.apply(  # type: ignore[no-untyped-call]
            images, leaf, *(boundary[node] for node in linked)
        )
        return boundary | dict(zip(linked, values, strict=True)), place

    def _places(self, size: int) -> dict[bytes, int]:
        """Batch of so many clean images -> where it begins; the last one may be a smaller rest."""
        if size not in self.places:
            last = len(self.clean) - size
            begins = [*range(0, last + 1, size), last] if last >= 0 else []
            self.places[size] = {_digest(self.clean[i : i + size]): i for i in begins}
        return self.places[size]


def _digest(images: Tensor) -> bytes:
    return hashlib.sha256(images.detach().cpu().numpy().tobytes()).digest()


class _Again(torch.autograd.Function):
    """Values computed before from equal images: passes gradients on to the images given now."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, leaf: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.leaf, ctx.values = leaf, values
        return tuple(value.detach().view_as(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pairs = [(v, g) for v, g in zip(ctx.values, gradients, strict=True) if g is not None]
        (gradient,) = torch.autograd.grad(
            [v for v, _ in pairs], ctx.leaf, [g for _, g in pairs], retain_graph=True
        )
        return gradient, None, *[None] * len(gradients)
