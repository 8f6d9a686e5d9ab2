"""A network as a graph that can be run from any of its layers on, fitted to one shape of images.

The graph gives the network's logits up to rounding with less work: BatchNorm is folded into the
convolution before it, kernel taps that only ever meet padding are cut, and a linear layer that
reads the same pixel many times (torchvision's AlexNet and VGG on small images) reads it once.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_weights

from faultline.ablation.variants import is_behind
from faultline.base.errors import UserError, first_line, some
from faultline.networks.architectures import body_of, path_of_body
from faultline.networks.evaluation import evaluation, finite, scale
from faultline.networks.layers import every_layer, filters, kind, own_weight
from faultline.networks.layers import layers as layers_of
from faultline.networks.layout import lay_out
from faultline.networks.operations import ACTIVATIONS, Kind, operation
from faultline.networks.plain import State, copied, forget, preserved
from faultline.networks.symbolic import Tracer

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DIRECT = (
    *(*CONVOLUTIONS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.Linear, nn.Embedding, nn.EmbeddingBag),
)
"""Modules of which a unit without weights and bias gives 0, and no other unit changes."""

Step = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""(weight, bias) of a layer of the network -> those of the graph."""

Replaced = Mapping[str, Tensor | None]
"""What a node takes in place of parameters, by their names in it."""

Module = TypeVar("Module", bound=nn.Module)

PASSED_ON = (UserError, MemoryError, torch.OutOfMemoryError)
"""Errors that no other way of evaluating a network helps against."""


class Untraceable(Exception):
    """The network has no graph that gives its logits; the message says why."""


class Traced:
    """A copy of a network in eval mode, as a graph.

    A layer is in the graph as a call of its own, as a call of a larger module that stays whole
    (nn.TransformerEncoder, or one that torch.fx cannot trace), or as parameters that a function
    takes.

    network: any module whose own forward torch.fx can trace; it stays as it is, in its mode too.
    ablated: names of the layers that variants change. images: some of those that it will be run on,
    [n, ...] with n >= 1; every later batch has their shape. Raises Untraceable where the graph
    cannot be made or does not give the network's logits on `images`, UserError where a layer is not
    in the network.
    """

    def __init__(self, network: nn.Module, ablated: Sequence[str], images: Tensor):
        self.images = images
        try:
            self._make(network, ablated, images)
        except (Untraceable, *PASSED_ON):
            raise
        except Exception as error:
            kind, reason = type(error).__name__, first_line(error)
            raise Untraceable(f"its graph cannot be made ({kind}: {reason})") from None

    def _make(self, network: nn.Module, ablated: Sequence[str], images: Tensor) -> None:
        network_copy = copied(network).requires_grad_(False)
        tracer = _Tracer()
        try:
            with preserved(network_copy):
                traced = fx.GraphModule(network_copy, tracer.trace(network_copy))
            self.graph = _out_of_place(traced.graph)
        except Untraceable:
            raise
        except Exception as error:
            raise Untraceable(f"it cannot be traced by torch.fx ({first_line(error)})") from None
        self.modules = dict(traced.named_modules(remove_duplicate=False))
        self.attributes, self.whole = traced, tracer.whole
        for module in self.modules.values():
            if getattr(module, "inplace", False):
                module.inplace = False
        self.prefix = path_of_body(network)
        self._find(network_copy, ablated)
        called = {str(n.target) for n in self.graph.nodes if n.op == "call_module"}
        self.keeping = {target for target in called if _may_keep(self.modules[target])}
        self._uses = Counter(str(n.target) for n in self.graph.nodes if n.op == "call_module")
        self._adapted: dict[str, list[Step]] = {}
        self._original: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._silent: dict[str, Tensor] = {}
        self._states: dict[nn.Module, State] = {}
        self.device = images.device
        two = images[:2] if len(images) > 1 else torch.cat([images, images])
        try:
            self.example = self._shapes(two)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = first_line(error)
            raise Untraceable(f"its trace by torch.fx does not run ({reason})") from None
        for node in list(self.graph.nodes):
            self._fold_batchnorm(node)
        for node in list(self.graph.nodes):
            self._cut_taps(node)
            self._read_once(node)
        self.laid_out = lay_out(traced)
        self.example = self._shapes(two)
        one = self._shapes(two[:1])
        self.apart = {n for n, value in self.example.items() if _is_apart(value, one[n])}
        self.shared = {n for n, value in self.example.items() if _shape(value) == _shape(one[n])}
        self._split()
        self._check(network, images)

    def _find(self, network: nn.Module, ablated: Sequence[str]) -> None:
        """Where the ablated layers are.

        nodes: layer -> nodes that hold it. reads: parameter by its full name -> (node, its name in
        the node's module, "" for the node itself), of other names that it is tied to, too. direct:
        the layers that are called by themselves and nowhere else, with nothing between.
        """
        read: dict[int, list[tuple[fx.Node, str]]] = {}
        for node in self.graph.nodes:
            if node.op == "call_module":
                module = self.modules[str(node.target)]
                for name, parameter in module.named_parameters(remove_duplicate=False):
                    read.setdefault(id(parameter), []).append((node, name))
            elif node.op == "get_attr" and node.users:
                read.setdefault(id(_attribute(self.attributes, node.target)), []).append((node, ""))
        layers, reach_logits = every_layer(network), self._live()
        self.nodes: dict[str, list[fx.Node]] = {}
        self.reads: dict[str, list[tuple[fx.Node, str]]] = {}
        self.direct: set[str] = set()
        self.layers: dict[str, nn.Module] = {}
        for layer in ablated:
            own = layers.get(layer)
            of = {n: read.get(id(p), []) for n, p in own.named_parameters()} if own else {}
            holders = {node for places in of.values() for node, _ in places}
            if own is None or not holders:
                raise UserError(
                    f"layer {layer!r} is not used by the network; "
                    f"there are: {some(layers_of(network))}"
                )
            weight, live = own_weight(own), holders & reach_logits
            if live and not any(node in live for node, _ in of.get(weight, [])):
                raise UserError(unread(layer, weight))
            self.layers[layer] = own
            self.nodes[layer] = [node for node in self.graph.nodes if node in holders]
            self.reads |= {f"{layer}.{name}": places for name, places in of.items()}
            if _is_direct(own) and all(n.target == self.prefix + layer for n in holders):
                self.direct.add(layer)

    def _live(self) -> set[fx.Node]:
        """The nodes that the logits come from."""
        live: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            if node.op == "output" or not live.isdisjoint(node.users):
                live.add(node)
        return live

    def is_inside_whole(self) -> bool:
        """Whether all ablated layers lie in modules that torch.fx cannot trace."""
        every = (node for nodes in self.nodes.values() for node in nodes)
        return all(str(node.target) in self.whole for node in every)

    def placed(self, replaced: dict[str, Tensor]) -> dict[fx.Node, Replaced]:
        """Node -> what it takes in place of parameters.

        replaced: parameters of the network's layers by their full names.
        """
        by_node: dict[fx.Node, dict[str, Tensor | None]] = {}
        for full, value in replaced.items():
            for node, name in self.reads[full]:
                by_node.setdefault(node, {})[name] = value
        for node, own in by_node.items():
            if steps := self._adapted.get(str(node.target)):
                weight, bias = self._original[str(node.target)]
                weight, bias = cast(Tensor, own.get("weight", weight)), own.get("bias", bias)
                for step in steps:
                    weight, bias = step(weight, bias)
                by_node[node] = {"weight": weight, "bias": bias}
        return {**by_node}

    def silent(self, layer: str) -> Tensor:
        """What each filter of a layer gives in the graph where its weights and bias are 0, [C]."""
        module = self.modules[self.prefix + layer]
        zeros = cast(Tensor, module.weight).new_zeros(filters(module))
        return self._silent.get(self.prefix + layer, zeros)

    def start(self, images: Tensor, also: Container[fx.Node] = ()) -> dict[fx.Node, Any]:
        """Values at the boundary: all that the ablated layers and what follows take from before.

        also: further nodes, of which those before the boundary are kept.
        """
        if self.laid_out and images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        keep = dict.fromkeys([*self.boundary, *(node for node in self.before if node in also)])
        return self.run(self.before, {}, keep=keep, images=images)

    def finish(self, boundary: dict[fx.Node, Any], **changes: Any) -> Tensor:
        """Logits from the boundary on; `changes` as in `run`."""
        logits: Tensor = self.run(self.after, boundary, keep=[self.result], **changes)[self.result]
        return logits

    def axis(self, layer: str) -> int:
        """The dimension of a layer's output along which its filters lie."""
        return 1 if kind(self.layers[layer]) == "conv" else -1

    def places(self, layer: str, at: str) -> list[fx.Node]:
        """Where a filter is removed: at "weights" the layer's own output, at "activation" behind
        its normalisation and non-linearity, if any. Raises UserError where the graph does not show
        the latter.
        """
        nodes = self.nodes[layer]
        if not is_behind(self.layers[layer], at):
            return nodes
        if layer not in self.direct:
            raise UserError(
                f"layer {layer!r} is used inside of what torch.fx does not look into, so it is not "
                "seen where its activations are; "
                'remove filters at "weights" (config key nodal_dropout: at)'
            )
        return [_activation(self.modules, node) for node in nodes]

    def run(
        self,
        nodes: Iterable[fx.Node],
        values: Mapping[fx.Node, Any],
        *,
        keep: Iterable[fx.Node],
        images: Tensor | None = None,
        replaced: Mapping[fx.Node, Replaced] | None = None,
        masked: Mapping[fx.Node, Callable[[Tensor], Tensor]] | None = None,
    ) -> dict[fx.Node, Any]:
        """Values of the nodes `keep`, where `values` holds what is computed already.

        replaced: as `placed` gives it. masked: node -> function of its value.
        """
        replaced, masked = replaced or {}, masked or {}
        values, keep = dict(values), list(keep)
        last_use = {source: node for node in nodes for source in node.all_input_nodes}
        kept = set(keep)
        for node in nodes:
            if node.op == "placeholder":
                values[node] = images
            else:
                values[node] = self.call(node, values.__getitem__, replaced.get(node))
            if node in masked:
                values[node] = masked[node](values[node])
            for source in node.all_input_nodes:
                if last_use[source] is node and source not in kept:
                    values.pop(source, None)
        return {node: values[node] for node in keep}

    def call(
        self, node: fx.Node, value: Callable[[fx.Node], Any], replaced: Replaced | None = None
    ) -> Any:
        """The value of one node, from those of its inputs; `replaced`: parameters of its own."""
        if node.op == "get_attr":
            return replaced[""] if replaced else _attribute(self.attributes, node.target)
        args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        if node.op == "call_function" and callable(node.target):
            return node.target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        module = self.modules[str(node.target)]
        if node.target in self.whole:  # it may work in place, or view what it takes
            args, kwargs = fx.node.map_aggregate((args, kwargs), _copied)
        if node.target not in self.keeping:
            return self._called(module, args, kwargs, replaced)
        forget(module)  # what it made of other weights
        state = self._states.get(module) or self._states.setdefault(module, State(module))
        with preserved(module, state):
            return self._called(module, args, kwargs, replaced)

    @staticmethod
    def _called(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], replaced: Replaced | None
    ) -> Any:
        if not replaced:
            return module(*args, **kwargs)
        if not kwargs and _is_direct(module) and isinstance(module, nn.Linear | Convolution):
            weight, bias = (replaced.get(n, getattr(module, n)) for n in ("weight", "bias"))
            if isinstance(module, nn.Linear):
                return F.linear(args[0], weight, bias)
            return module._conv_forward(args[0], weight, bias)
        return functional_call(
            module, cast(dict[str, Tensor], replaced), args, kwargs, tie_weights=False
        )

    def _shapes(self, images: Tensor) -> dict[fx.Node, Any]:
        """Values of every node on a few images."""
        nodes = [n for n in self.graph.nodes if n.op != "output"]
        with torch.no_grad():
            return self.run(nodes, {}, keep=nodes, images=images)

    def _split(self) -> None:
        reached = {node for nodes in self.nodes.values() for node in nodes}
        for node in self.graph.nodes:
            if any(source in reached for source in node.all_input_nodes):
                reached.add(node)
        self.after = [n for n in self.graph.nodes if n in reached and n.op != "output"]
        self.before = [n for n in self.graph.nodes if n not in reached and n.op != "output"]
        needed = {s for n in reached for s in n.all_input_nodes} - reached
        output = next(n for n in self.graph.nodes if n.op == "output")
        self.result = cast(fx.Node, output.args[0])
        if self.result not in reached:
            needed.add(self.result)
        self.boundary = [n for n in self.before if n in needed]

    def _check(self, network: nn.Module, images: Tensor) -> None:
        with torch.no_grad():
            with evaluation(network):
                expected = network(images.clone())
            logits = self.finish(self.start(images))
            alone = self.finish(self.start(images[:1]))
        # far above rounding, which grows with depth, and far below any other network
        tolerance = 1e-2 * scale(expected).item()
        if not torch.allclose(logits, expected, rtol=0, atol=tolerance, equal_nan=True):
            raise Untraceable(
                "its trace by torch.fx gives other logits; its forward may use a tensor again "
                "after changing it in place"
            )
        if not torch.allclose(alone, expected[:1], rtol=0, atol=tolerance, equal_nan=True):
            raise Untraceable("what it gives for an image depends on the others in the batch")
        if not finite(expected).any():  # NaN equals NaN: nothing was compared
            Traced(_mended(network), list(self.layers), images)

    def _module(self, node: fx.Node | None, *kinds: type[Module]) -> Module | None:
        """The module that a node calls, if it is of these kinds and is called nowhere else."""
        if node and node.op == "call_module" and self._uses[str(node.target)] == 1:
            module = self.modules[str(node.target)]
            hooked = module._forward_pre_hooks or module._forward_hooks
            return cast(Module, module) if type(module) in kinds and not hooked else None
        return None

    def _convolution(self, node: fx.Node | None) -> Convolution | None:
        return cast(Convolution | None, self._module(node, *CONVOLUTIONS))

    def _adapt(self, node: fx.Node, module: nn.Linear | Convolution, step: Step) -> None:
        """Put `module`, with the parameters that `step` makes of its own, in the node's place."""
        path = str(node.target)
        self._original.setdefault(path, (module.weight, module.bias))
        weight, bias = step(module.weight, module.bias)
        module.weight = nn.Parameter(weight, requires_grad=False)
        module.register_parameter(
            "bias", None if bias is None else nn.Parameter(bias, requires_grad=False)
        )
        self._adapted.setdefault(path, []).append(step)

    def _fold_batchnorm(self, node: fx.Node) -> None:
        norm = cast(BatchNorm | None, self._module(node, *NORMS))
        source = next(iter(node.all_input_nodes), None) if norm else None
        conv = self._convolution(source)
        if not source or not conv or not norm or not norm.track_running_stats:
            return
        if len(source.users) != 1 or any(node in nodes for nodes in self.nodes.values()):
            return
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)

        def fold(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            return fuse_conv_bn_weights(
                weight, bias, mean, variance, norm.eps, norm.weight, norm.bias
            )

        self._silent[str(source.target)] = fold(torch.zeros_like(conv.weight), None)[1]
        self._adapt(source, conv, fold)
        node.replace_all_uses_with(source)
        self.graph.erase_node(node)

    def _cut_taps(self, node: fx.Node) -> None:
        conv = self._convolution(node)
        if not conv or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            return
        taps: list[slice] = []
        padding: list[int] = []
        before, after = (self.example[n].shape[2:] for n in (node.all_input_nodes[0], node))
        sizes = zip(before, after, strict=True)
        for axis, (size, out) in enumerate(sizes):
            pad, step, gap = conv.padding[axis], conv.stride[axis], conv.dilation[axis]
            used = [
                tap
                for tap in range(conv.kernel_size[axis])
                if any(0 <= at * step + tap * gap - pad < size for at in range(out))
            ]
            low, high = used[0], used[-1] + 1
            left = pad - low * gap
            if left < 0 or (size + 2 * left - (high - low - 1) * gap - 1) // step + 1 != out:
                low, high, left = 0, conv.kernel_size[axis], pad
            taps.append(slice(low, high))
            padding.append(left)
        cut = (slice(None), slice(None), *taps)
        if conv.weight[cut].shape != conv.weight.shape:
            self._adapt(node, conv, lambda weight, bias: (weight[cut].contiguous(), bias))
            conv.padding, conv.kernel_size = tuple(padding), tuple(conv.weight.shape[2:])

    def _read_once(self, node: fx.Node) -> None:
        """Drop a pooling that only repeats pixels in front of a linear layer; sum its weights."""
        linear, source = self._module(node, nn.Linear), node
        while linear and [len(n.users) for n in source.all_input_nodes] == [1]:
            (source,) = source.all_input_nodes
            transparent = operation(source, self.modules).kind is Kind.TRANSPARENT
            if not transparent and not self._flattens(source):
                break
        if not linear or not self._module(source, nn.AdaptiveAvgPool2d):
            return
        before = source.all_input_nodes[0]
        channels, *size = self.example[before].shape[1:]
        times = [out // own for out, own in zip(self.example[source].shape[2:], size, strict=True)]
        shape = (-1, channels, size[0], times[0], size[1], times[1])
        if math.prod(shape[1:]) != linear.in_features or math.prod(times) == 1:
            return  # some of its windows overlap, or it repeats nothing
        self._adapt(
            node,
            linear,
            lambda weight, bias: (_sum_repeated(weight, shape), bias),
        )
        source.replace_all_uses_with(before)
        self.graph.erase_node(source)

    def _flattens(self, node: fx.Node) -> bool:
        """Whether a node makes one vector of each image's channels."""
        is_one = operation(node, self.modules).name == "flatten"
        before = [self.example[source] for source in node.all_input_nodes]
        return is_one and self.example[node].dim() == 2 and before[0].dim() == 4


class _Tracer(Tracer):
    """Modules of torch.nn stay whole, and those that cannot be traced: the innermost ones.

    whole: paths of the latter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.whole: set[str] = set()

    def call_module(
        self,
        module: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        count, stack = len(self.graph.nodes), self.module_stack.copy()
        try:
            return super().call_module(module, forward, args, kwargs)
        except Exception:
            if module is body_of(self.root):
                raise
            for node in reversed(list(self.graph.nodes)[count:]):
                if node.op != "get_attr":  # these may be used again
                    self.graph.erase_node(node)
            self.module_stack = stack
            path = self.path_of_module(module)
            self.whole.add(path)
            return self.create_proxy("call_module", path, args, kwargs)


def _mended(network: nn.Module) -> nn.Module:
    """A copy with 0 for parameters and buffers that are NaN or infinite. Raises Untraceable where
    there are none."""
    mended = copied(network)
    broken = [t for t in (*mended.parameters(), *mended.buffers()) if not t.isfinite().all()]
    for tensor in broken:
        tensor.data.nan_to_num_(0.0, 0.0, 0.0)
    if not broken:
        raise Untraceable("its logits are not finite, so its trace cannot be compared with it")
    return mended


def _is_direct(module: nn.Module) -> bool:
    """Whether it is as torch.nn makes it, one of `_DIRECT` whose units keep apart."""
    return (
        type(module) in _DIRECT
        and {name for name, _ in module.named_parameters()} <= {"weight", "bias"}
        and getattr(module, "max_norm", None) is None
        and not (module._forward_pre_hooks or module._forward_hooks)
    )


def unread(layer: str, weight: str) -> str:
    """What to say of a layer whose weight has no effect, but others of its parameters do."""
    return (
        f"layer {layer!r}: the logits do not depend on its {weight}, but on others of its "
        "parameters; if the network keeps what it made of it, let train() forget that"
    )


def _may_keep(module: nn.Module) -> bool:
    """Whether it may keep what it makes in a call for the next one; modules of torch.nn do not."""
    return not all(type(part).__module__.startswith("torch.nn.") for part in module.modules())


def _attribute(module: nn.Module, path: object) -> Any:
    return functools.reduce(getattr, str(path).split("."), module)


def _copied(value: Any) -> Any:
    return value.clone(memory_format=torch.contiguous_format) if torch.is_tensor(value) else value


def _shape(value: object) -> object:
    """Of a tensor, or of the tensors of a tuple; None of what is data of no kind."""
    if isinstance(value, tuple | list):
        return [_shape(part) for part in value]
    return value.shape if isinstance(value, Tensor) else None


def _is_apart(two: Any, one: Any) -> bool:
    """Whether the value of a node for two images is one of each image, given that for one."""
    if isinstance(two, tuple | list):
        return all(_is_apart(*parts) for parts in zip(two, one, strict=True) if holds_tensor(parts))
    return isinstance(two, Tensor) and [len(v) if v.dim() else 0 for v in (two, one)] == [2, 1]


def holds_tensor(value: object) -> bool:
    """Whether a node's value is data, not a size or a number."""
    if isinstance(value, tuple | list):
        return any(holds_tensor(part) for part in value)
    return isinstance(value, Tensor)


def _sum_repeated(weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    return weight.reshape(shape).sum((3, 5), dtype=torch.float64).flatten(1).to(weight.dtype)


def _out_of_place(graph: fx.Graph) -> fx.Graph:
    """The graph with in-place operations replaced, so that kept values are never overwritten.

    `view` becomes `reshape`, which takes the channels-last layout of our values as well.
    """
    new = fx.Graph()
    new.output(new.graph_copy(graph, {}))
    for node in new.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        is_method = node.op == "call_method"
        name = str(node.target) if is_method else getattr(node.target, "__name__", "")
        if name == "view":
            node.target = "reshape"
        elif name.endswith("_") and not name.endswith("__"):
            homes = [torch.Tensor] if is_method else [torch, nn.functional]
            form = next((getattr(h, name[:-1]) for h in homes if hasattr(h, name[:-1])), None)
            if form is None:
                raise Untraceable(f"its in-place operation {name} has no out-of-place form")
            node.target = name[:-1] if is_method else form
    return new


def _activation(modules: dict[str, nn.Module], node: fx.Node) -> fx.Node:
    """The node where a layer's output has passed its own normalisation and non-linearity."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        kind = operation(user, modules).kind
        if kind in ACTIVATIONS:
            return user
        if kind not in (Kind.NORMALISATION, Kind.TRANSPARENT):
            break
        node = user
    return node
