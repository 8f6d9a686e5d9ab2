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
    of = {name: load_table(tables / f"{name}.tsv") for name in ("curves", "layers", "comparison")}
    for network in dict.fromkeys(of["layers"]["network"]):
        chosen = {name: table[table["network"] == network] for name, table in of.items()}
        figures = {
            "thresholds": plots.threshold_curves(chosen["curves"]),
            "scores": plots.score_map(chosen["layers"]),
            "retraining": plots.policy_comparison(chosen["comparison"], frozen={}),
        }
        for name, figure in figures.items():
            path = folder / f"fashion-mnist-{network}-{name}.png"
            figure.savefig(path, dpi=90, metadata={"Software": None})
            print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
