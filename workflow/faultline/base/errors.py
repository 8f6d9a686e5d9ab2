"""The one exception that means "the input is wrong, not the program", and what its message says."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: shown as one line, without a traceback.

    The message names the file or the config key, says what was expected, and what to do.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: object) -> str:
    r"""A text from elsewhere, such as a file's name, on one line and fit for a terminal: line
    ends, escape codes and whatever else does not print are written out, \n and \x1b."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def short(text: str, most: int = 60) -> str:
    """A text, cut where it is too long for a line."""
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: object, names: Iterable[object]) -> str:
    """A "did you mean" for `name`, or the list of what there is."""
    texts = [str(n) for n in names]
    close = difflib.get_close_matches(str(name), texts, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {some(texts)}"


def some(names: Iterable[object], most: int = 10) -> str:
    """Names in a line, the first of them where there are many."""
    texts = list(map(str, names))
    more = f" and {len(texts) - most} more" * (len(texts) > most + 1)
    return ", ".join(texts[:most] if more else texts) + more


def first_line(error: Exception) -> str:
    """What an error says first, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
