"""The script for a machine with a GPU, in its tiny form on the CPU."""

import os
import subprocess
import sys

import pytest
from support import ROOT

TINY = {"TINY": "1", "DEVICE": "cpu", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_what_is_measured_on_a_gpu(tmp_path):
    command, place = [ROOT / "benchmarks/gpu.sh"], os.environ | TINY | {"OUT": str(tmp_path)}
    done = subprocess.run([*command, "sweeps"], env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert told == done.stdout and "torch " in told.splitlines()[0]
    head, row = (line.split("|")[1:-1] for line in told.splitlines()[-3::2])
    cells = dict(zip(map(str.strip, head), map(str.strip, row), strict=True))
    assert (cells["network"], cells["device"], cells["same"]) == ("small_conv", "cpu", "100.00%")
    done = subprocess.run([*command, "other"], env=place, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "error: other: the parts are tests, sweeps and run\n"
