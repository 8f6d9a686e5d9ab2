"""What stands beside mended weights: how to load them, what they gain and what that costs."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from faultline.base.errors import some

CLIP = '    faultline.clip(network, json.load(open("mended.bounds.json")))'


class Verdict(NamedTuple):
    """What becomes of the mend that validation images chose: handed_back: whether it is; why: what
    is against it, else "". worst, clean: accuracy less the given network's, with the interval over
    test images, paired, in shares."""

    handed_back: bool
    why: str
    worst: tuple[float, float, float]
    clean: tuple[float, float, float]


def note(
    verdict: Verdict | None,
    *,
    candidate: str | None,
    about: str,
    network: str,
    under: str,
    at_chance: Sequence[tuple[float, float, float]],
    n: int,
    confidence: float,
    clean_loss: float,
    bought: pd.DataFrame,
    moments: Sequence[Sequence[float]] | None,
    clipped: bool = False,
) -> str:
    """The text of mended.md.

    under: the attacks or stresses that judge, in words. at_chance: where the given network is at
    chance, (eps, its accuracy, that of the mend) of weaker attacks. moments: mean and std that
    images are normalised by before the network proper; None where they are not. clipped: whether
    outputs of layers are to be kept within bounds, which stand in a file of their own.
    """
    if verdict is None or not verdict.handed_back:
        what = _nothing(bought)
        if verdict:
            what = f"{candidate} was chosen, but is not handed back. {verdict.why}".rstrip(".")
        lines = [
            f"# {network} is not mended",
            "",
            f"Nothing tried mends this network within {100 * clean_loss:g} points of clean "
            f"accuracy: {what}.",
        ]
        return "\n".join(lines) + "\n"
    gain, loss = _points(verdict.worst), _points(verdict.clean)
    lines = [
        f"# {network}, mended by {candidate}",
        "",
        f"{gain} points under the worst of {under}, {loss} points on clean images: minus the given "
        f"network, paired over {n:,} test images that chose nothing, with {confidence:.0%} "
        f"intervals. How: {about}.",
        *(
            f"The given network was at chance; at eps {eps:g} it stands on {100 * given:.1f} %, "
            f"mended on {100 * mended:.1f} %."
            for eps, given, mended in at_chance
        ),
        "",
        "    import torch",
        *(("    import json", "    import faultline") if clipped else ()),
        "    network = ...  # as it was built before",
        '    network.load_state_dict(torch.load("mended.pt", weights_only=True))',
        *((CLIP,) if clipped else ()),
        "",
    ]
    if moments:
        mean, std = (some([f"{value:.6g}" for value in part]) for part in moments)
        lines += [f"What it takes is normalised by mean [{mean}] and std [{std}].", ""]
    return "\n".join(lines)


def _nothing(bought: pd.DataFrame) -> str:
    """What more clean accuracy would buy."""
    gains = bought[bought["candidate"] != ""]
    if not len(gains):
        return "no candidate gains on validation images at any of the budgets that are looked at"
    row = gains.iloc[0]
    return (
        f"with {100 * row['budget']:g} points {row['candidate']} would have "
        f"{100 * row['adversarial']:.1f} % there on validation images"
    )


def _points(values: Sequence[float]) -> str:
    middle, low, high = (f"{100 * value:+.1f}".replace("-", "\u2212") for value in values)
    return f"{middle} [{low}, {high}]"
