"""One candidate: trained, tried at shares of its way, the best of these by validation images."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor, nn

from faultline.attacks.run import correct_under
from faultline.base import pace
from faultline.base.errors import UserError
from faultline.data.splits import DataSet
from faultline.studies.mending.candidates import Task, candidate
from faultline.studies.mending.cost import counted
from faultline.studies.mending.faults import Faults, correct_held, load, state_of
from faultline.studies.mending.under import Stressed
from faultline.studies.mending.under import mixed as mixed_data
from faultline.training.finetuning import measure_statistics
from faultline.training.further import mixed
from faultline.training.registry import adversarial_of

COLUMNS = ["rate", "share", "clean", "adversarial", "n", "passes", "note", "best"]

QUICK_STEPS = 20
"""Of APGD, which chooses in place of a judge."""


class Mended(NamedTuple):
    """path: a row per learning rate and share of the way, and a first one of the given network
    (share 0): accuracy on clean and on adversarial validation images, n of them, passes of the
    training, `best`: whether it is the one that is kept, and in `note` why a rate came to nothing.
    weights: of the best, which are the given ones where all came to nothing."""

    path: pd.DataFrame
    weights: dict[str, Tensor]


def mend_by(
    name: str,
    network: nn.Module,
    dataset: DataSet,
    *,
    training: Mapping[str, Any],
    attack: Mapping[str, Any],
    stressed: Stressed | None = None,
    faults: Faults | None = None,
    rates: Sequence[float],
    shares: Sequence[float],
    batch_size: int,
    epochs: int,
    clean_loss: float,
    fragile: Collection[str] | None,
    antifragile: Mapping[str, Collection[int]] | None = None,
    seed: int,
) -> Mended:
    """Mend a network by a candidate, in place, once with each learning rate where it learns.

    training: the settings of the network's own, whose augmentation and weight decay are kept.
    attack: settings of the one to harden against, and in its quick form to choose by; stressed: in
    its place the stresses, under each of which at each severity an image is to be right, or faults
    of the weights. fragile, antifragile: see `Task`. The best of all rates and shares has the
    highest accuracy on those images among those that lose at most `clean_loss` of clean accuracy,
    else the highest clean one. The weights are a state as of `state_of`.
    """
    given = state_of(network)
    chosen_under = {"adversarial": quick(attack)} if attack else {}
    held = faults if stressed is None else stressed.validation
    data = dataset if stressed is None else mixed_data(dataset, stressed.train, seed=seed)

    def accuracies() -> dict[str, float]:
        if held is not None:
            sets = correct_held(network, dataset, held, split="validation", seed=seed)
            right = np.logical_and.reduce([*sets.values()])
            return {"clean": float(sets["clean"].mean()), "adversarial": float(right.mean())}
        correct = correct_under(chosen_under, network, dataset, split="validation", seed=seed)
        return {images: float(hits.mean()) for images, hits in correct.items()}

    n = len(dataset.splits["validation"][1])
    before = accuracies()

    def rank(row: Mapping[str, float]) -> tuple[bool, float]:
        inside = within(row["clean"], before["clean"], clean_loss)
        return inside, row["adversarial"] if inside else row["clean"]

    rows: list[dict[str, Any]] = [before | {"share": 0.0, "passes": 0, "note": ""}]
    weights, best = given, 0
    way = candidate(name)
    for rate in pace.each(rates if way.trains else (math.nan,)):
        load(network, given)
        settings = _settings(training, attack, rate=rate, batch_size=batch_size)
        task = Task(network.eval(), data, settings, epochs, seed, fragile, antifragile)
        if held is not None:
            task = task._replace(recipe="standard", faults=faults)
        at_rate = "" if math.isnan(rate) else f", rate {rate:g}"
        try:
            with counted(network) as passes:
                way.mend(task)
        except UserError as error:
            print(f"{name}{at_rate}: {error}")
            rows.append({"rate": rate, "passes": way.trains * passes.count, "note": str(error)})
            continue
        of_training = {"rate": rate, "passes": way.trains * passes.count, "note": ""}
        network.requires_grad_(True).eval()
        after = {key: value.clone() for key, value in network.state_dict().items()}
        for share in [1.0] if way.faults else sorted(shares):  # of which weights stay
            network.load_state_dict(mixed(given, after, share))
            if not way.faults:
                measure_statistics(network, data)
            at = accuracies()
            rows.append(of_training | {"share": share} | at)
            print(
                f"{name}{at_rate}, {share:g} of the way: {at['clean']:.4f} clean, "
                f"{at['adversarial']:.4f} adversarial (n = {n}; given {before['clean']:.4f}, "
                f"{before['adversarial']:.4f})"
            )
            if best == 0 or rank(at) > rank(rows[best]):
                best = len(rows) - 1
                weights = state_of(network)
    load(network, weights)
    path = pd.DataFrame(rows, columns=COLUMNS).assign(n=n, best=False)
    path.loc[best, "best"] = True
    return Mended(path, weights)


def fragile_layers(classes: pd.DataFrame, *, attack: str) -> list[str]:
    """The layers that are fragile by S_adv under an attack, by the mean of all synaptic filters,
    decided; classes: those of the layers of one checkpoint."""
    rows = classes[(classes["scope"] == "local") & (classes["filter"] == "combined")]
    rows = rows[(rows["score"] == "S_adv") & (rows["attack"] == attack)]
    return rows.loc[(rows["class"] == "fragile") & rows["decided"].astype(bool), "layer"].tolist()


def antifragile_filters(classes: pd.DataFrame, *, attack: str) -> dict[str, list[int]]:
    """Layer -> its filters that are antifragile by S_adv under an attack, decided; classes: those
    of the filters of one checkpoint, perhaps none."""
    if not len(classes):
        return {}
    rows = classes[(classes["score"] == "S_adv") & (classes["attack"] == attack)]
    rows = rows[(rows["class"] == "antifragile") & rows["decided"].astype(bool)]
    return {str(layer): [*map(int, of["filter"])] for layer, of in rows.groupby("layer")}


def within(clean: float, given: float, clean_loss: float) -> bool:
    """Whether a clean accuracy is within the budget; of shares of images, so without rounding."""
    return clean >= given - clean_loss - 1e-9


def quick(attack: Mapping[str, Any]) -> dict[str, Any]:
    """A cheaper form of an attack that judges, for the many networks that are chosen among."""
    if attack["method"] != "standard":
        return dict(attack)
    steps = min(attack.get("steps") or QUICK_STEPS, QUICK_STEPS)
    return {**attack, "method": "apgd", "steps": steps}


def _settings(
    training: Mapping[str, Any], attack: Mapping[str, Any], *, rate: float, batch_size: int
) -> dict[str, Any]:
    return {
        **training,
        "recipe": "standard",
        "adversarial": adversarial_of(attack) if attack else None,
        "regularisation": None,
        "optimizer": "adam",
        "lr": rate,
        "batch_size": batch_size,
        "schedule": {"kind": "constant"},
    }


def chosen(paths: Mapping[str, pd.DataFrame], *, clean_loss: float) -> str | None:
    """The candidate whose best is chosen by validation images; None where none of those within the
    budget gains."""
    found, most = None, -math.inf
    for name, path in paths.items():
        given, best = path.iloc[0], path[path["best"]].iloc[0]
        gain = best["adversarial"] - given["adversarial"]
        if within(best["clean"], given["clean"], clean_loss) and gain > max(most, 0):
            found, most = name, gain
    return found


def bought(paths: Mapping[str, pd.DataFrame], budgets: Sequence[float]) -> pd.DataFrame:
    """What points of clean accuracy buy, on validation images: rows {budget, candidate, share,
    clean, adversarial}; without a candidate where nothing gains."""
    rows = []
    for budget in budgets:
        row: dict[str, Any] = {"budget": budget, "candidate": ""}
        for name, path in paths.items():
            given = path.iloc[0]
            row = {**given[["share", "clean", "adversarial"]], **row}
            tried = path[[within(clean, given["clean"], budget) for clean in path["clean"]]]
            best = tried.loc[tried["adversarial"].idxmax()]
            if best["adversarial"] > row["adversarial"]:
                row |= {"candidate": name, **best[["share", "clean", "adversarial"]]}
        rows.append(row)
    return pd.DataFrame(rows, columns=["budget", "candidate", "share", "clean", "adversarial"])
