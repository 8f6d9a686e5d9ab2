"""What inputs reach of a network that sends them different ways."""

import torch
from own_networks import Patches
from support import OWN_NETWORKS
from torch import nn

from faultline.networks import inspect
from faultline.networks.reach import IMAGES, batches, reach, used

SMALL = ((1, 8, 8), 10)
HERE = f"{OWN_NETWORKS}:"


class Gated(nn.Module):
    """Input k of the unit vectors goes to expert k alone."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(5, 2) for _ in range(4))

    def forward(self, x):
        out = x.new_zeros(len(x), 2)
        for number, expert in enumerate(self.experts):
            chosen = x.argmax(1) == number
            if chosen.any():
                out[chosen] = expert(x[chosen])
        return out


class ByMean(nn.Module):
    """What a batch reaches depends on all of it."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.high(x) if x.mean() > 0 else self.low(x)


def test_every_image_counts():
    images = torch.eye(5)[torch.arange(200) // 40]
    assert used(Gated(), images[:40]) == {"experts.0"}
    assert used(Gated(), images[:80]) == {"experts.0", "experts.1"}
    assert used(Gated(), images) == {f"experts.{number}" for number in range(4)}
    found = reach(Gated(), batches(images[160:]))  # of no expert
    assert (found.layers, found.inputs, found.routes) == (set(), 40, True)


def test_batches_of_several_sizes():
    sizes = [len(batch) for batch in batches(torch.zeros(1000, 1))]
    assert sum(sizes) == IMAGES and {*sizes} == {1, 2, 4, 8, 16, 32}
    assert torch.equal(torch.cat([*batches(torch.arange(9.0)[:, None])])[:, 0], torch.arange(9.0))
    assert {len(batch) for batch in batches(torch.zeros(20, 3, 224, 224))} == {1, 2}
    images = torch.tensor([3.0, 3, 3, 3, 3, 3, 3, -1])[:, None].expand(-1, 2)
    assert used(ByMean(), images) == {"high"}  # the last is seen in the midst of others
    assert used(ByMean(), images.flip(0)) == {"low", "high"}


def test_one_image_is_enough_where_all_go_one_way():
    found = reach(Patches((1, 8, 8), 10).eval(), batches(torch.rand(100, 1, 8, 8)))
    assert (found.inputs, found.routes) == (1, False)


def test_layers_that_are_reached_for_some_inputs_are_found():
    found = inspect.probe(f"{HERE}Experts", [SMALL])
    assert [row[0] for row in found["layers"]] == ["gate", *(f"experts.{n}" for n in range(4))]
    assert found["unseen"] == [["spare", "Linear", 650, "unused"]]
    assert found["tried"] == IMAGES
    again = inspect.probe(f"{HERE}Experts", [SMALL])
    assert again.pop("seconds") and found.pop("seconds") and again == found
    found = inspect.probe(f"{HERE}Halves", [SMALL])
    assert [row[0] for row in found["layers"]] == ["first", "low", "high"] and not found["unseen"]


def test_an_embedding_of_experts_for_tokens():
    found = inspect.probe(f"{HERE}Texts", [((6,), 3, 20)])
    assert [row[0] for row in found["layers"]] == ["embedding", "early", "late"]


def test_a_network_that_keeps_what_it_makes_of_weights_uses_them():
    found = inspect.probe(f"{HERE}Caching", [SMALL])
    assert [row[0] for row in found["layers"]] == ["first", "head"] and not found["unseen"]


def test_what_is_moved_while_looking_goes_back():
    network = Gated().eval()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    found = inspect.explored(network, (5,))
    assert found.layers == {f"experts.{number}" for number in range(4)}
    for parameter, value in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, value) and parameter.grad is None
