"""What a caller gives a function, checked once, where it comes in. No torch."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

from faultline.base.errors import UserError, nearest


def one_of(value, names: Iterable, what: str):
    """`value`, one of `names`; UserError with the nearest of them for another."""
    if value not in (names := [*names]):
        raise UserError(f"{what}: {value!r} is unknown; {nearest(value, names)}")
    return value


def check_number(
    value, what: str, *, low: float = 0.0, high: float = math.inf, open: bool = False
) -> None:
    """UserError for what is no finite number from `low` to `high`; open: these are not allowed."""
    inside = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    inside = inside and (low < value < high if open else low <= value <= high)
    if not inside:
        first, then = ("above", " and below") if open else ("from", " to")
        upward = f"{then} {high:g}" if high < math.inf else "" if open else " on"
        raise UserError(f"{what}: {value!r}; expected a finite number {first} {low:g}{upward}")


def check_count(value, what: str, *, low: int = 1) -> None:
    """UserError for what is no whole number from `low` on."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise UserError(f"{what}: {value!r}; expected a whole number, at least {low}")
