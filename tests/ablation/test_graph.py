"""The graph of a network, against networks whose graph is known by hand."""

import copy

import pytest
import torch
from torch import nn
from trainings import assert_same_bits

from faultline.ablation.graph import graph, graph_table, weight_norms
from faultline.networks.architectures import TokenNetwork
from faultline.networks.registry import build


class Own(nn.Module):
    """A network of given layers and a given forward."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


def test_the_embedding_of_tokens_is_drawn_with_what_attacks_add_to_it():
    body = Own(
        lambda own, tokens: own.fc(own.embedding(tokens).mean(1)),
        embedding=nn.Embedding(20, 6),
        fc=nn.Linear(6, 3),
    )
    nodes, reason = graph(TokenNetwork(body).eval(), torch.zeros(1, 7, 1 + 6))
    assert not reason
    assert [(node.kind, node.layer, node.sources) for node in nodes] == [
        ("input", "", ()),
        ("embedding", "embedding", ("input",)),
        ("add", "", ("embedding", "input")),
        ("linear", "fc", ("embedding.add",)),
        ("output", "", ("fc",)),
    ]


class OwnConv(nn.Conv2d):
    """A layer of the user's own kind."""

    def forward(self, x):
        return super().forward(x) * 2


def conv(inputs=1, outputs=2):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def residual(net, x):
    x = torch.relu(net.a(x))
    out = net.c(torch.relu(net.b(x)))
    out += x
    return net.fc(out.mean((2, 3)))


def concatenated(net, x):
    x = net.a(x)
    return net.fc(torch.cat([net.b(x), net.c(x)], 1).flatten(1).sigmoid())


def halves(net, x):
    left, right = net.a(x).chunk(2, dim=1)
    return net.fc(torch.cat((left, net.b(right)), dim=1).view(x.size(0), -1))


def gated(net, x):
    x = net.a(x)
    return net.fc((x * net.b(x.mean((2, 3), keepdim=True)).sigmoid()).flatten(1))


def without_layers(net, x):
    x = net.a(x)
    x = x * x.sigmoid() + x.abs().mul(2)  # branches without layers, that meet in nothing of ours
    return net.fc(x.flatten(1))


def twice(net, x):
    x = net.a(x)
    return net.fc(net.b(net.b(x)).add_(x).flatten(1))


def attention(net, x):
    x = net.a(x).flatten(2)
    return net.fc(torch.bmm(x, net.b(x).transpose(1, 2)).flatten(1))


def vit(net, x):
    x = net.patches(x).flatten(2).transpose(1, 2)
    seen = net.norm(x)
    x = x + net.attention(seen, seen, seen)[0]
    return net.fc(x.mean(1))


def reads_weights(net, x):
    x = net.a(x).flatten(1)
    return net.c(torch.nn.functional.linear(x, net.b.weight, net.b.bias))


def tokens(net, x):
    out, (hidden, _) = net.lstm(net.embed(x.flatten(1).long()))
    return net.fc(torch.cat([out[:, -1], hidden[-1]], 1))


IN = ("input", "input", ())
GRAPHS = {
    "chain": (
        nn.Sequential(conv(), nn.ReLU(), conv(2, 3), nn.Flatten(), nn.Linear(48, 2)),
        [
            *(IN, ("0", "conv", ("input",)), ("2", "conv", ("0",)), ("4", "linear", ("2",))),
            ("output", "output", ("4",)),
        ],
    ),
    "residual": (
        Own(residual, a=conv(), b=conv(2), c=conv(2), fc=nn.Linear(2, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "conv", ("a",)), ("c", "conv", ("b",))),
            *(("add", "add", ("c", "a")), ("fc", "linear", ("add",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "concat": (
        Own(concatenated, a=conv(), b=conv(2), c=conv(2), fc=nn.Linear(64, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "conv", ("a",)), ("c", "conv", ("a",))),
            *(("concat", "concat", ("b", "c")), ("fc", "linear", ("concat",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "halves": (
        Own(halves, a=conv(), b=conv(1, 1), fc=nn.Linear(32, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "conv", ("a",))),
            *(("concat", "concat", ("a", "b")), ("fc", "linear", ("concat",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "gated": (
        Own(gated, a=conv(), b=nn.Conv2d(2, 2, 1), fc=nn.Linear(32, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "conv", ("a",))),
            *(("multiply", "multiply", ("a", "b")), ("fc", "linear", ("multiply",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "without layers": (
        Own(without_layers, a=conv(), fc=nn.Linear(32, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("fc", "linear", ("a",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "twice": (
        Own(twice, a=conv(), b=conv(2), fc=nn.Linear(32, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "conv", ("a",)), ("b:2", "conv", ("b",))),
            *(("add", "add", ("b:2", "a")), ("fc", "linear", ("add",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "another join": (
        Own(attention, a=conv(), b=nn.Linear(16, 16), fc=nn.Linear(4, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "linear", ("a",))),
            *(("join", "join", ("a", "b")), ("fc", "linear", ("join",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "attention": (
        Own(
            vit,
            patches=nn.Conv2d(1, 4, 2, 2),
            norm=nn.LayerNorm(4),
            attention=nn.MultiheadAttention(4, 2, batch_first=True),
            fc=nn.Linear(4, 2),
        ),
        [
            *(IN, ("patches", "conv", ("input",)), ("attention", "attention", ("patches",))),
            *(("add", "add", ("patches", "attention")), ("fc", "linear", ("add",))),
            ("output", "output", ("fc",)),
        ],
    ),
    "one operation of torch": (
        nn.Sequential(
            nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), nn.Flatten()
        ),
        [
            *(IN, ("1.self_attn", "attention", ("input",))),
            *(("1.linear1", "linear", ("1.self_attn",)), ("1.linear2", "linear", ("1.linear1",))),
            ("output", "output", ("1.linear2",)),
        ],
    ),
    "weights read": (
        Own(reads_weights, a=conv(), b=nn.Linear(32, 3), c=nn.Linear(3, 2)),
        [
            *(IN, ("a", "conv", ("input",)), ("b", "linear", ("a",)), ("c", "linear", ("b",))),
            ("output", "output", ("c",)),
        ],
    ),
    "tokens": (
        Own(
            tokens,
            embed=nn.Embedding(3, 4),
            lstm=nn.LSTM(4, 2, batch_first=True),
            fc=nn.Linear(4, 2),
        ),
        [
            *(IN, ("embed", "embedding", ("input",)), ("lstm", "recurrent", ("embed",))),
            *(("fc", "linear", ("lstm",)), ("output", "output", ("fc",))),
        ],
    ),
    "layer of one's own": (
        nn.Sequential(OwnConv(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)),
        [IN, ("0", "conv", ("input",)), ("2", "linear", ("0",)), ("output", "output", ("2",))],
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_nodes_and_edges(case):
    network, expected = GRAPHS[case]
    before = copy.deepcopy(network.train())
    nodes, reason = graph(network, torch.rand(1, 1, 4, 4))
    assert not reason
    assert [(node.name, node.kind, node.sources) for node in nodes] == expected
    assert network.training and network.state_dict().keys() == before.state_dict().keys()
    assert_same_bits(dict(network.state_dict()), dict(before.state_dict()))


def test_a_network_that_cannot_be_traced_is_a_chain_of_calls():
    def forward(net, x):
        x = net.b(net.a(x)) if x.sum() > 0 else x
        return net.fc(x.flatten(1))

    network = Own(forward, b=conv(2), a=conv(), fc=nn.Linear(32, 2), unused=conv())
    nodes, reason = graph(network, torch.rand(1, 1, 4, 4))
    assert "cannot be traced" in reason and "\n" not in reason
    assert [(n.name, n.kind, n.sources) for n in nodes] == [
        *(IN, ("a", "conv", ("input",)), ("b", "conv", ("a",)), ("fc", "linear", ("b",))),
        ("output", "output", ("fc",)),
    ]
    assert not any(layer._forward_hooks for layer in network.modules())
    assert not graph_table(network, nodes, traced=False)["traced"].any()


def test_what_other_images_reach_stands_in_the_chain_where_they_reach_it():
    def forward(net, x):
        x = net.a(x)
        x = net.c(net.b(x)) if x.sum() > 0 else net.d(x)
        return net.fc(x)

    parts = {name: nn.Linear(2, 2) for name in "abcd"} | {"fc": nn.Linear(2, 3)}
    network = Own(forward, **parts, unused=nn.Linear(2, 2))
    network.a.weight.data, network.a.bias.data = torch.eye(2), torch.zeros(2)
    one, other = torch.ones(1, 2), -torch.ones(1, 2)
    for images, expected in [
        (one, "a b c fc"),
        (torch.cat([one, one, other]), "a d b c fc"),
        (torch.cat([other, one]), "a b c d fc"),
    ]:
        nodes, _ = graph(network, images)
        assert [node.name for node in nodes] == ["input", *expected.split(), "output"]


def test_a_network_that_is_another_when_traced_is_a_chain():
    calls = []

    def forward(net, x):
        calls.append(1)
        return net.fc(x) + len(calls)

    network = Own(forward, fc=nn.Linear(3, 2))
    nodes, reason = graph(network, torch.rand(1, 3))
    assert "other logits" in reason and [node.name for node in nodes] == ["input", "fc", "output"]


def test_the_table_tells_sizes():
    network = build("small_resnet", shape=(1, 8, 8), classes=10, mean=0.5, std=0.3, seed=0)
    nodes, _ = graph(network, torch.rand(1, 1, 8, 8))
    table = graph_table(network, nodes, traced=True).set_index("node")
    assert table.loc["layer2.add", "sources"] == "layer2.conv2,layer2.downsample.0"
    assert table.loc["layer2.add", "layer"] == "" and table.loc["layer2.add", "filters"] == 0
    assert table.loc["layer2.conv1", ["filters", "weights", "shape"]].tolist() == [
        *(32, 32 * 16 * 9, "32x4x4"),
    ]
    assert table.loc["input", "shape"] == "1x8x8" and table.loc["output", "shape"] == "10"


def test_the_table_tells_units_and_all_weights_of_any_layer():
    network, _ = GRAPHS["attention"]
    nodes, _ = graph(network, torch.rand(1, 1, 4, 4))
    table = graph_table(network, nodes, traced=True).set_index("node")
    told = ["kind", "filters", "weights", "shape"]
    assert table.loc["attention", told].tolist() == ["attention", 2, 4 * 4 * 4, "4x4"]
    network, _ = GRAPHS["tokens"]
    nodes, _ = graph(network, torch.rand(1, 1, 2, 4))
    table = graph_table(network, nodes, traced=True).set_index("node")
    assert table.loc["embed", told].tolist() == ["embedding", 4, 12, "8x4"]
    assert table.loc["lstm", told].tolist() == ["recurrent", 2, 4 * 2 * (4 + 2), "8x2"]


def test_the_norm_of_a_layer_is_that_of_all_of_its_weights():
    layer = nn.LSTM(2, 1)
    for index, parameter in enumerate(layer.parameters()):  # biases are none
        nn.init.constant_(parameter, [1.0, 2.0, 9.0, 9.0][index])
    (found,) = weight_norms(nn.Sequential(layer))["value"]
    assert found == pytest.approx((8 * 1 + 4 * 4) ** 0.5)


def test_norms_are_those_of_the_weights():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
        network[2].weight.copy_(torch.tensor([[3.0, 4.0]]))
    assert weight_norms(network).to_dict("list") == {"layer": ["0", "2"], "value": [5.0, 5.0]}
