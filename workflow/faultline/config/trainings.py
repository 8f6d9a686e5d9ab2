"""Recipes, regularisation and searches of the config's trainings, checked for sense. No torch."""

from faultline.base.errors import UserError, nearest, some
from faultline.networks.facts import networks
from faultline.networks.selection import has_probe, probed_layers


def is_for(training: dict, network: str) -> bool:
    """Whether a training is for a network: one with `weights` only for those that it has."""
    return not training["weights"] or network in training["weights"]


def check_recipe(name: str, training: dict, config: dict) -> None:
    key, recipe = f"config key trainings.{name}", training["recipe"]
    for part, needed in (
        ("adversarial", recipe != "standard"),
        ("regularisation", recipe.endswith("-lr")),
    ):
        if needed and training[part] is None:
            raise UserError(f"{key}.{part}: missing; recipe {recipe} needs it")
        if not needed and training[part] is not None:
            raise UserError(f"{key}.{part}: recipe {recipe} makes no use of it; leave it out")
    _check_base(name, training, config["trainings"])
    if recipe == "standard":
        return
    if recipe.removesuffix("-lr") == "at-fgsm" and training["adversarial"]["norm"] != "linf":
        raise UserError(f"{key}.adversarial.norm: {recipe} knows linf only; use at-pgd for l2")
    if training["regularisation"] is None:
        return
    chosen, section = training["regularisation"], config["sustainability"]
    chosen.setdefault("at", section["at"])
    key, fitting = f"{key}.regularisation", [n for n in config["networks"] if is_for(training, n)]
    if chosen["layers"] != "mvl":
        there = {n: probed_layers(n) for n in fitting}
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
                    f"{some(names)}"
                )
        for network in fitting if chosen["at"] == "activation" else []:
            for layer in chosen["layers"]:
                found = networks()[network].get("probes", [layer])
                if has_probe(network, layer) and layer not in found:
                    raise UserError(
                        f"{key}.layers: no activation function follows {layer} in network "
                        f"{network}; set at to layer, or choose from: {some(found) or 'none'}"
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
    if section["split"] == "test":
        raise UserError(
            "config key sustainability.split: trainings are judged on test images, so the most "
            f"vulnerable layers that trainings.{name} regularises must not come from them; set it "
            "to validation or train"
        )
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


def check_tuning(name: str, training: dict, config: dict) -> None:
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
            training[part] is None
            or (inner == "eta" and training[part]["layers"] != "mvl")
            or (inner == "beta" and "trades" not in training["recipe"])
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
