"""What parsing the workflow must know about networks, without importing torch.

The layers of the built-in networks are in `networks.json`; those of the user's own are read once,
in a process apart, and kept in a file that later parses read.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.files import save_text
from faultline.base.fingerprint import PACKAGE, fingerprint

BUILTIN_FILE = Path(__file__).with_name("networks.json")

PATIENCE = 300
"""Seconds within which the layers of a network must be read (ours): ten times what torchvision's
vit_b_16 takes on one core."""

Fit = tuple[tuple[int, ...], int] | tuple[tuple[int, ...], int, int]
"""(shape of one input, number of classes) of a data set; of tokens, the size of their vocabulary
as well."""

NetworkFacts = dict[str, Any]
"""What is known of a network, see `networks`."""

KINDS = {1: "vector", 2: "signal", 3: "image"}
"""Length of an input's shape -> what it is, where it is no sequence of tokens ("token")."""


@functools.cache
def registry() -> dict[str, NetworkFacts]:
    """What `networks` holds, of the built-in networks alone."""
    builtin: dict[str, NetworkFacts] = json.loads(BUILTIN_FILE.read_text(encoding="utf-8"))
    return builtin


_own: dict[str, NetworkFacts] = {}
_unseen: frozenset[str] = frozenset({"norm", "parameter"})


def add(name: str, facts: NetworkFacts) -> None:
    """Makes a network of the user's own known to `networks`."""
    _own[name] = facts
    _listed.cache_clear()


def see(*, norms: bool = False, parameters: bool = False) -> None:
    """Whether normalisations, and parameters that are in no layer, are layers to `networks`."""
    global _unseen
    _unseen = frozenset(["norm"] * (not norms) + ["parameter"] * (not parameters))


def networks() -> dict[str, NetworkFacts]:
    """What is known of every network, built in or added.

    {network: {"input", "min_size", "layers": [[name, kind, filters], ...]}}, written by `python -m
    faultline.networks`; kind is one of `layers.UNITS`, filters is "classes" for the output layer.
    Of the user's own also what `inspect.coverage` and `probing.abilities` tell.
    """
    return _listed(_unseen)


@functools.cache
def _listed(unseen: frozenset[str]) -> dict[str, NetworkFacts]:
    return {
        name: facts | {"layers": [row for row in facts["layers"] if row[1] not in unseen]}
        for name, facts in (registry() | _own).items()
    }


def own_facts(
    name: str, settings: dict[str, Any], fits: Sequence[Fit], *, folder: Path, prober: str
) -> NetworkFacts:
    """Facts of a network of own_networks, in the form of `networks`.

    settings: function, "file.py:function" or "torchvision:model". fits: the data sets' shapes and
    classes. folder: where they are kept, by a hash of the code and the fits. prober: the module
    that is run to read them. Raises UserError, which names the config key, where the function or
    what it makes is not right.
    """
    function = settings["function"]
    if plugins.of_torchvision(function):
        try:
            version = importlib.metadata.version(plugins.TORCHVISION)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
    else:
        plugins.check(f"own_networks.{name}.function", function)
        version = plugins.code(function)
    asked = {"function": function, "fits": sorted(set(fits))}
    reads = fingerprint(PACKAGE.parent.joinpath(*prober.split(".")).with_suffix(".py"))
    key = hashlib.sha256(json.dumps([asked, version, reads]).encode()).hexdigest()
    cache = folder / f"{name}-{key[:16]}.json"
    try:
        facts: NetworkFacts = json.loads(cache.read_text(encoding="utf-8"))
        return facts
    except (OSError, ValueError):
        print(f"reading the layers of {name}", file=sys.stderr, flush=True)
        facts = _ask(asked, prober)
    if "error" in facts:
        raise UserError(f"config key own_networks.{name}: {facts['error']}")
    with suppress(OSError):  # the workflow tells where the results cannot be written to
        save_text(json.dumps(facts), cache)
    return facts


def _ask(asked: dict[str, Any], prober: str) -> NetworkFacts:
    """What a prober answers, in a process of its own."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        answer, errors = Path(folder) / "answer.json", Path(folder) / "errors.txt"
        try:
            with errors.open("w", encoding="utf-8") as file:  # a pipe may be held by its children
                done = subprocess.run(
                    [sys.executable, "-m", prober, json.dumps(asked), str(answer)],
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                    timeout=PATIENCE,
                )
        except subprocess.TimeoutExpired:
            return _failed(asked, f"took longer than {PATIENCE} s; see where it hangs")
        except KeyboardInterrupt:
            return _failed(asked, "was interrupted; run again")
        text = answer.read_text(encoding="utf-8") if (started := answer.is_file()) else ""
        if text:
            facts: NetworkFacts = json.loads(text)
            return facts
        lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "without a word"
    if not started:
        return {
            "error": f"{asked['function']} could not be run ({last}); torch must be installed "
            "where Snakemake itself runs"
        }
    return _failed(asked, _end(done.returncode, last))


def _failed(asked: dict[str, Any], how: str) -> NetworkFacts:
    return {"error": f"reading the layers of {asked['function']} {how}"}


def _end(code: int, last: str) -> str:
    """How a process ended that gave no answer; last: the last line that it wrote."""
    if code == -signal.SIGINT:
        return "was interrupted; run again"
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), often for want of memory; give more, or make it smaller"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name}); run the function by itself and mend it"
    return f"ended the process with code {code} ({last}); the function must return"
