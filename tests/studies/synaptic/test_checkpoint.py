"""All scores of a checkpoint: what each table is made of, and with what it is compared."""

import numpy as np
import pandas as pd
import pytest

from faultline.ablation.facts import Facts
from faultline.ablation.variants import RANDOM_SHARES
from faultline.studies.synaptic.checkpoint import score_tables
from faultline.studies.synaptic.scores import (
    band_scores,
    base_accuracy,
    curves,
    filter_scores,
    layer_scores,
)

SETTINGS = {"baseline": "kept_fraction", "integration": "simpson", "confidence": 0.9}


def swept(seed, filters=("high_pass", "pulse"), *, n=60, draws=2):
    rng = np.random.default_rng(seed)
    rows = [(kind, i / 3) for kind in filters for i in range(4)]
    rows += [("random", share) for _ in range(draws) for share in RANDOM_SHARES]
    kinds, grid = map(np.array, zip(*rows, strict=True))
    variants = {"filter": kinds, "normalised": grid, "threshold": 2 * grid - 1}
    variants |= {"kept": np.where(kinds == "random", 1 - grid, rng.random(len(rows)))}
    variants["changed_weights"] = rng.integers(1, 9, len(rows))
    return facts_of(variants, rng, n)


def dropped(seed, n=60):
    rng = np.random.default_rng(seed)
    variants = {"filter": np.arange(5), "changed_weights": np.full(5, -1)}
    return facts_of(variants | {"changed_activations": np.full(5, 9)}, rng, n)


def facts_of(variants, rng, n):
    v, sets = len(variants["filter"]), ("clean", "pgd")
    base = {name: rng.random(n) < 0.9 for name in sets}
    correct = {name: (rng.random((v, n)) < 0.8) & base[name] for name in sets}
    changed = {name: np.full(v, 7) for name in sets}
    return Facts(variants=variants, base=base, correct=correct, changed=changed, chance=0.1)


def test_every_table_is_made_of_its_sweeps_with_the_baseline_and_the_family_that_it_has():
    local = {"a": swept(0), "b": swept(1, ("high_pass",)), "c": swept(2, draws=0)}
    together, nodal = swept(3), {"b": dropped(4), "a": dropped(5)}
    tables = score_tables(local, together, nodal, **SETTINGS)
    parts = {name: [] for name in ("layers", "baselines", "curves", "bands")}
    for scope, layer, facts in [
        *(("local", layer, facts) for layer, facts in local.items()),
        ("global", "all layers", together),
    ]:
        head = {"scope": scope, "layer": layer}
        for baseline in ("unfiltered", "kept_fraction", "random"):
            if baseline == "random" and layer == "c":
                continue  # it has no random draws
            table = layer_scores(
                facts,
                **{"baseline": baseline, "integration": "simpson", "confidence": 0.9},
                compared=3 if scope == "local" else 1,
            ).assign(**head)
            if baseline == "kept_fraction":
                parts["layers"].append(table)
            combined = table[table["filter"] == "combined"]
            parts["baselines"].append(combined.assign(baseline=baseline))
        parts["curves"].append(curves(facts, confidence=0.9).assign(**head))
        if scope == "local" and layer != "b":  # which has no pulse
            bands = band_scores(facts, baseline="kept_fraction", confidence=0.9)
            parts["bands"].append(bands.assign(layer=layer))
    expected = {name: pd.concat(of) for name, of in parts.items()}
    singles = [filter_scores(of, confidence=0.9).assign(layer=k) for k, of in nodal.items()]
    expected["filters"] = pd.concat(singles)
    expected["base"] = base_accuracy(local["a"], confidence=0.9)
    assert {*tables} == {*expected}
    for name, table in expected.items():
        pd.testing.assert_frame_equal(tables[name], table, check_like=True)
    head = {name: [*tables[name]][:2] for name in ("layers", "baselines", "curves")}
    assert {tuple(columns) for columns in head.values()} == {("scope", "layer")}
    assert all(tables[name].columns[0] == "layer" for name in ("bands", "filters"))


@pytest.mark.parametrize("there", ["local", "together", "nodal"])
def test_of_one_kind_of_sweep_alone(there):
    sweeps = {"local": {}, "together": None, "nodal": {}}
    sweeps[there] = {"local": {"a": swept(0)}, "together": swept(0), "nodal": {"a": dropped(0)}}[
        there
    ]
    tables = score_tables(*sweeps.values(), **SETTINGS)
    rows = {name for name, table in tables.items() if len(table)}
    of_sweeps = {"base", "layers", "baselines", "curves"}
    expected = {"local": of_sweeps | {"bands"}, "together": of_sweeps, "nodal": {"base", "filters"}}
    assert rows == expected[there]
    assert all([*table] == ["layer"] for name, table in tables.items() if name not in rows)
