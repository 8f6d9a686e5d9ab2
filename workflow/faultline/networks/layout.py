"""How the weights of a network lie in memory."""

from statistics import mean

import torch
from torch import nn

NARROW = 200
"""Channels that convolutions give on average, up to which a CPU is faster with channels last."""


def lay_out(network: nn.Module) -> bool:
    """Channels last, and True, where a CPU computes convolutions faster so: where they are narrow
    on average, or some are depthwise (ours, by `benchmarks/layout.py`). Logits differ by rounding.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    depthwise = any(1 < c.in_channels == c.groups for c in convolutions)
    width = mean([c.out_channels for c in convolutions] or [NARROW])
    if faster := depthwise or width < NARROW:
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return faster
