"""The engine: evaluates many variants of a network on fixed images, exactly.

What does not depend on the ablated layers is computed once per batch of images: the network is
traced, and the nodes that no ablated layer reaches keep their values while the variants run.
"""

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faultline.attacks import evaluation
from faultline.errors import UserError
from faultline.facts import Facts
from faultline.filters import Variant
from faultline.networks import layers as layers_of

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
_TRANSPARENT = (nn.Dropout, nn.Dropout2d, nn.Identity)


class Traced:
    """A copy of a network in eval mode, as a graph that can be run from any of its layers on.

    network: any module that torch.fx can trace; it stays as it is, in its mode too. ablated: names
    of the layers that variants change.
    """

    def __init__(self, network: nn.Module, ablated: Sequence[str]):
        copied = copy.deepcopy(network).eval()
        try:
            graph_module = fx.symbolic_trace(copied)
        except Exception as error:
            raise UserError(
                f"the network cannot be traced by torch.fx ({str(error).splitlines()[0]}); "
                "rewrite its forward without data-dependent control flow"
            ) from None
        self.module = fx.GraphModule(graph_module, _out_of_place(graph_module.graph))
        for module in self.module.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        self.prefix = "body." if hasattr(network, "body") else ""
        known = layers_of(network)
        self.nodes = {}
        for layer in ablated:
            target = self.prefix + layer
            nodes = [
                n for n in self.module.graph.nodes if n.op == "call_module" and n.target == target
            ]
            if layer not in known or not nodes:
                raise UserError(
                    f"layer {layer!r} is not used by the network; there are: {', '.join(known)}"
                )
            self.nodes[layer] = nodes
        self._fold_batchnorm()
        self.module.to(memory_format=torch.channels_last)
        self._split()

    def _fold_batchnorm(self) -> None:
        """Fold each BatchNorm into the convolution before it, unless variants change that one."""
        ablated = {node for nodes in self.nodes.values() for node in nodes}
        graph, modules = self.module.graph, dict(self.module.named_modules())
        uses = Counter(node.target for node in graph.nodes if node.op == "call_module")
        for node in list(graph.nodes):
            source = node.args[0] if node.args else None
            if (
                node.op == "call_module"
                and isinstance(modules[node.target], nn.BatchNorm2d)
                and modules[node.target].track_running_stats
                and isinstance(source, fx.Node)
                and source.op == "call_module"
                and isinstance(modules[source.target], nn.Conv2d)
                and source not in ablated
                and len(source.users) == 1
                and uses[source.target] == uses[node.target] == 1
            ):
                fused = fuse_conv_bn_eval(modules[source.target], modules[node.target])
                self.module.set_submodule(source.target, fused)
                node.replace_all_uses_with(source)
                graph.erase_node(node)

    def _split(self) -> None:
        graph = self.module.graph
        reached = {node for nodes in self.nodes.values() for node in nodes}
        for node in graph.nodes:
            if any(source in reached for source in node.all_input_nodes):
                reached.add(node)
        self.after = [n for n in graph.nodes if n in reached and n.op != "output"]
        self.before = [n for n in graph.nodes if n not in reached and n.op != "output"]
        needed = {s for n in reached for s in n.all_input_nodes} - reached
        self.boundary = [n for n in self.before if n in needed]
        self.result = next(n for n in graph.nodes if n.op == "output").args[0]

    def start(self, images: Tensor) -> dict[fx.Node, Tensor]:
        """Values at the boundary: all that the ablated layers and what follows take from before."""
        if images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return self._run(self.before, {}, keep=self.boundary, images=images)

    def finish(
        self, boundary: dict[fx.Node, Tensor], silence: tuple[str, int] | None = None
    ) -> Tensor:
        """Logits from the boundary on; `silence` zeroes one filter at its activation."""
        silenced = {}
        if silence is not None:
            layer, index = silence
            silenced = dict.fromkeys(self.places(layer), (self.axis(layer), index))
        return self._run(self.after, boundary, keep=[self.result], silenced=silenced)[self.result]

    def check(self, network: nn.Module, images: Tensor) -> None:
        """UserError unless the trace gives the network's logits on images.

        It does not where the forward reads a tensor again after changing it in place.
        """
        with torch.no_grad():
            with evaluation(network):
                expected = network(images.clone())
            found = self.finish(self.start(images))
        tolerance = 1e-2 * expected.nan_to_num().abs().max().item()
        if not torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True):
            raise UserError(
                "the network gives other logits when traced by torch.fx; its forward may use a "
                "tensor again after changing it in place: rewrite it with out-of-place operations"
            )

    def values(self, boundary: dict, nodes: Sequence[fx.Node]) -> dict[fx.Node, Tensor]:
        """Values of nodes after the boundary, nothing removed."""
        return self._run(self.after, boundary, keep=nodes)

    def axis(self, layer: str) -> int:
        """The dimension of a layer's output along which its filters lie."""
        return 1 if isinstance(self.module.get_submodule(self.prefix + layer), nn.Conv2d) else -1

    def places(self, layer: str) -> list[fx.Node]:
        """Where a layer's filters show: after its normalisation and non-linearity, if any."""
        return [_activation(self.module, node) for node in self.nodes[layer]]

    def _run(self, nodes, known, *, keep, images=None, silenced=()):
        interpreter = fx.Interpreter(self.module, garbage_collect_values=False)
        env = interpreter.env = dict(known)
        last_use = {}
        for node in nodes:
            for source in node.all_input_nodes:
                last_use[source] = node
        for node in nodes:
            env[node] = images if node.op == "placeholder" else interpreter.run_node(node)
            if node in silenced:
                env[node] = env[node].clone()
                env[node].select(*silenced[node]).zero_()
            for source in node.all_input_nodes:
                if last_use[source] is node and source not in keep:
                    env.pop(source, None)
        return {node: env[node] for node in keep}


def _out_of_place(graph: fx.Graph) -> fx.Graph:
    """The graph with in-place operations replaced, so that kept values are never overwritten.

    `view` becomes `reshape`, which takes the channels-last layout of our values as well.
    """
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    for node in copied.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        is_method = node.op == "call_method"
        name = node.target if is_method else getattr(node.target, "__name__", "")
        if name == "view":
            node.target = "reshape"
        elif name.endswith("_") and not name.endswith("__"):
            homes = [torch.Tensor] if is_method else [torch, nn.functional]
            found = next((getattr(h, name[:-1]) for h in homes if hasattr(h, name[:-1])), None)
            if found is None:
                raise UserError(
                    f"the network uses the in-place operation {name}, which a sweep cannot undo; "
                    "rewrite its forward without it"
                )
            node.target = name[:-1] if is_method else found
    return copied


def _activation(module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node where a layer's output has passed its own normalisation and non-linearity."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        if user.op == "call_module":
            follower = module.get_submodule(user.target)
            if isinstance(follower, _NORMS + _TRANSPARENT):
                node = user
                continue
            return user if type(follower).__module__ == "torch.nn.modules.activation" else node
        name = user.target if isinstance(user.target, str) else getattr(user.target, "__name__", "")
        return user if name in _FUNCTIONS and user.op.startswith("call") else node
    return node


_FUNCTIONS = {
    "relu", "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "leaky_relu", "hardswish",
    "hardtanh", "hardsigmoid", "sigmoid", "tanh", "softplus", "softsign", "prelu",
}  # fmt: skip


def sweep(
    network: nn.Module,
    variants: Sequence[Variant],
    image_sets: dict[str, Tensor],
    labels: Tensor,
    *,
    ablated: Sequence[str],
    attacks: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] | None = None,
    batch_size: int = 500,
    say: Callable[[str], None] = print,
) -> Facts:
    """Which images every variant classifies correctly.

    image_sets: name -> float32 images [n, ...] in pixel units, the same n images each.
    ablated: names of the layers that the variants change. attacks: name -> function of (network,
    images, labels) that re-crafts the clean images on each variant (target "ablated"); None where
    the image sets already hold the adversarial images. The network itself is never changed.
    UserError where the network cannot be traced, or its trace is not the same network.
    """
    traced = Traced(network, ablated)
    traced.check(network, next(iter(image_sets.values()))[:32])
    crafted = dict(attacks or {})
    names = [*image_sets, *crafted]
    n = len(labels)
    base = {name: np.zeros(n, bool) for name in names}
    correct = {name: np.zeros((len(variants), n), bool) for name in names}
    changed = {name: np.zeros(len(variants), int) for name in names}
    runner = _Runner(traced)
    clock = _Clock(len(variants) * n * len(names), say)
    repeated = {key for key, times in Counter(v.key for v in variants).items() if times > 1}
    with torch.no_grad():
        for name in names:
            # an attack shares nothing between batches and splits its images itself
            step = n if name in crafted else batch_size
            for begin in range(0, n, step):
                part = slice(begin, min(begin + step, n))
                target = labels[part]
                if name in crafted:
                    evaluate = runner.recrafted(
                        image_sets["clean"], target, crafted[name], batch_size
                    )
                else:
                    evaluate = runner.fixed(image_sets[name][part])
                logits = {None: evaluate(None)}
                base[name][part] = _hits(logits[None], target)
                for index, variant in enumerate(variants):
                    out = logits.get(variant.key)
                    if out is None:
                        out = evaluate(variant)
                        if variant.key in repeated:
                            logits[variant.key] = out
                    correct[name][index, part] = _hits(out, target)
                    changed[name][index] += int((out != logits[None]).any(1).sum())
                    clock.tick(len(target))
    columns = {key: np.array([v.columns[key] for v in variants]) for key in variants[0].columns}
    return Facts(variants=columns, base=base, correct=correct, changed=changed)


def _hits(logits: Tensor, labels: Tensor) -> np.ndarray:
    return (logits.argmax(1) == labels).cpu().numpy()


class _Runner:
    """Evaluates variants on one batch, from a traced network whose parameters it swaps."""

    def __init__(self, traced: Traced):
        self.traced = traced
        self.parameters = dict(traced.module.named_parameters())

    def fixed(self, images: Tensor):
        boundary = self.traced.start(images)

        def evaluate(variant: Variant | None) -> Tensor:
            with self._applied(variant):
                return self.traced.finish(boundary, variant.silence if variant else None)

        return evaluate

    def recrafted(self, images: Tensor, labels: Tensor, craft, batch_size: int):
        traced = self.traced

        def evaluate(variant: Variant | None) -> Tensor:
            silence = variant.silence if variant else None
            with self._applied(variant):
                forward = _Forward(traced, silence)
                with torch.enable_grad():
                    adversarial = craft(forward, images, labels)
                return torch.cat([forward(part) for part in adversarial.split(batch_size)])

        return evaluate

    def _applied(self, variant: Variant | None):
        return _Swap(self.parameters, self.traced.prefix, variant)


class _Swap:
    """Parameters of a variant in place of the base's, inside the block."""

    def __init__(self, parameters: dict[str, nn.Parameter], prefix: str, variant: Variant | None):
        made = variant.replace() if variant and variant.replace else {}
        self.swaps = [(parameters[prefix + name], value) for name, value in made.items()]

    def __enter__(self):
        self.kept = [parameter.data for parameter, _ in self.swaps]
        for parameter, value in self.swaps:
            parameter.data = value

    def __exit__(self, *_):
        for (parameter, _), data in zip(self.swaps, self.kept, strict=True):
            parameter.data = data


class _Forward(nn.Module):
    """The traced network as a plain module, for attacks."""

    def __init__(self, traced: Traced, silence: tuple[str, int] | None):
        super().__init__()
        self.graph_module = traced.module
        self.run = lambda images: traced.finish(traced.start(images), silence)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


def active_images(
    network: nn.Module, layer: str, images: Tensor, *, at: str, batch_size: int = 500
) -> np.ndarray:
    """For every filter of a layer, how many images give it any non-zero output.

    at: "weights" looks at the layer's own output, "activation" behind normalisation and
    non-linearity. A filter that is zero for every image has nothing to remove.
    """
    traced = Traced(network, [layer])
    nodes = traced.nodes[layer] if at == "weights" else traced.places(layer)
    total = 0
    with torch.no_grad():
        for batch in images.split(batch_size):
            values = traced.values(traced.start(batch), nodes).values()
            by_filter = [value.movedim(traced.axis(layer), -1) for value in values]
            seen = [v.flatten(1, -2).ne(0).any(1) if v.dim() > 2 else v.ne(0) for v in by_filter]
            total = total + torch.stack(seen).any(0).sum(0)
    return total.cpu().numpy()


class _Clock:
    """Says now and then how far the sweep is."""

    def __init__(self, total: int, say: Callable[[str], None], every: float = 10.0):
        self.total, self.say, self.every = total, say, every
        self.done, self.began = 0, time.monotonic()
        self.last = self.began

    def tick(self, amount: int) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            rate = self.done / (now - self.began)
            left = (self.total - self.done) / rate
            self.say(f"{self.done / self.total:.0%} done, {rate:.0f} images/s, {left:.0f} s left")
