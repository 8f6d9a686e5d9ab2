"""Attacks of the config. No torch."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from faultline.attacks.methods import METHODS, method_of
from faultline.base import plugins
from faultline.base.errors import UserError, nearest
from faultline.config.fields import CODE, Epochs, Eps, Inferred, Norm, OneOf, OnlyFor, Section
from faultline.data.sources import Source


def _takes(setting: str) -> Callable[[Any], bool]:
    def fits(attack: "Attack") -> bool:
        return setting in method_of(attack.method).takes

    return fits


class Attack(Section):
    """One attack."""

    method: Annotated[str, CODE, OneOf(METHODS, own=True)]
    """A built-in method, or file.py:function of your own, called as
    workflow/faultline/attacks/own.py does, with (network, images, labels, *, attack, eps, bounds,
    start)."""
    norm: Norm = "linf"
    """Norm of the perturbation that eps bounds; l2 is over all values of an image."""
    eps: float = Field(ge=0, le=10_000)
    """Strength in pixel units (pixels lie in 0..1), everywhere but in the curve over eps_grid.
    Of features and signals, shares of the range that each feature or channel has in the
    training split; of tokens, root mean squares of the weights of their embedding, to whose
    output attacks add (ours)."""
    eps_grid: list[Eps] = Field(default_factory=list)
    """Strengths of the robustness curve."""
    steps: Annotated[
        Inferred[Annotated[int, Field(ge=1, le=100_000)]],
        OnlyFor("methods of several steps", _takes("steps")),
    ] = None
    """Steps along the gradient, of apgd_t and standard for each class that is aimed at; 20 by
    default, of standard 50 (ours)."""
    queries: Annotated[
        Inferred[Annotated[int, Field(ge=1, le=1_000_000)]],
        OnlyFor("methods that search without gradients", _takes("queries")),
    ] = None
    """Points tried at most without a gradient; of square 1,000 by default, of standard 100
    (ours)."""
    step_size: Annotated[
        float | None, OnlyFor("method pgd or one of your own", _takes("step_size"))
    ] = Field(None, gt=0, le=100)
    """Length of a step as a share of eps (pgd only); null means 2.5 / steps (ours)."""
    options: Annotated[
        dict[str, Any],
        OnlyFor("a method of your own", _takes("options")),
    ] = Field(default_factory=dict)
    """Settings of a method of your own; it finds them in attack["options"]."""
    epochs: Inferred[Epochs] = None
    """At which checkpoints of a training its accuracy is measured; by default all, and of
    method standard the last. Where another section names the attack does not depend on it."""
    normalised_units: bool = False
    """eps in units of the normalised input, without clipping. Only to repeat published
    numbers."""

    @property
    def judges(self) -> bool:
        """Whether it is made to be the last word on robustness."""
        return method_of(self.method).judges


def check_attacks(attacks: dict[str, Attack], facts: dict[str, Source]) -> None:
    """UserError where a method does not do what is asked of it; eps_grid is completed."""
    tokens = [name for name, source in facts.items() if source.kind == "token"]
    for name, attack in attacks.items():
        if plugins.is_own(attack.method):
            plugins.check(f"attacks.{name}.method", attack.method)
        norm, norms = attack.norm, method_of(attack.method).norms
        if norm not in norms:
            other = next(m for m, method in METHODS.items() if norm in method.norms)
            raise UserError(
                f"config key attacks.{name}.norm: {attack.method} knows {', '.join(norms)} "
                f"only; use method {other} for {norm}"
            )
        if attack.normalised_units and attack.norm != "linf":
            raise UserError(
                f"config key attacks.{name}.normalised_units: defined for norm linf only; "
                "set it to false or use linf"
            )
        if attack.normalised_units and tokens:
            raise UserError(
                f"config key attacks.{name}.normalised_units: data set {tokens[0]} holds tokens, "
                "which are not normalised; set it to false"
            )
        for key, value in method_of(attack.method).takes.items():
            if key in ("steps", "queries") and getattr(attack, key) is None:
                setattr(attack, key, value)
        if attack.epochs is None:
            attack.epochs = "last" if attack.judges else "all"
        if name == "clean":
            raise UserError(
                "config key attacks.clean: this name means the unattacked images; rename the attack"
            )
        attack.eps_grid = sorted({0.0, float(attack.eps), *map(float, attack.eps_grid)})


def chosen_attacks(
    section: Section, key: str, attacks: dict[str, Attack], *, where: str, default: list[str]
) -> None:
    """Checks, or fills in, a key of a section that holds names of attacks; where: the section's
    name; default: what the key is where it is left out."""
    if getattr(section, key) is None:
        setattr(section, key, [*default])
    for name in getattr(section, key):
        if name not in attacks:
            raise UserError(
                f"config key {where}.{key}: {name!r} is not under attacks; {nearest(name, attacks)}"
            )
