"""Which files a run asks for of its rules, and of which places. No torch."""

from collections.abc import Callable, Iterable
from pathlib import Path

from faultline.base.columns import PLACE, RUN
from faultline.run.plan import fill


def outputs(rule, places: list[dict]) -> list[str]:
    """What a run asks for of a rule's jobs at some places: one file of each job, and others that
    are lost. Snakemake looks up every file that it is asked for, which takes it long."""
    files = []
    for first, *others in zip(*(fill(pattern, places) for pattern in rule.output), strict=True):
        files.append(first)
        if others and Path(first).exists():
            files += [file for file in others if not Path(file).exists()]
    return files


def one_of(places: Iterable[dict]) -> Callable[..., bool]:
    """Whether wildcards name the checkpoint of one of the places."""
    checkpoints = {tuple(str(place[key]) for key in PLACE) for place in places}
    return lambda wildcards: tuple(wildcards[key] for key in PLACE) in checkpoints


def several(places: Iterable[dict]) -> bool:
    """Whether any network in any training has more than one of the checkpoints."""
    checkpoints, runs = ({tuple(p[key] for key in of) for p in places} for of in (PLACE, RUN))
    return len(checkpoints) > len(runs)
