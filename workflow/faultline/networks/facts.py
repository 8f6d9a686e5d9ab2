"""What parsing the workflow must know about networks, without importing torch.

The layers of the built-in networks are in `networks.json`; those of the user's own are read once,
by `inspect` in a process apart, and kept in a file that later parses read.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from faultline.base import plugins
from faultline.base.errors import UserError

BUILTIN_FILE = Path(__file__).with_name("networks.json")

Fit = tuple[tuple[int, ...], int] | tuple[tuple[int, ...], int, int]
"""(shape of one input, number of classes) of a data set; of tokens, the size of their vocabulary
as well."""

KINDS = {1: "vector", 2: "signal", 3: "image"}
"""Length of an input's shape -> what it is, where it is no sequence of tokens ("token")."""


@functools.cache
def registry() -> dict:
    """What `networks` holds, of the built-in networks alone."""
    return json.loads(BUILTIN_FILE.read_text(encoding="utf-8"))


_own: dict[str, dict] = {}


def add(name: str, facts: dict) -> None:
    """Makes a network of the user's own known to `networks`."""
    _own[name] = facts


def networks() -> dict:
    """Input kind, smallest image size and layers of every network, built in or added.

    {network: {"input", "min_size", "layers": [[name, "conv" or "linear", filters], ...]}}, written
    by `python -m faultline.networks`; filters is "classes" for the output layer.
    """
    return registry() | _own


def own_facts(name: str, settings: dict, fits: Sequence[Fit], *, folder: Path) -> dict:
    """Facts of a network of own_networks, in the form of `networks`.

    settings: function, "file.py:function" or "torchvision:model". fits: the data sets' shapes and
    classes. folder: where they are kept, by a hash of the code and the fits. Raises UserError,
    which names the config key, where the function or what it makes is not right.
    """
    function = settings["function"]
    if function.startswith(plugins.TORCHVISION):
        try:
            version = importlib.metadata.version(plugins.TORCHVISION)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
    else:
        plugins.check(f"own_networks.{name}.function", function)
        version = plugins.code(function)
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
    """What `inspect.main` answers, in a process of its own."""
    paths = [str(plugins.PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-m", "faultline.networks.inspect", json.dumps(asked), str(answer)],
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
