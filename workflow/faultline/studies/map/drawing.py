"""The fault map as HTML: SVG for each part of the network, and the data to switch between views.

Colours and strokes are in assets/map.css, switching is in assets/map.js; without it the first view
stays.
"""

import json
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup, escape

from faultline.base.columns import CLASSES, UNITS
from faultline.report.canvas import CLASS_COLOURS, CLASS_SYMBOLS, shortened
from faultline.report.page import minus
from faultline.studies.map.layout import Box, Frame, Node, Part, layout
from faultline.studies.map.views import LETTERS, STRIP_ORDER, View, Views

CHIP, PAD = 20, 4
STRIP_Y, STRIP_HEIGHT = 18.5, 3.5
SIGNS = {LETTERS[name]: CLASS_SYMBOLS[name] for name in CLASSES}
WORDS = {LETTERS[name]: name for name in CLASSES}
JOIN_MARKS = {
    "add": "M-4 0H4M0-4V4",
    "multiply": "M-3-3 3 3M3-3-3 3",
    "concat": "M-2-4V4M2-4V4",
    "join": "M-1 0H1",
}
JOIN_WORDS = (
    ("add", "+", "sum"),
    ("multiply", "\u00d7", "product"),
    ("concat", "\u2225", "concatenation"),
)


def map_of(nodes: pd.DataFrame, shown: Views, *, alt: str, robust: str = "") -> Markup:
    """`fault_map` of a network; nodes: of `ablation.graph.graph_table`."""
    rows = nodes.to_dict("records")
    return fault_map(
        parts_of(nodes),
        shown,
        says={row["node"]: _said(row) for row in rows},
        units={row["layer"]: (row["filters"], _units(row)) for row in rows if row["layer"]},
        alt=alt,
        robust=robust,
    )


def parts_of(nodes: pd.DataFrame) -> list[Part]:
    """`layout` of a network; nodes: of `ablation.graph.graph_table`."""
    rows = nodes.to_dict("records")
    return layout([Node(row["node"], row["kind"], _sources(row)) for row in rows])


def _units(row: dict) -> str:
    return f"{UNITS[row['kind']]}s"


def _sources(row: dict) -> tuple[str, ...]:
    return tuple(filter(None, row["sources"].split(",")))


def _said(row: dict) -> str:
    shape = row["shape"].replace("x", "\u00d7")
    if row["layer"]:
        return (
            f"{row['node']}: {row['kind']}, {row['filters']:,} {_units(row)}, {row['weights']:,} "
            f"weights, output {shape}"
        )
    return f"{row['node']}: {shape}"


def fault_map(
    parts: Sequence[Part],
    views: Views,
    *,
    says: Mapping[str, str],
    units: Mapping[str, tuple[int, str]],
    alt: str,
    robust: str = "",
) -> Markup:
    """The map of one network, as an element to put into a page.

    says: node -> what the page tells of it, whatever is shown. units: layer -> how many it has, and
    what they are called. alt: what the whole is, in words. robust: what it means, in words.
    """
    score, weights, seed = views.chosen
    drawn = _Drawn(views, views.views[score][weights][seed], views.scores[score], says, units)
    colours = ";".join(f"--{LETTERS[name]}:{CLASS_COLOURS[name]}" for name in CLASSES[:3])
    svg = "\n".join(drawn.part(part, f"{alt}, part {i}") for i, part in enumerate(parts, 1))
    data = views._asdict() | {"strip": STRIP_ORDER, "signs": SIGNS, "words": WORDS}
    data["units"] = [units[name][1] for name in views.layers]
    data["views"] = [[[v._asdict() for v in row] for row in of] for of in views.views]
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for mark, safe in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e")):
        text = text.replace(mark, safe)
    return Markup(
        f'<div class="faultmap" style="{colours}">\n{_key(parts, robust)}\n'
        f'<p class="shown">{escape(_shown(views))}</p>\n<div class="parts">\n{svg}\n</div>\n'
        f'<script type="application/json">{text}</script>\n</div>'
    )


def _shown(views: Views) -> str:
    score, weights, number = views.chosen
    seed = views.seeds[number]
    return (
        f"{views.scores[score]}, {views.weights[weights]}, "
        + ("all seeds" if seed == "all" else f"seed {seed}")
        + f": {views.views[score][weights][number].n}"
    )


def _key(parts: Sequence[Part], robust: str) -> str:
    """What letters stand for, and the marks that are drawn."""
    joins = {box.kind for part in parts for box in part.boxes}
    keys = [
        f'<li><b class="chip {LETTERS[name]}">{CLASS_SYMBOLS[name]}</b> {name}</li>'
        for name in CLASSES
    ]
    keys.insert(3, '<li><b class="chip r">R?</b> dashed: not decided</li>')
    keys += [
        f'<li><b class="mark">{mark}</b> {word}</li>'
        for join, mark, word in JOIN_WORDS
        if join in joins
    ]
    keys += [f"<li>robust: {robust}</li>"] * bool(robust)
    return f'<ul class="key">{"".join(keys)}</ul>'


class _Drawn:
    """The parts of a map, drawn for one view."""

    def __init__(self, views: Views, view: View, score: str, says: Mapping[str, str], units):
        self.views, self.view, self.score, self.says = views, view, score, says
        self.units: Mapping[str, tuple[int, str]] = units
        self.number = {name: i for i, name in enumerate(views.layers)}

    def part(self, part: Part, alt: str) -> str:
        width, height, x = part.width, part.height + (12 if part.after else 0), part.spine
        ways = "".join(map(_way, part.ways))
        fits, ends = int((width - x - 8) / 5.8), ""
        if part.before:
            text = _text(f"from {part.before}", fits)
            ends += f'<text class="far" x="{_n(x + 8)}" y="14">{text}</text>'
        if part.after:
            low, text = part.boxes[-1].y + part.boxes[-1].height, _text(f"to {part.after}", fits)
            ends += (
                f'<path class="way" d="M{_n(x)} {_n(low)}V{_n(height - 3)}m-4-5 4 5 4-5"/>'
                f'<text class="far" x="{_n(x + 8)}" y="{_n(height - 3)}">{text}</text>'
            )
        body = "\n".join(map(self.box, part.boxes))
        frames = "".join(map(_frame, part.frames))
        return (
            f'<div class="part"><svg tabindex="0" role="img" aria-label="{escape(alt)}" '
            f'width="{_n(width)}" '
            f'height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}">\n{frames}\n'
            f'<path class="way" d="{ways}"/>{ends}\n{body}\n</svg></div>'
        )

    def box(self, box: Box) -> str:
        if box.kind in UNITS:
            return self.layer(box)
        head = f'<g class="{"end" if box.kind in ("input", "output") else "join"}"'
        at = f' transform="translate({_n(box.x + box.width / 2)} {_n(box.y + box.height / 2)})">'
        title = f"<title>{escape(self.says[box.node])}</title>"
        if box.kind in ("input", "output"):
            w, h = box.width, box.height
            return (
                f'{head}{at}<rect x="{_n(-w / 2)}" y="{_n(-h / 2)}" width="{_n(w)}" '
                f'height="{_n(h)}" rx="9">{title}</rect>'
                f'<text y="3.5">{_text(box.label, 16)}</text></g>'
            )
        return f'{head}{at}<circle r="7">{title}</circle><path d="{JOIN_MARKS[box.kind]}"/></g>'

    def layer(self, box: Box) -> str:
        layer = box.node.split(":")[0]
        i = self.number[layer]
        letter = self.view.classes[i : i + 1] or "."
        value, inner = self.view.value[i], box.width - CHIP - PAD
        long = 0 if value is None else (box.width - CHIP) * abs(value) / self.views.scale
        sign = SIGNS.get(letter.upper(), "") + ("?" if letter.islower() else "")
        room = int((inner - 34) / 6.6)
        name, tag = _text(box.label, room), f" {self.units[layer][0]:,} {self.units[layer][1]}"
        if box.kind not in ("conv", "linear") and len(box.label) + len(tag) <= room:
            name += f'<tspan class="units">{tag}</tspan>'
        title = self.says[box.node] + "\n" + self.line(i)
        return (
            f'<g class="layer {letter if letter != "." else "N"}" data-layer="{i}" '
            f'transform="translate({_n(box.x)} {_n(box.y)})"><rect class="body" '
            f'width="{_n(box.width)}" height="{_n(box.height)}" rx="4">'
            f"<title>{escape(title)}</title></rect>"
            f'<rect class="bar" x="{CHIP}" width="{_n(long)}" height="{_n(box.height)}"/>'
            f'<path class="chip" d="M{CHIP} 0H4Q0 0 0 4V{_n(box.height - 4)}Q0 {_n(box.height)} '
            f'4 {_n(box.height)}H{CHIP}z"/>'
            f'<text class="letter" x="10" y="16">{sign}</text>'
            f'<text class="name" x="{CHIP + 5}" y="13.5">{name}</text>'
            f'<text class="score" x="{_n(box.width - PAD)}" y="13.5">{_short(value)}</text>'
            f'<g class="strip" transform="translate({CHIP + PAD} {STRIP_Y})" '
            f'data-width="{_n(inner - PAD)}">{_strip(self.view.strips.get(i), inner - PAD)}</g></g>'
        )

    def line(self, i: int) -> str:
        """What the view tells of a layer."""
        letter = self.view.classes[i : i + 1] or "."
        if letter == ".":
            return f"{self.score}: none"
        view, text = self.view, f"{self.score}: "
        value, low, high = view.value[i], view.low[i], view.high[i]
        if value is not None and low is not None and high is not None:
            text += f"{_long(value)} [{_long(low)}, {_long(high)}], "
        text += WORDS[letter.upper()] + (", not decided" if letter.islower() else "")
        text += f"; {view.n}"
        if counts := view.strips.get(i):
            said = [
                f"{count} {WORDS[one.upper()]}{'' if one.isupper() else ' (not decided)'}"
                for one, count in zip(STRIP_ORDER, counts, strict=True)
                if count
            ]
            text += f"\n{self.units[self.views.layers[i]][1]}: " + ", ".join(said)
        return text


def _strip(counts: Sequence[int] | None, width: float) -> str:
    """One cell per filter, the fragile first; one grey cell where no filter was judged."""
    if not counts:
        return f'<path class="N" d="M0 0h{_n(width)}v{STRIP_HEIGHT}H0z"/>'
    size, done, paths = width / sum(counts), 0, ""
    gap = 0.5 if size >= 2.5 else 0.0
    for letter, count in zip(STRIP_ORDER, counts, strict=True):
        if not count:
            continue
        cells = [(done + k, 1) for k in range(count)] if gap else [(done, count)]
        d = "".join(
            f"M{_n(first * size)} 0h{_n(many * size - gap)}v{STRIP_HEIGHT}H{_n(first * size)}z"
            for first, many in cells
        )
        paths += f'<path class="{letter}" d="{d}"/>'
        done += count
    return paths


def _frame(frame: Frame) -> str:
    return (
        f'<rect class="frame" x="{_n(frame.x)}" y="{_n(frame.y)}" width="{_n(frame.width)}" '
        f'height="{_n(frame.height)}" rx="6"/>'
        f'<text class="block" x="{_n(frame.x + frame.width - 6)}" y="{_n(frame.y + 11)}">'
        f"{_text(frame.label, 40)}</text>"
    )


def _way(corners: Sequence[tuple[float, float]]) -> str:
    """A line with rounded corners."""
    (x, y), *inner, last = corners
    d = f"M{_n(x)} {_n(y)}"
    for (cx, cy), (nx, ny) in zip(inner, [*inner, last][1:], strict=True):
        r = min(4.0, _far(x, y, cx, cy) / 2, _far(cx, cy, nx, ny) / 2)
        ax, ay = _towards(cx, cy, x, y, r)
        bx, by = _towards(cx, cy, nx, ny, r)
        d += f"L{_n(ax)} {_n(ay)}Q{_n(cx)} {_n(cy)} {_n(bx)} {_n(by)}"
        x, y = cx, cy
    return d + f"L{_n(last[0])} {_n(last[1])}"


def _far(x, y, to_x, to_y) -> float:
    return abs(to_x - x) + abs(to_y - y)  # ways run along the axes


def _towards(x, y, to_x, to_y, by) -> tuple[float, float]:
    far = _far(x, y, to_x, to_y)
    return x + (to_x - x) * by / far, y + (to_y - y) * by / far


def _text(text: str, length: int) -> str:
    return str(escape(shortened(text, max(length, 4))))


def _n(value: float) -> str:
    """A coordinate in tenths of a pixel, halves upwards as JavaScript rounds them."""
    tenths = int(value * 10 + 0.5) if value >= 0 else -int(-value * 10 + 0.5)
    return f"{tenths / 10:g}"


def _short(value: int | None) -> str:
    return "" if value is None else _signed(value, 10, 2)


def _long(value: int) -> str:
    return _signed(value, 1, 3)


def _signed(thousandths: int, step: int, digits: int) -> str:
    """A number with its sign; of halves, the one farther from 0, as JavaScript rounds below."""
    size = (abs(thousandths) + step // 2) // step
    text = f"{size / 10**digits:.{digits}f}"
    return text if not size else ("+" if thousandths > 0 else minus("-")) + text
