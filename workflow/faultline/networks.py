"""The networks: one registry, built from a name, a shape and a seed.

Every network takes pixels (or raw features) and normalises them itself, so that attacks work in
pixel units. `own.NETWORKS` holds the user's own, beside the registry. `networks.json` beside this
file holds the facts needed to enumerate layers without torch; after a change here, `python -m
faultline.networks` inside workflow/ writes it anew.
"""

import difflib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faultline import own, own_networks
from faultline.errors import UserError, nearest
from faultline.vision import load_torchvision

CATALOGUE_FILE = Path(__file__).with_name("networks.json")


class Normalise(nn.Module):
    """(x - mean) / std per channel of images [n, c, h, w] or per feature of vectors [n, f].

    mean, std: one number, or one per channel or feature. shape: of one input, (c, h, w) or (f,).
    """

    def __init__(
        self, mean: float | Sequence[float], std: float | Sequence[float], *, shape: tuple[int, ...]
    ):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            values = torch.as_tensor(values, dtype=torch.float32).expand(shape[0]).clone()
            self.register_buffer(name, values.reshape(-1, *[1] * (len(shape) - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Network(nn.Module):
    """Normalisation, then the network proper: raw inputs [n, *shape] to logits [n, classes]."""

    def __init__(self, normalise: nn.Module, body: nn.Module):
        super().__init__()
        self.normalise = normalise
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.normalise(x))


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def small_conv(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Three convolutions with BatchNorm, for images from 8x8 upwards (ours)."""
    return nn.Sequential(
        OrderedDict(
            conv1=_conv3x3(shape[0], 16),
            bn1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            conv2=_conv3x3(16, 32),
            bn2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv3=_conv3x3(32, 32),
            bn3=nn.BatchNorm2d(32),
            relu3=nn.ReLU(),
            average=nn.AdaptiveAvgPool2d(2),
            flatten=nn.Flatten(),
            fc=nn.Linear(32 * 2 * 2, classes),
        )
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int):
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + self.downsample(x))


def small_resnet(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A stem and three residual blocks, for images from 8x8 upwards (ours)."""
    return nn.Sequential(
        OrderedDict(
            conv1=_conv3x3(shape[0], 16),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            layer1=ResidualBlock(16, 16, stride=1),
            layer2=ResidualBlock(16, 32, stride=2),
            layer3=ResidualBlock(32, 64, stride=2),
            average=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, classes),
        )
    )


def lsa_mnist(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The MNIST network of Khalooei et al. 2022.

    The padding of its convolutions is not published; 2, which keeps the size, is ours.
    """
    channels, height, width = shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 5, padding=2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 64, 5, padding=2),
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * (height // 4) * (width // 4), 100),
            relu4=nn.ReLU(),
            fc2=nn.Linear(100, classes),
        )
    )


class TwoLogits(nn.Module):
    """One logit z [n, 1] to two logits [0, z] [n, 2].

    softmax([0, z])[1] = sigmoid(z), so cross-entropy on the two logits equals binary cross-entropy
    with logits on z.
    """

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(z), z], dim=1)


def lsa_moons(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The two-moons network of Khalooei et al. 2022; its one logit z is returned as [0, z]."""
    return nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(shape[0], 100),
            elu1=nn.ELU(),
            fc2=nn.Linear(100, 100),
            elu2=nn.ELU(),
            fc3=nn.Linear(100, 100),
            elu3=nn.ELU(),
            fc4=nn.Linear(100, 1),
            logits=TwoLogits(),
        )
    )


class WideBlock(nn.Module):
    """Normalisation, ReLU and a 3x3 convolution, twice, dropout between them, around a skip.

    Where the shape changes the skip is a 1x1 convolution of what was normalised and rectified.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _conv3x3(outputs, outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        out = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(active)))))
        return out + (x if self.downsample is None else self.downsample(active))


def wide_resnet(
    shape: tuple[int, ...], classes: int, *, depth: int, width: int, dropout: float
) -> nn.Module:
    """WideResNet-depth-width (Zagoruyko & Komodakis 2016), depth = 6 n + 4; He initialisation of
    its convolutions, over their outputs."""
    stages, inputs = [], 16
    for stage in range(3):
        outputs = 16 * width * 2**stage
        blocks = []
        for block in range((depth - 4) // 6):
            stride = 2 if stage and not block else 1
            blocks.append(WideBlock(inputs, outputs, stride=stride, dropout=dropout))
            inputs = outputs
        stages.append((f"layer{stage + 1}", nn.Sequential(*blocks)))
    network = nn.Sequential(
        OrderedDict(
            [
                ("conv1", _conv3x3(shape[0], 16)),
                *stages,
                ("bn", nn.BatchNorm2d(inputs)),
                ("relu", nn.ReLU()),
                ("average", nn.AdaptiveAvgPool2d(1)),
                ("flatten", nn.Flatten()),
                ("fc", nn.Linear(inputs, classes)),
            ]
        )
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def from_torchvision(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """torchvision's definition and initialisation, without weights.

    For other than 3 channels the first convolution is made anew with the same hyper-parameters and
    PyTorch's default initialisation. ReLUs work out of place, so that the output of a layer can be
    kept by a hook; this changes no number.
    """
    network = load_torchvision().models.get_model(name, weights=None, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    path, first = next((p, m) for p, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if shape[0] != first.in_channels:
        conv = nn.Conv2d(
            shape[0],
            first.out_channels,
            first.kernel_size,
            stride=first.stride,
            padding=first.padding,
            dilation=first.dilation,
            bias=first.bias is not None,
        )
        network.set_submodule(path, conv)
    return network


class Entry(NamedTuple):
    """One network of the registry.

    build:    (shape of one input, classes) -> body; shape is (c, h, w) or (f,).
    input:    "image" or "vector".
    min_size: the smallest height and width, or number of features, that it can take.
    classes:  the only number of classes that it can take; None: any.
    normalise: whether normalisation is put before it.
    """

    build: Callable[[tuple[int, ...], int], nn.Module]
    input: str
    min_size: int
    classes: int | None = None
    normalise: bool = True


REGISTRY: dict[str, Entry] = {
    "small_conv": Entry(small_conv, "image", 2),
    "small_resnet": Entry(small_resnet, "image", 1),
    "lsa_mnist": Entry(lsa_mnist, "image", 4),
    "lsa_moons": Entry(lsa_moons, "vector", 1, classes=2),
    "resnet18": Entry(partial(from_torchvision, "resnet18"), "image", 1),
    "resnet50": Entry(partial(from_torchvision, "resnet50"), "image", 1),
    "squeezenet1_1": Entry(partial(from_torchvision, "squeezenet1_1"), "image", 17),
    "shufflenet_v2_x1_0": Entry(partial(from_torchvision, "shufflenet_v2_x1_0"), "image", 1),
    "alexnet": Entry(partial(from_torchvision, "alexnet"), "image", 63),
    "vgg16": Entry(partial(from_torchvision, "vgg16"), "image", 32),
    "vgg19": Entry(partial(from_torchvision, "vgg19"), "image", 32),
    "wideresnet28_10": Entry(partial(wide_resnet, depth=28, width=10, dropout=0.3), "image", 1),
}


def build(
    name: str,
    *,
    shape: tuple[int, ...],
    classes: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    seed: int,
) -> Network:
    """A freshly initialised network in eval mode, on the CPU.

    shape: of one input, (c, h, w) or (f,). mean, std: in input units, one number or one per channel
    or feature. The weights depend on `seed` alone; the global random state stays as it is. Raises
    UserError for an unknown name and for a shape or a number of classes that it cannot take.
    """
    entry = _checked(name, shape, classes)
    # The CPU generator alone: torch.manual_seed would reseed the GPUs too.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        body = entry.build(shape, classes)
        normalise = Normalise(mean, std, shape=shape) if entry.normalise else nn.Identity()
        return Network(normalise, body).eval()


def entry_of(function: str, *, normalise: bool = True) -> Entry:
    """The entry of "file.py:function" of the user's own, or of "torchvision:model"."""
    source, _, name = function.rpartition(":")
    if source == own.TORCHVISION:
        return Entry(partial(_any_torchvision, name), "", 0, normalise=normalise)
    return Entry(partial(own_networks.build, function), "", 0, normalise=normalise)


def _any_torchvision(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    models = load_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}; {nearest(name, known)}")
    with own.told(f"{own.TORCHVISION}:{name}"):
        return from_torchvision(name, shape, classes)


def _checked(name: str, shape: tuple[int, ...], classes: int) -> Entry:
    """The entry of `name`, or a UserError that says why it does not fit."""
    if name in own.NETWORKS:
        return entry_of(**own.NETWORKS[name])
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0)[0]
        raise UserError(
            f"network {name!r} is not known; the nearest is {near!r}, of {', '.join(REGISTRY)}"
        )
    entry = REGISTRY[name]
    size = "x".join(map(str, shape[1:] or shape))
    given = f"images of {size} pixels" if len(shape) == 3 else f"vectors of {size} features"
    if len(shape) != (3 if entry.input == "image" else 1):
        raise UserError(
            f"network {name!r} takes {entry.input}s, not {given}; "
            f"choose another network or {entry.input} data"
        )
    if min(shape[1:] or shape) < entry.min_size:
        smallest = "x".join([str(entry.min_size)] * len(shape[1:] or shape))
        raise UserError(
            f"network {name!r} cannot take {given}: the smallest it takes is {smallest}; "
            "choose another network or larger inputs"
        )
    if entry.classes not in (None, classes):
        raise UserError(
            f"network {name!r} tells {entry.classes} classes apart, the data have {classes}; "
            "choose another network"
        )
    return entry


def load_weights(network: Network, state: dict[str, Tensor], *, origin: str) -> None:
    """Put a user's weights into a network; `origin` says where they are from, for the error.

    state: named as in `network.body`, with or without "body."; counts of batches may be lacking.
    With "normalise.mean" and "normalise.std", as in our checkpoints, these replace the network's.
    Raises UserError, which names the first few names and shapes that do not fit.
    """
    own = network.state_dict()
    given = {
        name if name in own and f"body.{name}" not in own else f"body.{name}": tensor
        for name, tensor in state.items()
    }
    optional = [n for n in own if n.startswith("normalise.") or n.endswith(".num_batches_tracked")]
    found = {
        "missing": [n for n in own if n not in given and n not in optional],
        "unknown": [n for n in given if n not in own],
        "of another shape": [
            f"{n} {_by(tensor)}, expected {_by(own[n])}"
            for n, tensor in given.items()
            if n in own and tensor.shape != own[n].shape
        ],
    }
    odd = [
        f"{len(names)} {what} ({', '.join(n.removeprefix('body.') for n in names[:3])}"
        f"{', ...' * (len(names) > 3)})"
        for what, names in found.items()
        if names
    ]
    if odd:
        raise UserError(
            f"{origin}: the weights do not fit: {'; '.join(odd)}; give those of the same network, "
            "for as many classes and channels as the data set has"
        )
    network.load_state_dict(own | given)


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every Conv2d and Linear by its module path, in the order of definition.

    Paths are relative to `network.body` where there is one, else to `network`.
    """
    body = getattr(network, "body", network)
    return {
        path: module
        for path, module in body.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def called(network: nn.Module, images: Tensor) -> set[str]:
    """Names of the layers that a network calls on images: others have no output to ablate."""
    seen, hooks = set(), []
    for name, layer in layers(network).items():
        hooks.append(layer.register_forward_hook(lambda *_, name=name: seen.add(name)))
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return seen


def _filters(layer: nn.Module) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features


def catalogue() -> dict:
    """What can be known of every network without building it.

    {network: {"input", "min_size", "layers": [[path, "conv" or "linear", filters], ...]}}, where
    filters is a number, or "classes" for a layer with one filter per class.
    """
    facts = {}
    for name, entry in REGISTRY.items():
        shape = (3, entry.min_size, entry.min_size) if entry.input == "image" else (entry.min_size,)
        counts = [entry.classes] * 2 if entry.classes else [2, 3]
        with torch.device("meta"):
            one, other = (layers(entry.build(shape, classes)) for classes in counts)
        rows = [
            [
                path,
                "conv" if isinstance(layer, nn.Conv2d) else "linear",
                _filters(layer) if _filters(layer) == _filters(other[path]) else "classes",
            ]
            for path, layer in one.items()
        ]
        facts[name] = {"input": entry.input, "min_size": entry.min_size, "layers": rows}
    return facts


def catalogue_text() -> str:
    """The catalogue as JSON: networks sorted by name, one layer a line."""
    networks = []
    for name, facts in sorted(catalogue().items()):
        head = json.dumps({name: facts | {"layers": []}})[1:].removesuffix("]}}")
        rows = ",\n".join(f"  {json.dumps(row)}" for row in facts["layers"])
        networks.append(f" {head}\n{rows}\n ]}}")
    return "{\n" + ",\n".join(networks) + "\n}\n"


if __name__ == "__main__":
    CATALOGUE_FILE.write_text(catalogue_text(), encoding="utf-8")
