"""The config: checked against its schema, completed, and checked for sense. No torch."""

import copy
import fnmatch
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from faultline.attacks.methods import METHODS, method_of
from faultline.base import plugins
from faultline.base.errors import UserError, nearest, short
from faultline.base.paths import is_checkpoint
from faultline.config.places import check_folder, write_out
from faultline.config.schema import check_finite, check_schema, with_defaults
from faultline.config.trainings import check_recipe, check_tuning, is_for
from faultline.config.unused import check_unused, entries
from faultline.data.describe import ENOUGH, check_enough, describe
from faultline.data.sources import SOURCE_NAMES, Source
from faultline.networks import facts as network_facts
from faultline.networks.facts import networks
from faultline.networks.selection import hidden_activations

Check = Callable[[dict, dict[str, Source]], None]
"""(config, data set -> what is known of it) -> None; completes a part of the config, or raises
UserError."""

FEWEST = 100
"""Images that can be drawn by strata (ours)."""

# Names that tables are filled with.
_NAMED = ("datasets.*", "trainings.*", "attacks.*", "own_networks.*", "ablations.*")


def resolve(
    config: dict, schema: dict, *, studies: Sequence[Check], prober: str, alone: bool
) -> dict:
    """The config with every default filled in.

    studies: what each study checks and fills in of its own. prober: see `facts.own_facts`. alone:
    whether nothing but runs may be in the folder of the results. Raises UserError with one line
    that names the key, what was expected and what to do.
    """
    check_finite(config)
    config = copy.deepcopy(config)
    write_out(config)
    check_schema(config, schema)
    config = with_defaults(config, schema, schema)
    check_folder(config["results"], key="results", holds_runs=alone)
    check_folder(config["keep"]["folder"], key="keep.folder", holds_runs=False)
    for pattern in _NAMED:
        for key, _, name in entries(config, pattern):
            if name == "nan":
                raise UserError(f"config key {key}: means a missing number in tables; rename it")
    for name, dataset in config["datasets"].items():
        _check_source(name, dataset)
    check_unused(config, schema)
    _check_sense(config, studies, prober)
    return config


def _check_sense(config: dict, studies: Sequence[Check], prober: str) -> None:
    facts = {name: _check_dataset(name, part) for name, part in config["datasets"].items()}
    network_facts.see_norms(config["ablation"]["norms"])
    _check_own_networks(config, facts, prober)
    known = networks()
    for network in config["networks"]:
        for name in config["datasets"]:
            _check_fit(network, known[network], name, facts[name])
    _check_weights(config)
    for name, training in config["trainings"].items():
        epochs = training["epochs"]
        if epochs != sorted(set(epochs)):
            raise UserError(
                f"config key trainings.{name}.epochs: {epochs} does not go up; "
                "give each checkpoint epoch once, in ascending order"
            )
        for dataset in config["datasets"]:
            if facts[dataset].kind != "image" and any(training["augmentation"].values()):
                raise UserError(
                    f"config key trainings.{name}.augmentation: data set {dataset} holds "
                    f"{facts[dataset].kind}s, which cannot be shifted or mirrored; leave it out"
                )
            shift, sides = training["augmentation"]["shift"], facts[dataset].shape[1:]
            if shift >= min(sides, default=1):
                raise UserError(
                    f"config key trainings.{name}.augmentation.shift: {shift} is too large; the "
                    f"images of data set {dataset} have a side of {min(sides)}"
                )
    _check_attacks(config, facts)
    _check_ablation(config, facts)
    for check in studies:
        check(config, facts)
    for name, training in config["trainings"].items():
        check_recipe(name, training, config)
    for name, training in config["trainings"].items():
        check_tuning(name, training, config)


def _check_own_networks(config: dict, facts: dict[str, Source], prober: str) -> None:
    """Names the networks that are given as functions, and finds their layers."""
    mine, builtin = config["own_networks"], network_facts.registry()
    for place, network in enumerate(config["networks"]):
        if plugins.is_own(network):
            name = network.rpartition(":")[2]
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) or name == "nan":
                raise UserError(
                    f"config key networks: {short(name)!r} would be the name of a folder; give the "
                    "network another in own_networks, of letters, digits, '-' and '_'"
                )
            if (
                mine.setdefault(name, {"function": network, "normalise": True})["function"]
                != network
            ):
                raise UserError(
                    f"config key networks: two networks would be called {name}; name one in "
                    "own_networks"
                )
            config["networks"][place] = name
    fits = [
        (of.shape, of.classes, *[of.vocabulary] * (of.kind == "token")) for of in facts.values()
    ]
    for network in config["networks"]:
        if network not in mine and network not in builtin:
            raise UserError(
                f"config key networks: {network!r} is not known; "
                f"{nearest(network, [*builtin, *mine])}"
            )
        if network in mine and network in builtin:
            raise UserError(
                f"config key own_networks.{network}: a built-in network has this name; name yours "
                "otherwise, there and under networks"
            )
        if network in mine:
            folder = Path(config["results"]) / ".networks"
            found = network_facts.own_facts(
                network, mine[network], fits, folder=folder, prober=prober
            )
            network_facts.add(network, found)


def _check_source(name: str, dataset: dict) -> None:
    if name in ("tables", "logs"):
        raise UserError(f"config key datasets.{name}: a folder of the results; rename it")
    source = dataset.setdefault("source", name)
    if source not in SOURCE_NAMES:
        raise UserError(
            f"config key datasets.{name}: no data set of this name, and no source given; "
            f"{nearest(name, SOURCE_NAMES)}"
        )


def _check_dataset(name: str, dataset: dict) -> Source:
    """Completes one data set of the config; what is known of it."""
    source = dataset["source"]
    if source == "image_folder":
        dataset["channels"] = dataset["channels"] or 3
    facts = describe(dataset, name=name)
    if source == "npz":
        dataset["classes"] = facts.classes
    dataset.setdefault("validation", None if facts.official_validation else ENOUGH)
    if dataset["test"] is None and not facts.official_test:
        raise UserError(
            f"config key datasets.{name}.test: missing; {source} has no official "
            "test set, so say how many samples to test on"
        )
    for key, other in (("mean", "std"), ("std", "mean")):
        if dataset[other] is None:
            continue
        if facts.kind == "token":
            raise UserError(
                f"config key datasets.{name}.{key}: tokens are not normalised; leave it out"
            )
        if dataset[key] is None:
            raise UserError(f"config key datasets.{name}.{key}: missing; it goes with {other}")
        if len(dataset[key]) != facts.shape[0]:
            raise UserError(
                f"config key datasets.{name}.{key}: {len(dataset[key])} values; expected "
                f"{facts.shape[0]}, one per {'feature' if facts.kind == 'vector' else 'channel'}"
            )
        if facts.kind == "image" and not all(0 <= value <= 1 for value in dataset[key]):
            raise UserError(
                f"config key datasets.{name}.{key}: {dataset[key]}; expected pixel units, 0 to 1; "
                "divide those of pixels up to 255 by 255"
            )
    return facts


def _check_weights(config: dict) -> None:
    for name, training in config["trainings"].items():
        for network, weights in training["weights"].items():
            key = f"config key trainings.{name}.weights.{network}"
            within = isinstance(weights, dict)
            file = weights["file"] if within else weights
            if network not in config["networks"]:
                hint = nearest(network, config["networks"])
                raise UserError(f"{key}: the network is not under networks; {hint}")
            path = Path(file).expanduser()
            if path.suffix not in (".pt", ".pth", ".safetensors"):
                raise UserError(f"{key}: {file!r} is no .pt, .pth or .safetensors file; name one")
            if not path.is_file():
                raise UserError(f"{key}: no such file: {file}; name a state dict")
            if is_checkpoint(path, config["results"]):
                raise UserError(
                    f"{key}: {file} lies where this run would write a checkpoint of its own; name "
                    "another folder for its results (config key results)"
                )
            whole = not within or weights["key"] is None
            training["weights"][network] = str(path) if whole else weights | {"file": str(path)}
    for network in config["networks"]:
        if not any(is_for(training, network) for training in config["trainings"].values()):
            raise UserError(
                f"config key networks: no training is for {network}, as all have weights of other "
                "networks; give its file under weights, or leave it out"
            )


def _check_fit(network: str, facts: dict, dataset: str, source: Source) -> None:
    kind, shape = source.kind, source.shape
    if facts["input"] != kind:
        fitting = [n for n, f in networks().items() if f["input"] == kind]
        own = "a network of your own, file.py:function, which takes them"
        raise UserError(
            f"config key networks: {network} takes {facts['input']}s, but data set {dataset} "
            f"holds {kind}s; for it choose from: {', '.join(fitting) or own}"
        )
    if kind == "image" and min(shape[1:]) < facts["min_size"]:
        size = "x".join(str(s) for s in shape[1:])
        fitting = [
            n
            for n, f in networks().items()
            if f["input"] == kind and f["min_size"] <= min(shape[1:])
        ]
        raise UserError(
            f"config key networks: {network} needs images of at least "
            f"{facts['min_size']}x{facts['min_size']}, but data set {dataset} has {size}; "
            f"for it choose from: {', '.join(fitting)}; or scale the images with "
            f"datasets.{dataset}.size"
        )


def _check_attacks(config: dict, facts: dict[str, Source]) -> None:
    attacks = config["attacks"]
    tokens = [name for name, source in facts.items() if source.kind == "token"]
    for name, attack in attacks.items():
        if plugins.is_own(attack["method"]):
            plugins.check(f"attacks.{name}.method", attack["method"])
        norm, norms = attack["norm"], method_of(attack["method"]).norms
        if norm not in norms:
            other = next(m for m, method in METHODS.items() if norm in method.norms)
            raise UserError(
                f"config key attacks.{name}.norm: {attack['method']} knows {', '.join(norms)} "
                f"only; use method {other} for {norm}"
            )
        if attack["normalised_units"] and attack["norm"] != "linf":
            raise UserError(
                f"config key attacks.{name}.normalised_units: defined for norm linf only; "
                "set it to false or use linf"
            )
        if attack["normalised_units"] and tokens:
            raise UserError(
                f"config key attacks.{name}.normalised_units: data set {tokens[0]} holds tokens, "
                "which are not normalised; set it to false"
            )
        if name == "clean":
            raise UserError(
                "config key attacks.clean: this name means the unattacked images; rename the attack"
            )
        attack["eps_grid"] = sorted({0.0, float(attack["eps"]), *map(float, attack["eps_grid"])})
    chosen_attacks(config, "ablation", "attacks", default=list(attacks))


def _check_ablation(config: dict, facts: dict[str, Source]) -> None:
    """Which images ablated networks are judged on: where classes choose what is frozen, none that
    retraining is judged on."""
    ablation, chooses = config["ablation"], bool(config["retraining"]["from_epochs"])
    if ablation["choose"] == "margin" and (ablation["images"] or 0) < FEWEST:
        raise UserError(
            f"config key ablation.images: {ablation['images']}; expected at least {FEWEST} with "
            "ablation.choose: margin, which draws them from the whole split; give so many, or set "
            "choose to first"
        )
    if ablation.setdefault("split", "validation" if chooses else "test") == "validation":
        for name, dataset in config["datasets"].items():
            if dataset["validation"] is not None:  # else the job counts them
                check_enough(name, dataset["validation"], ablation["images"])
    elif chooses:
        raise UserError(
            "config key ablation.split: selective retraining is judged on test images, so the "
            "classes that it freezes by must not come from them; set it to validation, or "
            "retraining.from_epochs to []"
        )


def chosen_attacks(config: dict, section: str, key: str, *, default=None) -> None:
    """Checks, or fills in, a list of names of attacks; those of ablation.attacks by default, or all
    where that has none."""
    if default is None:
        default = list(config["ablation"]["attacks"] or config["attacks"])
    for name in config[section].setdefault(key, default):
        if name not in config["attacks"]:
            raise UserError(
                f"config key {section}.{key}: {name!r} is not under attacks; "
                f"{nearest(name, config['attacks'])}"
            )


def check_layers(key: str, wanted, chosen_networks: list[str]) -> None:
    if isinstance(wanted, str):
        return
    there = [layer for n in chosen_networks for layer, *_ in networks()[n]["layers"]]
    for pattern in wanted:
        if not fnmatch.filter(there, pattern):
            raise UserError(
                f"config key {key}: no network has a layer {pattern!r}; {nearest(pattern, there)}"
            )


def check_activations(key: str, wanted, chosen_networks: list[str], *, instead: str) -> None:
    """UserError where a key asks for what is behind the activations of layers, and a network does
    not show where these are. wanted: its layers."""
    for network in chosen_networks:
        for reason in hidden_activations(network, wanted):
            raise UserError(
                f"config key {key}: network {network} does not show where its activations are: "
                f"{reason}; set it to {instead}, or leave the network out"
            )


def check_epochs(key: str, wanted, trainings: dict) -> None:
    for name, training in trainings.items():
        for epoch in wanted if isinstance(wanted, list) else []:
            if epoch not in training["epochs"]:
                raise UserError(
                    f"config key {key}: {epoch} is no checkpoint epoch of trainings.{name}; "
                    f"{nearest(epoch, training['epochs'])}"
                )


def check_schedules(key: str, wanted, trainings: dict) -> None:
    """UserError where training on from a checkpoint that a key chooses would learn nothing."""
    for name, training in trainings.items():
        epochs, schedule = training["epochs"], training["schedule"]
        starts = {"all": epochs, "last": epochs[-1:]}.get(str(wanted))
        for epoch in wanted if starts is None else starts:
            if schedule["kind"] == "cosine" and epoch >= schedule["epochs"]:
                raise UserError(
                    f"config key {key}: at epoch {epoch} the cosine schedule of trainings.{name} "
                    "has come to 0, so nothing would be learned; lengthen its schedule.epochs or "
                    "retrain from an earlier epoch"
                )
