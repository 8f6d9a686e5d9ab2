"""The user's own networks: built by a function, and their layers read once, in a process apart.

Parsing the workflow must know the layers and must not import torch, so a process that does builds
the network, runs it on noise and writes what it found into a file; later parses read that file.
"""

import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from faultline import own
from faultline.errors import UserError

Fit = tuple[tuple[int, ...], int]
"""(shape of one input, number of classes) of a data set."""


def facts(name: str, settings: dict, fits: Sequence[Fit], *, folder: Path) -> dict:
    """Facts of a network of own_networks, in the form of `catalogue.networks`.

    settings: function, "file.py:function" or "torchvision:model". fits: the data sets' shapes and
    classes. folder: where they are kept, by a hash of the code and the fits. Raises UserError,
    which names the config key, where the function or what it makes is not right.
    """
    function = settings["function"]
    if function.startswith(own.TORCHVISION):
        try:
            version = importlib.metadata.version(own.TORCHVISION)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
    else:
        own.check(f"own_networks.{name}.function", function)
        version = own.code(function)
    asked = {"function": function, "fits": sorted(set(fits))}
    key = hashlib.sha256(json.dumps([asked, version]).encode()).hexdigest()
    cache = folder / f"{name}-{key[:16]}.json"
    try:
        return json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = _ask(asked)
    if "error" in found:
        raise UserError(f"config key own_networks.{name}: {found['error']}")
    with suppress(OSError):  # the workflow tells where the results cannot be written to
        _save(json.dumps(found), cache)
    return found


def _save(text: str, path: Path) -> None:
    """Whole or not at all, under a name of its own: several processes may parse at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".writing")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _ask(asked: dict) -> dict:
    """What `main` answers, in a process of its own."""
    paths = [str(own.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(asked), str(answer)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if answer.is_file():
            return json.loads(answer.read_text(encoding="utf-8"))
    said = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
    return {
        "error": f"{asked['function']} could not be run ({said}); torch must be installed where "
        "Snakemake itself runs"
    }


def build(function: str, shape: tuple[int, ...], classes: int):
    """The torch.nn.Module that the user's function makes.

    The function is called with (shape, classes) where it takes them, else without arguments. Raises
    UserError where it fails, returns no module, or a module whose layers cannot be ablated.
    """
    from torch import nn
    from torch.nn.parameter import UninitializedParameter

    from faultline.networks import layers

    make = own.load(function)
    with own.told(function):
        body = make(*_arguments(function, make, shape, classes))
    if not isinstance(body, nn.Module):
        raise UserError(f"{function} returned {_what(body)}; expected a network, a torch.nn.Module")
    found = layers(body)
    if not found:
        raise UserError(
            f"{function} made a {type(body).__name__} without a layer to ablate; expected at least "
            "one Conv2d or Linear"
        )
    for name, layer in found.items():
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name):
            raise UserError(
                f"{function}: layer {name!r} becomes the name of a folder; put the network in a "
                "module, and name its parts by letters, digits and '_'"
            )
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if weight is None or isinstance(weight, UninitializedParameter):
            raise UserError(
                f"{function}: layer {name} has no weight of its own yet; remove parametrisations "
                "(torch.nn.utils.parametrize), and run lazy layers once, inside the function"
            )
    for module in body.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # so that the output of a layer can be kept by a hook
    return body


def _arguments(function: str, make, shape: tuple[int, ...], classes: int) -> tuple:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return shape, classes
    first = next(iter(signature.parameters.values()), None)
    for given in ((shape, classes), ()):
        wanted = not given or (first and (first.default is first.empty or first.name == "shape"))
        try:
            signature.bind(*given)
        except TypeError:
            continue
        if wanted:
            return given
    raise UserError(
        f"{function}{signature} cannot be called; expected a function of (shape, classes), or one "
        "that needs no arguments"
    )


def _what(value) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def probe(function: str, fits: Sequence[Fit]) -> dict:
    """Facts of a network as in `catalogue.networks`: builds it and runs it on noise."""
    import torch

    from faultline.networks import called, entry_of, layers

    found = {}
    for shape, classes in fits:
        body = entry_of(function).build(shape, classes)
        given = "x".join(map(str, shape))
        for mode in ("training", "eval"):
            with own.told(function), torch.no_grad():
                logits = body.train(mode == "training")(torch.rand(2, *shape))
            if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
                got = list(logits.shape) if isinstance(logits, torch.Tensor) else _what(logits)
                raise UserError(
                    f"{function}: for 2 inputs of {given} it gives {got} in {mode} mode; expected "
                    f"logits [2, {classes}], one per class"
                )
        used = called(body, torch.rand(1, *shape))
        found[shape, classes] = [
            [
                name,
                "conv" if isinstance(layer, torch.nn.Conv2d) else "linear",
                len(layer.weight),
            ]
            for name, layer in layers(body).items()
            if name in used
        ]
    return {
        "input": "image" if len(fits[0][0]) == 3 else "vector",
        "min_size": 1,
        "layers": _in_common(function, found),
    }


def _in_common(function: str, found: dict[Fit, list]) -> list:
    """The layers for all data sets; those that have one filter per class say so."""
    (fit, first), *others = found.items()
    rows = [list(row) for row in first]
    for other, layers in others:
        if [row[:2] for row in layers] != [row[:2] for row in rows]:
            raise UserError(f"{function}: has other layers for {_fit(other)} than for {_fit(fit)}")
        for row, (name, _, count) in zip(rows, layers, strict=True):
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
    fits = [(tuple(shape), classes) for shape, classes in asked["fits"]]
    try:
        import torch

        torch.set_num_threads(1)
        found = probe(asked["function"], fits)
    except UserError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
