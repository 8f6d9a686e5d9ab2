"""All finished runs below a folder in one table: what they were and what they found."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import yaml

from faultline.attacks.worst import WORST
from faultline.base.columns import PLACE, RUN, transfer
from faultline.base.errors import printable
from faultline.compare.finished import Finished
from faultline.report import canvas, page
from faultline.report.comparison import summary, untold, with_reference
from faultline.report.render import filled

DESCRIBED = {"runs": "what each run found, one row a data set, network and training"}

HELPS = {"better": "helps", "worse": "harms", "not told apart": "cannot tell"}
"""What `report.comparison.summary` says -> whether retraining helps."""

COLUMNS = [
    *("run", "ended", *RUN, "seeds", "checkpoints", "attacks", "epoch"),
    *("clean", "worst", "worst_attack", "fragile", "layers", "retraining", "cpu_seconds"),
]


def headlines(runs: Iterable[Finished]) -> pd.DataFrame:
    """Rows of COLUMNS, one per run, data set, network and training, the runs in the order given.

    epoch: the last one, of which the headline is; clean, worst: accuracies, means over seeds;
    worst_attack: under which attack, at the eps that the config sets, it is worst; fragile: of so
    many layers, those that are fragile and decided in every seed, as `judged`; retraining: what
    `selective` brings against `regular`, in points, per image set; cpu_seconds: of the whole run.
    NaN and "" where a run tells nothing.
    """
    rows = [row for run in runs for row in _headlines(run)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _headlines(run: Finished) -> list[dict]:
    config, accuracy = run.config, run.table("accuracy")
    common = {
        "run": printable(run.folder),
        "ended": run.ended(),
        "attacks": page.listed(config["attacks"]),
        "cpu_seconds": run.costs()["cpu_seconds"].sum(),
    }
    rows = []
    for place, part in accuracy.groupby(RUN, sort=False) if len(accuracy) else ():
        last = canvas.last_epoch(part)
        worst = _under_attack(last, config["attacks"])
        rows.append(
            common
            | dict(zip(RUN, place, strict=True))
            | {
                "seeds": part["seed"].nunique(),
                "checkpoints": len(part.drop_duplicates(PLACE)),
                "epoch": last["epoch"].max(),
                "clean": last[last["eps"] == 0].groupby("seed")["accuracy"].first().mean(),
                "worst": worst.min() if len(worst) else np.nan,
                "worst_attack": worst.idxmin() if len(worst) else "",
                "retraining": _retraining(page.of(run.table("comparison"), last), config),
                **fragile(page.of(run.table("layers"), last), config),
            }
        )
    return rows or [common]


def _under_attack(last: pd.DataFrame, attacks: dict) -> pd.Series:
    """Attack and its eps, in words -> accuracy, mean over seeds."""
    sizes = {name: {attack["eps"]} for name, attack in attacks.items()}
    every = {eps for of in sizes.values() for eps in of}
    set_so = [
        bool(eps) and eps in sizes.get(name, every if name.startswith(WORST) else ())
        for name, eps in zip(last["attack"], last["eps"], strict=True)
    ]
    rows = last[set_so]
    names = rows["attack"] + [f", eps {eps:g}" for eps in rows["eps"]]
    return rows.groupby(names, sort=False)["accuracy"].mean()


def judged(layers: pd.DataFrame, config: dict) -> tuple[pd.DataFrame, str]:
    """The rows by which the report counts layers, those of the last epoch, and the score's name:
    S_adv of the attack that retraining goes by; S_clean where that is undefined or not there."""
    rows = canvas.last_epoch(layers)
    rows = rows[(rows["scope"] == "local") & (rows["filter"] == "combined")]
    attack = config["retraining"]["attack"] or ""
    under = rows[(rows["score"] == "S_adv") & rows["attack"].isin([attack, transfer(attack)])]
    if under["value"].isna().all():
        return rows[rows["score"] == "S_clean"], "S_clean"
    return under, f"S_adv ({under['attack'].iloc[0]})"


def fragile(layers: pd.DataFrame, config: dict) -> dict:
    """How many layers of one data set, network and training are fragile, decided in every seed, and
    of how many, by which score; nothing of none."""
    if not len(layers):
        return {}
    rows, score = judged(layers, config)
    sure = (rows["decided"] & (rows["class"] == "fragile")).groupby(rows["layer"]).all()
    return {"fragile": sure.sum(), "layers": len(sure), "score": score} if len(sure) else {}


def _retraining(comparison: pd.DataFrame, config: dict) -> str:
    if not len(comparison) or "q_value" not in comparison:
        return ""
    rows = with_reference(canvas.last_epoch(comparison))
    rows = rows[rows["policy"] == "selective"]
    level, texts = 1 - config["scores"]["confidence"], []
    for images, part in rows.groupby("images", sort=False):
        row, _, said = summary(part, level=level)
        for word, helps in HELPS.items():
            said = said.replace(word, helps)
        by = "" if untold(said) else f" ({page.points(row['difference'])})"
        texts.append(f"{images}: {said}{by}")
    return "; ".join(texts)


def listed(headlines: pd.DataFrame) -> pd.DataFrame:
    """One row a run, as text: ranges over its data sets, networks and trainings."""
    rows = []
    for run, part in headlines.groupby("run", sort=False):
        first = part.iloc[0]
        fragile, layers = part["fragile"].sum(), part["layers"].sum()
        rows.append(
            {
                "run": run,
                "ended (UTC)": first["ended"],
                "data sets": _several(part["dataset"]),
                "networks": _several(part["network"]),
                "seeds": _range(part["seeds"], "{:.0f}"),
                "checkpoints": f"{part['checkpoints'].sum():.0f}",
                "attacks": first["attacks"],
                "clean (%)": _range(100 * part["clean"], "{:.1f}"),
                "worst (%)": _range(100 * part["worst"], "{:.1f}"),
                "fragile layers": f"{fragile:.0f} of {layers:.0f}" if layers else "",
                "retraining": _counted(part["retraining"]),
                "CPU s": f"{first['cpu_seconds']:,.0f}",
            }
        )
    return pd.DataFrame(rows)


def _several(names: pd.Series) -> str:
    each = list(dict.fromkeys(name for name in names.dropna() if name))
    if len(each) <= 3:
        return page.listed(each)
    return f"{page.listed(each[:2])} and {len(each) - 2} more"


def _counted(retraining: pd.Series) -> str:
    """How often it helps, harms or cannot be told, over trainings and image sets."""
    said = "; ".join(retraining.fillna(""))
    times = {word: said.count(f": {word}") for word in HELPS.values()}
    return ", ".join(f"{word} {n}x" for word, n in times.items() if n)


def _range(values: pd.Series, write: str) -> str:
    values = values.dropna()
    if not len(values):
        return ""
    ends = list(dict.fromkeys(write.format(value) for value in (values.min(), values.max())))
    return " to ".join(ends)


def in_text(table: pd.DataFrame) -> str:
    """A table of texts in columns, for a terminal; columns without any text are left out."""
    lines = [list(table), *table.to_numpy().tolist()]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def listed_page(
    runs: list[Finished], table: pd.DataFrame, *, folder: Path, template: str, **parts
) -> str:
    """The page as HTML; table: of `headlines`; folder: where its table lies; template, parts: see
    `report.render.filled`."""
    columns = {
        **{name: name for name in ("run", *RUN, "seeds", "checkpoints", "epoch")},
        "clean": ("clean", page.percent),
        "worst": ("worst", page.percent),
        "under": "worst_attack",
        "fragile layers": ("fragile", "layers", _of),
        "retraining": "retraining",
    }
    each = page.table("At the last checkpoint", table, columns, shown=True, source="runs.tsv")
    blocks = [page.block("", tables=[each])]
    rows = listed(table)
    rows["run"] = [
        page.cell(printable(run.folder), link=_report(run.folder, folder.parent)) for run in runs
    ]
    verdict = page.table("Runs", rows, source="runs.tsv")
    assert verdict  # of one run at least
    verdict = replace(
        verdict,
        read="Accuracies are those of the last checkpoint, means over seeds; worst: the lowest "
        "under an attack at the eps that the config sets. Fragile layers: decided in every seed, "
        "as their reports say. Retraining: selective set against regular, per image set. Where a "
        "run has several data sets, networks or trainings, lowest to highest.",
        cards=True,
    )
    return filled(
        template,
        title="faultline: all runs",
        what=f"{page.count(runs, 'finished run')}, newest first.",
        verdict=verdict,
        sections=[page.Section("trainings", "Each training", blocks=blocks)],
        config=yaml.safe_dump({str(run.folder): run.config for run in runs}, sort_keys=False),
        seeds=page.listed(sorted({seed for run in runs for seed in run.config["seeds"]})),
        tables=[(f"{folder}/{name}.tsv", text) for name, text in DESCRIBED.items()],
        **parts,
    )


def _report(run: Path, beside: Path) -> str:
    """The address of a run's report, for a page in the folder `beside`; "" where it is gone."""
    report = run / "report.html"
    return quote(os.path.relpath(report, beside)) if report.exists() else ""


def _of(part: float, whole: float) -> str:
    return "" if np.isnan(whole) else f"{part:.0f} of {whole:.0f}"
