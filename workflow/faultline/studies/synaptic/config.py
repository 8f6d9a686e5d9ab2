"""What synaptic filtering and nodal dropout ask of the config."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from faultline.ablation.synaptic import SYNAPTIC_FILTERS
from faultline.base.errors import UserError
from faultline.config.fields import Count, Layers, OneOf, OnlyFor, Section, Some
from faultline.config.sense import check_activations, check_layers

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class SynapticFiltering(Section):
    """Removing the weights of a layer by their value (Pravin et al. 2024)."""

    layers: Layers = "all"
    filters: Some[Annotated[str, OneOf(SYNAPTIC_FILTERS)]] = ["high_pass", "low_pass", "pulse"]
    """Remove the weights below a threshold (high_pass), above it (low_pass), or in a band
    (pulse)."""
    thresholds: int = Field(25, ge=2, le=100_000)
    """Thresholds of each sweep, equally spaced over the range of the layer's weights."""
    layers_per_job: Count = 1
    """Layers per job; their files are the same, and one that is missing is made with the others
    of its job. Above 1, the rules are named after the networks, as in
    ablate_layers_resnet50_1."""
    random_draws: int = Field(3, ge=0, le=1000)
    """How often weights of the same layer are drawn at random and as many removed, for
    scores.baseline random and to compare with (ours), anew for each part of the images (of 50 or
    more, ten at most); at least 2, as one draw tells nothing of their spread, or 0, which leaves
    it out."""
    all_layers: bool = Field(True, alias="global")
    """Also sweep all layers at once, over one range."""
    global_range: Annotated[
        list[Annotated[float, Field(ge=-1_000_000, le=1_000_000)]] | None,
        OnlyFor("global: true", lambda section: section.all_layers),
    ] = Field(None, min_length=2, max_length=2)
    """The range of the global sweep; null is the smallest to the largest weight (ours)."""


class NodalDropout(Section):
    """Removing filters one at a time (Pravin et al. 2021)."""

    layers: Layers = "first"
    at: Literal["weights", "activation"] = "weights"
    """Zero a filter's weights and bias, or its output after normalisation and activation."""
    filters_per_job: Count = 1024
    """Filters per job; what a job shares between them is computed once in it."""


class Scores(Section):
    """How scores and their intervals are computed from what ablations left."""

    baseline: Literal["unfiltered", "kept_fraction", "random"] = "random"
    """What a filtered layer is compared with - the unfiltered network, the share of the weights
    that is kept, or what is left when as many weights of the layer, drawn at random, are
    removed (ours)."""
    integration: Literal["trapezoid", "simpson"] = "trapezoid"
    """Rule for the integral over the thresholds."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of all intervals; 1 less it is the level of all tests."""


class Tau(Section):
    """Per score."""

    S_clean: float = Field(0.1, ge=0, le=10)
    """Of the score on clean images."""
    S_adv: float = Field(0.1, ge=0, le=10)
    """Of the score on attacked images."""
    S_diff: float = Field(0.1, ge=0, le=10)
    """Of their difference."""


class Taus(Section):
    """Half-width of "robust", per kind of unit and score (ours)."""

    layers: Tau = Tau(S_clean=0.1, S_adv=0.1, S_diff=0.1)
    """Of whole layers."""
    filters: Tau = Tau(S_clean=0.01, S_adv=0.01, S_diff=0.01)
    """Of single filters."""
    bands: Tau = Tau(S_clean=0.05, S_adv=0.05, S_diff=0.05)
    """Of pulse bands of a layer's weights."""


class Classes(Section):
    """What counts as fragile, robust or antifragile."""

    tau: Taus = Field(default_factory=Taus)
    """Half-width of "robust", per kind of unit and score (ours)."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    filtering, dropout = config.synaptic_filtering, config.nodal_dropout
    check_layers("synaptic_filtering.layers", filtering.layers, config.networks)
    check_layers("nodal_dropout.layers", dropout.layers, config.networks)
    if dropout.at == "activation":
        chosen = config.networks
        check_activations("nodal_dropout.at", dropout.layers, chosen, instead="weights")
    limits = filtering.global_range
    if limits and not limits[0] < limits[1]:
        raise UserError(
            f"config key synaptic_filtering.global_range: {limits} does not go up; "
            "expected [low, high]"
        )
    draws = filtering.random_draws
    if config.scores.baseline == "random" and draws < 2:
        raise UserError(
            "config key scores.baseline: random needs synaptic_filtering.random_draws of at least "
            "2; raise it, or choose unfiltered or kept_fraction"
        )
    if draws == 1:
        raise UserError(
            "config key synaptic_filtering.random_draws: one draw tells nothing of the spread over "
            "draws; expected at least 2, or 0 to leave them out"
        )
