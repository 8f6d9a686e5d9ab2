"""What to do: only what is told, each with the number behind it."""

import pandas as pd
import pytest
from run_tables import make_config, make_tables

from faultline.studies.advice import section

RUN = {"dataset": "digits", "network": "small_conv", "training": "standard"}


@pytest.fixture(scope="module")
def made():
    tables = make_tables()
    for name in ("layers", "filters", "base"):
        tables[name] = tables[name].reset_index(drop=True)
    tables["layers"]["decided"] = False
    tables["filters"] = tables["filters"].assign(decided=False, tau=0.9)
    return tables


def advice(tables, **changes):
    """what to do -> because."""
    blocks = section(tables, make_config(**changes)).blocks
    rows = blocks[0].tables[0].rows if blocks else []
    return {row[0].text: row[1] for row in rows}


def test_where_nothing_is_told_nothing_is_advised(made):
    assert advice(made) == {}


def judged(table, layer, **values):
    """The rows of a layer by the score that judges, given a class."""
    rows = (table["layer"] == layer) & (table["score"] == "S_adv") & (table["epoch"] == 3)
    rows &= table.get("filter", "combined") == "combined"
    for key, value in values.items():
        table.loc[rows, key] = value
    return table


def test_layers_that_are_decided_in_every_seed(made):
    layers = judged(made["layers"].copy(), "conv2", value=-0.4, decided=True)
    layers.loc[layers["value"] == -0.4, "class"] = "fragile"
    layers = judged(layers, "fc", value=0.3, decided=True)
    layers.loc[layers["value"] == 0.3, "class"] = "antifragile"
    found = advice(made | {"layers": layers})
    assert found == {
        "keep conv2 out of pruning and quantisation": "S_adv (pgd) −0.40: without them less "
        "relative accuracy is left than removing as many weights of the layer at random",
        "prune fc first, one at a time": "S_adv (pgd) +0.30: without them more relative accuracy "
        "is left than removing as many weights of the layer at random",
    }
    first = (layers["layer"] == "conv2") & (layers["seed"] == 1)
    layers.loc[first, "decided"] = False
    assert not any(text.startswith("keep") for text in advice(made | {"layers": layers}))


def test_the_filter_that_costs_most(made):
    filters = made["filters"].copy()
    place = (filters["epoch"] == 3) & (filters["score"] == "S_clean") & (filters["filter"] == 2)
    given = {"value": -0.5, "ci_low": -0.7, "ci_high": -0.3, "class": "fragile", "decided": True}
    for key, value in given.items():
        filters.loc[place & (filters["seed"] == 1), key] = value
    (found,) = advice(made | {"filters": filters}).items()
    assert found[0] == "never remove filter 2 of conv1 of seed 1"
    assert (
        found[1] == "alone it takes 50.0 % [30.0 %, 70.0 %] of the accuracy on clean images with it"
    )


def test_more_images_and_where_they_come_from(made):
    filters = made["filters"].assign(tau=0.05)
    ((what, because),) = advice(made | {"filters": filters}).items()
    assert what.startswith("judge on ") and "(ablation.images)" in what
    assert "of 40, " in because and "not decided" in because
    few = {"datasets": {"digits": {"validation": 200, "test": 700}}}
    few |= {"ablation": {"split": "validation"}}
    filters = filters.assign(tau=0.02)
    ((what, _),) = advice(made | {"filters": filters}, **few).items()
    assert what.endswith("and give as many (datasets.*.validation)")


def test_attacks_that_leave_nothing(made):
    base = made["base"].copy()
    base.loc[base["images"] == "pgd", "above_chance"] = False
    ((what, because),) = advice(made | {"base": base}).items()
    assert "attacks.pgd.eps" in what and "not above chance" in because
    base.loc[base["images"] == "clean", "above_chance"] = False
    assert "train longer" in advice(made | {"base": base})


def test_a_mend_is_to_be_loaded_and_one_seed_says_little(made):
    place = RUN | {"seed": 1, "epoch": 3}
    mends = pd.DataFrame([place | {"candidate": "harden", "chosen": True, "handed_back": True}])
    rows = [
        place | {"policy": "chosen", "images": images, "level": "seed", "difference": value}
        for images, value in (("worst case", 0.3), ("clean", -0.01))
    ]
    mending = pd.DataFrame(rows).assign(ci_low=-0.02, ci_high=0.4)
    tables = made | {"mends": mends.assign(n=500), "mending": mending}
    found = advice(tables, seeds=[1])
    path = "load results/digits/small_conv/standard/seed-1/epoch-3/mended.pt"
    assert found[path].startswith("+30.0 [−2.0, +40.0] points under the worst attack, clean −1.0")
    assert found["add seeds"].startswith("one seed says what holds of this network")


def test_a_larger_budget_where_nothing_gains_within_it(made):
    place = RUN | {"seed": 1, "epoch": 3}
    mends = pd.DataFrame([place | {"candidate": "given", "chosen": False, "handed_back": False}])
    bought = pd.DataFrame(
        place | {"budget": budget, "candidate": name, "adversarial": 0.6}
        for budget, name in ((0.05, ""), (0.1, "harden"), (0.2, "harden"))
    )
    mending = pd.DataFrame(columns=[*RUN, "epoch"])
    tables = made | {"mends": mends, "mending_bought": bought, "mending": mending}
    ((what, because),) = advice(tables).items()
    assert what == "set mending.clean_loss to 0.1"
    assert because == "harden would then leave 60.0 % of validation images under attack"
