"""What is counted of networks, and how long they take."""

import math

import torch
from torch import nn

from faultline.networks.facts import registry, work_of
from faultline.networks.work import arithmetic, seconds


class Small(nn.Module):
    """Its head is defined before what comes before it, and its middle is called twice."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(32, 5)
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.middle = nn.Conv2d(2, 2, 1, groups=2)

    def forward(self, x):
        x = self.norm(self.first(x))
        return self.head(self.middle(self.middle(x)).flatten(1))


def test_multiply_accumulates_by_layer():
    first, middle, head = 2 * 16 * 9, 2 * 16, 32 * 5
    total = first + 2 * middle + head
    assert arithmetic(Small().eval(), torch.rand(3, 1, 4, 4)) == {
        "": [total, total],
        "first": [first, total],
        "middle": [2 * middle, total - first],
        "head": [head, head],
    }


def test_recurrent_layers_count_each_weight_at_each_step():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rows(x)[0][:, -1]

    assert arithmetic(Last().eval(), torch.rand(2, 5, 3))["rows"] == [5 * 4 * 4 * (3 + 4)] * 2


def test_an_encoder_in_one_piece_is_counted():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    found = arithmetic(layer, torch.rand(2, 5, 8))
    attention = 5 * 8 * 3 * 8 + 2 * 5 * 5 * 8 + 5 * 8 * 8
    assert found["self_attn"][0] == attention
    assert found[""][0] == attention + 2 * 5 * 8 * 16


def test_built_in_networks_between_the_sizes_that_are_known():
    (of, known), *_ = registry()["small_conv"]["work"]
    assert of == [[3, 8, 8], 10] and work_of("small_conv", ((3, 8, 8), 10)) == known
    # its convolutions grow with the area, and its last layer does not
    at_16 = work_of("small_conv", ((1, 16, 16), 2))
    assert math.isclose(at_16["conv2"][0], 4 * known["conv2"][0])
    assert math.isclose(at_16["fc"][0], known["fc"][0])
    assert work_of("small_conv", ((30,), 2)) == {}
    assert work_of("mlp", ((30,), 2))["fc2"] == [64 * 64, 64 * 64 + 10 * 64]


def test_how_long_a_call_takes():
    call, each = seconds(Small().eval(), torch.rand(64, 1, 4, 4))
    assert call >= 0 and each > 0
