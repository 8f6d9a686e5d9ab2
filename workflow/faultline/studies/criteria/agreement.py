"""How alike two rankings of the same layers or filters are, and how far chance would go. No torch.

Layers are compared over a whole network. Filters are compared within their layer, and the mean is
taken over layers: so what tells layers apart does not count for filters (ours).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from faultline.base.columns import RUN
from faultline.base.seeds import seed_of
from faultline.base.statistics import benjamini_hochberg, mean_interval, mean_p_value
from faultline.studies.criteria.names import CONTROLS

FEWEST = 3
"""Layers, or filters of a layer, that a ranking must at least have."""

STATISTICS = ("spearman", "kendall", "precision")

Groups = dict[str, np.ndarray]
"""Group (a layer, or the network) -> values [seeds, units], NaN where a seed does not know one."""


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of values [n]; NaN where either tells nothing apart."""
    return float(_normed(one) @ _normed(other)) if _both_rank(one, other) else np.nan


def kendall(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's tau-b of values [n]; NaN where either tells nothing apart."""
    from scipy.stats import kendalltau  # slow to import, and for few stages only

    return float(kendalltau(one, other).statistic) if _both_rank(one, other) else np.nan


def precision(one: np.ndarray, other: np.ndarray, *, share: float) -> float:
    """Of the k highest of `other`, the share that is among the k highest of `one`; values [n].

    k is `share` of n, rounded, at least 1. Values that are tied for the last places share them.
    """
    if not _both_rank(one, other):
        return np.nan
    k = top(len(one), share)
    return float(_membership(one, k) @ _membership(other, k) / k)


def top(n: int, share: float) -> int:
    """How many of n units are the top ones."""
    return max(round(share * n), 1)


def _membership(values: np.ndarray, k: int) -> np.ndarray:
    """How far each value is among the k highest, 0 to 1; the sum is k."""
    last = np.sort(values)[-k]
    above, tied = values > last, values == last
    return above + tied * (k - above.sum()) / tied.sum()


def _both_rank(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether both rank the units."""
    both = np.stack([one, other])
    enough = both.shape[1] >= FEWEST and not np.isnan(both).any()
    return enough and bool(np.ptp(both, axis=1).all())


def _normed(values: np.ndarray) -> np.ndarray:
    """Ranks [n], with mean 0 and length 1."""
    ranks = pd.Series(values).rank().to_numpy()
    ranks = ranks - ranks.mean()
    return ranks / np.linalg.norm(ranks)


def by_seed(one: Groups, other: Groups, *, share: float) -> dict[str, np.ndarray]:
    """Statistic -> its mean over groups, [seeds]; NaN for a seed in which no group is ranked. Also
    "chance", that of the precision, and "n", how many units were compared."""
    seeds = len(next(iter(one.values())))
    statistics = {name: np.full(seeds, np.nan) for name in (*STATISTICS, "chance", "n")}
    for seed in range(seeds):
        rows = [
            (
                spearman(a, b),
                kendall(a, b),
                precision(a, b, share=share),
                top(len(a), share) / len(a),
                len(a),
            )
            for a, b in ((one[group][seed], other[group][seed]) for group in one)
            if _both_rank(a, b)
        ]
        if rows:
            *means, sizes = np.transpose(rows)
            for name, values in zip(statistics, means, strict=False):
                statistics[name][seed] = values.mean()
            statistics["n"][seed] = sizes.sum()
    return statistics


def dealt(one: Groups, other: Groups, *, permutations: int, seed: int) -> np.ndarray:
    """`spearman` as in `by_seed` where the scores are dealt to the units of each group at random,
    [seeds, permutations]: in all seeds alike, as units of a network resemble each other over seeds.
    """
    seeds = len(next(iter(one.values())))
    total, groups = np.zeros((seeds, permutations)), np.zeros(seeds)
    for group, values in one.items():
        ranked = [s for s in range(seeds) if _both_rank(values[s], other[group][s])]
        if not ranked:
            continue
        rng = np.random.default_rng(seed_of("dealt", seed, group))
        order = np.tile(np.arange(values.shape[1], dtype=np.int32), (permutations, 1))
        order = rng.permuted(order, axis=1)
        for s in ranked:
            total[s] += _normed(other[group][s])[order] @ _normed(values[s])
        groups[ranked] += 1
    with np.errstate(invalid="ignore"):
        return total / np.where(groups, groups, np.nan)[:, None]


def _rows(
    statistics: dict[str, np.ndarray], seeds: Sequence[int], *, confidence: float
) -> list[dict]:
    """One row per seed, then one of all: each statistic, and there with its interval over seeds."""
    rows = []
    for place, seed in enumerate(seeds):
        row = {"level": "seed", "seed": seed, "seeds": 1, "n": statistics["n"][place]}
        rows.append(row | {name: statistics[name][place] for name in (*STATISTICS, "chance")})
    there = ~np.isnan(statistics["spearman"])
    whole = {"level": "all seeds", "seed": "all", "seeds": int(there.sum())}
    for name in ("chance", "n"):
        whole[name] = statistics[name][there].mean() if there.any() else np.nan
    for name in STATISTICS:
        mean, *ends = mean_interval(statistics[name][there], confidence=confidence)
        low, high = np.clip(ends, 0 if name == "precision" else -1, 1)  # what is possible
        whole |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return [*rows, whole]


def predictions(
    scores: pd.DataFrame,
    removals: pd.DataFrame,
    *,
    share: float,
    permutations: int,
    confidence: float,
) -> pd.DataFrame:
    """How well each criterion ranks units by the accuracy that is lost without them.

    scores: rows {RUN, seed, epoch, criterion, layer, filter, score, passes}; removals: {RUN, seed,
    epoch, layer, filter, images, loss, loss_even, loss_odd}. A row per run, epoch, kind of units,
    criterion and image set, where any seed ranks any, for each seed and for all: spearman, kendall
    and precision (see there) with their intervals over seeds (Student's t); of spearman the central
    interval by chance and p_value, two-sided, both by `dealt`, and q_value, corrected
    (Benjamini-Hochberg) for all rows of the level; apart_q: see `_apart`; chance: that of the
    precision; ceiling: see there; n: units compared; passes: mean cost of the criterion.
    """
    rows = []
    for place, seeds, part, truth in _runs(scores, removals):
        for unit in ("layers", "filters"):
            lost, most = {}, {}
            for images, of in truth.groupby("images", sort=False):
                lost[images], *halves = (
                    _groups(of.assign(score=of[column]), unit, seeds, part)
                    for column in ("loss", "loss_even", "loss_odd")
                )
                if lost[images]:
                    most[images] = by_seed(*halves, share=share)["spearman"]
            for criterion, of in part.groupby("criterion", sort=False):
                if not (one := _groups(of, unit, seeds, part)):
                    continue
                head = place | {"units": unit, "criterion": criterion}
                cost = of["passes"].mean()
                for images, other in lost.items():
                    statistics = by_seed(one, other, share=share)
                    if np.isnan(statistics["spearman"]).all():
                        continue
                    null = dealt(one, other, permutations=permutations, seed=0)
                    by_level = _rows(statistics, seeds, confidence=confidence)
                    for row, by_chance in zip(by_level, [*null, _mean(null)], strict=True):
                        row |= _against(row["spearman"], by_chance, confidence=confidence)
                        rows.append(head | {"images": images} | row | {"passes": cost})
                        rows[-1]["ceiling"] = ceiling(most[images], row["seed"], seeds)
    table = pd.DataFrame(rows, columns=PREDICTIONS)
    for _, of_level in table.groupby("level"):
        table.loc[of_level.index, "q_value"] = benjamini_hochberg(of_level["p_value"])
    table["apart_q"] = _apart(table)
    return table


def _apart(table: pd.DataFrame) -> pd.Series:
    """Of rows over all seeds of `predictions`, the corrected p-value that a criterion's spearman is
    another one than that of the criterion, no control, whose mean is highest (ours).

    A t test of the differences within seeds. As the highest is not known beforehand, all pairs of
    criteria are corrected together (Benjamini-Hochberg). NaN where nothing is tested.
    """
    keys, pairs, found = [*RUN, "epoch", "units", "images"], [], pd.Series(np.nan, table.index)
    for key, part in table[table["level"] == "seed"].groupby(keys, sort=False):
        wide = part.pivot_table(index="seed", columns="criterion", values="spearman")
        for one, other in combinations(wide, 2):
            p_value = mean_p_value((wide[one] - wide[other]).dropna())
            pairs.append((key, frozenset([one, other]), p_value))
    corrected = benjamini_hochberg([p_value for *_, p_value in pairs])
    q_values = {(key, pair): q for (key, pair, _), q in zip(pairs, corrected, strict=True)}
    for key, part in table[table["level"] == "all seeds"].groupby(keys, sort=False):
        own = part[~part["criterion"].isin(CONTROLS)]
        if not len(own):
            continue
        highest = own.loc[own["spearman"].idxmax(), "criterion"]
        for row, name in part["criterion"].items():
            found[row] = q_values.get((key, frozenset([name, highest])), np.nan)
    return found


INTERVALS = [end for name in STATISTICS for end in (name, f"{name}_low", f"{name}_high")]
PREDICTIONS = [
    *(*RUN, "epoch", "units", "criterion", "images", "level", "seed", "seeds", "n"),
    *(*INTERVALS[:3], "chance_low", "chance_high", "p_value", "q_value", "apart_q"),
    *INTERVALS[3:],
    *("chance", "ceiling", "passes"),
]
AGREEMENTS = [
    *(*RUN, "epoch", "units", "criterion", "other", "level", "seed", "seeds", "n"),
    *(*INTERVALS[:6], "p_value"),
]


def ceiling(halves: np.ndarray, seed, seeds: Sequence[int]) -> float:
    """About the rank correlation with the measured loss that the true loss would have (ours).

    halves: by seed, that of the losses measured on either half of the images, h; over both halves a
    loss repeats itself by 2 h / (1 + h) (Spearman & Brown 1910), and goes with the true one by the
    root of this. NaN where the halves do not go together, so that nothing can be told of it. seed:
    one of them, or "all".
    """
    chosen = halves if seed == "all" else halves[[*seeds].index(seed)]
    defined = np.atleast_1d(chosen)[~np.isnan(np.atleast_1d(chosen))]
    h = defined.mean() if len(defined) else np.nan
    return float(np.sqrt(2 * h / (1 + h))) if h > 0 else np.nan


def _mean(null: np.ndarray) -> np.ndarray:
    """Over the seeds that are known, [permutations]."""
    defined = null[~np.isnan(null).any(1)]
    return defined.mean(0) if len(defined) else null[0]


def _against(value: float, null: np.ndarray, *, confidence: float) -> dict:
    if np.isnan(value) or np.isnan(null).any():
        return dict.fromkeys(("chance_low", "chance_high", "p_value"), np.nan)
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = np.count_nonzero(np.abs(null) >= abs(value) - 1e-12)
    return {"chance_low": low, "chance_high": high, "p_value": (1 + beyond) / (1 + len(null))}


def agreements(scores: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """How alike two criteria rank units: a row per run, epoch, kind of units and pair, for each
    seed and for all, as in `predictions` but without precision; p_value: a t test over seeds that
    the mean of spearman is that by chance, 0."""
    rows = []
    for place, seeds, part, _ in _runs(scores, None):
        for unit in ("layers", "filters"):
            ranked = {
                name: groups
                for name, of in part.groupby("criterion", sort=False)
                if (groups := _groups(of, unit, seeds, part))
            }
            for one, other in combinations(ranked, 2):
                statistics = by_seed(ranked[one], ranked[other], share=1.0)
                if np.isnan(statistics["spearman"]).all():
                    continue
                by_level = _rows(statistics, seeds, confidence=confidence)
                defined = statistics["spearman"][~np.isnan(statistics["spearman"])]
                by_level[-1]["p_value"] = mean_p_value(defined)
                head = place | {"units": unit, "criterion": one, "other": other}
                rows += [head | row for row in by_level]
    return pd.DataFrame(rows, columns=AGREEMENTS)


def _runs(scores: pd.DataFrame, removals: pd.DataFrame | None) -> Iterator[tuple]:
    """(run and epoch, seeds, scores, removals) of each run and epoch."""
    keys = [*RUN, "epoch"]
    for key, part in scores.groupby(keys, sort=False) if len(scores) else []:
        truth = removals
        if removals is not None:
            truth = removals[(removals[keys] == list(key)).all(axis=1)]
        yield dict(zip(keys, key, strict=True)), sorted(part["seed"].unique()), part, truth


def _groups(rows: pd.DataFrame, unit: str, seeds: Sequence[int], whole: pd.DataFrame) -> Groups:
    """Scores of the layers, or of the filters of each layer, in the order of the whole table."""
    of_filters = unit == "filters"
    rows, whole = (t[t["filter"].notna() == of_filters] for t in (rows, whole))
    by_group = {}
    for group, part in whole.groupby("layer", sort=False) if of_filters else [("", whole)]:
        column = "filter" if of_filters else "layer"
        units = list(dict.fromkeys(part[column]))
        chosen = rows[rows["layer"] == group] if of_filters else rows
        of_seed = pd.Index(seeds).get_indexer(chosen["seed"])
        of_unit = pd.Index(units).get_indexer(chosen[column])
        asked = (of_seed >= 0) & (of_unit >= 0)
        by_group[group] = np.full((len(seeds), len(units)), np.nan)
        by_group[group][of_seed[asked], of_unit[asked]] = chosen["score"][asked]
    return by_group
