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
