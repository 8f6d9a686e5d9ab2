"""What mending asks of the config."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.inputs import one_of
from faultline.config.attacks import chosen_attacks
from faultline.config.fields import (
    CODE,
    Count,
    Epochs,
    Inferred,
    Names,
    OneOf,
    OnlyFor,
    Section,
    Share,
    Some,
)
from faultline.config.sense import check_epochs
from faultline.studies.mending.candidates import CANDIDATES, name_of
from faultline.studies.mending.names import CHOSEN, GIVEN

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


FAULTS = ("bit_faults", "bit_faults_int8")
"""Kinds of perturbation that a mend may be to hold under."""


def _faulty(section: "Mending") -> bool:
    return bool(section.faults)


class Mending(Section):
    """Mending - from each checkpoint other weights that hold under attack, chosen on validation
    images and judged on test images against the network that was given."""

    from_epochs: Epochs = Field(default_factory=list)
    candidates: Annotated[
        Literal["all"] | Some[Annotated[str, OneOf((*CANDIDATES,), own=True)]], CODE
    ] = ["harden"]
    """Ways to mend (docs/methods.md), or all that are built in; file.py:function is one of your
    own, called with (network, dataset, settings)."""
    epochs: Count = 5
    """Length of the training of each candidate in epochs."""
    rates: Some[Annotated[float, Field(gt=0, le=1000)]] = [0.003, 0.01]
    """Learning rates (Adam) that each candidate is trained with; validation images choose."""
    batch_size: int = Field(50, ge=2, le=1_000_000)
    """Images per training step."""
    shares: Some[Annotated[float, Field(gt=0, le=1)]] = [0.25, 0.5, 0.75, 1]
    """Shares of the way from the given weights to the candidate's that are tried, statistics of
    BatchNorm measured anew at each."""
    clean_loss: Share = 0.05
    """Largest loss of clean accuracy, as a share of images, that a mend may cost."""
    swept: bool = True
    """Whether the layers of mended networks are swept as well, so that the fault map shows them
    before and after; needs synaptic_filtering.layers."""
    under: Names = Field(default_factory=list)
    """Stresses that the mend is to hold under in place of attacks: candidates are trained on images
    as they are and under them, and an image counts where it is right under each of them, at each
    of its severities (ours). Or bit_faults, bit_faults_int8: bits of weights that flip, as of
    perturbations.kinds, where an image counts that is right under each draw (ours)."""
    fault_rate: Annotated[
        float, Field(gt=0, le=0.01), OnlyFor("under bit_faults, bit_faults_int8", _faulty)
    ] = 1e-4
    """Rate at which every bit flips."""
    fault_draws: Annotated[Count, OnlyFor("under bit_faults, bit_faults_int8", _faulty)] = 20
    """Draws of these flips."""
    judged_under: Inferred[Names] = None
    """The attacks, crafted on each network and shown to all others too, that judge where `under`
    names no stresses; by default
    those of method standard, or ablation.attacks where there is none. The first is hardened
    against, and in a quick form chooses."""

    @property
    def stresses(self) -> list[str]:
        """Those of the inputs that a mend is to hold under."""
        return [name for name in self.under if name not in FAULTS]

    @property
    def faults(self) -> dict[str, Any]:
        """The fields of `faults.Faults`, if it is to hold under any."""
        kinds = [name for name in self.under if name in FAULTS]
        if not kinds:
            return {}
        return {"kinds": kinds, "rate": self.fault_rate, "draws": self.fault_draws}

    @property
    def by_class(self) -> set[str]:
        """The units by whose classes candidates go."""
        chosen = CANDIDATES if self.candidates == "all" else self.candidates
        units = {CANDIDATES[name].by_class for name in chosen if name in CANDIDATES}
        return units - {""} if self.from_epochs else set()


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    mending = config.mending
    judges = config.judging_attacks
    if mending.under and mending.judged_under:
        raise UserError(
            "config key mending.judged_under: is for a mend under attacks, not under stresses "
            "(mending.under); leave one of them out"
        )
    default = [] if mending.under else judges
    chosen_attacks(mending, "judged_under", config.attacks, where="mending", default=default)
    for name in mending.under:
        one_of(name, [*config.stresses, *FAULTS], "config key mending.under")
    if mending.stresses and mending.faults:
        raise UserError(
            f"config key mending.under: {mending.stresses[0]} is a stress of the inputs, and "
            f"{mending.faults['kinds'][0]} of the weights; mend for one of them at a time"
        )
    of = {"stresses": bool(mending.stresses), "faults": bool(mending.faults)}
    check_epochs("mending.from_epochs", mending.from_epochs, config.trainings)
    if mending.candidates == "all":
        mending.candidates = [
            name
            for name, candidate in CANDIDATES.items()
            if candidate.fits(**of) and not (candidate.trains and config.untrained)
        ]
    names = [name_of(name) for name in mending.candidates]
    for name, called in zip(mending.candidates, names, strict=True):
        if plugins.is_own(name):
            plugins.check("mending.candidates", name)
        if names.count(called) > 1 or called in (GIVEN, CHOSEN):
            raise UserError(
                f"config key mending.candidates: {called!r} names two networks; rename a function"
            )
    for name in mending.candidates:
        if name in CANDIDATES and not CANDIDATES[name].fits(**of):
            attacks = CANDIDATES[name].attacks
            alone = "attacks alone, not under stresses" if attacks else "bit_faults alone"
            raise UserError(
                f"config key mending.candidates: {name} is against {alone} (mending.under); leave "
                "it out"
            )
    if not mending.from_epochs:
        return
    still = [name for name, of in CANDIDATES.items() if not of.trains]
    for name in mending.candidates:
        if name in CANDIDATES and CANDIDATES[name].trains:
            instead = f"choose of {', '.join(still)}, or set mending.from_epochs to []"
            config.check_learns("mending.candidates", f"{name} learns", instead)
    if not (mending.judged_under or mending.under):
        raise UserError("config key mending.judged_under: needs an attack; name one")
    for name in mending.judged_under or ():
        attack = config.attacks[name]
        if attack.normalised_units or plugins.is_own(attack.method):
            raise UserError(
                f"config key mending.judged_under: {name} has "
                + ("no pixel units" if attack.normalised_units else "a method of your own")
                + "; name an attack to harden against with a built-in method and eps in pixels"
            )
        if not attack.eps:
            raise UserError(f"config key mending.judged_under: {name} has eps 0; raise it")
    swept = {"layers": "synaptic_filtering", "filters": "nodal_dropout"}
    for units, section in swept.items():
        if units in mending.by_class and getattr(config, section).layers == "none":
            names = [name for name, of in CANDIDATES.items() if of.by_class == units]
            raise UserError(
                f"config key mending.candidates: by the classes of {units}, which need "
                f"{section}.layers, go {' and '.join(names)}; choose layers, or leave these out"
            )
