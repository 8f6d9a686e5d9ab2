"""Selective retraining: which parameters stay frozen under each policy (Pravin et al. 2024).

The source's idea is to update only robust and antifragile parameters. What is ours: the unit (whole
layers or pulse bands), that undecided classes count as what they are nearest to, and that biases
go with their layer while normalisation parameters are always trained.
"""

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.variants import band_of
from faultline.base.seeds import seed_of


def fragile_by_layer(layers: dict[str, nn.Module], fragile: set[str]) -> dict[str, Tensor]:
    """Parameter name (weight and bias of each layer) -> bool mask, all True in a fragile layer."""
    return {
        f"{name}.{kind}": torch.full_like(parameter, name in fragile, dtype=torch.bool)
        for name, layer in layers.items()
        for kind, parameter in layer.named_parameters(recurse=False)
    }


def fragile_by_band(
    layers: dict[str, nn.Module], bands: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Tensor]:
    """Weight name -> bool mask of the weights that lie in a fragile pulse band.

    bands: layer -> (thresholds ascending, bool per band: is it fragile). Biases lie in no band.
    """
    return {
        f"{name}.weight": torch.tensor(fragile)[band_of(layer.weight.detach(), alphas)]
        for name, layer in layers.items()
        if name in bands
        for alphas, fragile in [bands[name]]
    }


def fragile_parameters(
    layers: dict[str, nn.Module], classes, *, by: str, score: str, attack: str, filter: str
) -> dict[str, Tensor]:
    """Bool mask per parameter that can be frozen: does it count as fragile?

    classes: table of classified layers (by "layer") or pulse bands (by "band"). score and attack
    choose its rows, filter the synaptic filter of a layer's class.
    """
    attack = "none" if score == "S_clean" else attack
    rows = classes[(classes["score"] == score) & (classes["attack"] == attack)]
    if by == "layer":
        rows = rows[(rows["scope"] == "local") & (rows["filter"] == filter)]
        return fragile_by_layer(layers, set(rows.loc[rows["class"] == "fragile", "layer"]))
    bands = {}
    for layer, part in rows.groupby("layer", sort=False):
        part = part.sort_values("band")
        bands[layer] = (part["threshold"].to_numpy(), part["class"].eq("fragile").to_numpy())
    return fragile_by_band(layers, bands)


def frozen(
    fragile: dict[str, Tensor], *, policy: str, seed: int, draw: int = 0
) -> dict[str, Tensor]:
    """Bool mask per parameter: what keeps its value under a policy.

    fragile: masks over every parameter that can be frozen. `random` freezes as many of them as
    `selective`, drawn without replacement from all; draw numbers the draws.
    """
    if policy == "selective":
        return fragile
    if policy == "fragile_only":
        return {name: ~mask for name, mask in fragile.items()}
    if policy == "regular":
        return {}
    sizes = [mask.numel() for mask in fragile.values()]
    count = sum(int(mask.sum()) for mask in fragile.values())
    generator = torch.Generator().manual_seed(seed_of("random policy", seed, draw))
    flat = torch.zeros(sum(sizes), dtype=torch.bool)
    flat[torch.randperm(len(flat), generator=generator)[:count]] = True
    return {
        name: part.reshape(mask.shape).to(mask.device)
        for (name, mask), part in zip(fragile.items(), flat.split(sizes), strict=True)
    }
