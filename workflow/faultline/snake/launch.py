"""A job's script, run by a copy of the process of `snake.warm`: `launch.py ADDRESS LOG SCRIPT`.

This process is the job that Snakemake sees. It asks for a copy, waits for its end, and passes on
signals, output and exit status. It imports no more than that takes, as it starts for every job;
where nobody answers, it becomes the script.
"""

import functools
import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress

KILLED = 128 + signal.SIGKILL
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WHY_KILLED = (
    "killed, most likely for want of memory, if not by hand (kill -9, scancel); run fewer jobs at "
    "once (--cores) or, on a cluster, give the rule more (--set-resources RULE:mem_mb=N)"
)


def catch(handler) -> None:
    """Handle the signals that stop a job, but for those that are ignored, as under nohup."""
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def launch(address: str, log: str, script: str, *arguments: str) -> None:
    """Have a copy of the warm process run a script, and end with its exit status.

    log: gets a line where the copy is killed. Returns where there is no warm process or it does not
    answer.
    """
    script = os.path.realpath(script)
    mask = os.umask(0)
    os.umask(mask)
    request = {
        "python": [sys.executable, sys.version],
        "argv": [script, *arguments],
        "path": [os.path.dirname(script), *sys.path[1:]],
        "folder": os.getcwd(),
        "mask": mask,
        "environment": {**os.environ},
    }
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            text = json.dumps(request).encode()
            socket.send_fds(connection, [struct.pack("I", len(text))], [1, 2])
            connection.sendall(text)
            # Until the answer, a signal ends this process as it would anywhere, and so the copy.
            job = _received(connection)
        except OSError:
            return
        if job is None:
            return
        passed: list[int] = []
        catch(functools.partial(_pass_on, job, passed))
        code = _received(connection)
    if code is None:
        with suppress(OSError), open(log, "a", encoding="utf-8") as file:
            file.write(f"error: {'stopped' if passed else WHY_KILLED}\n")
    os._exit(KILLED if code is None else code)


def _pass_on(job: int, passed: list[int], number: int, _) -> None:
    passed.append(number)
    with suppress(ProcessLookupError):  # it has ended just now
        os.kill(job, number)


def _received(connection: socket.socket) -> int | None:
    """A number from the other side; None where it has ended."""
    with suppress(ConnectionError):
        answer = connection.recv(4, socket.MSG_WAITALL)
        return struct.unpack("i", answer)[0] if len(answer) == 4 else None
    return None


if __name__ == "__main__":
    launch(*sys.argv[1:])
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
