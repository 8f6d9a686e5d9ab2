"""One checkpoint retrained under one policy, and judged."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from faultline.ablation.facts import counted
from faultline.data.splits import DataSet
from faultline.networks.layers import layers as layers_of
from faultline.studies.retraining.frozen import freezable, frozen
from faultline.training.further import train_further


class Retrained(NamedTuple):
    """result: a row per image set, with how many weights and biases were frozen; history: as of
    `train_epochs`; correct: image set -> bool [n] of the test split; checkpoint: after it."""

    result: pd.DataFrame
    history: pd.DataFrame
    correct: dict[str, np.ndarray]
    checkpoint: dict


def retrain(
    network: nn.Module,
    dataset: DataSet,
    state: dict,
    *,
    policy: str,
    classes: pd.DataFrame | None,
    choice: Mapping[str, str],
    settings: dict,
    epochs: int,
    attacks: dict[str, dict],
    regularised: Mapping[str, float] | None,
) -> Retrained:
    """Train the network of a checkpoint on, in place, under a policy of `frozen` ("random-0",
    "random-1" and so on are its draws), and judge it on the test images, clean and under the
    attacks.

    classes: of the layers or bands of the checkpoint; None, for the policy "regular", freezes
    nothing. choice: the keywords of `freezable`. settings, regularised: as for `train_epochs`.
    """
    name, _, draw = policy.partition("-")
    masks, fragile = {}, {}
    if classes is not None:
        parts = freezable(layers_of(network), classes, **choice)
        masks = frozen(parts, policy=name, seed=state["seed"], draw=int(draw or 0))
        fragile = frozen(parts, policy="selective", seed=state["seed"])
    further = train_further(
        network,
        dataset,
        state,
        settings=settings,
        epochs=epochs,
        attacks=attacks,
        frozen=masks,
        regularised=regularised,
    )
    counts = {
        "frozen": sum(int(mask.sum()) for mask in masks.values()),
        "freezable": sum(mask.numel() for mask in masks.values()),
        "fragile": sum(int(mask.sum()) for mask in fragile.values()),
        "fragile_frozen": sum(int((mask & fragile[name]).sum()) for name, mask in masks.items()),
    }
    print("weights and biases: " + ", ".join(f"{key} {n}" for key, n in counts.items()))
    result = pd.DataFrame(counted(further.correct)).assign(**counts, masked=further.masked)
    history = pd.DataFrame(further.history)
    return Retrained(result, history, further.correct, further.checkpoint)
