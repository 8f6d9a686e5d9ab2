"""How much arithmetic a network is, layer by layer, and how long it takes on this machine."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from faultline.networks.layers import every_layer, weights
from faultline.networks.plain import preserved

Work = dict[str, list[int]]
"""Layer -> multiply-accumulates for one input: its own, and all from its first call to the logits.
Under "" stands the whole network, twice; what multiplies nothing is left out."""

AT_ONCE = 64
"""Inputs of a call that is timed, at most (ours)."""

SHORT = 0.3
"""Seconds that such a call may take (ours)."""


class _Counter(TorchDispatchMode):
    """What torch counts of each operation; its own counter takes seconds to begin, and leaves out
    attention on a CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if of := _COUNTS.get(func._overloadpacket):
            self.macs += of(*args, **(kwargs or {}), out_val=out) // 2
        return out


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


_COUNTS = flop_registry | {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def arithmetic(network: nn.Module, inputs: Tensor) -> Work:
    """`Work` of a network in eval mode, from a few inputs [n, ...].

    Convolutions, matrix products and attention count, as torch counts them; of recurrent layers one
    multiplication for each weight and step.
    """
    n, steps = len(inputs), [0]
    begun: dict[str, int] = {}
    first: dict[str, int] = {}
    own: dict[str, int] = {}
    counter = _Counter()

    def so_far() -> int:
        return counter.macs // n + steps[0]

    def enter(name: str) -> None:
        begun[name] = so_far()
        first.setdefault(name, begun[name])

    def leave(name: str, layer: nn.Module, given: Any) -> None:
        if isinstance(layer, nn.RNNBase | nn.RNNCellBase):  # torch counts nothing of these
            whole = isinstance(layer, nn.RNNBase)
            times = given[0].shape[1 if layer.batch_first else 0] if whole else 1
            steps[0] += times * sum(weight.numel() for weight in weights(layer).values())
        own[name] = own.get(name, 0) + so_far() - begun[name]

    hooks = []
    for name, layer in every_layer(network).items():
        hooks.append(layer.register_forward_pre_hook(lambda *_, name=name: enter(name)))
        hooks.append(
            layer.register_forward_hook(
                lambda layer, given, _, name=name: leave(name, layer, given)
            )
        )
    try:
        # without gradients, torch has an encoder's layers in one piece, which it does not count
        with preserved(network), torch.enable_grad(), counter:
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    total = so_far()
    return {"": [total, total]} | {
        name: [own[name], total - first[name]] for name in own if own[name]
    }


def seconds(network: nn.Module, inputs: Tensor) -> list[float]:
    """CPU seconds that a call of a network in eval mode takes on one thread, as far as it does not
    depend on how many inputs there are, and what each adds to that; inputs: up to `AT_ONCE`.

    CPU time tells what an idle machine would take. The least of three.
    """

    def least(batch: Tensor) -> float:
        took = []
        for _ in range(3):
            start = time.thread_time()
            network(batch)
            took.append(time.thread_time() - start)
            if took[0] > SHORT:
                break
        return min(took)

    with preserved(network), torch.no_grad():
        network(inputs[:1])
        one = least(inputs[:1])
        n = min(max(int(SHORT / max(one, 1e-6)), 1), len(inputs))
        if n == 1:
            return [0.0, one]
        each = max((least(inputs[:n]) - one) / (n - 1), one / (100 * n))
    return [max(one - each, 0.0), each]
