"""What targeting and the remedy ask of the config."""

from typing import TYPE_CHECKING, Literal

from faultline.base.errors import UserError
from faultline.config.attacks import chosen_attacks
from faultline.config.fields import (
    Draws,
    Epochs,
    Inferred,
    Layers,
    Names,
    Permutations,
    Section,
    Share,
    Some,
)
from faultline.config.sense import check_activations, check_epochs, check_layers
from faultline.networks.facts import networks
from faultline.networks.selection import hidden_activations, select_layers

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class Targeting(Section):
    """Adversarial targeting - how much of an attack arrives at each filter, beside its
    fragility."""

    layers: Layers = "first"
    at: Inferred[Literal["output", "activation"]] = None
    """Where a filter's output is read - the layer's own output, or after its normalisation and
    activation; by default activation, but output in networks that torch.fx cannot trace
    (ours)."""
    attacks: Inferred[Some[str]] = None
    """Attacks whose images, crafted on the network, are traced through it; by default
    ablation.attacks. As many images as in ablation.images, of the same split."""
    epochs: Epochs = "all"
    permutations: Permutations = 9999
    """Random assignments that the association with fragility is compared with (ours)."""


class Remedy(Section):
    """The remedy and its controls - amplify fragile filters, compress robust ones (the law is
    ours, see workflow/faultline/studies/fragile/remedy.py)."""

    layers: Layers = "none"
    from_epochs: Epochs = "last"
    strengths: Some[Share] = [0.25, 0.5, 0.75, 1.0]
    """Differences between the largest and the smallest gain to try on the validation split; the
    best one is judged on the test split. 0 (no change) may be among them (ours)."""
    chosen_under: Inferred[Names] = None
    """The attacks, re-crafted on each remedied network, by which the strength is chosen; by
    default those of judged_under but of method standard, or ablation.attacks where there is
    none."""
    judged_under: Inferred[Names] = None
    """The attacks, re-crafted on each remedied network, that judge it; by default those of method
    standard, or ablation.attacks where there is none."""
    random_draws: Draws = 3
    """How often the same fragilities are dealt to the filters at random, as a control."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    targeting, remedy, usual = config.targeting, config.remedy, config.usual_attacks
    check_layers("targeting.layers", targeting.layers, config.networks)
    check_epochs("targeting.epochs", targeting.epochs, config.trainings)
    chosen_attacks(targeting, "attacks", config.attacks, where="targeting", default=usual)
    check_layers("remedy.layers", remedy.layers, config.networks)
    check_epochs("remedy.from_epochs", remedy.from_epochs, config.trainings)
    judges, attacks = config.judging_attacks, config.attacks
    chosen_attacks(remedy, "judged_under", attacks, where="remedy", default=judges)
    cheap = [name for name in remedy.judged_under or [] if not attacks[name].judges]
    chosen_attacks(remedy, "chosen_under", attacks, where="remedy", default=cheap or usual)
    _check_targeting(config)
    _check_gains(config)


def _check_targeting(config: "Config") -> None:
    """Left out, `at` is filled in only where it holds for all networks; see `Plan.targeted_at`."""
    targeting, chosen = config.targeting, config.networks
    if targeting.at == "activation":
        check_activations("targeting.at", targeting.layers, chosen, instead="output")
    elif not any(hidden_activations(network, targeting.layers) for network in chosen):
        targeting.at = targeting.at or "activation"


def _check_gains(config: "Config") -> None:
    for network in config.networks:
        refused = networks()[network].get("no_gain", {})
        for layer in select_layers(network, config.remedy.layers, called=True):
            if layer in refused:
                raise UserError(f"{refused[layer]} (network {network})")
