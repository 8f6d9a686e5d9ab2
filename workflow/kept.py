"""What is kept of finished work, rule by rule, and what of it may go.

python workflow/kept.py [FOLDER] [--remove]
"""

import argparse
from datetime import datetime
from pathlib import Path

from faultline.base.errors import printable
from faultline.run import kept

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument(
    "folder", nargs="?", default="results", help="the results (by default results), or keep.folder"
)
parser.add_argument(
    "--remove", action="store_true", help="remove what may go: it shares no bytes with the results"
)
given = parser.parse_args()
folder = Path(given.folder)
folder = folder / ".kept" if (folder / ".kept").is_dir() else folder
found = list(kept.entries(folder))
if not found:
    raise SystemExit(f"{folder}: nothing is kept there; name the results, or keep.folder")

row = "{:<24}{:>8}{:>12}{:>12}  {}".format
print(row("rule", "jobs", "MB", "may go, MB", "last used"))
for rule in sorted({entry.path.parent.name for entry in found}):
    of_rule = [entry for entry in found if entry.path.parent.name == rule]
    sizes = [
        f"{sum(sizes) / 1e6:.1f}"
        for sizes in zip(*((e.size, e.alone) for e in of_rule), strict=True)
    ]
    last = datetime.fromtimestamp(max(entry.used for entry in of_rule))
    print(row(printable(rule), len(of_rule), *sizes, f"{last:%Y-%m-%d %H:%M}"))
if given.remove:
    gone = kept.trim(folder, 0)
    print(f"removed: {len(gone)} jobs, {sum(entry.alone for entry in gone) / 1e6:.1f} MB")
