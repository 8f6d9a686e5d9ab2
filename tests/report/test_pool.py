"""Parts that are made in copies of the process."""

import os

import pytest
from support import error_of

from faultline.base.errors import UserError
from faultline.report.pool import made, side_by_side


def test_parts_are_made_elsewhere_and_come_back_in_their_order():
    here, base = os.getpid(), 10
    assert made(lambda part: (base + part, os.getpid()), [3, 1, 2]) == [
        (13, here),
        (11, here),
        (12, here),
    ]
    with side_by_side(2):
        several = made(lambda part: (base + part, os.getpid()), [3, 1, 2])
        assert made(lambda part: os.getpid(), [1]) == [here] and made(str, []) == []
    assert [value for value, _ in several] == [13, 11, 12]
    assert here not in {pid for _, pid in several} and len({pid for _, pid in several}) <= 2
    assert made(lambda part: os.getpid(), [1, 2]) == [here, here]


def test_parts_of_parts_are_made_where_these_are():
    with side_by_side(2):
        inner = made(lambda part: (os.getpid(), *made(lambda _: os.getpid(), "ab")), [1, 2])
    assert all(len({*pids}) == 1 for pids in inner)


def test_a_mistake_is_told_and_a_process_that_dies_is_noticed():
    def fail(part):
        raise UserError(f"no {part}")

    with side_by_side(2):
        assert error_of(made, fail, "ab") == "no a"
        with pytest.raises(RuntimeError):
            made(lambda part: os.kill(os.getpid(), 9), "ab")
        assert made(str.upper, "ab") == ["A", "B"]
