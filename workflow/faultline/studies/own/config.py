"""What ablations of the user's own ask of the config."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from faultline.base import plugins
from faultline.config.fields import CODE, Epochs, Layers, Section
from faultline.config.sense import check_epochs, check_layers

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class OwnAblation(Section):
    """An ablation of the user's own."""

    function: Annotated[str, CODE]
    """file.py:function, called with (name of a layer, the layer, **options), yields
    faultline.Variant of that layer."""
    layers: Layers = "all"
    epochs: Epochs = "last"
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the function, by name."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    for name, ablation in config.ablations.items():
        plugins.check(f"ablations.{name}.function", ablation.function)
        check_layers(f"ablations.{name}.layers", ablation.layers, config.networks)
        check_epochs(f"ablations.{name}.epochs", ablation.epochs, config.trainings)
