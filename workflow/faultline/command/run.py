"""run a config: snakemake with this workflow, the config named first and, unless the words say
otherwise, all cores; whatever else is given goes to Snakemake as it is"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from faultline.base.errors import UserError

CONFIGS = (".yaml", ".yml", ".json")
BOUNDS = ("-c", "--cores", "-j", "--jobs", "--profile", "-e", "--executor")
"""What says how many jobs run at once, or leaves it to a profile."""


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.usage = "faultline run [CONFIG] [--cores N] [-n] [ANY OF SNAKEMAKE'S ARGUMENTS]"
    parser.add_argument("words", nargs="*", metavar="CONFIG", help="by default config.yaml")


def main(given: argparse.Namespace) -> None:
    """Become Snakemake."""
    command = [sys.executable, "-m", "snakemake", *arguments(given.words)]
    if importlib.util.find_spec("snakemake") is None:
        raise UserError("Snakemake is not installed; pip install -r requirements.txt")
    os.execv(sys.executable, command)


def arguments(words: list[str]) -> list[str]:
    """Of Snakemake, for those of `faultline run`. UserError where a config is none."""
    config = [word for word in words[:1] if word.endswith(CONFIGS) and word[0] != "-"]
    rest = words[len(config) :]
    for place, word in enumerate(rest):
        if word in ("--configfile", "--configfiles"):
            _check(_values(rest[place + 1 :]))
    _check(config)
    if not any(word.startswith(BOUNDS) for word in rest) and "SNAKEMAKE_PROFILE" not in os.environ:
        rest = ["--cores", "all", *rest]
    if not any(word in ("-s", "--snakefile") for word in rest):
        rest = ["--snakefile", str(_snakefile()), *rest]
    # last, as it takes whatever stands behind it
    return rest + ["--configfile", *config] * bool(config)


def _values(words: list[str]) -> list[str]:
    """The words before the next option."""
    ends = [place for place, word in enumerate(words) if word.startswith("-")]
    return words[: min(ends, default=len(words))]


def _check(configs: list[str]) -> None:
    for config in configs:
        if not config.endswith(CONFIGS):
            raise UserError(f"{config}: is no config; name targets before --configfile")
        if not Path(config).is_file():
            raise UserError(f"{config}: no such file; name a config, such as config.yaml")


def _snakefile() -> Path:
    """That of the clone in which this is run, else of the clone that holds this library."""
    for root in (Path(), Path(__file__).parents[3]):
        if (root / "workflow/faultline/__init__.py").is_file() and (root / "Snakefile").is_file():
            return root / "Snakefile"
    raise UserError("no Snakefile beside the library; clone faultline and pip install -e . in it")
