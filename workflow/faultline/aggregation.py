"""What only shows when checkpoints, seeds, attacks or policies are put side by side."""

from itertools import product

import numpy as np
import pandas as pd

from faultline.checks import compare_attacks, fgsm_near_apgd
from faultline.classes import invariance, match_layers, most_common_class
from faultline.comparison import compare

RUN = ["dataset", "network", "training"]


def attack_order(
    correct: list[dict],
    places: list[dict],
    *,
    attacks: dict[str, dict],
    masking: float | None = None,
) -> pd.DataFrame:
    """Self-check rows: no attack is weaker than a simpler one of its norm and eps, and FGSM not by
    `masking` points of accuracy or more weaker than APGD.

    correct: eps (as text) -> bool [n] of one attack on one checkpoint; places: the checkpoint and
    the attack of each. attacks: the settings of each attack.
    """
    rows = []
    by_checkpoint = {}
    for hits, place in zip(correct, places, strict=True):
        checkpoint = tuple((k, v) for k, v in place.items() if k != "attack")
        by_checkpoint.setdefault(checkpoint, {})[place["attack"]] = hits
    for checkpoint, by_attack in by_checkpoint.items():
        groups = {}
        for name, hits in by_attack.items():
            attack = attacks[name]
            for eps in hits:
                unit = " in normalised units" if attack["normalised_units"] else ""
                by_method = groups.setdefault((f"{attack['norm']} eps {eps}{unit}", eps), {})
                by_method.setdefault(attack["method"], []).append(hits[eps])
        found = {}
        for (where, eps), by_method in groups.items():
            chosen = [
                dict(zip(by_method, one, strict=True)) for one in product(*by_method.values())
            ]
            for row in [row for one in chosen if eps != "0" for row in compare_attacks(one)]:
                detail = f"At {where}: {row['detail']}"
                if row["check"] not in found or row["status"] == "warning":
                    found[row["check"]] = (
                        dict(checkpoint) | row | {"attack": "all", "detail": detail}
                    )
        rows += found.values()
        together = {
            where: {method: np.min(hits, axis=0) for method, hits in by_method.items()}
            for (where, eps), by_method in groups.items()
            if eps != "0"
        }
        flattered = None if masking is None else fgsm_near_apgd(together, points=masking)
        if flattered:
            rows.append(dict(checkpoint) | flattered | {"attack": "all"})
    return pd.DataFrame(rows)


def compare_policies(
    correct: list[dict], places: list[dict], *, confidence: float, reference: str = "regular"
) -> pd.DataFrame:
    """Each policy, of retraining or remedy, against the reference, paired by image and by seed.

    correct: image set -> bool [n] under one policy; places: its checkpoint and policy.
    """
    groups = {}
    for hits, place in zip(correct, places, strict=True):
        for images, vector in hits.items():
            key = (*(place[column] for column in RUN), place["epoch"], images)
            groups.setdefault(key, {}).setdefault(place["seed"], {})[place["policy"]] = vector
    tables = []
    for key, by_seed in groups.items():
        table = compare(by_seed, reference=reference, confidence=confidence)
        for position, column in enumerate([*RUN, "epoch", "images"]):
            table.insert(position, column, key[position])
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["policy"])


def invariances(layers: pd.DataFrame, network_layers: dict[str, list[list]]) -> pd.DataFrame:
    """How far layers keep their class across seeds, epochs, data sets and networks (ours).

    layers: the table of all classified layers. network_layers: (name, kind, filters) of all layers
    of each network. Of each synaptic filter, attack and score: per
    network over each of seeds, epochs and data sets with the others held fixed; and over networks,
    layers matched by relative depth and kind.
    """
    if not len(layers):
        return pd.DataFrame()
    local = layers[layers["scope"] == "local"]
    rows = []
    axes = ["dataset", "training", "seed", "epoch"]
    for (network, what, attack, score), part in local.groupby(
        ["network", "filter", "attack", "score"], sort=False
    ):
        head = {"network": network, "filter": what, "attack": attack, "score": score}
        for over in axes:
            if len(set(part[over])) < 2:
                continue
            others = [axis for axis in axes if axis != over]
            row = invariance(part, unit=["layer", *others], over=over).iloc[0].to_dict()
            rows.append(head | {"over": over} | row)
    if len(set(local["network"])) > 1:
        matched = pd.concat(
            [
                _matched(part, network_layers[network])
                for network, part in local.groupby("network", sort=False)
            ]
        )
        for (what, attack, score), part in matched.groupby(
            ["filter", "attack", "score"], sort=False
        ):
            unit = ["matched", *axes]
            common = most_common_class(part, by=["network", *unit])
            row = invariance(common, unit=unit, over="network").iloc[0].to_dict()
            head = {"network": "all", "filter": what, "attack": attack, "score": score}
            rows.append(head | {"over": "network"} | row)
    return pd.DataFrame(rows)


def _matched(layers: pd.DataFrame, network_layers: list[list]) -> pd.DataFrame:
    known = pd.DataFrame(network_layers, columns=["layer", "kind", "filters"])
    known["position"] = range(len(known))
    matched = match_layers(known).set_index("layer")["matched"]
    return layers.assign(matched=layers["layer"].map(matched))
