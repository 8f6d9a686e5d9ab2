import numpy as np
import pytest

from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, one_of


def test_a_name_among_names_and_the_nearest_to_another():
    assert one_of("pulse", ("high_pass", "pulse"), "kinds") == "pulse"
    with pytest.raises(UserError, match=r"kinds: 'highpass' is unknown; did you mean 'high_pass'"):
        one_of("highpass", ("high_pass", "pulse"), "kinds")
    with pytest.raises(UserError, match="expected one of: high_pass, pulse"):
        one_of([], {"high_pass": 1, "pulse": 2}, "kinds")  # cannot be a key


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_numbers_within_limits(value):
    check_number(value, "eps", high=1.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), "0.1", None, True, [0.1]])
def test_numbers_that_are_refused(value):
    with pytest.raises(UserError, match=r"eps: .* expected a finite number from 0 to 1"):
        check_number(value, "eps", high=1.0)


def test_limits_that_are_not_allowed_themselves():
    check_number(0.95, "confidence", high=1.0, open=True)
    for value in (0, 1.0):
        with pytest.raises(UserError, match="expected a finite number above 0 and below 1"):
            check_number(value, "confidence", high=1.0, open=True)


def test_counts():
    check_count(2, "count", low=2)
    check_count(np.int64(3), "count")
    for value in (1, 2.0, True, "3", None):
        with pytest.raises(UserError, match=r"count: .* a whole number, at least 2"):
            check_count(value, "count", low=2)
