"""Which layers of a network a key of the config chooses. No torch."""

import fnmatch
import re
from collections.abc import Sequence

from faultline.networks.facts import networks


def has_probe(network: str, probe: str) -> bool:
    """Whether a network has the layer that a probe, as "conv1" or "conv1:2", is named after."""
    layer = re.sub(r":\d+$", "", probe)
    return layer in probed_layers(network)


def probed_layers(network: str) -> list[str]:
    """Layers whose outputs are probes; those of normalisations are not."""
    rows = networks()[network]["layers"]
    return [name for name, kind, _ in rows if kind not in ("norm", "parameter")]


def select_layers(network: str, wanted: str | Sequence[str], *, called: bool = False) -> list[str]:
    """Names of the layers of `network` that a `layers` key chooses, in their order; called: only of
    those that are modules, which have outputs."""
    rows = networks()[network]["layers"]
    rows = [row for row in rows if not (called and row[1] == "parameter")]
    if wanted == "none":
        return []
    if wanted == "all":
        return [layer for layer, *_ in rows]
    if wanted == "first":
        convs = [layer for layer, kind, _ in rows if kind == "conv"]
        return (convs or probed_layers(network))[:1]
    return [layer for layer, *_ in rows if any(fnmatch.fnmatch(layer, p) for p in wanted)]


def hidden_activations(network: str, wanted: str | Sequence[str]) -> list[str]:
    """Why it is not seen where the activations of layers are that a `layers` key chooses."""
    hidden = networks()[network].get("hidden", {})
    return [
        hidden[layer] for layer in select_layers(network, wanted, called=True) if layer in hidden
    ]


def count_filters(network: str, layer: str, classes: int) -> int:
    """Number of filters of a layer; the output layer has one per class."""
    counts = {name: count for name, _, count in networks()[network]["layers"]}
    return classes if counts[layer] == "classes" else int(counts[layer])
