"""The figures of the README, drawn from the tables of the Fashion-MNIST run.

python docs/figures.py results/fashion-mnist/tables docs
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from faultline import plots  # noqa: E402
from faultline.files import load_table  # noqa: E402


def main(tables: Path, folder: Path) -> None:
    figures = {"curves": plots.threshold_curves, "layers": plots.score_map}
    for name, draw in figures.items():
        table = load_table(tables / f"{name}.tsv")
        path = folder / f"fashion-mnist-resnet18-{name}.png"
        draw(table[table["network"] == "resnet18"]).savefig(path, dpi=90)
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
