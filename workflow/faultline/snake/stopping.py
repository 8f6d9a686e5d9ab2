"""How a run stops early: what Ctrl-C, SIGTERM and a closed terminal do to Snakemake and its jobs.

Snakemake by itself lets running jobs go on to their end at SIGTERM, and jobs outlive a Snakemake
that is killed. Here it ends its jobs first, and they watch over it. No torch.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from faultline.snake import internals
from faultline.snake.launch import catch

SNAKEMAKE = "FAULTLINE_SNAKEMAKE"
"""The environment variable that names the Snakemake that jobs of its machine end with."""
EVERY = 1.0  # seconds between two looks at whether it lives

_stopped_by: list[int] = []


def stopped() -> bool:
    """Whether a signal has stopped this run."""
    return bool(_stopped_by)


def line(by: str, after: str = "") -> str:
    """What is said then; by: what stopped the run, after: what was done by then."""
    return f"stopped by {by}{after}; the same command goes on from there"


def stop_with_jobs(said: Callable[[str], str], also: Callable = lambda: None) -> None:
    """Have Snakemake end at a signal, its jobs first; a second one kills these.

    said: what stopped the run -> the line that is shown. also: what else ends it, where Snakemake
    does not let the handler's exception through. To be called again when Snakemake has put its own
    handlers in place.
    """

    def stop(number: int, _) -> None:
        again = stopped()
        _stopped_by.append(number)
        if again:
            _send(signal.SIGKILL, set())
            return
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        with contextlib.suppress(OSError):  # the terminal is closed
            os.write(2, f"{said(name)}\n".encode())
        threading.Thread(target=_end_jobs, args=(also,), daemon=True).start()
        raise SystemExit(128 + number)

    # Jobs in groups of their own do not get the terminal's Ctrl-C, which would end them anywhere.
    with internals.optional():
        internals.lead_groups()
        internals.cancel_every_job()
    catch(stop)


def _end_jobs(also: Callable) -> None:
    """Also those that are only just being started."""
    also()
    ended: set[int] = set()
    while True:
        _send(signal.SIGTERM, ended)
        time.sleep(0.1)


def _send(number: int, done: set[int]) -> None:
    """Send a signal to each job that is not in `done`, with all that it started. Other children of
    Snakemake lead no group of its session."""
    for child in psutil.Process().children():
        with contextlib.suppress(ProcessLookupError):
            leads = os.getpgid(child.pid) == child.pid and os.getsid(child.pid) == os.getsid(0)
            if leads and child.pid not in done:
                done.add(child.pid)
                os.killpg(child.pid, number)


def be_watched() -> None:
    """Have the jobs of this Snakemake end when it does, see `end_with_snakemake`."""
    os.environ[SNAKEMAKE] = f"{os.getpid()} {_namespace()}"


def end_with_snakemake() -> None:
    """Have this job end at once when its Snakemake has ended, even if that was killed."""
    process, _, namespace = os.environ.get(SNAKEMAKE, "").partition(" ")
    if process and namespace == _namespace():
        threading.Thread(target=_watch, args=(int(process),), daemon=True).start()


def _namespace() -> str:
    """In which processes have these ids: a container may have others."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _watch(process: int) -> None:
    while _lives(process):
        time.sleep(EVERY)
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    with contextlib.suppress(OSError):  # where there is /proc, one that nobody waits for is told
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
