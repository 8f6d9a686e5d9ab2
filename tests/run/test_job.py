"""What a job says when it is stopped, what it ends with, and which GPU it takes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from support import ROOT

from faultline.run.job import claim, job
from faultline.snake import stopping
from faultline.snake.launch import STOPPING

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


def test_a_lock_that_another_planted_is_neither_followed_nor_emptied(tmp_path, capsys):
    mine, folder = tmp_path / "mine", tmp_path / "shared"
    mine.write_text("mine", encoding="utf-8")
    own = folder / f"faultline-{os.getuid()}"
    own.mkdir(mode=0o700, parents=True)
    (own / "gpu-0.lock").symlink_to(mine)
    assert claim(["0"], folder) == 0
    assert mine.read_text(encoding="utf-8") == "mine"
    assert f"warning: {own}/gpu-0.lock: it is a link, so GPUs" in capsys.readouterr().out
    (own / "gpu-0.lock").unlink()
    own.rename(folder / "elsewhere")
    own.symlink_to(folder / "elsewhere")
    assert claim(["0", "1"], folder) in (0, 1)
    assert f"warning: {own}: it is no folder of this user's alone" in capsys.readouterr().out
    assert not [*(folder / "elsewhere").iterdir()]


def test_the_name_of_a_device_may_be_a_path(tmp_path, capsys):
    process, device = hold(tmp_path, "MIG-GPU-8f/1/0")
    assert (device, claim(["MIG-GPU-8f/1/0", "1"], tmp_path)) == (0, 1)
    process.communicate("")
    assert not capsys.readouterr().out


@pytest.fixture
def snakemake(tmp_path):
    before = {number: signal.getsignal(number) for number in STOPPING}
    output, log = [str(tmp_path / "made.npz")], [str(tmp_path / "log")]
    yield SimpleNamespace(
        output=output, log=log, input=[], config={"own_networks": {}, "results": "results"}
    )
    for number, handler in before.items():
        signal.signal(number, handler)


def said(snakemake) -> list[str]:
    return Path(snakemake.log[0]).read_text(encoding="utf-8").splitlines()


def allocate():
    raise torch.OutOfMemoryError("CUDA out of memory")


def full():
    raise OSError(errno.ENOSPC, "No space left on device", "results/made.npz")


def in_lines():
    raise RuntimeError("sizes differ:\n\t3 and 4\n")


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGINT), "error: stopped by SIGINT"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "error: stopped by SIGTERM"),
        (lambda: os.kill(os.getpid(), signal.SIGHUP), "error: stopped by SIGHUP"),
        (allocate, "config key trainings.*.batch_size"),
        (full, "error: results/made.npz: no space left; free some and run again"),
        (in_lines, "error: RuntimeError: sizes differ:"),
        (lambda: sys.exit("a\n\x1b[2J"), r"error: a\n\x1b[2J"),
    ],
    ids=["SIGINT", "SIGTERM", "SIGHUP", "memory", "disk", "lines", "codes"],
)
def test_a_job_that_is_stopped_says_why(snakemake, end, line):
    with pytest.raises(SystemExit), job(snakemake):
        end()
        time.sleep(10)
    assert line in said(snakemake)[-1]


def test_signals_that_are_ignored_stop_no_job(snakemake):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    with pytest.raises(SystemExit, match="1"), job(snakemake):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert "SIGTERM" in said(snakemake)[-1]


def test_what_a_killed_job_left_goes_when_it_runs_again(snakemake, tmp_path):
    left = [f".made.npz.{'0f' * 4}.writing", f".made.npz.partial.{'0f' * 4}.writing"]
    others = ["made.npz.partial", f".made.npz.other.{'0f' * 4}.writing"]
    for name in (*left, *others):
        (tmp_path / name).touch()
    with pytest.raises(SystemExit), job(snakemake):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "log"}


SNAKEMAKE = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from faultline.snake import stopping
stopping.be_watched()
os.environ[stopping.SNAKEMAKE] += sys.argv[3]
subprocess.Popen([sys.executable, "-c", *sys.argv[2:0:-1]], start_new_session=True)
sys.stdin.read()
"""
WATCHING = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from faultline.snake.stopping import end_with_snakemake
end_with_snakemake()
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("namespace", ["", "another"])
def test_a_job_ends_when_snakemake_is_killed(namespace):
    """Not in a container, from which Snakemake cannot be seen."""
    snakemake = subprocess.Popen(
        [sys.executable, "-c", SNAKEMAKE, str(ROOT / "workflow"), WATCHING, namespace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    begun = psutil.Process(int(snakemake.stdout.readline()))
    snakemake.kill()  # and nobody waits for it
    if namespace:
        with pytest.raises(psutil.TimeoutExpired):
            begun.wait(2 * stopping.EVERY)
        begun.kill()
    begun.wait()
    snakemake.communicate()


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_finds_no_room_can_still_be_closed(snakemake):
    Path(snakemake.log[0]).symlink_to("/dev/full")
    with pytest.raises(SystemExit), job(snakemake):
        raise OSError(errno.ENOSPC, "No space left on device", "results/made.npz")
