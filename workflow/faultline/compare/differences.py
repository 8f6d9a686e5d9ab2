"""What differs between two finished runs, as tables: second less first. No torch."""

from collections.abc import Hashable

import numpy as np
import pandas as pd
import yaml

from faultline.attacks.worst import WORST
from faultline.base import paths
from faultline.base.columns import PLACE, RUN
from faultline.base.comparison import COLUMNS, compare, compare_apart, with_correction
from faultline.compare.finished import COSTS, Finished

FIRST, SECOND = "first", "second"
NOT_SET = "not set"

UNITS = {
    "layers": [*PLACE, "scope", "layer", "filter", "attack", "score"],
    "filters": [*PLACE, "layer", "filter", "attack", "score"],
}
"""Table of classes -> what names a row of it."""


def config_differences(first: Finished, second: Finished) -> pd.DataFrame:
    """Rows {key, first, second}: the keys of the two configs that differ, defaults filled in, as
    YAML; what only one has is "not set" in the other. Then versions of packages. Where results lie
    is no difference."""
    rows = list(_differences("", first.config, second.config))
    rows += _differences("version of ", first.versions, second.versions)
    rows = [row for row in rows if row["key"] != "results"]
    return pd.DataFrame(rows, columns=["key", FIRST, SECOND])


def _differences(above: str, first: dict, second: dict):
    for key in sorted({*first, *second}, key=str):
        values = first.get(key, NOT_SET), second.get(key, NOT_SET)
        if all(isinstance(value, dict) for value in values):
            yield from _differences(f"{above}{key}.", *values)
        elif values[0] != values[1]:
            text = map(_written, values)
            yield {"key": f"{above}{key}", **dict(zip((FIRST, SECOND), text, strict=True))}


def _written(value) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def accuracies(first: Finished, second: Finished) -> pd.DataFrame:
    """The accuracies of two runs, row by row: PLACE, images, and of each run `correct_`, `n_` and
    `accuracy_`, NaN where it has no such row. images: "clean" or "ATTACK, eps EPS"."""
    columns = ["correct", "n", "accuracy"]
    tables = [
        _named(run.table("accuracy"))[[*PLACE, "images", *columns]].rename(
            columns={column: f"{column}_{which}" for column in columns}
        )
        for which, run in ((FIRST, first), (SECOND, second))
    ]
    return tables[0].merge(tables[1], on=[*PLACE, "images"], how="outer")


def _named(accuracy: pd.DataFrame) -> pd.DataFrame:
    """A table of accuracies with its image sets named; every attack has the clean images too."""
    if not len(accuracy):
        columns = [*PLACE, "attack", "eps", "over", "images", "correct", "n", "accuracy"]
        return pd.DataFrame(columns=columns)
    names = [
        f"{attack}, eps {eps:g}" if eps else "clean"
        for attack, eps in zip(accuracy["attack"], accuracy["eps"], strict=True)
    ]
    over = accuracy["over"].fillna("") if "over" in accuracy else ""
    named = accuracy.assign(images=names, over=over)
    return named.drop_duplicates([*PLACE, "images"], ignore_index=True)


def accuracy_differences(first: Finished, second: Finished) -> pd.DataFrame:
    """Accuracy of the second run less that of the first, by checkpoint epoch and image set, as
    `base.comparison.compare` does, with `paired`: whether it was image by image.

    It is where both runs hold the same test images in the same order, known by their hash, and what
    each network made of each. Otherwise `compare_apart`. Seeds that one run lacks are left out. The
    image sets are the clean ones and each attack at the eps that either run sets it to; q_value is
    corrected for all rows of the same level.
    """
    confidence = first.config["scores"]["confidence"]
    keys, tables = [*RUN, "epoch", "images"], []
    chosen = _judged(first, second)
    named = [_named(run.table("accuracy")) for run in (first, second)]
    named = [table[table["images"].isin(chosen)] for table in named]
    both = named[0][[*PLACE, "images"]].merge(named[1][[*PLACE, "images"]])
    rows = [both.merge(table, how="left").to_dict("records") for table in named]
    groups: dict[tuple, dict] = {}
    for one, other in zip(*rows, strict=True):
        groups.setdefault(tuple(one[key] for key in keys), {})[one["seed"]] = one, other
    for key, by_seed in groups.items():
        same = same_images(first, second, key[0])
        correct: dict[Hashable, dict[str, np.ndarray]] = {
            seed: {FIRST: of_first, SECOND: of_second}
            for seed, (one, other) in by_seed.items()
            if (of_first := first.correct(one)) is not None
            and (of_second := second.correct(other)) is not None
        }
        paired = same and len(correct) == len(by_seed)
        if paired:
            table = compare(correct, reference=FIRST, confidence=confidence)
        else:
            counts = {
                seed: {
                    name: (row["correct"], row["n"])
                    for name, row in zip((FIRST, SECOND), pair, strict=True)
                }
                for seed, pair in by_seed.items()
            }
            table = compare_apart(counts, policy=SECOND, reference=FIRST, confidence=confidence)
        tables.append(table.assign(**dict(zip(keys, key, strict=True)), paired=paired))
    if not tables:
        return pd.DataFrame(columns=[*keys, "paired", *COLUMNS, "q_value"])
    table = with_correction(pd.concat(tables, ignore_index=True), confidence=confidence)
    order = sorted(range(len(table)), key=lambda i: table["images"].iloc[i] != "clean")
    return table.iloc[order].reset_index(drop=True)[
        [*keys, "paired", *[c for c in table if c not in (*keys, "paired")]]
    ]


def _judged(first: Finished, second: Finished) -> set[str]:
    """The image sets that are compared."""
    sizes: dict[str, set[float]] = {}
    for run in (first, second):
        for name, attack in run.config["attacks"].items():
            sizes.setdefault(name, set()).add(attack["eps"])
    every = {eps for of in sizes.values() for eps in of}
    worst = {name for run in (first, second) for name in set(_attacks(run)) if WORST in name}
    sizes |= dict.fromkeys(worst, every)
    return {f"{name}, eps {eps:g}" for name, of in sizes.items() for eps in of if eps} | {"clean"}


def _attacks(run: Finished) -> pd.Series:
    return _named(run.table("accuracy"))["attack"]


def same_images(first: Finished, second: Finished, dataset: str) -> bool:
    """Whether both runs hold their test images of a data set, and these are the same."""
    one, other = first.test_images(dataset), second.test_images(dataset)
    return one is not None and one == other


def only_in_one(first: Finished, second: Finished) -> pd.DataFrame:
    """Rows {what, name, only_in}: data sets, networks, trainings, seeds, epochs and attacks that
    are under one run's accuracies alone, and checkpoints that one lacks for no such reason."""
    one, other = (_named(run.table("accuracy")) for run in (first, second))
    rows = []
    for column in (*PLACE, "attack"):
        for mine, others, which in ((one, other, FIRST), (other, one, SECOND)):
            alone = dict.fromkeys(v for v in mine[column] if v not in set(others[column]))
            rows += [{"what": column, "name": str(name), "only_in": which} for name in alone]
    said = {(row["what"], row["name"]) for row in rows}
    for mine, others, which in ((one, other, FIRST), (other, one, SECOND)):
        there = set(others[PLACE].itertuples(index=False, name=None))
        for place in dict.fromkeys(mine[PLACE].itertuples(index=False, name=None)):
            parts = zip(PLACE, map(str, place), strict=True)
            if place not in there and not said.intersection(parts):
                name = paths.CHECKPOINT.format(**dict(zip(PLACE, place, strict=True)))
                rows.append({"what": "checkpoint", "name": name, "only_in": which})
    return pd.DataFrame(rows, columns=["what", "name", "only_in"])


def classes(first: Finished, second: Finished, unit: str) -> pd.DataFrame:
    """The classes of the layers or filters that both runs have, row by row: what names it, and of
    each run `class_`, `decided_`, `value_` and the ends of its interval."""
    keys, columns = UNITS[unit], ["class", "decided", "value", "family_low", "family_high"]
    tables = []
    for which, run in ((FIRST, first), (SECOND, second)):
        table = run.table(unit)
        if not {*keys, *columns} <= {*table}:
            return pd.DataFrame(columns=[*keys, "class_first", "class_second"])
        renamed = {column: f"{column}_{which}" for column in columns}
        tables.append(table[[*keys, *columns]].rename(columns=renamed))
    return tables[0].merge(tables[1], on=keys)


def class_counts(pairs: pd.DataFrame) -> pd.DataFrame:
    """Of rows of `classes`: how many are in each pair of classes, and for how many of these both
    runs decided; by score and attack."""
    if not len(pairs):
        return pd.DataFrame(columns=["score", "attack", FIRST, SECOND, "count", "decided"])
    pairs = pairs.assign(decided=pairs["decided_first"] & pairs["decided_second"])
    groups = pairs.groupby(["score", "attack", "class_first", "class_second"], sort=False)
    counts = groups["decided"].agg(["size", "sum"]).reset_index()
    counts.columns = ["score", "attack", FIRST, SECOND, "count", "decided"]
    return counts


def changed(pairs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `classes` whose class differs, those that both runs decided first."""
    rows = pairs[pairs["class_first"] != pairs["class_second"]]
    if not len(rows):
        return rows
    sure = rows["decided_first"].astype(int) + rows["decided_second"].astype(int)
    return rows.iloc[np.argsort(-sure.to_numpy(), kind="stable")]


def costs(first: Finished, second: Finished) -> pd.DataFrame:
    """What the jobs of each rule took in each run; the last row, "all", adds them up."""
    tables = []
    for which, run in ((FIRST, first), (SECOND, second)):
        table = run.costs()
        whole = table.agg(dict.fromkeys(COSTS, "sum") | {"peak_mb": "max"}).rename("all")
        table = pd.concat([table, whole.to_frame().T]) if len(table) else table
        tables.append(table.add_suffix(f"_{which}"))
    table = tables[0].join(tables[1], how="outer")
    order = sorted(table.index, key=lambda rule: (rule == "all", rule))
    columns = [f"{column}_{which}" for column in COSTS for which in (FIRST, SECOND)]
    return table.loc[order, columns].rename_axis("rule").reset_index()
