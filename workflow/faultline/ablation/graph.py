"""The network drawn as it is: its layers, where branches meet, and nothing in between."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, fx, nn

from faultline.ablation.tracing import Untraceable, holds_tensor
from faultline.networks.evaluation import evaluation
from faultline.networks.layers import filters
from faultline.networks.layers import layers as layers_of

JOINS = {"add": "add", "iadd": "add", "mul": "multiply", "imul": "multiply"}
JOINS |= dict.fromkeys(("cat", "concat", "concatenate", "stack"), "concat")
"""Operations that branches meet in, by the names of functions and methods; others are "join"."""


class Node(NamedTuple):
    """kind: input, conv, linear, add, multiply, concat, join or output. name: a layer's own, with
    ":2" where it is called again, or the module that a join is in and its kind. shape: of one
    output. sources: names of the nodes that its input comes from."""

    name: str
    kind: str
    layer: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]


def graph(network: nn.Module, image: Tensor) -> tuple[list[Node], str]:
    """(nodes in the order in which they run, why not traced) of a network on images [1, ...].

    A network that torch.fx cannot trace, or that is another one when traced, gives the chain of its
    layers in the order of calls, and the reason; else the reason is empty.
    """
    with evaluation(network), torch.no_grad():
        try:
            return _traced(network, image), ""
        except Untraceable as error:
            return _chain(network, image), str(error)


def graph_table(network: nn.Module, nodes: list[Node], *, traced: bool) -> pd.DataFrame:
    """A row per node: node, kind, layer, filters, weights (biases not counted), shape ("16x8x8"),
    sources (joined by commas) and traced (whether sources are those of the traced network)."""
    known, rows = layers_of(network), []
    for node in nodes:
        layer = known.get(node.layer)
        rows.append(
            {
                "node": node.name,
                "kind": node.kind,
                "layer": node.layer,
                "filters": filters(layer) if layer else 0,
                "weights": layer.weight.numel() if layer else 0,
                "shape": "x".join(map(str, node.shape)),
                "sources": ",".join(node.sources),
                "traced": traced,
            }
        )
    return pd.DataFrame(rows)


def weight_norms(network: nn.Module) -> pd.DataFrame:
    """A row per layer: layer and value, the Euclidean norm of its weights, without biases."""
    rows = [
        {"layer": name, "value": torch.linalg.vector_norm(layer.weight.detach().double()).item()}
        for name, layer in layers_of(network).items()
    ]
    return pd.DataFrame(rows)


class _Tracer(fx.Tracer):
    """Layers stay whole, those of the user's own kinds too."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.Linear) or super().is_leaf_module(module, name)


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shape of every node that holds data; None of several tensors."""

    def __init__(self, *args):
        super().__init__(*args)
        self.shapes: dict[fx.Node, tuple[int, ...] | None] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if holds_tensor(value):
            self.shapes[node] = tuple(value.shape[1:]) if isinstance(value, Tensor) else None
        return value


def _traced(network: nn.Module, image: Tensor) -> list[Node]:
    try:
        found = fx.GraphModule(network, _Tracer().trace(network))
        run = _Shapes(found)
        same = torch.allclose(run.run(image.clone()), network(image.clone()), equal_nan=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Untraceable(f"it cannot be traced by torch.fx ({reason})") from None
    if not same:
        raise Untraceable("its trace by torch.fx gives other logits")
    prefix = "body." if hasattr(network, "body") else ""
    layer_of = {prefix + name: (name, layer) for name, layer in layers_of(network).items()}
    names, nodes, behind = _Names(), [], {}  # behind: node -> nodes of ours that its value is from

    def add(node: fx.Node, name: str, kind: str, sources, layer: str = "") -> None:
        name, shape = names.new(name), run.shapes.get(node) or ()
        nodes.append(Node(name, kind, layer, shape, tuple(sources)))
        behind[node] = [name]

    for node in found.graph.nodes:
        sources = list(dict.fromkeys(s for n in node.all_input_nodes for s in behind[n]))
        if node.op == "placeholder":
            add(node, "input", "input", ())
        elif node.op == "output":
            add(node, "output", "output", sources)
        elif node not in run.shapes:
            behind[node] = []
        elif node.op == "call_module" and node.target in layer_of:
            name, layer = layer_of[node.target]
            kind = "conv" if isinstance(layer, nn.Conv2d) else "linear"
            add(node, name, kind, sources, layer=name)
        elif len(sources) > 1:
            called = node.target if isinstance(node.target, str) else node.target.__name__
            kind = JOINS.get(called.rstrip("_"), "join") if node.op != "call_module" else "join"
            stack = [*node.meta.get("nn_module_stack", ())]
            owner = (stack[-1] if stack else "").removeprefix("body").removeprefix(".")
            add(node, f"{owner}.{kind}" if owner else kind, kind, sources)
        else:
            behind[node] = sources
    return nodes


def _chain(network: nn.Module, image: Tensor) -> list[Node]:
    names = _Names()
    nodes = [Node(names.new("input"), "input", "", tuple(image.shape[1:]), ())]

    def ran(name: str, kind: str):
        def hook(_, __, out: Tensor) -> None:
            made = names.new(name)
            nodes.append(Node(made, kind, name, tuple(out.shape[1:]), (nodes[-1].name,)))

        return hook

    hooks = [
        layer.register_forward_hook(ran(name, "conv" if isinstance(layer, nn.Conv2d) else "linear"))
        for name, layer in layers_of(network).items()
    ]
    try:
        out = network(image)
    finally:
        for hook in hooks:
            hook.remove()
    last = nodes[-1].name
    return [*nodes, Node(names.new("output"), "output", "", tuple(out.shape[1:]), (last,))]


class _Names:
    """Names that are new: the second "fc" is "fc:2"."""

    def __init__(self):
        self.taken: set[str] = set()

    def new(self, name: str) -> str:
        made, count = name, 1
        while made in self.taken:
            count += 1
            made = f"{name}:{count}"
        self.taken.add(made)
        return made
