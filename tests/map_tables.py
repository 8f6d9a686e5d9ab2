"""Tables of a run with made scores, as the workflow writes them."""

import numpy as np
import pandas as pd

from faultline.ablation.graph import graph_table
from faultline.studies.config import resolve
from faultline.studies.map.measures import layer_measures

RUN = {"dataset": "digits", "network": "small_resnet", "training": "standard"}


def make_config(**changes) -> dict:
    config = {
        "datasets": {"digits": {"test": 700}},
        "networks": ["small_resnet"],
        "trainings": {"standard": {"epochs": [1, 3]}},
        "attacks": {"pgd": {"method": "pgd", "eps": 0.1}},
    }
    return resolve(config | changes)


def measures_of(**tables: pd.DataFrame) -> pd.DataFrame:
    """`layer_measures` of some tables, all others empty, under PGD."""
    names = ("layers", "perturbed", "errors", "targeting", "compression")
    return layer_measures(**dict.fromkeys(names, pd.DataFrame()) | tables, attack="pgd")


def graph_rows(network, nodes, *, traced: bool = True) -> pd.DataFrame:
    table = graph_table(network, nodes, traced=traced)
    return table.assign(dataset=RUN["dataset"], network=RUN["network"])


def layer_rows(names, *, seeds=(0, 1), epochs=(1, 3), values=None, n: int = 400) -> pd.DataFrame:
    """The table of classified layers; values: (seed, epoch, score, number of layer) -> value."""
    rng, rows = np.random.default_rng(0), []
    for seed in seeds:
        for epoch in epochs:
            for score, attack in (("S_clean", "none"), ("S_adv", "pgd"), ("S_diff", "pgd")):
                for i, name in enumerate(names):
                    drawn = rng.normal(scale=0.2)
                    value = drawn if values is None else values(seed, epoch, score, i)
                    kind = "fragile" if value < -0.1 else "antifragile" if value > 0.1 else "robust"
                    kind = "undefined" if np.isnan(value) else kind
                    row = {"seed": seed, "epoch": epoch, "scope": "local", "layer": name}
                    row |= {"filter": "combined", "attack": attack, "score": score, "value": value}
                    row |= {"ci_low": value - 0.05, "ci_high": value + 0.05, "n": n, "tau": 0.1}
                    decided = bool(abs(abs(value) - 0.1) > 0.05)
                    rows.append(RUN | row | {"class": kind, "decided": decided})
    return pd.DataFrame(rows)


def filter_rows(name: str, classes: dict, **of) -> pd.DataFrame:
    """classes: (class, decided) -> how many filters of the layer have it."""
    rows = [pair for pair, count in classes.items() for _ in range(count)]
    table = pd.DataFrame(rows, columns=["class", "decided"]).assign(layer=name)
    table["filter"] = range(len(table))
    return table.assign(**RUN | {"seed": 0, "epoch": 3, "score": "S_adv", "attack": "pgd"} | of)
