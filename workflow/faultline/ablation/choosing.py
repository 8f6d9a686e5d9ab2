"""Which images of a split to judge ablated networks on, where not all: those near a boundary more
often, as their predictions change first (ours)."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from faultline.base.sampling import Strata

POWER = 1.0
"""An image is expected to change its correctness in proportion to its rank by margin to the power
of minus this: between one rate for all (0) and few images alone."""

STRATA = 12
"""At most."""

PER_STRATUM = 20
"""Images drawn from each at least, where there are so many."""


class Chosen(NamedTuple):
    """index: int [n], the images that were drawn, ascending; strata: what they stand for."""

    index: np.ndarray  # type: ignore[assignment]  # not the method of a tuple
    strata: Strata


def margins(logits: Tensor, labels: Tensor) -> np.ndarray:
    """How far each image is from another answer to the question whether it is classified
    correctly, [n]: the distance of its label's logit from the largest other one."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(1, keepdim=True)
    return (own - others).abs().nan_to_num(nan=np.inf)[:, 0].cpu().numpy()


def expected_changes(margins: dict[str, np.ndarray]) -> np.ndarray:
    """How often each of N images is expected to change, [N], relative: mean over image sets.

    margins: image set -> [N]; by rank, so that neither their scale nor that of an effect matters.
    """
    ranks = [(np.argsort(np.argsort(m, kind="stable")) + 0.5) / len(m) for m in margins.values()]
    expected: np.ndarray = np.mean([rank**-POWER for rank in ranks], axis=0)
    return expected


def choose(expected: np.ndarray, count: int, *, seed: int) -> Chosen:
    """`count` of N images, or all if they are no more, by strata.

    The best number to draw from a stratum is in proportion to its size and the root of its rate of
    changes (Neyman 1934). So the images in the order of expected changes are cut where equally much
    of that root is between the cuts, and as many are drawn from each stratum: each has its floor. A
    stratum that is smaller is drawn whole, and the others share what it leaves.
    """
    count = min(count, len(expected))
    strata = max(min(STRATA, count // PER_STRATUM), 1)
    order = np.argsort(-expected, kind="stable")
    root = np.sqrt(expected[order])
    middle = (np.cumsum(root) - root / 2) / root.sum()
    stratum = np.empty(len(expected), int)
    stratum[order] = np.minimum((middle * strata).astype(int), strata - 1)
    sizes = np.bincount(stratum, minlength=strata)
    rng = np.random.default_rng(seed)
    taken: list[np.ndarray] = []
    for size, h in sorted(zip(sizes, range(strata), strict=True)):  # the smallest first
        left = strata - len(taken)
        share = (count - sum(map(len, taken))) // left
        taken.append(rng.choice(np.flatnonzero(stratum == h), min(share, size), replace=False))
    index = np.sort(np.concatenate(taken))
    return Chosen(index, Strata(stratum[index], sizes))
