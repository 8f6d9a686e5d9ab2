"""What the referee asks of the config."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from faultline.base import plugins
from faultline.base.columns import CONTROL, MATCHED, policy_of
from faultline.base.errors import UserError, nearest
from faultline.base.inputs import one_of
from faultline.config.attacks import chosen_attacks
from faultline.config.fields import (
    CODE,
    UNIQUE,
    Count,
    Draws,
    Epochs,
    Images,
    Inferred,
    Layers,
    Names,
    OneOf,
    Permutations,
    Section,
    Share,
    Some,
)
from faultline.config.sense import check_epochs, check_layers, check_schedules
from faultline.data.describe import ENOUGH
from faultline.studies.criteria.names import (
    BUILTIN,
    EARLIER,
    LABELS,
    OPPOSITE,
    name_of,
    shift_of,
)
from faultline.training.registry import RECIPES

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class Use(Section):
    """What each criterion picks is trained on while all else is frozen, and judged on all test
    images beside as many parameters of random layers."""

    recipes: Names = Field(default_factory=list)
    """Recipes to train on with, as of trainings.*.recipe but at-fgsm; behind an @ the shift of the
    data that are trained and judged on - standard@fog under that stress of the config, at the
    highest of its severities, standard@labels with the labels in reverse order (ours). An empty
    list switches it off."""
    methods: Inferred[Names] = None
    """The criteria whose picks are trained, by their names in tables; by default all of
    criteria.methods but random."""
    lowest: Names = [name for name, of in (BUILTIN | EARLIER).items() if of.lowest]
    """Criteria whose lowest scores are picked, as their authors do; of the others the highest
    are."""
    opposite: Names = Field(default_factory=list)
    """Criteria of which the other end is picked as well, as NAME_opposite."""
    share: float = Field(0.2, gt=0, lt=1)
    """Share of the parameters of all layers that is picked, to half a filter (ours)."""
    epochs: Count = 2
    """Length of the training in epochs."""
    random_draws: Draws = 3
    """How often the control draws layers at random."""
    matched_draws: int = Field(0, ge=0, le=1000)
    """How often a second control, matched, draws layers that lie as deep, on average, as those of
    the first of methods (ours)."""
    tests: Annotated[Names, UNIQUE] = Field(default_factory=list)
    """What the first of methods is compared with under attack, where these tests were fixed before
    the run: random, matched, none, full, or other picks. They are corrected over themselves alone
    (Holm), in a table of their own."""
    interpolations: Some[Share] = [1]
    """Shares of the way from before to after; the one with the highest accuracy on validation
    images, mean of clean and under criteria.attack, is judged. 1 alone chooses nothing."""
    judged_under: Inferred[Names] = None
    """The attacks, re-crafted on each network; by default those of method standard, or
    criteria.judged_under where there is none."""

    @property
    def picks(self) -> list[str]:
        """What is trained: what each criterion picks, and before these the controls."""
        random, matched = (
            [f"{name}-{draw}" for draw in range(draws)]
            for name, draws in ((CONTROL, self.random_draws), (MATCHED, self.matched_draws))
        )
        other = [f"{name}{OPPOSITE}" for name in self.opposite]
        return ["none", "full", *random, *matched, *(self.methods or []), *other]

    def ranked(self, pick: str) -> dict[str, str | bool]:
        """By which criterion a pick goes, if by any, and whether by its lowest scores."""
        methods = self.methods or []
        name = methods[0] if policy_of(pick) == MATCHED else pick.removesuffix(OPPOSITE)
        lowest = (name in self.lowest) != (pick in [f"{name}{OPPOSITE}" for name in self.opposite])
        there = name in methods
        return {"criterion": name if there else "", "lowest": lowest and there}


class Criteria(Section):
    """The referee - which criterion finds the layers and filters that matter. What each says of
    validation images is held against the accuracy lost on test images when they are removed
    whole."""

    methods: Annotated[list[Annotated[str, OneOf(["all", *BUILTIN], own=True)]], UNIQUE, CODE] = (
        Field(default_factory=list)
    )
    """The criteria (docs/methods.md); all stands for every built-in one, and file.py:function
    for one of your own, called with (network, data). What other studies say of validation
    images joins them by itself. An empty list switches the study off."""
    layers: Layers = "all"
    epochs: Epochs = "last"
    images: Images | None = None
    """Of the validation split that criteria see; all if left out."""
    attack: Inferred[str] = None
    """Attack of those criteria that go by attacked images; by default the first of
    ablation.attacks."""
    draws: Draws = 3
    """How often rerandomisation draws a layer anew (ours)."""
    filters: int | None = Field(None, ge=3, le=1_000_000)
    """At most so many filters of each layer are removed one by one, and compared, drawn alike
    in every seed; all if left out."""
    judged_on: Images | None = None
    """Test images on which the accuracy lost is measured; all if left out."""
    judged_under: Inferred[Names] = None
    """The attacks, re-crafted on each network without the unit; by default ablation.attacks."""
    top_share: float = Field(0.25, gt=0, le=1)
    """Share of the units that top-k precision looks at, at least one (ours)."""
    permutations: Permutations = 9999
    """Random assignments of scores to units that predictions are compared with (ours)."""
    use: Use = Field(default_factory=Use)
    """What each criterion picks is trained on while all else is frozen, and judged on all test
    images beside as many parameters of random layers."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    section, attacks = config.criteria, config.attacks
    usual = config.usual_attacks
    chosen_attacks(section, "judged_under", attacks, where="criteria", default=usual)
    under = config.judges or section.judged_under or []
    chosen_attacks(section.use, "judged_under", attacks, where="criteria.use", default=under)
    section.attack = section.attack or (config.ablation.attacks or sorted(attacks))[0]
    unfit = _unfit(config, facts)
    if "all" in section.methods:
        builtin = [name for name, of in BUILTIN.items() if not (of.moves_pixels and unfit)]
        others = [n for n in section.methods if n not in ("all", *builtin)]
        section.methods = [*builtin, *others]
    names = [name_of(method) for method in section.methods]
    if section.use.methods is None:
        section.use.methods = [name for name in names if name != "random"]
    if not section.methods:
        return
    config.check_learns("criteria.use.recipes", section.use.recipes, "set it to []")
    if section.attack not in attacks:
        raise UserError(
            f"config key criteria.attack: {section.attack!r} is not under attacks; "
            f"{nearest(section.attack, attacks)}"
        )
    for name, of in BUILTIN.items():
        if unfit and of.moves_pixels and name in section.methods:
            raise UserError(f"config key criteria.methods: {name} {unfit}; leave it out")
    check_layers("criteria.layers", section.layers, config.networks)
    check_epochs("criteria.epochs", section.epochs, config.trainings)
    taken = BUILTIN | EARLIER
    for method in filter(plugins.is_own, section.methods):
        plugins.check("criteria.methods", method)
        if name_of(method) in taken or names.count(name_of(method)) > 1:
            raise UserError(
                f"config key criteria.methods: two criteria would be called {name_of(method)}; "
                "rename yours"
            )
    for name, dataset in config.datasets.items():
        count = dataset.validation
        if count is not None and count < ENOUGH:
            raise UserError(
                f"config key datasets.{name}.validation: {count} images are too few for criteria; "
                f"give at least {ENOUGH}"
            )
    if section.use.recipes:
        _check_use(config, names)


def _check_use(config: "Config", names: list[str]) -> None:
    section, key = config.criteria, "config key criteria.use"
    for written in section.use.recipes:
        recipe, shift = shift_of(written)
        one_of(recipe, [name for name in RECIPES if name != "at-fgsm"], f"{key}.recipes")
        if shift is not None:
            one_of(shift, [LABELS, *config.stresses], f"{key}.recipes: {written}")
        elif "@" in written:
            raise UserError(f"{key}.recipes: {written!r}: no shift behind the @; name one")
    layerwise = [name for name, of in EARLIER.items() if of.layers]
    scoring = [name for name in (*names, *layerwise) if name != "random"]
    methods = section.use.methods or []
    scores = {"methods": scoring, "lowest": [*BUILTIN, *scoring], "opposite": methods}
    for listed, there in scores.items():
        for name in getattr(section.use, listed):
            if name not in there:
                raise UserError(
                    f"{key}.{listed}: {name!r} scores no layers here (criteria.methods); "
                    f"{nearest(name, there)}"
                )
    made = [*dict.fromkeys(policy_of(pick) for pick in section.use.picks)]
    for name in section.use.tests:
        if name not in made or name == methods[0]:
            others = [other for other in made if other not in methods[:1]]
            raise UserError(
                f"{key}.tests: {name!r} is nothing that the first of methods is compared with; "
                f"{nearest(name, others)}"
            )
    for name in sorted({"none", "full"} & {*(section.use.methods or [])}):
        raise UserError(f"{key}.methods: {name} stands for what is compared; rename your criterion")
    assert section.attack
    attack = config.attacks[section.attack]
    recipes = {shift_of(recipe)[0] for recipe in section.use.recipes}
    if attack.normalised_units and recipes != {"standard"}:
        raise UserError(
            f"{key}.recipes: criteria.attack is in normalised units, and adversarial training is "
            "not; set it to [standard]"
        )
    check_schedules("criteria.epochs", section.epochs, config.trainings)


def _unfit(config: "Config", facts: dict[str, "Source"]) -> str:
    """Why the images of the attack cannot be sought layer by layer, if they cannot."""
    tokens = [name for name, source in facts.items() if source.kind == "token"]
    if tokens:
        return f"moves pixels, and data set {tokens[0]} holds tokens"
    attack = config.attacks.get(config.criteria.attack or "")
    return "is not defined in normalised units" if attack and attack.normalised_units else ""
