"""What targeting and the remedy ask of the config."""

from faultline.base.errors import UserError
from faultline.config.sense import check_activations, check_epochs, check_layers, chosen_attacks
from faultline.networks.facts import networks
from faultline.networks.selection import hidden_activations, select_layers


def check(config: dict, facts: dict) -> None:
    for key, attacks, epochs in (
        ("targeting", "attacks", "epochs"),
        ("remedy", "judged_under", "from_epochs"),
    ):
        check_layers(f"{key}.layers", config[key]["layers"], config["networks"])
        check_epochs(f"{key}.{epochs}", config[key][epochs], config["trainings"])
        chosen_attacks(config, key, attacks)
    _check_targeting(config)
    _check_gains(config)


def _check_targeting(config: dict) -> None:
    """Left out, `at` is filled in only where it holds for all networks; see `Plan.targeted_at`."""
    targeting, chosen = config["targeting"], config["networks"]
    if targeting.get("at") == "activation":
        check_activations("targeting.at", targeting["layers"], chosen, instead="output")
    elif not any(hidden_activations(network, targeting["layers"]) for network in chosen):
        targeting.setdefault("at", "activation")


def _check_gains(config: dict) -> None:
    for network in config["networks"]:
        refused = networks()[network].get("no_gain", {})
        for layer in select_layers(network, config["remedy"]["layers"]):
            if layer in refused:
                raise UserError(f"{refused[layer]} (network {network})")
