"""What several sections of the config ask of their keys. No torch."""

import fnmatch

from faultline.base.errors import UserError, nearest
from faultline.config.trainings import Training
from faultline.networks.facts import networks
from faultline.networks.selection import hidden_activations


def check_layers(key: str, wanted: str | list[str], chosen_networks: list[str]) -> None:
    """UserError where a network has not got a layer that a key names."""
    if isinstance(wanted, str):
        return
    there = [layer for n in chosen_networks for layer, *_ in networks()[n]["layers"]]
    for pattern in wanted:
        if not fnmatch.filter(there, pattern):
            raise UserError(
                f"config key {key}: no network has a layer {pattern!r}; {nearest(pattern, there)}"
            )


def check_activations(
    key: str, wanted: str | list[str], chosen_networks: list[str], *, instead: str
) -> None:
    """UserError where a key asks for what is behind the activations of layers, and a network does
    not show where these are. wanted: its layers."""
    for network in chosen_networks:
        for reason in hidden_activations(network, wanted):
            raise UserError(
                f"config key {key}: network {network} does not show where its activations are: "
                f"{reason}; set it to {instead}, or leave the network out"
            )


def check_epochs(key: str, wanted: str | list[int], trainings: dict[str, Training]) -> None:
    """UserError where an epoch that a key names is no checkpoint of a training."""
    for name, training in trainings.items():
        for epoch in wanted if isinstance(wanted, list) else []:
            if epoch not in training.epochs:
                raise UserError(
                    f"config key {key}: {epoch} is no checkpoint epoch of trainings.{name}; "
                    f"{nearest(epoch, training.epochs)}"
                )


def check_schedules(key: str, wanted: str | list[int], trainings: dict[str, Training]) -> None:
    """UserError where training on from a checkpoint that a key chooses would learn nothing."""
    for name, training in trainings.items():
        epochs, schedule = training.epochs, training.schedule
        if not isinstance(wanted, str):
            epochs = wanted
        elif wanted == "last":
            epochs = epochs[-1:]
        for epoch in epochs:
            if schedule.kind == "cosine" and epoch >= schedule.epochs:
                raise UserError(
                    f"config key {key}: at epoch {epoch} the cosine schedule of trainings.{name} "
                    "has come to 0, so nothing would be learned; lengthen its schedule.epochs or "
                    "retrain from an earlier epoch"
                )
