"""tell what is kept of finished work, rule by rule, and what of it may go; and which files in the
results are of earlier runs, not of the last one"""

import argparse
from datetime import datetime
from pathlib import Path

from faultline.base.errors import UserError, printable, some


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "folder",
        nargs="?",
        default="results",
        help="the results (by default results), or keep.folder",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="remove what may go: it shares no bytes with the results",
    )
    parser.add_argument(
        "--earlier", action="store_true", help="print each file of earlier runs, one a line, alone"
    )


def main(given: argparse.Namespace) -> None:
    """Tell it, and remove what may go if that is asked."""
    from faultline.snake import kept, records

    results = Path(given.folder)
    earlier = records.earlier(results)
    if given.earlier:
        print(*earlier, sep="\n", end="\n" * bool(earlier))
        return
    folder = results / ".kept" if (results / ".kept").is_dir() else results
    entries = list(kept.entries(folder))
    if not entries and not earlier:
        raise UserError(f"{folder}: nothing is kept there; name the results, or keep.folder")
    if entries:
        row = "{:<24}{:>8}{:>12}{:>12}  {}".format
        print(row("rule", "jobs", "MB", "may go, MB", "last used"))
        for rule in sorted({entry.path.parent.name for entry in entries}):
            of_rule = [entry for entry in entries if entry.path.parent.name == rule]
            sizes = [
                f"{sum(sizes) / 1e6:.1f}"
                for sizes in zip(*((e.size, e.alone) for e in of_rule), strict=True)
            ]
            last = datetime.fromtimestamp(max(entry.used for entry in of_rule))
            print(row(printable(rule), len(of_rule), *sizes, f"{last:%Y-%m-%d %H:%M}"))
    if given.remove:
        gone = kept.trim(folder, 0)
        print(f"removed: {len(gone)} jobs, {sum(entry.alone for entry in gone) / 1e6:.1f} MB")
    if earlier:
        size = sum(file.stat().st_size for file in earlier) / 1e6
        print(
            f"of earlier runs, not of the last one: {len(earlier)} files, {size:.1f} MB (--earlier"
        )
        print(f"names each), in {some(sorted({str(file.parent) for file in earlier}), 5)}")
