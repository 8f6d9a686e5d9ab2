"""Examples: test images under attack, and those that fragile filters keep right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from faultline.report import page
from faultline.studies.examples import SIDE

if TYPE_CHECKING:
    from faultline.studies.config import Config

SHOWN = 84
"""Length of the longer side of a picture on the page, at most (CSS pixels)."""

ROOM = 450_000
"""Characters of all pictures of a page, shared by its networks."""


def section(tables: dict, config: Config) -> page.Section | None:
    """None where no network has images that it classifies correctly."""
    blocks, every = [], list(page.runs(tables["examples"]))
    for index, (run, part) in enumerate(every):
        room = ROOM // len(every)
        lost = page.of(tables["lost_images"], part)
        if len(lost):
            begun = lost["picture"].str.len().cumsum()
            lost = lost.assign(picture=lost["picture"].where(begun <= room // 3, ""))
            room -= min(begun.iloc[-1], room // 3)
        figures = [_under_attack(part, name=f"examples-{index}", run=run, room=room)]
        if len(lost):
            figures.append(_lost(lost, config, name=f"lost-{index}", run=run))
        blocks.append(page.block(run, figures=figures))
    if not blocks:
        return None
    return page.Section(
        "examples",
        "Examples",
        intro="What attacks change in an image, at the eps of the config, and which images depend "
        "on a fragile filter. Those under attack were chosen before any attack was looked "
        "at (ours): of each class the first test image that the network classifies correctly.",
        blocks=blocks,
    )


def _under_attack(part: pd.DataFrame, *, name: str, run: str, room: int) -> page.Figure:
    """With as many images as have pictures of at most so many characters together."""
    sizes = (part["picture"] + part["difference"]).str.len().groupby(part["index"], sort=False)
    n, begun = part["index"].nunique(), sizes.sum().cumsum()
    part = part[part["index"].isin(begun.index[(begun <= room) | (begun == begun.iloc[0])])]
    rows = []
    for attack, of_attack in part.groupby("attack", sort=False):
        clean = attack == "none"
        first = of_attack.iloc[0]
        cells = [
            _cell(
                row,
                row["picture"],
                f"label {row['label']}, {'test image' if clean else attack}",
                row["confidence"],
            )
            for row in of_attack.to_dict("records")
        ]
        rows.append(_row("test image" if clean else attack, _eps(first), cells))
        if not clean:
            cells = [
                _image(row, row["difference"], f"label {row['label']}, change under {attack}")
                for row in of_attack.to_dict("records")
            ]
            rows.append(_row("difference", f"\u00d7 {first['magnified']:.3g}", cells))
    one = part.iloc[0]
    large, shown = max(one["height"], one["width"]) == SIDE, part["index"].nunique()
    return _figure(
        rows,
        name=name,
        caption=f"{run}, training {one['training']}, seed {one['seed']}, epoch {one['epoch']}: the "
        f"first test image of each class that the network classifies correctly, "
        f"n = {n}; each attack crafted for them anew."
        + (f" Shown are {shown}, as a page of many networks has little room." if shown < n else "")
        + (" Larger images are averaged down." if large else ""),
        read="Below a picture: its label \u2192 what the network says, in bold where that is "
        "wrong, and how sure it is (softmax). Differences are the adversarial image minus the test "
        "image, times the number beside them: grey is no change, white brighter, black darker.",
    )


def _lost(lost: pd.DataFrame, config: Config, *, name: str, run: str) -> page.Figure:
    rows, one = [], lost.iloc[0]
    for (layer, number), part in lost.groupby(["layer", "filter"], sort=False):
        first = part.iloc[0]
        shown = part[part["picture"] != ""]
        said = f"{len(part)} of {first['n']} lost"
        if len(shown) < len(part):
            said += f", {len(shown)} shown"
        said += f"; {first['gained']} gained; S_clean {page.number(first['value'])}"
        said += "" if first["decided"] else ", not decided"
        cells = [
            _cell(row, row["picture"], f"label {row['label']}, image {row['index']}")
            for row in shown.to_dict("records")
        ]
        rows.append(_row(f"{layer}, filter {number}", said, cells))
    return _figure(
        rows,
        name=name,
        caption=f"{run}, training {one['training']}, seed {one['seed']}, epoch {one['epoch']}: "
        f"{config.ablation.split} images that are right with the filter and wrong without "
        "it, the first ones of each of the most fragile filters by S_clean, decided ones first "
        f"(removed at: {config.nodal_dropout.at}). All are in lost_images.tsv.",
        read="Below a picture: its label \u2192 what the network says without the filter. Images "
        "that get right without it are counted as gained.",
    )


def _figure(rows: Iterable[Markup], *, name: str, caption: str, read: str) -> page.Figure:
    body = Markup("\n").join(rows)
    table = Markup('<table class="pictures"><tbody>\n{}\n</tbody></table>').format(body)
    return page.Figure(f"figure-{name}", table, caption, read)


def _row(heading: str, small: str, cells: Iterable[Markup]) -> Markup:
    head = Markup('<th scope="row">{} <span class="small">{}</span></th>').format(heading, small)
    return Markup("<tr>{}{}</tr>").format(
        head, Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells)
    )


def _cell(row: dict, source: str, alt: str, confidence: float | None = None) -> Markup:
    wrong = row["label"] != row["predicted"]
    none = row["predicted"] < 0  # its output is not finite
    said = Markup("<b>{}</b>" if wrong else "{}").format("no class" if none else row["predicted"])
    sure = "" if confidence is None or none else f"{confidence:.0%}".replace("%", "\u202f%")
    image = _image(row, source, alt)
    return Markup("{}<span>{} \u2192 {}</span><span>{}</span>").format(
        image, row["label"], said, sure
    )


def _image(row: dict, source: str, alt: str) -> Markup:
    zoom = max(SHOWN // max(row["height"], row["width"]), 1)
    return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(
        source, alt, zoom * row["width"], zoom * row["height"]
    )


def _eps(row: pd.Series) -> str:
    return f"eps {row['eps']:g}" if row["attack"] != "none" else ""
