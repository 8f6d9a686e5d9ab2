"""The figures of README.md and docs/, drawn from the tables of the runs that are there.

pip install -e .    # once
python docs/figures.py results docs
"""

import sys
from pathlib import Path

from faultline.base.files import load_table
from faultline.report.comparison import policy_comparison
from faultline.studies.compression.figures import together_chart
from faultline.studies.criteria.figures import answer_chart, picks_chart
from faultline.studies.criteria.section import answered
from faultline.studies.fragile.figures import targeting_scatter
from faultline.studies.perturbations.figures import perturbation_curves
from faultline.studies.robustness.figures import accuracy_curves
from faultline.studies.sustainability.figures import error_profiles
from faultline.studies.synaptic.figures import score_map, threshold_curves


def of(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


# Picture -> the run, its tables, and how they are drawn.
PICTURES = {
    "fashion-mnist-resnet18-curves": (
        "fashion-mnist",
        ["curves"],
        lambda curves: threshold_curves(of(curves, network="resnet18")),
    ),
    "fashion-mnist-resnet18-layers": (
        "fashion-mnist",
        ["layers"],
        lambda layers: score_map(of(layers, network="resnet18")),
    ),
    "internal-perturbations-vgg16": (
        "internal-perturbations",
        ["perturbations"],
        lambda curves: perturbation_curves(of(curves, network="vgg16", images="clean")),
    ),
    "fragile-neurons-targeting": (
        "fragile-neurons",
        ["targeting", "association"],
        lambda *tables: targeting_scatter(
            *(of(t, dataset="digits", network="small_conv", epoch=8) for t in tables)
        ),
    ),
    "fragile-neurons-remedy": (
        "fragile-neurons",
        ["remedy"],
        lambda remedy: policy_comparison(
            of(remedy, dataset="fashion_mnist", network="small_conv"),
            notes={},
            policies=("fragile", "random"),
            reference="no change",
        ),
    ),
    "lsa-mnist-robustness": (
        "lsa-mnist",
        ["robustness"],
        lambda robust: accuracy_curves(
            of(robust, dataset="fashion_mnist"),
            {"at-apgd": ["at-apgd", "at-apgd-lr-l0", "at-apgd-lr-mvl"]},
            reference="normal",
        ),
    ),
    "lsa-mnist-sustainability": (
        "lsa-mnist",
        ["sustainability"],
        lambda probes: error_profiles(of(probes, dataset="fashion_mnist", training="normal")),
    ),
    "where-to-mend": ("where-to-mend", ["criteria_use"], picks_chart),
    "where-to-mend-fashion": ("where-to-mend-fashion", ["criteria_use"], picks_chart),
    "fewer-bits": (
        "stresses",
        ["compressed"],
        lambda whole: together_chart(
            of(whole, network="small_resnet", training="standard"), loss=0.02
        ),
    ),
    "referee": (
        "referee",
        ["referee", "criteria_gains"],
        lambda table, gains: answer_chart(
            answered({"referee": table, "criteria_gains": gains}, level=0.05), level=0.05
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
