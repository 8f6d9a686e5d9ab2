"""The layers of networks, read by building them; of the user's own in a process apart.

Parsing the workflow must know the layers and must not import torch, so a process that does builds
the network, runs it on noise and writes what it found into a file; see `facts`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.networks.facts import KINDS, Fit
from faultline.networks.layers import called, filters, layers
from faultline.networks.plugins import kind_of
from faultline.networks.registry import REGISTRY, entry_of


def catalogue() -> dict:
    """What can be known of every network without building it.

    {network: {"input", "min_size", "layers": [[path, "conv" or "linear", filters], ...]}}, where
    filters is a number, or "classes" for a layer with one filter per class.
    """
    facts = {}
    for name, entry in REGISTRY.items():
        shape = (3, entry.min_size, entry.min_size) if entry.input == "image" else (entry.min_size,)
        counts = [entry.classes] * 2 if entry.classes else [2, 3]
        with torch.device("meta"):
            one, other = (layers(entry.build(shape, classes)) for classes in counts)
        rows = [
            [
                path,
                "conv" if isinstance(layer, nn.Conv2d) else "linear",
                filters(layer) if filters(layer) == filters(other[path]) else "classes",
            ]
            for path, layer in one.items()
        ]
        facts[name] = {"input": entry.input, "min_size": entry.min_size, "layers": rows}
    return facts


def catalogue_text() -> str:
    """The catalogue as JSON: networks sorted by name, one layer a line."""
    networks = []
    for name, facts in sorted(catalogue().items()):
        head = json.dumps({name: facts | {"layers": []}})[1:].removesuffix("]}}")
        rows = ",\n".join(f"  {json.dumps(row)}" for row in facts["layers"])
        networks.append(f" {head}\n{rows}\n ]}}")
    return "{\n" + ",\n".join(networks) + "\n}\n"


def probe(function: str, fits: Sequence[Fit]) -> dict:
    """Facts of a network as in `facts.networks`: builds it and runs it on noise."""
    found = {}
    for shape, classes, *vocabulary in fits:
        body = entry_of(function).build(shape, classes)
        given = "x".join(map(str, shape))
        if vocabulary and not any(isinstance(m, torch.nn.Embedding) for m in body.modules()):
            raise UserError(
                f"{function}: takes tokens, but has no torch.nn.Embedding; expected one, as "
                "attacks add to its output"
            )
        for mode in ("training", "eval"):
            with plugins.told(function), torch.no_grad():
                logits = body.train(mode == "training")(_noise(2, shape, *vocabulary))
            if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
                got = list(logits.shape) if isinstance(logits, torch.Tensor) else kind_of(logits)
                raise UserError(
                    f"{function}: for 2 inputs of {given} it gives {got} in {mode} mode; expected "
                    f"logits [2, {classes}], one per class"
                )
        used = called(body, _noise(1, shape, *vocabulary))
        found[shape, classes, *vocabulary] = [
            [
                name,
                "conv" if isinstance(layer, torch.nn.Conv2d) else "linear",
                filters(layer),
            ]
            for name, layer in layers(body).items()
            if name in used
        ]
    return {
        "input": "token" if len(fits[0]) == 3 else KINDS[len(fits[0][0])],
        "min_size": 1,
        "layers": _in_common(function, found),
    }


def _noise(n: int, shape: tuple[int, ...], vocabulary: int = 0) -> torch.Tensor:
    """n inputs of this shape at random; tokens where there is a vocabulary."""
    return torch.randint(vocabulary, (n, *shape)) if vocabulary else torch.rand(n, *shape)


def _in_common(function: str, found: dict[Fit, list]) -> list:
    """The layers for all data sets; those that have one filter per class say so."""
    (fit, first), *others = found.items()
    rows = [list(row) for row in first]
    for other, found_there in others:
        if [row[:2] for row in found_there] != [row[:2] for row in rows]:
            raise UserError(f"{function}: has other layers for {_fit(other)} than for {_fit(fit)}")
        for row, (name, _, count) in zip(rows, found_there, strict=True):
            if count == row[2] or (row[2] == "classes" and count == other[1]):
                continue
            if (row[2], count) != (fit[1], other[1]):
                raise UserError(
                    f"{function}: layer {name} has {count} filters for {_fit(other)} and {row[2]} "
                    f"for {_fit(fit)}; run these data sets apart"
                )
            row[2] = "classes"
    return rows


def _fit(fit: Fit) -> str:
    return f"{'x'.join(map(str, fit[0]))} and {fit[1]} classes"


def main(asked: str, answer: str) -> None:
    """Writes the answer, facts or {"error": line}, to a file: what the user prints is no answer."""
    asked = json.loads(asked)
    fits = [(tuple(shape), *others) for shape, *others in asked["fits"]]
    try:
        torch.set_num_threads(1)
        found = probe(asked["function"], fits)
    except UserError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
