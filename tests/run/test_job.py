"""What a job says when it is stopped, and which GPU it takes."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from support import ROOT

from faultline.run.job import job

HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from faultline.run.job import claim
print(claim(sys.argv[2].split(","), sys.argv[3]), flush=True)
sys.stdin.read()
"""


def hold(folder, names):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ROOT / "workflow"), names, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, int(process.stdout.readline())


def test_jobs_of_one_machine_take_different_devices(tmp_path):
    held = [hold(tmp_path, "0,2,GPU-8f") for _ in range(3)]
    assert sorted(device for _, device in held) == [0, 1, 2]
    fourth, shared = hold(tmp_path, "0,2,GPU-8f")
    assert shared in (0, 1, 2)
    held[1][0].kill()
    held[1][0].wait()
    again, device = hold(tmp_path, "0,2,GPU-8f")
    assert device == held[1][1]
    for process in (held[0][0], held[2][0], fourth, again):
        process.communicate("")
        assert process.returncode == 0


@pytest.fixture
def snakemake(tmp_path):
    config = {"own_networks": {}, "results": "results"}
    yield SimpleNamespace(log=[tmp_path / "log"], config=config, input=[], output=[])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def allocate():
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "error: stopped by SIGTERM"),
        (allocate, "config key trainings.*.batch_size"),
    ],
)
def test_a_job_that_is_stopped_says_why(snakemake, end, line):
    with pytest.raises(SystemExit), job(snakemake):
        end()
        time.sleep(10)
    assert line in snakemake.log[0].read_text().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (["--config", "device=cuda"], 1),
        (["--config", "device=cuda", "--resources", "gpu=3"], 3),
        (["--config", "device=cpu"], None),
        (["--config", "device=cuda", "--profile", "slurm"], None),  # SLURM sees to it
    ],
)
def test_no_more_jobs_at_once_than_gpus(fresh, options, limit):
    probe = (
        'include: "Snakefile"\nsys.exit(f"limit: {workflow.global_resources.get(\'gpu\').value}")\n'
    )
    (fresh.folder / "probe.smk").write_text(probe, encoding="utf-8")
    said = fresh.snakemake("-n", "-s", "probe.smk", "--cores", "8", *options).stdout
    assert f"limit: {limit}\n" in said, said
