"""What changes in a network when some filters of one layer do, and nothing else.

A changed filter first changes single channels: element-wise operations, pooling, depthwise
convolutions, skips, concatenations and channel shuffles pass these on alone. The next layer that
mixes channels changes as a whole, by a term of low rank that is added to what it gave before. Only
what comes after that has to be computed anew, and only for the images where anything changed. What
mixes elements in any other way, such as LayerNorm or attention, is computed anew at once.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from faultline.ablation.tracing import (
    CONVOLUTIONS,
    NORMS,
    BatchNorm,
    Convolution,
    Traced,
    holds_tensor,
)
from faultline.networks.operations import Kind, operation

ALMOST_ALL = 0.9
"""Share of changed images from which on picking them out costs more than it saves."""

Values = dict[fx.Node, Tensor]


class Part(NamedTuple):
    """The elements of a node's value that a change reaches.

    where:   positions [p] in the flattened value of one image, on the CPU.
    compute: (new elements of the parts before, base values) -> new elements [n or 1, p]; None at
             the place where the change is made.
    """

    where: Tensor
    compute: Callable[[Values, "Batch"], Tensor] | None


class Edge(NamedTuple):
    """Where the elements of a part lie, on the device: positions [p] in the flattened value of one
    image, and the channels that they make up, None if not whole ones."""

    where: Tensor
    channels: Tensor | None


class Mixed(NamedTuple):
    """A layer that changes as a whole, by `term` of the difference [n, p] of a part before it."""

    source: fx.Node
    term: Callable[[Tensor], Tensor]


class Plan(NamedTuple):
    """How a change spreads: nodes that change in part, and nodes that change as a whole, in order.

    Those without a Mixed are computed anew. edge: parts that nodes outside of `parts` read.
    reads: nodes whose base values are needed. apart: whether images can be picked out of these.
    joins: whether images of several changes can be computed as one batch. last: node of `whole` ->
    what no later one reads.
    """

    parts: dict[fx.Node, Part]
    whole: dict[fx.Node, Mixed | None]
    edge: dict[fx.Node, Edge]
    reads: set[fx.Node]
    apart: bool
    joins: bool
    last: dict[fx.Node, list[fx.Node]]

    def like(self, other: "Plan") -> bool:
        """Whether the same nodes change as a whole, in the same way."""
        sources = [[mixed and mixed.source for mixed in p.whole.values()] for p in (self, other)]
        edges = [[*p.edge] for p in (self, other)]
        return [*self.whole] == [*other.whole] and sources[0] == sources[1] and edges[0] == edges[1]


class Change(NamedTuple):
    """What a plan changes in part, for one batch of images.

    elements: node at the edge -> new elements [n or 1, p]. differences: the same less those of the
    base, [n, p]. changed: the images with any, bool [n].
    """

    plan: Plan
    elements: Values
    differences: Values
    changed: Tensor


Rows = Tensor | None
"""Images of a batch, by their places; None for all of it."""


class Batch:
    """Base values of one batch of images."""

    def __init__(self, values: dict[fx.Node, Any]):
        self.values = values
        self._flat: Values = {}

    def flat(self, node: fx.Node) -> Tensor:
        """[n, elements]"""
        if node not in self._flat:
            self._flat[node] = self.values[node].flatten(1)
        return self._flat[node]


class Propagation:
    """Plans and carries out changes of some filters of one layer of a traced network.

    at: "weights" changes the layer's own output, "activation" what is behind its normalisation and
    non-linearity.
    """

    def __init__(self, traced: Traced, layer: str, *, at: str):
        self.traced, self.layer = traced, layer
        self.places = traced.places(layer, at)
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._sources: dict[tuple[fx.Node, fx.Node], Tensor | None] = {}

    def start(
        self, filters: Sequence[int], batch: Batch, *, new: Callable[[fx.Node], Tensor]
    ) -> Change | None:
        """What changes in part; None where nothing does. new: place -> new elements
        [n or 1, filters x elements of each]. Nothing here waits for a GPU."""
        plan = self.plan(filters)
        elements: Values = {}
        for node, part in plan.parts.items():
            elements[node] = part.compute(elements, batch) if part.compute else new(node)
        differences = {
            node: elements[node] - batch.flat(node)[:, edge.where]
            for node, edge in plan.edge.items()
        }
        if not differences:
            return None
        changed = torch.stack([d.ne(0).any(1) for d in differences.values()]).any(0)
        return Change(plan, {node: elements[node] for node in plan.edge}, differences, changed)

    def finish(
        self,
        changes: Sequence[tuple[Change, Rows]],
        batch: Batch,
        *,
        mask: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The logits of images with their changes, one change after the other.

        Of several changes the plans are alike and join, and all rows are named. mask: the same
        change made in a whole value, where the layer is used again behind its first change.
        """
        plan = changes[0][0].plan
        (_, first), *others = changes
        rows = torch.cat([rows for _, rows in changes if rows is not None]) if others else first
        sizes = [len(change.changed) if rows is None else len(rows) for change, rows in changes]
        whole: dict[fx.Node, Any] = {}

        def joined(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts) if others else parts[0]

        def pick(value: Tensor, rows: Rows = rows) -> Tensor:
            return value if rows is None else value[rows]

        def put(node: fx.Node, value: Tensor, change: Change, rows: Rows) -> Tensor:
            own = change.elements[node]
            own = own if len(own) == 1 else pick(own, rows)
            return _put(value, change.plan.edge[node], own)

        def value(node: fx.Node) -> Any:
            if node not in whole:
                if not holds_tensor(self.traced.example[node]):
                    return self.traced.call(node, value)  # a size may be that of the batch
                shared = node in self.traced.shared
                whole[node] = batch.values[node] if shared else pick(batch.values[node])
                if node in plan.parts:
                    pieces = zip(whole[node].split(sizes), changes, strict=True)
                    whole[node] = joined([put(node, piece, *change) for piece, change in pieces])
            return whole[node]

        for node, mixed in plan.whole.items():
            if mixed:
                terms = [
                    own.term(pick(change.differences[own.source], rows))
                    for change, rows in changes
                    if (own := change.plan.whole[node])
                ]
                whole[node] = pick(batch.values[node]) + joined(terms)
            else:
                whole[node] = self.traced.call(node, value)
                if mask and node in self.places:
                    whole[node] = mask(whole[node])
            for used in plan.last.get(node, ()):
                whole.pop(used, None)
        logits: Tensor = value(self.traced.result)
        return logits

    def plan(self, filters: Sequence[int]) -> Plan:
        """How a change of these filters spreads."""
        filters = tuple(filters)
        if filters not in self._plans:
            self._plans[filters] = self._make(filters)
        return self._plans[filters]

    def _make(self, filters: tuple[int, ...]) -> Plan:
        example = self.traced.example
        parts: dict[fx.Node, Part] = {}
        whole: dict[fx.Node, Mixed | None] = {}
        for node in self.traced.after:
            inputs = node.all_input_nodes
            reached = any(source in parts for source in inputs)
            if any(source in whole for source in inputs) or (reached and node in self.places):
                whole[node] = None
            elif node in self.places:
                parts[node] = Part(self._positions(node, filters), None)
            elif reached:
                change = self._rule(node, {s: parts[s].where for s in inputs if s in parts})
                if isinstance(change, Part):
                    if len(change.where):
                        parts[node] = change
                elif holds_tensor(example[node]):
                    whole[node] = change
        consumed = _tensors_before(whole, example) | {self.traced.result}
        reads = _tensors_before([n for n, p in parts.items() if p.compute], example) - set(parts)
        reads |= {node for node in consumed if node not in whole}
        reads |= {node for node, mixed in whole.items() if mixed}
        last: dict[fx.Node, list[fx.Node]] = {}
        for read, node in _last_reads(whole, example).items():
            if read is not self.traced.result:
                last.setdefault(node, []).append(read)
        apart = reads <= self.traced.apart | self.traced.shared
        edge = {n: self._edge(n, parts[n].where) for n in parts if n in consumed}
        joins = apart and whole.keys().isdisjoint(self.places)
        return Plan(parts, whole, edge, reads, apart, joins, last)

    def _edge(self, node: fx.Node, where: Tensor) -> Edge:
        channels = self._channels(node, where)
        return Edge(self._there(where), None if channels is None else self._there(channels))

    def _there(self, index: Tensor) -> Tensor:
        """An index on the device of the values, which need not wait for it."""
        return index.to(self.traced.device, non_blocking=True)

    def _positions(self, node: fx.Node, filters: Sequence[int]) -> Tensor:
        """Positions of some filters in the flattened output of the layer, in its order."""
        value = self.traced.example[node][0]
        axis = 0 if self.traced.axis(self.layer) == 1 else -1
        chosen = torch.tensor(filters)
        return self._every(node).view(value.shape).index_select(axis, chosen).flatten()

    def _rule(self, node: fx.Node, where: Values) -> Part | Mixed | None:
        """What a node makes of parts of its inputs, given their positions; None: compute it."""
        traced, example = self.traced, self.traced.example
        module = traced.modules[str(node.target)] if node.op == "call_module" else None
        name, kind, _ = operation(node, traced.modules)
        source = next(iter(where))
        tensors = [s for s in node.all_input_nodes if holds_tensor(example[s])]
        if not traced.apart.issuperset({node, *tensors} - traced.shared):
            return None
        if kind in (Kind.MOVING, Kind.TRANSPARENT):
            return self._move(node, where)
        same = traced.shared.isdisjoint(tensors)
        same = same and all(_shape(example[s]) == _shape(example[node]) for s in tensors)
        if same and kind in (Kind.ACTIVATION, Kind.ARITHMETIC):
            first = where[source]
            if all(len(w) == len(first) and bool((w == first).all()) for w in where.values()):
                there = self._there(first)
                return Part(first, lambda new, batch: self._at(node, new, batch, there))
        if len(tensors) > 1 or not isinstance(example[source], Tensor):
            return None
        neurons = self._neurons(source, where[source]) if type(module) is nn.Linear else None
        if isinstance(module, nn.Linear) and neurons is not None:
            weight, size = module.weight[:, self._there(neurons)].T, example[node].shape[1:]
            inputs = (-1, *size[:-1], len(neurons))
            return Mixed(source, lambda difference: difference.view(inputs) @ weight)
        channels = self._channels(source, where[source])
        if channels is None:
            return None
        shape, there = (-1, len(channels), *example[source].shape[2:]), self._there(channels)
        compute: Callable[[Tensor], Tensor] | None = None
        if (
            isinstance(module, Convolution)
            and type(module) in CONVOLUTIONS
            and module.padding_mode == "zeros"
        ):
            if module.groups == 1:
                weight = module.weight[:, there]
                if self.traced.laid_out and weight.dim() == 4:
                    weight = weight.contiguous(memory_format=torch.channels_last)
                term = _convolution(module, weight, None, groups=1)
                return Mixed(source, lambda difference: term(difference.view(shape)))
            if module.groups == module.in_channels == module.out_channels:
                bias = None if module.bias is None else module.bias[there]
                compute = _convolution(module, module.weight[there], bias, groups=len(channels))
        elif isinstance(module, NORMS) and type(module) in NORMS and module.track_running_stats:
            compute = _normalisation(module, there)
        elif kind is Kind.POOLING and (
            example[source].dim() == 4 if name != "mean" else _is_spatial_mean(node, example)
        ):
            compute = partial(self._pooled, node)
        out = example[node]
        if (
            compute is None
            or not isinstance(out, Tensor)
            or out.dim() not in (2, example[source].dim())
        ):
            return None
        positions = self._every(node).view(out.shape[1], -1)[channels].flatten()
        return Part(positions, lambda new, _: compute(new[source].reshape(shape)).flatten(1))

    def _pooled(self, node: fx.Node, value: Tensor) -> Tensor:
        """What a node with one input makes of it."""
        pooled: Tensor = self.traced.call(node, lambda _: value)
        return pooled

    def _at(self, node: fx.Node, new: Values, batch: Batch, where: Tensor) -> Tensor:
        """An element-wise operation on some elements only."""
        elements: Tensor = self.traced.call(
            node,
            lambda source: (
                new[source] if source in new
                else batch.flat(source)[:, where] if holds_tensor(self.traced.example[source])
                else self.traced.example[source]
            ),
        )  # fmt: skip
        return elements

    def _move(self, node: fx.Node, where: Values) -> Part | None:
        """Elements that a node only puts elsewhere, or drops, or repeats."""
        if not isinstance(self.traced.example[node], Tensor):
            (source,) = where  # the pieces of a split are told apart when they are taken
            return Part(where[source], lambda new, _: new[source])
        places: list[Tensor] = []
        chosen: Values = {}
        for source, positions in where.items():
            origin = self._origin(node, source)
            if origin is None:
                return None
            slots = origin.new_full((int(origin.max().clamp(min=positions.max())) + 2,), -1)
            slots[positions] = torch.arange(len(positions))
            slot = slots[origin]  # -1 reads the last one, which is free
            places.append((slot >= 0).nonzero().flatten())
            chosen[source] = self._there(slot[places[-1]])

        def compute(new: Values, _: Batch) -> Tensor:
            pieces = [new[source][:, slot] for source, slot in chosen.items()]
            n = max(map(len, pieces))
            return torch.cat([piece.expand(n, -1) for piece in pieces], 1)

        return Part(torch.cat(places), compute)

    def _origin(self, node: fx.Node, source: fx.Node) -> Tensor | None:
        """For each element of a node, its position in a flattened input; -1: it is not from it.

        Found by moving positions in place of values; None where images do not stay apart.
        """
        if (node, source) not in self._sources:
            example = self.traced.example

            def positions(other: fx.Node) -> Any:
                value = example[other]
                if not holds_tensor(value):
                    return value
                if not isinstance(value, Tensor):
                    return self.traced.call(other, positions)
                if other in self.traced.shared:  # an index, of every image
                    return value.cpu()
                mine = other is source or (source not in tensors and other in split)
                flat = self._every(other).double()
                return (flat if mine else flat * 0 - 1).view(value[:1].shape).expand(value.shape)

            tensors = {s for s in node.all_input_nodes if isinstance(example[s], Tensor)}
            split = source.all_input_nodes
            others = tensors - self.traced.shared - {source}
            if not all(example[other].is_floating_point() for other in others):
                self._sources[node, source] = None  # an index of each image's own
                return None
            moved = self.traced.call(node, positions)
            apart = len(moved) == len(example[node]) and bool((moved == moved[:1]).all())
            self._sources[node, source] = moved[0].flatten().long() if apart else None
        return self._sources[node, source]

    def _every(self, node: fx.Node) -> Tensor:
        return torch.arange(self.traced.example[node][0].numel())

    def _channels(self, node: fx.Node, where: Tensor) -> Tensor | None:
        """The channels that positions in values [n, C, ...] make up, None if not whole ones."""
        value = self.traced.example[node]
        if value.dim() < 3:
            return None
        size = value[0, 0].numel()
        if len(where) % size:
            return None
        channels = where[::size] // size
        each = channels[:, None] * size + torch.arange(size)
        return channels if bool((each.flatten() == where).all()) else None

    def _neurons(self, node: fx.Node, where: Tensor) -> Tensor | None:
        """As `_channels`, of values [n, ..., C]."""
        value = self.traced.example[node]
        size = value.shape[-1]
        places = torch.arange(0, value[0].numel(), size)
        neurons = where[: len(where) // len(places)]
        each = (places[:, None] + neurons).flatten()
        return neurons if len(neurons) and torch.equal(each, where) else None


def _put(value: Tensor, edge: Edge, elements: Tensor) -> Tensor:
    """A copy of the value of a node with new elements at some positions, in the same layout."""
    if edge.channels is not None:
        value = value.clone()
        shape = (len(elements), len(edge.channels), *value.shape[2:])
        value[:, edge.channels] = elements.view(shape)
        return value
    flat = value.flatten(1).clone()
    flat[:, edge.where] = elements
    return torch.empty_like(value).copy_(flat.view(value.shape))


def _tensors_before(nodes: Iterable[fx.Node], example: dict[fx.Node, Any]) -> set[fx.Node]:
    """Nodes with tensors that some nodes read, be it only for their sizes."""
    return set(_last_reads(nodes, example))


def _last_reads(nodes: Iterable[fx.Node], example: dict[fx.Node, Any]) -> dict[fx.Node, fx.Node]:
    """Node with tensors -> the last of `nodes` that reads it, be it only for its size."""
    last = {}
    for node in nodes:
        left = list(node.all_input_nodes)
        while left:
            source = left.pop()
            if holds_tensor(example[source]):
                last[source] = node
            else:
                left += source.all_input_nodes
    return last


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _convolution(
    module: Convolution, weight: Tensor, bias: Tensor | None, *, groups: int
) -> Callable[[Tensor], Tensor]:
    settings = module.stride, module.padding, module.dilation, groups
    return lambda value: CONVOLUTIONS[type(module)](value, weight, bias, *settings)


def _normalisation(module: BatchNorm, channels: Tensor) -> Callable[[Tensor], Tensor]:
    mean, variance, weight, bias = (
        None if of is None else of[channels]
        for of in (module.running_mean, module.running_var, module.weight, module.bias)
    )
    return lambda value: F.batch_norm(value, mean, variance, weight, bias, False, 0.0, module.eps)


def _is_spatial_mean(node: fx.Node, example: dict[fx.Node, Any]) -> bool:
    dims: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())
    every = example[node.all_input_nodes[0]].dim()
    return isinstance(dims, tuple | list) and {d % every for d in dims} == {*range(2, every)}
