import numpy as np
import pytest

from faultline.attacks.checks import (
    CHECK_MEANINGS,
    SIGNS,
    accuracy_monotone,
    attack_order,
    compare_attacks,
    masked,
    near_worst_case,
    rise_p_value,
    row,
    split_attacks,
)


def correctness(n, right):
    """n images of which the first `right` are classified correctly."""
    return np.arange(n) < right


def test_rise_p_value_by_hand():
    before = np.array([0, 0, 0, 0, 0, 1, 1], dtype=bool)
    after = np.array([1, 1, 1, 1, 0, 0, 1], dtype=bool)  # 4 gained, 1 lost of 5 changed
    assert rise_p_value(before, after) == pytest.approx((1 + 5) / 32)
    assert rise_p_value(after, before) == 1.0
    assert rise_p_value(before, before) == 1.0


@pytest.mark.parametrize(("gained", "lost"), [(9, 1), (30, 12), (3000, 2800)])
def test_rise_p_value_is_the_binomial_test(gained, lost):
    stats = pytest.importorskip("scipy.stats")
    before = np.repeat([False, True, True], [gained, lost, 50])
    after = np.repeat([True, False, True], [gained, lost, 50])
    expected = stats.binomtest(gained, gained + lost, alternative="greater").pvalue
    assert rise_p_value(before, after) == pytest.approx(expected, rel=1e-9)


def test_accuracy_monotone():
    falling = {0.2: correctness(100, 40), 0.0: correctness(100, 90), 0.1: correctness(100, 60)}
    assert accuracy_monotone(falling)["status"] == "ok"
    noise = {**falling, 0.3: correctness(100, 43)}
    assert accuracy_monotone(noise)["status"] == "ok"
    rising = {**falling, 0.3: correctness(100, 55)}
    assert accuracy_monotone(rising)["status"] == "warning"
    assert "15.00 points from eps 0.2 to 0.3" in accuracy_monotone(rising)["detail"]


def test_a_rise_in_small_steps_is_seen():
    curve = {eps: correctness(100, right) for eps, right in enumerate((90, 40, 45, 50, 55))}
    assert accuracy_monotone(curve)["status"] == "warning"


def test_compare_attacks():
    weak, strong = correctness(100, 60), correctness(100, 30)
    (row,) = compare_attacks({"pgd": strong, "fgsm": weak})
    assert (row["check"], row["status"]) == ("fgsm_not_stronger_than_pgd", "ok")
    (row,) = compare_attacks({"fgsm": strong, "pgd": weak})
    assert row["status"] == "warning"
    (row,) = compare_attacks({"fgsm": weak, "pgd": correctness(100, 63)})
    assert row["status"] == "ok"
    rows = compare_attacks({"fgsm": weak, "pgd": strong, "apgd": strong})
    assert {row["check"] for row in rows} <= set(CHECK_MEANINGS)
    assert len(rows) == 2


def test_correctness_of_attacks_that_were_run_together_is_split():
    hits = {"fgsm/0": np.ones(3, bool), "fgsm/0.1": np.zeros(3, bool), "pgd/0": np.ones(3, bool)}
    found = split_attacks(hits)
    assert {attack: list(of) for attack, of in found.items()} == {
        "fgsm": ["0", "0.1"],
        "pgd": ["0"],
    }


LINF = {
    name: {"method": method, "norm": "linf", "normalised_units": False}
    for name, method in {"fgsm": "fgsm", "pgd": "pgd", "apgd": "apgd", "mine": "a.py:b"}.items()
}


def near(shares, *, judges=(), masking=10, attacks=LINF):
    """attack -> row; shares: attack -> {eps: the images that it leaves correct, of 100}."""
    correct = {
        name: {eps: np.isin(np.arange(100), right) for eps, right in of.items()}
        for name, of in shares.items()
    }
    rows = near_worst_case(correct, attacks=attacks, judges=judges, masking=masking)
    assert {row["check"] for row in rows} <= {"near_worst_case"} & {*CHECK_MEANINGS}
    return {row["attack"]: row for row in rows}


def test_an_attack_that_leaves_more_than_the_worst_case_is_told():
    # PGD fools images 50 on, APGD 44 on but for 94 to 99: worst case 44, PGD 6 and APGD 6 above it
    shares = {
        "pgd": {"0": range(90), "0.1": range(50)},
        "apgd": {"0": range(90), "0.1": [*range(44), *range(94, 100)]},
    }
    found = near(shares, judges=["pgd"])
    assert {name: row["status"] for name, row in found.items()} == {"pgd": "warning", "apgd": "ok"}
    assert found["pgd"]["detail"] == (
        "At most, accuracy is 50.00 % under pgd and 44.00 % in the worst case over pgd, apgd, at "
        "linf eps 0.1; told from 5 points on, as scores rest on it."
    )
    assert found["apgd"]["detail"].endswith("told from 10 points on.")
    assert near(shares, judges=["pgd"], masking=12.1)["pgd"]["status"] == "ok"
    assert near(shares, masking=6)["pgd"]["status"] == "warning"
    exact = {"pgd": {"0.1": range(57)}, "apgd": {"0.1": range(52)}}  # 0.57 - 0.52 < 0.05 in floats
    assert near(exact, judges=["pgd"])["pgd"]["status"] == "warning"


def test_the_largest_gap_over_eps_counts():
    shares = {
        "pgd": {"0": range(90), "0.1": range(50), "0.2": range(30), "0.3": range(99)},
        "apgd": {"0": range(90), "0.1": range(48), "0.2": range(10)},
    }
    found = near(shares)
    assert "at linf eps 0.2" in found["pgd"]["detail"] and found["pgd"]["status"] == "warning"


def test_attacks_that_claim_nothing_are_asked_only_where_scores_rest_on_them():
    shares = {name: {"0.1": range(50)} for name in LINF} | {"apgd": {"0.1": range(10)}}
    assert near(shares).keys() == {"pgd", "apgd"}
    found = near(shares, judges=["fgsm", "mine"])
    assert found.keys() == LINF.keys() and found["mine"]["status"] == "warning"
    assert near({"pgd": {"0.1": range(50)}}, judges=["pgd"]) == {}
    apart = LINF | {"apgd": {"method": "apgd", "norm": "l2", "normalised_units": False}}
    assert near({name: shares[name] for name in ("pgd", "apgd")}, attacks=apart) == {}


def test_why_accuracy_under_attack_is_not_to_be_believed():
    def said(*warned):
        return masked([row(check, check not in warned, "") for check in CHECK_MEANINGS])

    assert said() == said("near_worst_case", "fgsm_near_apgd", "eps_zero_identity") == ""
    assert masked([]) == ""
    assert said("saturated_logits") == (
        "Accuracy under attack is not to be believed, as its logits are saturated: divide them by "
        "a constant."
    )
    assert said("black_box_not_stronger", "zero_gradients") == (
        "Accuracy under attack is not to be believed, as its gradient is exactly zero, and a "
        "black-box attack fools what those that follow the gradient do not: look for rounding, "
        "thresholds or saturated units, and attack a smooth stand-in for them; look for what hides "
        "the gradient."
    )
    assert SIGNS.keys() <= CHECK_MEANINGS.keys()


def test_what_other_attacks_find_is_held_against_one_that_is_made_to_judge():
    attacks = LINF | {"all": {"method": "standard", "norm": "linf", "normalised_units": False}}
    for missed, status in ((1, "ok"), (2, "warning")):  # of 100
        shares = {"pgd": {"0.1": range(40 - missed)}, "all": {"0.1": range(40)}}
        correct = {name: {"0.1": np.isin(np.arange(100), of["0.1"])} for name, of in shares.items()}
        rows = near_worst_case(correct, attacks=attacks, judges=["all"], masking=10)
        found = {row["attack"]: row for row in rows}
        assert found["all"]["check"] == "others_not_stronger"
        assert found["all"]["status"] == status
        assert found["all"]["detail"].endswith("told from above 1% of the images.")
        assert found.keys() == {"all"}  # of the others no claim is made


def test_one_fact_is_told_once_and_not_where_a_judge_stands():
    attacks = {
        "fgsm": {"method": "fgsm", "norm": "linf", "normalised_units": False},
        "apgd": {"method": "apgd", "norm": "linf", "normalised_units": False},
    }
    judge = {"standard": {"method": "standard", "norm": "linf", "normalised_units": False}}
    right, wrong = np.ones(100, bool), np.zeros(100, bool)
    correct, places = [{"0.1": right}, {"0.1": wrong}], [{"attack": "fgsm"}, {"attack": "apgd"}]

    def warned(attacks):
        rows = attack_order(correct, places, attacks=attacks, masking=10, judges=["fgsm"])
        return [row["check"] for row in rows if row["status"] == "warning"]

    assert warned(attacks) == ["fgsm_near_apgd"]
    assert warned(attacks | judge) == []
    other = {"standard": judge["standard"] | {"norm": "l2"}}
    assert warned(attacks | other) == ["fgsm_near_apgd"]
