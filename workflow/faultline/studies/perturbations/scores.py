"""What random internal perturbations cost, from a sweep's facts (Cheney et al. 2017). No torch.

Accuracies are told as relative performance, (accuracy - chance) / (base - chance): 1 is the
unperturbed network, 0 a guess. Every value is a mean over the repeats of the drawing, with

    std               over the repeats (n - 1)
    ci_low, ci_high   over repeats and images: the margins over repeats (Student's t) and over
                      images (delta method, paired with the base network) added as squares (ours)

and is NaN where the base network is not above chance, its interval at `confidence` (Wilson) not
above the share of the commonest label. Image sets are told apart as `images`
("clean" or an attack) and `top`: the set "clean@5" holds whether the label is among the best five.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit
from scipy.stats import mannwhitneyu

from faultline.ablation.facts import Facts
from faultline.base.columns import put_first
from faultline.base.sampling import ALIKE, Alike, Strata
from faultline.base.statistics import benjamini_hochberg, pseudo_change
from faultline.studies.perturbations.kinds import KINDS

LOSS = 0.3
"""The loss that the headline of Cheney et al. 2017 is about."""

KNOCKED_OUT = 0.7
"""The share of synapses knocked out in that headline."""

_LEAST_P = 1e-200

CURVE = ["kind", "parameter", "images", "top"]


def places(layers: list[tuple[str, str, object]]) -> pd.DataFrame:
    """Where each layer of a network stands; indexed by layer.

    layers: (name, kind, filters), in order. Columns: kind; depth, from 0 for the first to 1 for
    the last, where a normalisation is as deep as the layer before it; role in the headline, a list
    of "first conv", "top conv", "dense", which is empty for layers of other kinds.
    """
    table = pd.DataFrame(list(layers), columns=["layer", "kind", "filters"]).set_index("layer")
    convs = table.index[table["kind"] == "conv"]
    roles: dict[str, list[str]] = {name: [] for name in table.index}
    dense = table.index[table["kind"] == "linear"]
    for role, names in {"first conv": convs[:1], "top conv": convs[-1:], "dense": dense}.items():
        for name in names:
            roles[name].append(role)
    position = ((table["kind"] != "norm").cumsum() - 1).clip(lower=0).to_numpy()
    depth = position / max(position[-1], 1)
    return table.assign(depth=depth, role=list(roles.values()))[["kind", "depth", "role"]]


def relative(
    change,
    base,
    *,
    chance: float,
    confidence: float,
    design: Alike | Strata = ALIKE,
    against: float | None = None,
) -> dict[str, float]:
    """value, std, ci_low and ci_high of relative performance, and p_value where it is asked for.

    change: of each image's correctness in each repeat, or a mean of such, [repeats, n], in [-1, 1].
    base: bool [n]. design: how the images were drawn. against: what p_value compares the value
    with: where it is less than 1 less some confidence, it lies beyond the interval of that one.
    """
    names = ["value", "std", "ci_low", "ci_high", *(["p_value"] if against is not None else [])]
    accuracy, least, _ = design.share_interval(base, confidence=confidence)
    span = accuracy - chance
    if not least > chance:
        return dict.fromkeys(names, np.nan)
    by_repeat, by_image = design.mean(change) / span, change.mean(0)
    value, repeats = by_repeat.mean(), len(by_repeat)
    influence = by_image - value * (base - chance)
    pseudo = pseudo_change(by_image @ by_image, int(np.count_nonzero(by_image)))
    error = design.error(influence, pseudo) / span
    # Accuracies that agree in every repeat differ by less than one image, which `error` covers.
    spread = by_repeat.std(ddof=1)
    by_draws = spread / np.sqrt(repeats) if spread > 1e-12 or repeats < 2 else 0.0

    def margin(level: float) -> float:
        return float(np.hypot(stdtrit(repeats - 1, level / 2) * by_draws, ndtri(level / 2) * error))

    ends = (value - margin(1 - confidence), value + margin(1 - confidence))
    found = [1 + value, spread, 1 + ends[0], 1 + ends[1]]
    if against is not None and np.isnan(ends[0]):
        found.append(np.nan)
    elif against is not None:
        away = min(abs(1 + value - against), margin(_LEAST_P))
        log_p = brentq(lambda log: margin(np.exp(log)) - away, np.log(_LEAST_P), 0)
        found.append(np.exp(log_p))
    return dict(zip(names, found, strict=True))


def curves(facts: Facts, *, chance: float, confidence: float) -> pd.DataFrame:
    """Relative performance of one layer over the strength, ascending, from strength 0 on.

    One row per kind x parameter x image set x strength. Further columns: accuracy (mean over
    repeats), accuracy_std, base_accuracy, chance, repeats, n (images) and, where bits were flipped,
    nonfinite (repeats with an output that is no finite number). chance: of top-1.
    """
    flips = any(kind.startswith("bit_") for kind in set(facts.variants["kind"]))
    rows, design = [], facts.design
    common: dict[str, Any] = {"confidence": confidence, "design": design}
    for head, strengths, change, base, broken in _curves(facts):
        by_chance = min(head["top"] * chance, 1.0)
        for strength, changed, lost in zip(strengths, change, broken, strict=True):
            performance = relative(changed, base, chance=by_chance, **common)
            if strength == 0:  # the base network itself
                performance |= dict.fromkeys(("ci_low", "ci_high"), performance["value"])
            accuracy = design.mean(base) + design.mean(changed)
            rows.append(
                head
                | {"strength": strength}
                | performance
                | {
                    "accuracy": accuracy.mean(),
                    "accuracy_std": accuracy.std(ddof=1),
                    "base_accuracy": design.mean(base),
                    "chance": by_chance,
                    "repeats": len(changed),
                    "n": len(base),
                }
                | facts.stands_for
                | ({"nonfinite": int(lost.sum())} if flips else {})
            )
    return pd.DataFrame(rows)


def layer_losses(facts: Facts, *, chance: float, confidence: float) -> pd.DataFrame:
    """One layer in one number per kind x parameter x image set.

    value is the mean relative performance over the strengths, 0 to the largest: the area under the
    curve (trapezoid) over its width; of rates from the smallest on, over their logarithms (ours).
    loss_strength: where the curve first falls to 1 - LOSS, interpolated linearly; NaN where it
    never does. largest: the largest strength.
    """
    rows, design = [], facts.design
    common: dict[str, Any] = {"confidence": confidence, "design": design}
    for head, strengths, change, base, _ in _curves(facts):
        by_chance = min(head["top"] * chance, 1.0)
        area = _mean_over(strengths, change, KINDS[head["kind"]].strengths == "rates")
        performance = relative(area, base, chance=by_chance, **common)
        span = design.mean(base) - by_chance
        defined = not np.isnan(performance["value"])
        mean = design.mean(change, (1, 2))
        curve = 1 + mean / span if defined else np.full(len(strengths), np.nan)
        rows.append(
            head
            | performance
            | {
                "loss_strength": falls_to(1 - LOSS, strengths, curve),
                "largest": strengths[-1],
                "repeats": change.shape[1],
                "n": len(base),
            }
            | facts.stands_for
        )
    return pd.DataFrame(rows)


def _mean_over(strengths: np.ndarray, change: np.ndarray, by_decades: bool) -> np.ndarray:
    """The mean of changes [S, ...] over strengths [S] from 0 on, the area over its width."""
    if by_decades:
        strengths, change = np.log10(strengths[1:]), change[1:]
    if len(strengths) == 1:
        return change[0]
    area: np.ndarray = trapezoid(change, x=strengths, axis=0) / np.ptp(strengths)
    return area


def falls_to(level: float, x, y) -> float:
    """The x where the line through (x, y) [S] first falls to `level`; NaN where it never does."""
    below = np.flatnonzero(np.asarray(y) <= level)
    if not len(below):
        return np.nan
    after = below[0]
    if after == 0:
        return float(x[0])
    (x0, x1), (y0, y1) = x[after - 1 : after + 1], y[after - 1 : after + 1]
    return float(x0 + (x1 - x0) * (y0 - level) / (y0 - y1))


def headline(
    facts: Facts, roles: list[str], *, chance: float, confidence: float, almost_chance: float
) -> pd.DataFrame:
    """Relative performance with KNOCKED_OUT of the weights of one layer removed, and the claim.

    One row per role and image set; none where the knockouts do not reach so far. Between two
    strengths it is interpolated linearly. claim: a top conv or dense layer keeps more than
    1 - LOSS, the first conv at most almost_chance (how much that is, is ours). seen: yes or no
    where the interval decides it, else undecided; undefined where value is. p_value: of the limit
    of the claim.
    """
    rows = []
    for head, strengths, change, base, _ in _curves(facts):
        if (head["kind"], head["parameter"]) != ("synapse_knockout", "weight"):
            continue
        if strengths[-1] < KNOCKED_OUT:
            continue
        after = max(int(np.searchsorted(strengths, KNOCKED_OUT)), 1)
        x0, x1 = strengths[after - 1 : after + 1]
        weight = (KNOCKED_OUT - x0) / (x1 - x0)
        at = (1 - weight) * change[after - 1] + weight * change[after]
        common: dict[str, Any] = {"confidence": confidence, "design": facts.design}
        for role in roles:
            limit = almost_chance if role == "first conv" else 1 - LOSS
            performance = relative(at, base, chance=head["top"] * chance, against=limit, **common)
            low, high = performance["ci_low"], performance["ci_high"]
            if role == "first conv":
                claim, yes, no = "almost chance", high <= almost_chance, low > almost_chance
            else:
                claim, yes, no = f"loses less than {LOSS:.0%}", low > 1 - LOSS, high <= 1 - LOSS
            seen = "undefined" if np.isnan(low) else "yes" if yes else "no" if no else "undecided"
            end = {"claim": claim, "seen": seen, "repeats": len(at), "n": len(base)}
            end |= facts.stands_for
            rows.append({"role": role} | head | {"strength": KNOCKED_OUT} | performance | end)
    columns = ["role", *CURVE, "strength", "value", "std", "ci_low", "ci_high", "p_value"]
    columns += ["claim", "seen", "repeats", "n", *facts.stands_for]
    return pd.DataFrame(rows, columns=columns)


def corrected(table: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """A table with q_value behind p_value, corrected (Benjamini-Hochberg) for all of its rows, and
    a claim decided only where that is below 1 - confidence."""
    if "p_value" not in table:  # of no file
        return table
    q_value = benjamini_hochberg(table["p_value"])
    table = table.copy()
    table.insert(table.columns.get_loc("p_value") + 1, "q_value", q_value)
    if "seen" in table:
        unsure = table["seen"].isin(["yes", "no"]) & (q_value >= 1 - confidence)
        table["seen"] = table["seen"].mask(unsure, "undecided")
    return table


def score_tables(
    facts: Mapping[str, Facts],
    network_layers: list[tuple[str, str, object]],
    *,
    confidence: float,
    almost_chance: float,
    ends: float,
) -> dict[str, pd.DataFrame]:
    """curves, layers, headline and depth, the tables of one checkpoint; see the functions of these.

    facts: layer -> those of its sweep; network_layers: see `places`.
    """
    where = places(network_layers)
    parts: dict[str, list[pd.DataFrame]] = {"curves": [], "layers": [], "headline": []}
    for layer, of_layer in facts.items():
        kind, depth, role = where.loc[layer, ["kind", "depth", "role"]]
        common = {"chance": of_layer.chance, "confidence": confidence}
        tables = {
            "curves": curves(of_layer, **common),
            "layers": layer_losses(of_layer, **common),
            "headline": headline(of_layer, role, almost_chance=almost_chance, **common),
        }
        for name, table in tables.items():
            parts[name].append(
                put_first(table, {"layer": layer, "layer_kind": kind, "depth": depth})
            )
    tables = {name: pd.concat(of, ignore_index=True) for name, of in parts.items()}
    return tables | {"depth": depth_test(tables["layers"], ends=ends)}


def depth_test(losses: pd.DataFrame, *, ends: float) -> pd.DataFrame:
    """Do later layers keep more than first ones? A rank test over the layers of one network.

    losses: rows of `layer_losses` of all layers, with their depth. First are the layers up to depth
    `ends`, last those from 1 - ends on (ours). Per kind x parameter x image set: value, the chance
    that a last layer keeps more than a first one (U / pairs; 0.5: no difference), p_value
    (Mann-Whitney, two-sided), means and numbers of both.
    """
    rows = []
    for key, part in losses.groupby(CURVE, sort=False):
        part = part.dropna(subset="value")
        first = part.loc[part["depth"] <= ends, "value"].to_numpy(float)
        last = part.loc[part["depth"] >= 1 - ends, "value"].to_numpy(float)
        if not len(first) or not len(last):
            continue
        test = mannwhitneyu(last, first, alternative="two-sided")
        rows.append(
            dict(zip(CURVE, key, strict=True))
            | {
                "value": test.statistic / (len(first) * len(last)),
                "p_value": test.pvalue,
                "first_mean": first.mean(),
                "last_mean": last.mean(),
                "first_layers": len(first),
                "last_layers": len(last),
            }
        )
    columns = ["value", "p_value", "first_mean", "last_mean", "first_layers", "last_layers"]
    return pd.DataFrame(rows, columns=[*CURVE, *columns])


def _curves(
    facts: Facts,
) -> Iterator[tuple[dict, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(what it is of, strengths [S] from 0 on, change [S, repeats, n], base [n], whether any output
    is not finite [S, repeats]) of each curve."""
    variants = pd.DataFrame(facts.variants)
    for (kind, parameter), part in variants.groupby(["kind", "parameter"], sort=False):
        index = part.reset_index().pivot_table(index="strength", columns="repeat", values="index")
        strengths = index.index.to_numpy(float)
        for name, base in facts.base.items():
            images, _, top = name.partition("@")
            correct = facts.correct[name][index.to_numpy(int)]
            change = correct.astype(np.int8) - base
            broken = facts.nonfinite.get(name, 0 * facts.changed[name])[index.to_numpy(int)] > 0
            if strengths[0] > 0:
                change, broken = (np.concatenate([0 * part[:1], part]) for part in (change, broken))
            grid = strengths if strengths[0] == 0 else np.concatenate([[0.0], strengths])
            head = {"kind": kind, "parameter": parameter, "images": images, "top": int(top or 1)}
            yield head, grid, change, base, broken
