"""What belongs to a unit: set to 0, it gives nothing, and the others give what they did."""

import pytest
import torch
from torch import nn

from faultline.networks.layers import filters, kind, layers, of_units, weights
from faultline.networks.reach import used

LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 9)),
    "conv3d": (nn.Conv3d(4, 6, 3, bias=False), (2, 4, 5, 5, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 5)),
    "transposed in groups": (nn.ConvTranspose1d(4, 6, 3, groups=2), (2, 4, 5)),
    "linear": (nn.Linear(4, 6), (2, 4)),
    "rnn": (nn.RNN(4, 3, batch_first=True), (2, 5, 4)),
    "lstm": (nn.LSTM(4, 3, batch_first=True), (2, 5, 4)),
    "gru of two passes": (nn.GRU(4, 3, batch_first=True, bidirectional=True), (2, 5, 4)),
    "batchnorm": (nn.BatchNorm1d(4), (2, 4, 5)),
    "layernorm": (nn.LayerNorm(4), (2, 5, 4)),
    "rmsnorm": (nn.RMSNorm(4), (2, 5, 4)),
}


def without(layer, units, inputs):
    changed = {
        name: parameter.detach().masked_fill(of_units(layer, units)[name], 0.0)
        for name, parameter in layer.named_parameters()
        if name in of_units(layer, units)
    }
    with torch.no_grad():
        out = torch.func.functional_call(layer, changed, inputs)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("name", LAYERS)
def test_a_unit_without_its_parameters_gives_nothing(name):
    torch.manual_seed(0)
    layer, shape = LAYERS[name]
    layer.eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    inputs = torch.rand(shape)
    axis = 1 if kind(layer) == "conv" or isinstance(layer, nn.BatchNorm1d) else -1
    base = without(layer, [], (inputs,)).movedim(axis, 0)
    assert filters(layer) == len(base)
    for unit in range(filters(layer)):
        found = without(layer, [unit], (inputs,)).movedim(axis, 0)
        assert not found[unit].any() and base[unit].any()
        if kind(layer) != "recurrent":  # whose units read each other
            others = [other for other in range(len(base)) if other != unit]
            torch.testing.assert_close(found[others], base[others])


def test_depths_of_a_recurrent_layer_are_counted_one_after_the_other():
    layer = nn.LSTM(4, 3, num_layers=2)
    assert filters(layer) == 6
    assert set(of_units(layer, [4])) == {
        f"{name}_l1" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    assert of_units(layer, [4])["weight_ih_l1"].any(1).nonzero().flatten().tolist() == [1, 4, 7, 10]


@pytest.mark.parametrize("apart", [False, True])
def test_a_head_without_its_parameters_adds_nothing(apart):
    torch.manual_seed(0)
    sizes = {"kdim": 5, "vdim": 7} if apart else {}
    layer = nn.MultiheadAttention(6, 3, batch_first=True, **sizes).eval()
    query, key, value = (torch.rand(2, 4, size) for size in ((6, 5, 7) if apart else (6, 6, 6)))
    nn.init.normal_(layer.in_proj_bias)
    everything = without(layer, [0, 1, 2], (query, key, value))
    torch.testing.assert_close(everything, layer.out_proj.bias.expand_as(everything))
    # what a head adds: its attention, by hand, through its columns of the output
    if apart:
        into = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    else:
        into = layer.in_proj_weight.chunk(3)
    q, k, v = (
        (x @ w.T + b)[..., 2:4]
        for x, w, b in zip((query, key, value), into, layer.in_proj_bias.chunk(3), strict=True)
    )
    attended = (q @ k.transpose(1, 2) / 2**0.5).softmax(-1) @ v
    adds = attended @ layer.out_proj.weight[:, 2:4].T
    difference = without(layer, [], (query, key, value)) - without(layer, [1], (query, key, value))
    torch.testing.assert_close(difference, adds)


def test_a_column_of_an_embedding():
    layer = nn.Embedding(5, 4)
    found = without(layer, [2], (torch.tensor([[0, 4]]),))
    assert filters(layer) == 4 and not found[..., 2].any() and found[..., [0, 1, 3]].all()


class Reading(nn.Module):
    """Reads the weights of one layer without calling it, and never uses another."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.plain = nn.LayerNorm(4, elementwise_affine=False)
        self.read, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.plain(self.norm(self.attention(x, x, x, need_weights=False)[0]))
        return (x @ self.read.weight.T).mean(1)


def test_layers_and_which_of_them_are_used():
    network = Reading().eval().requires_grad_(False)
    assert list(layers(network)) == ["attention", "read", "idle"]
    assert list(layers(network, norms=True)) == ["attention", "norm", "read", "idle"]
    assert used(network, torch.rand(2, 5, 4)) == {"attention", "norm", "read"}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert list(weights(network.attention)) == ["in_proj_weight", "out_proj.weight"]
