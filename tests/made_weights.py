"""Networks with weights that are made of others, in every way that torch has."""

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows, self.last = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.rows(x[:, 0])[0][:, -1])


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        x = x[:, 0]
        return self.last(self.heads(x, x, x, need_weights=False)[0].mean(1))


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 3))


def pruned(layer, name="weight"):
    prune.l1_unstructured(layer, name, 0.5)
    prune.random_unstructured(layer, name, 0.5)
    prune.random_unstructured(layer, "bias" if name == "weight" else "bias_ih_l0", 0.5)


MADE = {
    "weight_norm": (linear, "1", parametrizations.weight_norm),
    "spectral_norm": (linear, "1", parametrizations.spectral_norm),
    "orthogonal": (linear, "1", parametrizations.orthogonal),
    "pruned": (linear, "1", pruned),
    "old weight_norm": (linear, "1", nn.utils.weight_norm),
    "old spectral_norm": (linear, "1", nn.utils.spectral_norm),
    "rows": (Rows, "rows", lambda m: parametrizations.weight_norm(m, "weight_hh_l0")),
    "rows, old": (Rows, "rows", lambda m: nn.utils.weight_norm(m, "weight_hh_l0")),
    "rows, pruned": (Rows, "rows", lambda m: pruned(m, "weight_hh_l0")),
    "heads": (Heads, "heads", lambda m: parametrizations.weight_norm(m.out_proj)),
    "heads, inside": (
        Heads,
        "heads",
        lambda m: parametrizations.spectral_norm(m, "in_proj_weight"),
    ),
}
"""Network, its layer, and what makes the weights of this."""


def made(name):
    torch.manual_seed(0)
    make, layer, of = MADE[name]
    network = make()
    of(network.get_submodule(layer))
    with torch.no_grad():
        for parameter in network.parameters():  # so that they are not what they were made from
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network, layer
