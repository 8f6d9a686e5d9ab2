"""What a run will cost, told before it: images judged, multiply-accumulates and time, job by job.

In forward passes of an image through the whole network: a gradient with respect to images counts as
two, a training step as three (ours). A sweep counts what its engine computes: from the ablated
layer on, and without single filters from the one after the next on, as the next changes by a term
of low rank; an attack crafted anew shares the first pass up to the ablated layer. What is saved
where few images change, or where variants are equal, is not counted: it depends on the weights. No
torch.
"""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from faultline.ablation.synaptic import RANDOM_SHARES
from faultline.attacks.effort import MORE_STEPS, RETRIED, TARGETS, more_queries
from faultline.attacks.methods import method_of
from faultline.base.errors import UserError
from faultline.base.pace import duration
from faultline.base.paths import place_of
from faultline.config.attacks import Attack
from faultline.config.networks import fit_of
from faultline.data.describe import ENOUGH
from faultline.networks.asking import speeds
from faultline.networks.facts import Fit, networks, work_of
from faultline.networks.selection import count_filters, select_layers
from faultline.run.plan import Plan
from faultline.studies.config import PROBER
from faultline.studies.criteria.names import shift_of
from faultline.studies.mending.candidates import candidate
from faultline.studies.perturbations.kinds import KINDS
from faultline.training.registry import RECIPES, base_of

STANDS = 0.5
"""Share of the images that an attack which leaves fooled ones goes on with, on average (ours)."""

CHECKS = 10
"""Forward passes of an image that the self-checks of an attack take, about (ours)."""

A_JOB = 0.5
"""CPU seconds that a job takes beside its networks, about (ours)."""

SURE = 2e12
"""Multiply-accumulates that any machine ends within an hour: 0.6 a nanosecond (ours)."""

WORTH = 0.9
"""A change is told where it leaves less than such a share of the operations (ours)."""

FEW = 500
"""Images that `ablation.choose: margin` is proposed with (ours)."""


class Job(NamedTuple):
    """A job of a run: its rule, its wildcards as text, and the files that it makes."""

    rule: str
    of: Mapping[str, str]
    output: Collection[str] = ()


@dataclass(frozen=True)
class Work:
    """variants: of networks that are judged. judged: their images, each counted under each variant.
    passes: forward passes of an image through the whole network. at_once: images of a call. bytes:
    that stay on the disk."""

    variants: int = 0
    judged: float = 0.0
    passes: float = 0.0
    at_once: int = 100
    bytes: float = 0.0


@dataclass
class Stage:
    """What jobs cost together; seconds: of one CPU core."""

    jobs: int = 0
    variants: int = 0
    judged: float = 0.0
    macs: float = 0.0
    seconds: float = 0.0
    bytes: float = 0.0

    def add(self, other: "Stage") -> None:
        """Another, too."""
        for key, value in vars(other).items():
            setattr(self, key, getattr(self, key) + value)


Speeds = Mapping[tuple[str, Fit], list[float]]


def stage_of(rule: str) -> str:
    """The stage of a rule: those that sweep some layers of one network each are one."""
    return "ablate_layer" if rule.startswith("ablate_layers_") else rule


@dataclass(frozen=True)
class Prices:
    """What jobs of a plan cost; speeds: (network, fit) -> `work.seconds`."""

    plan: Plan
    speeds: Speeds

    def stages(self, jobs: Iterable[Job]) -> dict[str, Stage]:
        """Stage -> its jobs together."""
        by_rule: dict[str, Stage] = defaultdict(Stage)
        for job in jobs:
            rule = stage_of(job.rule)
            by_rule[rule].add(self._priced(job._replace(rule=rule)))
        return dict(by_rule)

    def _priced(self, job: Job) -> Stage:
        work = RULES[job.rule](self, job) if job.rule in RULES else Work()
        macs = seconds = 0.0
        if work.passes and (name := job.of.get("network")):
            fit = fit_of(self.plan.sources[job.of["dataset"]])
            macs = work.passes * self.layers(name, fit)[""][1]
            call, each = self.speeds.get((name, fit), (0.0, 0.0))
            seconds = work.passes * (each + call / max(work.at_once, 1))
        return Stage(1, work.variants, work.judged, macs, A_JOB + seconds, work.bytes)

    def layers(self, network: str, fit: Fit) -> dict[str, list[float]]:
        """See `work_of`."""
        return work_of(network, fit) or {"": [0.0, 0.0]}

    # Images

    def split(self, dataset: str, split: str) -> int:
        """How many images of a data set are in a split, about."""
        return self._splits[dataset][split]

    @cached_property
    def _splits(self) -> dict[str, dict[str, int]]:
        return {name: self._counted(name) for name in self.plan.sources}

    def _counted(self, name: str) -> dict[str, int]:
        settings, source = self.plan.config.datasets[name], self.plan.sources[name]
        there = {"train": source.train, "test": source.test}
        if settings.source == "image_folder":
            from faultline.data.folders import class_folders  # with NumPy

            folders = class_folders(settings.folder or "", name=name, learned=settings.train != 0)
            there = {split: sum(_files(f) for f in of) for split, of in folders.items()}
        pool = there.get("train") or settings.samples or 0
        validation = settings.validation or there.get("validation") or ENOUGH
        left = (there.get("test") or 0) - validation * (not pool and not source.official_validation)
        test = settings.test or max(left, 0)
        taken = test * (not source.official_test) + validation * (not source.official_validation)
        train = max(pool - taken, 0) if settings.train is None else settings.train
        return {"train": train, "validation": validation, "test": test}

    def images(self, dataset: str, *, split: str | None = None, most: int | None = None) -> int:
        """How many images ablated networks are judged on; or others, of a split at most so many."""
        ablation = self.plan.config.ablation
        if split is None:
            split, most = ablation.split or "test", ablation.images
        there = self.split(dataset, split)
        return min(most or there, there)

    # Attacks

    def crafting(self, attack: Mapping[str, Any], classes: int) -> float:
        """Forward passes of an image that an attack takes, two for each gradient."""
        name, steps = attack["method"], attack.get("steps") or 1
        method, queries = method_of(name), attack.get("queries") or 0
        targets = min(TARGETS, classes - 1)
        towards = {"apgd_t": targets, "standard": 1 + targets, "square": 0}.get(name, 1)
        left = STANDS if name in ("apgd", "apgd_t", "standard", "square") else 1.0
        gradients = 1 if method.one_step else steps * towards
        return left * (2 * gradients + queries)

    def judging(self, names: Iterable[str], job: Job) -> float:
        """Forward passes of an image that a network takes which is judged as it is and under
        attacks of the config."""
        return 1 + sum(self.crafting(a, self._classes(job)) + 1 for a in self._attacks(names))

    def _attacks(self, names: Iterable[str]) -> list[dict[str, Any]]:
        return [self.plan.config.attacks[name].dump() for name in names]

    def _classes(self, job: Job) -> int:
        return self.plan.classes[job.of["dataset"]]

    def checking(self, attack: Mapping[str, Any], job: Job, n: int) -> float:
        """Forward passes of all images that the self-checks of an attack take."""
        more = 0.0
        if method_of(attack["method"]).judges:
            steps, queries = attack.get("steps") or 1, attack.get("queries") or 0
            each = 2 * MORE_STEPS * steps + more_queries(queries)
            more = each * STANDS * min(RETRIED, n)
        return CHECKS * n + more

    # Ablated networks

    def ablated(
        self,
        job: Job,
        layer: str | None,
        variants: int,
        *,
        filters: bool = False,
        n: int | None = None,
        attacks: Collection[Mapping[str, Any]] | None = None,
    ) -> Work:
        """Variants of a layer, or of all at once, or without one filter each; attacks: that are
        crafted anew, by default those of the config."""
        dataset, network = job.of["dataset"], job.of["network"]
        n = self.images(dataset) if n is None else n
        if attacks is None:
            attacks = self.plan.image_sets()["recrafted"].values()
        shared = len(self.plan.transferred()) + len(self.plan.config.ablation.stresses)
        first = rest = 1.0
        layers = self.layers(network, fit_of(self.plan.sources[dataset]))
        if (whole := layers[""][1]) and layer:
            own, behind = layers.get(layer, [0.0, whole])
            first = rest = behind / whole
            if filters:
                after = [row for name, row in layers.items() if name and row[1] < behind]
                rest = (behind - own - (after[0][0] if after else 0.0)) / whole
        crafted = sum(first + self.crafting(a, self._classes(job)) for a in attacks)
        sets = 1 + shared + len(attacks)
        return Work(
            variants=variants,
            judged=variants * n * sets,
            passes=variants * n * (rest * (1 + shared) + crafted),
            at_once=n,
        )

    def swept(self, job: Job, layers: Iterable[str | None]) -> Work:
        """Layers swept by the synaptic filters, and as many weights drawn at random."""
        sweep = self.plan.config.synaptic_filtering
        variants = sweep.thresholds * len(sweep.filters) + sweep.random_draws * len(RANDOM_SHARES)
        return _sum(self.ablated(job, layer, variants) for layer in layers)

    # Training

    def training(self, job: Job, passes: float, epochs: int, *, batch: int) -> Work:
        """Epochs over the training images, each followed by the validation images."""
        dataset = job.of["dataset"]
        images = epochs * self.split(dataset, "train")
        judged = epochs * self.split(dataset, "validation")
        return Work(passes=images * passes + judged, at_once=batch)

    def stored(self, job: Job) -> float:
        """Bytes of a checkpoint, weights and two moments of each."""
        return 12.0 * networks()[job.of["network"]].get("parameters", 0)


def _sum(parts: Iterable[Work]) -> Work:
    of, every = {}, [*parts] or [Work()]
    for key in ("variants", "judged", "passes", "bytes"):
        of[key] = sum(getattr(part, key) for part in every)
    return replace(every[0], **of)


def _files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _steps(recipe: str, adversarial: Mapping[str, Any] | None, *, regularised: bool) -> float:
    """Forward passes of an image in an epoch of a recipe, its crafting included."""
    of = RECIPES[base_of(recipe)]
    if of.craft is None:
        return 3
    steps = adversarial["steps"] if adversarial and "steps" in of.takes else 1
    return 2 * steps + 3 * (1 + (regularised or of.divergence))


def _train(prices: Prices, job: Job, epochs: int | None = None) -> Work:
    training = prices.plan.training(job.of["training"])
    if epochs is None:
        until = int(job.of["epoch"])
        epochs = until - (prices.plan.previous_epoch(job.of["training"], until) or 0)
    settings = training.dump()
    passes = _steps(
        training.recipe,
        settings["adversarial"],
        regularised=training.regularisation is not None,
    )
    work = prices.training(job, passes, epochs, batch=training.batch_size)
    return replace(work, bytes=prices.stored(job))


def _tune(prices: Prices, job: Job) -> Work:
    tune = prices.plan.training(job.of["training"]).tune
    assert tune is not None and tune.attack
    tried = math.prod(len(values) for values in tune.grid.dump().values() if values)
    one = _train(prices, job, prices.plan.tuning_epochs(job.of["training"]))
    attack = prices.plan.config.attacks[tune.attack]
    of_grid = len(attack.eps_grid) * (prices.crafting(attack.dump(), prices._classes(job)) + 1)
    judged = prices.split(job.of["dataset"], "validation") * of_grid
    times = tried * len(tune.seeds)
    return replace(one, passes=times * (one.passes + judged), bytes=0.0)


def _attack(prices: Prices, job: Job, names: Iterable[str] | None = None) -> Work:
    n, passes = prices.split(job.of["dataset"], "test"), 0.0
    for attack in prices._attacks([job.of["attack"]] if names is None else names):
        above = sum(eps > 0 for eps in attack["eps_grid"])
        passes += n * above * (prices.crafting(attack, prices._classes(job)) + 1)
        passes += prices.checking(attack, job, n)
    return Work(passes=passes, at_once=n)


def _craft(prices: Prices, job: Job) -> Work:
    dataset, name = job.of["dataset"], job.of["attack"]
    split = prices.plan.config.ablation.split or "test"
    n = prices.images(dataset, split=split, most=prices.plan.crafted_images(name))
    stored = 4 * n * math.prod(prices.plan.sources[dataset].shape)
    return Work(passes=n * prices.judging([name], job), at_once=n, bytes=stored)


def _choose_images(prices: Prices, job: Job) -> Work:
    n = prices.split(job.of["dataset"], prices.plan.config.ablation.split or "test")
    names = prices.plan.image_sets()["recrafted"]
    stored = len(prices.plan.transferred()) + len(prices.plan.config.ablation.stresses)
    return Work(passes=n * (prices.judging(names, job) + stored))


def _ablate_layer(prices: Prices, job: Job) -> Work:
    layers = [str(place_of(path)["layer"]) for path in job.output]
    return prices.swept(job, layers or [job.of["layer"]])


def _sweep_mended(prices: Prices, job: Job) -> Work:
    return prices.swept(job, prices.plan.filtered_layers(job.of["network"]))


def _units(prices: Prices, job: Job) -> int:
    return count_filters(job.of["network"], job.of["layer"], prices._classes(job))


def _ablate_filters(prices: Prices, job: Job) -> Work:
    variants = int(job.of["last"]) - int(job.of["first"]) + 1
    return prices.ablated(job, job.of["layer"], variants, filters=True)


def _remove_units(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.criteria
    units = min(_units(prices, job), section.filters or math.inf)
    n = prices.images(job.of["dataset"], split="test", most=section.judged_on)
    attacks = prices._attacks(section.judged_under or [])
    return prices.ablated(job, job.of["layer"], int(units) + 1, filters=True, n=n, attacks=attacks)


def _perturb_layer(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.perturbations
    draws = section.repeats * sum(
        sum(map(bool, getattr(section, KINDS[kind].strengths)))
        * (1 if KINDS[kind].of == "filters" else len(section.parameters))
        for kind in section.kinds
    )
    return prices.ablated(job, job.of["layer"], draws)


def _target_filters(prices: Prices, job: Job) -> Work:
    attacks = prices.plan.config.targeting.attacks or []
    return Work(passes=prices.images(job.of["dataset"]) * (1 + len(attacks)))


def _analyse(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.sustainability
    n = prices.images(job.of["dataset"], split=section.split, most=section.images)
    under = prices.judging(section.perturbers or [], job) + len(section.noises or ())
    return Work(passes=n * under)


def _judge_criteria(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.criteria
    n = prices.images(job.of["dataset"], split="validation", most=section.images)
    layers = select_layers(job.of["network"], section.layers, called=True)
    each = prices.judging([section.attack or ""], job) + 3
    return Work(passes=n * (len(section.methods) * each + section.draws * len(layers)))


def _train_picked(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.criteria
    use, dataset = section.use, job.of["dataset"]
    adversarial = {"steps": 10}
    passes = _steps(shift_of(job.of["recipe"])[0], adversarial, regularised=False)
    batch = prices.plan.training(job.of["training"]).batch_size
    work = prices.training(job, passes, use.epochs, batch=batch)
    tried = len(use.interpolations) * prices.judging([section.attack or ""], job)
    judged = prices.split(dataset, "test") * prices.judging(use.judged_under or [], job)
    chosen = prices.split(dataset, "validation") * tried * (use.interpolations != [1])
    return replace(work, passes=work.passes + chosen + judged)


def _retrain(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.retraining
    work = _train(prices, job, section.epochs)
    judged = prices.judging(section.judged_under or [], job)
    n = prices.split(job.of["dataset"], "test")
    return replace(work, passes=work.passes + n * judged)


def _choose_gains(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.remedy
    layers = select_layers(job.of["network"], section.layers, called=True)
    units = sum(count_filters(job.of["network"], name, prices._classes(job)) for name in layers)
    tried = (len(prices.plan.remedies()) - 1) * len(section.strengths)
    judged = tried * prices.judging(section.chosen_under or [], job)
    n = prices.split(job.of["dataset"], "validation")
    return Work(variants=units, judged=units * n, passes=n * (units + judged))


def _remedy(prices: Prices, job: Job) -> Work:
    judged = prices.judging(prices.plan.config.remedy.judged_under or [], job)
    n = prices.split(job.of["dataset"], "test")
    return Work(passes=n * judged, bytes=prices.stored(job) / 3)


MENDS = {"harden_pgd": 23, "harden_trades": 26, "selective": 3}
"""Forward passes of an image in an epoch of a candidate, where it is not trained as `harden` is."""


def _mend(prices: Prices, job: Job) -> Work:
    section, name = prices.plan.config.mending, job.of["candidate"]
    names = {each.rpartition(":")[2]: each for each in section.candidates}
    trains = candidate(names[name]).trains
    dataset, tries = job.of["dataset"], len(section.rates) if trains else 1
    passes = MENDS.get(name, _steps("at-nfgsm", None, regularised=False)) * trains
    if section.under:  # unattacked, under stresses each image twice
        passes = 3 * trains * (2 if section.stresses else 1)
    work = prices.training(job, passes, section.epochs * tries, batch=section.batch_size)
    if section.under:
        chosen = float(_held_sets(prices, section.stresses))
    else:
        judge = prices._attacks((section.judged_under or [])[:1])[0]
        if method_of(judge["method"]).judges:
            judge |= {"method": "apgd", "steps": 20, "queries": None}
        chosen = prices.crafting(judge, prices._classes(job)) + 2
    validation = prices.split(dataset, "validation") * chosen
    statistics = prices.split(dataset, "train")
    shares = tries * len(section.shares)
    more = validation * (1 + shares) + shares * statistics
    return replace(work, passes=work.passes + more, bytes=prices.stored(job) / 3)


def _judge_mends(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.mending
    judged, n = len(section.candidates) + 1, prices.split(job.of["dataset"], "test")
    if section.under:
        every = prices.plan.config.stresses if section.stresses else ()
        sets = _held_sets(prices, every)
        return Work(passes=judged * n * sets, at_once=n)
    attacks = prices._attacks(section.judged_under or [])
    each = sum(prices.checking(attack, job, n) for attack in attacks)
    each += n * prices.judging(section.judged_under or [], job)
    return Work(passes=judged * (each + n * judged * len(attacks)), at_once=n)


def _held_sets(prices: Prices, stresses: Iterable[str]) -> int:
    """The same of some stresses, or of the faults that a mend is to hold under."""
    section = prices.plan.config.mending
    draws = len(section.under) * section.fault_draws if section.faults else 0
    return _stress_sets(prices, stresses) + draws


def _stress_sets(prices: Prices, names: Iterable[str]) -> int:
    """Of how many sets of images a network is judged on under some stresses, as they are too."""
    stresses = prices.plan.config.stresses
    return 1 + sum(len(stresses[name].severities) for name in names)


def _judge_stresses(prices: Prices, job: Job) -> Work:
    sets = _stress_sets(prices, prices.plan.stresses_of(job.of))
    n = prices.split(job.of["dataset"], "test")
    return Work(passes=n * sets, at_once=n)


def _compress(prices: Prices, job: Job) -> Work:
    section = prices.plan.config.compression
    layers, forms = select_layers(job.of["network"], section.layers), len(section.bits)
    forms += len(section.prune)
    n = {split: prices.split(job.of["dataset"], split) for split in ("validation", "test")}
    networks = 2 * forms + len(section.prune) + 1
    passes = n["validation"] * (len(layers) * (forms + 1) + 2 * forms) + n["test"] * (networks + 1)
    return Work(passes=passes, at_once=max(n.values()))


RULES: dict[str, Callable[[Prices, Job], Work]] = {
    "tune": _tune,
    "train": _train,
    "attack": _attack,
    "evaluate_robustness": lambda p, job: _attack(p, job, p.plan.config.robustness.attacks),
    "craft": _craft,
    "judge_stresses": _judge_stresses,
    "compress": _compress,
    "choose_images": _choose_images,
    "ablate_layer": _ablate_layer,
    "ablate_global": lambda p, job: p.swept(job, [None]),
    "ablate_filters": _ablate_filters,
    "ablate_own": lambda p, job: p.ablated(job, job.of["layer"], _units(p, job), filters=True),
    "perturb_layer": _perturb_layer,
    "target_filters": _target_filters,
    "choose_gains": _choose_gains,
    "remedy": _remedy,
    "analyse_sustainability": _analyse,
    "judge_criteria": _judge_criteria,
    "remove_units": _remove_units,
    "train_picked": _train_picked,
    "retrain": _retrain,
    "mend": _mend,
    "judge_mends": _judge_mends,
    "sweep_mended": _sweep_mended,
}
"""Rules whose jobs run networks for long."""

ABLATING = ("ablate_layer", "ablate_global", "ablate_filters", "ablate_own", "perturb_layer")


# What would be cheaper


class Change(NamedTuple):
    """A change of the config in words, the plan that it makes, and rules that then have no jobs."""

    words: str
    plan: Plan
    without: Collection[str] = ()


OFF = {
    "mending.swept: false": ("sweep_mended",),
    "mending.from_epochs: []": ("mend", "judge_mends", "sweep_mended"),
    "retraining.from_epochs: []": ("retrain",),
    "perturbations.layers: none": ("perturb_layer",),
    "criteria.methods: []": ("judge_criteria", "remove_units", "train_picked"),
    "criteria.use.recipes: []": ("train_picked",),
    "nodal_dropout.layers: none": ("ablate_filters",),
}
"""Settings that switch rules off."""


def changes(plan: Plan, stage: str, judged: int) -> Iterator[Change]:
    """What would make a stage cheaper, what changes less first; judged: images that ablated
    networks are judged on."""
    config, words = plan.config, []
    if stage in (*ABLATING, "sweep_mended"):
        ablation, attacks = config.ablation, config.attacks
        if any(not method_of(attacks[name].method).one_step for name in ablation.attacks or []):
            quick = [name for name, of in attacks.items() if method_of(of.method).one_step]
            name = (quick or ["fgsm"])[0]
            added = "" if quick else f" (attacks.{name}: of method fgsm)"
            eps = next(iter(attacks.values())).eps
            more = {name: Attack(method="fgsm", eps=eps, eps_grid=[eps], epochs="all")}
            ablation = ablation.model_copy(update={"attacks": [name]})
            config = config.model_copy(update={"ablation": ablation, "attacks": more | attacks})
            words.append(f"ablation.attacks: [{name}]{added}")
            yield Change(words[0], Plan(config))
        if judged > FEW:
            ablation = ablation.model_copy(update={"images": FEW, "choose": "margin"})
            words.append(f"ablation.choose: margin, images: {FEW}")
            config = config.model_copy(update={"ablation": ablation})
            yield Change(" and ".join(words), Plan(config))
    for words_off, rules in OFF.items():
        if stage in rules:
            yield Change(words_off, plan, rules)


# In words


@dataclass(frozen=True)
class Estimate:
    """What jobs will cost together, by stages; timed: whether all of their networks are."""

    prices: Prices
    jobs: Collection[Job]
    stages: Mapping[str, Stage]
    timed: bool

    @property
    def total(self) -> Stage:
        """All stages."""
        every = Stage()
        for stage in self.stages.values():
            every.add(stage)
        return every

    def lines(self, *, cores: int, gpu: bool = False) -> list[str]:
        """How much, how long, and what would be cheaper, a line each; gpu: whether the run uses
        one, whose speed is not known."""
        every = self.total
        parts = [f"{every.jobs:,} job{'' if every.jobs == 1 else 's'}"]
        if every.variants:
            images = short(every.judged).strip()
            parts.append(f"{images} images judged under {every.variants:,} variants")
        parts.append(f"{flop(every.macs)} ({short(every.macs)}MAC)")
        if every.bytes >= 1e9:
            parts.append(f"{every.bytes / 1e9:.0f} GB of checkpoints")
        time = "not known, as its networks could not be timed"
        if self.timed:
            time = f"about {duration(every.seconds)} on one CPU core of this machine"
            if gpu:
                time += "; on a GPU not known"
            elif cores > 1:
                time += f", {duration(every.seconds / cores)} on its {cores}"
        lines = [f"cost: {', '.join(parts)}", f"time: {time}"]
        name, stage = max(self.stages.items(), key=lambda item: self._of(item[1]))
        share = self._of(stage) / (self._of(every) or 1.0)
        return [*lines, f"dearest: {name}, {share:.0%} of it{self._cheaper(name)}"]

    def table(self) -> list[str]:
        """A line for each stage that runs networks, and its head."""
        row = "{:<24}{:>7}{:>16}{:>15}{:>16}".format
        lines = [row("stage", "jobs", "images judged", "operations", "on one core")]
        for name, of in sorted(self.stages.items(), key=lambda item: -self._of(item[1])):
            if of.macs:
                time = duration(of.seconds) if self.timed else "not known"
                lines.append(row(name, f"{of.jobs:,}", short(of.judged), flop(of.macs), time))
        return lines

    def _of(self, stage: Stage) -> float:
        return stage.seconds if self.timed else stage.macs

    def _cheaper(self, stage: str) -> str:
        """The change that spares most of a stage, with all operations before and after."""
        plan = self.prices.plan
        judged = max(self.prices.images(dataset) for dataset in plan.sources)
        before, words = self.total.macs, ""
        least = WORTH * before
        for change in changes(plan, stage, judged):
            jobs = [job for job in self.jobs if stage_of(job.rule) not in change.without]
            after = sum(of.macs for of in Prices(change.plan, {}).stages(jobs).values())
            if after < least:
                least, words = after, change.words
        return f"; with {words} {flop(least)}, not {flop(before)}" if words else ""


def estimate(plan: Plan, jobs: Iterable[Job], *, timed: bool = True) -> Estimate:
    """What jobs of a plan will cost; timed: whether the time is asked for, for which networks whose
    speed is not known are timed, once."""
    jobs, known = [Job(*job) for job in jobs], {}
    asked = {
        (job.of["network"], fit_of(plan.sources[job.of["dataset"]]))
        for job in jobs
        if stage_of(job.rule) in RULES
    }
    if timed:
        functions = {name: of.function for name, of in plan.config.own_networks.items()}
        folder = Path(plan.config.results) / ".networks"
        known = speeds(sorted(asked), functions, folder=folder, prober=PROBER)
    prices = Prices(plan, known)
    return Estimate(prices, jobs, prices.stages(jobs), timed and asked <= known.keys())


def told(
    plan: Plan, jobs: Iterable[Job], stages: bool, *, here: bool = True, gpu: bool = False
) -> list[str]:
    """What jobs of a plan will cost, in lines; stages: each for itself, too. here: whether they run
    on this machine."""
    of = estimate(plan, jobs)
    table = of.table() if stages else []
    return [*table, *of.lines(cores=cpus() if here else 1, gpu=gpu)] if of.total.macs else []


def check(plan: Plan, jobs: Iterable[Job], cores: int, *, gpu: bool = False) -> None:
    """UserError where jobs, so many at once, are to take longer than the config's key hours."""
    limit, jobs = plan.config.hours, [*jobs]
    if limit is None or gpu:
        return
    if estimate(plan, jobs, timed=False).total.macs < SURE * limit:
        return
    of, at_once = estimate(plan, jobs), min(cores, cpus())
    hours = of.total.seconds / at_once / 3600
    if of.timed and hours > limit:
        raise UserError(
            f"config key hours: this run is to take about {duration(3600 * hours)} on "
            f"{at_once} cores, and {limit:g} hours are allowed; see `snakemake -n` for what is "
            f"cheaper, or allow it by --config hours={math.ceil(2 * hours)}"
        )


def cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def flop(macs: float) -> str:
    """Multiply-accumulates as floating-point operations, two each."""
    return f"{short(2 * macs)}FLOP"


def short(number: float) -> str:
    """A large number with three digits and a letter: 1.56 E, 45.2 T, 604,800."""
    for unit, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:.3g} {letter}"
    return f"{number:,.0f} "
