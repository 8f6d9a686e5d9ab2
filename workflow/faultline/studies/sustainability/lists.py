"""The most vulnerable layers (Khalooei et al. 2022), from relative errors. No torch.

mu and sigma are the mean and the population standard deviation of the errors over all images and
probes (ours: each image counts alike). The most vulnerable layers (MVL) are those whose mean error
exceeds mu by more than eta sigma.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from faultline.base.columns import RUN
from faultline.base.errors import UserError
from faultline.base.files import load_arrays
from faultline.base.statistics import fleiss_kappa, mean_interval

Errors = Mapping[str, Mapping[str, np.ndarray]]

NONE = "none"
"""How an empty list is written."""


def most_vulnerable(
    errors: Mapping[str, np.ndarray], *, eta: float
) -> tuple[list[str], float, float]:
    """(MVL list, the most vulnerable first; mu; sigma) from probe -> relative errors [n]."""
    every = np.concatenate([np.asarray(part, float) for part in errors.values()])
    mu, sigma = float(every.mean()), float(every.std())
    means = {name: float(np.mean(part, dtype=float)) for name, part in errors.items()}
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    return [name for name in ranked if means[name] - mu > eta * sigma], mu, sigma


def by_perturber(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """perturber -> probe -> errors [n], from an errors.npz, whose keys are perturber/probe."""
    errors: dict[str, dict[str, np.ndarray]] = {}
    for key, values in arrays.items():
        perturber, _, probe = key.partition("/")
        errors.setdefault(perturber, {})[probe] = values
    return errors


def load_errors(path) -> dict[str, dict[str, np.ndarray]]:
    """`by_perturber` of a file of relative errors."""
    return by_perturber(load_arrays(path))


def vulnerable(
    errors: Errors, *, eta: float, eta_grid: Iterable[float], confidence: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(`probe_table` at eta, `list_table` at every eta); the lists at eta are told in the log."""
    lists = list_table(errors, etas=eta_grid)
    for row in lists[lists["eta"] == eta].to_dict("records"):
        print(f"{row['perturber']}, eta {row['eta']:g}: {row['mvl']}")
    return probe_table(errors, eta=eta, confidence=confidence), lists


def probe_table(errors: Errors, *, eta: float, confidence: float) -> pd.DataFrame:
    """One row per perturber and probe, in their order; errors: perturber -> probe -> [n].

    Columns: position (of the probe, from 0), value (mean relative error), std (over images), ci_low
    and ci_high (of the mean over images, Student's t), n, mvl (whether it is listed at eta).
    """
    rows = []
    for perturber, by_probe in errors.items():
        listed, _, _ = most_vulnerable(by_probe, eta=eta)
        for position, (probe, values) in enumerate(by_probe.items()):
            mean, low, high = mean_interval(values, confidence=confidence)
            row = {"perturber": perturber, "probe": probe, "position": position, "value": mean}
            row |= {"std": np.std(values, dtype=float), "ci_low": low, "ci_high": high}
            rows.append(row | {"n": len(values), "mvl": probe in listed})
    return pd.DataFrame(rows)


def list_table(errors: Errors, *, etas: Iterable[float]) -> pd.DataFrame:
    """One row per perturber and eta; errors: perturber -> probe -> [n].

    Columns: mu, sigma, limit (mu + eta sigma), layers (how many lie above it), mvl (these joined by
    commas, the most vulnerable first; "none" where there is none).
    """
    rows = []
    for perturber, by_probe in errors.items():
        for eta in etas:
            listed, mu, sigma = most_vulnerable(by_probe, eta=eta)
            row = {"perturber": perturber, "eta": eta, "mu": mu, "sigma": sigma}
            row |= {"limit": mu + eta * sigma, "layers": len(listed)}
            rows.append(row | {"mvl": ",".join(listed) or NONE})
    return pd.DataFrame(rows)


def listed_layers(text: str) -> list[str]:
    """The layers of a list that `list_table` wrote."""
    return [] if text == NONE else str(text).split(",")


def agreement(lists: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """How far MVL lists agree over seeds, over epochs and over perturbers, for each eta (ours).

    lists, probes: the tables of all checkpoints. One row per run, eta and axis, the other two axes
    held fixed: value, the mean over pairs of lists of shared layers / layers on either, and pairs,
    their number, those of two empty lists left out; kappa, Fleiss' of "listed or not" over layers;
    layers, the mean length of a list.
    """
    rows = []
    axes = ["seed", "epoch", "perturber"]
    for (*where, eta), part in lists.groupby([*RUN, "eta"], sort=False) if len(lists) else []:
        of_run = (probes[RUN] == where).all(axis=1)
        names = list(dict.fromkeys(probes.loc[of_run, "probe"]))
        for over in axes:
            overlaps, votes, compared = [], [], False
            for _, group in part.groupby([axis for axis in axes if axis != over], sort=False):
                sets = [set(listed_layers(text)) for text in group["mvl"]]
                compared |= len(sets) > 1
                overlaps += [len(a & b) / len(a | b) for a, b in combinations(sets, 2) if a | b]
                yes = np.array([sum(name in one for one in sets) for name in names])
                votes += [*np.stack([yes, len(sets) - yes], axis=1)]
            if compared:
                row = dict(zip(RUN, where, strict=True)) | {"over": over, "eta": eta}
                row |= {"value": np.mean(overlaps or [np.nan]), "kappa": fleiss_kappa(votes)}
                rows.append(row | {"layers": part["layers"].mean(), "pairs": len(overlaps)})
    return pd.DataFrame(rows)


def regularised_layers(settings: dict, errors: Errors | None = None) -> dict[str, float] | None:
    """probe -> gamma of a training with -lr; None for one without.

    settings: one training of the config. errors: the relative errors of the standard training,
    where its most vulnerable layers are meant; the list is told in the log. UserError where it is
    empty and the training is to stop then.
    """
    chosen = settings["regularisation"]
    if chosen is None:
        return None
    layers, gamma = chosen["layers"], chosen["gamma"]
    if layers == "mvl":
        assert errors is not None
        layers, mu, sigma = most_vulnerable(errors[chosen["perturber"]], eta=chosen["eta"])
        limit = mu + chosen["eta"] * sigma
        print(f"most vulnerable layers, above {limit:.4f}: {', '.join(layers) or 'none'}")
        if not layers and chosen["on_empty"] == "stop":
            raise UserError(
                f"no layer is most vulnerable at eta {chosen['eta']:g}; lower "
                "trainings.*.regularisation.eta, or set on_empty to base"
            )
        if not layers:
            print("nothing to regularise: training goes on as the recipe without -lr")
    return {layer: gamma[layer] if isinstance(gamma, dict) else gamma for layer in layers}
