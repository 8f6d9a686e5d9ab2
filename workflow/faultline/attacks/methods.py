"""The methods of attack by their names in the config: what is known without running them. No torch.

`attacks.craft` holds what they do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from faultline.base import plugins
from faultline.base.errors import UserError


@dataclass(frozen=True)
class Method:
    """What is known of a method.

    strength: at one norm and eps, a method of more strength should leave no more accuracy; None
    where nothing is claimed. norms: those that it can hold to. needs: the settings that an attack
    must hold. one_step: whether it takes the gradient once. random: whether it starts at random.
    """

    strength: int | None
    norms: tuple[str, ...] = ("linf", "l2")
    needs: tuple[str, ...] = ()
    one_step: bool = False
    random: bool = True


METHODS = {
    "fgsm": Method(strength=0, norms=("linf",), one_step=True, random=False),
    "pgd": Method(strength=1, needs=("steps",)),
    "apgd": Method(strength=2, needs=("steps",)),
}

SETTINGS = (
    *("method", "norm", "eps", "eps_grid", "steps", "step_size", "normalised_units", "options"),
)
"""The keys of a built-in attack."""

OWN = Method(strength=None)
"""A function of the user's own, of which nothing is known."""


def method_of(name: str | None) -> Method:
    """The method of a name in the config; UserError for one that there is not."""
    if plugins.is_own(name):
        return OWN
    if name not in METHODS:
        raise UserError(f"attack: method is {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def weakest_first(attacks: Mapping[str, Mapping]) -> tuple[list[str], list[str]]:
    """(attacks of known strength, the weakest first; the others, in the order given).

    attacks: name -> its settings in the config. Those of one method keep their order.
    """
    methods = {name: method_of(attack["method"]) for name, attack in attacks.items()}
    known = [name for name, method in methods.items() if method.strength is not None]
    known.sort(key=lambda name: methods[name].strength)
    return known, [name for name in methods if name not in known]


def one_step(attacks: Mapping[str, Mapping]) -> list[str]:
    """The attacks that take the gradient once; attacks: see `weakest_first`."""
    return [name for name, attack in attacks.items() if method_of(attack["method"]).one_step]
