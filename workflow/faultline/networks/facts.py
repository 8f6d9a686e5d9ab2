"""What parsing the workflow must know about networks, without importing torch.

The layers of the built-in networks are in `networks.json`; those of the user's own are read once,
see `asking`.
"""

import bisect
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BUILTIN_FILE = Path(__file__).with_name("networks.json")

Fit = tuple[tuple[int, ...], int] | tuple[tuple[int, ...], int, int]
"""(shape of one input, number of classes) of a data set; of tokens, the size of their vocabulary
as well."""

NetworkFacts = dict[str, Any]
"""What is known of a network, see `networks`."""

KINDS = {1: "vector", 2: "signal", 3: "image"}
"""Length of an input's shape -> what it is, where it is no sequence of tokens ("token")."""


@functools.cache
def registry() -> dict[str, NetworkFacts]:
    """What `networks` holds, of the built-in networks alone."""
    builtin: dict[str, NetworkFacts] = json.loads(BUILTIN_FILE.read_text(encoding="utf-8"))
    return builtin


_own: dict[str, NetworkFacts] = {}
_unseen: frozenset[str] = frozenset({"norm", "parameter"})


def add(name: str, facts: NetworkFacts) -> None:
    """Makes a network of the user's own known to `networks`."""
    _own[name] = facts
    _listed.cache_clear()


def see(*, norms: bool = False, parameters: bool = False) -> None:
    """Whether normalisations, and parameters that are in no layer, are layers to `networks`."""
    global _unseen
    _unseen = frozenset(["norm"] * (not norms) + ["parameter"] * (not parameters))


def networks() -> dict[str, NetworkFacts]:
    """What is known of every network, built in or added.

    {network: {"input", "min_size", "parameters", "layers": [[name, kind, filters], ...], "work"}},
    written by `python -m faultline.networks`; kind is one of `layers.UNITS`, filters is "classes"
    for the output layer. Of the user's own also what `inspect.coverage` and `probing.abilities`
    tell.
    """
    return _listed(_unseen)


@functools.cache
def _listed(unseen: frozenset[str]) -> dict[str, NetworkFacts]:
    return {
        name: facts | {"layers": [row for row in facts["layers"] if row[1] not in unseen]}
        for name, facts in (registry() | _own).items()
    }


def work_of(name: str, fit: Fit) -> dict[str, list[float]]:
    """`work.Work` of a network for the inputs of a data set; of a built-in one between the sizes
    that are known. Empty where it could not be counted."""
    rows = networks()[name].get("work", [])
    for of, work in rows:
        if [of[0], *of[1:]] == [list(fit[0]), *fit[1:]]:
            return dict(work)
    if not rows or len(fit[0]) != len(rows[0][0][0]):
        return {}
    rows = sorted(rows, key=lambda row: _size(row[0][0]))
    at, sizes = math.log(_size(fit[0])), [math.log(_size(of[0])) for of, _ in rows]
    above = min(max(bisect.bisect(sizes, at), 1), len(rows) - 1) if len(rows) > 1 else 0
    below = max(above - 1, 0)
    step = sizes[above] - sizes[below]
    share = (at - sizes[below]) / step if step else 0.0
    one, other = rows[below][1], rows[above][1]
    return {
        layer: [a * (b / a) ** share for a, b in zip(one[layer], other[layer], strict=True)]
        for layer in one
    }


def _size(shape: Sequence[int]) -> int:
    return math.prod(shape[1:] or shape)
