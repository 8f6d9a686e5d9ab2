"""What criteria say of one checkpoint, from validation images."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from torch import nn

from faultline.attacks.run import crafters
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet, images_of
from faultline.studies.criteria.data import Data
from faultline.studies.criteria.judge import judged


def judge_checkpoint(
    network: nn.Module,
    dataset: DataSet,
    *,
    seed: int,
    place: Mapping[str, str | int],
    methods: Sequence[str],
    layers: Sequence[str],
    attack: dict[str, dict],
    images: int | None,
    draws: int,
    build: Callable[..., nn.Module],
    initial: Callable[[], nn.Module],
) -> pd.DataFrame:
    """`judged` of the first `images` of the validation split, or all.

    seed: of the training, which the attack, the one by its name, is seeded by; place: what names
    the checkpoint, which the random numbers of criteria are seeded by. draws: so many networks have
    their parameters drawn anew, by build: called with seed=, it gives a freshly initialised one.
    initial: makes the network as it was before training.
    """
    ((name, settings),) = attack.items()
    shown, labels = images_of(dataset, "validation", images)
    of_checkpoint = seed_of("criteria", *place.values())
    redrawn_by = [seed_of("redrawn", of_checkpoint, draw) for draw in range(draws)]
    data = Data(
        network=network,
        images=shown,
        labels=labels,
        layers=layers,
        attack=settings,
        bounds=dataset.bounds,
        craft=crafters(attack, dataset, seed=seed)[name],
        initial=initial,
        redrawn=lambda: (build(seed=one) for one in redrawn_by),
        seed=of_checkpoint,
    )
    return judged(network, data, methods=methods)
