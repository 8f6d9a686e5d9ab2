"""What other studies of the run say of a checkpoint's validation images, as criteria. No torch."""

from collections.abc import Collection, Iterator

import pandas as pd

from faultline.base.columns import transfer

COLUMNS = ["criterion", "layer", "filter", "score", "n"]


def earlier(tables: dict[str, pd.DataFrame], *, attack: str) -> pd.DataFrame:
    """Rows as of `judge.judged`, without what they cost.

    tables: of one checkpoint, those of "layers" and "filters" (scores of synaptic filters and of
    nodal dropout), "perturbed" (means over strengths) and "probes" (relative errors) that there
    are. attack: the one that adversarial scores are of, or else the first one. All are turned so
    that high means that the part matters.
    """
    parts = [part for part in _parts(tables, attack) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def with_earlier(
    judged: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    *,
    attack: str,
    layers: Collection[str],
) -> pd.DataFrame:
    """The rows of `judge.judged`, and behind them those of `earlier` of the layers that are to be
    scored."""
    others = earlier(tables, attack=attack)
    parts = [judged, others[others["layer"].isin(layers)]]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return table.astype({"filter": "Int64", "passes": "Int64"})


def _parts(tables: dict[str, pd.DataFrame], attack: str) -> Iterator[pd.DataFrame]:
    layers, filters = tables.get("layers", pd.DataFrame()), tables.get("filters", pd.DataFrame())
    if "scope" in layers:
        layers = layers[(layers["scope"] == "local") & (layers["filter"] == "combined")]
        layers = layers.assign(filter=None)
    for table, name in ((layers, "synaptic"), (filters, "dropout")):
        if not len(table):
            continue
        for score, of in (("S_clean", "clean"), ("S_adv", "adversarial")):
            rows = table[table["score"] == score]
            rows = _under(rows, "attack", attack) if score == "S_adv" else rows
            yield _rows(rows.assign(score=-rows["value"]), f"{name}_{of}")
    perturbed, probes = (tables.get(name, pd.DataFrame()) for name in ("perturbed", "probes"))
    if len(perturbed):
        rows = perturbed.query("kind == 'synapse_knockout' and parameter == 'weight'")
        rows = rows.query("images == 'clean' and top == 1")
        yield _rows(rows.assign(score=-rows["value"], filter=None), "knockout")
    if len(probes):
        rows = _under(probes, "perturber", attack)
        layer = rows["probe"].str.replace(r":\d+$", "", regex=True)
        means = rows.groupby(layer, sort=False).agg(score=("value", "mean"), n=("n", "first"))
        yield _rows(means.rename_axis("layer").reset_index().assign(filter=None), "relative_error")


def _under(rows: pd.DataFrame, column: str, attack: str) -> pd.DataFrame:
    names = list(dict.fromkeys(rows[column]))
    there = [name for name in (attack, transfer(attack)) if name in names] or names
    return rows[rows[column].isin(there[:1])]


def _rows(rows: pd.DataFrame, criterion: str) -> pd.DataFrame:
    rows = rows.assign(criterion=criterion, filter=rows["filter"].astype("Int64"))
    return rows[COLUMNS].dropna(subset="score")
