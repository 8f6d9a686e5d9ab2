"""What every method says of the layers, side by side (ours). No torch."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from faultline.base.columns import PLACE, RUN
from faultline.base.statistics import benjamini_hochberg, normal_quantile

FEWEST = 3
"""Layers that a ranking must at least have."""

CONTROLS = ("depth", "weights", "weight norm")
"""What is known of a layer without removing anything."""

COLUMNS = [*PLACE, "layer", "measure", "value", "fragile"]


def layer_measures(
    *,
    graph: pd.DataFrame,
    norms: pd.DataFrame,
    layers: pd.DataFrame,
    perturbed: pd.DataFrame,
    errors: pd.DataFrame,
    targeting: pd.DataFrame,
    compression: pd.DataFrame,
    attack: str,
) -> pd.DataFrame:
    """A row per checkpoint, layer and measure, of the last epoch that each training has.

    graph: see `ablation.graph.graph_table`. norms: weights' norms, of last checkpoints. layers,
    perturbed, errors, targeting, compression: the tables of the studies, perhaps empty: of
    perturbations, the mean relative performance on clean images over shares of synapses knocked
    out; of relative errors and of targeting, under `attack` or else the first one; targeting of a
    layer is that of its filters over their clean norms; of compression what each form of it costs.
    Measures that know fewer than FEWEST layers are left out.
    fragile: whether "low" or "high" values speak of a fragile layer; of controls always "low".
    """
    last = norms.set_index(RUN)["epoch"].groupby(level=RUN).max() if len(norms) else None
    parts = []
    for name, fragile, table in _methods(layers, perturbed, errors, targeting, compression, attack):
        parts.append(table.assign(measure=name, fragile=fragile))
    parts += [t.assign(measure=name, fragile="low") for name, t in _controls(graph, norms)]
    parts = [part[COLUMNS] for part in parts if len(part)]
    if last is None or not parts:
        return pd.DataFrame(columns=COLUMNS)
    whole = pd.concat(parts, ignore_index=True).dropna(subset="value")
    final = last.reindex(pd.MultiIndex.from_frame(whole[RUN])).to_numpy()
    whole = whole[whole["epoch"].to_numpy() == final]
    ranked = whole.groupby([*RUN, "measure"])["layer"].transform("nunique")
    return whole[ranked >= FEWEST].reset_index(drop=True)


def _methods(layers, perturbed, errors, targeting, compression, attack: str) -> Iterator[tuple]:
    """(measure, which values are fragile, rows) of each method."""
    if len(layers):
        chosen = layers[(layers["scope"] == "local") & (layers["filter"] == "combined")]
        for score in ("S_clean", "S_adv"):
            rows = chosen[chosen["score"] == score]
            for name, part in rows.groupby("attack", sort=False):
                yield score + ("" if name == "none" else f" ({name})"), "low", part
    if len(perturbed):
        kind = (perturbed["kind"] == "synapse_knockout") & (perturbed["parameter"] == "weight")
        clean = (perturbed["images"] == "clean") & (perturbed["top"] == 1)
        yield "knockout", "low", perturbed[kind & clean]
    if len(errors):
        rows, name = _under(errors, "perturber", attack)
        layer = rows["probe"].str.replace(r":\d+$", "", regex=True)
        yield f"relative error ({name})", "high", _mean(rows.assign(layer=layer))
    if len(targeting):
        rows, name = _under(targeting, "attack", attack)
        sums = rows.groupby([*PLACE, "layer"], sort=False)[["targeting", "clean_norm"]].sum()
        value = sums["targeting"] / sums["clean_norm"]
        yield f"targeting ({name})", "high", value.rename("value").reset_index()
    if len(compression):
        for name, part in compression.groupby("form", sort=False):
            yield name, "low", part.rename(columns={"difference": "value"})


def _under(table: pd.DataFrame, column: str, attack: str) -> tuple[pd.DataFrame, str]:
    names = list(dict.fromkeys(table[column]))
    name = attack if attack in names else names[0]
    return table[table[column] == name], name


def _mean(table: pd.DataFrame) -> pd.DataFrame:
    """Of the probes of each layer."""
    return table.groupby([*PLACE, "layer"], sort=False)["value"].mean().reset_index()


def _controls(graph: pd.DataFrame, norms: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if not len(norms):
        return
    nodes = graph[graph["layer"] != ""].drop_duplicates(["dataset", "network", "layer"])
    depth = nodes.groupby(["dataset", "network"]).cumcount()
    nodes = nodes[["dataset", "network", "layer", "weights"]].assign(depth=depth)
    each = norms.merge(nodes, on=["dataset", "network", "layer"])
    for name, column in zip(CONTROLS, ("depth", "weights", "value"), strict=True):
        yield name, each.assign(value=each[column].astype(float))


def ranks(measures: pd.DataFrame) -> pd.DataFrame:
    """Ranks of layers [layers, measures] of one run by the mean over seeds, 1: the most fragile by
    a method, the first or smallest by a control; ties share their mean rank."""
    order = list(dict.fromkeys(measures["measure"]))
    names = list(dict.fromkeys(measures.loc[measures["measure"] == "depth", "layer"]))
    names += [name for name in dict.fromkeys(measures["layer"]) if name not in names]
    means = _wide(measures).reindex(index=names, columns=order)
    return means.rank()


def _wide(measures: pd.DataFrame) -> pd.DataFrame:
    """[layers, measures]: means over seeds, turned so that low is fragile."""
    signs = measures["fragile"].map({"low": 1.0, "high": -1.0})
    turned = measures.assign(value=measures["value"] * signs)
    return turned.pivot_table(index="layer", columns="measure", values="value", sort=False)


def layer_correlations(measures: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """How alike two measures rank the layers of a run: a row per pair with a method in it.

    measure and other; layers (that both know); spearman and kendall (tau-b) of the means over
    seeds, above 0 where what the one calls fragile, the other does, too, or lies early, is small;
    p_value (of Kendall's, two-sided) and q_value (Benjamini-Hochberg over the pairs of the run);
    seeds, and seed_low and seed_high, the range of Spearman's over single seeds; ci_low and
    ci_high, its interval over layers at `confidence` (Bonett & Wright 2000), from five layers on.
    That layers of one network are no random sample is in neither.
    """
    from scipy.stats import kendalltau  # slow to import, and for few stages only

    tables = []
    for run, part in measures.groupby(RUN, sort=False):
        whole, rows = _wide(part), []
        single = {seed: _wide(of) for seed, of in part.groupby("seed")}
        for one, other in combinations(dict.fromkeys(part["measure"]), 2):
            both = whole[[one, other]].dropna()
            if len(both) < FEWEST or (one in CONTROLS and other in CONTROLS):
                continue
            test = kendalltau(both[one], both[other])
            seeds = [spearman_of(of, one, other) for of in single.values()]
            seeds = [value for value in seeds if not np.isnan(value)]
            row = dict(zip(RUN, run, strict=True)) | {"measure": one, "other": other}
            spearman = spearman_of(whole, one, other)
            row |= {"layers": len(both), "spearman": spearman}
            ends = spearman_interval(spearman, len(both), confidence=confidence)
            row |= dict(zip(("ci_low", "ci_high"), ends, strict=True))
            row |= {"kendall": test.statistic, "p_value": test.pvalue, "seeds": len(seeds)}
            rows.append(row | {"seed_low": min(seeds, default=np.nan)})
            rows[-1]["seed_high"] = max(seeds, default=np.nan)
        if rows:
            q = benjamini_hochberg([row["p_value"] for row in rows])
            tables.append(pd.DataFrame(rows).assign(q_value=q))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def spearman_of(wide: pd.DataFrame, one: str, other: str) -> float:
    """NaN where a seed lacks a measure, or a measure tells no layers apart."""
    if one not in wide or other not in wide:
        return np.nan
    ranked = wide[[one, other]].dropna().rank()
    if len(ranked) < FEWEST or (ranked.nunique() < 2).any():
        return np.nan
    return float(ranked[one].corr(ranked[other]))


def spearman_interval(spearman: float, n: int, *, confidence: float) -> tuple[float, float]:
    """Of n pairs, by Fisher's transformation with the variance of Bonett & Wright 2000; NaN of
    fewer than five, and where every rank agrees, which leaves it no width."""
    if n < 5 or not abs(spearman) < 1 - 1e-9:
        return np.nan, np.nan
    margin = normal_quantile(confidence) * np.sqrt((1 + spearman**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(spearman) + np.array([-margin, margin]))
    return float(low), float(high)
