"""The report: one self-contained HTML page from the tables of a run. No torch."""

import base64
import importlib.metadata
import platform
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from faultline.base.columns import RUN
from faultline.report.page import Figure, Section, Table, shortened
from faultline.report.pool import made

PACKAGES = [
    *("torch", "torchvision", "snakemake", "numpy", "pandas", "scipy", "scikit-learn"),
    "matplotlib",
]

Tables = dict[str, pd.DataFrame]

Sections = Callable[[Tables, Any], Section | None]
"""(tables, config) -> a section, left out and named where it has no block; None where no config
would give it anything to say."""

Findings = Callable[[Tables, Any], Iterable[tuple[str, ...]]]
"""(tables, config) -> (heading, text) of what was found, for one section or the first screen, and
perhaps as a third the rest of it, to be opened."""

Verdicts = Callable[[Tables, Any], Table | None]
"""(tables, config) -> the table of the first screen."""

GLANCE = "glance"
"""The section that is the first screen."""


GLOSSARY = {
    r"S_clean": "score on clean images: relative accuracy left without weights or a unit, minus "
    "the baseline's",
    r"S_adv": "score on images under attack: relative accuracy left without weights or a unit, "
    "minus the baseline's",
    r"S_diff": "S_adv minus S_clean",
    r"tau": "the score beyond which a unit is fragile or antifragile",
    r"decided": "the interval that holds for all that is compared at once lies within the class",
    r"worst case": "the images that stand under every one of the attacks",
    r"R&amp;G": "accuracy under attack and clean accuracy in one score (Khalooei et al. 2022)",
    r"q(?=[ -](?:=|&lt;|\d|value))": "p-value corrected for all that was compared beside it",
}
"""Words of a page (regular expressions of its HTML) -> what they mean, said where they are first
seen."""

UNEXPLAINED = (
    *("svg", "script", "style", "pre", "code", "summary", "h1", "h2", "h3", "h4", "a", "thead"),
    "select",
)
"""Elements in which no word is explained."""

PLAIN_BYTES = 1_000_000
"""Of figures that a page holds as they are; where they are more, the first LARGE_BYTES."""

LARGE_BYTES = 150_000


def load_look(template: Path | str) -> dict:
    """What `render` takes from files: the Jinja template, and beside it the style sheets and
    scripts of assets/, in the order of their names."""
    template = Path(template)
    files = sorted((template.parent / "assets").iterdir())
    return {
        "template": template.read_text(encoding="utf-8"),
        "assets": {file.name: file.read_text(encoding="utf-8") for file in files},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    there = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            there[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            there[package] = "not installed"
    return there


def with_versions(resolved: str, versions: dict[str, str]) -> str:
    """A config as YAML behind a comment line that names the versions."""
    line = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"# faultline, resolved config; {line}\n{resolved}"


def render(
    tables: Tables,
    *,
    what: Callable[[Tables, Any], str],
    verdict: Verdicts,
    findings: Sequence[tuple[Findings, str]],
    chapters: Mapping[str, Sequence[Sections]],
    described: Mapping[str, str],
    config: Any,
    resolved: str,
    title: str,
    folder: str,
    seeds: Sequence[int],
    versions: dict[str, str],
    template: str,
    assets: Mapping[str, str],
    notes: Sequence[tuple[str, str]] = (),
    failed: bool = False,
) -> str:
    """The page, as HTML; the same input gives the same bytes.

    tables: those of `described` that there are, each possibly empty, as made over a run. what:
    (tables, config) -> what was run, in a sentence. verdict: the table of the first screen.
    chapters: title -> its sections, in their order; the last one holds those that are folded, and
    folds all of its own. findings are shown in the section beside them, or on the first screen
    where that was not made. described: table -> what it holds. resolved: the config as YAML. title:
    of the page. folder: of the tables. template, assets: see `load_look`. notes: (heading, text) of
    what comes before all else. failed: whether jobs of the run failed, so that sections may be
    missing that were asked for.
    """
    tables = {name: _plain(tables.get(name, pd.DataFrame())) for name in described}
    appendix = [*chapters][-1]
    makers = [(chapter, make) for chapter, several in chapters.items() for make in several]
    sections = made(lambda maker: maker[1](tables, config), makers)
    every = [
        replace(section, chapter=appendix if section.folded else chapter)
        for (chapter, _), section in zip(makers, sections, strict=True)
        if section
    ]
    shown = sorted(
        (replace(one, folded=one.chapter == appendix) for one in every if one.blocks),
        key=lambda one: [*chapters].index(one.chapter),
    )
    said: dict[str, list] = {name: [] for name in (GLANCE, *(section.id for section in shown))}
    for find, name in findings:
        said[name if name in said else GLANCE] += find(tables, config)
    return filled(
        template,
        assets=assets,
        title=title,
        what=what(tables, config),
        verdict=verdict(tables, config),
        notes=notes,
        findings=said[GLANCE],
        sections=packed(shortened([replace(one, findings=said[one.id]) for one in shown])),
        config=resolved,
        versions=versions,
        seeds=", ".join(map(str, seeds)),
        absent=[section for section in every if not section.blocks],
        failed=failed,
        tables=[
            (f"{folder}/{name}.tsv", text) for name, text in described.items() if len(tables[name])
        ],
        timeline="run.html",
    )


def filled(
    template: str,
    *,
    assets: Mapping[str, str],
    sections: Sequence[Section],
    verdict: Table | None = None,
    findings=(),
    notes=(),
    absent=(),
    failed=False,
    **parts,
) -> str:
    """The template with its parts put in: those of `render`, or of a page of another kind."""
    sections = [
        replace(_read_once(section), findings=_whole(section.findings)) for section in sections
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    html = environment.from_string(template).render(
        styles=[Markup(text) for name, text in assets.items() if name.endswith(".css")],
        scripts=[Markup(text) for name, text in assets.items() if name.endswith(".js")],
        chapters=[_chapter(title, [*of]) for title, of in groupby(sections, lambda s: s.chapter)],
        large=any(f.packed for s in sections for block in s.blocks for f in block.figures),
        verdict=verdict,
        findings=_whole(findings),
        notes=_whole(notes),
        absent=absent,
        failed=failed,
        **parts,
    )
    return _explained(html)


def _chapter(title: str, sections: list[Section]) -> tuple[str, str, list[Section]]:
    """(title, its id on the page, sections) of a chapter; no id where it has no heading of its own,
    as of a single section that is not folded."""
    own = title and (len(sections) > 1 or sections[0].folded)
    return title, title.lower().replace(" ", "-") if own else "", sections


def _explained(html: str) -> str:
    """A page whose words of GLOSSARY are explained where they first stand in a sentence or a
    table."""
    head, main, rest = html.partition("<main>")
    left, inside, parts = dict(GLOSSARY), 0, re.split(r"(<[^>]*>)", rest)
    for place, part in enumerate(parts):
        if place % 2:
            name = re.match(r"</?(\w*)", part)
            if name and name[1] in UNEXPLAINED and not part.endswith("/>"):
                inside += -1 if part.startswith("</") else 1
        elif not inside and part.strip():
            for term in [*left]:
                mark = rf'<abbr title="{left[term]}">\g<0></abbr>'
                parts[place], found = re.subn(
                    rf"(?<![\w.]){term}(?!\w)", mark, parts[place], count=1
                )
                if found:
                    del left[term]
                    break  # of one text one word, as what is put in is no text any more
        if not left:
            break
    return head + main + "".join(parts)


def _whole(findings: Iterable[tuple[str, ...]]) -> list[tuple[str, str, str]]:
    """See `Findings`: those without a rest have an empty one."""
    return [(heading, text, "".join(rest)) for heading, text, *rest in findings]


def _read_once(section: Section) -> Section:
    """A section whose figures name the first that is read as they are."""
    first: dict[str, str] = {}

    def linked(figure: Figure) -> Figure:
        above = first.setdefault(figure.read, figure.id)
        return figure if above == figure.id else replace(figure, above=above)

    return section.changed(figures=lambda figures: [*map(linked, figures)])


def packed(sections: list[Section], *, plain: int = PLAIN_BYTES) -> list[Section]:
    """Sections whose figures, where they have more than `plain` bytes, are compressed from the one
    on that goes beyond LARGE_BYTES: a page of a large grid would be tens of megabytes. A script
    unpacks them."""
    figures = [f for section in sections for block in section.blocks for f in block.figures]
    if sum(len(figure.svg) for figure in figures) <= plain:
        return sections
    left = min(plain, LARGE_BYTES)

    def pack(figure: Figure) -> Figure:
        nonlocal left
        left -= len(figure.svg)
        height = re.search(r'<svg.*? height="([\d.]+)(pt)?"', figure.svg)
        if left >= 0 or not height:
            return figure
        small = base64.b64encode(zlib.compress(figure.svg.encode(), 9)).decode()
        return replace(figure, packed=small, height=height[1] + (height[2] or "px"))

    return [section.changed(figures=lambda of: [*map(pack, of)]) for section in sections]


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Names as text, whatever they look like."""
    names = [c for c in [*RUN, "layer", "attack", "policy", "images"] if c in table]
    return table.astype(dict.fromkeys(names, str)) if len(table) else table
