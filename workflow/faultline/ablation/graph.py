"""The network drawn as it is: its layers, where branches meet, and nothing in between."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, fx, nn

from faultline.ablation.tracing import Untraceable, holds_tensor
from faultline.base.errors import first_line
from faultline.networks.architectures import Shifted, path_of_body
from faultline.networks.evaluation import evaluation
from faultline.networks.layers import filters, weights
from faultline.networks.layers import kind as kind_of
from faultline.networks.layers import layers as layers_of
from faultline.networks.plain import preserved
from faultline.networks.probes import output
from faultline.networks.symbolic import Tracer

JOINS = {"add": "add", "iadd": "add", "mul": "multiply", "imul": "multiply"}
JOINS |= dict.fromkeys(("cat", "concat", "concatenate", "stack"), "concat")
"""Operations that branches meet in, by the names of functions and methods; others are "join"."""


class Node(NamedTuple):
    """kind: input, output, that of a layer, or add, multiply, concat or join. name: a layer's own,
    with ":2" where it is called again, or the module that a join is in and its kind. shape: of one
    output. sources: names of the nodes that its input comes from."""

    name: str
    kind: str
    layer: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]


def graph(network: nn.Module, images: Tensor) -> tuple[list[Node], str]:
    """(nodes in the order in which they run, why not traced) of a network on images [n, ...].

    A network that torch.fx cannot trace, or that is another one when traced, gives the chain of its
    layers in the order of calls, and the reason; else the reason is empty. Layers that tracing sees
    as one operation stand in a chain as well. What the first image does not reach stands in the
    chain where others, looked at one by one, reach it.
    """
    with evaluation(network), torch.no_grad():
        try:
            return _traced(network, images[:1]), ""
        except Untraceable as error:
            return _chain(network, images), str(error)


def graph_table(network: nn.Module, nodes: list[Node], *, traced: bool) -> pd.DataFrame:
    """A row per node: node, kind, layer, filters, weights (biases not counted), shape ("16x8x8"),
    sources (joined by commas) and traced (whether sources are those of the traced network)."""
    layers, rows = layers_of(network), []
    for node in nodes:
        layer = layers.get(node.layer)
        rows.append(
            {
                "node": node.name,
                "kind": node.kind,
                "layer": node.layer,
                "filters": filters(layer) if layer else 0,
                "weights": sum(w.numel() for w in weights(layer).values()) if layer else 0,
                "shape": "x".join(map(str, node.shape)),
                "sources": ",".join(node.sources),
                "traced": traced,
            }
        )
    return pd.DataFrame(rows)


def weight_norms(network: nn.Module) -> pd.DataFrame:
    """A row per layer: layer and value, the Euclidean norm of its weights, without biases."""
    rows = []
    for name, layer in layers_of(network).items():
        norms = [torch.linalg.vector_norm(w.double()) for w in weights(layer).values()]
        rows.append({"layer": name, "value": torch.linalg.vector_norm(torch.stack(norms)).item()})
    return pd.DataFrame(rows)


class _Tracer(Tracer):
    """Layers stay whole, those of the user's own kinds too; not embeddings that attacks add to."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if isinstance(module, Shifted):
            return False
        return kind_of(module) is not None or super().is_leaf_module(module, name)


Called = tuple[str, tuple[int, ...]]
"""Name of a layer, shape of one output."""


@contextmanager
def _calls(network: nn.Module) -> Iterator[list[Called]]:
    """The layers that are called inside the block, on one image, in their order."""
    called: list[Called] = []

    def keep(name: str) -> Callable[..., None]:
        return lambda layer, _, out: called.append((name, tuple(output(layer, out, 1).shape[1:])))

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers_of(network).items()]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of every node that holds data, None of several tensors; and
    the layers that each node calls, which append themselves to `called`."""

    def __init__(self, graph: fx.GraphModule, called: list[Called]):
        super().__init__(graph)
        self.called = called
        self.shapes: dict[fx.Node, tuple[int, ...] | None] = {}
        self.layers: dict[fx.Node, list[Called]] = {}

    def run_node(self, node: fx.Node) -> Any:
        before = len(self.called)
        value = super().run_node(node)
        self.layers[node] = self.called[before:]
        if holds_tensor(value):
            self.shapes[node] = tuple(value.shape[1:]) if isinstance(value, Tensor) else None
        return value


def _traced(network: nn.Module, image: Tensor) -> list[Node]:
    try:
        with preserved(network):
            traced = fx.GraphModule(network, _Tracer().trace(network))
        with _calls(network) as called:
            run = _Shapes(traced, called)
            logits = run.run(image.clone())
        same = torch.allclose(logits, network(image.clone()), equal_nan=True)
    except Exception as error:
        reason = first_line(error)
        raise Untraceable(f"it cannot be traced by torch.fx ({reason})") from None
    if not same:
        raise Untraceable("its trace by torch.fx gives other logits")
    prefix, layers = path_of_body(network), layers_of(network)
    names, nodes = _Names(), list[Node]()
    behind: dict[fx.Node, list[str]] = {}  # nodes of ours that the value of a node is from

    def reads(node: fx.Node) -> list[Called]:
        """The layers whose parameters an operation takes, without their being called."""
        taken = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
        shape = run.shapes.get(node) or ()
        owns = {name: f"{prefix}{name}." for name in layers}
        return [(name, shape) for name in layers if any(t.startswith(owns[name]) for t in taken)]

    def add(
        node: fx.Node,
        name: str,
        kind: str,
        sources: Iterable[str],
        shape: tuple[int, ...] | None = None,
        layer: str = "",
    ) -> None:
        name, shape = names.new(name), shape or run.shapes.get(node) or ()
        nodes.append(Node(name, kind, layer, shape, tuple(sources)))
        behind[node] = [name]

    for node in traced.graph.nodes:
        sources = list(dict.fromkeys(s for n in node.all_input_nodes for s in behind[n]))
        if node.op == "placeholder":
            add(node, "input", "input", ())
        elif node.op == "output":
            add(node, "output", "output", sources)
        elif node not in run.shapes:
            behind[node] = []
        elif inside := run.layers[node] or reads(node):
            for name, shape in inside:
                add(node, name, kind_of(layers[name]) or "", sources, shape, layer=name)
                sources = behind[node]
        elif len(sources) > 1:
            function = node.target if isinstance(node.target, str) else node.target.__name__
            kind = JOINS.get(function.rstrip("_"), "join") if node.op != "call_module" else "join"
            stack = [*node.meta.get("nn_module_stack", ())]
            owner = f"{stack[-1] if stack else ''}.".removeprefix(prefix).strip(".")
            add(node, f"{owner}.{kind}" if owner else kind, kind, sources)
        else:
            behind[node] = sources
    return nodes


def _chain(network: nn.Module, images: Tensor) -> list[Node]:
    names, layers = _Names(), layers_of(network)
    nodes = [Node(names.new("input"), "input", "", tuple(images.shape[1:]), ())]
    with _calls(network) as called:
        out = network(images[:1])
    every = [*called]
    for image in images.split(1)[1:]:
        if layers.keys() <= {name for name, _ in every}:
            break
        with _calls(network) as called:
            network(image)
        place = 0
        for name, shape in called:  # a new one stands behind what ran before it
            there = [at for at, (other, _) in enumerate(every) if other == name]
            if not there:
                every.insert(place, (name, shape))
            place = (there or [place])[0] + 1
    for name, shape in every:
        kind = kind_of(layers[name]) or ""
        nodes.append(Node(names.new(name), kind, name, shape, (nodes[-1].name,)))
    last = nodes[-1].name
    return [*nodes, Node(names.new("output"), "output", "", tuple(out.shape[1:]), (last,))]


class _Names:
    """Names that are new: the second "fc" is "fc:2"."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def new(self, name: str) -> str:
        new_name, count = name, 1
        while new_name in self.taken:
            count += 1
            new_name = f"{name}:{count}"
        self.taken.add(new_name)
        return new_name
