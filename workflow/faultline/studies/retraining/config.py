"""What selective retraining asks of the config."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from faultline.ablation.synaptic import SYNAPTIC_FILTERS
from faultline.base.errors import UserError, nearest
from faultline.config.attacks import chosen_attacks
from faultline.config.fields import (
    UNIQUE,
    Count,
    Draws,
    Epochs,
    Inferred,
    Names,
    OneOf,
    OnlyFor,
    Section,
)
from faultline.config.sense import check_epochs, check_schedules

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class Retraining(Section):
    """Selective retraining and its controls."""

    from_epochs: Epochs = "last"
    epochs: Count = 5
    """Length of the retraining in epochs."""
    by: Literal["layer", "band"] = "layer"
    """Freeze whole layers, or single weights by the class of their pulse band (ours)."""
    score: Literal["S_clean", "S_adv", "S_diff"] = "S_adv"
    """Score whose class decides."""
    filter: Annotated[
        str,
        OneOf(["combined", *SYNAPTIC_FILTERS]),
        OnlyFor("by: layer", lambda section: section.by == "layer"),
    ] = "combined"
    """Which synaptic filter's class decides (by layer only); combined is their mean."""
    attack: Inferred[str] = None
    """Attack of the score, re-crafted unless ablation.target is base; by default the first of
    ablation.attacks."""
    judged_under: Inferred[Names] = None
    """The attacks, re-crafted on each retrained network; by default those of method standard, or
    ablation.attacks where there is none."""
    tests: Annotated[list[Literal["regular", "random"]], UNIQUE] = Field(default_factory=list)
    """What selective is compared with, where these tests were fixed before the run: no others are
    made, and they are corrected over themselves alone (Holm). An empty list makes all
    comparisons (Benjamini-Hochberg)."""
    random_draws: Draws = 3
    """How often the control random draws other layers or bands to freeze."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    retraining = config.retraining
    judges = config.judging_attacks
    chosen_attacks(retraining, "judged_under", config.attacks, where="retraining", default=judges)
    attacks = config.ablation.attacks or []
    if not attacks and retraining.from_epochs and retraining.score != "S_clean":
        raise UserError(
            f"config key ablation.attacks: none is given, but retraining goes by "
            f"{retraining.score}; name one, or set retraining.score to S_clean"
        )
    default = attacks[0] if attacks else "none"
    retraining.attack = retraining.attack or default
    if retraining.attack not in [*attacks, default]:
        raise UserError(
            f"config key retraining.attack: {retraining.attack!r} is not under "
            f"ablation.attacks; {nearest(retraining.attack, attacks)}"
        )
    check_epochs("retraining.from_epochs", retraining.from_epochs, config.trainings)
    config.check_learns("retraining.from_epochs", retraining.from_epochs, "set it to []")
    check_schedules("retraining.from_epochs", retraining.from_epochs, config.trainings)
    filters = config.synaptic_filtering.filters
    if retraining.from_epochs and config.synaptic_filtering.layers == "none":
        raise UserError(
            "config key retraining.from_epochs: retraining needs synaptic_filtering.layers; "
            "choose layers, or set from_epochs to []"
        )
    if retraining.by == "band" and "pulse" not in filters:
        raise UserError(
            "config key retraining.by: band needs the pulse filter; add pulse to "
            "synaptic_filtering.filters or set by to layer"
        )
    if retraining.filter not in [*filters, "combined"]:
        raise UserError(
            f"config key retraining.filter: {retraining.filter!r} is not swept; "
            f"{nearest(retraining.filter, [*filters, 'combined'])}"
        )
