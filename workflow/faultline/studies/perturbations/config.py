"""What internal perturbations ask of the config."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from faultline.base.errors import UserError
from faultline.config.fields import Epochs, Eps, Layers, OneOf, OnlyFor, Section, Share, Some
from faultline.config.sense import check_epochs, check_layers
from faultline.studies.perturbations.kinds import KINDS

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


def _has(**facts: str) -> "Callable[[Perturbations], bool]":
    """Whether any kind of a section is such."""

    def fits(section: "Perturbations") -> bool:
        kinds = [KINDS[kind] for kind in section.kinds]
        return any(all(getattr(kind, k) == v for k, v in facts.items()) for kind in kinds)

    return fits


class Perturbations(Section):
    """Random internal perturbations, one layer at a time (Cheney et al. 2017)."""

    layers: Layers = "none"
    epochs: Epochs = "last"
    kinds: Some[Annotated[str, OneOf(KINDS)]] = [
        "synapse_knockout",
        "node_knockout",
        "gaussian",
        "resample",
    ]
    """Entries become 0; a filter's weights and bias become 0; noise is added; entries get
    values of other entries; entries get one random bit of their float32 flipped (ours); every bit
    flips at a rate, of entries stored in float32 or in int8 (ours)."""
    parameters: Annotated[
        Some[Literal["weight", "bias"]],
        OnlyFor("kinds but node_knockout", _has(of="entries")),
    ] = ["weight", "bias"]
    """Which tensors of a layer, one at a time; node_knockout always takes both together."""
    shares: Annotated[
        list[Share], OnlyFor("kinds but gaussian and bit_faults", _has(strengths="shares"))
    ] = Field([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], min_length=1)
    """Shares of the entries or filters that are perturbed (kinds but gaussian and bit_faults)."""
    sigmas: Annotated[list[Eps], OnlyFor("kind gaussian", _has(strengths="sigmas"))] = Field(
        [
            0.1,
            0.2,
            0.3,
            0.4,
            0.5,
            0.6,
            0.7,
            0.8,
            0.9,
            1.0,
            1.1,
            1.2,
            1.3,
            1.4,
            1.5,
            1.6,
            1.7,
            1.8,
            1.9,
            2.0,
        ],
        min_length=1,
    )
    """Standard deviations of gaussian noise, in those of the tensor itself."""
    rates: Annotated[
        Some[Annotated[float, Field(gt=0, le=0.01)]],
        OnlyFor("kinds bit_faults, bit_faults_int8", _has(strengths="rates")),
    ] = [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
    """Rates at which every bit flips."""
    repeats: int = Field(5, ge=2, le=10_000)
    """Draws of each perturbation (at least 2, for a spread; their number is ours)."""
    almost_chance: float = Field(0.1, ge=0, le=1)
    """Relative performance up to which a network counts as almost at chance (ours)."""
    ends: float = Field(0.34, gt=0, lt=0.5)
    """Share of the depth, from either end, whose layers the rank test compares (about a third;
    ours)."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    perturbations = config.perturbations
    check_layers("perturbations.layers", perturbations.layers, config.networks)
    check_epochs("perturbations.epochs", perturbations.epochs, config.trainings)
    for key in ("shares", "sigmas", "rates"):
        values = sorted(set(map(float, getattr(perturbations, key))))
        setattr(perturbations, key, values)
        if not values[-1]:
            raise UserError(f"config key perturbations.{key}: only 0; add what is to be tried")
