"""What internal perturbations ask of the config."""

from faultline.base.errors import UserError
from faultline.config.sense import check_epochs, check_layers


def check(config: dict, facts: dict) -> None:
    perturbations = config["perturbations"]
    check_layers("perturbations.layers", perturbations["layers"], config["networks"])
    check_epochs("perturbations.epochs", perturbations["epochs"], config["trainings"])
    for key in ("shares", "sigmas"):
        perturbations[key] = sorted(set(map(float, perturbations[key])))
        if not perturbations[key][-1]:
            raise UserError(f"config key perturbations.{key}: only 0; add what is to be tried")
