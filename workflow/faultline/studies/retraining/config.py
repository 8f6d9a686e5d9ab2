"""What selective retraining asks of the config."""

from faultline.base.errors import UserError, nearest
from faultline.config.sense import check_epochs, check_schedules, chosen_attacks


def check(config: dict, facts: dict) -> None:
    retraining = config["retraining"]
    chosen_attacks(config, "retraining", "judged_under")
    attacks = config["ablation"]["attacks"]
    if not attacks and retraining["from_epochs"] and retraining["score"] != "S_clean":
        raise UserError(
            f"config key ablation.attacks: none is given, but retraining goes by "
            f"{retraining['score']}; name one, or set retraining.score to S_clean"
        )
    default = attacks[0] if attacks else "none"
    if retraining.setdefault("attack", default) not in [*attacks, default]:
        raise UserError(
            f"config key retraining.attack: {retraining['attack']!r} is not under "
            f"ablation.attacks; {nearest(retraining['attack'], attacks)}"
        )
    check_epochs("retraining.from_epochs", retraining["from_epochs"], config["trainings"])
    check_schedules("retraining.from_epochs", retraining["from_epochs"], config["trainings"])
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
