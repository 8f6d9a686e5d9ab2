"""Matplotlib's SVG made fit for a page: small, alike for the same figure, and with what marks say.

Text in it cannot hold "<", so what looks like a tag is one.
"""

import hashlib
import html
import re
from collections.abc import Sequence

TIPS = "tips:"
"""Begins the id of a group whose marks say something."""


def tips_id(texts: Sequence[str]) -> str:
    """The id that carries the texts of a group's marks, one after the other."""
    return TIPS + "\n".join(texts).encode().hex()


def fit(svg: str) -> str:
    """An <svg> element as matplotlib writes it, without what a page does not need. The texts of
    `tips_id` become a <title> in each mark."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]*_\d+"', "", svg)
    svg = re.sub(r"<g\b[^>]*/>", "", svg)  # empty
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = re.sub(r' d="[^"]*"', lambda d: _short(d[0]), svg)
    svg = re.sub(r' (x|y|width|height)="(\d+\.\d\d)\d+"', r' \1="\2"', svg)
    return _with_classes(_without_groups(_with_tips(re.sub(r"\n\s+", "\n", svg))))


def _short(path: str) -> str:
    """Curves with two decimals; lines with one, from point to point, which packs far better."""
    if re.search("[CQ]", path):
        path = re.sub(r"(\.\d\d)\d+", r"\1", path).replace("\n", "")
        return re.sub(r" ?([MLCQz]) ?", r"\1", path)
    short, x, y = "", 0, 0  # in tenths
    for command, *point in re.findall(r"([MLz]) ?(?:([-\d.e]+) ([-\d.e]+))?", path):
        if command == "z":
            short += "z"
            continue
        before, (x, y) = (x, y), (round(10 * float(value)) for value in point)
        if command == "M":
            short += f"M{x / 10:g} {y / 10:g}"
        else:
            short += f"l{(x - before[0]) / 10:g} {(y - before[1]) / 10:g}"
    return f' d="{short}"'


def _with_tips(svg: str) -> str:
    first, *parts = svg.split(f'<g id="{TIPS}')
    for part in parts:
        texts, _, rest = part.partition('">')
        depth, end = 1, 0
        for tag in re.finditer(r"<g\b|</g>", rest):
            depth += 1 if tag[0] == "<g" else -1
            if not depth:
                end = tag.start()
                break
        said = bytes.fromhex(texts).decode().split("\n")
        first += f'<g class="tips">{_titled(rest[:end], said)}{rest[end:]}'
    return first


def _titled(group: str, texts: list[str]) -> str:
    """A group whose marks have titles; without, where some marks are off the figure."""
    kind, said = "use" if "<use" in group else "path", iter(texts)
    if len(re.findall(rf"<{kind}\b", group)) != len(texts):
        return group
    return re.sub(
        rf"(<{kind}\b[^>]*)/>",
        lambda mark: f"{mark[1]}><title>{html.escape(next(said))}</title></{kind}>",
        group,
    )


def _without_groups(svg: str) -> str:
    """Without the groups that say nothing of what they hold."""
    kept, needed = [], []
    for part in re.split(r"(<g\b[^>]*>\n?|</g>\n?)", svg):
        if part.startswith("<g"):
            needed.append(part.strip() != "<g>")
            kept.append(part if needed[-1] else "")
        elif not part.startswith("</g>") or needed.pop():
            kept.append(part)
    return "".join(kept)


def _with_classes(svg: str) -> str:
    """With a class for each style. Its name is made of the style, as classes hold in all figures of
    a page."""
    classes = {}

    def named(tag: re.Match) -> str:
        name = "s" + hashlib.sha256(tag[2].encode()).hexdigest()[:8]
        classes[name] = tag[2]
        return f'{tag[1]} class="{name}"'

    svg = re.sub(r'(<\w[^<>]*?) style="([^"]*)"', named, svg)
    rules = "".join(f".{name}{{{style}}}\n" for name, style in classes.items())
    return svg.replace("</style>", f"\n{rules}</style>", 1)
