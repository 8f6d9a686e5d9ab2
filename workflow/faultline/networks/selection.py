"""Which layers of a network a key of the config chooses. No torch."""

import fnmatch
import re

from faultline.networks.facts import networks


def has_probe(network: str, probe: str) -> bool:
    """Whether a network has the layer that a probe, as "conv1" or "conv1:2", is named after."""
    layer = re.sub(r":\d+$", "", probe)
    return layer in probed_layers(network)


def probed_layers(network: str) -> list[str]:
    """Layers whose outputs are probes; those of normalisations are not."""
    return [name for name, kind, _ in networks()[network]["layers"] if kind != "norm"]


def select_layers(network: str, wanted) -> list[str]:
    """Names of the layers of `network` that a `layers` key chooses, in their order."""
    known = networks()[network]["layers"]
    if wanted == "none":
        return []
    if wanted == "all":
        return [layer for layer, *_ in known]
    if wanted == "first":
        convs = [layer for layer, kind, _ in known if kind == "conv"]
        return (convs or probed_layers(network))[:1]
    return [layer for layer, *_ in known if any(fnmatch.fnmatch(layer, p) for p in wanted)]


def hidden_activations(network: str, wanted) -> list[str]:
    """Why it is not seen where the activations of layers are that a `layers` key chooses."""
    hidden = networks()[network].get("hidden", {})
    return [hidden[layer] for layer in select_layers(network, wanted) if layer in hidden]


def count_filters(network: str, layer: str, classes: int) -> int:
    """Number of filters of a layer; the output layer has one per class."""
    filters = {name: count for name, _, count in networks()[network]["layers"]}[layer]
    return classes if filters == "classes" else filters
