"""What is read of networks, and which of their parameters belong to no layer."""

import pytest
import torch
from own_networks import Patches
from support import OWN_NETWORKS, error_of
from torch import nn

from faultline.networks import facts, inspect
from faultline.networks.reach import reach
from faultline.networks.selection import count_filters, probed_layers, select_layers

SMALL = ((1, 8, 8), 10)
HERE = f"{OWN_NETWORKS}:"


def test_parameters_that_belong_to_no_layer():
    network, inputs = Patches((1, 8, 8), 10).eval(), torch.rand(1, 1, 8, 8)
    found = inspect.coverage(network, reach(network, [inputs]))
    rows = {row[0]: tuple(row[1:]) for row in found["unseen"]}
    assert rows == {
        "norm": ("LayerNorm", 16, "norm"),
        "spare": ("MultiheadAttention", 4 * 8 * 8 + 4 * 8, "unused"),
        "token": ("Parameter", 8, ""),
        "left": ("Parameter", 8, "unused"),
        "mix": ("Mix", 64, ""),
        "heads.scale": ("Parameter", 8, ""),
    }
    assert found["parameters"] == sum(p.numel() for p in network.parameters())


def test_kinds_of_layers_of_the_users_own():
    found = inspect.probe(f"{HERE}Patches", [SMALL])["layers"]
    assert found == [
        ["token", "parameter", 1],
        ["patch", "conv", 8],
        ["heads.scale", "parameter", 1],
        ["heads.attention", "attention", 2],
        ["mix.matrix", "parameter", 1],
        ["norm", "norm", 8],
        ["head", "linear", 10],
    ]
    found = inspect.probe(f"{HERE}Rows", [SMALL])
    assert found["layers"] == [["rows", "recurrent", 6], ["last", "linear", 10]]
    assert found["unseen"] == []


def test_normalisations_that_depend_on_the_data_are_no_layers():
    of = [SMALL, ((1, 9, 9), 10)]
    assert inspect.probe(f"{HERE}sized_norm", of)["layers"] == [["2", "conv", 10]]
    assert ["0", "norm", 64] in inspect.probe(f"{HERE}sized_norm", [SMALL])["layers"]


@pytest.mark.parametrize("function", ["weight_normed", "heads_parametrised", "lazy_rows"])
def test_weights_that_are_made_of_others_are_refused(function):
    said = error_of(inspect.probe, f"{HERE}{function}", [SMALL])
    assert "has a weight or bias that is no parameter of its own" in said
    for call in ("remove_parametrizations", "prune.remove", "remove_weight_norm"):
        assert call in said


def test_what_gives_no_gradient_is_not_called_unused():
    class Rounds(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.scale = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

        @torch.no_grad()
        def forward(self, x):
            return self.fc(x) * self.scale

    network, inputs = Rounds().eval(), torch.rand(1, 4)
    found = inspect.coverage(network, reach(network, [inputs]))
    assert found == {"parameters": 18, "unseen": [["scale", "Parameter", 3, ""]], "tried": 0}


def test_normalisations_are_layers_where_they_are_asked_for():
    known = facts.networks()["small_conv"]["layers"]
    try:
        facts.see(norms=True)
        more = facts.networks()["small_conv"]["layers"]
    finally:
        facts.see()
    assert (
        [row for row in more if row[1] != "norm"]
        == known
        == [*facts.networks()["small_conv"]["layers"]]
    )
    assert [row[0] for row in more if row[1] == "norm"] == ["bn1", "bn2", "bn3"]


def test_bare_parameters_are_layers_where_they_are_asked_for(monkeypatch):
    found = inspect.probe(f"{HERE}Patches", [SMALL])
    monkeypatch.setitem(facts._own, "patches", found)
    facts._listed.cache_clear()
    called = ["patch", "heads.attention", "head"]
    assert select_layers("patches", "all") == called
    try:
        facts.see(parameters=True)
        more = ["token", "patch", "heads.scale", "heads.attention", "mix.matrix", "head"]
        assert select_layers("patches", "all") == more
        assert select_layers("patches", "all", called=True) == called == probed_layers("patches")
        assert count_filters("patches", "token", 10) == 1
    finally:
        facts.see()
        facts._listed.cache_clear()
