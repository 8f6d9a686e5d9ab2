"""The command `faultline`: a run, and what is asked of finished ones.

A subcommand is a module here: its docstring is its help, `take(parser)` says what it takes, and
`main(given)` does it, importing what it needs only then.
"""

import argparse
import sys

from faultline.base.errors import UserError
from faultline.command import check, compare, cost, export, kept, run, samples

SUBCOMMANDS = {
    "run": run,
    "cost": cost,
    "check": check,
    "compare": compare,
    "compare-samples": samples,
    "export": export,
    "kept": kept,
}


def main(words: list[str] | None = None) -> None:
    """Do what the words of a command line say; a mistake of the user's ends in one line."""
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser("faultline", description="Find where a network breaks.")
    every = parser.add_subparsers(required=True, metavar="COMMAND", dest="name")
    for name, module in SUBCOMMANDS.items():
        about = " ".join((module.__doc__ or "").split())
        module.take(every.add_parser(name, help=about.partition(";")[0], description=about))
    to_snakemake = words[:1] in (["run"], ["cost"]) and not {"-h", "--help"} & {*words}
    # words that argparse does not know would lose their order
    given = argparse.Namespace(name=words[0], words=words[1:]) if to_snakemake else None
    given = given or parser.parse_args(words)
    try:
        SUBCOMMANDS[given.name].main(given)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
