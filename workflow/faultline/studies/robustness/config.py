"""What the comparison of trainings asks of the config."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from faultline.base.errors import UserError, nearest
from faultline.config.attacks import chosen_attacks
from faultline.config.fields import Epochs, Names, Section
from faultline.config.sense import check_epochs

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class Robustness(Section):
    """Accuracy of each checkpoint under attacks that nothing else needs."""

    attacks: Names = Field(default_factory=list)
    """Attacks that one job per checkpoint evaluates together; for networks so small that
    starting a job costs more than an attack."""
    epochs: Epochs = "all"
    masking: float = Field(10, ge=0, le=100)
    """Points of accuracy between FGSM and APGD, or between an attack of several steps and the
    worst case over attacks, from which on a warning tells that it flatters the network; half as
    many for attacks that scores rest on (ours)."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    robustness = config.robustness
    chosen_attacks(robustness, "attacks", config.attacks, where="robustness", default=[])
    check_epochs("robustness.epochs", robustness.epochs, config.trainings)
    rows = published_rows(config.published) if config.published else []
    names = list(dict.fromkeys(row["training"] for row in rows))
    for name, training in config.trainings.items():
        if training.published is not None and training.published not in names:
            where = config.published or "a table, as the key published names none"
            hint = f"; {nearest(training.published, names)}" if names else "; name one"
            raise UserError(
                f"config key trainings.{name}.published: {training.published!r} is no row of "
                f"{where}{hint}"
            )


def published_rows(path: str) -> list[dict]:
    """The rows of a file of published accuracies, {training, network and dataset (None where the
    file has no such column), values: {eps (text) or "rg_score": value in %}}; UserError if it is
    no such file."""
    try:
        head, *lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError):
        raise UserError(f"config key published: cannot read {path}; name a table") from None
    columns, rows = head.split("\t"), []
    if "training" not in columns:
        raise UserError(f"config key published: {path} has no column training; name a table")
    for number, line in enumerate(lines, 2):
        row = dict(zip(columns, line.split("\t"), strict=False))
        try:
            values = {
                k if k == "rg_score" else f"{float(k.removeprefix('eps_')):g}": float(row[k])
                for k in columns
                if k == "rg_score" or k.startswith("eps_")
            }
            if not all(
                map(math.isfinite, [*values.values(), *map(float, {*values} - {"rg_score"})])
            ):
                raise ValueError
        except (KeyError, ValueError):
            raise UserError(
                f"config key published: {path}, line {number}: a value in % is missing or no "
                "number; give one in each column eps_<eps> and rg_score"
            ) from None
        named = {key: row.get(key) for key in ("training", "network", "dataset")}
        rows.append(named | {"values": values})
    return rows
