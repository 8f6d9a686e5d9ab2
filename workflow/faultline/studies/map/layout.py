"""Where the nodes of a network's graph are drawn, and the ways between them. All in CSS pixels.

The network runs downwards, a row a step along the longest way. The longest branch keeps to the
left; others get lanes of their own beside it, and skips without layers thin tracks to its left.
Where all ways meet, the picture may go on in a further part: parts stand side by side on a wide
page and one below the other on a narrow one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from faultline.base.columns import UNITS

BOX, JOIN, PILL = 24.0, 14.0, 18.0
"""Heights of a layer, of a join, of input and output."""

GAP, MARGIN, TRACK = 10.0, 3.0, 9.0
"""Between rows, around a part, between tracks."""

LABEL, FRAME = 14.0, 5.0
"""Room above what stands in a frame, and on its other sides."""

WIDTHS, BETWEEN = {1: 240.0, 2: 142.0}, 10.0
"""Width of a layer by the number of lanes, and what lies between these."""

MANY = 166.0
"""Width of a layer where there are more lanes."""

PAGE, APART = 1056.0, 24.0
"""The width that parts share on a wide page, and what lies between them."""

TALLEST, SMALLEST = 660.0, 320.0
"""Heights of a part: at most, which fits on a printed page, and where splitting begins."""

Span = tuple[int, int]


class Node(NamedTuple):
    """A node: kind as in `ablation.graph.Node`, and the names of others that come before it."""

    name: str
    kind: str
    sources: tuple[str, ...]


class Box(NamedTuple):
    """The place of a node; label: its name within its frame."""

    node: str
    kind: str
    label: str
    x: float
    y: float
    width: float
    height: float


class Frame(NamedTuple):
    """What is drawn around a block, such as "layer1.0"."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass
class Part:
    """before, after: the nodes that the picture comes from and goes on to, if any. spine: where
    all ways meet, from the left. ways: the corners [(x, y), ...] of each edge."""

    width: float
    height: float
    spine: float
    before: str = ""
    after: str = ""
    boxes: list[Box] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    ways: list[list[tuple[float, float]]] = field(default_factory=list)


class _Block(NamedTuple):
    """Nodes between two places where all ways meet; label: the module that they are in."""

    nodes: tuple[Node, ...]
    label: str


class _Lanes(NamedTuple):
    """of: node -> lane. along: edge -> the lane that it runs down in. tracks: node -> the track in
    which its output runs past others."""

    of: dict[str, int]
    along: dict[tuple[str, str], int]
    tracks: dict[str, int]


def layout(nodes: Sequence[Node]) -> list[Part]:
    """The parts of the picture; nodes in an order in which sources come first. A node without any,
    such as an embedding of places, stands below the one before it, with no way into it."""
    free = {node.name for node in nodes if not node.sources}
    behind = [n if n.sources else n._replace(sources=(b.name,)) for b, n in pairwise(nodes)]
    nodes = [nodes[0], *behind]
    rows: dict[str, int] = {}
    for node in nodes:
        rows[node.name] = 1 + max((rows[source] for source in node.sources), default=-1)
    blocks, lanes = _blocks(nodes), _Lanes({}, {}, {})
    for block in blocks:
        within = _lanes(block.nodes, rows)
        lanes.of.update(within.of)
        lanes.along.update(within.along)
        lanes.tracks.update(within.tracks)
    count = 1 + max(lanes.of.values(), default=0)
    box = WIDTHS.get(count, MANY)
    left = MARGIN + FRAME + TRACK * (1 + max(lanes.tracks.values(), default=-1))
    width = left + count * (box + BETWEEN) - BETWEEN + FRAME + MARGIN
    heights = [_height(block, rows) for block in blocks]
    columns = max(1, int((PAGE + APART) // (width + APART)))
    parts, begun = [], 0
    for end in _ends(heights, columns):
        sizes = {"left": left, "box": box, "width": width}
        parts.append(_placed(blocks[begun:end], rows, lanes, free, **sizes))
        if begun:
            parts[-1].before = blocks[begun - 1].nodes[-1].name
        if end < len(blocks):
            parts[-1].after = blocks[end].nodes[0].name
        begun = end
    return parts


def _blocks(nodes: Sequence[Node]) -> list[_Block]:
    place = {node.name: i for i, node in enumerate(nodes)}
    farthest = list(range(len(nodes)))  # of the nodes that a node leads to
    for node in nodes:
        for source in node.sources:
            farthest[place[source]] = place[node.name]
    blocks: list[_Block] = []
    begun = reach = 0
    for i in range(len(nodes)):
        if reach > i:
            reach = max(reach, farthest[i])
            continue
        inside = tuple(nodes[begun : i + 1])
        label = _common([n.name.split(":")[0].split(".")[:-1] for n in inside])
        # a layer just before a block that is of its module stands in its frame
        while len(inside) > 1 and label and blocks and len(blocks[-1].nodes) == 1:
            if not blocks[-1].nodes[0].name.startswith(f"{label}."):
                break
            inside = (*blocks.pop().nodes, *inside)
        blocks.append(_Block(inside, label if len(inside) > 1 else ""))
        begun, reach = i + 1, max(reach, farthest[i])
    return blocks


def _common(paths: list[list[str]]) -> str:
    """The beginning that paths share."""
    shared = []
    for parts in zip(*paths, strict=False):
        if len({*parts}) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _lanes(nodes: Sequence[Node], rows: dict[str, int]) -> _Lanes:
    """Lanes and tracks within a block.

    A branch has its lane for itself from the row behind that where it leaves to the row before that
    where it arrives, and so has a skip its track: no way crosses a box.
    """
    out: dict[str, list[str]] = {}
    for node in nodes:
        for source in node.sources:
            out.setdefault(source, []).append(node.name)
    ahead: dict[str, int] = {}  # how many nodes follow on the longest way
    for node in reversed(nodes):
        ahead[node.name] = 1 + max((ahead[n] for n in out.get(node.name, ())), default=0)
    lanes = _Lanes({}, {}, {})
    taken: list[list[Span]] = []
    used: list[list[Span]] = []
    for start in sorted(nodes, key=lambda node: -ahead[node.name]):
        if start.name in lanes.of:
            continue
        leaves = max(start.sources, key=rows.__getitem__, default=None)
        branch = [start.name]
        while following := [n for n in out.get(branch[-1], ()) if n not in lanes.of]:
            branch.append(max(following, key=ahead.__getitem__))
        arrives = min(out.get(branch[-1], ()), key=rows.__getitem__, default=None)
        low = rows[leaves] + 1 if leaves else rows[start.name]
        high = rows[arrives] - 1 if arrives else rows[branch[-1]]
        lane = _claim(taken, low, high)
        lanes.of.update(dict.fromkeys(branch, lane))
        way = [name for name in (leaves, *branch, arrives) if name]
        lanes.along.update(dict.fromkeys(pairwise(way), lane))
    for source, targets in sorted(out.items(), key=lambda pair: rows[pair[0]]):
        past = [rows[name] for name in targets if (source, name) not in lanes.along]
        if max(past, default=0) > rows[source] + 1:
            lanes.tracks[source] = _claim(used, rows[source] + 1, max(past) - 1)
    return lanes


def _claim(spans: list[list[Span]], low: int, high: int) -> int:
    """The first of several spans that is free over some rows, which it then is no more."""
    for at, taken in enumerate(spans):
        if all(high < a or low > b for a, b in taken):
            taken.append((low, high))
            return at
    spans.append([(low, high)])
    return len(spans) - 1


def _size(kind: str, box: float) -> tuple[float, float]:
    if kind in UNITS:
        return box, BOX
    return (104.0, PILL) if kind in ("input", "output") else (JOIN, JOIN)


def _row_heights(block: _Block, rows: dict[str, int]) -> dict[int, float]:
    heights: dict[int, float] = {}
    for node in block.nodes:
        _, height = _size(node.kind, 0)
        heights[rows[node.name]] = max(heights.get(rows[node.name], 0), height)
    return dict(sorted(heights.items()))


def _height(block: _Block, rows: dict[str, int]) -> float:
    """Of a block with the gaps above its rows."""
    heights = _row_heights(block, rows).values()
    return sum(heights) + GAP * len(heights) + (LABEL + FRAME if block.label else 0)


def _ends(heights: Sequence[float], columns: int) -> Iterator[int]:
    """The numbers of the blocks that each part ends before, for parts about as tall."""
    total = sum(heights)
    rounds = -(-total // (columns * TALLEST))
    count = min(columns * rounds, max(1, total // SMALLEST))
    limit = max(total / count, *heights, 1)
    while True:
        ends: list[int] = []
        height = 0.0
        for i, more in enumerate(heights):
            if height + more > limit and height:
                ends.append(i)
                height = 0.0
            height += more
        if len(ends) < count:
            return iter([*ends, len(heights)])
        limit += GAP


def _placed(
    blocks, rows, lanes: _Lanes, free: set[str], *, left: float, box: float, width: float
) -> Part:
    part, inside, top = Part(width, 0, left + box / 2), {}, {}  # top: row -> y
    y = MARGIN + 2 * GAP if len(blocks[0].nodes[0].sources) else MARGIN
    bottom = y

    def centre(lane: int) -> float:
        return left + lane * (box + BETWEEN) + box / 2

    for block in blocks:
        heights = _row_heights(block, rows)
        y, begun = y + (LABEL if block.label else 0), y
        for row, height in heights.items():
            top[row] = y
            y += height + GAP
        bottom = y - GAP
        if block.label:
            bottom += FRAME
            last = max(lanes.of[node.name] for node in block.nodes)
            right = centre(last) + box / 2 + FRAME
            part.frames.append(Frame(block.label, MARGIN, begun, right - MARGIN, bottom - begun))
            y = bottom + GAP
        for node in block.nodes:
            w, h = _size(node.kind, box)
            x = centre(lanes.of[node.name])
            at = top[rows[node.name]] + (heights[rows[node.name]] - h) / 2
            label = node.name.removeprefix(f"{block.label}.") if block.label else node.name
            inside[node.name] = Box(node.name, node.kind, label, x - w / 2, at, w, h)
    part.boxes = list(inside.values())
    for block in blocks:
        for node in block.nodes:
            for source in () if node.name in free else node.sources:
                part.ways.append(_way(source, inside, node.name, rows, lanes, top, left, centre))
    part.height = bottom + MARGIN
    return part


def _way(source, inside, target, rows, lanes: _Lanes, top, left, centre):
    edge = (source, target)
    end = inside[target]
    to = end.x + end.width / 2
    if source in inside:
        box = inside[source]
        start, begun = box.x + box.width / 2, box.y + box.height
    else:
        start, begun = centre(0), MARGIN
    if edge in lanes.along:
        down = centre(lanes.along[edge])
    elif rows[target] > rows[source] + 1:
        down = left - TRACK * (lanes.tracks[source] + 0.5)
    else:
        down = to
    above, below = (top[row] - GAP / 2 for row in (rows[source] + 1, rows[target]))
    corners = [(start, begun), (start, above), (down, above), (down, below), (to, below)]
    corners.append((to, end.y))
    kept = [corners[0]]
    for point, following in zip(corners[1:], [*corners[2:], None], strict=True):
        if point == kept[-1]:
            continue
        straight = following and (kept[-1][0] == point[0] == following[0])
        level = following and (kept[-1][1] == point[1] == following[1])
        if not (straight or level):
            kept.append(point)
    return kept
