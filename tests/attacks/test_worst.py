import numpy as np

from faultline.attacks.worst import by_unit, worst_case, worst_cases


def attack(method, norm="linf", normalised=False):
    return {"method": method, "norm": norm, "normalised_units": normalised}


LINF = {"mine": attack("mine.py:uphill"), "apgd": attack("apgd"), "fgsm": attack("fgsm")}
ALONE = {"pgd-l2": attack("pgd", "l2"), "notebook": attack("fgsm", normalised=True)}


def test_a_worst_case_is_named_after_its_unit_where_there_are_several():
    assert worst_cases(LINF) == {"worst case": ["fgsm", "apgd", "mine"]}
    assert worst_cases(LINF | ALONE) == {"worst case linf": ["fgsm", "apgd", "mine"]}
    both = LINF | {"pgd-l2": attack("pgd", "l2"), "apgd-l2": attack("apgd", "l2")}
    assert list(worst_cases(both)) == ["worst case linf", "worst case l2"]
    assert worst_cases(ALONE) == {}


def test_eps_of_other_norms_or_units_is_not_shared():
    assert by_unit(LINF | ALONE) == {
        "linf": ["fgsm", "apgd", "mine"],
        "l2": ["pgd-l2"],
        "linf in normalised units": ["notebook"],
    }


def bools(text):
    return np.array([c == "1" for c in text])


def test_an_image_is_correct_only_where_it_is_so_under_every_attack():
    correct = {
        "fgsm": {"0": bools("11110"), "0.1": bools("11000"), "0.05": bools("11100")},
        "pgd": {"0": bools("11110"), "0.1": bools("10100"), "0.2": bools("00000")},
        "apgd": {"0": bools("11110"), "0.1": bools("11100"), "0.05": bools("01110")},
    }
    found = worst_case(correct)
    assert {eps: (over, hits.tolist()) for eps, (over, hits) in found.items()} == {
        "0": (["fgsm", "pgd", "apgd"], bools("11110").tolist()),
        "0.05": (["fgsm", "apgd"], bools("01100").tolist()),
        "0.1": (["fgsm", "pgd", "apgd"], bools("10000").tolist()),
    }
    assert list(found) == ["0", "0.05", "0.1"]


def test_eps_0_alone_makes_no_worst_case():
    right = bools("11")
    assert worst_case({"a": {"0": right, "0.1": right}, "b": {"0": right, "0.2": right}}) == {}
    assert worst_case({"a": {"0": right, "0.1": right}}) == {}
