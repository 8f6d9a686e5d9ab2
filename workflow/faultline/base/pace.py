"""How far this process is: images that went through networks, and how much of its work is done.

Within `job`, what is `each` of its parts tells where it is, and its log says so every ten seconds.
Outside, nothing is said.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

EVERY = 10.0
"""Seconds from one line on the progress of a job to the next."""

_passed = [0]
_last = [0.0]
_levels: "list[_Level]" = []


class _Level:
    """Parts of a work, the place of that which is at work, and the share of it that is done, where
    it tells that itself."""

    def __init__(self, sizes: Sequence[float]):
        self.began = time.monotonic()
        self.sizes, self.at = sizes, 0
        self.share: float | None = None

    def done(self, inner: float) -> float:
        """The share that is done; inner: of the part at work, by what is in it."""
        inner = inner if self.share is None else self.share
        now = self.sizes[self.at] if self.at < len(self.sizes) else 0.0
        return (sum(self.sizes[: self.at]) + inner * now) / (sum(self.sizes) or 1.0)


@contextmanager
def job() -> Iterator[None]:
    """Work whose progress is told."""
    _levels[:] = [_Level([1.0])]
    _last[0] = time.monotonic()
    try:
        yield
    finally:
        _levels.clear()


def each(parts: Collection[T], sizes: Sequence[float] | None = None) -> Iterator[T]:
    """Parts of a work one by one, in the part of a larger one that is at work, if any; sizes: of
    their work, by default all alike."""
    if not _levels:
        yield from parts
        return
    level = _Level(sizes or [1.0] * len(parts))
    _levels.append(level)
    try:
        for part in parts:
            yield part
            level.at, level.share = level.at + 1, None
    finally:
        if level in _levels:  # else its job has ended before it, as where a signal stops both
            _levels.remove(level)


def share(of_part: float | None = None) -> float:
    """Of the whole work, what is done; of_part: of the part at work, from now on."""
    if _levels and of_part is not None:
        _levels[-1].share = of_part
    inner = 0.0
    for level in reversed(_levels):
        inner = level.done(inner)
    return inner


def in_a_job() -> bool:
    """Whether this is within `job`."""
    return bool(_levels)


def passed(images: int) -> None:
    """Count the forward passes of some images; in a sweep, each image judged under each variant.
    Tells the progress of a job now and then."""
    _passed[0] += images
    now = time.monotonic()
    if _levels and now - _last[0] >= EVERY:
        _last[0] = now
        took, done = now - _levels[0].began, share()
        left = f", {duration(took * (1 - done) / done)} left" if done else ""
        print(f"{done:.0%} done, {_passed[0] / took:.0f} images/s{left}")


def images() -> int:
    """How many images there were so far, see `passed`."""
    return _passed[0]


def duration(seconds: float) -> str:
    """In two units at most: 3.2 s, 1 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
