"""What of a finished run goes into a paper: figures of a given width, the verdict as tables for
LaTeX and in Markdown, and its numbers. No torch."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import ValidationError

from faultline.attacks.worst import norms_of, worst_cases
from faultline.base.columns import RUN
from faultline.base.errors import UserError
from faultline.compare.finished import CONFIG, Finished
from faultline.compare.listing import headlines
from faultline.report import canvas, page
from faultline.report.comparison import IMAGE_ENDS
from faultline.report.narrow import narrowed
from faultline.studies.accuracy.figures import robustness_curves
from faultline.studies.config import Config
from faultline.studies.map.drawing import parts_of
from faultline.studies.map.still import map_figure
from faultline.studies.map.views import views_of
from faultline.studies.mending.figures import trade_off
from faultline.studies.mending.names import CHOSEN, WORST
from faultline.studies.order import described
from faultline.studies.overview import verdict, what_was_run
from faultline.studies.synaptic.figures import threshold_curves

Tables = dict[str, pd.DataFrame]
Drawn = Iterator[tuple[str, Figure]]
"""What a figure is called, and the figure."""


def opened(run: Finished) -> tuple[Tables, Config]:
    """All tables of a run, those that it lacks empty, and its config; UserError where that is of
    another version."""
    try:
        config = Config.model_validate(run.config)
    except ValidationError:
        raise UserError(
            f"{run.folder}/{CONFIG}: is of another version of faultline; run snakemake once more"
        ) from None
    return {name: run.table(name) for name in described()}, config


def _runs(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The parts of a table by data set, network and training, each named as a file may be."""
    several = len(table) and len(table["training"].unique()) > 1
    for _, part in page.runs(table):
        names = part.iloc[0][RUN if several else RUN[:2]]
        yield re.sub(r"[^\w.-]+", "-", "-".join(map(str, names))), part


def maps(tables: Tables, config: Config, width: float) -> Drawn:
    """The fault map of each network at the last epoch, and of its mend where it was swept."""
    layers = tables["layers"]
    if len(layers):
        layers = layers[(layers["scope"] == "local") & (layers["filter"] == "combined")]
    for name, part in _runs(layers):
        nodes = page.of(tables["graph"], part, ("dataset", "network"))
        if not len(nodes):
            continue
        shown = views_of(tables, part, nodes, attack=config.scored_attack)
        given, last = shown.chosen[1], len(shown.weights) - 1
        for number in dict.fromkeys([given, last]):
            title = f"{shown.scores[shown.chosen[0]]}, {shown.weights[number]}"
            drawn = map_figure(parts_of(nodes), shown, weights=number, width=width, title=title)
            yield f"map-{name}{'' if number == given else '-mended'}", drawn


def robustness(tables: Tables, config: Config, width: float) -> Drawn:
    """Accuracy over eps at the last epoch, a line per attack."""
    norms, worst = norms_of(config.attack_settings), worst_cases(config.attack_settings)
    for name, part in _runs(tables["accuracy"]):
        drawn = robustness_curves(canvas.last_epoch(part), norms=norms, worst=worst)
        yield f"robustness-{name}", narrowed(drawn, width=width)


def mending(tables: Tables, config: Config, width: float) -> Drawn:
    """Accuracy under attack over clean accuracy of the mends of the last epoch."""
    for name, part in _runs(tables["mends"]):
        part = canvas.last_epoch(part)
        paths = page.of(tables["mending_paths"], part, (*RUN, "epoch"))
        loss, confidence = config.mending.clean_loss, config.scores.confidence
        drawn = trade_off(part, paths, clean_loss=loss, confidence=confidence)
        yield f"mending-{name}", narrowed(drawn, width=width)


def curves(tables: Tables, config: Config, width: float) -> Drawn:
    """Accuracy over the thresholds of the synaptic filters, a panel per layer."""
    for name, part in _runs(tables["curves"]):
        yield f"curves-{name}", narrowed(threshold_curves(part), width=width)


FIGURES: dict[str, Callable[[Tables, Config, float], Drawn]] = {
    "map": maps,
    "robustness": robustness,
    "mending": mending,
    "curves": curves,
}


def texts(run: Finished, tables: Tables, config: Config) -> dict[str, str]:
    """File -> its text: the verdict of the report's first screen for LaTeX and in Markdown, and
    its numbers."""
    table = verdict(tables, config)
    if table is None:
        raise UserError(f"{run.folder}: has no accuracy, so there is no verdict")
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return {
        "verdict.tex": latex([*table.columns], rows),
        "verdict.md": markdown([*table.columns], rows),
        "summary.json": _summary(run, tables, config, [*table.columns], rows),
    }


def _cell(cell: Any) -> tuple[str, str]:
    """What a cell says, and in small print."""
    return (cell.text, cell.small) if isinstance(cell, page.Cell) else (str(cell), "")


def markdown(columns: list[str], rows: list[list[tuple[str, str]]]) -> str:
    """A table in Markdown; rows: of (text, small print)."""
    cells = [[_joined(*cell) for cell in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines
    )


def _joined(text: str, small: str) -> str:
    """A cell in one line."""
    return text + (" " if small.startswith(("[", "of ")) else ", " if small else "") + small


SPECIAL = {char: f"\\{char}" for char in "&%$#_{}"} | {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"\u2212": "$-$", "\u00b7": r"$\cdot$", "<": "$<$", ">": "$>$"},
}


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(char, char) for char in text)


def latex(columns: list[str], rows: list[list[tuple[str, str]]]) -> str:
    """A table for LaTeX, as wide as the line; rows: of (text, small print)."""
    cells = [
        [_escaped(t) + (rf" \newline {{\scriptsize {_escaped(s)}}}" if s else "") for t, s in row]
        for row in rows
    ]
    lines = [" & ".join(line) + r" \\" for line in ([*map(_escaped, columns)], *cells)]
    ragged = r">{\raggedright\arraybackslash}X" * len(columns)
    return "\n".join(
        [
            r"% \usepackage{booktabs,tabularx}",
            rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{ragged}@{{}}}}",
            *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
            "\\end{tabularx}\n",
        ]
    )


NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?![\w])")


def _numbers(text: str) -> list[float]:
    """The numbers in a text, in their order; of names such as conv1, none."""
    found = NUMBER.findall(text.replace("\u2212", "-"))
    return [float(number.replace(",", "")) for number in found]


def _summary(
    run: Finished,
    tables: Tables,
    config: Config,
    columns: list[str],
    rows: list[list[tuple[str, str]]],
) -> str:
    """Per network: its numbers by name, and each cell of the verdict with those that it shows."""
    named = headlines([run]).to_dict("records")
    networks = []
    for numbers, row in zip(named, rows, strict=True):
        cells = {
            heading: {"text": text, "small": small, "numbers": _numbers(f"{text} {small}")}
            for heading, (text, small) in zip(columns, row, strict=True)
        }
        networks.append(
            {key: _plain(value) for key, value in numbers.items()}
            | {"mended": _mended(tables, numbers), "verdict": cells}
        )
    what = {"what": what_was_run(tables, config), "networks": networks}
    return json.dumps(what, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it; null for NaN."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value


def _mended(tables: Tables, place: dict) -> dict | None:
    """What the mends that were chosen gain over these networks, as shares; None without any."""
    rows = tables["mending"]
    if not len(rows):
        return None
    rows = rows[(rows[RUN] == pd.Series({key: place[key] for key in RUN})).all(axis=1)]
    rows = canvas.last_epoch(rows)
    rows = rows[(rows["policy"] == CHOSEN) & (rows["level"] == "all seeds")]
    found = {}
    for name, images in (("worst", WORST), ("clean", "clean")):
        for row in rows[rows["images"] == images].head(1).to_dict("records"):
            ends = dict(zip(("low", "high"), (row[end] for end in IMAGE_ENDS), strict=True))
            numbers = {"difference": row["difference"], **ends, "n": row["n"]}
            found[name] = {key: _plain(value) for key, value in numbers.items()}
    return found or None
