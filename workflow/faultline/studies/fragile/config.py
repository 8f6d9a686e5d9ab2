"""What targeting and the remedy ask of the config."""

from faultline.run.sense import check_epochs, check_layers, chosen_attacks


def check(config: dict, facts: dict) -> None:
    for key, attacks, epochs in (
        ("targeting", "attacks", "epochs"),
        ("remedy", "judged_under", "from_epochs"),
    ):
        check_layers(f"{key}.layers", config[key]["layers"], config["networks"])
        check_epochs(f"{key}.{epochs}", config[key][epochs], config["trainings"])
        chosen_attacks(config, key, attacks)
