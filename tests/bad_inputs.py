"""Bad inputs of the fault campaign: configs, files between stages, files and code of the user's,
full disks, lost metadata, two runs at once.

Each must end in one line that names the file or key, or be mended with the bytes of the undisturbed
run.
"""

import contextlib
import copy as copying
import math
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from random import Random

import numpy as np
import yaml
from faults import (
    Job,
    Tally,
    changed,
    differences,
    digests,
    end_all,
    jobs_of,
    make_reference,
    remove,
    restore,
    settle,
    trace,
)
from support import Copy, one_warm_process, ran, wait_for

from faultline.base.errors import UserError
from faultline.run.plan import Plan
from faultline.snake import warm
from faultline.studies.config import resolve

# Configs

VALUES = (
    *(None, True, "", "x", "x\n", "a" * 300, "~", "../..", "1e-3", "nan", -1, 0, 2.0, 2.5, 1e308),
    *(10**30, 10**400, math.nan, math.inf, [], [None], [[]], [1, 1], {}, {"typo": 1}, {1: 2}),
)
"""What each key of a config is set to, one after the other."""

TEXTS = {
    "no YAML": "seeds: [0\n",
    "a tab": "\tseeds: [0]\n",
    "a key twice": "seeds: [1]\n",
    "code": "__use_yte__: true\n",
    "an unknown tag": "results: !!python/object/apply:os.getcwd []\n",
    "an anchor that is not there": "published: *nothing\n",
    "another document": "---\nseeds: [0]\n",
    "a bad date": "published: 2020-13-45\n",
    "aliases of aliases": "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]\n" for n in range(9)
    ),
}
"""What is added to a config that is right, seeds: [0] among it."""

ARGUMENTS = (
    *(["--config", "seeds=[0"], ["--config", "networks=[]"], ["--config", "attacks={pgd: 3}"]),
    *(["--config", "sedes=[1]"], ["--config", "seeds=3"], ["--config", "results=workflow"]),
    *(["--config", "results=.snakemake"], ["--config", "device=gpu"]),
)


def places(value, at=()) -> list[tuple]:
    """The path of every key and entry in nested dicts and lists."""
    parts = value.items() if isinstance(value, dict) else ()
    parts = enumerate(value) if isinstance(value, list) else parts
    return [at] * bool(at) + [place for key, part in parts for place in places(part, (*at, key))]


def put(config, place: tuple, value):
    """A copy of a config with a value in a place; None where there is no such place."""
    config = copying.deepcopy(config)
    inner = config
    for key in place[:-1]:
        if isinstance(inner, dict):
            inner = inner.setdefault(key, {})
        elif isinstance(inner, list) and key < len(inner):
            inner = inner[key]
        else:
            return None
    if isinstance(inner, list) and not place[-1] < len(inner):
        return None
    inner[place[-1]] = value
    return config


def misspelt(config, place: tuple):
    """A copy of a config with a letter of a key, or of a text, twice; None where there is none."""
    config, inner = copying.deepcopy(config), None
    inner = config
    with contextlib.suppress(LookupError, TypeError):
        for key in place[:-1]:
            inner = inner[key]
        if isinstance(inner, dict):
            inner[f"{place[-1]}{place[-1][-1]}"] = inner.pop(place[-1])
            return config
        inner[place[-1]] += inner[place[-1]][-1]
        return config
    return None


def mutants(config: dict):
    """(what was done, mutated config), each key of the config with each value, and misspelt."""
    for place in places(resolve(config).dump()):
        name = ".".join(map(str, place))
        if made := misspelt(config, place):
            yield f"{name} misspelt", made
        for value in VALUES:
            if made := put(config, place, value):
                yield f"{name}: {str(value)[:20]!r}", made


def judge(config: dict) -> tuple[str, str | None]:
    """(refused or accepted, what is wrong with that) of a config as the workflow takes it."""
    try:
        resolved = resolve(config)
        plan = Plan(resolved)
        made = (plan.classes, plan.checkpoints(), plan.attacked(), plan.scored(), plan.policies())
        assert all(part is not None for part in made)
    except UserError as error:
        line = str(error)
        named = re.match(r"config key [^:]+: |[^ ]+: ", line)
        return "refused", None if named and "\n" not in line else f"unclear: {line!r}"
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}"
    return "accepted", None


def configs(tally: Tally, copy: Copy, *, rng: Random, wanted: int, deadline: float) -> None:
    """Mutated configs, most by the checks alone; some of those that they accept by a dry run."""
    found = list(mutants(copy.config()))
    accepted = []
    for what, config in rng.sample(found, min(wanted, len(found))):
        if time.monotonic() > deadline:
            break
        outcome, problem = judge(config)
        tally.add("mutated configs", problem and f"{what}: {problem}")
        if outcome == "accepted":
            accepted.append((what, config))
    right, few = copy.config(), max(1, wanted // 100)
    for what, config in rng.sample(accepted, min(few, len(accepted))):
        copy.configure(config)
        done = copy.snakemake("-n")
        problem = None if done.returncode == 0 else told(done.stdout)
        tally.add("accepted configs, dry run", problem and f"{what}: {problem}")
    text = yaml.safe_dump(right | {"seeds": [0]}, sort_keys=False)
    for what, more in list(TEXTS.items())[:few]:
        copy.configure(text + more)
        check_refused(tally, "config files", what, copy.snakemake("-n"), ["config.yaml"])
    copy.configure(right)
    for arguments in ARGUMENTS[:few]:
        named = [arguments[1].split("=")[0], arguments[1]]
        done = copy.snakemake("-n", *arguments)
        check_refused(tally, "command lines", " ".join(arguments), done, named)


def check_refused(tally: Tally, kind: str, what: str, done, named: list[str]) -> None:
    """Count a run that must end in a line that names one of the names."""
    problem = told(done.stdout, named) if done.returncode else "accepted"
    tally.add(kind, problem and f"{what}: {problem}")


def told(said: str, named=("config key",)) -> str | None:
    """What is wrong with what a run that failed said: a traceback, or no line that names one of
    the names."""
    if "Traceback" in said:
        return trace(said)
    lines = [line for line in said.splitlines() if line.strip().startswith(("error: ", "1 with "))]
    if not any(name in line for line in lines for name in named):
        return f"no line names {named[0]}: {said[-300:]!r}"
    return None


# Files


def _truncated(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(1, max(2, len(content)))]


def _flipped(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _head(content: bytes, rng: Random) -> bytes:
    return content.split(b"\n")[0][:100] + b"\n"


def _without_last_line(content: bytes, rng: Random) -> bytes:
    return content[: content.rstrip(b"\n").rfind(b"\n") + 1]


BYTES = {
    "truncated": _truncated,
    "a bit flipped": _flipped,
    "header only": _head,
    "last line gone": _without_last_line,
    "empty": lambda content, rng: b"",
    "other text": lambda content, rng: b"this is not what was expected\n",
    "bytes at the end": lambda content, rng: content + b"\0\0\0\0",
}
OTHERS = ("swapped", "swapped, record too", "a folder in its place", "gone")
DAMAGE = [*BYTES, *OTHERS]


def damage(how: str, path: Path, others: list[Path], rng: Random) -> bool:
    """Whether a file could be damaged so; its times stay, half of the time.

    others: files to exchange it for.
    """
    times = path.stat()
    content = path.read_bytes()
    if how in BYTES:
        new = BYTES[how](content, rng)
        if new == content:
            return False
        path.write_bytes(new)
    elif how.startswith("swapped"):
        others = [each for each in others if each.is_file() and each.read_bytes() != content]
        if not others:
            return False
        other = rng.choice(others)
        shutil.copyfile(other, path)
        record = other.with_name(f".{other.name}.made")
        if how.endswith("too") and record.exists():
            shutil.copyfile(record, path.with_name(f".{path.name}.made"))
    else:
        path.unlink()
        if how.startswith("a folder"):
            path.mkdir()
    if rng.random() < 0.5 and path.exists():
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return True


def without_snakemake(job: Job, copy: Copy) -> subprocess.CompletedProcess:
    """Run a job's script by itself, from the warm process."""
    environment = copy.environment(PYTHONPATH=str(copy.folder / "workflow"))
    launch = [sys.executable, warm.LAUNCH, one_warm_process()[warm.ADDRESS], job.log]
    return ran([*launch, job.script], copy.folder, environment)


def between(
    tally: Tally, copy: Copy, reference: Copy, *, rng: Random, wanted: int, deadline: float
) -> None:
    """Damaged files between stages, read by a job of each rule in turn."""
    jobs, expected = jobs_of(reference), digests(reference)
    for job in jobs:  # the scripts of this copy, in its own folder
        (copy.folder / job.script).exists() or restore(copy, reference, [job.script])
    made = sorted({file for job in jobs for file in job.output})
    readers = {job.rule: [] for job in jobs if set(job.input) & set(made)}
    for job in jobs:
        if job.rule in readers:
            readers[job.rule].append(job)
    rules, ways = cycle(sorted(readers)), cycle(DAMAGE)
    done = 0
    while done < wanted and time.monotonic() < deadline:
        job, how = rng.choice(readers[next(rules)]), next(ways)
        path = rng.choice([file for file in job.input if file in made])
        others = [copy.folder / file for file in made if Path(file).suffix == Path(path).suffix]
        remove(copy, [*job.output, job.log])
        if damage(how, copy.folder / path, others, rng):
            done += 1
            end = without_snakemake(job, copy)
            log = copy.folder / job.log
            said = end.stdout + (log.read_text(errors="replace") if log.exists() else "")
            if end.returncode:
                problem = told(said, [path])
            else:
                now = digests(copy)
                results = [str(Path(file).relative_to("results")) for file in job.output]
                same = all(now.get(name) == expected[name] for name in results)
                problem = None if same else "accepted, and the outputs differ"
            tally.add(
                "damaged files between stages", problem and f"{job.rule}, {path}, {how}: {problem}"
            )
        restore(copy, reference, [path, *job.output])


def mended(
    tally: Tally, copy: Copy, reference: Copy, *, rng: Random, wanted: int, deadline: float
) -> None:
    """Several damaged files and records at once: what a run says is done, until it ends well."""
    jobs, expected = jobs_of(reference), digests(reference)
    made = sorted({file for job in jobs for file in job.output})
    done = 0
    while done < wanted and time.monotonic() < deadline:
        chosen: dict[str, str] = {}
        for job in rng.sample([job for job in jobs if set(job.input) & set(made)], 4):
            path, how = rng.choice([f for f in job.input if f in made]), rng.choice(DAMAGE)
            if path in chosen or not (copy.folder / path).is_file():
                continue
            file = copy.folder / path
            if rng.random() < 0.25:
                how = rng.choice([*BYTES, "gone"])
                file = file.with_name(f".{file.name}.made")
            others = [copy.folder / f for f in made if Path(f).suffix == Path(path).suffix]
            others = [other for other in others if other.is_file()]
            if file.exists() and damage(how, file, others, rng):
                chosen[path] = f"{file.name} {how}"
                remove(copy, [f for f in job.output if f not in chosen])
        done += len(chosen)
        problem = None
        for _ in range(len(chosen) + 2):
            end = copy.snakemake("--cores", "2")
            if end.returncode == 0:
                break
            named = {f for f in chosen for line in end.stdout.splitlines() if f"{f}: " in line}
            if problem := told(end.stdout, sorted(chosen)):
                break
            remove(copy, named)
        else:
            problem = "what the run says to do does not help"
        untouched = dict(digests(copy).items())
        for path in chosen:  # what nobody had to read may still be damaged
            for name in (path, str(Path(path).with_name(f".{Path(path).name}.made"))):
                name = str(Path(name).relative_to("results"))
                if name in expected:
                    untouched[name] = expected[name]
        problem = problem or differences(untouched, expected)
        for path, how in chosen.items():
            tally.add("damaged files, whole run", problem and f"{path}: {how}: {problem}")
            problem = None
        shutil.rmtree(copy.folder)
        reference.duplicate(copy.folder)


# Files and code of the user's

CODE = """
import torch
from torch import nn

from faultline import Mask, Variant


def make_network(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, classes))


def uphill(network, images, labels, *, attack, eps, bounds, start):
    return (images + start).clamp(*bounds)


def halve(name, layer):
    smaller = layer.weight.detach() * 0.5
    yield Variant({"what": "weights"}, "w", lambda: {f"{name}.weight": smaller})
"""
OWN = """
datasets:
  arrays: {source: npz, file: images.npz, train: 200, validation: 200, test: 60}
  photos: {source: image_folder, folder: photos, size: 8, channels: 1, train: 200, validation: 200, test: 60}
networks: [small_conv, mine]
own_networks:
  mine: {function: my_code.py:make_network}
trainings:
  given: {weights: {small_conv: weights.pt, mine: weights.safetensors}, epochs: [0]}
attacks:
  own: {method: my_code.py:uphill, eps: 0.1}
ablations:
  halve: {function: my_code.py:halve, layers: first}
nodal_dropout: {layers: none}
targeting: {layers: none}
synaptic_filtering: {layers: none, global: false}
retraining: {from_epochs: []}
keep: {gb: 0}
"""  # noqa: E501
OF = "results/arrays/{}/given/seed-0/epoch-0"
READ_BY = {
    "images.npz": "results/arrays/data.pt",
    "photos/train/digit 0/0.png": "results/photos/data.pt",
    "weights.pt": f"{OF.format('small_conv')}/checkpoint.pt",
    "weights.safetensors": f"{OF.format('mine')}/checkpoint.pt",
    "my_code.py": f"{OF.format('mine')}/checkpoint.pt",
}
TAKEN = {
    ("weights.safetensors", "a bit flipped"),
    ("my_code.py", "a bit flipped"),
    ("photos/train/digit 0/0.png", "gone"),
    ("photos/train/digit 0/0.png", "a folder in its place"),
    ("photos/train/digit 0/0.png", "swapped"),
    ("photos/train/digit 0/0.png", "bytes at the end"),
    ("photos/train/digit 0/0.png", "last line gone"),
    ("my_code.py", "truncated"),
    ("my_code.py", "last line gone"),
}
"""What may be a file that is right, and what cannot be told from one."""

MISTAKES = {
    "no such function": ("def make_network", "def make_netwrk"),
    "a syntax error": ("import torch\n", "import torch as\n"),
    "another module that is not there": ("import torch\n", "import torhc\n"),
    "raises": (
        "    return nn.Sequential(",
        "    raise ValueError('no')\n    return nn.Sequential(",
    ),
    "exits": ("    return nn.Sequential(", "    raise SystemExit(3)\n    return nn.Sequential("),
    "crashes": (
        "    return nn.Sequential(",
        "    import os; os.abort()\n    return nn.Sequential(",
    ),
    "returns nothing": ("    return nn.Sequential(", "    nn.Sequential("),
    "a weight made anew for each call": (
        "nn.Linear(64, 12)",
        "nn.utils.parametrizations.weight_norm(nn.Linear(64, 12))",
    ),
    "a pruned bias": (
        "nn.Linear(64, 12)",
        "__import__('torch.nn.utils.prune', fromlist='_').identity(nn.Linear(64, 12), 'bias')",
    ),
    "wrong shape": ("nn.Linear(64, 12)", "nn.Linear(65, 12)"),
    "wrong classes": ("nn.Linear(12, classes)", "nn.Linear(12, classes + 1)"),
    "an attack that gives NaN": ("(images + start)", "(images / 0 * 0)"),
    "an attack of another shape": ("    return (images + start)", "    return (images[:, :, 1:])"),
    "an attack that raises": ("    return (images + start)", "    return (images + strat)"),
    "an attack that changes the network": (
        "    return (images + start)",
        "    next(network.parameters()).data.mul_(0)\n    return (images + start)",
    ),
    "an ablation that gives NaN": ("detach() * 0.5", "detach() * float('nan')"),
    "an ablation of another layer": ('{f"{name}.weight"', '{f"{name}x.weight"'),
    "an ablation that differs": ("detach() * 0.5", "detach() * __import__('random').random()"),
    "an ablation that yields nothing": ("    yield Variant", "    return\n    yield Variant"),
}


def _with_average(path: Path) -> None:
    import torch

    state = torch.load(path, weights_only=True)
    torch.save({"model": state, "model_ema": {name: 2 * t for name, t in state.items()}}, path)


def _labels_from_1(path: Path) -> None:
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **content | {"train_labels": content["train_labels"] + 1})


def _two_validation_sets(path: Path) -> None:
    with np.load(path) as arrays:
        content = dict(arrays)
    more = {
        f"{n}_{k}": content[f"train_{k}"] for n in ("val", "valid") for k in ("images", "labels")
    }
    np.savez(path, **content | more)


AMBIGUOUS = {
    "a moving average beside the weights": ("weights.pt", _with_average),
    "labels from 1": ("images.npz", _labels_from_1),
    "two validation sets": ("images.npz", _two_validation_sets),
}
"""What is whole, and may mean two things -> the file, and what makes it so."""


def make_own(folder: Path) -> Copy:
    """A small run with data, weights and code of the user's."""
    import torch  # what few trials need, and all wait for, is imported by those
    from PIL import Image
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits
    from torch import nn

    from faultline.networks.registry import build

    def files(copy: Copy) -> None:
        digits = load_digits()
        images = (digits.images * 255 / 16).astype(np.uint8)
        np.savez(copy.folder / "images.npz", train_images=images, train_labels=digits.target)
        for number, (image, label) in enumerate(zip(images[:700], digits.target, strict=False)):
            place = copy.folder / f"photos/train/digit {label}/{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place)
        network = build("small_conv", shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], seed=1)
        torch.save(network.body.state_dict(), copy.folder / "weights.pt")
        own = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
        save_file(own.state_dict(), copy.folder / "weights.safetensors")
        (copy.folder / "my_code.py").write_text(CODE, encoding="utf-8")

    own = make_reference(folder, OWN, files, "--until", "ablate_own")
    shutil.copytree(own.folder / "results", own.folder / "kept")
    return own


def users(tally: Tally, own: Copy, *, rng: Random, wanted: int, deadline: float) -> None:
    """Damaged files of the user's, and mistakes in the user's code, in turn."""
    trials = [(file, how) for file in READ_BY for how in DAMAGE if "record" not in how]
    trials += [("my_code.py", how) for how in MISTAKES]
    trials += [(file, how) for how, (file, _) in AMBIGUOUS.items()]
    rng.shuffle(trials)
    expected = shown(digests(own))
    for file, how in trials[:wanted]:
        if time.monotonic() > deadline:
            break
        path, target = own.folder / file, READ_BY[file]
        content, times = path.read_bytes(), path.stat()
        if how in MISTAKES:
            assert MISTAKES[how][0] in CODE, how
            path.write_text(CODE.replace(*MISTAKES[how]), encoding="utf-8")
        elif how in AMBIGUOUS:
            AMBIGUOUS[how][1](path)
        else:
            others = sorted(path.parent.glob(f"*{path.suffix}"))
            if path.suffix in (".npz", ".pt", ".safetensors"):
                others = write_others(own.folder / "others", path.suffix)
            if not damage(how, path, others, rng):
                continue
        arguments = ["--until", "ablate_own"] if how.startswith("an a") else ["--", target]
        end = own.snakemake("--cores", "1", *arguments, **one_warm_process())
        problem = None
        if end.returncode:
            problem = told(end.stdout, [path.name, "config key"])
        elif "Traceback" in end.stdout:
            problem = "a traceback"
        elif how in MISTAKES or (file, how) not in TAKEN:
            found = differences(shown(digests(own)), expected)
            problem = found and f"accepted, {found}"
        tally.add("files and code of the user's", problem and f"{file}, {how}: {problem}")
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(own.folder / "results")
        shutil.copytree(own.folder / "kept", own.folder / "results")


def shown(found: dict[str, str]) -> dict[str, str]:
    """Those of files that are not hidden: records name the user's file as it is."""
    return {name: digest for name, digest in found.items() if "/." not in f"/{name}"}


def write_others(folder: Path, suffix: str) -> list[Path]:
    """Files of the kind that hold something else."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    path = folder / f"other{suffix}"
    if suffix == ".npz":
        np.savez(path, numbers=np.arange(4))
    elif suffix == ".pt":
        torch.save({"epoch": 1, "losses": [0.5]}, path)
    else:
        save_file({"other": torch.zeros(3)}, path)
    return [path]


# Where and when


def full_disk(
    tally: Tally, reference: Copy, folder: Path, *, rng: Random, wanted: int, deadline: float
) -> None:
    """A disk with less room than a run needs, then one with enough."""
    jobs, expected = jobs_of(reference), digests(reference)
    folder.mkdir()
    for _ in range(wanted):
        if time.monotonic() > deadline:
            break
        mounted = ran(["mount", "-t", "tmpfs", "-o", "size=256m", "none", str(folder)], Path("/"))
        if mounted.returncode:
            print(
                f"full disk: left out, as no file system can be mounted: {mounted.stdout.strip()}"
            )
            return
        try:
            copy = reference.duplicate(folder / "run")
            gone = {file for job in rng.sample(jobs, 8) for file in job.output}
            size = sum((copy.folder / file).stat().st_size for file in gone)
            remove(copy, gone)
            space = shutil.disk_usage(folder).used + int(rng.random() * size * 1.2) + 4096
            ran(["mount", "-o", f"remount,size={space}", str(folder)], Path("/"))
            done = copy.snakemake("--cores", "2")
            problem = told(done.stdout, ["o space left"]) if done.returncode else None
            ran(["mount", "-o", "remount,size=256m", str(folder)], Path("/"))
            end_all(copy.folder, seconds=10)
            tally.add("full disks", problem or settle(copy, expected))
        finally:
            ran(["umount", "-l", str(folder)], Path("/"))


CHANGES = {
    "synaptic_filtering.thresholds": 4,
    "attacks.pgd.eps": 0.2,
    "seeds": [1],
    "perturbations.repeats": 3,
    "sustainability.images": 31,
    "retraining.epochs": 2,
    "remedy.strengths": [0.4],
    "trainings.standard.batch_size": 40,
    "scores": {"confidence": 0.9},
    "datasets.digits.test": 61,
}


def metadata(tally: Tally, reference: Copy, folder: Path, *, wanted: int, deadline: float) -> None:
    """Results without Snakemake's memory, with another config and with the same."""
    copy = reference.duplicate(folder)
    remove(copy, [".snakemake"])
    right = copy.config()
    for key, value in list(CHANGES.items())[:wanted]:
        if time.monotonic() > deadline:
            break
        copy.configure(changed(copying.deepcopy(right), key, value))
        said = copy.snakemake("-n").stdout
        problem = (
            None if re.search(r"^report +1$", said, re.MULTILINE) else f"stale: {said[-200:]!r}"
        )
        tally.add("lost metadata, another config", problem and f"{key}: {problem}")
    copy.configure(right)
    said = copy.snakemake("-n").stdout
    problem = None if "Nothing to be done" in said else f"made again: {said[-300:]!r}"
    tally.add("lost metadata, the same config", problem)
    shutil.rmtree(folder)


def at_once(
    tally: Tally, reference: Copy, folder: Path, *, rng: Random, wanted: int, deadline: float
) -> None:
    """Two runs that write to one folder of results, from one clone and from two."""
    jobs, expected = jobs_of(reference), digests(reference)
    folder.mkdir()
    copy = reference.duplicate(folder / "first")
    other = reference.duplicate(folder / "second")
    remove(other, ["results"])
    for number in range(wanted):
        if time.monotonic() > deadline:
            break
        remove(copy, {file for job in rng.sample(jobs, 5) for file in job.output})
        process = copy.start("--cores", "1")
        time.sleep(rng.uniform(0, 6))
        if number % 2:
            done = copy.snakemake("--cores", "1", "--nolock")
        else:
            results = f"results={copy.folder / 'results'}"
            done = other.snakemake("--cores", "1", "--config", results)
        code = process.wait()
        outcomes = sorted([bool(code), bool(done.returncode)])
        problem = None
        if outcomes == [True, True]:
            problem = f"both failed: {done.stdout[-200:]!r}"
        elif done.returncode:
            problem = told(done.stdout, ["in use by"])
        tally.add("two runs at once", problem or settle(copy, expected))


EDITS = {
    "config.yaml": ("eps: 0.1", "eps: 0.3"),
    "workflow/faultline/studies/synaptic/scores.py": (
        "def integrate(",
        "_ = 1\n\n\ndef integrate(",
    ),
    "workflow/faultline/attacks/craft.py": ("def craft(", "_ = 1\n\n\ndef craft("),
    "workflow/attack.py": ("from faultline.run", "_ = 1\nfrom faultline.run"),
}
"""What is edited while a run goes on."""


def edited(
    tally: Tally, reference: Copy, folder: Path, *, rng: Random, wanted: int, deadline: float
) -> None:
    """Config and code that are edited while a run goes on, half of the time one whose jobs start
    Snakemake anew, and are put back when it has ended."""
    jobs, expected = jobs_of(reference), digests(reference)
    copy = reference.duplicate(folder)
    cluster = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "bash"]
    for number in range(wanted):
        if time.monotonic() > deadline:
            break
        remove(copy, {file for job in rng.sample(jobs, 5) for file in job.output})
        name = rng.choice(sorted(EDITS))
        arguments = ["--cores", "1", *[*cluster, "--jobs", "1"] * (number % 2)]
        with (folder / "said").open("w") as said:
            process = copy.start(*arguments, said=said)
            wait_for("results/.run/*/states.json", copy, process)
            time.sleep(rng.uniform(0, 4))
            before = (copy.folder / name).read_text(encoding="utf-8")
            (copy.folder / name).write_text(before.replace(*EDITS[name]), encoding="utf-8")
            code = process.wait()
        (copy.folder / name).write_text(before, encoding="utf-8")
        text, problem = (folder / "said").read_text(encoding="utf-8"), None
        if code:
            problem = told(text, ["changed since the run began"])
        tally.add("edited while a run goes on", problem or settle(copy, expected))
    shutil.rmtree(folder)


def spoil(reference: Copy, folder: Path, *, wanted: int, seed: str, deadline: float) -> Tally:
    """Each kind of bad input: `wanted` in all, and thrice as many mutated configs."""
    rng, tally = Random(seed), Tally()
    folder.mkdir()
    copy = reference.duplicate(folder / "run")
    os.chdir(copy.folder)  # a config names files from there
    quick = wanted < 100
    configs(tally, copy, rng=rng, wanted=3 * wanted, deadline=deadline)
    given = {"rng": rng, "deadline": deadline}
    os.chdir(folder)
    between(tally, copy, reference, wanted=wanted * 7 // 10, **given)
    metadata(
        tally, reference, folder / "lost", wanted=1 if quick else len(CHANGES), deadline=deadline
    )
    if not quick:
        at_once(tally, reference, folder / "once", wanted=6, **given)
        full_disk(tally, reference, folder / "disk", wanted=6, **given)
        edited(tally, reference, folder / "edited", wanted=8, **given)
        users(tally, make_own(folder / "own"), wanted=wanted, **given)
        mended(tally, copy, reference, wanted=wanted // 10, **given)
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)
    return tally
