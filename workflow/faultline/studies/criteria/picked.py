"""What a criterion picks to be trained while all else is frozen: as many parameters for each.

What is ours: the share that is picked, how it is filled, and that what belongs to no layer but a
normalisation or to none at all is always trained, as in selective retraining.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from faultline.ablation.facts import counted
from faultline.base.columns import CONTROL, MATCHED, policy_of
from faultline.base.errors import UserError
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.networks.layers import filters, of_units
from faultline.networks.layers import layers as layers_of
from faultline.studies.criteria.data import unit_sums
from faultline.training.further import train_further
from faultline.training.registry import adversarial_of

Order = dict[str, np.ndarray]
"""Layer -> its filters; both with what is picked first in front."""

ORDERS, COMMON = 500, 0.5
"""Random orders among which controls that are matched in depth are sought, and the share of the
parameters that these may have in common with what they are matched with."""


def order_of(
    layers: Mapping[str, nn.Module], table: pd.DataFrame, *, lowest: bool, seed: int
) -> Order:
    """Layers and their filters by their scores: the highest, or lowest, first.

    layers: those of the network. table: rows {layer, filter, score} of one criterion, `filter`
    missing where a row is of the whole layer. Of equals the first is first. Layers without a score
    come last, and the filters of a layer without scores of theirs are in random order.
    """
    sign = 1 if lowest else -1
    whole = table[table["filter"].isna()].set_index("layer")["score"] * sign
    names = sorted(layers, key=lambda name: whole.get(name, np.inf))
    units = dict(iter(table[table["filter"].notna()].groupby("layer", sort=False)))
    order = {}
    for name in names:
        if name in units:
            scores = units[name].sort_values("filter")["score"].to_numpy() * sign
            order[name] = np.argsort(scores, kind="stable")
        else:
            rng = np.random.default_rng(seed_of("filters picked", seed, name))
            order[name] = rng.permutation(filters(layers[name]))
    return order


def _check_ranked(table: pd.DataFrame, criterion: str) -> None:
    """UserError where a criterion sets no layer before another, as what it picked would be those
    that come first in the network."""
    whole = table.loc[table["filter"].isna(), "score"]
    if len(whole) != 1 and whole.nunique() < 2:
        raise UserError(
            f"criterion {criterion}: ranks no layer of this checkpoint before another (scores: "
            f"{len(whole)}), so nothing can be picked by it. Scores under an attack are undefined "
            "where it leaves no more than chance: take a smaller eps under ablation.attacks, or "
            "leave the criterion out of criteria.use.methods"
        )


def random_order(
    layers: Mapping[str, nn.Module], scored: Sequence[str], *, seed: int, draw: int
) -> Order:
    """The control: layers in random order, and the filters of each; those not scored come last."""
    seed = seed_of("random pick", seed, draw)
    scores = np.random.default_rng(seed).random(len(scored))
    table = pd.DataFrame({"layer": [*scored], "filter": None, "score": scores})
    return order_of(layers, table, lowest=False, seed=seed)


def parameters_of(layers: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    """Layer -> its parameters, detached; one that layers share is the first one's."""
    own, seen = {}, set()
    for name, layer in layers.items():
        own[name] = {k: p.detach() for k, p in layer.named_parameters() if id(p) not in seen}
        seen |= {id(parameter) for parameter in layer.parameters()}
    return own


def _sizes(parameters: Mapping[str, Mapping[str, Tensor]]) -> dict[str, int]:
    """Layer -> how many numbers its parameters hold."""
    return {name: sum(p.numel() for p in own.values()) for name, own in parameters.items()}


def taken(sizes: Mapping[str, int], order: Iterable[str], *, share: float) -> np.ndarray:
    """Parameters of each layer that `picked` takes, [layers], filters cut where they need be.

    sizes: parameters of each layer, in the order of definition."""
    left, counts = share * sum(sizes.values()), dict.fromkeys(sizes, 0.0)
    for name in order:
        counts[name] = min(left, float(sizes[name]))
        left -= counts[name]
    return np.array([*counts.values()])


def mean_depth(counts: ArrayLike) -> float:
    """Where parameters lie, on average: 0 in the first layer, 1 in the last.

    counts: of each layer, in the order of definition, [layers]; NaN where there are none."""
    counts = np.asarray(counts, float)
    total = counts.sum()
    return float(counts @ np.linspace(0, 1, len(counts)) / total) if total else np.nan


def matched_order(
    layers: Mapping[str, nn.Module],
    scored: Sequence[str],
    of: Order,
    *,
    share: float,
    seed: int,
    draw: int,
) -> Order:
    """The control that is matched in depth: of the picks of random orders that have at most half of
    their parameters in common with that of the order `of`, those that lie nearest to it on average
    (ours); where all have more, of those that have fewest."""
    sizes = _sizes(parameters_of(layers))
    theirs = taken(sizes, of, share=share)
    rng = np.random.default_rng(seed_of("matched pick", seed))
    drawn = ([scored[i] for i in rng.permutation(len(scored))] for _ in range(ORDERS))
    every = {tuple(taken(sizes, names, share=share)): names for names in drawn}  # each pick once

    def unlike(counts: Sequence[float]) -> tuple[float, float]:
        common = np.minimum(counts, theirs).sum() / theirs.sum()
        return max(common, COMMON), abs(mean_depth(counts) - mean_depth(theirs))

    nearest = sorted(every, key=unlike)
    names = every[nearest[draw % len(nearest)]]
    table = pd.DataFrame({"layer": names, "filter": None, "score": range(len(names), 0, -1)})
    return order_of(layers, table, lowest=False, seed=seed)


def picked(layers: Mapping[str, nn.Module], order: Order, *, share: float) -> dict[str, Tensor]:
    """Bool mask per parameter of the layers, in its shape: what is picked.

    Layer by layer as long as whole ones fit into `share` of all parameters of the layers; of the
    first one that does not, so many filters as come nearest. So the number differs from that share
    by half a filter at most. A parameter that layers share is the first one's.
    """
    own = parameters_of(layers)
    sizes = _sizes(own)
    left = round(share * sum(sizes.values()))
    masks = {
        f"{name}.{key}": torch.zeros_like(parameter, dtype=torch.bool)
        for name, of in own.items()
        for key, parameter in of.items()
    }
    for name, units in order.items():
        if sizes[name] > left:
            _pick_filters(name, layers[name], own[name], units, masks=masks, left=left)
            break
        for key in own[name]:
            masks[f"{name}.{key}"].fill_(True)
        left -= sizes[name]
    return masks


def _pick_filters(name, layer, own, units, *, masks, left: int) -> None:
    """The first filters of a layer, as many as hold the number of parameters nearest to `left`."""
    ones = {key: torch.ones_like(parameter) for key, parameter in own.items()}
    if not ones:
        return
    sums = unit_sums(layer, ones).cpu().numpy()[units]
    count = np.abs(np.concatenate([[0.0], sums.cumsum()]) - left).argmin()
    for key, mask in of_units(layer, units[:count].tolist()).items() if count else ():
        if key in own:
            masks[f"{name}.{key}"] |= mask


def settings_of(training: Mapping, *, recipe: str, attack: Mapping) -> dict:
    """The settings of a training with another recipe. Where it has no adversarial settings of its
    own, these are `adversarial_of` an attack."""
    adversarial = training["adversarial"] or adversarial_of(attack)
    return {**training, "recipe": recipe, "adversarial": adversarial, "regularisation": None}


class TrainedPicks(NamedTuple):
    """result: a row per image set, with how many parameters were trained; correct: image set ->
    bool [n] of the test split."""

    result: pd.DataFrame
    correct: dict[str, np.ndarray]


def train_picked(
    network: nn.Module,
    dataset: DataSet,
    state: dict,
    *,
    pick: str,
    criterion: str,
    lowest: bool,
    scores: pd.DataFrame | None,
    scored: Sequence[str],
    share: float,
    training: Mapping,
    recipe: str,
    epochs: int,
    interpolations: Sequence[float],
    attack: dict[str, dict],
    images: int | None,
    attacks: dict[str, dict],
    images_are: str = "clean",
) -> TrainedPicks:
    """Train a checkpoint on where a criterion picks, in place, and judge it on the test images.

    pick: "random-0", "random-1" and so on, a draw among the layers `scored`; "matched-0" and so on,
    one that is matched in depth with the pick of `criterion`; "full", everything; "none", which
    trains nothing; or any other name, for what the criterion picks: the highest, or lowest, of its
    rows in `scores`, {criterion, layer, filter, score}. attack: the one, by its name, of criteria
    and adversarial recipes; with interpolations (see `interpolate`) it and the first `images`
    validation images choose. attacks: those that judge; images_are: what the images as they are
    are called.
    """
    layers, seed = layers_of(network), state["seed"]
    masks, order, draw = {}, None, pick.rpartition("-")[2]
    candidates = [layer for layer in scored if layer in layers]
    if scores is not None:
        of_criterion = scores[scores["criterion"] == criterion]
        _check_ranked(of_criterion, criterion)
        order = order_of(layers, of_criterion, lowest=lowest, seed=seed)
    if policy_of(pick) == CONTROL:
        order = random_order(layers, candidates, seed=seed, draw=int(draw))
    elif policy_of(pick) == MATCHED:
        assert order
        given = {"share": share, "seed": seed, "draw": int(draw)}
        order = matched_order(layers, candidates, order, **given)
    if order:
        masks = picked(layers, order, share=share)
    (settings_of_attack,) = attack.values()
    further = train_further(
        network,
        dataset,
        state,
        settings=settings_of(training, recipe=recipe, attack=settings_of_attack),
        epochs=0 if pick == "none" else epochs,
        attacks=attacks,
        frozen={name: ~mask for name, mask in masks.items()},
        shares=interpolations,
        chosen_under=attack,
        chosen_on=images,
    )
    parameters = parameters_of(layers)
    sizes = _sizes(parameters)
    counts = dict.fromkeys(sizes, 0) if pick == "none" else sizes
    if masks:
        counts = {
            name: sum(int(masks[f"{name}.{key}"].sum()) for key in own)
            for name, own in parameters.items()
        }
    trained, trainable = sum(counts.values()), sum(sizes.values())
    depth = mean_depth([*counts.values()])
    print(
        f"{trained} of {trainable} parameters of layers trained, at a mean depth of {depth:.2f}; "
        f"moved by {further.moved:g} of the way"
    )
    correct = {images_are if k == "clean" else k: of for k, of in further.correct.items()}
    result = pd.DataFrame(counted(correct))
    result = result.assign(trained=trained, trainable=trainable, depth=depth, moved=further.moved)
    result = result.assign(masked=further.masked)
    return TrainedPicks(result, correct)
