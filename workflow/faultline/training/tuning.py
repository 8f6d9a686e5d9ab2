"""A search for a training's settings: every candidate of a grid, judged on the validation split.

Methods that leave their settings open are compared fairly only if each is tuned alike (ours).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from faultline.attacks.craft import attack_curve
from faultline.base import pace
from faultline.base.errors import UserError
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.training.epochs import make_optimizer, train_epochs
from faultline.training.unfinished import Unfinished


def candidates(grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the values of a grid, setting -> value; one, empty, of an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def applied(settings: Mapping[str, Any], chosen: Mapping[str, float]) -> dict[str, Any]:
    """The settings of a training with some replaced, by names such as "adversarial.eps".

    What the training has no place for, as a regularisation that it does without, is left out.
    """
    tuned = copy.deepcopy(dict(settings))
    for name, value in chosen.items():
        part, _, key = name.rpartition(".")
        place = tuned[part] if part else tuned
        if place is not None:
            place[key] = value
    return tuned


def judge(
    network: nn.Module, dataset: DataSet, *, attack: Mapping[str, Any], name: str, seed: int
) -> list[float]:
    """Accuracies in % on the validation split over the attack's eps grid, ascending."""
    images, labels = dataset.splits["validation"]
    correct, _ = attack_curve(
        network,
        dataset.pixels(images),
        labels,
        attack=attack,
        bounds=dataset.bounds,
        std=dataset.std,
        seed=seed_of("attack", name, seed),
    )
    return [100 * float(hits.mean()) for hits in correct.values()]


def loss_of(accuracies: Sequence[float], towards: Sequence[float] | None) -> float:
    """What the search minimises: minus the sum of accuracies (the R&G score of Khalooei et al.
    2022), or their mean absolute difference to those to come near to."""
    if towards is None:
        return -float(np.sum(accuracies))
    return float(np.abs(np.subtract(accuracies, towards)).mean())


def choose(
    trainings: Sequence[Mapping[str, Any]],
    grid: Mapping[str, Sequence[float]],
    *,
    towards: Sequence[float] | None = None,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """(table of all trainings, chosen candidate), the least loss of the mean over seeds; the first
    of several.

    trainings: one row per candidate and seed: the settings of `grid`, seed, error (why the training
    failed, or "") and "eps_<eps>" -> accuracy in %. The table has rg_score, loss and chosen beside.
    UserError where every training failed.
    """
    table = pd.DataFrame(trainings)
    if table["error"].astype(bool).all():
        raise UserError(f"no candidate could be trained: {table['error'].iloc[-1]}")
    names = [name for name in map(str, table) if name.startswith("eps_")]
    table["rg_score"] = table[names].sum(axis=1)
    tried = candidates(grid)
    rows = [(table[list(grid)] == pd.Series(c)).all(axis=1).to_numpy() for c in tried]
    losses = [loss_of(table.loc[of, names].mean().tolist(), towards) for of in rows]
    best = int(np.argmin(losses))
    table["loss"] = np.select(rows, losses, np.nan)
    table["chosen"] = rows[best]
    return table, tried[best]


def search(
    dataset: DataSet,
    build: Callable[..., nn.Module],
    *,
    tune: Mapping[str, Any],
    settings: Mapping[str, Any],
    epochs: int,
    attack: Mapping[str, Mapping[str, Any]],
    taken: Mapping[str, float],
    regularised: Callable[[dict[str, Any], int], Mapping[str, float] | None],
    unfinished: Unfinished,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Train every candidate from every seed and judge it; (table as of `choose`, chosen settings).

    build: called with seed=, gives a freshly initialised network. tune: of the config, with grid,
    seeds and towards; settings: of the training. attack: the one by its name. taken: what another
    search chose, which all candidates share, in the table and among the chosen ones, too.
    regularised: (settings, position of the seed) -> see `train_epochs`. unfinished: where a search
    that is interrupted goes on after its last training.
    """
    ((name, judged_under),) = attack.items()
    seeds, eps_grid = tune["seeds"], judged_under["eps_grid"]
    todo = [(candidate, at) for candidate in candidates(tune["grid"]) for at in range(len(seeds))]
    done = []
    if resumed := unfinished.load():
        done = resumed["done"]
        print(f"resuming after {len(done)} of {len(todo)} trainings")
    for candidate, at in pace.each(todo[len(done) :]):
        seed, of_candidate = seeds[at], applied(settings, {**taken, **candidate})
        network = build(seed=seed)
        error, accuracies = "", [0.0] * len(eps_grid)
        try:
            training = train_epochs(
                network,
                make_optimizer(network, of_candidate),
                dataset,
                settings=of_candidate,
                seed=seed,
                epochs=range(epochs),
                regularised=regularised(of_candidate, at),
                say=lambda _: None,
            )
            for _ in training:
                pass
            accuracies = judge(network.eval(), dataset, attack=judged_under, name=name, seed=seed)
        except UserError as failure:  # a candidate that diverges is a bad one, not the end
            error = str(failure)
        eps = {f"eps_{e:g}": a for e, a in zip(eps_grid, accuracies, strict=True)}
        done.append(candidate | {"seed": seed, "error": error} | eps)
        print(
            f"{len(done)} of {len(todo)}: {candidate}, seed {seed}: "
            + (error or f"R&G {sum(accuracies):.1f}")
        )
        unfinished.save({"done": done})
    table, best = choose(done, tune["grid"], towards=tune["towards"])
    for setting, value in taken.items():
        if setting not in table:
            table.insert(0, setting, value)
    chosen = {**taken, **best}
    print(f"chosen: {chosen}")
    return table, chosen
