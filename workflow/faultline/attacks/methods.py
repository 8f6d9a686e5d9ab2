"""The attacks by their names in the config: an entry of `METHODS` each, and what it does.

An attack stands in this file alone. No torch before one is run: a workflow that is parsed reads the
names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from faultline.attacks.ascent import Ball
    from faultline.data.splits import Bounds


class Perturb(Protocol):
    """What an attack does with one batch.

    images [n, ...] and their labels [n] -> adversarial images in the ball around each.
    """

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        """The adversarial images."""


@dataclass(frozen=True)
class Batch:
    """How a batch is attacked.

    start: what is added to the images first, in pixel units: drawn from the ball, or 0 for a method
    that is not random. seed: of what else is drawn, the same for each batch. after: called with the
    name of a part of the attack, and which images [n] are classified correctly after it.
    """

    attack: Attack
    ball: Ball
    start: Tensor
    seed: int
    after: Callable[[str, Tensor], object] | None = None


@dataclass(frozen=True)
class Method:
    """A method of attack.

    strength: at one norm and eps, a method of more strength should leave no more accuracy; None
    where nothing is claimed. perturb: what it does. norms: those that it can hold to. takes: the
    keys of the config, of those that not every attack has, that it makes use of -> what they are
    where they are left out; None where that is up to the method. one_step: whether it takes the
    gradient once. random: whether it starts at random. judges: whether it is made to be the last
    word on robustness.
    """

    strength: int | None
    perturb: Perturb
    norms: tuple[str, ...] = ("linf", "l2")
    takes: Mapping[str, Any] = field(default_factory=dict)
    one_step: bool = False
    random: bool = True
    judges: bool = False


def _fgsm(network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.ascent import fgsm

    return fgsm(network, images, labels, ball=batch.ball)


def _pgd(network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.ascent import pgd

    of, ball, start = batch.attack, batch.ball, batch.start
    size = of.step_size
    return pgd(network, images, labels, ball=ball, start=start, steps=of.steps, step_size=size)


def _apgd(network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.ascent import apgd

    of, ball, start = batch.attack, batch.ball, batch.start
    until = of.until_fooled
    return apgd(network, images, labels, ball=ball, start=start, steps=of.steps, until_fooled=until)


def _apgd_t(network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.standard import apgd_t

    steps = batch.attack.steps
    return apgd_t(network, images, labels, ball=batch.ball, start=batch.start, steps=steps)


def _square(network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.square import square

    queries = batch.attack.queries
    return square(network, images, labels, ball=batch.ball, queries=queries, seed=batch.seed)


def _standard(network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.standard import standard

    return standard(
        network,
        images,
        labels,
        ball=batch.ball,
        steps=batch.attack.steps,
        queries=batch.attack.queries,
        start=batch.start,
        seed=batch.seed,
        after=batch.after,
    )


METHODS = {
    "fgsm": Method(strength=0, perturb=_fgsm, norms=("linf",), one_step=True, random=False),
    "pgd": Method(strength=1, perturb=_pgd, takes={"steps": 20, "step_size": None}),
    "apgd": Method(strength=2, perturb=_apgd, takes={"steps": 20}),
    "apgd_t": Method(strength=None, perturb=_apgd_t, takes={"steps": 20}),
    "square": Method(strength=None, perturb=_square, takes={"queries": 1000}, random=False),
    "standard": Method(
        strength=3, perturb=_standard, takes={"steps": 50, "queries": 100}, judges=True
    ),
}

SETTINGS = (
    *("method", "norm", "eps", "eps_grid", "steps", "queries", "step_size", "normalised_units"),
    "options",
)
"""The keys of a built-in attack."""


def method_of(name: str | None) -> Method:
    """The method of a name in the config; UserError for one that there is not.

    Of a function of the user's own nothing is known, and it may take every setting.
    """
    if plugins.is_own(name):
        perturb = partial(_own, str(name))
        takes: dict[str, Any] = {"steps": 20, "step_size": None, "options": {}}
        return Method(strength=None, perturb=perturb, takes=takes)
    if name not in METHODS:
        raise UserError(f"attack: method is {name!r}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def _own(function: str, network: nn.Module, images: Tensor, labels: Tensor, batch: Batch) -> Tensor:
    from faultline.attacks.own import perturbed

    return perturbed(
        function,
        network,
        images,
        labels,
        settings=batch.attack.settings,
        ball=batch.ball,
        start=batch.start,
    )


def weakest_first(attacks: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """(attacks of known strength, the weakest first; the others, in the order given).

    attacks: name -> its settings in the config. Those of one method keep their order.
    """
    strengths = {name: method_of(attack["method"]).strength for name, attack in attacks.items()}
    ordered = {name: strength for name, strength in strengths.items() if strength is not None}
    return sorted(ordered, key=ordered.__getitem__), [n for n in strengths if n not in ordered]


def one_step(attacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The attacks that take the gradient once; attacks: see `weakest_first`."""
    return [name for name, attack in attacks.items() if method_of(attack["method"]).one_step]


class AttackKeywords(TypedDict, total=False):
    """What `Attack.of` takes beside the settings of the config."""

    bounds: Bounds
    std: Sequence[float] | Tensor | None
    eps: float
    eps_grid: Sequence[float]
    until_fooled: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Attack:
    """An attack whose settings have been checked.

    method: the name in the config, or "file.py:function" of the user's own. norm: "linf" or "l2".
    steps, queries, of what takes them. step_size: a share of eps; None: what the method takes by
    default.
    eps, eps_grid: in pixel units; of tokens, in units of the root mean square of the weights of
    their embedding, to whose output the attack adds, without bounds (see `attacks.space`).
    bounds, std [channels]: of the data.
    normalised_units: eps is in units of the input divided by its std, and bounds do not apply: only
    to repeat the notebook of Pravin et al. 2024.
    until_fooled: APGD leaves an image as soon as it is misclassified, for who asks no more; other
    attacks go on as they are defined (apgd_t, square and standard leave it always).
    settings: all that was given, for a function of the user's own.
    """

    method: str
    bounds: Bounds
    norm: str = "linf"
    steps: int = 0
    queries: int = 0
    step_size: float | None = None
    eps: float = 0.0
    eps_grid: Sequence[float] = ()
    std: Sequence[float] | Tensor | None = None
    normalised_units: bool = False
    until_fooled: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for eps in (self.eps, *self.eps_grid):
            check_number(eps, "attack: eps")

    @classmethod
    def of(cls, settings: Attack | Mapping[str, Any], **keywords: Unpack[AttackKeywords]) -> Attack:
        """The attack of settings as in the config, or another attack with what is said beside it.

        Of settings, bounds must be said, and eps where they hold none. UserError where settings are
        unknown, clash or make no sense.
        """
        if isinstance(settings, Attack):
            return replace(settings, **keywords)
        name = settings.get("method")
        method, own = method_of(name), plugins.is_own(name)
        for key in () if own else settings:
            one_of(key, SETTINGS, "attack: a key")
        settings = {"norm": "linf", **settings}
        if settings["norm"] not in method.norms:
            raise UserError(
                f"attack: norm is {settings['norm']!r}; choose one of {', '.join(method.norms)} "
                f"with method {name}"
            )
        counts = {"steps": settings.get("steps") or 0 if own else 0, "queries": 0}
        for key in () if own else counts.keys() & method.takes.keys():
            counts[key] = settings.get(key) or 0
            if settings.get(key) is None:
                if not method.judges:
                    raise UserError(f"attack: method {name} needs the key {key}; add it")
                counts[key] = method.takes[key]
            check_count(counts[key], f"attack: {key}")
        if not own and settings.get("step_size") is not None:
            check_number(settings["step_size"], "attack: step_size", open=True)
        if settings.get("normalised_units") and settings["norm"] != "linf":
            raise UserError("attack: normalised_units needs norm linf; change one of the two")
        if "bounds" not in keywords:
            raise UserError("attack: needs the bounds of the data; give None where there are none")
        if "eps" not in {*settings, *keywords}:
            raise UserError("attack: needs the key eps; add it")
        if settings.get("normalised_units"):
            keywords["bounds"] = None
        attack = cls(
            method=str(name),
            bounds=None,
            norm=settings["norm"],
            steps=counts["steps"],
            queries=counts["queries"],
            step_size=settings.get("step_size"),
            eps=settings.get("eps", 0.0),
            eps_grid=settings.get("eps_grid") or (),
            normalised_units=bool(settings.get("normalised_units")),
            settings=settings,
        )
        return replace(attack, **keywords)
