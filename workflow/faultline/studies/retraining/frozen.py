"""Selective retraining: which parameters stay frozen under each policy (Pravin et al. 2024).

The source's idea is to update only robust and antifragile parameters. What is ours: the unit (whole
layers or pulse bands), that undecided classes count as what they are nearest to, that biases go
with their layer while normalisation parameters are always trained, and the control `random`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.variants import band_of
from faultline.base.seeds import seed_of
from faultline.networks.layers import weights

OF_FROZEN, OF_ALL = 0.05, 0.01
"""How far the size of a random set may be from that of the fragile one: either share is enough."""

ORDERS = 1000


class Freezable(NamedTuple):
    """What can be frozen, in units that are frozen as a whole.

    units: parameter name -> int64 tensor, shaped as the parameter: the unit of each entry.
    layer: the layer of each unit, as a number [units]; fragile: bool [units].
    """

    units: dict[str, Tensor]
    layer: np.ndarray
    fragile: np.ndarray


def by_layer(layers: dict[str, nn.Module], fragile: set[str]) -> Freezable:
    """Every layer, weights and biases, is a unit."""
    number = {name: index for index, name in enumerate(layers)}
    units = {
        path: torch.full_like(parameter, number[name], dtype=torch.int64)
        for path, (name, _, parameter) in _parameters(layers).items()
    }
    return Freezable(units, np.arange(len(layers)), np.array([name in fragile for name in layers]))


def by_band(
    layers: dict[str, nn.Module], bands: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Freezable:
    """The weights of a layer in one pulse band are a unit. Biases lie in no band.

    bands: layer -> (thresholds ascending, bool per band: is it fragile).
    """
    units: dict[str, Tensor] = {}
    layer: list[int] = []
    fragile: list[bool] = []
    first: dict[str, int] = {}
    for index, name in enumerate(name for name in layers if name in bands):
        alphas, is_fragile = bands[name]
        first[name] = len(layer)
        layer += [index] * len(alphas)
        fragile += [*is_fragile]
    for path, (name, key, parameter) in _parameters(layers).items():
        if name in bands and key in weights(layers[name]):
            units[path] = first[name] + band_of(parameter, bands[name][0])
    return Freezable(units, np.array(layer), np.array(fragile, bool))


def _parameters(layers: dict[str, nn.Module]) -> dict[str, tuple[str, str, Tensor]]:
    """Every parameter of some layers, detached, by its name: the layer, the name in it, and itself.
    One that several layers share is the first one's, as a network names it once."""
    parameters, seen = {}, set()
    for name, layer in layers.items():
        for key, parameter in layer.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters[f"{name}.{key}"] = (name, key, parameter.detach())
    return parameters


def freezable(
    layers: dict[str, nn.Module], classes, *, by: str, score: str, attack: str, filter: str
) -> Freezable:
    """What can be frozen in some layers, and what of it counts as fragile.

    classes: table of classified layers (by "layer") or pulse bands (by "band"). score and attack
    choose its rows, filter the synaptic filter of a layer's class.
    """
    attack = "none" if score == "S_clean" else attack
    rows = classes[(classes["score"] == score) & (classes["attack"] == attack)]
    if by == "layer":
        rows = rows[(rows["scope"] == "local") & (rows["filter"] == filter)]
        return by_layer(layers, set(rows.loc[rows["class"] == "fragile", "layer"]))
    bands = {}
    for layer, part in rows.groupby("layer", sort=False):
        part = part.sort_values("band")
        bands[layer] = (part["threshold"].to_numpy(), part["class"].eq("fragile").to_numpy())
    return by_band(layers, bands)


def frozen(parts: Freezable, *, policy: str, seed: int, draw: int = 0) -> dict[str, Tensor]:
    """Bool mask per parameter: what keeps its value under `selective` (what is fragile),
    `fragile_only` (all the rest) or `random` (as `matched` draws it; draw numbers the draws)."""
    if policy == "selective":
        chosen = parts.fragile
    elif policy == "fragile_only":
        chosen = ~parts.fragile
    else:
        sizes = np.zeros(len(parts.fragile), int)
        for unit in parts.units.values():
            sizes += torch.bincount(unit.flatten(), minlength=len(sizes)).cpu().numpy()
        rng = np.random.default_rng(seed_of("random policy", seed, draw))
        chosen = matched(sizes, parts.layer, parts.fragile, rng=rng)
    return {
        name: torch.from_numpy(chosen).to(unit.device)[unit] for name, unit in parts.units.items()
    }


def matched(
    sizes: np.ndarray, layer: np.ndarray, fragile: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray:
    """A random set of whole units that holds about as many parameters as the fragile ones (ours).

    Bands are matched layer by layer, so that depth tells the two sets apart as little as number.
    Where no other bands of a layer come near its fragile ones (a central band can hold most of the
    weights; all bands or none may be fragile), the units of all such layers are drawn together.
    A layer that is one unit is always such. For what is near and how it is drawn, see `exchanged`.

    sizes, layer, fragile: [units]. Returns bool [units].
    """
    chosen, rest = np.zeros_like(fragile), np.zeros_like(fragile)
    for index in np.unique(layer):
        members = (layer == index) & (sizes > 0)
        drawn, near = exchanged(sizes[members], fragile[members], rng=rng)
        if near:
            chosen[members] = drawn
        else:
            rest |= members
    chosen[rest], _ = exchanged(sizes[rest], fragile[rest], rng=rng)
    return chosen


def exchanged(
    sizes: np.ndarray, fragile: np.ndarray, *, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """(a random set of units in place of the fragile ones, bool [units]; whether its size is near).

    One fragile unit, drawn at random, is barred, and one that is not fragile put in: so the set is
    another one, neither part of the fragile one nor around it. The others follow in random order,
    each put in if that brings the number of parameters nearer to the fragile one's. The first of
    ORDERS such sets is taken that differs by at most OF_FROZEN of this number or OF_ALL of all
    parameters, and the nearest where none is so near. Where all units or none are fragile, there is
    no other set: it is returned itself, as not near.
    """
    if fragile.all() or not fragile.any():
        return fragile, False
    target = sizes[fragile].sum()
    near = max(OF_FROZEN * target, OF_ALL * sizes.sum())
    best, least = fragile, np.inf
    for _ in range(ORDERS):
        first = rng.choice(np.flatnonzero(~fragile))
        barred = rng.choice(np.flatnonzero(fragile))
        drawn, missing = [first], target - sizes[first]
        for unit in rng.permutation(len(sizes)):
            if unit not in (first, barred) and abs(missing - sizes[unit]) < abs(missing):
                drawn.append(unit)
                missing -= sizes[unit]
        if abs(missing) < least:
            best, least = np.isin(np.arange(len(sizes)), drawn), abs(missing)
        if least <= near:
            break
    return best, bool(least <= near)
