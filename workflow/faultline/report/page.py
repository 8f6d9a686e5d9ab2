"""The parts of the report: sections, figures, tables, and how words and numbers are written."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from faultline.base.columns import RUN, UNITS
from faultline.report import canvas

MAX_ROWS = 400
"""Of one table of a page."""

PAGE_ROWS = 4000
"""Of all tables of a page; a row takes about 200 bytes."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table that says more than a value; see `cell`."""

    text: str
    small: str = ""
    link: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Figure:
    """svg: an element to put into the page; caption: what is drawn, of what, with its n; read: how
    to read it, and above: the id of a figure before it that is read alike. packed and height: what
    `render.packed` makes of a large one."""

    id: str
    svg: Markup
    caption: str
    read: str
    above: str = ""
    packed: str = ""
    height: str = ""


@dataclass(frozen=True)
class Table:
    """rows: the first of `total`, of values, texts or `Cell`s; source: the file that has all; open:
    whether it is seen before it is asked for; read: how to read it; cards: whether a narrow page
    shows each row as a card."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence]
    total: int
    source: str = ""
    open: bool = False
    note: str = ""
    read: str = ""
    cards: bool = False

    def cut(self, most: int) -> "Table":
        """At most so many of its rows; it says what it lacks."""
        rows = self.rows[:most]
        lacks = f"The first {len(rows)} of {self.total} rows; all are in {self.source}."
        return replace(self, rows=rows, note=lacks if len(rows) < self.total else self.note)


@dataclass(frozen=True)
class Block:
    """Part of a section, such as what is told of one run; see `block`. folded: whether its figures
    are there to be opened, behind its tables."""

    heading: str
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """intro: what is asked, in a sentence or two; method: how it is measured, to be opened; needs:
    the config keys that it goes by, told where it has no block and is left out; folded: whether it
    is there to be opened, in the appendix; findings: see `render.Findings`, which `render.render`
    puts in, as it does the chapter."""

    id: str
    title: str
    intro: str = ""
    method: str = ""
    blocks: Sequence[Block] = ()
    needs: str = ""
    folded: bool = False
    findings: Sequence[tuple[str, ...]] = ()
    chapter: str = ""

    def changed(self, *, figures: Callable = list, tables: Callable = list) -> "Section":
        """With other figures and tables: (those of a block) -> what stands in their place."""
        blocks = [
            replace(block, figures=figures(block.figures), tables=tables(block.tables))
            for block in self.blocks
        ]
        return replace(self, blocks=blocks)


def block(heading: str, *, figures=(), notes=(), tables=(), folded=False) -> Block:
    """A block without those notes and tables that are empty."""
    return Block(heading, [*figures], [*filter(None, notes)], [*filter(None, tables)], folded)


def figure(figure, *, name: str, alt: str, caption: str, read: str) -> Figure:
    """A figure of matplotlib; name is its own within the page, and what links to it name it by."""
    svg = canvas.to_svg(figure, name=name, alt=alt)
    return Figure("figure-" + re.sub(r"[^\w.-]+", "-", name), Markup(svg), caption, read)


def cell(text: str, *, small: str = "", link: str = "", tone: str = "") -> Cell:
    """A cell of a table that says more than a value: small print below it, the id on the page or
    the address of another that it links to, and a tone, "yes" or "no"."""
    return Cell(text, small, f"#{link}" if re.fullmatch(r"[\w-]+", link) else link, tone)


NOT_RUN = cell("not run")


def same(*columns: str) -> dict[str, str]:
    """Columns of a table under headings that are their names; see `cells`."""
    return dict(zip(columns, columns, strict=True))


def cells(table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """A table to be read. columns: heading -> a column, taken as it is; some columns and how to
    write their values, ("ci_low", "ci_high", bracket); or the cells themselves."""
    written: dict[str, Any] = {}
    for heading, column in columns.items():
        if isinstance(column, str):
            written[heading] = table[column]
        elif isinstance(column, tuple):
            *names, write = column
            written[heading] = [write(*row) for row in zip(*(table[n] for n in names), strict=True)]
        else:
            written[heading] = column
    return pd.DataFrame(written, index=table.index)


def table(
    title: str,
    table: pd.DataFrame,
    columns: Mapping[str, Any] | None = None,
    *,
    shown: bool = False,
    source: str = "",
) -> Table | None:
    """A table, perhaps of `cells`; long ones are cut, and say so. None of no rows."""
    if not len(table):
        return None
    if columns is not None:
        table = cells(table, columns)
    rows = table.head(MAX_ROWS).to_numpy().tolist()
    return Table(title, [*table], rows, len(table), source, open=shown).cut(MAX_ROWS)


def verdict(rows: list[dict], *, read: str) -> Table:
    """The table of a first screen. rows: heading -> a value or a `cell`, all with the same
    headings; read: how to read it, to be opened."""
    values = [[*row.values()] for row in rows]
    return Table("verdict", [*rows[0]], values, len(rows), read=read, cards=True)


def shortened(sections: list[Section], *, most: int = PAGE_ROWS) -> list[Section]:
    """Sections whose longest tables are cut, alike, until all together have at most so many rows:
    those of a large grid would be megabytes."""
    tables = [table for section in sections for block in section.blocks for table in block.tables]
    left = most
    for place, length in enumerate(lengths := sorted(len(table.rows) for table in tables)):
        each = left // (len(lengths) - place)
        if length > each:
            break
        left -= length
    else:
        return sections
    return [
        section.changed(tables=lambda tables: [table.cut(each) for table in tables])
        for section in sections
    ]


def runs(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The parts of a table by data set, network and training, each with its name: the network, and
    of the others what there are several of."""
    if not len(table):
        return
    several = {name for name in RUN if name == "network" or len(table[name].unique()) > 1}
    for place, part in table.groupby(RUN, sort=False):
        names = zip(RUN, place, strict=True)
        yield " · ".join(str(name) for key, name in names if key in several), part


def by_run(
    table: pd.DataFrame, make: Callable[[int, str, pd.DataFrame], Block | None]
) -> list[Block]:
    """The blocks that `make` makes of each of `runs`: (number, name, part) -> one, or None."""
    blocks = (make(index, run, part) for index, (run, part) in enumerate(runs(table)))
    return [block for block in blocks if block]


def of(table: pd.DataFrame, part: pd.DataFrame, names=RUN) -> pd.DataFrame:
    """The rows of another table that are as the first of `part` in some columns."""
    names = list(names)
    return table[(table[names] == part.iloc[0][names]).all(axis=1)] if len(table) else table


def unit(tables: Mapping[str, pd.DataFrame], part: pd.DataFrame, layer: str) -> str:
    """What one unit of a layer is called, by the graph of the network that `part` is of."""
    nodes = tables.get("graph", pd.DataFrame())
    nodes = of(nodes, part, ("dataset", "network"))
    kinds = list(nodes.loc[nodes["layer"] == layer, "kind"]) if len(nodes) else []
    return UNITS[kinds[0]] if kinds else "filter"


def epochs(count: int) -> str:
    """So many epochs, in words."""
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def n(table: pd.DataFrame, split: str | None = "test") -> str:
    """How many images of a split, and how many seeds, the rows of a table come from."""
    seeds = table.get("seed", pd.Series(dtype=float)).nunique()
    return f"n = {images(table, split)}, {seeds} seed{'' if seeds == 1 else 's'}"


def images(table: pd.DataFrame, split: str | None = "test") -> str:
    """How many images of a split the rows of a table come from."""
    if not len(table):
        return f"no {split} images"
    said = f"{_range(table['n'])} {split} images"
    if "stands_for" in table:
        said += f", drawn by margin to stand for {_range(table['stands_for'])}"
    return said


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def suffix(attack: pd.Series) -> pd.Series:
    """Attacks in brackets, to stand behind a score; of none, nothing."""
    return (" (" + attack + ")").where(attack != "none", "")


def listed(names) -> str:
    """Names, one after the other."""
    return ", ".join(str(name) for name in names)


def first_of(names: Sequence[str], most: int) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return listed(names[:most]) + (f" and {more} more" if more > 0 else "")


def count(things, noun: str) -> str:
    """How many things there are, in words."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def percent(share: float) -> str:
    """A share."""
    return "n/a" if np.isnan(share) else f"{100 * share:.1f} %"


def span(values) -> str:
    """The mean of some shares, and of several their range."""
    mean = percent(values.mean())
    if values.nunique() < 2:
        return mean
    return f"{mean} [{100 * values.min():.1f}, {100 * values.max():.1f}]"


def span_of_scores(values: pd.Series) -> str:
    """The mean of some scores, and of several their range."""
    mean = number(values.mean())
    return mean if values.nunique() < 2 else f"{mean} {bracket(values.min(), values.max())}"


def said(
    row: Mapping | pd.Series, n: object = "", *, value: str = "value", scale=1, places: int = 3
) -> str:
    """What a mark tells of its number: the value, its interval where the row has one, and n, by
    default that of the row."""
    numbers = [scale * row.get(name, np.nan) for name in (value, "ci_low", "ci_high")]
    middle, low, high = (minus(f"{x:.{places}f}") for x in numbers)
    ends = "" if np.isnan(numbers[1]) else f" [{low}, {high}]"
    n = n or f"{row['n']:,.0f}"
    return "n/a" if np.isnan(numbers[0]) else f"{middle}{ends}, n = {n}"


def said_of_seeds(rows: pd.DataFrame) -> str:
    """The same of a row per seed (value; perhaps ci_low, ci_high and n): of several their mean and
    range, without an interval."""
    rows = rows[rows["value"].notna()]
    n = f"{rows['n'].max():,.0f}, " if len(rows) and "n" in rows else ""
    n += count(rows, "seed")
    if len(rows) == 1:
        return said(rows.iloc[0], n)
    values = rows["value"]
    ends = f", from {number(values.min())} to {number(values.max())}" if len(rows) else ""
    return f"mean {number(values.mean())}{ends}, n = {n}"


def minus(text: str) -> str:
    """A number with a minus in place of a hyphen."""
    return text.replace("-", "\u2212")


def number(value: float) -> str:
    """A score, with three decimals."""
    return "n/a" if np.isnan(value) else minus(f"{value:.3f}")


def small(p: float) -> str:
    """A p-value."""
    return "n/a" if np.isnan(p) else ("< 0.001" if p < 0.001 else f"{p:.3f}")


def yes(value) -> str:
    """Yes or no."""
    return "yes" if value else "no"


def bracket(low: float, high: float) -> str:
    """An interval of scores."""
    return "n/a" if np.isnan(low) else f"[{number(low)}, {number(high)}]"


def points(difference: float) -> str:
    """A difference of shares, in points."""
    if np.isnan(difference):
        return "n/a"
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else minus(text)


def detectable(difference: float) -> str:
    """The smallest difference of shares that would be told, in points."""
    return "none" if np.isinf(difference) else points(difference).lstrip("+")


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def cannot_tell(seeds: int) -> str:
    """What is said, and nothing else, where none of the differences that are possible would be
    told."""
    number = _NUMBERS[seeds] if seeds < len(_NUMBERS) else f"{seeds}"
    return f"{number} seed{'' if seeds == 1 else 's'} cannot tell this"


def interval(low: float, high: float) -> str:
    """Of a difference, in points."""
    return "n/a" if np.isnan(low) else f"[{points(low)}, {points(high)}]"
