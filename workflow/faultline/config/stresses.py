"""Stresses of inputs in the config. No torch."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field

from faultline.base import plugins
from faultline.base.errors import UserError, nearest
from faultline.config.fields import CODE, Epochs, OneOf, OnlyFor, Section, Severity, Some
from faultline.config.sense import check_epochs
from faultline.config.trainings import Training
from faultline.data.sources import Source
from faultline.stresses.registry import COLOURS, STRESSES


class Stress(Section):
    """One stress of the test images, the same for every network."""

    kind: Annotated[str, CODE, OneOf(STRESSES, own=True)]
    """A built-in kind (docs/methods.md), or file.py:function of your own, called with (inputs,
    severity, seed) and the options."""
    severities: Some[Severity] = [1, 3, 5]
    """How severe it is, 1 to 5."""
    epochs: Epochs = "last"
    options: Annotated[
        dict[str, Any],
        OnlyFor("a kind of your own", lambda stress: plugins.is_own(stress.kind)),
    ] = Field(default_factory=dict)
    """Settings of a kind of your own, which it is called with by their names."""


def check_stresses(
    stresses: dict[str, Stress],
    facts: dict[str, Source],
    trainings: dict[str, Training],
    *,
    swept: Mapping[str, int],
    further: Collection[str],
    attacks: Collection[str],
) -> None:
    """UserError where a kind is nothing for a data set, an epoch is no checkpoint, a name is that
    of an attack or of a further test set, or there is nothing to sweep under. swept:
    `ablation.stresses`; further: the names of these sets."""
    for name, severity in swept.items():
        key = f"config key ablation.stresses.{name}"
        if name not in stresses:
            raise UserError(f"{key}: is not under stresses; {nearest(name, stresses)}")
        if severity not in stresses[name].severities:
            raise UserError(
                f"{key}: {severity} is none of stresses.{name}.severities; "
                f"{nearest(severity, stresses[name].severities)}"
            )
    for name, stress in stresses.items():
        key = f"config key stresses.{name}"
        check_epochs(f"stresses.{name}.epochs", stress.epochs, trainings)
        stress.severities = sorted(stress.severities)
        if name == "clean" or name in (*attacks, *further):
            what = "the inputs as they are" if name == "clean" else "an attack"
            what = f"a test set (datasets.*.also.{name})" if name in further else what
            raise UserError(f"{key}: this name means {what}; rename the stress")
        if plugins.is_own(stress.kind):
            plugins.check(f"stresses.{name}.kind", stress.kind)
            continue
        of = STRESSES[stress.kind]
        for dataset, source in facts.items():
            fitting = [kind for kind, other in STRESSES.items() if source.kind in other.kinds]
            if source.kind not in of.kinds:
                raise UserError(
                    f"{key}.kind: {stress.kind} is for {' and '.join(of.kinds)}s, and data set "
                    f"{dataset} holds {source.kind}s; take {', '.join(fitting)}, or leave it out"
                )
            if of.colour and source.shape[0] != COLOURS:
                raise UserError(
                    f"{key}.kind: {stress.kind} needs red, green and blue, and images of "
                    f"{dataset} have {source.shape[0]} channel(s); leave it out"
                )
