"""The tables of mending."""

import numpy as np
import pandas as pd
import pytest

from faultline.ablation.facts import pack
from faultline.base.comparison import compare_policies
from faultline.base.files import save_arrays, save_table
from faultline.base.statistics import benjamini_hochberg
from faultline.studies.mending.tables import compared

PLACE = "results/digits/small_conv/adam/seed-{}/epoch-3"
RIGHT = {"given": 20, "harden": 60, "picked": 50, "first_layers": 45}
"""Network -> how many of 100 images it gets right in seed 0; one more in seed 1."""


def files(folder, names, *, seeds=(0, 1)):
    """(correct, result) of the checkpoints of two seeds."""
    correct, result = [], []
    for seed in seeds:
        place = folder / PLACE.format(seed)
        place.mkdir(parents=True)
        sets = {name: {"clean": np.arange(100) < RIGHT[name] + seed} for name in names}
        save_arrays(
            pack({f"{name}|{key}": of[key] for name, of in sets.items() for key in of}),
            place / "correct.npz",
        )
        rows = pd.DataFrame({"candidate": names, "chosen": [name == "picked" for name in names]})
        save_table(rows, place / "result.tsv")
        correct.append(str(place / "correct.npz"))
        result.append(str(place / "result.tsv"))
    return correct, result


def test_mends_stand_beside_the_given_network_and_beside_the_first_of_them(tmp_path):
    names = ["given", "harden", "picked", "first_layers"]
    table = compared(*files(tmp_path, names), confidence=0.95)
    whole = table[table["level"] == "all seeds"].set_index(["policy", "reference"])["difference"]
    assert whole.to_dict() == {
        ("harden", "given"): pytest.approx(0.4),
        ("picked", "given"): pytest.approx(0.3),
        ("first_layers", "given"): pytest.approx(0.25),
        ("chosen", "given"): pytest.approx(0.3),
        ("picked", "harden"): pytest.approx(-0.1),
        ("first_layers", "harden"): pytest.approx(-0.15),
    }
    of_seeds = table[table["level"] == "seed"]
    assert np.allclose(of_seeds["q_value"], benjamini_hochberg(of_seeds["p_value"]))
    assert (table["n"] == 100).all() and table["detectable"].notna().any()


def test_one_mend_stands_beside_the_given_network_alone(tmp_path):
    correct, result = files(tmp_path, ["given", "picked"])
    table = compared(correct, result, confidence=0.95)
    assert {*table["reference"]} == {"given"} and {*table["policy"]} == {"picked", "chosen"}
    place = {"dataset": "digits", "network": "small_conv", "training": "adam", "epoch": 3}
    hits = [{"clean": np.arange(100) < right} for right in (20, 50, 50, 21, 51, 51)]
    places = [
        place | {"seed": seed, "policy": name}
        for seed in (0, 1)
        for name in ("given", "picked", "chosen")
    ]
    expected = compare_policies(hits, places, reference="given", confidence=0.95)
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
