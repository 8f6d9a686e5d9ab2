"""The parts of the report: sections, figures, tables, and how words and numbers are written."""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup

from faultline.base.columns import RUN, UNITS
from faultline.report import canvas

MAX_ROWS = 400
"""Of one table of a page."""

PAGE_ROWS = 4000
"""Of all tables of a page; a row takes about 200 bytes."""


def section(
    name: str, title: str, *, intro: str = "", method: str = "", blocks=(), needs: str = ""
) -> dict:
    """intro: what is asked, in a sentence or two; method: how it is measured, to be opened; needs:
    the config keys that it goes by, told where it has no block and is left out."""
    return {
        "id": name,
        "title": title,
        "intro": intro,
        "method": method,
        "findings": [],
        "blocks": list(blocks),
        "needs": needs,
    }


def block(heading: str, *, figures=(), notes=(), tables=()) -> dict:
    return {
        "heading": heading,
        "figures": list(figures),
        "notes": [note for note in notes if note],
        "tables": [table for table in tables if table],
    }


def figure(figure, *, name: str, alt: str, caption: str, read: str) -> dict:
    """A figure; name is its own within the page, and what links to it name it by."""
    svg = canvas.to_svg(figure, name=name, alt=alt)
    link = "figure-" + re.sub(r"[^\w.-]+", "-", name)
    return {"id": link, "svg": Markup(svg), "caption": caption, "read": read, "packed": ""}


def cell(text: str, *, small: str = "", link: str = "", tone: str = "") -> dict:
    """A cell of a table that says more than a value: small print below it, the id on the page or
    the address of another that it links to, and a tone, "yes" or "no"."""
    address = f"#{link}" if re.fullmatch(r"[\w-]+", link) else link
    return {"text": text, "small": small, "link": address, "tone": tone}


NOT_RUN = cell("not run")


def cells(table: pd.DataFrame, columns: Mapping[str, object]) -> pd.DataFrame:
    """A table to be read. columns: heading -> a column, taken as it is; some columns and how to
    write their values, ("ci_low", "ci_high", bracket); or the cells themselves."""
    made = {}
    for heading, given in columns.items():
        if isinstance(given, str):
            made[heading] = table[given]
        elif isinstance(given, tuple):
            *names, write = given
            made[heading] = [write(*row) for row in zip(*(table[n] for n in names), strict=True)]
        else:
            made[heading] = given
    return pd.DataFrame(made, index=table.index)


def table(
    title: str,
    table: pd.DataFrame,
    columns: Mapping[str, object] | None = None,
    *,
    shown: bool = False,
    source: str = "",
) -> dict | None:
    """A table, perhaps of `cells`; long ones are cut, and say so. None of no rows."""
    if not len(table):
        return None
    if columns is not None:
        table = cells(table, columns)
    made = {
        "title": title,
        "columns": list(table.columns),
        "rows": table.head(MAX_ROWS).to_numpy().tolist(),
        "total": len(table),
        "source": source,
        "open": shown,
        "note": "",
    }
    return cut(made, MAX_ROWS)


def verdict(rows: list[dict], *, read: str) -> dict:
    """The table of a first screen. rows: heading -> a value or a `cell`, all with the same
    headings; read: how to read it, to be opened."""
    return {
        "title": "verdict",
        "columns": [*rows[0]],
        "rows": [[*row.values()] for row in rows],
        "note": "",
        "read": read,
        "cards": True,
    }


def cut(table: dict, most: int) -> dict:
    """A table of a page, of at most so many rows; it says what it lacks."""
    table["rows"] = table["rows"][:most]
    if (count := len(table["rows"])) < table["total"]:
        table["note"] = f"The first {count} of {table['total']} rows; all are in {table['source']}."
    return table


def shortened(sections: list[dict], *, most: int = PAGE_ROWS) -> list[dict]:
    """Sections whose longest tables are cut, alike, until all together have at most so many rows:
    those of a large grid would be megabytes."""
    tables = [t for section in sections for block in section["blocks"] for t in block["tables"]]
    left = most
    for place, length in enumerate(lengths := sorted(len(table["rows"]) for table in tables)):
        each = left // (len(lengths) - place)
        if length > each:
            for table in tables:
                cut(table, each)
            break
        left -= length
    return sections


def runs(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The parts of a table by data set, network and training, each with its name."""
    if not len(table):
        return
    several = len(table["training"].unique()) > 1
    for (dataset, network, training), part in table.groupby(RUN, sort=False):
        name = f"{dataset} · {network}" + (f" · {training}" if several else "")
        yield name, part


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
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def n(table: pd.DataFrame, split: str = "test") -> str:
    seeds = table.get("seed", pd.Series(dtype=float)).nunique()
    return f"n = {images(table, split)}, {seeds} seed{'' if seeds == 1 else 's'}"


def n_ablated(table: pd.DataFrame, config: dict) -> str:
    """The same for a table of ablated networks, which are judged on `ablation.split`."""
    return n(table, config["ablation"]["split"])


def images(table: pd.DataFrame, split: str = "test") -> str:
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
    return (" (" + attack + ")").where(attack != "none", "")


def listed(names) -> str:
    return ", ".join(str(name) for name in names)


def count(things, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def percent(share: float) -> str:
    return "n/a" if np.isnan(share) else f"{100 * share:.1f} %"


def span(values) -> str:
    mean = percent(values.mean())
    if values.nunique() < 2:
        return mean
    return f"{mean} [{100 * values.min():.1f}, {100 * values.max():.1f}]"


def said(row: Mapping, n: object = "", *, value: str = "value", scale=1, places: int = 3) -> str:
    """What a mark tells of its number: the value, its interval where the row has one, and n, by
    default that of the row."""
    found = [scale * row.get(name, np.nan) for name in (value, "ci_low", "ci_high")]
    middle, low, high = (minus(f"{x:.{places}f}") for x in found)
    ends = "" if np.isnan(found[1]) else f" [{low}, {high}]"
    n = n or f"{row['n']:,.0f}"
    return "n/a" if np.isnan(found[0]) else f"{middle}{ends}, n = {n}"


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
    return text.replace("-", "\u2212")


def number(value: float) -> str:
    return "n/a" if np.isnan(value) else minus(f"{value:.3f}")


def small(p: float) -> str:
    return "n/a" if np.isnan(p) else ("< 0.001" if p < 0.001 else f"{p:.3f}")


def yes(value) -> str:
    return "yes" if value else "no"


def bracket(low: float, high: float) -> str:
    return "n/a" if np.isnan(low) else f"[{number(low)}, {number(high)}]"


def points(difference: float) -> str:
    if np.isnan(difference):
        return "n/a"
    text = f"{100 * difference:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else minus(text)


def interval(low: float, high: float) -> str:
    """Of a difference, in points."""
    return "n/a" if np.isnan(low) else f"[{points(low)}, {points(high)}]"
