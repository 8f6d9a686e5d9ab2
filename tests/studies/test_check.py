"""The units that a network can least do without, against units planted and a plain loop."""

import copy

import numpy as np
import pytest
import torch
from support import error_of
from torch import nn

from faultline import check, layers
from faultline.networks.layers import of_units
from faultline.studies import check as checking
from faultline.studies.screen import screened


def planted(*, inplace=False):
    """All predictions come of unit 4 of the first layer, but class 1 would be next."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(inplace), nn.Linear(6, 3))
    with torch.no_grad():
        network[1].weight.mul_(0.1)
        network[1].weight[4] = 1.0
        network[3].weight.mul_(0.1)
        network[3].weight[:, 4] = torch.tensor([1.0, 0.0, 0.0])
        network[3].bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
    return network.eval(), torch.rand(40, 1, 2, 4) + 0.5


def lost_in_a_loop(network, images, name, unit):
    changed = copy.deepcopy(network)
    layer = layers(changed)[name]
    with torch.no_grad():
        layer.weight[unit] = 0
        layer.bias[unit] = 0
        return (changed(images).argmax(1) != network(images).argmax(1)).float().mean().item()


def test_a_planted_unit_is_found_first_and_all_are_what_a_plain_loop_gives():
    network, images = planted()
    found = check(network, images, minutes=1, limit=0.1)
    first = found.units.head(2)
    assert {*zip(first["layer"], first["filter"], strict=True)} == {("1", 4), ("3", 0)}
    assert (first["lost"] == 1).all() and (first["expected"] > 0.5).all()
    assert found.removed == len(found.units) == 9
    for row in found.units.itertuples():
        assert row.lost == pytest.approx(lost_in_a_loop(network, images, row.layer, row.filter))
    assert found.units["lost"].is_monotonic_decreasing
    assert "2 of 9 units that were removed, of 9, change more than 10.0%" in found.summary()
    page = found.page("a <b>")
    assert "a &lt;b&gt;" in page and 'class="fault-map' in page.replace("faultmap", "fault-map")


def test_the_screen_of_one_layer_by_hand():
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        network[1].bias.copy_(torch.tensor([0.0, 0.0, -1.0]))
    images = torch.tensor([[1.0, 2.0]])  # logits 3, 2 and -1: leads of 1 and 4
    (found,) = screened(network, images, layers(network), batch_size=4).values()
    # without unit 0, leads fall by 3 of 1 and 3 of 4; 1: by -2 of 1; 2: by 1 of 4
    falls = np.array([3.0, 0.0, 0.25])
    assert found == pytest.approx(1 / (1 + np.exp(-4 * (falls - 1))))


def test_what_works_in_place_or_is_frozen_is_screened_alike():
    network, images = planted()
    inplace = planted(inplace=True)[0].requires_grad_(False)
    before = [p.clone() for p in inplace.parameters()]
    one = screened(network, images, layers(network), batch_size=16)
    other = screened(inplace, images, layers(inplace), batch_size=40)
    assert all(other[name] == pytest.approx(of, rel=1e-5) for name, of in one.items())
    assert all(map(torch.equal, inplace.parameters(), before))
    assert not any(p.requires_grad for p in inplace.parameters())


def test_heads_are_screened_by_their_weights():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads, self.last = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.heads(x, x, x, need_weights=False)[0].mean(1))

    torch.manual_seed(0)
    network, images = Heads().double().eval(), torch.rand(1, 3, 4).double()
    found = screened(network, images, {"heads": network.heads}, batch_size=1)["heads"]

    def lead():
        with torch.no_grad():
            best, other = network(images)[0].sort(descending=True).values
        return (best - other).item()

    for unit in range(2):
        before, step = lead(), 1e-6
        for name, mask in of_units(network.heads, [unit]).items():
            network.heads.get_parameter(name).data[mask] *= 1 - step
        fall = (before - lead()) / step / before
        for name, mask in of_units(network.heads, [unit]).items():
            network.heads.get_parameter(name).data[mask] /= 1 - step
        counted = max(fall, -fall / 2)
        assert found[unit] == pytest.approx(1 / (1 + np.exp(-4 * (counted - 1))), rel=1e-3)


def test_once_the_time_is_over_the_rest_stays_as_expected(monkeypatch):
    monkeypatch.setattr(checking, "FIRST", 2)
    network, images = planted()
    told = []
    found = check(network, images, minutes=1e-9, tell=told.append)
    assert found.removed == 2 and len(told) == 1
    assert found.units["lost"].notna().tolist() == [True] * 2 + [False] * 7
    assert found.units["expected"].tail(7).is_monotonic_decreasing
    assert found.facts()["units"][-1]["lost"] is None


def test_what_makes_no_sense_is_refused():
    network, images = planted()
    assert "check: minutes" in error_of(check, network, images, minutes=0)
    assert "check: limit" in error_of(check, network, images, limit=-1)
    assert "check: layers" in error_of(check, network, images, layers=["9"])
    with torch.no_grad():
        network[3].bias[0] = torch.nan
    assert "40 of 40 outputs are not finite" in error_of(check, network, images)
