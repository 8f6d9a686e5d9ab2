"""Trainings of the config. No torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from faultline.base.errors import UserError, nearest
from faultline.base.paths import is_checkpoint
from faultline.config.attacks import Attack
from faultline.config.fields import (
    ON_DISK,
    Count,
    Epoch,
    Eta,
    Inferred,
    Norm,
    OneOf,
    OnlyFor,
    Section,
    Seed,
    Some,
    Weight,
    only_for,
)
from faultline.data.sources import Source
from faultline.training.registry import RECIPES, REGULARISED, base_of

Positives = Some[Annotated[float, Field(gt=0, le=10_000)]]


def _takes(setting: str) -> OnlyFor:
    """For the recipes that make use of a setting, with or without their regularisation."""
    names = [name for name, recipe in RECIPES.items() if setting in recipe.takes]
    return OnlyFor(f"recipe {', '.join(names)}", lambda training: base_of(training.recipe) in names)


_MVL = OnlyFor("layers mvl", lambda training: training.regularisation.layers == "mvl")


class WeightFile(Section):
    """One of several state dicts in a file."""

    file: Annotated[str, ON_DISK]
    """The file."""
    key: str | None = None
    """The name of the state dict in it; null where there is one alone."""


class Adversarial(Section):
    """The attack that an at- recipe trains against (none of it is published)."""

    eps: float = Field(gt=0, le=10_000)
    """In the units of attacks.*.eps."""
    norm: Norm = "linf"
    """Norm of the perturbation that eps bounds; l2 is over all values of an image."""
    steps: Annotated[int, _takes("steps")] = Field(10, ge=1, le=100_000)
    """at-pgd, at-trades and at-apgd only."""
    step_size: Annotated[float | None, _takes("step_size")] = Field(None, gt=0, le=100)
    """Length of a step as a share of eps; null means 2.5 / steps, 1.25 for at-fast and 1 for
    at-nfgsm (not for at-apgd, which finds its own)."""
    beta: Annotated[float, _takes("beta")] = Field(6, ge=0, le=1_000_000)
    """Weight of the divergence in at-trades."""


class Regularisation(Section):
    """Which layers an -lr recipe regularises, and how much."""

    layers: Literal["mvl"] | Some[str]
    """mvl, the most vulnerable layers of a standard training of the same data set, network and
    seed; or a list of layers, each standing for the activation that follows it. Of layers of
    several networks each takes its own."""
    gamma: Weight | Annotated[dict[str, Weight], Field(min_length=1)]
    """Weight of a layer's relative error, for all or layer by layer."""
    of: Inferred[str] = None
    """The training whose list it is (mvl only); by default the one whose recipe is standard."""
    perturber: Inferred[str] = None
    """The perturber that the list is found under (mvl only); by default the first of
    sustainability.perturbers."""
    eta: Inferred[float] = Field(None, ge=-1000, le=1000)
    """As sustainability.eta, which is the default (mvl only)."""
    at: Inferred[Literal["activation", "layer"]] = None
    """As sustainability.at, which is the default."""
    on_empty: Annotated[Literal["base", "stop"], _MVL] = "base"
    """Where no layer is above the limit, train as the recipe without -lr, or stop (mvl
    only)."""


class Grid(Section):
    """Setting -> values to try, e.g. adversarial.eps -> [0.1, 0.2]; every combination is
    trained."""

    lr: Inferred[Positives] = None
    """Values to try."""
    eps: Inferred[Positives] = Field(None, alias="adversarial.eps")
    """Values to try."""
    beta: Inferred[Some[Weight]] = Field(None, alias="adversarial.beta")
    """Values to try."""
    gamma: Inferred[Some[Weight]] = Field(None, alias="regularisation.gamma")
    """Values to try."""
    eta: Inferred[Some[Eta]] = Field(None, alias="regularisation.eta")
    """Values to try."""


class Tune(Section):
    """A search for settings before this training, judged on the validation split."""

    like: Inferred[str] = Field(None, alias="as")
    """Another training whose chosen settings are taken first."""
    grid: Grid = Field(default_factory=Grid)
    """Setting -> values to try, e.g. adversarial.eps -> [0.1, 0.2]; every combination is
    trained."""
    seeds: Some[Seed] = [100, 101]
    """Seeds that every candidate is trained with; none of the run, which is judged by
    others."""
    epochs: Count | None = None
    """Length of each candidate's training; null is that of the training itself."""
    attack: Inferred[str] = None
    """The attack, over its eps_grid, that judges; by default the first."""
    towards: list[Annotated[float, Field(ge=0, le=100)]] | None = None
    """Accuracies in % over that grid. The nearest candidate is chosen (mean absolute
    difference), to repeat a published row; left out, the one of the highest sum."""


class Schedule(Section):
    """Learning rate over epochs. It names its own length, so a later checkpoint changes
    nothing."""

    kind: Literal["constant", "step", "cosine"] = "constant"
    """Constant, falling in steps, or falling along half a cosine."""
    epochs: Annotated[Count, only_for("schedule.kind", "step", "cosine")] = 100
    """cosine falls to 0 over this many epochs; step multiplies by factor after each."""
    factor: Annotated[float, only_for("schedule.kind", "step")] = Field(0.1, gt=0, le=1)
    """step only."""


class Augmentation(Section):
    """Random changes of each training image."""

    shift: int = Field(0, ge=0, le=4096)
    """Largest shift in pixels; less than the side of the images."""
    flip: bool = False
    """Mirror half of the images."""


class Training(Section):
    """One training."""

    epochs: list[Epoch] = Field(min_length=1)
    """Checkpoint epochs, ascending; 0 is the untrained network, or the one of weights."""
    weights: Annotated[dict[str, str | WeightFile], ON_DISK] = Field(default_factory=dict)
    """Files to start from in place of random weights, network -> .pt, .pth or .safetensors (a
    state dict). Of a file that holds several, as those of a moving average (EMA) beside the
    last ones, NETWORK: {file: FILE, key: NAME} says which; with dots where it lies deeper. Only
    the networks named here are run; seeds then differ in attacks and draws only."""
    recipe: Annotated[str, OneOf([*RECIPES, *REGULARISED])] = "standard"
    """What is minimised; workflow/faultline/training/recipes.py tells each. With -lr the layers
    under regularisation are regularised (Khalooei et al. 2022)."""
    adversarial: Adversarial | None = None
    """The attack that an at- recipe trains against (none of it is published)."""
    regularisation: Regularisation | None = None
    """Which layers an -lr recipe regularises, and how much."""
    tune: Tune | None = None
    """A search for settings before this training, judged on the validation split."""
    base: Inferred[str] = None
    """The training that a recipe with -lr is compared with; by default the only one of the same
    recipe without it."""
    published: Inferred[str] = None
    """The row of the file under published that this training repeats."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or SGD with momentum."""
    lr: float = Field(0.001, gt=0, le=1000)
    """Learning rate."""
    momentum: Annotated[float, only_for("optimizer", "sgd")] = Field(0.9, ge=0, le=1)
    """sgd only."""
    weight_decay: float = Field(0, ge=0, le=1000)
    """Factor of the L2 penalty that the optimiser adds to the gradient of every parameter."""
    batch_size: int = Field(100, ge=2, le=1_000_000)
    """Images per training step; a last batch of one image is left out."""
    schedule: Schedule = Field(default_factory=Schedule)
    """Learning rate over epochs. It names its own length, so a later checkpoint changes
    nothing."""
    augmentation: Augmentation = Field(default_factory=Augmentation)
    """Random changes of each training image."""


def is_for(training: Training, network: str) -> bool:
    """Whether a training is for a network: one with `weights` only for those that it has."""
    return not training.weights or network in training.weights


WEIGHTS = (".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".tar")
"""Endings of files of weights."""

OF_FOLDER = [
    f"{name}{index}"
    for name in ("model.safetensors", "pytorch_model.bin")
    for index in ("", ".index.json")
]
"""What the weights are called in a folder of Hugging Face."""


def check_weights(trainings: dict[str, Training], networks: list[str], *, results: str) -> None:
    """UserError where given weights are of no network or lie nowhere, or a network has no
    training. results: the folder of the run, which writes weights of its own."""
    for name, training in trainings.items():
        for network, weights in training.weights.items():
            key = f"config key trainings.{name}.weights.{network}"
            file = weights if isinstance(weights, str) else weights.file
            if network not in networks:
                hint = nearest(network, networks)
                raise UserError(f"{key}: the network is not under networks; {hint}")
            path = Path(file).expanduser()
            if path.is_dir():
                there = [each for each in OF_FOLDER if (path / each).is_file()]
                hint = f"name {path / there[0]}" if there else "name a file of weights in it"
                raise UserError(f"{key}: {file} is a folder; {hint}")
            if path.suffix not in WEIGHTS and not file.endswith(".index.json"):
                raise UserError(
                    f"{key}: {file!r} is no file of PyTorch weights ({', '.join(WEIGHTS)}, or the "
                    ".index.json of shards); load the network in PyTorch, and give what "
                    "torch.save(network.state_dict(), 'weights.pt') writes"
                )
            if not path.is_file():
                raise UserError(f"{key}: no such file: {file}; name a state dict")
            if is_checkpoint(path, results):
                raise UserError(
                    f"{key}: {file} lies where this run would write a checkpoint of its own; name "
                    "another folder for its results (config key results)"
                )
            within = None if isinstance(weights, str) else weights.key
            training.weights[network] = (
                str(path) if within is None else WeightFile(file=str(path), key=within)
            )
    for network in networks:
        if not any(is_for(training, network) for training in trainings.values()):
            raise UserError(
                f"config key networks: no training is for {network}, as all have weights of other "
                "networks; give its file under weights, or leave it out"
            )


def check_recipe(name: str, training: Training, trainings: dict[str, Training]) -> None:
    """UserError where a recipe lacks what it needs; completes what it is compared with."""
    key, recipe = f"config key trainings.{name}", training.recipe
    for part, needed in (
        ("adversarial", RECIPES[base_of(recipe)].craft is not None),
        ("regularisation", recipe.endswith("-lr")),
    ):
        if needed and getattr(training, part) is None:
            raise UserError(f"{key}.{part}: missing; recipe {recipe} needs it")
        if not needed and getattr(training, part) is not None:
            raise UserError(f"{key}.{part}: recipe {recipe} makes no use of it; leave it out")
    _check_base(name, training, trainings)
    adversarial, norms = training.adversarial, RECIPES[base_of(recipe)].norms
    if adversarial and adversarial.norm not in norms:
        raise UserError(
            f"{key}.adversarial.norm: {recipe} knows {', '.join(norms)} only; use at-pgd for "
            f"{adversarial.norm}"
        )


def _check_base(name: str, training: Training, trainings: dict[str, Training]) -> None:
    """Completes what a regularised training is compared with."""
    recipe, key = training.recipe, f"config key trainings.{name}.base"
    alike = [n for n, t in trainings.items() if t.recipe == base_of(recipe)]
    if not recipe.endswith("-lr"):
        if training.base is not None:
            raise UserError(f"{key}: is for recipes with -lr; leave it out")
    elif training.base is None and len(alike) > 1:
        raise UserError(
            f"{key}: missing; {', '.join(alike)} have this recipe without -lr, name one"
        )
    elif training.base is not None and training.base not in alike:
        raise UserError(
            f"{key}: {training.base!r} has not this recipe without -lr; "
            f"{nearest(training.base, alike)}"
        )
    elif alike:
        training.base = training.base or alike[0]


def check_tuning(
    name: str,
    training: Training,
    trainings: dict[str, Training],
    *,
    attacks: dict[str, Attack],
    seeds: list[int],
) -> None:
    """UserError where a search for settings cannot be made; completes its attack.

    seeds: those of the run.
    """
    tune, key = training.tune, f"config key trainings.{name}.tune"
    if tune is None:
        return
    if training.weights:
        raise UserError(f"{key}: candidates start from random weights; leave out tune or weights")
    grid = tune.grid.dump()
    if tune.like is not None:
        others = [n for n, t in trainings.items() if t.tune and t.tune.like is None]
        if tune.like not in others:
            raise UserError(
                f"{key}.as: {tune.like!r} is no training that tunes by itself; "
                f"{nearest(tune.like, others) if others else 'there is none'}"
            )
    elif not grid:
        raise UserError(f"{key}.grid: missing; say what to try, or name a training under as")
    for setting in grid:
        part, _, inner = setting.rpartition(".")
        if part and (
            getattr(training, part) is None
            or (inner == "eta" and getattr(training, part).layers != "mvl")
            or (inner == "beta" and "beta" not in RECIPES[base_of(training.recipe)].takes)
        ):
            raise UserError(f"{key}.grid.{setting}: the training has no such setting; leave it out")
    if twice := set(tune.seeds) & set(seeds):
        raise UserError(
            f"{key}.seeds: {min(twice)} is a seed of the run, which would be judged by networks it "
            "was chosen by; take others"
        )
    attack = tune.attack = tune.attack or next(iter(attacks))
    if attack not in attacks:
        raise UserError(
            f"{key}.attack: {attack!r} is not under attacks; {nearest(attack, attacks)}"
        )
    eps_grid = attacks[attack].eps_grid
    if tune.towards is not None and len(tune.towards) != len(eps_grid):
        raise UserError(
            f"{key}.towards: {len(tune.towards)} accuracies; expected {len(eps_grid)}, one for "
            f"each eps of attacks.{attack}: {', '.join(f'{eps:g}' for eps in eps_grid)}"
        )


def check_checkpoints(name: str, training: Training, facts: dict[str, Source]) -> None:
    """UserError where checkpoint epochs do not go up, or images cannot be changed as is asked."""
    epochs, augmentation = training.epochs, training.augmentation
    if epochs != sorted(set(epochs)):
        raise UserError(
            f"config key trainings.{name}.epochs: {epochs} does not go up; "
            "give each checkpoint epoch once, in ascending order"
        )
    for dataset, source in facts.items():
        if source.kind != "image" and (augmentation.shift or augmentation.flip):
            raise UserError(
                f"config key trainings.{name}.augmentation: data set {dataset} holds "
                f"{source.kind}s, which cannot be shifted or mirrored; leave it out"
            )
        shift, sides = augmentation.shift, source.shape[1:]
        if shift >= min(sides, default=1):
            raise UserError(
                f"config key trainings.{name}.augmentation.shift: {shift} is too large; the "
                f"images of data set {dataset} have a side of {min(sides)}"
            )
