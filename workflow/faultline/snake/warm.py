"""A process that has imported torch and its like, from which jobs start without a wait.

These imports cost every job seconds. On one machine, Snakemake starts one process that makes them
(`start`); a job then asks it for a copy of itself that runs the job's script (`snake.launch`). What
is imported beforehand is never code of ours or of the user's, so what runs is what lies on the
disk. Where there is no such process, jobs run as ever. This file is also the script of that
process, and imports nothing but the standard library.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

ADDRESS = "FAULTLINE_WARM"
"""The environment variable that tells where to ask; with "off", nothing is started."""
LAUNCH = Path(__file__).with_name("launch.py")
"""What asks there."""

MODULES = (
    *("snakemake.script", "numpy", "pandas", "scipy.stats", "scipy.integrate", "torch", "torch.fx"),
    # torch itself imports these on the first gradient, and for the first optimiser
    *("torch.fx.experimental.symbolic_shapes", "torch._dynamo"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2", "yaml", "psutil"),
)


def start() -> tuple[subprocess.Popen, int] | None:
    """Start the process, for Snakemake itself: it ends when Snakemake does, however that ends.

    Returns it and the end of a pipe, as long as which is open it lives; None where none is started.
    """
    if os.environ.get(ADDRESS) or sys.platform != "linux":
        return None
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            address = f"{tempfile.mkdtemp(prefix='faultline-')}/jobs"
            listener.bind(address)
        except OSError:  # no folder for it, or one of too long a name: jobs start as ever
            return None
        alive, ours = os.pipe()
        listener.listen(socket.SOMAXCONN)  # jobs that come while it still imports wait here
        descriptors = listener.fileno(), alive
        process = subprocess.Popen(
            [sys.executable, __file__, address, *map(str, descriptors)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    os.close(alive)
    os.environ[ADDRESS] = address
    return process, ours


def serve(address: str, listener: socket.socket, alive: int) -> None:
    """Answer jobs until the other end of the pipe `alive` is closed, then end them all."""
    here = Path(__file__).resolve().parent  # modules of ours lie there, whose names are common
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    for name in MODULES:
        if select.select([alive], [], [], 0)[0]:
            break
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while alive not in select.select([listener.fileno(), alive], [], [])[0]:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            os.close(alive)
            _run(connection)
        connection.close()
    shutil.rmtree(Path(address).parent, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _run(connection: socket.socket) -> None:
    """The job's script, in a copy of the process; never returns."""
    try:
        _take_over(connection)
        connection.sendall(struct.pack("i", os.getpid()))
    except Exception:  # unanswered, the job runs by itself
        os._exit(1)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    code = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        # Where that process was killed, Snakemake may have removed the script before it was read.
        if not select.select([connection], [], [], 0)[0]:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        connection.sendall(struct.pack("i", code))
    os._exit(code)


def _take_over(connection: socket.socket) -> None:
    """Make this process what the one that asks is: its folder, environment, output and so on."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, outputs, *_ = socket.recv_fds(connection, 4, 2)
    (length,) = struct.unpack("I", size)
    request = json.loads(connection.recv(length, socket.MSG_WAITALL))
    if request["python"] != [sys.executable, sys.version]:
        raise RuntimeError("another Python")
    os.chdir(request["folder"])
    os.umask(request["mask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:], sys.path[:] = request["argv"], request["path"]
    sys.modules["numpy"].random.seed()  # else jobs that seed nothing would all draw alike
    sys.modules["torch"].default_generator.seed()
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)


def _end_with(connection: socket.socket) -> None:
    """End this process at once when the one that waits for it has ended."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
