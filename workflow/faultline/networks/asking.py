"""What a process apart finds out about networks: their layers, of the user's own; how long they
take on this machine. No torch here.

What it found is kept in files that later parses read.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.files import save_text
from faultline.base.fingerprint import PACKAGE, fingerprint
from faultline.networks.facts import Fit, NetworkFacts

PATIENCE = 300
"""Seconds within which the layers of a network must be read (ours): ten times what torchvision's
vit_b_16 takes on one core."""


def own_facts(
    mine: Mapping[str, Mapping[str, Any]], fits: Sequence[Fit], *, folder: Path, prober: str
) -> dict[str, NetworkFacts]:
    """Facts of networks of own_networks by their names, in the form of `networks`.

    mine: name -> settings, whose function is "file.py:function" or "torchvision:model". fits: the
    data sets' shapes and classes. folder: where they are kept, by a hash of the code and the fits.
    prober: the module that is run to read them, once for all that are not yet known. Raises
    UserError, which names the config key, where a function or what it makes is not right; what is
    known of the others is kept then, too.
    """
    found: dict[str, NetworkFacts] = {}
    unknown: dict[str, tuple[dict[str, Any], Path]] = {}
    reads = fingerprint(PACKAGE.parent.joinpath(*prober.split(".")).with_suffix(".py"))
    for name, settings in mine.items():
        version = _version(name, settings["function"])
        asked = {"function": settings["function"], "fits": sorted(set(fits))}
        key = hashlib.sha256(json.dumps([asked, version, reads]).encode()).hexdigest()
        cache = folder / f"{name}-{key[:16]}.json"
        try:
            found[name] = json.loads(cache.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            unknown[name] = asked, cache
    if not unknown:
        return found
    print(f"reading the layers of {', '.join(unknown)}", file=sys.stderr, flush=True)
    answers = _ask([asked for asked, _ in unknown.values()], prober)
    for (name, (_, cache)), facts in zip(unknown.items(), answers, strict=True):
        if "error" not in facts:
            found[name] = facts
            _note_speeds(
                folder, {_speed_key(name, f): took for f, took in facts.pop("seconds", [])}
            )
            with suppress(OSError):  # the workflow tells where the results cannot be written to
                save_text(json.dumps(facts), cache)
    for name, facts in zip(unknown, answers, strict=True):
        if "error" in facts:
            raise UserError(f"config key own_networks.{name}: {facts['error']}")
    return found


def _version(name: str, function: str) -> str:
    """What stands for the code of a network of the user's own."""
    if not plugins.of_torchvision(function):
        plugins.check(f"own_networks.{name}.function", function)
        return plugins.code(function)
    try:
        return importlib.metadata.version(plugins.TORCHVISION)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _ask(questions: Sequence[dict[str, Any]], prober: str) -> list[NetworkFacts]:
    """What a prober answers, in a process of its own; where that hangs or ends, the answer says so,
    and what was asked after it is asked again."""
    answers: list[NetworkFacts] = []
    while len(answers) < len(questions):
        left = questions[len(answers) :]
        found, how, of_all = _answers(left, prober)
        answers += found
        if how:
            failed = left[len(found) :]
            answers += [{"error": how(of)} for of in (failed if of_all else failed[:1])]
    return answers


def _answers(
    questions: Sequence[dict[str, Any]], prober: str
) -> tuple[list[NetworkFacts], Callable[[dict[str, Any]], str] | None, bool]:
    """(the answers that one process gave in time, what to tell of the first that it owes, whether
    that holds of all that it owes)."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        answer, errors = Path(folder) / "answers.jsonl", Path(folder) / "errors.txt"

        def answered() -> list[str]:
            text = answer.read_text(encoding="utf-8") if answer.is_file() else ""
            return text.split("\n")[:-1]

        with errors.open("w", encoding="utf-8") as file:  # a pipe may be held by its children
            process = subprocess.Popen(
                [sys.executable, "-m", prober, json.dumps(questions), str(answer)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        late = interrupted = False
        try:
            seen, since = 0, time.monotonic()
            while process.poll() is None and not late:
                time.sleep(0.02)
                if (count := len(answered())) > seen:
                    seen, since = count, time.monotonic()
                late = time.monotonic() - since > PATIENCE
        except KeyboardInterrupt:
            interrupted = True
        finally:
            process.kill()
            code = process.wait()
        found = [json.loads(line) for line in answered()]
        lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        started = answer.is_file()
    last = lines[-1] if lines else "without a word"
    if len(found) == len(questions):
        return found, None, False
    if not (started or late or interrupted):
        no_torch = f"could not be run ({last}); torch must be installed where Snakemake itself runs"
        return found, lambda asked: f"{asked['function']} {no_torch}", True
    end = f"took longer than {PATIENCE} s; see where it hangs" if late else _end(code, last)
    end = "was interrupted; run again" if interrupted else end
    return found, lambda asked: f"reading the layers of {asked['function']} {end}", interrupted


def _end(code: int, last: str) -> str:
    """How a process ended that gave no answer; last: the last line that it wrote."""
    if code == -signal.SIGINT:
        return "was interrupted; run again"
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), often for want of memory; give more, or make it smaller"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name}); run the function by itself and mend it"
    return f"ended the process with code {code} ({last}); the function must return"


def speeds(
    wanted: Sequence[tuple[str, Fit]], functions: Mapping[str, str], *, folder: Path, prober: str
) -> dict[tuple[str, Fit], list[float]]:
    """(name, fit) -> `work.seconds` of a network on this machine, as far as it can be timed; what
    is not yet known is timed by the prober. functions: of the networks of the user's own."""
    keys = {pair: _speed_key(*pair) for pair in wanted}
    there = _speeds(folder)
    fits: dict[str, list[Fit]] = {}
    for (name, fit), key in keys.items():
        if key not in there:
            fits.setdefault(name, []).append(fit)
    if fits:
        print(f"timing {', '.join(fits)}", file=sys.stderr, flush=True)
        questions = [
            {"function": functions.get(name, name), "fits": of, "timed": True}
            for name, of in fits.items()
        ]
        new = {
            _speed_key(name, fit): took
            for name, answer in zip(fits, _ask(questions, prober), strict=True)
            for fit, took in answer.get("seconds", [])
        }
        there |= _note_speeds(folder, new)
    return {pair: there[key] for pair, key in keys.items() if key in there}


def _speed_key(name: str, fit: Sequence[Any]) -> str:
    return f"{name} {json.dumps([list(fit[0]), *fit[1:]])}"


def speeds_file(folder: Path) -> Path:
    """Of this machine: results may lie where several see them."""
    return folder / f"speed-{hashlib.sha256(platform.node().encode()).hexdigest()[:16]}.json"


def _speeds(folder: Path) -> dict[str, list[float]]:
    try:
        return dict(json.loads(speeds_file(folder).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _note_speeds(folder: Path, new: Mapping[str, list[float]]) -> dict[str, list[float]]:
    known = _speeds(folder) | dict(new)
    with suppress(OSError):
        save_text(json.dumps(known), speeds_file(folder))
    return known
