"""What a mend is to hold under where that is no attack: stresses of the inputs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.studies.stresses.judged import Stored


class Stressed(NamedTuple):
    """The inputs of two splits under the stresses that a mend is for."""

    train: Stored
    validation: Stored


def mixed(dataset: DataSet, stored: Stored, *, seed: int) -> DataSet:
    """A data set whose train split holds each input twice, as it is and, next to it, under one of
    the stresses at one of its severities, drawn for each (ours).

    stored: of the train split.
    """
    inputs, labels = dataset.splits["train"]
    sets = [of for by_severity in stored.values() for of in by_severity.values()]
    rng = np.random.default_rng(seed_of("stressed training", seed))
    drawn = torch.from_numpy(rng.integers(len(sets), size=len(inputs))).to(labels.device)
    stressed = inputs.clone()
    for number, of in enumerate(sets):
        here = drawn == number
        stressed[here] = of[here].to(inputs)
    both = torch.stack([inputs, stressed], dim=1).flatten(0, 1)
    return replace(dataset, splits=dataset.splits | {"train": (both, labels.repeat_interleave(2))})


def severities(stresses: Mapping[str, Mapping[str, object]]) -> str:
    """The stresses of some sets in words."""
    return ", ".join(
        f"{name} (severit{'y' if len(of) == 1 else 'ies'} {', '.join(of)})"
        for name, of in stresses.items()
    )
