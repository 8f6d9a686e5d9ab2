from itertools import combinations

import numpy as np
import pytest
from support import SCHEMA

from faultline.attacks.checks import CHECK_MEANINGS, attack_order, compare_attacks
from faultline.attacks.methods import METHODS, method_of, one_step, weakest_first
from faultline.base.errors import UserError

OWN = "mine.py:uphill"
ATTACKS = {
    name: {"method": method, "norm": "linf", "normalised_units": False}
    for name, method in {
        "mine": OWN,
        "apgd": "apgd",
        "strong": "pgd",
        "other": "mine.py:sideways",
        "fgsm": "fgsm",
        "weak": "pgd",
    }.items()
}


def test_every_method_is_known_in_every_place():
    attack = SCHEMA["properties"]["attacks"]["additionalProperties"]
    assert attack["properties"]["method"]["anyOf"][0]["enum"] == [*METHODS]


def test_attacks_of_unknown_strength_stand_behind():
    known, unknown = weakest_first(ATTACKS)
    assert known == ["fgsm", "strong", "weak", "apgd"]
    assert unknown == ["mine", "other"]
    assert one_step(ATTACKS) == ["fgsm"]


def test_what_a_method_takes():
    assert {*METHODS["pgd"].takes} == {"steps", "step_size"} and not METHODS["fgsm"].takes
    assert {"steps", "step_size", "options"} == {*method_of(OWN).takes}


def test_unknown_methods_are_told():
    assert method_of(OWN).strength is None
    with pytest.raises(UserError, match="'pgdd'; choose one of fgsm, pgd, apgd"):
        method_of("pgdd")


def test_an_attack_of_the_users_own_is_neither_stronger_nor_weaker():
    right, wrong = np.ones(50, bool), np.zeros(50, bool)
    assert compare_attacks({OWN: right, "fgsm": wrong}) == []
    (row,) = compare_attacks({"pgd": right, OWN: right, "fgsm": wrong})
    assert (row["check"], row["status"]) == ("fgsm_not_stronger_than_pgd", "warning")
    correct = [{"0.1": right}, {"0.1": wrong}]
    places = [{"seed": 0, "attack": name} for name in ("mine", "fgsm")]
    assert attack_order(correct, places, attacks=ATTACKS, masking=10) == []


def test_every_comparison_of_two_methods_has_a_meaning():
    for pair in combinations(METHODS, 2):
        for row in compare_attacks(dict.fromkeys(pair, np.ones(9, bool))):
            assert row["check"] in CHECK_MEANINGS
