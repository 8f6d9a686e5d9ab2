"""All methods side by side: what each says of a layer, and how alike they rank them."""

import numpy as np
import pandas as pd
import pytest
from map_tables import RUN, layer_rows, measures_of
from scipy import stats

from faultline.studies.map.measures import CONTROLS, layer_correlations, ranks

NAMES = ["conv1", "conv2", "conv3", "fc"]
EMPTY = pd.DataFrame()
NETWORK = {key: RUN[key] for key in ("dataset", "network")}


def graph(names=NAMES) -> pd.DataFrame:
    rows = [{"node": name, "layer": name, "weights": 10 ** (i % 3)} for i, name in enumerate(names)]
    rows.insert(1, {"node": "add", "layer": "", "weights": 0})
    rows.append({"node": f"{names[0]}:2", "layer": names[0], "weights": 1})
    return pd.DataFrame(rows).assign(**NETWORK)


def norms(names=NAMES, *, seeds=(0, 1), epoch=3) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [RUN | {"seed": seed, "epoch": epoch, "layer": n} for seed in seeds for n in names]
    return pd.DataFrame(rows).assign(value=rng.uniform(size=len(rows)))


def measured(names=NAMES, **tables) -> pd.DataFrame:
    return measures_of(**{"graph": graph(names), "norms": norms(names)} | tables)


def value(table, measure: str, layer: str, seed: int = 0) -> float:
    chosen = table[(table["measure"] == measure) & (table["layer"] == layer)]
    return chosen.set_index("seed").loc[seed, "value"]


def test_every_method_gives_a_value_of_a_layer():
    place = [RUN | {"seed": 0, "epoch": 3, "layer": name} for name in NAMES]
    knockout = pd.DataFrame(place).assign(kind="synapse_knockout", parameter="weight", top=1)
    knockout = knockout.assign(images="clean", value=[0.4, 0.5, 0.6, 0.7])
    others = [{"kind": "gaussian"}, {"parameter": "bias"}, {"images": "pgd"}, {"top": 5}]
    perturbed = pd.concat([knockout, *(knockout.assign(value=9.0, **of) for of in others)])
    probes = pd.DataFrame([p | {"probe": p["layer"]} for p in [*place, place[0]]])
    probes.loc[4, "probe"] = "conv1:2"
    errors = probes.drop(columns="layer").assign(value=[0.1, 0.2, 0.3, 0.4, 0.5], perturber="pgd")
    errors = pd.concat([errors.assign(value=9.0, perturber="salt"), errors])
    filters = pd.concat([pd.DataFrame(place).assign(filter=i, attack="pgd") for i in range(2)])
    filters = filters.assign(targeting=[1, 2, 3, 4, 3, 2, 1, 0], clean_norm=2.0)
    forms = pd.DataFrame(place).assign(form="int8", difference=[-0.3, 0.0, -0.1, -0.2])
    table = measured(
        layers=layer_rows(NAMES, values=lambda seed, epoch, score, i: 0.1 * i + seed),
        perturbed=perturbed,
        errors=errors,
        targeting=filters,
        compression=forms,
    )
    methods = ["S_clean", "S_adv (pgd)", "knockout", "relative error (pgd)", "targeting (pgd)"]
    methods += ["int8"]
    assert value(table, "int8", "conv1") == -0.3
    assert list(dict.fromkeys(table["measure"])) == [*methods, *CONTROLS]
    assert set(table["epoch"]) == {3}
    assert value(table, "S_adv (pgd)", "conv2", seed=1) == pytest.approx(1.1)
    assert value(table, "knockout", "conv2") == 0.5
    assert value(table, "relative error (pgd)", "conv1") == pytest.approx(0.3)  # of its two probes
    assert value(table, "targeting (pgd)", "fc") == pytest.approx((4 + 0) / 4)
    assert value(table, "depth", "conv3") == 2 and value(table, "weights", "conv3") == 100
    fragile = table.drop_duplicates("measure").set_index("measure")["fragile"]
    assert set(fragile[["relative error (pgd)", "targeting (pgd)"]]) == {"high"}
    assert set(fragile.drop(["relative error (pgd)", "targeting (pgd)"])) == {"low"}


def test_methods_of_few_layers_are_left_out():
    one = pd.DataFrame([RUN | {"seed": 0, "epoch": 3, "layer": "conv1", "attack": "pgd"}])
    table = measured(targeting=one.assign(targeting=1.0, clean_norm=1.0))
    assert set(table["measure"]) == {*CONTROLS}
    assert not len(measured(graph=EMPTY, norms=EMPTY))


def test_ranks_begin_with_the_most_fragile():
    rows = [
        *(("S_clean", "low", "a", 0, -0.5), ("S_clean", "low", "a", 1, 0.1)),
        *(("S_clean", "low", "b", 0, -0.1), ("S_clean", "low", "b", 1, -0.1)),
        *(("error", "high", "a", 0, 0.9), ("error", "high", "b", 0, 0.1)),
    ]
    table = pd.DataFrame(rows, columns=["measure", "fragile", "layer", "seed", "value"])
    found = ranks(table)
    assert found.loc["a"].to_dict() == {"S_clean": 1.0, "error": 1.0}
    assert found.loc["b"].to_dict() == {"S_clean": 2.0, "error": 2.0}


def test_correlations_are_those_of_scipy():
    names = [f"layer{i}" for i in range(12)]
    table = measured(names, layers=layer_rows(names))
    found = layer_correlations(table, confidence=0.95).set_index(["measure", "other"])
    means = table.pivot_table(index="layer", columns="measure", values="value")
    for (one, other), row in found.iterrows():
        assert row["spearman"] == pytest.approx(stats.spearmanr(means[one], means[other])[0])
        kendall = stats.kendalltau(means[one], means[other])
        assert [row["kendall"], row["p_value"]] == pytest.approx([*kendall])
        assert row["layers"] == 12 and row["seeds"] == 2
        each = []
        for _, part in table.groupby("seed"):
            of_seed = part.pivot_table(index="layer", columns="measure", values="value")
            each.append(stats.spearmanr(of_seed[one], of_seed[other])[0])
        assert [row["seed_low"], row["seed_high"]] == pytest.approx(sorted(each))
    assert np.allclose(found["q_value"], stats.false_discovery_control(found["p_value"]))
    assert not any(one in CONTROLS for one, _ in found.index) and len(found) == 1 + 2 * 3


def test_high_errors_and_low_scores_speak_alike():
    names = NAMES
    rows = [RUN | {"seed": 0, "epoch": 3, "probe": n, "perturber": "pgd"} for n in names]
    errors = pd.DataFrame(rows).assign(value=[4.0, 3.0, 2.0, 1.0])
    layers = layer_rows(names, seeds=(0,), values=lambda seed, epoch, score, i: 0.1 * i)
    found = layer_correlations(measured(layers=layers, errors=errors), confidence=0.95)
    pairs = found.set_index(["measure", "other"])["spearman"]
    assert pairs["S_adv (pgd)", "relative error (pgd)"] == pytest.approx(1)
    assert pairs["S_adv (pgd)", "depth"] == pytest.approx(1)  # early layers are the fragile ones


def test_what_tells_no_layers_apart_has_no_correlation():
    layers = layer_rows(NAMES, values=lambda seed, epoch, score, i: 0.0)
    found = layer_correlations(measured(layers=layers), confidence=0.95)
    assert found[["spearman", "kendall", "p_value", "q_value", "seed_low"]].isna().all(axis=None)
