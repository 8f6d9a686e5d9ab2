"""Where results lie below their folder, and what a path tells of its place."""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from faultline.base.columns import RUN
from faultline.base.files import load_table

if TYPE_CHECKING:
    import pandas as pd

DATA = "{dataset}/data.pt"
STRESS = "{dataset}/stresses/{stress}/{split}"
NETWORK = "{dataset}/{network}"
OF_RUN = "/".join(f"{{{name}}}" for name in RUN)
TUNING = f"{OF_RUN}/tuning"
CHECKPOINT = f"{OF_RUN}/seed-{{seed}}/epoch-{{epoch}}"
ATTACK = f"{CHECKPOINT}/attacks/{{attack}}"
LAYER = f"{CHECKPOINT}/layers/{{layer}}"
OWN_ABLATION = f"{LAYER}/own/{{ablation}}.npz"
RETRAINING = f"{CHECKPOINT}/retraining/{{policy}}"
PICKED = f"{CHECKPOINT}/criteria/{{recipe}}/{{criterion}}"
REMEDY = f"{CHECKPOINT}/remedy/{{policy}}"
CANDIDATE = f"{CHECKPOINT}/mended/{{candidate}}"
MAYBE_BESIDE = {"mended.md": ("mended.pt", "mended.bounds.json")}
"""Output -> what its job writes beside it or not, which Snakemake knows nothing of."""


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = "".join(
        re.escape(text) + (f"(?P<{name}>[^/]+)" if name else "")
        for text, name, *_ in string.Formatter().parse(pattern)
    )
    files = {OWN_ABLATION: "", STRESS: r"\.\w+"}  # of others folders
    return re.compile(f"(?:.*/)?{parts}{files.get(pattern, '/.+')}")


_MOST_SPECIFIC_FIRST = (
    *(OWN_ABLATION, REMEDY, CANDIDATE, RETRAINING, PICKED, LAYER, ATTACK, CHECKPOINT),
    *(TUNING, STRESS),
)


_CHECKPOINT = re.compile(r"[^/]+/[^/]+/[^/]+/seed-\d+/epoch-\d+/.+")


def place_of(path: str) -> dict[str, str | int]:
    """The data set, network, training and so on that a file of the results is about, in the order
    of its folders; seed and epoch are numbers. ValueError where it lies in none of the folders."""
    for pattern in _MOST_SPECIFIC_FIRST:
        if match := _compiled(pattern).fullmatch(str(path)):
            numbers = ("seed", "epoch")
            return {k: int(v) if k in numbers else v for k, v in match.groupdict().items()}
    raise ValueError(f"{path} is no file of a data set, network and training")


def is_checkpoint(path: Path, results: str) -> bool:
    """Whether a file lies in the folder of a checkpoint of the results."""
    try:
        below = path.resolve().relative_to(Path(results).resolve())
    except ValueError:
        return False
    return bool(_CHECKPOINT.fullmatch(str(below)))


def gather(paths: Iterable[str], load: Callable[[str], pd.DataFrame] = load_table) -> pd.DataFrame:
    """One table of many: the rows of each file behind the columns that name its place, where the
    file has not got these itself. load: path -> pandas DataFrame. Without any file, an empty one.
    """
    import pandas as pd  # not while the workflow is parsed

    parts = []
    for path in paths:
        table = load(path)
        for position, (key, value) in enumerate(place_of(path).items()):
            if key not in table:
                table.insert(position, key, value)
        parts.append(table)
    parts = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
