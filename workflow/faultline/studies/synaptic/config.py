"""What synaptic filtering and nodal dropout ask of the config."""

from faultline.base.errors import UserError
from faultline.config.sense import check_activations, check_layers


def check(config: dict, facts: dict) -> None:
    for key in ("synaptic_filtering", "nodal_dropout"):
        check_layers(f"{key}.layers", config[key]["layers"], config["networks"])
    dropout = config["nodal_dropout"]
    if dropout["at"] == "activation":
        chosen = config["networks"]
        check_activations("nodal_dropout.at", dropout["layers"], chosen, instead="weights")
    limits = config["synaptic_filtering"]["global_range"]
    if limits and not limits[0] < limits[1]:
        raise UserError(
            f"config key synaptic_filtering.global_range: {limits} does not go up; "
            "expected [low, high]"
        )
    draws = config["synaptic_filtering"]["random_draws"]
    if config["scores"]["baseline"] == "random" and draws < 2:
        raise UserError(
            "config key scores.baseline: random needs synaptic_filtering.random_draws of at least "
            "2; raise it, or choose unfiltered or kept_fraction"
        )
    if draws == 1:
        raise UserError(
            "config key synaptic_filtering.random_draws: one draw tells nothing of the spread over "
            "draws; expected at least 2, or 0 to leave them out"
        )
