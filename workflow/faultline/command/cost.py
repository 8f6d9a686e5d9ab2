"""tell what a config will cost before it is run: jobs, images judged, operations, hours on this
machine, and what would be cheaper; what is there already is not counted"""

import argparse
import os

from faultline.command import run
from faultline.snake.console import ONLY_COST


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.usage = "faultline cost [CONFIG] [ANY OF SNAKEMAKE'S ARGUMENTS, such as --forceall]"
    parser.add_argument("words", nargs="*", metavar="CONFIG", help="by default config.yaml")


def main(given: argparse.Namespace) -> None:
    """Become a dry run of Snakemake that tells nothing else."""
    os.environ[ONLY_COST] = "1"
    run.main(argparse.Namespace(words=[*given.words[:1], "-n", *given.words[1:]]))
