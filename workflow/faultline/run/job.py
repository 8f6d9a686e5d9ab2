"""What every script shares: its log, its threads, and one line for a user's mistake."""

import errno
import fcntl
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from faultline.base import pace, plugins
from faultline.base.errors import UserError, first_line, printable
from faultline.base.files import open_in_place, private_folder, remove_leftovers, save_text
from faultline.snake import frozen, records, stopping
from faultline.snake.kept import Kept
from faultline.snake.launch import catch

_HELD: list[TextIO] = []  # open lock files: closing one lets its device go


@contextmanager
def job(snakemake, *, kept=False):
    """Run the block as the job `snakemake` describes.

    kept: whether it is worth a place in what the config key `keep` keeps; then the block runs only
    where its outputs are not found there, and must make them of the job's inputs, params and
    wildcards and the user's functions alone.

    The networks of the config's section own_networks are known in it. Everything printed goes to
    the log; what the job took goes to a table beside it (see `used`). Inputs are held against the
    records of what was written, and outputs get theirs (see `snake.records`), unless code or a
    file of the user's is not what the run began with (see `snake.frozen`), or an input changes
    meanwhile: that ends the job. It ends, as after any UserError, a full disk, a lack of memory or
    a signal that stops it, with one line in the log, which Snakemake shows because the profile asks
    for failed logs; and at once when Snakemake has ended.
    """
    start, log_file = time.time(), Path(snakemake.log[0])
    took = log_file.with_suffix(".used.tsv")
    took.unlink(missing_ok=True)
    stopping.end_with_snakemake()
    catch(_stop)
    with (
        log_file.open("a", buffering=1, encoding="utf-8") as log,  # Snakemake has removed the last
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            frozen.hold()
            records.forget(snakemake.output)
            beside = map(records.beside, snakemake.output)
            for path in (*snakemake.output, *beside, *snakemake.log, took):
                remove_leftovers(path)
                remove_leftovers(f"{path}.partial")
            store = Kept(snakemake) if kept and snakemake.config["keep"]["gb"] else None
            kept_log = store.log if store else None
            frozen.check_files(snakemake.input)
            states = records.states(snakemake.input)
            results = records.folder_of(snakemake.config)
            inputs = records.checked(snakemake.input, results=results)
            if kept_log:
                print(kept_log, end="")
            else:
                plugins.NETWORKS.update(snakemake.config["own_networks"])
                for note in store.notes if store else ():
                    print(note)
                with pace.job():
                    yield
                plugins.check_loaded()
                records.check_unchanged(states)
                if store:
                    store.put(log_file)
            records.write(snakemake, inputs)
            save_text(used(snakemake, start, kept=bool(kept_log)), took)
            if kept_log:
                sys.exit(0)  # past the block, which is not run
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and not error.code:
                raise
            line = _in_one_line(error)
            if line is None:
                traceback.print_exc()
                line = f"{type(error).__name__}: {first_line(error)}"
            try:
                print(f"error: {printable(line)}", file=log)
            except OSError:  # that disk may be the full one: closing it would fail as well
                os.dup2(os.open(os.devnull, os.O_WRONLY), log.fileno())
            sys.exit(1)


def used(snakemake, start: float, *, kept: bool = False) -> str:
    """One row on what this process took since `start` (seconds since 1970), with its head line:
    rule, host, device, threads, start and end (UTC), seconds by the clock, cpu_seconds, children
    included, at its peak peak_mb and, on a GPU, gpu_mb, images_per_second where images went through
    networks (see `base.pace`), and in `found` whether the work was found, kept."""
    gpu, times = "", os.times()
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        gpu = f"{torch.cuda.max_memory_allocated() / 1e6:.0f}"
    seconds = time.time() - start
    rate = f"{pace.images() / seconds:.0f}" if pace.images() else ""
    row = {
        "rule": snakemake.rule,
        "host": socket.gethostname(),
        "device": "cuda" if gpu else "cpu",
        "threads": snakemake.threads,
        "start": _utc(start),
        "end": _utc(time.time()),
        "seconds": f"{seconds:.2f}",
        "cpu_seconds": f"{sum(times[:4]):.2f}",
        "peak_mb": f"{_peak_memory() / 1e6:.0f}",
        "gpu_mb": gpu,
        "images_per_second": rate,
        "found": kept,
    }
    return "\n".join("\t".join(map(str, line)) for line in (row, row.values())) + "\n"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _peak_memory() -> float:
    """Bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _stop(number: int, _) -> None:
    catch(signal.SIG_IGN)  # once is enough
    name = signal.Signals(number).name
    raise SystemExit(f"stopped by {name}; a training goes on after its last whole epoch")


def _in_one_line(error: BaseException) -> str | None:
    """What to tell the user, or None where the program is at fault."""
    if isinstance(error, UserError | SystemExit):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'the disk'}: no space left; free some and run again"
    if isinstance(error, MemoryError):
        return "out of memory; give the rule more with --set-resources RULE:mem_mb=N"
    if type(error).__name__ == "OutOfMemoryError":  # torch is not imported for this
        return (
            "out of GPU memory; if this is a training, lower its batch_size (config key "
            "trainings.*.batch_size), which changes its result, or set device: cpu"
        )
    return None


def torch_device(snakemake):
    """The torch device of the config key `device`, with torch held to the job's threads.

    A job that asked for no GPU (its resource `gpu`) leaves them to the others.
    Raises UserError where cuda is asked for and not there.
    """
    import torch

    from faultline.base.memory import keep_freed

    keep_freed()
    torch.set_num_threads(snakemake.threads)
    wanted = snakemake.params.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "config key device: cuda asked for, but torch sees no GPU; set it to auto or cpu"
        )
    if wanted not in ("auto", "cuda"):
        return torch.device(wanted)
    if not (snakemake.resources.gpu and torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return torch.device("cuda", claim(names[:count] or list(map(str, range(count)))))


def claim(names: list[str], folder: str | None = None) -> int:
    """The index of a device that no other job of this machine holds; held until the process ends.

    Where all are held, as by a second workflow, or none can be, the devices are shared out by
    process id. A cluster shows a job its own device only, so there is nothing to choose. folder:
    where all users may write; the files that are locked lie in a folder of this user's in it.
    """
    try:
        own = private_folder(Path(folder or tempfile.gettempdir(), f"faultline-{os.getuid()}"))
        for device, name in enumerate(names):
            handle = open_in_place(own / f"gpu-{quote(name, safe='')}.lock")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.close()
                continue
            _HELD.append(handle)
            return device
    except OSError as error:
        print(
            f"warning: {printable(error.filename)}: {error.strerror}, so GPUs are shared out "
            "blindly; remove it"
        )
    return os.getpid() % len(names)


def free_memory(snakemake, device) -> float:
    """Bytes that a job may still take: on a GPU what is free, else what is left of its mem_mb."""
    import torch

    if device.type == "cuda":
        return 0.8 * torch.cuda.mem_get_info(device)[0]
    return max(0.8 * (snakemake.resources.mem_mb * 1e6 - _peak_memory()), 2e7)
