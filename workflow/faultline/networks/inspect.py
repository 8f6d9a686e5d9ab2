"""The layers of networks, read by building them; of the user's own in a process apart.

Parsing the workflow must know the layers and must not import torch, so a process that does builds
the network, runs it on noise and writes what it found into a file; see `facts`.
"""

import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.networks.facts import KINDS, Fit
from faultline.networks.layers import filters, kind, layers, reached, used
from faultline.networks.plugins import kind_of
from faultline.networks.registry import REGISTRY, entry_of


def catalogue() -> dict:
    """What can be known of every network without building it.

    {network: {"input", "min_size", "layers": [[path, kind, filters], ...]}}, where kind is one of
    `layers.UNITS` and filters a number, or "classes" for a layer with one filter per class.
    """
    facts = {}
    for name, entry in REGISTRY.items():
        shape = (3, entry.min_size, entry.min_size) if entry.input == "image" else (entry.min_size,)
        counts = [entry.classes] * 2 if entry.classes else [2, 3]
        with torch.device("meta"):
            one, other = (layers(entry.build(shape, c).eval(), norms=True) for c in counts)
        rows = [
            [
                path,
                kind(layer),
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


def probe(
    function: str,
    fits: Sequence[Fit],
    *,
    also: Callable[[nn.Module, Sequence[str], Tensor], dict] | None = None,
) -> dict:
    """Facts of a network as in `facts.networks`: builds it and runs it on noise.

    also: (network in eval mode, its layers in use, inputs) -> further facts.
    """
    found, further = {}, {}
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
        example = _noise(2, shape, *vocabulary)
        with plugins.told(function):
            in_use = used(body, example[:1])
        found[shape, classes, *vocabulary] = [
            [name, kind(layer), filters(layer)]
            for name, layer in layers(body, norms=True).items()
            if name in in_use
        ]
        if not further:  # of one data set, which differs from others in its first and last layer
            further = coverage(body, in_use, example[:1])
            if also:
                known = layers(body, norms=True)
                further |= also(body, [name for name in known if name in in_use], example)
    return {
        "input": "token" if len(fits[0]) == 3 else KINDS[len(fits[0][0])],
        "min_size": 1,
        "layers": _in_common(function, found),
    } | further


def coverage(body: nn.Module, in_use: set[str], inputs: Tensor) -> dict:
    """How many parameters a network has, and those that belong to no layer in use.

    {"parameters": number, "unseen": [[path, class, parameters, why], ...]}, where why is "norm",
    "unused" where the logits do not depend on them, or "". A parameter of a module that has others
    in it, such as a class token, is told by its own name. in_use: as `layers.used` gives it.
    """
    known, rows = layers(body, norms=True), []
    counted = {
        id(parameter)
        for name, layer in known.items()
        if name in in_use and kind(layer) != "norm"
        for parameter in layer.parameters()
    }
    touched = reached(body, inputs)

    def note(path: str, of: str, parameters: Sequence[nn.Parameter], why: str) -> None:
        new = {id(p): p.numel() for p in parameters if id(p) not in counted}
        if new and not why and touched and not touched & {*new}:
            why = "unused"
        if new:
            rows.append([path, of, sum(new.values()), why])
        counted.update(new)

    for name, layer in known.items():
        of = type(layer).__name__
        note(name, of, [*layer.parameters()], "norm" if name in in_use else "unused")
    for path, module in body.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if path and not any(module.children()):
            note(path, type(module).__name__, [*own.values()], "")
        for name, parameter in own.items():
            note(f"{path}.{name}".lstrip("."), "Parameter", [parameter], "")
    return {"parameters": sum(p.numel() for p in body.parameters()), "unseen": rows}


def _noise(n: int, shape: tuple[int, ...], vocabulary: int = 0) -> torch.Tensor:
    """n inputs of this shape at random; tokens where there is a vocabulary."""
    return torch.randint(vocabulary, (n, *shape)) if vocabulary else torch.rand(n, *shape)


def _in_common(function: str, found: dict[Fit, list]) -> list:
    """The layers for all data sets; those that have one filter per class say so. Normalisations
    that are not the same for all are left out."""
    found = {
        fit: [r for r in rows if r[1] != "norm" or all(r in other for other in found.values())]
        for fit, rows in found.items()
    }
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
