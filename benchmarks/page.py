"""How large a report is, and how long it takes to make and to open, for a grid of the paper's size.

    python benchmarks/page.py
    python benchmarks/page.py --folder /tmp/grid

One checkpoint of each network of configs/synaptic-filtering.yaml is trained, swept and retrained on
digits, with few images (ten minutes or so; kept in the folder if one is named). Its tables are then
repeated over as many data sets, seeds and epochs as the grid has, with other numbers: they are as
many as those of the grid, and say nothing. The page is opened in headless Chromium where there is
one (`tests/browser.py`): first what is painted, then the load event, then the last figure unpacked.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import CHROMIUM, Browser  # noqa: E402

from faultline.base.files import load_table  # noqa: E402
from faultline.report.pool import side_by_side  # noqa: E402
from faultline.report.render import load_look, versions  # noqa: E402
from faultline.studies.config import Config  # noqa: E402
from faultline.studies.report import report  # noqa: E402

GRID = ROOT / "configs/synaptic-filtering.yaml"
THREADS = 2  # which the report has in a run
FINER = 5  # as many thresholds are swept as the grid has, divided by this
NOISY = ["value", "accuracy", "difference", "ci_low", "ci_high", "family_low", "family_high"]
UNPACKED = """new Promise((done) => {
  const wait = () =>
    document.querySelector("[data-packed]") ? setTimeout(wait, 10) : done(performance.now());
  wait();
})"""


def one_checkpoint(folder: Path) -> None:
    """Run the grid's networks, once each, on little data."""
    config = yaml.safe_load(GRID.read_text(encoding="utf-8"))
    config["datasets"] = {"digits": {"size": 18, "train": 500, "validation": 200, "test": 40}}
    config["trainings"]["adam"]["epochs"] = [1]
    config |= {"seeds": [0], "results": "results"}
    config["ablation"] |= {"images": 200, "target": "base"}  # the cheapest
    config["synaptic_filtering"]["thresholds"] //= FINER
    config["retraining"]["epochs"] = 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", path, "--cores", "8"]
    subprocess.run(list(map(str, command)), check=True)


def repeated(table: pd.DataFrame, config: dict, rng: np.random.Generator) -> pd.DataFrame:
    """A table of one checkpoint, over the data sets, seeds and epochs of a config."""
    if "normalised" in table:  # thresholds between those that were swept
        steps = [
            table.assign(normalised=(table["normalised"] + step / FINER**2).clip(upper=1))
            for step in range(FINER)
        ]
        table = pd.concat(steps).sort_values("normalised", kind="stable", ignore_index=True)
    several = {"dataset": [*config["datasets"]]}
    pictures = "picture" in table  # of one checkpoint in any run
    if not pictures:
        several |= {"seed": config["seeds"], "epoch": config["trainings"]["adam"]["epochs"]}
    for column, values in several.items():
        if column in table:
            there = table[column].notna()  # what is over all seeds stays as it is
            parts = [table[there].assign(**{column: value}) for value in values]
            table = pd.concat([*parts, table[~there]], ignore_index=True)
    return table if pictures else made_up(table, rng)


def made_up(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A table with other numbers, as so little training leaves most networks at chance."""
    noise = rng.normal(scale=0.15, size=len(table))
    for noisy in {*NOISY} & {*table.columns}:
        table[noisy] = table[noisy].astype(float).fillna(0) + noise
    if "accuracy" in table:
        table["accuracy"] = table["accuracy"].clip(0, 1)
    if "above_chance" in table:
        table["above_chance"] = True
    if {"class", "value", "tau"} <= {*table.columns}:
        value, tau = table["value"], table["tau"]
        names = np.select([value < -tau, value > tau], ["fragile", "antifragile"], "robust")
        table = table.assign(**{"class": names, "decided": (value.abs() - tau).abs() > 0.06})
        for end, by in (("low", -0.05), ("high", 0.05)):
            table[[f"ci_{end}", f"family_{end}"]] = np.column_stack([value + by, value + 1.2 * by])
    return table


def main(folder: Path, repetitions: int) -> None:
    if not (folder / "results/report.html").exists():
        one_checkpoint(folder)
    grid = yaml.safe_load(GRID.read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "results/config.resolved.yaml").read_text(encoding="utf-8"))
    given = config["datasets"]["digits"]
    config["datasets"] = dict.fromkeys(grid["datasets"], given)
    config["trainings"]["adam"]["epochs"] = grid["trainings"]["adam"]["epochs"]
    config["seeds"] = grid["seeds"]
    rng = np.random.default_rng(0)
    tables = {
        path.stem: repeated(load_table(path), config, rng)
        for path in sorted((folder / "results/tables").glob("*.tsv"))
    }
    start = time.monotonic()
    look = load_look(ROOT / "workflow/faultline/report/report.html.j2")
    with side_by_side(THREADS):
        html = report(tables, config=Config.model_validate(config), versions=versions(), **look)
    page = folder / "grid.html"
    page.write_text(html, encoding="utf-8")
    print(
        f"{page}: {page.stat().st_size / 1e6:.2f} MB, made in {time.monotonic() - start:.1f} s "
        f"by {THREADS} processes"
    )
    if CHROMIUM is None:
        print("There is no Chromium here to open it in.")
        return
    for width in (1400, 400):
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                browser = Browser(profile)
                browser.open(page, width=width)
                entry = "performance.getEntriesByType('navigation')[0].loadEventStart"
                painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
                loaded, unpacked = browser.run(entry), browser.run(UNPACKED)
                first = browser.run(painted)
                browser.close()
            print(
                f"{width} pixels wide: painted after {first or float('nan'):.0f} ms, loaded after "
                f"{loaded:.0f} ms, all figures unpacked after {unpacked:.0f} ms"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where the run is kept (default: nowhere)")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    if given.folder:
        main(given.folder, given.repetitions)
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder), given.repetitions)
