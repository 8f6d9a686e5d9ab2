import numpy as np
import pytest

from faultline.attacks.checks import (
    CHECK_MEANINGS,
    accuracy_monotone,
    compare_attacks,
    rise_p_value,
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
