"""The one exception that means "the input is wrong, not the program", and what its message says."""

import difflib


class UserError(Exception):
    """A mistake in what the user gave: shown as one line, without a traceback.

    The message names the file or the config key, says what was expected, and what to do.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text) -> str:
    r"""A text from elsewhere, such as a file's name, on one line and fit for a terminal: line
    ends, escape codes and whatever else does not print are written out, \n and \x1b."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(text: str, most: int = 60) -> str:
    """A text, cut where it is too long for a line."""
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, names) -> str:
    """A "did you mean" for `name`, or the list of what there is."""
    names = [str(n) for n in names]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {some(names)}"


def some(names, most: int = 10) -> str:
    """Names in a line, the first of them where there are many."""
    names = list(map(str, names))
    more = f" and {len(names) - most} more" * (len(names) > most + 1)
    return ", ".join(names[:most] if more else names) + more


def first_line(error: Exception) -> str:
    """What an error says first, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
