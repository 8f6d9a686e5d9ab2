"""What the stages need from a network of the user's own, tried out while its layers are read.

A process apart runs this, `python -m faultline.studies.probing QUESTIONS ANSWERS`, see
`networks.asking`.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

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


def main(questions: str, answers: str) -> None:
    """Writes the answers to a file, one after the other, each facts or {"error": line} in a line:
    what the user prints is no answer. An empty file says that torch could be imported."""
    with Path(answers).open("w", encoding="utf-8", buffering=1) as file:
        torch.set_num_threads(1)
        for asked in json.loads(questions):
            print(json.dumps(_answer(**asked)), file=file)


def _answer(function: str, fits: list[list[Any]], timed: bool = False) -> dict[str, Any]:
    """timed: no more than how long it takes, of a built-in network by its name, too."""
    of: list[Any] = [(tuple(shape), *others) for shape, *others in fits]
    try:
        return inspect.timed(function, of) if timed else inspect.probe(function, of, also=abilities)
    except UserError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main(*sys.argv[1:])
