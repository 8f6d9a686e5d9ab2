"""What ablations of the user's own ask of the config."""

from faultline.base import plugins
from faultline.config.sense import check_epochs, check_layers


def check(config: dict, facts: dict) -> None:
    for name, ablation in config["ablations"].items():
        plugins.check(f"ablations.{name}.function", ablation["function"])
        check_layers(f"ablations.{name}.layers", ablation["layers"], config["networks"])
        check_epochs(f"ablations.{name}.epochs", ablation["epochs"], config["trainings"])
