"""What compression asks of the config."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from faultline.base.errors import UserError
from faultline.config.fields import UNIQUE, Epochs, Layers, Section
from faultline.config.sense import check_epochs, check_layers

if TYPE_CHECKING:
    from faultline.data.sources import Source
    from faultline.studies.config import Config


class Compression(Section):
    """Which layers stand fewer bits, or fewer weights - one at a time, decided on validation
    images, and all together, judged on test images (ours)."""

    layers: Layers = "none"
    epochs: Epochs = "last"
    bits: Annotated[list[Annotated[int, Field(ge=2, le=16)]], UNIQUE] = [8, 4]
    """Bits that the weights of a layer are rounded to, symmetric about 0."""
    inputs: bool = False
    """Whether each of these is tried once more with what goes into a layer rounded to as many bits,
    between the lowest and the highest value that validation images show."""
    scales: Literal["channel", "layer"] = "channel"
    """Whether each unit of a layer, or the layer, has a scale of its own."""
    prune: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], UNIQUE] = [0.5]
    """Shares of the weights, the smallest by size, that become 0."""
    loss: float = Field(0.02, gt=0, lt=1)
    """Loss of clean accuracy, as a share of images, from which on it is too much."""


def check(config: "Config", facts: dict[str, "Source"]) -> None:
    """UserError where the section does not fit the rest of the config; completes it."""
    compression = config.compression
    check_layers("compression.layers", compression.layers, config.networks)
    check_epochs("compression.epochs", compression.epochs, config.trainings)
    if not compression.bits and not compression.prune:
        raise UserError("config key compression.bits: is empty, and so is prune; add what to try")
    compression.bits = sorted(compression.bits, reverse=True)
    compression.prune = sorted(compression.prune)
