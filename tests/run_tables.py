"""The tables of a run from random facts, made by the functions of the library, for the report."""

from dataclasses import is_dataclass
from itertools import product

import numpy as np
import pandas as pd

from faultline.ablation.facts import Facts
from faultline.attacks.checks import accuracy_monotone
from faultline.base.columns import RUN
from faultline.base.comparison import compare_policies
from faultline.studies import order
from faultline.studies.config import resolve
from faultline.studies.fragile.fragility import association, join, overlaps
from faultline.studies.synaptic.classes import classify, invariances
from faultline.studies.synaptic.scores import (
    band_scores,
    base_accuracy,
    curves,
    filter_scores,
    layer_scores,
)
from faultline.training.epochs import HISTORY

LAYERS = ["conv1", "conv2", "conv3", "fc"]
TAU = {"S_clean": 0.1, "S_adv": 0.1, "S_diff": 0.1}
FAMILY = ["layer", "attack", "score"]
N = 40


def make_config(**changes):
    config = {
        "datasets": {"digits": {"test": 700}},
        "networks": ["small_conv"],
        "trainings": {"standard": {"epochs": [1, 3]}},
        "seeds": [0, 1],
        "attacks": {"pgd": {"method": "pgd", "eps": 0.1, "eps_grid": [0, 0.1]}},
    }
    return resolve({**config, **changes})


def sweep(rng, kinds=("high_pass", "low_pass", "pulse"), thresholds=5, hopeless=False):
    v = len(kinds) * thresholds
    normalised = np.tile(np.linspace(0, 1, thresholds), len(kinds))
    base = {"clean": rng.uniform(size=N) < 0.9, "pgd": rng.uniform(size=N) < 0.5}
    if hopeless:
        base["pgd"][:] = False
    return Facts(
        variants={
            "filter": np.repeat(kinds, thresholds),
            "threshold": 2 * normalised - 1,
            "normalised": normalised,
            "kept": np.linspace(0, 1, v),
            "changed_weights": rng.integers(1, 99, size=v),
        },
        base=base,
        correct={k: b & (rng.uniform(size=(v, N)) < rng.uniform()) for k, b in base.items()},
        changed={k: np.full(v, 3) for k in base},
    )


def nodal(rng, count=6):
    base = {"clean": rng.uniform(size=N) < 0.9, "pgd": rng.uniform(size=N) < 0.5}
    return Facts(
        variants={
            "filter": np.arange(count),
            "changed_weights": np.array([0] + [9] * (count - 1)),
            "changed_activations": np.full(count, 9),
        },
        base=base,
        correct={k: b ^ (rng.uniform(size=(count, N)) < 0.1) for k, b in base.items()},
        changed={k: np.full(count, 9) for k in base},
    )


def make_tables(*, seeds=(0, 1), epochs=(1, 3), layers=LAYERS, filters=6, **sweep_options):
    """The tables of a run, from random facts through the functions of the library."""
    rng = np.random.default_rng(0)
    parts = {name: [] for name in order.described()}
    hits, places = [], []
    for seed in seeds:
        for epoch in epochs:
            place = {"dataset": "digits", "network": "small_conv", "training": "standard"}
            place |= {"seed": seed, "epoch": epoch}
            for scope, layer in [("global", "all layers"), *(("local", name) for name in layers)]:
                facts = sweep(rng, **sweep_options)
                scores = layer_scores(
                    facts, baseline="unfiltered", integration="trapezoid", confidence=0.95
                )
                here = place | {"scope": scope, "layer": layer}
                for baseline in ("unfiltered", "kept_fraction"):
                    table = scores[scores["filter"] == "combined"]
                    parts["baselines"].append(table.assign(**here, baseline=baseline))
                parts["layers"].append(scores.assign(**here))
                parts["curves"].append(curves(facts, confidence=0.95).assign(**here))
                if scope == "local":
                    bands = band_scores(facts, baseline="unfiltered", confidence=0.95)
                    parts["bands"].append(bands.assign(**place, layer=layer))
            parts["base"].append(base_accuracy(facts, confidence=0.95).assign(**place))
            single = filter_scores(nodal(rng, filters), confidence=0.95)
            parts["filters"].append(single.assign(**place, layer=layers[0]))
            eps = np.array([0, 0.1])
            accuracy = pd.DataFrame({"eps": eps, "n": N, "accuracy": 0.9 - 5 * eps, "ci_low": 0.1})
            parts["accuracy"].append(accuracy.assign(**place, attack="pgd"))
            found = accuracy_monotone({e: rng.uniform(size=N) < 0.9 - e for e in eps})
            parts["checks"].append(pd.DataFrame([found]).assign(**place, attack="pgd"))
        history = pd.DataFrame(rng.uniform(size=(3, len(HISTORY))), columns=HISTORY)
        history["epoch"] = [1, 2, 3]
        parts["history"].append(history.assign(**place))
        for policy in ("regular", "selective", "fragile_only", "random-0", "random-1"):
            correct = {k: rng.uniform(size=N) < 0.7 for k in ("clean", "pgd")}
            hits.append(correct)
            places.append(place | {"policy": policy})
            result = pd.DataFrame({"images": ["clean", "pgd"], "n": N, "accuracy": 0.7})
            counts = {"frozen": 0 if policy == "regular" else 30, "freezable": 100}
            counts |= {"fragile": 30, "fragile_frozen": 30 if policy == "selective" else 6}
            parts["retraining"].append(result.assign(**places[-1], **counts))
    tables = {name: pd.concat(part) if part else pd.DataFrame() for name, part in parts.items()}
    for unit in ("layers", "filters", "bands"):
        tables[unit] = classify(tables[unit], tau=TAU, by=[*FAMILY, "seed", "epoch"])
    tables["comparison"] = compare_policies(hits, places, confidence=0.95)
    tables["invariance"] = invariances(tables["layers"], {})
    return tables | fragile_tables(rng, tables["filters"])


def fragile_tables(rng, filters):
    """What targeting and the remedy add, random too, for the same checkpoints and filters."""
    where = [*RUN, "seed", "epoch", "layer", "filter"]
    each = filters.loc[filters["score"] == "S_clean", where].reset_index(drop=True)
    share, size = rng.uniform(size=len(each)), len(each)
    columns = ["std", "clean_norm", "relative_error", "noise_targeting", "noise_relative"]
    columns += ["excess_error"]
    targeting = each.assign(attack="pgd", targeting=share, share=share / 6, share_error=0.01, n=N)
    targeting = targeting.assign(relative=rng.uniform(size=size), noise_share=0.1)
    targeting["excess"] = targeting["share"] - targeting["noise_share"]
    targeting = join(targeting.assign(**dict.fromkeys(columns, 0.1)), filters, confidence=0.95)
    pixels = pd.DataFrame({"channel": 0, "row": [0, 0, 1, 1], "column": [0, 1, 0, 1]})
    kernels = each.merge(pixels, how="cross")
    places = each[each.columns[:5]].drop_duplicates().to_dict("records")
    hits, remedied, tried = [], [], []
    for place in places:
        for policy in ("none", "fragile", "random-0", "random-1"):
            hits.append({k: rng.uniform(size=N) < 0.7 for k in ("clean", "pgd")})
            remedied.append(place | {"policy": policy})
        for policy, strength in product(("fragile", "random-0", "random-1"), (0, 0.5, 1)):
            row = {"policy": policy, "strength": strength, "n": 30, "chosen": strength == 1}
            for images in ("clean", "pgd"):
                tried.append(place | row | {"images": images, "accuracy": rng.uniform()})
    gains = each.assign(fragility=0.1, energy=2.0, gain=rng.uniform(size=size), strength=1.0, n=30)
    gains = pd.concat([gains.assign(policy=name) for name in ("fragile", "random-0", "random-1")])
    return {
        "targeting": targeting,
        "kernels": kernels.assign(weight=rng.normal(size=len(kernels))),
        "association": association(targeting, permutations=99, confidence=0.95),
        "fragile_overlap": overlaps(filters, confidence=0.95),
        "gains": gains,
        "strengths": pd.DataFrame(tried),
        "remedy": compare_policies(hits, remedied, confidence=0.95, reference="none"),
    }


def said(shown) -> str:
    """All texts of findings or of sections, but what is drawn."""
    if is_dataclass(shown):
        return " ".join(said(part) for key, part in vars(shown).items() if key != "svg")
    if isinstance(shown, str) or not hasattr(shown, "__iter__"):
        return str(shown)
    return " ".join(map(said, shown))
