"""What a caller gives a function, checked once, where it comes in. No torch."""

import math
from collections.abc import Iterable
from fractions import Fraction
from numbers import Integral, Real
from typing import TypeVar

from faultline.base.errors import UserError, nearest

T = TypeVar("T")


def one_of(value: T, names: Iterable[T], what: str) -> T:
    """`value`, one of `names`; UserError with the nearest of them for another."""
    if value not in (names := [*names]):
        raise UserError(f"{what}: {value!r} is unknown; {nearest(value, names)}")
    return value


def check_number(
    value: object, what: str, *, low: float = 0.0, high: float = math.inf, open: bool = False
) -> None:
    """UserError for what is no finite number from `low` to `high`; open: these are not allowed."""
    inside = False
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        number = float(value)
        inside = low < number < high if open else low <= number <= high
    if not inside:
        first, then = ("above", " and below") if open else ("from", " to")
        upward = f"{then} {high:g}" if high < math.inf else "" if open else " on"
        raise UserError(f"{what}: {value!r}; expected a finite number {first} {low:g}{upward}")


def check_count(value: object, what: str, *, low: int = 1) -> None:
    """UserError for what is no whole number from `low` on."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise UserError(f"{what}: {value!r}; expected a whole number, at least {low}")


def count_of(share: float, size: int) -> int:
    """floor(share * size), of the share as it is written: 0.29 of 100 is 29, not 28.999..."""
    return math.floor(Fraction(str(share)) * size)
