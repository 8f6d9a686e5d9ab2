"""What a criterion picks to be trained while all else is frozen: as many parameters for each.

What is ours: the share that is picked, how it is filled, and that what belongs to no layer but a
normalisation or to none at all is always trained, as in selective retraining.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from faultline.ablation.facts import counted
from faultline.base.seeds import seed_of
from faultline.data.splits import DataSet
from faultline.networks.layers import filters, of_units
from faultline.networks.layers import layers as layers_of
from faultline.studies.criteria.data import unit_sums
from faultline.training.further import train_further
from faultline.training.registry import adversarial_of

Order = dict[str, np.ndarray]
"""Layer -> its filters; both with what is picked first in front."""


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


def random_order(
    layers: Mapping[str, nn.Module], scored: Sequence[str], *, seed: int, draw: int
) -> Order:
    """The control: layers in random order, and the filters of each; those not scored come last."""
    seed = seed_of("random pick", seed, draw)
    scores = np.random.default_rng(seed).random(len(scored))
    table = pd.DataFrame({"layer": [*scored], "filter": None, "score": scores})
    return order_of(layers, table, lowest=False, seed=seed)


def picked(layers: Mapping[str, nn.Module], order: Order, *, share: float) -> dict[str, Tensor]:
    """Bool mask per parameter of the layers, in its shape: what is picked.

    Layer by layer as long as whole ones fit into `share` of all parameters of the layers; of the
    first one that does not, so many filters as come nearest. So the number differs from that share
    by half a filter at most. A parameter that layers share is the first one's.
    """
    own, seen = {}, set()
    for name, layer in layers.items():
        parameters = {k: p.detach() for k, p in layer.named_parameters() if id(p) not in seen}
        seen |= {id(parameter) for parameter in layer.parameters()}
        own[name] = parameters
    sizes = {name: sum(p.numel() for p in of.values()) for name, of in own.items()}
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
    criterion: str,
    scores: pd.DataFrame | None,
    scored: Sequence[str],
    share: float,
    lowest: bool,
    training: Mapping,
    recipe: str,
    epochs: int,
    interpolations: Sequence[float],
    attack: dict[str, dict],
    images: int | None,
    attacks: dict[str, dict],
) -> TrainedPicks:
    """Train a checkpoint on where a criterion picks, in place, and judge it on the test images.

    criterion: one of `scores`, the rows {criterion, layer, filter, score} of all, of which the
    highest, or lowest, of the layers are picked; "random-0", "random-1" and so on, its control, a
    draw among the layers `scored`; "full", everything; or "none", which trains nothing. attack: the
    one, by its name, of criteria and adversarial recipes; with interpolations (see `interpolate`)
    it and the first `images` validation images choose. attacks: those that judge.
    """
    layers, seed = layers_of(network), state["seed"]
    _, _, draw = criterion.partition("-")
    masks = {}
    if draw:
        candidates = [layer for layer in scored if layer in layers]
        order = random_order(layers, candidates, seed=seed, draw=int(draw))
        masks = picked(layers, order, share=share)
    elif scores is not None:
        of_criterion = scores[scores["criterion"] == criterion]
        order = order_of(layers, of_criterion, lowest=lowest, seed=seed)
        masks = picked(layers, order, share=share)
    (settings_of_attack,) = attack.values()
    further = train_further(
        network,
        dataset,
        state,
        settings=settings_of(training, recipe=recipe, attack=settings_of_attack),
        epochs=0 if criterion == "none" else epochs,
        attacks=attacks,
        frozen={name: ~mask for name, mask in masks.items()},
        shares=interpolations,
        chosen_under=attack,
        chosen_on=images,
    )
    sizes = {id(p): p.numel() for layer in layers.values() for p in layer.parameters()}
    trainable, taken = sum(sizes.values()), sum(int(mask.sum()) for mask in masks.values())
    trained = {"none": 0, "full": trainable}.get(criterion, taken)
    print(
        f"{trained} of {trainable} parameters of layers trained; moved by {further.moved:g} of the "
        "way"
    )
    result = pd.DataFrame(counted(further.correct))
    result = result.assign(trained=trained, trainable=trainable, moved=further.moved)
    result = result.assign(masked=further.masked)
    return TrainedPicks(result, further.correct)
