"""Snakemake without its imports, which take more of a dry run than all the rest: a process makes
them once, and each run is a copy of it. It knows nothing of faultline, so every run reads the code
of its own folder. This file is also the script of that process."""

import contextlib
import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = (
    *("snakemake.cli", "snakemake.report.html_reporter", "snakemake.storage", "jsonschema"),
    *("smart_open", "nbformat", "requests", "yte", "yaml", "docutils.core", "platformdirs"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg"),  # as a run ends, it draws its times
)


class Snakemakes:
    """That process, as long as this one lives."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, command: list[str], folder: Path, environment: dict[str, str]):
        """As subprocess.run; `command` starts with Python, -m and snakemake."""
        with tempfile.NamedTemporaryFile() as said:
            request = command[3:], str(folder), environment, said.name
            print(json.dumps(request), file=self.process.stdin, flush=True)
            code = int(self.process.stdout.readline())
            text = said.read().decode()
        return subprocess.CompletedProcess(command, code, text)


def serve() -> None:
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    for name in MODULES:
        importlib.import_module(name)
    sys.modules["snakemake.cli"].get_argument_parser()  # looks for plugins in all of site-packages
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        if not (copy := os.fork()):
            run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), flush=True)


def run(arguments: list[str], folder: str, environment: dict[str, str], said: str) -> None:
    """Be `python -m snakemake`; never returns."""
    for source, mode, numbers in (os.devnull, os.O_RDONLY, [0]), (said, os.O_WRONLY, [1, 2]):
        opened = os.open(source, mode | os.O_APPEND * bool(mode))
        for number in numbers:
            os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.path.insert(0, folder)
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve()
