"""Which filters are fragile, what attacks have to do with it, and whether they stay so. No torch.

Fragility d_i is the clean accuracy lost without filter i (Pravin et al. 2021); a filter is fragile
whose class by S_clean is "fragile", decided or not. How both are compared with adversarial
targeting (see `targeting`), and with chance, is ours.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import gammaln, ndtri, stdtrit

from faultline.base.columns import RUN
from faultline.base.seeds import seed_of
from faultline.base.statistics import (
    POWER,
    benjamini_hochberg,
    mean_interval,
    normal_quantile,
)

UNIT = [*RUN, "seed", "epoch", "layer", "filter"]

STATISTICS = ("spearman", "pearson", "on_fragile")

MEASURES = {"share": STATISTICS, "relative": STATISTICS[:2], "excess": STATISTICS}
"""Measure of targeting -> what is told of it and fragility; relative changes do not add up."""

COUNTS = ("n", "untouched", "fragile")

JUDGED = ("value", "chance", "chance_low", "chance_high", "p_value")


def fragility(filters: pd.DataFrame) -> pd.DataFrame:
    """One row per filter of the table of classified filters: its fragility and its class.

    Columns: those of UNIT, fragility, class, decided, untouched.
    """
    if not len(filters):
        return pd.DataFrame(columns=[*UNIT, "fragility", "class", "decided", "untouched"])
    rows = filters[filters["score"] == "S_clean"].rename(columns={"accuracy_lost": "fragility"})
    return rows[[*UNIT, "fragility", "class", "decided", "untouched"]].reset_index(drop=True)


def join(targeting: pd.DataFrame, filters: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """The rows of `targeting` with each filter's fragility and class.

    ci_low and ci_high are the interval of its share over images, excess_low and excess_high that of
    its excess over noise. Filters that nodal dropout left out have the fragility NaN and the class
    "unknown".
    """
    if not len(targeting):
        return pd.DataFrame()
    z = normal_quantile(confidence)
    margin, of_excess = (z * targeting[f"{name}_error"] for name in ("share", "excess"))
    table = targeting.assign(
        ci_low=(targeting["share"] - margin).clip(lower=0),
        ci_high=targeting["share"] + margin,
        excess_low=targeting["excess"] - of_excess,
        excess_high=targeting["excess"] + of_excess,
    )
    table = table.merge(fragility(filters), on=UNIT, how="left")
    table["class"] = table["class"].fillna("unknown")
    for column in ("decided", "untouched"):
        table[column] = table[column].eq(True)
    return table


def association(table: pd.DataFrame, *, permutations: int, confidence: float) -> pd.DataFrame:
    """How fragility and targeting go together, per layer, attack and checkpoint epoch (ours).

    table: as `join` makes it. By `measure` of targeting: "share" (absolute change, of the layer's),
    "relative" (change over the filter's clean norm) and "excess" (share less that of noise of equal
    norm). Statistics: "spearman" and "pearson" of d_i and the measure, and "on_fragile", its sum
    over the fragile filters. Chance: the measure dealt to the filters at random, `permutations`
    times, seeded. Filters that are untouched (their removal changed nothing) carry no fragility to
    compare: they are counted and left out, of chance too.

    Rows, by `level`: "seed", one per seed; "all seeds", the mean over seeds (value; ci_low, ci_high
    are Student's t over seeds), each seed's filters permuted on their own.

    Columns: n (filters compared), untouched, fragile (counts), value; chance, chance_low and
    chance_high, its mean and central interval; p_value, two-sided; q_value, corrected by Benjamini
    and Hochberg for the family, all rows of one level and epoch, of all runs, layers, attacks,
    measures and statistics together; tests, their number; detectable, the smallest Spearman
    correlation that would be told from chance were it the only one of these (see `detectable`).
    NaN where it is undefined: nothing varies, or no or every filter is fragile.
    """
    rows: list[dict] = []
    if not len(table):
        return pd.DataFrame()
    table = table[table["fragility"].notna()]
    for key, part in table.groupby([*RUN, "epoch", "layer", "attack"], sort=False):
        head = dict(zip([*RUN, "epoch", "layer", "attack"], key, strict=True))
        for measure, statistics in MEASURES.items():
            by_seed, counts = _by_seed(part, measure, permutations=permutations, purpose=key)
            for index, statistic in enumerate(statistics):
                of = head | {"measure": measure, "statistic": statistic}
                rows += _rows(of, by_seed, counts, index, confidence)
    return _corrected(pd.DataFrame(rows), 1 - confidence)


def _by_seed(part: pd.DataFrame, measure: str, *, permutations: int, purpose: tuple) -> tuple:
    """Seed -> what `_against_chance` gives, and seed -> counts, in the order of COUNTS."""
    by_seed, counts = {}, {}
    for name, of_seed in part.groupby("seed"):
        touched = of_seed[~of_seed["untouched"]]
        compared = touched[touched[measure].notna()]
        fragile = (compared["class"] == "fragile").to_numpy()
        by_seed[name] = _against_chance(
            compared["fragility"].to_numpy(float),
            compared[measure].to_numpy(float),
            fragile,
            permutations=permutations,
            seed=seed_of("association", *purpose, name),
        )
        counts[name] = np.array([len(compared), len(of_seed) - len(touched), fragile.sum()])
    return by_seed, counts


def _rows(head: dict, by_seed: dict, counts: dict, index: int, confidence: float) -> Iterator[dict]:
    """Seed by seed, then over all seeds."""
    defined = [seed for seed in by_seed if not np.isnan(by_seed[seed][0][index])]
    values = [by_seed[seed][0][index] for seed in defined]
    _, low, high = mean_interval(values, confidence=confidence)
    levels = [({"level": "seed", "seed": str(seed), "seeds": 1}, [seed]) for seed in by_seed]
    whole = {"level": "all seeds", "seed": "all", "seeds": len(defined)}
    levels.append((whole | {"ci_low": low, "ci_high": high}, defined))
    for level, seeds in levels:
        counted = [counts[seed] for seed in seeds or by_seed]
        row = head | level | dict(zip(COUNTS, np.sum(counted, axis=0), strict=True))
        row["each"] = [count[0] for count in counted]
        yield row | _judged([by_seed[seed] for seed in seeds], index, confidence)


def _corrected(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """With the columns q_value, tests and detectable in place of `each`, filters seed by seed."""
    if not len(table):
        return table
    families = table.groupby(["level", "epoch"])["p_value"]
    table["q_value"] = families.transform(benjamini_hochberg)
    table["tests"] = families.transform("count")
    ranked = table["statistic"].eq("spearman") & table["p_value"].notna()
    table["detectable"] = [
        detectable(each, level=level / tests) if chosen else np.nan
        for each, tests, chosen in zip(table["each"], table["tests"], ranked, strict=True)
    ]
    return table.drop(columns="each")


def detectable(filters: Sequence[int], *, level: float, power: float = POWER) -> float:
    """The smallest mean of Spearman correlations, one a seed over so many filters each, that a
    two-sided test at this level tells from chance with that power.

    The critical value t / sqrt(n - 2 + t^2), t a quantile of Student's t with n - 2 degrees of
    freedom; a mean over seeds counts as one sample, of the n whose variance by chance, 1 / (n - 1),
    is that of the mean (ours). Beyond it, on Fisher's scale, whose variance is 1.06 / (n - 3) a
    seed (Fieller, Hartley & Pearson 1957), the quantile of that power. NaN where a seed has fewer
    than four filters.
    """
    counts = np.asarray(filters, float)
    if not len(counts) or counts.min() < 4:
        return np.nan
    freedom = len(counts) ** 2 / np.sum(1 / (counts - 1)) - 1
    t = stdtrit(freedom, 1 - level / 2)
    beyond = ndtri(power) * np.sqrt(1.06 * np.sum(1 / (counts - 3))) / len(counts)
    return float(np.tanh(np.arctanh(t / np.sqrt(freedom + t**2)) + beyond))


def _against_chance(d, t, fragile, *, permutations, seed):
    """(values [3], chance [3], values under permutation [permutations, 3]) in STATISTICS' order."""
    few = 0 < fragile.sum() < len(fragile) and t.any()
    weights = [_standard(_ranks(d)), _standard(d), fragile if few else np.full(len(d), np.nan)]
    weights, values = np.array(weights, float), np.array([_standard(_ranks(t)), _standard(t), t])
    rng, null = np.random.default_rng(seed), np.empty((permutations, 3))
    for begin in range(0, permutations, 1000):
        size = min(1000, permutations - begin)
        order = rng.permuted(np.tile(np.arange(len(d)), (size, 1)), axis=1)
        null[begin : begin + size] = np.einsum("spf,sf->ps", values[:, order], weights)
    chance = np.array([0.0, 0.0, fragile.mean() * t.sum() if few else np.nan])
    value = (values * weights).sum(1) if len(d) else np.full(3, np.nan)
    return value, chance, null


def _judged(parts: list[tuple], index: int, confidence: float) -> dict:
    """The mean of one statistic over parts of `_against_chance`, against that of their chances."""
    value, chance, null = (
        np.mean([part[i][..., index] for part in parts], 0) if parts else np.nan for i in range(3)
    )
    if np.isnan(value):
        return dict.fromkeys(JUDGED, np.nan)
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = np.abs(null - chance) >= np.abs(value - chance) - 1e-12
    p_value = (1 + beyond.sum()) / (1 + np.size(null))
    return dict(zip(JUDGED, (value, chance, low, high, p_value), strict=True))


def _ranks(values: np.ndarray) -> np.ndarray:
    return pd.Series(values).rank().to_numpy(float)


def _standard(values: np.ndarray) -> np.ndarray:
    """Centred, of length 1, so that the product of two is their correlation; NaN if constant."""
    centred = values - values.mean() if len(values) else values
    length = np.linalg.norm(centred)
    return centred / (length if length > 1e-12 * np.abs(values).max(initial=0) else np.nan)


def overlaps(filters: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Jaccard overlap of the fragile sets of a layer, between checkpoint epochs and between seeds.

    filters: the table of classified filters. Chance: two sets of the same sizes drawn at random
    from the n filters that are untouched in neither checkpoint (hypergeometric, exact). Between
    seeds, filters of one index have nothing in common but the index: there, chance is expected.

    Columns: over ("epoch", "seed"), the two checkpoints (seed, epoch, other_seed, other_epoch),
    fragile, other_fragile, both (counts), value (Jaccard), chance, chance_low, chance_high,
    p_value (of as large an overlap by chance), n, left_out. NaN where both sets are empty.
    """
    rows = []
    for key, part in fragility(filters).groupby([*RUN, "layer"], sort=False):
        head = dict(zip([*RUN, "layer"], key, strict=True))
        fragile = part["class"].eq("fragile").astype(float).mask(part["untouched"])
        states = fragile.groupby([part["filter"], *(part[c] for c in ("epoch", "seed"))]).first()
        states = states.unstack(["epoch", "seed"])  # noqa: PD010
        for (epoch, seed), (other_epoch, other_seed) in combinations(states.columns, 2):
            if (epoch == other_epoch) == (seed == other_seed):
                continue
            pair = states[[(epoch, seed), (other_epoch, other_seed)]].dropna().to_numpy(bool)
            row = {"over": "epoch" if seed == other_seed else "seed", "seed": seed, "epoch": epoch}
            row |= {"other_seed": other_seed, "other_epoch": other_epoch}
            row |= _jaccard(*pair.T, confidence=confidence)
            rows.append(head | row | {"n": len(pair), "left_out": len(states) - len(pair)})
    return pd.DataFrame(rows)


def _jaccard(one: np.ndarray, other: np.ndarray, *, confidence: float) -> dict:
    n, a, b, both = len(one), one.sum(), other.sum(), (one & other).sum()
    row = {"fragile": a, "other_fragile": b, "both": both}
    if not a + b:
        return row | dict.fromkeys(JUDGED, np.nan)
    k = np.arange(max(0, a + b - n), min(a, b) + 1)
    share = np.exp(_log_choose(a, k) + _log_choose(n - a, b - k) - _log_choose(n, b))
    jaccard, below = k / (a + b - k), np.cumsum(share)
    low, high = np.searchsorted(below, [(1 - confidence) / 2, (1 + confidence) / 2 - 1e-12])
    low, high = jaccard[[low, min(high, len(k) - 1)]]
    p_value = min(1.0, share[k >= both].sum())
    values = (both / (a + b - both), share @ jaccard, low, high, p_value)
    return row | dict(zip(JUDGED, values, strict=True))


def _log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
