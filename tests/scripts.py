"""Scripts of jobs on the pretended device, each in a copy of one process that has imported torch.

That process is none of the tests: where a backward pass has run, torch has threads, which a copy
lacks. This file is also the script of that process.
"""

import base64
import os
import pickle
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Scripts:
    """That process, as long as this one lives."""

    def __init__(self):
        places = os.pathsep.join([str(ROOT / "workflow"), str(ROOT / "tests")])
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"PYTHONPATH": places},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, job, folder: Path, device: str) -> int:
        """The exit status of a script; 2 where it left the device alone."""
        asked = base64.b64encode(pickle.dumps((script, job, str(folder), device))).decode()
        print(asked, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


def serve() -> None:
    import pretend

    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        if process := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            print(code, file=answers, flush=True)
            continue
        code = 1
        try:
            script, job, folder, device = pickle.loads(base64.b64decode(line))
            os.chdir(folder)
            job.params.device = device
            runpy.run_path(str(ROOT / f"workflow/{script}.py"), init_globals={"snakemake": job})
            code = 0 if device == "cpu" or pretend.operations() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


if __name__ == "__main__":
    serve()
