"""Networks as users write them, with parts that are no layers and layers of every kind."""

import torch
from torch import nn


class Mix(nn.Module):
    """A product with a matrix of its own, which is no layer of torch's."""

    def __init__(self, size):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(size, size))

    def forward(self, x):
        return x @ self.matrix


class Heads(nn.Module):
    """Attention that is scaled."""

    def __init__(self, size):
        super().__init__()
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x + self.scale * self.attention(x, x, x, need_weights=False)[0]


class Patches(nn.Module):
    """A small transformer of images, of which some parts are never used."""

    def __init__(self, shape, classes):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(8))
        self.left = nn.Parameter(torch.zeros(8))
        self.patch = nn.Conv2d(shape[0], 8, 4, 4)
        self.heads = Heads(8)
        self.spare = nn.MultiheadAttention(8, 2)
        self.mix = Mix(8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.token
        return self.head(self.norm(self.mix(self.heads(x))).mean(1))


class Rows(nn.Module):
    """Reads the rows of an image one after the other."""

    def __init__(self, shape, classes):
        super().__init__()
        self.rows = nn.GRU(shape[2], 6, batch_first=True)
        self.last = nn.Linear(6, classes)

    def forward(self, x):
        return self.last(self.rows(x[:, 0])[0][:, -1])


def plain(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], classes))


def sized_norm(shape, classes):
    return nn.Sequential(
        nn.LayerNorm(shape[1:]), nn.ReLU(), nn.Conv2d(1, classes, shape[1]), nn.Flatten()
    )


def weight_normed(shape, classes):
    linear = nn.Linear(shape[1] * shape[2], classes)
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(linear))


def heads_parametrised(shape, classes):
    network = Patches(shape, classes)
    nn.utils.parametrizations.weight_norm(network.heads.attention.out_proj)
    return network


def lazy_rows(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


class Experts(nn.Module):
    """Each image goes to one of four experts; a gate that starts at 0 sends all to the first."""

    def __init__(self, shape, classes):
        super().__init__()
        self.gate = nn.Linear(shape[1] * shape[2], 4)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.experts = nn.ModuleList(nn.Linear(shape[1] * shape[2], classes) for _ in range(4))
        self.spare = nn.Linear(shape[1] * shape[2], classes)

    def forward(self, x):
        x = x.flatten(1)
        which, out = self.gate(x).argmax(1), x.new_zeros(len(x), self.experts[0].out_features)
        for number, expert in enumerate(self.experts):
            chosen = which == number
            if chosen.any():
                out[chosen] = expert(x[chosen])
        return out


class Halves(nn.Module):
    """The batch decides which half is used."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first = nn.Linear(shape[1] * shape[2], 16)
        self.low, self.high = nn.Linear(16, classes), nn.Linear(16, classes)

    def forward(self, x):
        h = self.first(x.flatten(1))
        return self.high(h) if h.mean() > 0 else self.low(h)


class Texts(nn.Module):
    """Sequences of rare tokens go their own way."""

    def __init__(self, shape, classes):
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.early, self.late = nn.Linear(4, classes), nn.Linear(4, classes)

    def forward(self, x):
        h = self.embedding(x).mean(1)
        return self.late(h) if x.float().mean() > 14 else self.early(h)


class Caching(nn.Module):
    """Keeps what it made of a weight while in eval mode, as the attention biases of LeViT."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.head = nn.Linear(shape[1] * shape[2], 16), nn.Linear(16, classes)
        self.kept = {}
        with torch.no_grad():
            self.eval()
            self(torch.zeros(1, *shape))

    def train(self, mode=True):
        if mode:
            self.kept = {}
        super().train(mode)

    def forward(self, x):
        weight = 2 * self.first.weight
        if not self.training:
            weight = self.kept.setdefault("weight", weight)
        return self.head(torch.relu(x.flatten(1) @ weight.T))
