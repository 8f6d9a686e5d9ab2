"""What every script shares: its log, its threads, and one line for a user's mistake."""

import errno
import fcntl
import os
import resource
import sys
import tempfile
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from faultline import own
from faultline.errors import UserError

_HELD = []  # open lock files: closing one lets its device go


@contextmanager
def job(snakemake):
    """Run the block as the job `snakemake` describes.

    The networks of the config's section own_networks are known in it. Everything printed goes to
    the log. A UserError, a full disk or a lack of memory ends the job
    with one line there, which Snakemake shows because the profile asks for failed logs.
    """
    with (
        Path(snakemake.log[0]).open("w", buffering=1, encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            own.NETWORKS.update(snakemake.config["own_networks"])
            yield
        except Exception as error:
            line = _in_one_line(error)
            if line is None:
                traceback.print_exc()
                line = f"{type(error).__name__}: {error}"
            print(f"error: {line}", file=log)
            sys.exit(1)


def _in_one_line(error: Exception) -> str | None:
    """What to tell the user, or None where the program is at fault."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'the disk'}: no space left; free some and run again"
    if isinstance(error, MemoryError):
        return "out of memory; give the rule more with --set-resources RULE:mem_mb=N"
    return None


def torch_device(snakemake):
    """The torch device of the config key `device`, with torch held to the job's threads.

    Raises UserError where cuda is asked for and not there.
    """
    import torch

    torch.set_num_threads(snakemake.threads)
    wanted = snakemake.params.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "config key device: cuda asked for, but torch sees no GPU; set it to auto or cpu"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    scheduled = "SLURM_JOB_ID" in os.environ  # the cluster gave this job its devices
    return torch.device("cuda", 0 if scheduled else claim(torch.cuda.device_count()))


def claim(count: int, folder: str | None = None) -> int:
    """A device of this machine that no other job holds; held until the process ends.

    Where all are held, as by a second workflow, the devices are shared out by process id.
    """
    for device in range(count):
        lock = Path(folder or tempfile.gettempdir(), f"faultline-gpu-{os.getuid()}-{device}.lock")
        handle = lock.open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            continue
        _HELD.append(handle)
        return device
    return os.getpid() % count


def free_memory(snakemake, device) -> float:
    """Bytes that a job may still take: on a GPU what is free, else what is left of its mem_mb."""
    import torch

    if device.type == "cuda":
        return 0.8 * torch.cuda.mem_get_info(device)[0]
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(0.8 * (snakemake.resources.mem_mb * 1e6 - used), 2e7)
