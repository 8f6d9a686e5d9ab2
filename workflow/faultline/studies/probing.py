"""What the stages need from a network of the user's own, tried out while its layers are read.

A process apart runs this, `python -m faultline.studies.probing QUESTION ANSWER`, see `facts`.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from faultline.ablation.tracing import Traced, Untraceable
from faultline.base.errors import UserError
from faultline.networks import inspect
from faultline.networks.layers import every_layer, kind
from faultline.networks.plain import preserved
from faultline.networks.probes import probes
from faultline.networks.symbolic import Tracer
from faultline.studies.fragile.remedy import carrier


def abilities(network: nn.Module, layers: Sequence[str], inputs: Tensor) -> dict:
    """Further facts of a network in eval mode; layers: those in use; inputs: two or more.

    {"hidden": {layer: why it is not seen where its activations are}, "probes": those at activation
    functions, "no_gain": {layer: why the remedy cannot act on it}}.
    """
    graph, no_gain = None, {}
    with suppress(Exception), preserved(network):  # each layer tells why it has none
        graph = Tracer().trace(network)
    for layer in layers:
        try:
            carrier(network, layer, graph=graph)
        except UserError as reason:
            no_gain[layer] = str(reason)
    return {
        "hidden": _hidden(network, layers, inputs),
        "probes": probes(network, inputs, at="activation"),
        "no_gain": no_gain,
    }


def _hidden(network: nn.Module, layers: Sequence[str], inputs: Tensor) -> dict[str, str]:
    """Heads and hidden units have their activations inside, so these are never hidden."""
    modules, hidden = every_layer(network), {}
    inside = ("attention", "recurrent", "parameter")
    outside = [name for name in layers if kind(modules[name]) not in inside]
    traceable = [name for name in layers if kind(modules[name]) != "norm"]
    try:
        traced = Traced(network, traceable, inputs)
    except Untraceable as reason:
        return dict.fromkeys(outside, str(reason))
    except UserError as reason:
        return dict.fromkeys(outside, _first_clause(reason))
    for layer in [name for name in outside if name in traceable]:
        try:
            traced.places(layer, "activation")
        except UserError as reason:
            hidden[layer] = _first_clause(reason)
    return hidden


def _first_clause(error: UserError) -> str:
    return str(error).split("; ")[0]


def main(question: str, answer: str) -> None:
    """Writes the answer, facts or {"error": line}, to a file: what the user prints is no answer.
    An empty file says that torch could be imported."""
    Path(answer).touch()
    asked = json.loads(question)
    fits = [(tuple(shape), *others) for shape, *others in asked["fits"]]
    try:
        torch.set_num_threads(1)
        facts = inspect.probe(asked["function"], fits, also=abilities)
    except UserError as error:
        facts = {"error": str(error)}
    Path(answer).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
