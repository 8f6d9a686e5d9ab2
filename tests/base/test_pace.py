"""How far a job is."""

import pytest

from faultline.base import pace


@pytest.fixture
def begun():
    with pace.job():
        yield
    assert not pace.in_a_job()


def test_parts_in_parts(begun):
    told = []
    for _ in pace.each("ab", [3.0, 1.0]):
        for _ in pace.each([1, 2]):
            told.append(pace.share())
    assert told == [0, 0.375, 0.75, 0.875] and pace.share() == 0


def test_what_a_part_tells_of_itself_goes_before_what_is_in_it(begun):
    for part in pace.each([0, 1]):
        assert pace.share(0.5) == (part + 0.5) / 2
        for _ in pace.each([1, 2]):
            assert pace.share() == (part + 0.5) / 2


def test_nothing_is_told_where_no_job_began(capsys):
    assert [*pace.each([1, 2])] == [1, 2] and not pace.in_a_job()
    pace._last[0] = 0.0
    pace.passed(5)
    assert capsys.readouterr().out == ""


def test_a_line_now_and_then(begun, capsys):
    pace._last[0] -= pace.EVERY
    for _ in pace.each([1, 2]):
        pace.passed(100)
        pace._last[0] -= pace.EVERY
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("0% done, ") and "left" not in first
    assert second.startswith("50% done, ") and second.endswith(" left")


def test_parts_that_are_left_behind_may_end_after_their_job():
    """As where a signal stops both: an error there would be the last line of the run."""
    with pace.job():
        left = pace.each([1, 2])
        next(left)
    left.close()
