"""The figures of the README, drawn from the tables of the runs that are there.

python docs/figures.py results docs
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from faultline import plots, plots_fragile, plots_perturbations  # noqa: E402
from faultline.files import load_table  # noqa: E402


def of(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


# Picture -> the run, its tables, and how they are drawn.
PICTURES = {
    "fashion-mnist-resnet18-curves": (
        "fashion-mnist",
        ["curves"],
        lambda curves: plots.threshold_curves(of(curves, network="resnet18")),
    ),
    "fashion-mnist-resnet18-layers": (
        "fashion-mnist",
        ["layers"],
        lambda layers: plots.score_map(of(layers, network="resnet18")),
    ),
    "internal-perturbations-vgg16": (
        "internal-perturbations",
        ["perturbations"],
        lambda curves: plots_perturbations.perturbation_curves(
            of(curves, network="vgg16", images="clean")
        ),
    ),
    "fragile-neurons-lsa-mnist": (
        "fragile-neurons",
        ["targeting", "association"],
        lambda *tables: plots_fragile.targeting_scatter(
            *(of(t, dataset="fashion_mnist", network="lsa_mnist", epoch=8) for t in tables)
        ),
    ),
}


def main(results: Path, folder: Path) -> None:
    for name, (run, names, draw) in PICTURES.items():
        tables = [results / run / "tables" / f"{table}.tsv" for table in names]
        if all(table.exists() for table in tables):
            draw(*map(load_table, tables)).savefig(folder / f"{name}.png", dpi=90)
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
