"""What layer sustainability asks of the config."""

import copy

from faultline.base.errors import UserError
from faultline.config.sense import check_epochs, chosen_attacks
from faultline.networks.facts import networks

_UNBOUNDED_NOISES = {
    "gaussian": {"kind": "gaussian", "strength": 0.1},
    "speckle": {"kind": "speckle", "strength": 0.1},
}
_NOISES = _UNBOUNDED_NOISES | {
    "salt": {"kind": "salt", "strength": 0.05},
    "pepper": {"kind": "pepper", "strength": 0.05},
}


def check(config: dict, facts: dict) -> None:
    section = config["sustainability"]
    chosen_attacks(config, "sustainability", "perturbers")
    check_epochs("sustainability.epochs", section["epochs"], config["trainings"])
    for network in config["networks"] if section["epochs"] else []:
        if section["at"] == "activation" and networks()[network].get("probes") == []:
            raise UserError(
                f"config key sustainability.at: network {network} calls no activation function "
                "that can be watched; set it to layer, or leave the network out"
            )
    unbounded = [name for name, source in facts.items() if source.bounds is None]
    tokens = [name for name, source in facts.items() if source.kind == "token"]
    usual = {} if tokens else _UNBOUNDED_NOISES if unbounded else _NOISES
    section.setdefault("noises", copy.deepcopy(usual))
    if tokens and section["noises"]:
        raise UserError(
            f"config key sustainability.noises: data set {tokens[0]} holds tokens, to which "
            "nothing can be added; set it to {}"
        )
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
