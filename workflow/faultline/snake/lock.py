"""One run at a time in a folder of results.

The lock is a file in it that the running Snakemake has open and locked: the system frees it when
that process ends, however it ends, so a living run keeps it and a killed one loses it. Systems
that share a folder need not tell one another of such locks, so the file also says whose it is. No
torch.
"""

import atexit
import contextlib
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from faultline.base.errors import UserError
from faultline.base.files import open_in_place

_HELD: list[TextIO] = []  # open files: closing one frees its folder


def take(folder) -> None:
    """Hold the folder until this process ends.

    Raises UserError where another run holds it, or one of another host may.
    """
    path, here = Path(folder, ".lock"), socket.gethostname()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, free = _opened(path)
        owner = json.loads(file.read() or "{}")
        if free is False:
            raise UserError(
                f"{folder}: in use by {_holder(owner)}; wait until it ends or stop it, or "
                "name another folder (config key results)"
            )
        if owner and (free is None or owner["host"] != here):
            raise UserError(
                f"{folder}: may be in use by {_holder(owner)}, which cannot be seen from here; if "
                f"that run has ended, remove {path} and run again"
            )
        file.seek(0)
        file.truncate()
        start = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        print(json.dumps({"host": here, "process": os.getpid(), "start": start}), file=file)
        file.flush()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); see to it") from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{path}: is no lock of a run; remove it and run again") from None
    _HELD.append(file)
    atexit.register(_release, path, file, os.getpid())


def _opened(path: Path):
    """The file in that place, and whether it is locked by this process now; None where the file
    system knows no locks."""
    while True:
        file = open_in_place(path)
        free: bool | None = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:
            free = None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                return file, free
        file.close()  # its owner removed it just now


def _holder(owner: dict) -> str:
    """Who holds a folder; one that has only just taken it has not said yet."""
    if not owner:
        return "another run"
    return f"process {owner['process']} on {owner['host']}, since {owner['start']}"


def _release(path: Path, file, process: int) -> None:
    if os.getpid() == process:  # no copy of it
        path.unlink(missing_ok=True)
        file.close()
