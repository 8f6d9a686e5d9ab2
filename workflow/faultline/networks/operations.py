"""What the operations of a network are, be they modules, functions or methods of a tensor."""

import operator
from enum import Enum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn


class Kind(Enum):
    """What an operation does, with its modules in eval mode."""

    ACTIVATION = "bends each element by itself"
    CHANNELWISE = "bends each element by a parameter of its channel"
    GATE = "bends one half of the channels by the other half"
    MIXING = "bends elements by other elements"
    NORMALISATION = "normalises"
    TRANSPARENT = "leaves everything as it is"
    MOVING = "puts elements elsewhere, drops or repeats them"
    POOLING = "sums up each channel by itself"
    ARITHMETIC = "calculates each element by itself, of one tensor or several"
    OTHER = "anything else"


ACTIVATIONS = frozenset({Kind.ACTIVATION, Kind.CHANNELWISE})
"""The non-linearities that keep filters apart."""


class Operation(NamedTuple):
    """name: the same for its module, functions and methods. homogeneous: an activation that passes
    a positive factor on as it is."""

    name: str
    kind: Kind
    homogeneous: bool = False


OTHER = Operation("", Kind.OTHER)

_HOMOGENEOUS = {"relu", "leaky_relu", "rrelu", "prelu"}

_MODULES: dict[Kind, dict[type[nn.Module], str]] = {
    Kind.ACTIVATION: {
        nn.CELU: "celu",
        nn.ELU: "elu",
        nn.GELU: "gelu",
        nn.Hardshrink: "hardshrink",
        nn.Hardsigmoid: "hardsigmoid",
        nn.Hardswish: "hardswish",
        nn.Hardtanh: "hardtanh",
        nn.LeakyReLU: "leaky_relu",
        nn.LogSigmoid: "logsigmoid",
        nn.Mish: "mish",
        nn.RReLU: "rrelu",  # of a fixed slope in eval mode
        nn.ReLU: "relu",
        nn.ReLU6: "relu6",
        nn.SELU: "selu",
        nn.SiLU: "silu",
        nn.Sigmoid: "sigmoid",
        nn.Softplus: "softplus",
        nn.Softshrink: "softshrink",
        nn.Softsign: "softsign",
        nn.Tanh: "tanh",
        nn.Tanhshrink: "tanhshrink",
        nn.Threshold: "threshold",
    },
    Kind.CHANNELWISE: {nn.PReLU: "prelu"},
    Kind.GATE: {nn.GLU: "glu"},
    Kind.MIXING: {
        nn.LogSoftmax: "log_softmax",
        nn.MultiheadAttention: "multi_head_attention_forward",
        nn.Softmax: "softmax",
        nn.Softmax2d: "softmax",
        nn.Softmin: "softmin",
    },
    Kind.NORMALISATION: {
        nn.modules.batchnorm._BatchNorm: "batch_norm",
        nn.modules.instancenorm._InstanceNorm: "instance_norm",
        nn.GroupNorm: "group_norm",
        nn.LayerNorm: "layer_norm",
        nn.LocalResponseNorm: "local_response_norm",
        nn.RMSNorm: "rms_norm",
    },
    Kind.TRANSPARENT: {
        nn.AlphaDropout: "alpha_dropout",
        nn.Dropout: "dropout",
        nn.Dropout1d: "dropout1d",
        nn.Dropout2d: "dropout2d",
        nn.Dropout3d: "dropout3d",
        nn.FeatureAlphaDropout: "feature_alpha_dropout",
        nn.Identity: "identity",
    },
    Kind.MOVING: {
        nn.ChannelShuffle: "channel_shuffle",
        nn.Flatten: "flatten",
        nn.Unflatten: "unflatten",
    },
    Kind.POOLING: {
        nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
        nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
        nn.AvgPool2d: "avg_pool2d",
        nn.LPPool2d: "lp_pool2d",
        nn.MaxPool2d: "max_pool2d",
    },
}

_WITHOUT_MODULE = {
    Kind.MIXING: "gumbel_softmax scaled_dot_product_attention",
    Kind.MOVING: "cat concat chunk contiguous getitem permute reshape split squeeze transpose "
    "unsqueeze",
    Kind.POOLING: "mean",
    Kind.ARITHMETIC: "abs add clamp div exp mul neg sqrt square sub truediv",
}

_OF_NAME = {
    name: Operation(name, kind, name in _HOMOGENEOUS)
    for kind in Kind
    for name in [*_MODULES.get(kind, {}).values(), *_WITHOUT_MODULE.get(kind, "").split()]
}

_OF_MODULE = {
    module: _OF_NAME[name] for modules in _MODULES.values() for module, name in modules.items()
}

_OF_FUNCTION = {
    getattr(home, form): operation
    for name, operation in _OF_NAME.items()
    for form in (name, f"{name}_")
    for home in (torch, F, operator, torch.Tensor)
    if hasattr(home, form)
}


def of_module(module: nn.Module) -> Operation:
    """A module does what the nearest of its classes that is known here does."""
    return next((_OF_MODULE[kind] for kind in type(module).__mro__ if kind in _OF_MODULE), OTHER)


def of_function(function: object) -> Operation:
    """A function of torch, an operator or a method of a tensor as `torch.Tensor` has it."""
    return _OF_FUNCTION.get(function, OTHER)


def operation(node: fx.Node, modules: dict[str, nn.Module]) -> Operation:
    """What a node of a graph does; modules: those of the traced network by their paths."""
    if node.op == "call_module":
        return of_module(modules[str(node.target)])
    if node.op == "call_method":
        return _OF_NAME.get(str(node.target).removesuffix("_"), OTHER)
    return of_function(node.target) if node.op == "call_function" else OTHER
