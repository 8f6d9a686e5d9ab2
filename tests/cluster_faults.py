"""Faults of the fault campaign on a real SLURM that is started for it."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from itertools import cycle
from pathlib import Path
from random import Random

from cluster import ENVIRONMENT, cluster, missing, run, wait
from faults import Tally, digests, end_all, jobs_of, remove, settle, trace
from support import Copy

ON_SLURM = [
    *("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1"),
    *("--seconds-between-status-checks", "1", "--latency-wait", "5"),
]
AT_ONCE = 5  # jobs in one run
MOST = 4  # faults in one run, which tries each job three times
PATIENCE = 420  # seconds that a run may take


def running() -> list[str]:
    return run("squeue", "-h", "-t", "RUNNING", "-o", "%i").split()


def go_on() -> None:
    """What was put back into the queue starts at once, not after two minutes."""
    for job in run("squeue", "-h", "-t", "PENDING", "-o", "%i").split():
        run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)


def cancelled(rng: Random, folder: Path) -> None:
    run("scancel", rng.choice(running()))


def requeued(rng: Random, folder: Path) -> None:
    run("scontrol", "requeue", rng.choice(running()), check=False)


def node_down(rng: Random, folder: Path) -> None:
    run("scontrol", "update", "NodeName=faultline", "State=DOWN", "Reason=campaign")
    time.sleep(rng.uniform(0.5, 3))
    run("scontrol", "update", "NodeName=faultline", "State=RESUME", check=False)


def node_drained(rng: Random, folder: Path) -> None:
    run("scontrol", "update", "NodeName=faultline", "State=DRAIN", "Reason=campaign")
    time.sleep(rng.uniform(0.5, 3))
    run("scontrol", "update", "NodeName=faultline", "State=RESUME", check=False)


def controller_restarted(rng: Random, folder: Path) -> None:
    os.kill(int((folder / "slurmctld.pid").read_text()), signal.SIGTERM)
    time.sleep(rng.uniform(0.5, 3))
    subprocess.Popen(["slurmctld"], env=ENVIRONMENT).wait(20)  # goes into the background
    wait(lambda: run("sinfo", "-h"), seconds=30)


FAULTS = (cancelled, requeued, node_down, node_drained, controller_restarted)


def disturb(reference: Copy, folder: Path, *, wanted: int, seed: str, deadline: float) -> Tally:
    """`wanted` faults, each kind in turn, at random moments of runs on the cluster."""
    rng, tally, kinds = Random(seed), Tally(), cycle(FAULTS)
    if why := missing():
        print(f"cluster: left out, {why}", flush=True)
        return tally
    folder.mkdir()
    copy, node = reference.duplicate(folder / "run"), folder / "node"
    jobs, expected = jobs_of(reference), digests(reference)
    done = 0
    with stopped(node), cluster(node):
        while done < wanted and time.monotonic() < deadline:
            chosen = rng.sample(jobs, AT_ONCE)
            targets = [file for job in chosen for file in job.output]
            remove(copy, targets)
            since = []
            with (folder / "said").open("wb") as said:
                process = copy.start(*ON_SLURM, "--nolock", "--", *targets, said=said)
            end = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(AssertionError, IndexError, subprocess.TimeoutExpired):
                    if len(since) < MOST and done < wanted and running():
                        time.sleep(rng.uniform(0, 5))
                        fault = next(kinds)
                        fault(rng, node)
                        done += 1
                        since.append(fault.__name__)
                        tally.add(f"cluster, {fault.__name__}")
                    go_on()
                time.sleep(0.5)
            if process.poll() is None:
                tally.fail(f"cluster: the run does not end after {since}")
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            text = (folder / "said").read_text(errors="replace")
            if "Traceback" in text:
                tally.fail(f"cluster: after {since}: {trace(text)}")
        end_all(copy.folder, seconds=10)
        if problem := settle(copy, expected):
            tally.fail(f"cluster: {problem}")
        tally.tried["comparisons after cluster faults"] += 1
    shutil.rmtree(folder, ignore_errors=True)
    return tally


@contextlib.contextmanager
def stopped(node: Path):
    """A controller that was started anew is nobody's child: it is stopped after the others."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((node / "slurmctld.pid").read_text()), signal.SIGTERM)
