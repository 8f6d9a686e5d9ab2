"""Where the map draws what: nothing lies upon anything else, and nothing is lost."""

import functools
from itertools import combinations, pairwise

import pytest
import torch

from faultline.ablation.graph import graph
from faultline.networks.registry import build, entry_of
from faultline.studies.map.layout import APART, PAGE, TALLEST, Node, layout

NETWORKS = {
    "small_conv": (1, 8, 8),
    "small_resnet": (1, 8, 8),
    "lsa_moons": (2,),
    "resnet18": (1, 28, 28),
    "resnet50": (3, 32, 32),
    "squeezenet1_1": (1, 28, 28),
    "shufflenet_v2_x1_0": (1, 28, 28),
}
OTHERS = {"torchvision:googlenet": (3, 32, 32), "torchvision:densenet121": (3, 32, 32)}


@functools.cache
def nodes_of(name: str) -> list[Node]:
    shape = (NETWORKS | OTHERS)[name]
    classes = 2 if name == "lsa_moons" else 10
    if name in OTHERS:
        network = entry_of(name).build(shape, classes).eval()
    else:
        network = build(name, shape=shape, classes=classes, mean=0.5, std=0.3, seed=0)
    nodes, reason = graph(network, torch.rand(1, *shape))
    assert not reason
    return [Node(node.name, node.kind, node.sources) for node in nodes]


def given(**sources: str) -> list[Node]:
    """Nodes by name: kind and sources, as "conv a b"."""
    return [
        Node(name, *text.split()[:1], tuple(text.split()[1:])) for name, text in sources.items()
    ]


HAND_MADE = {
    "chain": given(i="input", a="conv i", b="conv a", o="output b"),
    "residual": given(i="input", a="conv i", b="conv a", c="conv b", s="add c a", o="output s"),
    "concat": given(i="input", a="conv i", b="conv i", c="conv i", s="concat a b c", o="output s"),
    "nested": given(
        i="input", a="conv i", b="conv a", m="multiply b a", c="conv m", s="add c i", o="output s"
    ),
    "dead end": given(i="input", a="conv i", aux="linear a", b="conv a", o="output b"),
    "long branches": given(
        i="input",
        a="conv i",
        b="conv a",
        c="conv b",
        d="conv i",
        e="conv i",
        s="concat c d e",
        t="add s b",
        o="output t",
    ),
    "from nothing": given(
        i="input", a="conv i", p="embedding", s="add a p", q="embedding", t="add s q", o="output t"
    ),
    "from nothing at first": given(
        i="input", p="embedding", q="embedding", a="conv i", s="add p a", t="add s q", o="output t"
    ),
    "to a later one": given(
        i="input", a="conv i", b="conv i", s="add a b", t="add s b", u="add t b", o="output u"
    ),
}


def apart(one, other) -> bool:
    """Whether two boxes leave a pixel between them."""
    return (
        one.x + one.width + 1 <= other.x
        or other.x + other.width + 1 <= one.x
        or one.y + one.height + 1 <= other.y
        or other.y + other.height + 1 <= one.y
    )


def crosses(start, end, box) -> bool:
    (low_x, high_x), (low_y, high_y) = (sorted(pair) for pair in zip(start, end, strict=True))
    in_x = high_x > box.x and low_x < box.x + box.width
    return in_x and high_y > box.y and low_y < box.y + box.height


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.parametrize("name", [*HAND_MADE, *NETWORKS, *OTHERS])
def test_nothing_overlaps_and_nothing_is_lost(name):
    nodes = HAND_MADE[name] if name in HAND_MADE else nodes_of(name)
    parts = layout(nodes)
    assert [box.node for part in parts for box in part.boxes] == [node.name for node in nodes]
    assert sum(len(part.ways) for part in parts) == sum(len(node.sources) for node in nodes)
    for part in parts:
        assert all(apart(one, other) for one, other in combinations(part.boxes, 2))
        for box in [*part.boxes, *part.frames]:
            assert box.x >= 0 and box.x + box.width <= part.width
            assert box.y >= 0 and box.y + box.height <= part.height
        assert all(apart(one, other) for one, other in combinations(part.frames, 2))
        for way in part.ways:
            for (x, y), (to_x, to_y) in pairwise(way):
                assert (x == to_x or y == to_y) and to_y >= y, "ways go along the axes, downwards"
                assert 0 <= to_x <= part.width
                assert not any(crosses((x, y), (to_x, to_y), box) for box in part.boxes)
    assert layout(nodes) == parts


@pytest.mark.parametrize("name", NETWORKS)
def test_ways_begin_and_end_where_their_nodes_are(name):
    nodes = nodes_of(name)
    parts = layout(nodes)
    for before, part in pairwise([None, *parts]):
        boxes = {box.node: box for box in part.boxes}
        edges = [(source, n.name) for n in nodes if n.name in boxes for source in n.sources]
        for (source, target), way in zip(edges, part.ways, strict=True):
            (x, y), (to_x, to_y) = way[0], way[-1]
            end = boxes[target]
            assert (to_x, to_y) == (end.x + end.width / 2, end.y)
            if source in boxes:
                start = boxes[source]
                assert (x, y) == (start.x + start.width / 2, start.y + start.height)
            else:  # where the part before ended
                assert source == part.before == before.boxes[-1].node and x == part.spine
                assert before.after == part.boxes[0].node


def test_blocks_are_framed_by_the_module_that_they_are_in():
    parts = {name: layout(nodes_of(name)) for name in NETWORKS}
    labels = {name: [f.label for part in of for f in part.frames] for name, of in parts.items()}
    assert labels["small_conv"] == labels["lsa_moons"] == []
    assert labels["small_resnet"] == ["layer1", "layer2", "layer3"]
    counts = zip((1, 2, 3, 4), (3, 4, 6, 3), strict=True)
    assert labels["resnet50"] == [f"layer{i}.{j}" for i, count in counts for j in range(count)]
    assert labels["squeezenet1_1"] == [f"features.{i}" for i in (3, 4, 6, 7, 9, 10, 11, 12)]
    stages = zip((2, 3, 4), (4, 8, 4), strict=True)
    units = [f"stage{i}.{j}" for i, count in stages for j in range(count)]
    assert labels["shufflenet_v2_x1_0"] == units
    names = {b.node: b.label for part in parts["squeezenet1_1"] for b in part.boxes}
    assert names["features.3.squeeze"] == "squeeze" and names["features.0"] == "features.0"


def test_parts_fit_on_a_page_and_on_a_phone():
    for name in NETWORKS:
        parts = layout(nodes_of(name))
        assert all(part.width <= 320 and part.height <= TALLEST for part in parts), name
    assert 3 * parts[0].width + 2 * APART <= PAGE
    assert len(layout(nodes_of("resnet18"))) == 3 and len(layout(nodes_of("resnet50"))) == 6


def test_the_longest_branch_keeps_to_the_left():
    (part,) = layout(HAND_MADE["long branches"])
    boxes = {box.node: box for box in part.boxes}
    assert boxes["a"].x == boxes["b"].x == boxes["c"].x < boxes["d"].x < boxes["e"].x
    assert boxes["a"].y == boxes["d"].y == boxes["e"].y < boxes["b"].y < boxes["c"].y
