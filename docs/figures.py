"""The figures of the README, drawn from the tables of the runs that are there.

python docs/figures.py results docs
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from faultline import plots, plots_perturbations  # noqa: E402
from faultline.files import load_table  # noqa: E402


def of(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


# Picture -> its table and how it is drawn.
PICTURES = {
    "fashion-mnist-resnet18-curves": (
        "fashion-mnist/tables/curves.tsv",
        lambda table: plots.threshold_curves(of(table, network="resnet18")),
    ),
    "fashion-mnist-resnet18-layers": (
        "fashion-mnist/tables/layers.tsv",
        lambda table: plots.score_map(of(table, network="resnet18")),
    ),
    "internal-perturbations-vgg16": (
        "internal-perturbations/tables/perturbations.tsv",
        lambda table: plots_perturbations.perturbation_curves(
            of(table, network="vgg16", images="clean")
        ),
    ),
}


def main(results: Path, folder: Path) -> None:
    for name, (table, draw) in PICTURES.items():
        if (results / table).exists():
            draw(load_table(results / table)).savefig(folder / f"{name}.png", dpi=90)
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
