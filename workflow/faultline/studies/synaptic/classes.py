"""Classes of layers, bands and filters, with their uncertainty, and how invariant they are."""

import math
from collections import Counter

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from faultline.base.columns import CLASSES
from faultline.base.errors import UserError
from faultline.base.inputs import check_number, one_of
from faultline.base.statistics import benjamini_hochberg, fleiss_kappa, mean_agreement

FAMILIES = {
    "layers": ["scope", "filter", "attack", "score"],
    "filters": ["layer", "attack", "score"],
    "bands": ["layer", "attack", "score"],
}
"""Kind of unit -> columns in which those agree that are compared with one another, and so corrected
for together: the layers of a network, the filters of a layer, the bands of a layer."""


def classify_units(scores: pd.DataFrame, unit: str, *, tau: dict[str, float]) -> pd.DataFrame:
    """`classify` with the families of a kind of unit; scores: of one checkpoint, may be empty."""
    return classify(scores, tau=tau, by=FAMILIES[unit]) if len(scores) else scores


def classify(scores: pd.DataFrame, *, tau: dict[str, float], by: list[str]) -> pd.DataFrame:
    """The rows of a score table with q_value, class, decided, decided_alone and tau added.

    class: fragile (S < -tau), robust (|S| <= tau), antifragile (S > tau) (the words: Pravin et al.
    2024; tau, one per score: ours); untouched where nothing changed; undefined where S is NaN.
    decided: the interval that holds for the whole family at once (family_low to family_high) lies
    wholly within the class; never for untouched and undefined. So with probability `confidence` no
    unit of a family is decided wrongly. decided_alone: the same of the unit's own interval.
    q_value: Benjamini-Hochberg within each family, the rows that agree in the columns `by`;
    rows that are untouched or undefined were not tested: NaN, and not counted.
    Raises UserError for a score without a tau, a tau below 0, and a column that is not there.
    """
    for score, value in tau.items():
        check_number(value, f"tau: {score}")
    for column in by:
        one_of(column, scores, "classify: by")
    if missing := sorted(set(scores["score"]) - set(tau)):
        raise UserError(f"config key tau: expected a limit for every score; add {missing[0]}")
    table = scores.copy()
    limit = table["score"].map(tau).astype(float)
    value = table["value"]
    untouched = table["untouched"].astype(bool)

    tested = table["p_value"].mask(untouched | value.isna()).astype(float)
    keys = [table[column] for column in by]
    table["q_value"] = tested.groupby(keys, dropna=False).transform(benjamini_hochberg)
    table["class"] = np.select(
        [untouched, value.isna(), value < -limit, value > limit],
        ["untouched", "undefined", "fragile", "antifragile"],
        "robust",
    )
    for column, interval in (("decided", "family"), ("decided_alone", "ci")):
        low, high = table[f"{interval}_low"], table[f"{interval}_high"]
        table[column] = np.select(
            [table["class"] == name for name in ("fragile", "robust", "antifragile")],
            [high < -limit, (low >= -limit) & (high <= limit), low > limit],
            False,
        )
    table["tau"] = limit
    return table


def majority(rows: list[dict]) -> tuple[str, bool]:
    """(class that most seeds give a layer, whether all do); of several that as many seeds give, the
    class of the mean score."""
    counts = Counter(row["class"] for row in rows)
    most = [name for name in CLASSES if counts[name] == max(counts.values())]
    if len(most) > 1:
        values = [row["value"] for row in rows if not math.isnan(row["value"])]
        mean, tau = sum(values) / max(len(values), 1), rows[0]["tau"]
        of_mean = "fragile" if mean < -tau else "antifragile" if mean > tau else "robust"
        most = [of_mean] if of_mean in most else most
    return most[0], len(counts) == 1


def images_needed(
    tau: ArrayLike, *, accuracy: ArrayLike, compared: ArrayLike, confidence: float
) -> np.ndarray:
    """Of how many images on it can be decided at all that a unit is robust (ours).

    So many it takes until the interval that holds for all `compared` units at once lies within
    -tau to tau even for one whose removal changes nothing: by the exact interval of one ablation
    (`paired_ratio_interval`), whose upper end is then (2 compared / (1 - confidence)) ^ (1 / k) - 1
    of k correct images. accuracy: of the unablated network. Infinite where it or tau is 0. A unit
    that changes images, or is compared with random removal, takes more.
    """
    tau, accuracy, compared = (np.asarray(x, float) for x in (tau, accuracy, compared))
    with np.errstate(divide="ignore"):
        correct = np.log(2 * compared / (1 - confidence)) / np.log1p(tau)
        needed: np.ndarray = np.ceil(correct / accuracy)
    return needed


def invariance(
    classes: pd.DataFrame, *, unit: str | list[str], over: str | list[str]
) -> pd.DataFrame:
    """How far units keep their class over raters: a DataFrame of one row (ours).

    unit, over: the columns that name a unit (such as layer) and a rater (such as seed); `classes`
    has at most one row for each pair (else ValueError), of which the column `class` is used.
    "untouched" is a class like any other; "undefined" is a missing one.

    Columns: units and raters (counted), dropped (units that lack a class from a rater), unchanged
    (share of units with one class over all raters), agreement (share of pairs of raters that
    agree, mean over units), kappa (Fleiss), note (why a number is NaN).
    """
    judged = classes.assign(**{"class": classes["class"].mask(classes["class"] == "undefined")})
    # pivot, not pivot_table: it refuses two classes of one unit by one rater.
    table = judged.pivot(index=unit, columns=over, values="class")  # noqa: PD010
    complete, raters = table.dropna(), table.shape[1]
    counts = np.stack([(complete == name).sum(axis=1) for name in CLASSES[:-1]], axis=1)
    row = {
        "units": len(counts),
        "raters": raters,
        "dropped": len(table) - len(counts),
        "unchanged": np.nan,
        "agreement": np.nan,
        "kappa": np.nan,
        "note": "",
    }
    if not len(counts):
        row["note"] = "no unit has a class from every rater"
    elif raters < 2:
        row["note"] = "one rater: nothing to compare"
    else:
        row["unchanged"] = (counts.max(1) == raters).mean()
        row["agreement"] = mean_agreement(counts)
        row["kappa"] = fleiss_kappa(counts)
        if np.isnan(row["kappa"]):
            row["note"] = "all units in one class: kappa is undefined"
    return pd.DataFrame([row])


def match_layers(layers: pd.DataFrame) -> pd.DataFrame:
    """The layers of one network with the column `matched`, alike in networks of any depth (ours).

    layers: columns kind and position (0..L-1 in the order of the flow, a normalisation where the
    layer before it is). matched is the kind and the third of the depth that holds the layer's
    middle, such as "conv early".
    """
    third = (6 * layers["position"] + 3) // (2 * (layers["position"].max() + 1))
    depth = third.map({0: "early", 1: "middle", 2: "late"})
    return layers.assign(matched=layers["kind"] + " " + depth)


def most_common_class(classes: pd.DataFrame, *, by: str | list[str]) -> pd.DataFrame:
    """One row per group of rows that agree in `by`: its most common class (ours).

    Undefined only if all are; of equally common ones the first in the order of CLASSES.
    """

    def most_common(group):
        counts = [(group == name).sum() for name in CLASSES[:-1]]
        return CLASSES[int(np.argmax(counts))] if any(counts) else "undefined"

    return classes.groupby(_list(by), sort=False)["class"].agg(most_common).reset_index()


def _list(columns: str | list[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


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
    ordered = pd.DataFrame(network_layers, columns=["layer", "kind", "filters"])
    ordered["position"] = ((ordered["kind"] != "norm").cumsum() - 1).clip(lower=0)
    matched = match_layers(ordered).set_index("layer")["matched"]
    return layers.assign(matched=layers["layer"].map(matched))
