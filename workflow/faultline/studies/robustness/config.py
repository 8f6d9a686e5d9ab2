"""What the comparison of trainings asks of the config."""

from faultline.base.errors import UserError, nearest
from faultline.run.plan import published_rows
from faultline.run.sense import check_epochs, chosen_attacks


def check(config: dict, facts: dict) -> None:
    chosen_attacks(config, "robustness", "attacks")
    check_epochs("robustness.epochs", config["robustness"]["epochs"], config["trainings"])
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
