"""What tests share: a handle on a working copy of the workflow, the smallest run that has every
rule in it, and short ways to say what several of them say."""

import ast
import compileall
import functools
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from snakemakes import Snakemakes

from faultline.base.errors import UserError
from faultline.base.files import load_table
from faultline.base.fingerprint import fingerprint, remembered
from faultline.config.schema import schema_of
from faultline.snake import warm
from faultline.studies.config import Config
from faultline.studies.order import STUDIES

ROOT = Path(__file__).parents[1]
SCHEMA = schema_of(Config, described=True)
UNCOPIED = shutil.ignore_patterns("__pycache__")
HALF_WRITTEN = shutil.ignore_patterns("*.pyc.*")  # by another process of the tests
PARTS = ("Snakefile", "config.yaml", "configs", "envs", "profiles", "rules", "slurm", "workflow")

RULES = {
    rule: re.sub(f"^{indent}", "", block, flags=re.MULTILINE)
    for file in sorted((ROOT / "rules").glob("*.smk"))
    for indent, rule, block in re.findall(
        r"^( *)(?:use )?rule (?:\w+ as )?(\w+)(?: with)?:\n((?:\1 .*\n|\n)*)",
        file.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
}

# The smallest run that has every rule in it.
TINY = """
datasets:
  digits: {train: 200, validation: 200, test: 60}
networks: [small_conv]
trainings:
  standard: {batch_size: 50, epochs: [1, 2]}
seeds: [0]
attacks:
  fgsm: {method: fgsm, eps: 0.1}
  pgd: {method: pgd, steps: 2, eps: 0.1}
ablation: {attacks: [pgd]}
synaptic_filtering: {layers: [conv1, fc], thresholds: 3, random_draws: 2}
nodal_dropout: {layers: first}
perturbations: {layers: [conv1, fc], shares: [0.7], sigmas: [0.5], repeats: 2}
retraining: {from_epochs: [2], epochs: 1, by: band, random_draws: 1}
remedy: {layers: first, from_epochs: [2], strengths: [0.5], random_draws: 1}
mending: {from_epochs: [2], candidates: [harden, picked], epochs: 1, rates: [0.01], shares: [1]}
sustainability: {epochs: [2], images: 30}
criteria: {methods: [all], layers: [conv1, fc], images: 20, judged_on: 30, permutations: 199,
           use: {recipes: [at-pgd], methods: [fisher, depth], epochs: 1, random_draws: 1,
                 tests: [random]}}
"""
OWN_CODE = ROOT / "tests/own_code.py"
OWN_NETWORKS = ROOT / "tests/own_networks.py"
TINY += f"""
ablations:
  halve: {{function: "{OWN_CODE}:halve", layers: first}}
"""


def ran(command: list, folder: Path, environment: dict | None = None):
    """A command that came to its end; stdout holds what it said on both streams."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def error_of(function, *arguments, **settings) -> str:
    """The one line of the UserError that a call must end with."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fenced(page: str) -> list[tuple[str, str]]:
    """(language, text) of every fenced block of a page in Markdown."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


class Code:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def idx(array) -> bytes:
    """A file in the format of MNIST."""
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


class Copy:
    """A copy of the workflow in a folder of its own, run there as a user runs it."""

    more_environment: Callable[[], dict[str, str]] = dict
    """What else is in the environment of every run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")}
        return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | self.more_environment() | more

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        run = self.command(*arguments), self.folder, self.environment(**environment)
        # elsewhere Python would look for what has been imported already
        return ran(*run) if "PYTHONPATH" in run[-1] else snakemakes().run(*run)

    def faultline(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """The command `faultline`, as it is where this copy is the clone that was installed."""
        path = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), "workflow"])
        command = [sys.executable, "-m", "faultline.command", *arguments]
        return ran(command, self.folder, self.environment(**environment | {"PYTHONPATH": path}))

    def start(
        self, *arguments: str, said=subprocess.DEVNULL, **environment: str
    ) -> subprocess.Popen:
        """A run in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )

    def interrupt(self, target: str, *, everything: bool = True) -> None:
        """Kill a job with -9 once it has saved a first state; with `everything`, Snakemake too."""
        partial = self.folder / f"{target}.partial"
        process = self.start("--cores", "1", target)
        try:
            while not partial.exists():
                assert process.poll() is None, "the run ended before it could be interrupted"
                time.sleep(0.005)
            jobs = psutil.Process(process.pid).children(recursive=True)
            if everything:
                jobs = [psutil.Process(process.pid), *jobs]
            for job in jobs:
                if everything or " ".join(job.cmdline()).endswith("train.py"):
                    job.kill()
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert partial.exists() and not (self.folder / target).exists()

    def run(self, *arguments: str, **environment: str) -> str:
        """What a run says that must succeed."""
        done = self.snakemake(*arguments, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def announced(self, *arguments: str, **environment: str) -> list[dict]:
        """Every job that a dry run announces, but for the target `all`.

        Each has its rule, its wildcards, lists of paths under input, output and log, and mem_mb
        where its inputs are there.
        """
        said = self.run("-n", "-p", *arguments, **environment)
        jobs = []
        for line in said.splitlines():
            if found := re.fullmatch(r"(?:local)?rule (\w+):", line):
                jobs.append({"rule": found[1], "wildcards": {}, "input": []})
            elif found := re.fullmatch(r"    wildcards: (.*)", line):
                jobs[-1]["wildcards"] = dict(pair.split("=", 1) for pair in found[1].split(", "))
            elif found := re.fullmatch(r"    resources: .*\bmem_mb=(\d+).*", line):
                jobs[-1]["mem_mb"] = int(found[1])
            elif found := re.fullmatch(r"    (input|output|log): (.*)", line):
                jobs[-1][found[1]] = found[2].split(", ")
        total = re.search(r"^total +(\d+)$", said, flags=re.MULTILINE)
        assert len(jobs) == (int(total[1]) if total else 0), said
        return [job for job in jobs if job["rule"] != "all"]

    def files(self, folder: str) -> list[Path]:
        return [path for path in (self.folder / folder).rglob("*") if path.is_file()]

    def config(self) -> dict:
        return yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))

    def configure(self, config) -> None:
        """Replace config.yaml by a dict (in its own order) or a text."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace one passage of a file, which must be there once."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def duplicate(self, folder: Path) -> "Copy":
        """Another copy with all results, times of files included, and no file one with another."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-pRL", self.folder, folder], check=True)
        return Copy(folder)


LAST_EPOCH = "results/digits/small_conv/standard/seed-0/epoch-2"
"""The last checkpoint of the tiny run."""


def wait_for(pattern: str, copy: Copy, process: subprocess.Popen) -> None:
    """Wait until a run has made a file."""
    while not list(copy.folder.glob(pattern)):
        assert process.poll() is None, "the run ended before it could be disturbed"
        time.sleep(0.005)


def eps_edited_meanwhile(copy: Copy, *arguments: str) -> set[float]:
    """The eps of the attacks of a tiny run that is finished but for these, and whose config is
    edited after the first one."""
    shutil.rmtree(copy.folder / "results/.kept")
    shutil.rmtree(copy.folder / LAST_EPOCH / "attacks")
    tables = [f"{LAST_EPOCH}/attacks/{name}/accuracy.tsv" for name in ("fgsm", "pgd")]
    process = copy.start(*tables, *arguments)
    wait_for(f"{LAST_EPOCH}/attacks/*/correct.npz", copy, process)
    config = (copy.folder / "config.yaml").read_text(encoding="utf-8")
    copy.configure(config.replace("eps: 0.1", "eps: 0.3"))
    assert process.wait() == 0
    return {eps for table in tables for eps in load_table(copy.folder / table)["eps"]}


def copy_code(folder: Path) -> Path:
    """A fresh copy of workflow/, to change."""
    return Path(shutil.copytree(ROOT / "workflow", folder, ignore=UNCOPIED))


def add_statement(workflow: Path, module: str, function: str | None) -> None:
    """Put a statement that does nothing into a function of a module, or into all of them."""
    file = workflow / f"faultline/{module}.py"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    nodes = [n for n in ast.parse("".join(lines)).body if isinstance(n, ast.FunctionDef)]
    nodes = [node for node in nodes if function in (None, node.name)]
    assert nodes, f"{module} has no function {function}"
    for node in reversed(nodes):
        lines.insert(node.body[-1].lineno - 1, "    _ = 1\n")
    file.write_text("".join(lines), encoding="utf-8")


def fingerprints(workflow: Path, find=fingerprint) -> dict[str, str]:
    """Rule -> fingerprint of the files that it names in `code`."""
    package, found = workflow / "faultline", {}
    call = re.compile(r"^        code=(code\((?:.*|\n(?: {9}.*\n)*        )\)),$", re.MULTILINE)
    for rule, block in RULES.items():
        names = eval(call.search(block)[1], {"code": lambda *names: names, "STUDIES": STUDIES})
        found[rule] = find(*(workflow / f"{name}.py" for name in names), package=package)
    return found


@functools.cache
def all_fingerprints() -> str:
    """What a run of this checkout would remember of its code."""
    with tempfile.TemporaryDirectory() as folder:
        find = remembered(Path(folder))
        fingerprints(ROOT / "workflow", lambda *files, package: find(*files))
        return (Path(folder) / "fingerprints.json").read_text(encoding="utf-8")


@functools.cache
def snakemakes() -> Snakemakes:
    return Snakemakes()


@functools.cache
def one_warm_process() -> dict[str, str]:
    """A process that jobs of all runs start from: one of each run's own takes 4 s of CPU."""
    warm.start()
    return {warm.ADDRESS: os.environ.pop(warm.ADDRESS, "")}


@functools.cache
def compiled() -> None:
    """Let copies of the code have its compiled form with them: else every job would compile it."""
    compileall.compile_dir(ROOT / "workflow", quiet=2)


def copy_workflow(folder: Path, config: str = TINY) -> Copy:
    """A fresh copy of the checkout, without results, but with the fingerprints of its code."""
    folder.mkdir(parents=True, exist_ok=True)
    compiled()
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=HALF_WRITTEN)
        else:
            shutil.copy2(source, target)
    copy, memory = Copy(folder), folder / ".snakemake/fingerprints.json"
    memory.parent.mkdir(exist_ok=True)
    memory.write_text(all_fingerprints(), encoding="utf-8")
    if config:
        copy.configure(config)
    return copy
