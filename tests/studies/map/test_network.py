import pandas as pd
import pytest
from torch import nn
from trainings import dataset_of, network_of

from faultline.ablation.graph import graph, graph_table, weight_norms
from faultline.data.splits import images_of
from faultline.studies.map.network import map_network

PLACE = {"dataset": "d", "network": "n", "training": "t"}


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network_of()

    def forward(self, x):
        return self.body(x if x.sum() > 0 else -x)


@pytest.mark.parametrize("make", [network_of, Untraceable])
def test_a_network_is_drawn_once_and_the_norms_are_of_every_checkpoint(make, capsys):
    dataset = dataset_of(test=40)
    networks = [({**PLACE, "seed": seed, "epoch": 2}, make().eval()) for seed in (3, 4)]
    networks[0][1].requires_grad_(False)
    next(networks[0][1].parameters()).fill_(1.0)
    drawn, norms = map_network(iter(networks), dataset)
    nodes, reason = graph(networks[1][1], images_of(dataset, "test", 2)[0])
    assert bool(reason) == (make is Untraceable)
    assert ("in the order in which they are called" in capsys.readouterr().out) == bool(reason)
    expected = graph_table(networks[1][1], nodes, traced=not reason)
    assert [*drawn][:2] == ["dataset", "network"] and {*drawn["network"]} == {"n"}
    pd.testing.assert_frame_equal(drawn[[*expected]], expected)
    assert [*norms][:5] == [*PLACE, "seed", "epoch"] and norms["seed"].tolist() == [3, 3, 4, 4]
    values = [value for _, network in networks for value in weight_norms(network)["value"]]
    assert norms["value"].tolist() == values and len({*values}) == 3
