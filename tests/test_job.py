"""Which GPU a job takes: processes of one machine never share one while another is free."""

import subprocess
import sys

from conftest import ROOT

HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from faultline.job import claim
print(claim(int(sys.argv[2]), sys.argv[3]), flush=True)
sys.stdin.read()
"""


def hold(folder, count):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ROOT / "workflow"), str(count), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, int(process.stdout.readline())


def test_jobs_of_one_machine_take_different_devices(tmp_path):
    held = [hold(tmp_path, 3) for _ in range(3)]
    assert sorted(device for _, device in held) == [0, 1, 2]
    fourth, shared = hold(tmp_path, 3)
    assert shared in (0, 1, 2)
    held[1][0].kill()
    held[1][0].wait()
    again, device = hold(tmp_path, 3)
    assert device == held[1][1]
    for process in (held[0][0], held[2][0], fourth, again):
        process.communicate("")
        assert process.returncode == 0
