"""The layers of networks, read by building them; of the user's own in a process apart.

Parsing the workflow must know the layers and must not import torch, so a process that does builds
the network, runs it on noise and writes what it found into a file; see `asking`.
"""

import functools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from faultline.base import plugins
from faultline.base.errors import UserError, some
from faultline.networks.architectures import Network
from faultline.networks.facts import KINDS, Fit, NetworkFacts
from faultline.networks.forms import WRAP, Form, form_of
from faultline.networks.layers import every_layer, filters, kind
from faultline.networks.layout import lay_out
from faultline.networks.plain import preserved
from faultline.networks.reach import IMAGES, Reach, batches, reach
from faultline.networks.registry import REGISTRY, entry_of
from faultline.networks.work import AT_ONCE, arithmetic, seconds

PATIENCE = 100
"""Seconds after which no further way through a network is looked for (ours)."""


SIZES = {"image": (8, 32, 224), "vector": (2, 32, 512)}
"""Heights of images, and numbers of features, for which the work of built-in networks is told."""

LISTS = ("layers", "work")
"""What of the facts is written one entry a line."""

Row = list[Any]
"""[path, kind, filters] of a layer."""


@functools.cache
def catalogue() -> dict[str, NetworkFacts]:
    """What can be known of every network without building it.

    {network: {"input", "min_size", "parameters", "layers": [[path, kind, filters], ...], "work"}},
    where kind is one of `layers.UNITS` and filters a number, or "classes" for a layer with one
    filter per class; work: [[shape, classes], `work.Work`] for inputs of several sizes.
    """
    facts = {}
    for name, entry in REGISTRY.items():
        counts = [entry.classes] * 2 if entry.classes else [2, 3]

        def shape(size: int, of: str = entry.input) -> tuple[int, ...]:
            return (3, size, size) if of == "image" else (size,)

        with torch.device("meta"):
            built = [entry.build(shape(entry.min_size), count).eval() for count in counts]
            work = [
                [
                    [list(shape(size)), entry.classes or 10],
                    arithmetic(
                        entry.build(shape(size), entry.classes or 10).eval(),
                        torch.empty(2, *shape(size)),
                    ),
                ]
                for size in SIZES[entry.input]
                if size >= entry.min_size
            ]
        one, other = map(every_layer, built)
        rows = [
            [
                path,
                kind(layer),
                filters(layer) if filters(layer) == filters(other[path]) else "classes",
            ]
            for path, layer in one.items()
        ]
        facts[name] = {
            "input": entry.input,
            "min_size": entry.min_size,
            "parameters": sum(parameter.numel() for parameter in built[0].parameters()),
            "layers": rows,
            "work": work,
        }
    return facts


def catalogue_text() -> str:
    """The catalogue as JSON: networks sorted by name, one layer a line, and one size."""
    networks = []
    for name, facts in sorted(catalogue().items()):
        parts = [json.dumps(name) + ": {"]
        for key, value in facts.items():
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value) if key in LISTS else ""
            text = f"[\n{rows}\n ]" if rows else json.dumps(value)
            parts.append(f'"{key}": {text}, ')
        networks.append(" " + "".join(parts).removesuffix(", ") + "}")
    return "{\n" + ",\n".join(networks) + "\n}\n"


def probe(
    function: str,
    fits: Sequence[Fit],
    *,
    also: Callable[[nn.Module, Sequence[str], Tensor], NetworkFacts] | None = None,
) -> NetworkFacts:
    """Facts of a network as in `facts.networks`: builds it and runs it on noise.

    also: (network in eval mode, its layers in use, inputs) -> further facts.
    """
    rows: dict[Fit, list[Row]] = {}
    work, took = [], []
    forms: set[Form] = set()
    further: NetworkFacts = {}
    for fit in fits:
        shape, classes, *vocabulary = fit
        body = entry_of(function).build(shape, classes)
        if vocabulary and not any(isinstance(m, torch.nn.Embedding) for m in body.modules()):
            raise UserError(
                f"{function}: takes tokens, but has no torch.nn.Embedding; expected one, as "
                "attacks add to its output"
            )
        for mode in ("training", "eval"):
            with plugins.told(function), torch.no_grad(), preserved(body):
                body.train(mode == "training")
                try:
                    form = form_of(body, _noise(2, shape, *vocabulary), classes=classes)
                except UserError as error:
                    raise UserError(f"{function}: in {mode} mode {error}") from None
            forms.add(form)
        network = Network(nn.Identity(), body, form)
        with plugins.told(function):
            explored_there = explored(network, shape, *vocabulary)
        with suppress(Exception):  # what a run will cost is then not told of it
            work.append(
                [[list(shape), *fit[1:]], arithmetic(network.eval(), _noise(2, shape, *vocabulary))]
            )
            took.append(
                [[list(shape), *fit[1:]], seconds(network, _noise(AT_ONCE, shape, *vocabulary))]
            )
        in_use = explored_there.layers
        rows[fit] = [
            [name, kind(layer), filters(layer)]
            for name, layer in every_layer(body).items()
            if name in in_use
        ]
        if not further:  # of one data set, which differs from others in its first and last layer
            further = coverage(body, explored_there)
            if also:
                names = [name for name in every_layer(body) if name in in_use]
                further |= also(network, names, _noise(2, shape, *vocabulary))
    if len(forms) > 1:
        ways = some([form.words() or "as they are" for form in forms])
        raise UserError(f"{function}: its two modes give its logits in two ways ({ways}): {WRAP}")
    return {
        "form": form.words(),
        "input": "token" if len(fits[0]) == 3 else KINDS[len(fits[0][0])],
        "min_size": 1,
        "layers": _in_common(function, rows),
        "work": work,
        "seconds": took,
    } | further


def timed(function: str, fits: Sequence[Fit]) -> NetworkFacts:
    """{"seconds": [[fit, `work.seconds`], ...]} of a network, built in or of the user's own; a
    built-in one is laid out as in a run."""
    took = []
    for shape, classes, *vocabulary in fits:
        builtin = REGISTRY.get(function)
        body = (builtin or entry_of(function)).build(shape, classes).eval()
        form = Form() if builtin else form_of(body, _noise(2, shape, *vocabulary), classes=classes)
        if builtin:
            lay_out(body)
        network = Network(nn.Identity(), body, form)
        with plugins.told(function):
            of = seconds(network, _noise(AT_ONCE, shape, *vocabulary))
        took.append([[list(shape), classes, *vocabulary], of])
    return {"seconds": took}


def explored(body: nn.Module, shape: tuple[int, ...], vocabulary: int = 0) -> Reach:
    """What noise of many kinds reaches of a network in eval mode. Where that is not all, its
    weights are moved at random for half of it, as training would move them: a gate that starts at 0
    lets all inputs through one way."""
    half, before = IMAGES // 2, time.monotonic()
    rng = torch.Generator().manual_seed(0)
    reached = reach(body, batches(_varied(half, shape, vocabulary, rng)))
    values = [(parameter, parameter.detach().clone()) for parameter in body.parameters()]
    try:
        for batch in _varied(half, shape, vocabulary, rng).split(8):
            if reached.is_complete or time.monotonic() - before > PATIENCE:
                break
            for parameter, value in values:
                moved = torch.randn(value.shape, generator=rng) * (value.std(correction=0) + 0.05)
                parameter.data = value + moved.to(value)
            reached.add(batch)
    finally:
        for parameter, value in values:
            parameter.data = value
    return reached


def _varied(n: int, shape: tuple[int, ...], vocabulary: int, rng: torch.Generator) -> Tensor:
    """n inputs: even noise, normal noise, blots and spikes in turn, the first as it is and others
    brighter or darker, stronger or weaker, as much by eights as one by one, as a batch may decide
    together; of tokens, of various parts of the vocabulary."""

    def even(*size: int) -> Tensor:
        return torch.rand(size, generator=rng)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=rng)

    of_each, of_eight = (n, *[1] * len(shape)), (-(-n // 8), *[1] * len(shape))
    moved = (normal(*of_each) + normal(*of_eight).repeat_interleave(8, 0)[:n]) / 2**0.5
    if vocabulary:
        width = (even(*of_each) * vocabulary).ceil()
        low = moved.erf().add(1).div(2) * (vocabulary - width)
        return (low + even(n, *shape) * width).long().clamp(0, vocabulary - 1)
    inputs = even(n, *shape)
    inputs[1::4] = normal(*inputs[1::4].shape)
    inputs[2::4] = _smoothed(inputs[2::4])
    inputs[3::4] = (inputs[3::4] < 0.05).float()
    changed = inputs * (4 * even(*of_each) - 2).exp() + moved
    return torch.where(torch.arange(n).view(of_each) < 4, inputs, changed)


def _smoothed(inputs: Tensor) -> Tensor:
    """Each feature with the mean of those beside it, over a quarter of each side."""
    for axis in range(2 if inputs.dim() > 2 else 1, inputs.dim()):
        size = max(inputs.shape[axis] // 4, 1)
        rolled = (inputs.roll(step, axis) for step in range(size))
        inputs = sum(rolled, start=torch.zeros(())) / size
    return inputs


def coverage(body: nn.Module, reached: Reach) -> NetworkFacts:
    """How many parameters a network has, and those that belong to no layer in use.

    {"parameters": number, "unseen": [[path, class, parameters, why], ...], "tried": number of
    inputs}, where why is "norm", "unused" where no logit was seen to depend on them, or "". No
    input tried means that none can reach them. A parameter of a module that has others in it, such
    as a class token, is told by its own name.
    """
    own_layers, in_use = every_layer(body), reached.layers
    rows: list[Row] = []
    counted = {
        id(parameter)
        for name, layer in own_layers.items()
        if name in in_use and kind(layer) not in ("norm", "parameter")
        for parameter in layer.parameters()
    }
    touched = reached.parameters

    def note(path: str, of: str, parameters: Sequence[nn.Parameter], why: str) -> None:
        new = {id(p): p.numel() for p in parameters if id(p) not in counted}
        if new and not why and touched and not touched & {*new}:
            why = "unused"
        if new:
            rows.append([path, of, sum(new.values()), why])
        counted.update(new)

    for name, layer in own_layers.items():
        if kind(layer) == "parameter":
            continue
        of = type(layer).__name__
        note(name, of, [*layer.parameters()], "norm" if name in in_use else "unused")
    for path, module in body.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if path and not any(module.children()):
            note(path, type(module).__name__, [*own.values()], "")
        for name, parameter in own.items():
            note(f"{path}.{name}".lstrip("."), "Parameter", [parameter], "")
    return {
        "parameters": sum(p.numel() for p in body.parameters()),
        "unseen": rows,
        "tried": reached.inputs if reached.routes else 0,
    }


def _noise(n: int, shape: tuple[int, ...], vocabulary: int = 0) -> torch.Tensor:
    """n inputs of this shape at random; tokens where there is a vocabulary."""
    return torch.randint(vocabulary, (n, *shape)) if vocabulary else torch.rand(n, *shape)


def _in_common(function: str, by_fit: dict[Fit, list[Row]]) -> list[Row]:
    """The layers for all data sets; those that have one filter per class say so. Normalisations
    that are not the same for all are left out."""
    common = {
        fit: [r for r in rows if r[1] != "norm" or all(r in other for other in by_fit.values())]
        for fit, rows in by_fit.items()
    }
    (fit, first), *others = common.items()
    rows = [list(row) for row in first]
    for other, other_rows in others:
        if [row[:2] for row in other_rows] != [row[:2] for row in rows]:
            raise UserError(f"{function}: has other layers for {_fit(other)} than for {_fit(fit)}")
        for row, (name, _, count) in zip(rows, other_rows, strict=True):
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
    return f"{_size(fit[0])} and {fit[1]} classes"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
