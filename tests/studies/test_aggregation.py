import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from faultline.attacks.checks import attack_order
from faultline.base.comparison import compare_policies
from faultline.networks.facts import networks
from faultline.studies.synaptic.classes import invariances

PLACE = {
    "dataset": "digits",
    "network": "small_conv",
    "training": "standard",
    "seed": 0,
    "epoch": 2,
}


def attack(method, norm="linf", **more):
    return {"method": method, "norm": norm, "normalised_units": False, **more}


ATTACKS = {"fgsm": attack("fgsm"), "pgd": attack("pgd"), "pgd-l2": attack("pgd", "l2")}


def hits(share, n=100):
    """The first `share` percent of n images are right."""
    return np.arange(n) < share


def order_of(given, *, attacks=ATTACKS):
    """given: (attack, {eps: percent}, place) of each."""
    correct = [{eps: hits(share) for eps, share in shares.items()} for _, shares, _ in given]
    places = [place | {"attack": name} for name, _, place in given]
    return attack_order(correct, places, attacks=attacks)


def test_attacks_in_the_right_order():
    given = [("fgsm", {"0": 90, "0.1": 50}, PLACE), ("pgd", {"0": 90, "0.1": 40}, PLACE)]
    (row,) = order_of(given)
    assert {key: row[key] for key in PLACE} == PLACE
    assert row["attack"] == "all"
    assert row["check"] == "fgsm_not_stronger_than_pgd"
    assert row["status"] == "ok"
    assert row["detail"].startswith("At linf eps 0.1: Accuracy is 50.00 % under FGSM and 40.00 %")


def test_one_row_per_checkpoint_and_a_warning_wins():
    other = PLACE | {"seed": 1}
    shares = {"0": 90, "0.1": 50, "0.2": 20, "0.3": 5}
    rows = order_of(
        [
            ("fgsm", shares, PLACE),
            ("pgd", shares | {"0.2": 60}, PLACE),  # PGD much weaker at 0.2 alone
            ("fgsm", shares, other),
            ("pgd", shares, other),
        ]
    )
    assert [(row["seed"], row["status"]) for row in rows] == [(0, "warning"), (1, "ok")]
    assert rows[0]["detail"].startswith("At linf eps 0.2:")


def test_only_attacks_of_one_norm_and_eps_are_compared():
    assert not order_of([("fgsm", {"0": 9, "0.1": 5}, PLACE)])
    assert not order_of([("fgsm", {"0.1": 5}, PLACE), ("pgd-l2", {"0.1": 90}, PLACE)])
    assert not order_of([("fgsm", {"0.1": 5}, PLACE), ("pgd", {"0.2": 90}, PLACE)])
    assert not order_of([("fgsm", {"0": 5}, PLACE), ("pgd", {"0": 90}, PLACE)])
    assert not order_of([("fgsm", {"0.1": 5}, PLACE), ("pgd", {"0.1": 90}, PLACE | {"seed": 1})])


def test_eps_in_other_units_is_another_eps():
    attacks = ATTACKS | {"pgd": attack("pgd", normalised_units=True)}
    given = [("fgsm", {"0.1": 5}, PLACE), ("pgd", {"0.1": 90}, PLACE)]
    assert not order_of(given, attacks=attacks)


def test_two_attacks_of_one_method_are_both_compared():
    # FGSM leaves 30 %: a PGD that leaves 90 % is at fault, wherever it stands in the config
    attacks = {"fgsm": attack("fgsm"), "weak": attack("pgd"), "strong": attack("pgd")}
    given = {"fgsm": 30, "weak": 90, "strong": 10}
    for names in (["fgsm", "weak", "strong"], ["fgsm", "strong", "weak"]):
        rows = order_of([(name, {"0.1": given[name]}, PLACE) for name in names], attacks=attacks)
        assert [row["status"] for row in rows] == ["warning"]


def policies(changes, seed=0, epoch=2, images=("clean",)):
    """(correctness, places) of policies with so many percent right."""
    correct = [{name: hits(share) for name in images} for share in changes.values()]
    places = [PLACE | {"seed": seed, "epoch": epoch, "policy": policy} for policy in changes]
    return correct, places


def test_policies_are_compared_within_a_seed():
    first = policies({"regular": 50, "selective": 60, "random-0": 40, "random-1": 50})
    second = policies({"regular": 70, "selective": 72, "random-0": 70, "random-1": 70}, seed=1)
    correct, places = (one + other for one, other in zip(first, second, strict=True))
    table = compare_policies(correct, places, confidence=0.95)
    assert list(table.columns[:5]) == ["dataset", "network", "training", "epoch", "images"]
    for _, level in table.groupby("level"):
        known = level.dropna(subset="p_value")
        adjusted = false_discovery_control(known["p_value"])
        assert known["q_value"].tolist() == pytest.approx(list(adjusted))
    control = table[table["reference"] == "random"]
    assert control["difference"].tolist() == pytest.approx([0.15, 0.02, 0.085])
    table = table[table["reference"] == "regular"]
    whole = table[table["level"] == "all seeds"].set_index("policy")
    assert whole["difference"].to_dict() == pytest.approx({"selective": 0.06, "random": -0.025})
    assert whole["seeds"].tolist() == [2, 2]
    assert whole["draws"].to_dict() == {"selective": 2, "random": 4}
    single = table[table["level"] == "seed"].set_index(["policy", "seed"])["difference"]
    assert single["selective"].to_dict() == pytest.approx({0: 0.1, 1: 0.02})
    assert single["random"].to_dict() == pytest.approx({0: -0.05, 1: 0.0})


def test_epochs_and_image_sets_are_compared_apart():
    first = policies({"regular": 50, "selective": 60}, images=("clean", "pgd"))
    second = policies({"regular": 50, "selective": 45}, epoch=8, images=("clean", "pgd"))
    correct, places = (one + other for one, other in zip(first, second, strict=True))
    correct[1]["pgd"] = hits(30)
    table = compare_policies(correct, places, confidence=0.95)
    found = table[table["level"] == "all seeds"].set_index(["epoch", "images"])["difference"]
    expected = {(2, "clean"): 0.1, (2, "pgd"): -0.2, (8, "clean"): -0.05, (8, "pgd"): -0.05}
    assert found.to_dict() == pytest.approx(expected)


def test_no_policies():
    assert compare_policies([], [], confidence=0.95).empty


def classes_of(names, **place):
    """A table of the classes of conv1, conv2, conv3, fc at one place."""
    layers = ["conv1", "conv2", "conv3", "fc"]
    return pd.DataFrame(
        [
            {"scope": "local", "filter": "combined", "attack": "pgd", "score": "S_adv"}
            | {"layer": layer, "class": name}
            | PLACE
            | place
            for layer, name in zip(layers, names, strict=True)
        ]
    )


F, R, A = "fragile", "robust", "antifragile"


def test_invariance_over_seeds_by_hand():
    layers = pd.concat(
        [
            classes_of([F, R, R, A], seed=0),
            classes_of([F, R, F, A], seed=1),
            classes_of([F, R, R, F], seed=2),
        ]
    )
    (row,) = invariances(layers, {}).to_dict("records")
    assert row["over"] == "seed"
    assert row["network"] == "small_conv"
    assert (row["units"], row["raters"], row["dropped"]) == (4, 3, 0)
    assert row["unchanged"] == 0.5
    assert row["agreement"] == pytest.approx((1 + 1 + 1 / 3 + 1 / 3) / 4)


def test_invariance_over_epochs_holds_the_seed():
    layers = pd.concat(
        [
            classes_of([F, R, R, A], seed=seed, epoch=epoch)
            for seed, epoch in ((0, 2), (0, 8), (1, 2), (1, 8))
        ]
        + [classes_of([A, A, A, A], seed=0, epoch=2).assign(scope="global")]
    )
    layers.loc[(layers["seed"] == 1) & (layers["scope"] == "local"), "class"] = R
    table = invariances(layers, {}).set_index("over")
    assert set(table.index) == {"seed", "epoch"}
    assert table.loc["epoch", "units"] == table.loc["seed", "units"] == 8
    assert table.loc["epoch", "unchanged"] == 1
    assert table.loc["seed", "unchanged"] == 0.5


def test_invariance_over_networks_matches_layers():
    one = classes_of([F, R, R, A])
    names = ["conv1", "layer1.0.conv1", "fc"]
    other = pd.DataFrame(
        [one.iloc[0].to_dict() | {"network": "resnet18", "layer": name} for name in names]
    ).assign(**{"class": [F, F, R]})
    layers = {name: networks()[name]["layers"] for name in ("small_conv", "resnet18")}
    table = invariances(pd.concat([one, other]), layers)
    (row,) = table[table["over"] == "network"].to_dict("records")
    # conv early: fragile in both; linear late: antifragile and robust; the others in one only
    assert row["network"] == "all"
    assert row["raters"] == 2
    assert row["units"] == 2
    assert row["unchanged"] == 0.5


def test_nothing_to_compare():
    assert invariances(classes_of([F, R, R, A]), {}).empty
    assert invariances(pd.DataFrame(), {}).empty
