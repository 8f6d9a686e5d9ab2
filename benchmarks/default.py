"""How long a run takes, against the sum of its work: the default run, unless another is named.

    python benchmarks/default.py --cores 2
    python benchmarks/default.py --cores 8 --config configs/fragile-neurons.yaml --repetitions 3

The run is made from nothing, in a temporary folder, as `snakemake --cores N` would. Its work is the
CPU time that its jobs report. "Snakemake" is the CPU time of everything else: reading the workflow,
choosing and starting jobs, importing what they need. The bound is the work divided by the cores.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pandas as pd
import snakemake
import torch

ROOT = Path(__file__).resolve().parent.parent


def run(config: Path, cores: int, device: str) -> tuple[float, float, pd.DataFrame]:
    """(seconds by the clock, CPU seconds beside the jobs', what each job took) of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
        command += ["--configfile", config.resolve(), "--cores", str(cores), "--quiet"]
        command += ["--config", f"device={device}", "--", "all"]
        before, start = _cpu_seconds(), time.monotonic()
        subprocess.run(list(map(str, command)), check=True)
        seconds = time.monotonic() - start
        jobs = [pd.read_csv(path, sep="\t") for path in Path(folder).rglob("*.used.tsv")]
    return seconds, _cpu_seconds() - before, pd.concat(jobs)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "config.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--repetitions", type=int, default=1)
    chosen = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch "
        f"{torch.__version__}, snakemake {snakemake.__version__}; {chosen.config.name} with "
        f"--cores {chosen.cores}"
    )
    took, bounds = [], []
    for _ in range(chosen.repetitions):
        seconds, beside, jobs = run(chosen.config, chosen.cores, chosen.device)
        rules = jobs.groupby("rule")["cpu_seconds"].agg(["size", "sum", "max"])
        work = rules["sum"].sum()
        took.append(seconds)
        bounds.append(work / min(chosen.cores, os.cpu_count()))
        for rule, row in rules.sort_values("sum", ascending=False).iterrows():
            print(
                f"{rule:26} {row['size']:5.0f} jobs {row['sum']:8.1f} CPU s, {row['max']:.1f} most"
            )
        print(f"{'all jobs':26} {len(jobs):5} jobs {work:8.1f} CPU s")
        print(f"{'Snakemake':26} {'':10} {beside:8.1f} CPU s")
        print(
            f"{seconds:.1f} s by the clock, {seconds / bounds[-1]:.2f} times the bound\n",
            flush=True,
        )
    if len(took) > 1:
        print(
            f"median {statistics.median(took):.1f} s ({min(took):.1f} to {max(took):.1f}, "
            f"n = {len(took)}), bound {statistics.median(bounds):.1f} s"
        )


if __name__ == "__main__":
    main()
