"""A fault campaign on the tiny run: kills, bad inputs, and faults of a cluster.

    python tests/campaign.py                 500 kills, 500 bad inputs (and more configs)
    python tests/campaign.py --cluster       and 12 faults on a SLURM that it starts (as root)
    python tests/campaign.py --quick         a few of each

It says what went wrong, line by line, then how many were tried of what, and exits with 1 where
anything was lost, wrong or ended in a traceback. docs/reliability.md tells what is tried.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))

import bad_inputs
import cluster_faults
import kills
from faults import Tally, make_reference
from support import Copy

LANES = 2
"""Parts of the campaign at once, and the parts that kills are tried in."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--inputs", type=int, default=500, help="bad inputs (default: 500)")
    parser.add_argument("--cluster", action="store_true", help="also 12 faults on a SLURM")
    parser.add_argument("--quick", action="store_true", help="a few of each, no cluster")
    parser.add_argument("--minutes", type=float, default=600, help="begin nothing after so many")
    parser.add_argument("--seed", default="0", help="of all that is drawn (default: 0)")
    parser.add_argument(
        "--folder", type=Path, help="where to work; a new one, by default temporary"
    )
    return parser.parse_args()


def part(function, *arguments, **settings) -> Tally:
    """What a part of the campaign found; that it broke down itself is wrong, too."""
    try:
        return function(*arguments, **settings)
    except Exception:
        tally = Tally()
        tally.fail(f"{function.__name__} broke down: {traceback.format_exc()[-500:]}")
        return tally


def main() -> int:
    args = parse()
    deadline = time.monotonic() + 60 * args.minutes
    if args.quick:
        args.kills, args.inputs, args.cluster = min(args.kills, 3), min(args.inputs, 6), False
    folder = Path(args.folder or tempfile.mkdtemp(prefix="campaign-")).resolve()
    folder.mkdir(exist_ok=True)
    os.environ.pop("FAULTLINE_WARM", None)
    reference = Copy(folder / "reference")
    if not reference.folder.exists():
        make_reference(reference.folder)
    lanes = 1 if args.quick else LANES
    parts = []
    if args.cluster:
        parts.append((cluster_faults.disturb, "cluster", 12))
    if args.inputs:
        parts.append((bad_inputs.spoil, "inputs", args.inputs))
    if args.kills:
        parts += [(kills.kill, f"kills-{n}", args.kills // lanes) for n in range(lanes)]
    found = Tally()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(parts), mp_context=context) as pool:
        running = [
            pool.submit(
                part,
                function,
                reference,
                folder / name,
                wanted=wanted,
                seed=f"{args.seed}-{name}",
                deadline=deadline,
            )
            for function, name, wanted in parts
        ]
        for each in running:
            found.join(each.result())
    if args.folder is None:
        shutil.rmtree(folder)
    print(told(found))
    return bool(found.wrong)


def told(found: Tally) -> str:
    """The counts, those of kills by rule in one line."""
    rules = Counter(
        {k.removeprefix("kills in "): n for k, n in found.tried.items() if "kills in " in k}
    )
    lines = []
    if rules:
        few, most = min(rules.values()), max(rules.values())
        lines.append(f"{rules.total()} kills, {few} to {most} in each of {len(rules)} places")
    lines += [f"{n} {kind}" for kind, n in sorted(found.tried.items()) if "kills in " not in kind]
    return "\n".join([*lines, f"{len(found.wrong)} lost, wrong or in a traceback"])


if __name__ == "__main__":
    sys.exit(main())
