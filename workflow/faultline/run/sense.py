"""The config: checked against its schema, completed, and checked for sense. No torch."""

import copy
import fnmatch
from pathlib import Path

from faultline.base import plugins
from faultline.base.errors import UserError, nearest
from faultline.data.describe import describe
from faultline.data.sources import SOURCE_NAMES, Source
from faultline.networks import facts as network_facts
from faultline.networks.facts import networks
from faultline.run.plan import has_probe, is_for, published_rows
from faultline.run.schema import check_finite, check_schema, with_defaults

# Keys of data sets that mean something for one source only.
_KEYS_OF = {
    "image_folder": {"channels": None, "on_bad_image": "stop"},
    "npz": {"file": None, "classes": None},
}


def resolve(config: dict, schema: dict) -> dict:
    """The config with every default filled in.

    Raises UserError with one line that names the key, what was expected and what to do.
    """
    check_schema(config, schema)
    check_finite(config)
    config = with_defaults(copy.deepcopy(config), schema, schema)
    _check_sense(config)
    return config


def _check_sense(config: dict) -> None:
    facts = {name: _check_dataset(name, part) for name, part in config["datasets"].items()}
    _check_own_networks(config, facts)
    known = networks()
    for network in config["networks"]:
        for name in config["datasets"]:
            _check_fit(network, known[network], name, facts[name].shape)
    _check_weights(config)
    for name, training in config["trainings"].items():
        epochs = training["epochs"]
        if epochs != sorted(set(epochs)):
            raise UserError(
                f"config key trainings.{name}.epochs: {epochs} does not go up; "
                "give each checkpoint epoch once, in ascending order"
            )
        for dataset in config["datasets"]:
            if len(facts[dataset].shape) == 1 and any(training["augmentation"].values()):
                raise UserError(
                    f"config key trainings.{name}.augmentation: data set {dataset} holds vectors, "
                    "which cannot be shifted or mirrored; leave it out"
                )
    _check_attacks(config)
    for key in ("synaptic_filtering", "nodal_dropout", "targeting", "remedy", "perturbations"):
        _check_layers(f"{key}.layers", config[key]["layers"], config["networks"])
    limits = config["synaptic_filtering"]["global_range"]
    if limits and not limits[0] < limits[1]:
        raise UserError(
            f"config key synaptic_filtering.global_range: {limits} does not go up; "
            "expected [low, high]"
        )
    _check_retraining(config)
    _check_epochs("targeting.epochs", config["targeting"]["epochs"], config["trainings"])
    _check_epochs("remedy.from_epochs", config["remedy"]["from_epochs"], config["trainings"])
    _check_epochs("robustness.epochs", config["robustness"]["epochs"], config["trainings"])
    _check_perturbations(config)
    _check_sustainability(config, facts)
    for name, training in config["trainings"].items():
        _check_recipe(name, training, config)
    for name, training in config["trainings"].items():
        _check_tuning(name, training, config)
    _check_published(config)
    _check_own_ablations(config)


def _check_own_networks(config: dict, facts: dict[str, Source]) -> None:
    """Names the networks that are given as functions, and finds their layers."""
    mine, builtin = config["own_networks"], network_facts.registry()
    for place, network in enumerate(config["networks"]):
        if plugins.is_own(network):
            name = network.rpartition(":")[2]
            if (
                mine.setdefault(name, {"function": network, "normalise": True})["function"]
                != network
            ):
                raise UserError(
                    f"config key networks: two networks would be called {name}; name one in "
                    "own_networks"
                )
            config["networks"][place] = name
    fits = [(of.shape, of.classes) for of in facts.values()]
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
            found = network_facts.own_facts(network, mine[network], fits, folder=folder)
            network_facts.add(network, found)


def _check_own_ablations(config: dict) -> None:
    for name, ablation in config["ablations"].items():
        plugins.check(f"ablations.{name}.function", ablation["function"])
        _check_layers(f"ablations.{name}.layers", ablation["layers"], config["networks"])
        _check_epochs(f"ablations.{name}.epochs", ablation["epochs"], config["trainings"])


def _check_dataset(name: str, dataset: dict) -> Source:
    """Completes one data set of the config; what is known of it."""
    if name in ("tables", "logs", "benchmarks"):
        raise UserError(f"config key datasets.{name}: a folder of the results; rename it")
    source = dataset.setdefault("source", name)
    if source not in SOURCE_NAMES:
        raise UserError(
            f"config key datasets.{name}: no data set of this name, and no source given; "
            f"{nearest(name, SOURCE_NAMES)}"
        )
    for owner, keys in _KEYS_OF.items():
        for key, default in keys.items():
            if source != owner and dataset[key] != default:
                raise UserError(
                    f"config key datasets.{name}.{key}: is for source {owner} only, not {source}; "
                    "leave it out"
                )
    if source == "image_folder":
        dataset["channels"] = dataset["channels"] or 3
    facts = describe(dataset, name=name)
    if source == "npz":
        dataset["classes"] = facts.classes
    dataset.setdefault("validation", None if facts.official_validation else 100)
    if dataset["test"] is None and not facts.official_test:
        raise UserError(
            f"config key datasets.{name}.test: missing; {source} has no official "
            "test set, so say how many samples to test on"
        )
    for key, other in (("mean", "std"), ("std", "mean")):
        if dataset[other] is None:
            continue
        if dataset[key] is None:
            raise UserError(f"config key datasets.{name}.{key}: missing; it goes with {other}")
        if len(dataset[key]) != facts.shape[0]:
            raise UserError(
                f"config key datasets.{name}.{key}: {len(dataset[key])} values; expected "
                f"{facts.shape[0]}, one per channel"
            )
    return facts


def _check_weights(config: dict) -> None:
    for name, training in config["trainings"].items():
        for network, file in training["weights"].items():
            key = f"config key trainings.{name}.weights.{network}"
            if network not in config["networks"]:
                hint = nearest(network, config["networks"])
                raise UserError(f"{key}: the network is not under networks; {hint}")
            path = Path(file).expanduser()
            if path.suffix not in (".pt", ".pth", ".safetensors"):
                raise UserError(f"{key}: {file!r} is no .pt, .pth or .safetensors file; name one")
            if not path.is_file():
                raise UserError(f"{key}: no such file: {file}; name a state dict")
            training["weights"][network] = str(path)
    for network in config["networks"]:
        if not any(is_for(training, network) for training in config["trainings"].values()):
            raise UserError(
                f"config key networks: no training is for {network}, as all have weights of other "
                "networks; give its file under weights, or leave it out"
            )


def _check_fit(network: str, facts: dict, dataset: str, shape: tuple) -> None:
    kind = "vector" if len(shape) == 1 else "image"
    if facts["input"] != kind:
        fitting = [n for n, f in networks().items() if f["input"] == kind]
        raise UserError(
            f"config key networks: {network} takes {facts['input']}s, but data set {dataset} "
            f"holds {kind}s; for it choose from: {', '.join(fitting)}"
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


def _check_attacks(config: dict) -> None:
    attacks = config["attacks"]
    for name, attack in attacks.items():
        if plugins.is_own(attack["method"]):
            plugins.check(f"attacks.{name}.method", attack["method"])
        elif attack["options"]:
            raise UserError(
                f"config key attacks.{name}.options: is for a method of your own only, not for "
                f"{attack['method']}; leave it out"
            )
        if attack["method"] == "fgsm" and attack["norm"] != "linf":
            raise UserError(
                f"config key attacks.{name}.norm: fgsm knows linf only; "
                f"use method pgd for {attack['norm']}"
            )
        if attack["normalised_units"] and attack["norm"] != "linf":
            raise UserError(
                f"config key attacks.{name}.normalised_units: defined for norm linf only; "
                "set it to false or use linf"
            )
        if name == "clean":
            raise UserError(
                "config key attacks.clean: this name means the unattacked images; rename the attack"
            )
        attack["eps_grid"] = sorted({0.0, float(attack["eps"]), *map(float, attack["eps_grid"])})
    chosen = config["ablation"].setdefault("attacks", list(attacks))
    lists = {"ablation.attacks": chosen}
    for section, key in (
        ("retraining", "judged_under"),
        ("targeting", "attacks"),
        ("remedy", "judged_under"),
        ("sustainability", "perturbers"),
    ):
        lists[f"{section}.{key}"] = config[section].setdefault(key, list(chosen))
    lists["robustness.attacks"] = config["robustness"]["attacks"]
    for key, names in lists.items():
        for name in names:
            if name not in attacks:
                raise UserError(
                    f"config key {key}: {name!r} is not under attacks; {nearest(name, attacks)}"
                )


def _check_layers(key: str, wanted, chosen_networks: list[str]) -> None:
    if isinstance(wanted, str):
        return
    there = [layer for n in chosen_networks for layer, *_ in networks()[n]["layers"]]
    for pattern in wanted:
        if not fnmatch.filter(there, pattern):
            raise UserError(
                f"config key {key}: no network has a layer {pattern!r}; {nearest(pattern, there)}"
            )


def _check_epochs(key: str, wanted, trainings: dict) -> None:
    for name, training in trainings.items():
        for epoch in wanted if isinstance(wanted, list) else []:
            if epoch not in training["epochs"]:
                raise UserError(
                    f"config key {key}: {epoch} is no checkpoint epoch of trainings.{name}; "
                    f"{nearest(epoch, training['epochs'])}"
                )


def _check_perturbations(config: dict) -> None:
    perturbations = config["perturbations"]
    _check_epochs("perturbations.epochs", perturbations["epochs"], config["trainings"])
    for key in ("shares", "sigmas"):
        perturbations[key] = sorted(set(map(float, perturbations[key])))
        if not perturbations[key][-1]:
            raise UserError(f"config key perturbations.{key}: only 0; add what is to be tried")


_UNBOUNDED_NOISES = {
    "gaussian": {"kind": "gaussian", "strength": 0.1},
    "speckle": {"kind": "speckle", "strength": 0.1},
}

_NOISES = _UNBOUNDED_NOISES | {
    "salt": {"kind": "salt", "strength": 0.05},
    "pepper": {"kind": "pepper", "strength": 0.05},
}


def _check_sustainability(config: dict, facts: dict) -> None:
    section = config["sustainability"]
    _check_epochs("sustainability.epochs", section["epochs"], config["trainings"])
    unbounded = [name for name, source in facts.items() if source.bounds is None]
    section.setdefault("noises", copy.deepcopy(_UNBOUNDED_NOISES if unbounded else _NOISES))
    for name, noise in section["noises"].items():
        if name in config["attacks"]:
            raise UserError(f"config key sustainability.noises.{name}: an attack's name; rename it")
        if noise["kind"] in ("salt", "pepper") and noise["strength"] > 1:
            raise UserError(
                f"config key sustainability.noises.{name}.strength: {noise['strength']} is too "
                "large; give a share of at most 1"
            )
        if unbounded and noise["kind"] in ("salt", "pepper"):
            raise UserError(
                f"config key sustainability.noises.{name}: {noise['kind']} sets pixels to a bound, "
                f"and data set {unbounded[0]} has none; leave it out"
            )
    if not section["perturbers"] and not section["noises"]:
        raise UserError("config key sustainability.perturbers: nothing perturbs; name an attack")
    section["eta_grid"] = sorted({*map(float, section["eta_grid"]), float(section["eta"])})


def _check_recipe(name: str, training: dict, config: dict) -> None:
    key, recipe = f"config key trainings.{name}", training["recipe"]
    for part, needed in (
        ("adversarial", recipe != "standard"),
        ("regularisation", recipe.endswith("-lr")),
    ):
        if needed and training[part] is None:
            raise UserError(f"{key}.{part}: missing; recipe {recipe} needs it")
        if not needed and training[part] is not None:
            raise UserError(f"{key}.{part}: recipe {recipe} makes no use of it; leave it out")
    if recipe == "standard":
        return
    _check_base(name, training, config["trainings"])
    if recipe.removesuffix("-lr") == "at-fgsm" and training["adversarial"]["norm"] != "linf":
        raise UserError(f"{key}.adversarial.norm: {recipe} knows linf only; use at-pgd for l2")
    if training["regularisation"] is None:
        return
    chosen, section = training["regularisation"], config["sustainability"]
    chosen.setdefault("at", section["at"])
    key, fitting = f"{key}.regularisation", [n for n in config["networks"] if is_for(training, n)]
    if chosen["layers"] != "mvl":
        there = {n: [layer for layer, *_ in networks()[n]["layers"]] for n in fitting}
        for layer in chosen["layers"]:
            if not any(has_probe(network, layer) for network in fitting):
                known = [name for names in there.values() for name in names]
                raise UserError(
                    f"{key}.layers: network {', '.join(fitting)} has no layer {layer!r}; "
                    f"{nearest(layer, known)}"
                )
        for network, names in there.items():
            if not any(has_probe(network, layer) for layer in chosen["layers"]):
                raise UserError(
                    f"{key}.layers: none of them is a layer of network {network}; add one of: "
                    f"{', '.join(names)}"
                )
        if isinstance(chosen["gamma"], dict) and set(chosen["gamma"]) != set(chosen["layers"]):
            raise UserError(f"{key}.gamma: give one for each of layers, or a single number")
        for part in ("of", "perturber", "eta"):
            if part in chosen:
                raise UserError(f"{key}.{part}: is for layers mvl only; leave it out")
        return
    if isinstance(chosen["gamma"], dict):
        raise UserError(f"{key}.gamma: with layers mvl, the layers are not known; give one number")
    standard = [n for n, t in config["trainings"].items() if t["recipe"] == "standard"]
    if "of" not in chosen and len(standard) != 1:
        raise UserError(
            f"{key}.of: missing; {len(standard)} trainings are standard, name the one whose "
            "most vulnerable layers are meant"
        )
    chosen.setdefault("of", standard[0] if standard else None)
    if chosen["of"] not in standard:
        raise UserError(
            f"{key}.of: {chosen['of']!r} is no training of recipe standard; "
            f"{nearest(chosen['of'], standard)}"
        )
    for network in fitting:
        if not is_for(config["trainings"][chosen["of"]], network):
            raise UserError(f"{key}.of: training {chosen['of']!r} is not for network {network}")
    perturbers = [*section["perturbers"], *section["noises"]]
    if chosen.setdefault("perturber", perturbers[0]) not in perturbers:
        raise UserError(
            f"{key}.perturber: {chosen['perturber']!r} is none of sustainability; "
            f"{nearest(chosen['perturber'], perturbers)}"
        )
    if chosen["at"] != section["at"]:
        raise UserError(f"{key}.at: differs from sustainability.at, which makes the list")
    chosen.setdefault("eta", section["eta"])


def _check_base(name: str, training: dict, trainings: dict) -> None:
    """Completes what a regularised training is compared with."""
    recipe, key = training["recipe"], f"config key trainings.{name}.base"
    alike = [n for n, t in trainings.items() if t["recipe"] == recipe.removesuffix("-lr")]
    if not recipe.endswith("-lr"):
        if "base" in training:
            raise UserError(f"{key}: is for recipes with -lr; leave it out")
    elif "base" not in training and len(alike) > 1:
        raise UserError(
            f"{key}: missing; {', '.join(alike)} have this recipe without -lr, name one"
        )
    elif "base" in training and training["base"] not in alike:
        raise UserError(
            f"{key}: {training['base']!r} has not this recipe without -lr; "
            f"{nearest(training['base'], alike)}"
        )
    elif alike:
        training.setdefault("base", alike[0])


def _check_tuning(name: str, training: dict, config: dict) -> None:
    tune, key = training["tune"], f"config key trainings.{name}.tune"
    if tune is None:
        return
    if training["weights"]:
        raise UserError(f"{key}: candidates start from random weights; leave out tune or weights")
    if "as" in tune:
        others = [n for n, t in config["trainings"].items() if t["tune"] and "as" not in t["tune"]]
        if tune["as"] not in others:
            raise UserError(
                f"{key}.as: {tune['as']!r} is no training that tunes by itself; "
                f"{nearest(tune['as'], others) if others else 'there is none'}"
            )
    elif not tune["grid"]:
        raise UserError(f"{key}.grid: missing; say what to try, or name a training under as")
    for setting in tune["grid"]:
        part, _, inner = setting.rpartition(".")
        if part and (
            training[part] is None or (inner == "eta" and training[part]["layers"] != "mvl")
        ):
            raise UserError(f"{key}.grid.{setting}: the training has no such setting; leave it out")
    if twice := set(tune["seeds"]) & set(config["seeds"]):
        raise UserError(
            f"{key}.seeds: {min(twice)} is a seed of the run, which would be judged by networks it "
            "was chosen by; take others"
        )
    attack = tune.setdefault("attack", next(iter(config["attacks"])))
    if attack not in config["attacks"]:
        raise UserError(
            f"{key}.attack: {attack!r} is not under attacks; {nearest(attack, config['attacks'])}"
        )
    grid = config["attacks"][attack]["eps_grid"]
    if tune["towards"] is not None and len(tune["towards"]) != len(grid):
        raise UserError(
            f"{key}.towards: {len(tune['towards'])} accuracies; expected {len(grid)}, one for each "
            f"eps of attacks.{attack}: {', '.join(f'{eps:g}' for eps in grid)}"
        )


def _check_published(config: dict) -> None:
    rows = published_rows(config["published"]) if config["published"] else []
    names = list(dict.fromkeys(row["training"] for row in rows))
    for name, training in config["trainings"].items():
        if "published" in training and training["published"] not in names:
            where = config["published"] or "a table, as the key published names none"
            hint = f"; {nearest(training['published'], names)}" if names else "; name one"
            raise UserError(
                f"config key trainings.{name}.published: {training['published']!r} is no row of "
                f"{where}{hint}"
            )


def _check_retraining(config: dict) -> None:
    retraining = config["retraining"]
    attacks = config["ablation"]["attacks"]
    if retraining.setdefault("attack", attacks[0]) not in attacks:
        raise UserError(
            f"config key retraining.attack: {retraining['attack']!r} is not under "
            f"ablation.attacks; {nearest(retraining['attack'], attacks)}"
        )
    _check_epochs("retraining.from_epochs", retraining["from_epochs"], config["trainings"])
    for name, training in config["trainings"].items():
        epochs, schedule = training["epochs"], training["schedule"]
        starts = {"all": epochs, "last": epochs[-1:]}.get(str(retraining["from_epochs"]))
        for epoch in retraining["from_epochs"] if starts is None else starts:
            if schedule["kind"] == "cosine" and epoch >= schedule["epochs"]:
                raise UserError(
                    f"config key retraining.from_epochs: at epoch {epoch} the cosine schedule of "
                    f"trainings.{name} has come to 0, so nothing would be learned; lengthen its "
                    "schedule.epochs or retrain from an earlier epoch"
                )
    filters = config["synaptic_filtering"]["filters"]
    if retraining["from_epochs"] and config["synaptic_filtering"]["layers"] == "none":
        raise UserError(
            "config key retraining.from_epochs: retraining needs synaptic_filtering.layers; "
            "choose layers, or set from_epochs to []"
        )
    if retraining["by"] == "band" and "pulse" not in filters:
        raise UserError(
            "config key retraining.by: band needs the pulse filter; add pulse to "
            "synaptic_filtering.filters or set by to layer"
        )
    if retraining["filter"] not in [*filters, "combined"]:
        raise UserError(
            f"config key retraining.filter: {retraining['filter']!r} is not swept; "
            f"{nearest(retraining['filter'], [*filters, 'combined'])}"
        )
