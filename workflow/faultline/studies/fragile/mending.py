"""The remedy of one checkpoint: gains chosen on validation images, then judged on test images."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from faultline.ablation.facts import counted
from faultline.attacks.run import correct_under, crafters
from faultline.data.splits import DataSet, images_of
from faultline.studies.fragile.remedy import (
    feature_energy,
    nodal_fragility,
    remedied,
    try_strengths,
    tuned_gains,
)


def choose_gains(
    network: nn.Module,
    dataset: DataSet,
    *,
    layers: Sequence[str],
    policies: Sequence[str],
    strengths: Sequence[float],
    attacks: dict[str, dict],
    at: str,
    seed: int,
    memory: Callable[[], float],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`tuned_gains` of the filters of some layers, n: images they were chosen on; what
    `try_strengths` tried, chosen: whether it was).

    Fragility and accuracies are those of validation images, energies those of training images. at:
    see `Mask`; memory: tells how many bytes may be taken.
    """
    images, labels = images_of(dataset, "validation")
    free = memory()
    energy = feature_energy(network, layers, dataset.seen, pixels=dataset.pixels)
    tables = []
    for layer in layers:
        lost = nodal_fragility(network, layer, images, labels, at=at, memory=free)
        columns = {"filter": range(len(lost)), "fragility": lost, "energy": energy[layer]}
        tables.append(pd.DataFrame({"layer": layer} | columns))
    filters = pd.concat(tables, ignore_index=True)
    tried = try_strengths(
        network,
        filters,
        images,
        labels,
        policies=policies,
        strengths=strengths,
        attacks=crafters(attacks, dataset, seed=seed, until_fooled=True),
        seed=seed,
    )
    tuned = tuned_gains(filters, tried, strengths=strengths, seed=seed)
    chosen = tuned.groupby("policy")["strength"].first()
    for policy in policies:
        print(f"{policy}: strength {chosen[policy]:g} of {len(labels)} validation images")
    tried["chosen"] = tried["strength"] == tried["policy"].map(chosen)
    return tuned.assign(n=len(labels)), tried


class Mended(NamedTuple):
    """result: a row per image set, with the strength; correct: image set -> bool [n] of the test
    split; network: with its gains."""

    result: pd.DataFrame
    correct: dict[str, np.ndarray]
    network: nn.Module


def mend(
    network: nn.Module,
    dataset: DataSet,
    gains: pd.DataFrame,
    *,
    policy: str,
    attacks: dict[str, dict],
    seed: int,
) -> Mended:
    """A copy of the network with the gains of a policy, none under "none", judged on the test
    images, clean and under the attacks.

    gains: as `choose_gains` gives them.
    """
    rows = gains[gains["policy"] == policy]
    strength = rows["strength"].iloc[0] if len(rows) else 0.0
    by_layer = rows.groupby("layer", sort=False)["gain"]
    mended = remedied(network, {layer: torch.tensor([*gain]) for layer, gain in by_layer})
    correct = correct_under(attacks, mended, dataset, split="test", seed=seed)
    result = pd.DataFrame(counted(correct)).assign(strength=strength)
    return Mended(result, correct, mended)
