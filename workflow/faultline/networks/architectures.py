"""The networks' definitions.

Every network takes pixels (or features, or tokens) and normalises them itself, so that attacks work
in pixel units.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn

from faultline.networks.forms import Form
from faultline.networks.vision import load_torchvision


class Normalise(nn.Module):
    """(x - mean) / std per channel of images [n, c, h, w] or signals [n, c, t], or per feature of
    vectors [n, f].

    mean, std: one number, or one per channel or feature. shape: of one input, without n.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: float | Sequence[float], std: float | Sequence[float], *, shape: tuple[int, ...]
    ):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.as_tensor(values, dtype=torch.float32).expand(shape[0]).clone()
            self.register_buffer(name, numbers.reshape(-1, *[1] * (len(shape) - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """The logits [n, classes]."""
        return (x - self.mean) / self.std


class Network(nn.Module):
    """Normalisation, then the network proper: raw inputs [n, *shape] to logits [n, classes].

    form: how the network proper is called, and what of its output are the logits.
    """

    def __init__(self, normalise: nn.Module, body: nn.Module, form: Form = Form()):  # noqa: B008
        super().__init__()
        self.normalise = normalise
        self.body = body
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        """The logits [n, classes]."""
        return self.form(self.body, self.normalise(x))


def body_of(network: nn.Module) -> nn.Module:
    """The network proper: paths of layers begin there. One of the user's own may call a part of its
    `body`, too."""
    return network.body if isinstance(network, Network) else network


def path_of_body(network: nn.Module) -> str:
    """What stands before the path of a layer in the network as a whole."""
    return "body." if isinstance(network, Network) else ""


class Shifted(nn.Embedding):
    """The embedding of a `TokenNetwork`, which lays here what the next output is to be moved by.

    Outside of its forward it fails: a trace that kept it whole would lose what is added.
    """

    shifts: list[Tensor] | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits [n, classes]."""
        out = super().forward(tokens)
        if self.shifts is None:
            raise RuntimeError("the embedding is called apart from its network")
        return out + self.shifts.pop() if self.shifts else out


class TokenNetwork(Network):
    """Tokens [n, t] to logits [n, classes], or [n, t, 1 + c]: the same tokens, and what is added to
    the first output of the body's embedding, its first nn.Embedding in the order of definition, of
    c columns. torch.fx traces the latter.

    unit: the root mean square of the embedding's weights when it was last measured: what ablates
    the embedding leaves it.
    """

    def __init__(self, body: nn.Module, form: Form = Form()):  # noqa: B008
        super().__init__(nn.Identity(), body, form)
        of = type(self.embedding)
        self.embedding.__class__ = type(
            of.__name__, (Shifted,) if of is nn.Embedding else (Shifted, of), {}
        )
        self.measure()

    @property
    def embedding(self) -> Shifted:
        """The first one of the body."""
        first = next(m for m in self.body.modules() if isinstance(m, nn.Embedding))
        return cast("Shifted", first)  # since the network was made

    def measure(self) -> None:
        """Takes `unit` from the weights that the embedding has now."""
        self.unit = self.embedding.weight.detach().square().mean().sqrt().item()

    def forward(self, x: Tensor) -> Tensor:
        """The logits [n, classes]."""
        embedding, shifted = self.embedding, isinstance(x, fx.Proxy) or x.is_floating_point()
        embedding.shifts = [x[..., 1:]] if shifted else []
        try:
            return self.form(self.body, x[..., 0].long() if shifted else x)
        finally:
            embedding.shifts = None


def measure(network: nn.Module) -> None:
    """Tells a network of tokens that its weights are other ones, to which attacks are relative."""
    if isinstance(network, TokenNetwork):
        network.measure()


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
        """The logits [n, classes]."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu2(out + self.downsample(x))
        return summed


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


class EncoderBlock(nn.Module):
    """A block of a transformer: attention, then two linear layers, each normalised before and added
    to what it is given."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The logits [n, classes]."""
        seen = self.norm1(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        x = x + self.fc2(self.gelu(self.fc1(self.norm2(x))))
        return x


class SmallViT(nn.Module):
    """A vision transformer of four blocks of width 48 with four heads; logits from the mean over
    the patches, of 4x4 pixels, or 2x2 where that would be fewer than 16 patches (ours)."""

    def __init__(self, shape: tuple[int, ...], classes: int, *, width: int = 48, heads: int = 4):
        super().__init__()
        channels, height, breadth = shape
        size = 4 if (height // 4) * (breadth // 4) >= 16 else 2
        self.patches = nn.Conv2d(channels, width, size, stride=size)
        count = (height // size) * (breadth // size)
        self.position = nn.Embedding(count, width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(4)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits [n, classes]."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position.weight
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits


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
        """The logits [n, classes]."""
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


def mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two hidden layers of 64 with ReLU, for vectors (ours)."""
    return nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(shape[0], 64),
            relu1=nn.ReLU(),
            fc2=nn.Linear(64, 64),
            relu2=nn.ReLU(),
            fc3=nn.Linear(64, classes),
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
        """The logits [n, classes]."""
        active = self.relu1(self.bn1(x))
        out: Tensor = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(active)))))
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


_WITH_AUXILIARY = ("googlenet", "inception_v3")


def from_torchvision(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """torchvision's definition and initialisation, without weights.

    For other than 3 channels the first convolution is made anew with the same hyper-parameters and
    PyTorch's default initialisation. ReLUs work out of place, so that the output of a layer can be
    kept by a hook; this changes no number. GoogLeNet and Inception come without their auxiliary
    classifiers, vision transformers for images of the given height.
    """
    more: dict[str, int] = (
        {"aux_logits": False, "init_weights": True} if name in _WITH_AUXILIARY else {}
    )
    if name.startswith("vit_"):
        more["image_size"] = shape[1]
    get_model = load_torchvision().models.get_model
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **more)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    path, first = next((p, m) for p, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if shape[0] != first.in_channels:
        same = {
            key: getattr(first, key) for key in ("kernel_size", "stride", "padding", "dilation")
        }
        conv = nn.Conv2d(shape[0], first.out_channels, bias=first.bias is not None, **same)
        network.set_submodule(path, conv)
    return network
