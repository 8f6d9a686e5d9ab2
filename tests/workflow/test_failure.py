"""A run whose jobs fail in part, and one that is stopped."""

import os
import shutil
import signal
import time

import psutil
import pytest
from support import copy_workflow

from faultline.base.files import load_arrays

CHECKPOINT = "results/digits/small_conv/standard/seed-0/epoch-2/checkpoint.pt"


@pytest.mark.slow
def test_it_reports_what_there_is_and_what_is_missing_and_why(rerun):
    checkpoint, page = (rerun.folder / path for path in (CHECKPOINT, "results/report.partial.html"))
    whole, made = checkpoint.read_bytes(), checkpoint.stat()
    config = rerun.config()
    config["ablation"]["split"] = "validation"  # as before, though no class chooses any more
    config["retraining"]["from_epochs"] = []
    del config["criteria"]
    rerun.configure(config)

    def put(content):
        """Behind Snakemake's back."""
        checkpoint.write_bytes(content)
        os.utime(checkpoint, ns=(made.st_atime_ns, made.st_mtime_ns))

    put(whole[:3000])
    before = (rerun.folder / "results/report.html").read_bytes()
    rerun.edit("config.yaml", "thresholds: 3", "thresholds: 4")
    done = rerun.snakemake("--cores", "2")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "3 of 24 jobs failed:" in done.stdout and "report: results/report.partial" in done.stdout
    said = page.read_text(encoding="utf-8")
    assert "This run failed in part" in said and f"{CHECKPOINT}: 3000 bytes" in said
    assert "1 ablate_global, 2 ablate_layer" in said and "1 score" in said
    assert "Missing:" not in said  # each study has something to show
    assert (rerun.folder / "results/report.html").read_bytes() == before

    # What was made of the old sweeps is still there; it must not pass for that of the new ones.
    put(whole)
    rerun.run("--cores", "2")
    assert not page.exists()
    (facts,) = (checkpoint.parent / "layers/conv1").glob("synaptic-filtering.npz")
    arrays = load_arrays(facts)
    assert (arrays["variant:filter"] == "pulse").sum() == 4
    assert (rerun.folder / "results/report.html").read_bytes() != before


FAILING = """
datasets:
  digits: {train: 100, validation: 200, test: 60}
networks: [small_conv]
trainings:
  standard: {batch_size: 50, epochs: [1]}
  other: {batch_size: 20, epochs: [1]}
seeds: [0]
attacks:
  fgsm: {method: fgsm, eps: 0.1}
  mine: {method: mine.py:attack, eps: 0.1}
synaptic_filtering: {layers: none, global: false}
nodal_dropout: {layers: none}
targeting: {layers: none}
retraining: {from_epochs: []}
"""


@pytest.mark.slow
def test_what_rests_on_a_table_that_is_there_in_part_is_made_of_that(tmp_path):
    copy = copy_workflow(tmp_path / "run", config=FAILING)
    (copy.folder / "mine.py").write_text("def attack(network, images, labels):\n    pass\n")
    done = copy.snakemake("--cores", "2")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    said = (copy.folder / "results/report.partial.html").read_text(encoding="utf-8")
    assert "mine.py: TypeError" in said and "Missing:" not in said
    assert 'id="trainings"' in said and "under fgsm" in said and "under mine" not in said
    assert "be it that their jobs failed" in said
    copy.edit("config.yaml", "  mine: {method: mine.py:attack, eps: 0.1}\n", "")
    copy.run("--cores", "2")
    said = (copy.folder / "results/report.html").read_text(encoding="utf-8")
    assert 'id="trainings"' in said and "their jobs failed" not in said


SLOW = """
import time

from torch import nn


class Slow(nn.Flatten):
    def forward(self, images):
        time.sleep(0.1)
        return super().forward(images)


def slow(shape, classes):
    return nn.Sequential(Slow(), nn.Linear(64, classes))
"""
LONG = """
datasets:
  digits: {train: 100, validation: 50, test: 60}
networks: ["slow.py:slow"]
trainings:
  standard: {batch_size: 50, epochs: [10000]}
seeds: [0, 1]
attacks:
  fgsm: {method: fgsm, eps: 0.1}
synaptic_filtering: {layers: none}
nodal_dropout: {layers: none}
targeting: {layers: none}
retraining: {from_epochs: []}
"""
SEEDS = [f"digits/slow/standard/seed-{seed}/epoch-10000" for seed in (0, 1)]


def until(holds):
    while not holds():
        time.sleep(0.02)


def over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def training(tmp_path):
    """Begins a run in which two trainings go on for long, mostly asleep, and waits until they have
    begun: the copy, Snakemake, all processes that it started, and the file with what it says."""
    begun = []

    def begin(**environment):
        copy, said = copy_workflow(tmp_path / "run", LONG), tmp_path / "said"
        (copy.folder / "slow.py").write_text(SLOW, encoding="utf-8")
        with said.open("w") as file:
            process = copy.start("--cores", "2", said=file, **environment)
        begun.append(process)
        partial = [copy.folder / f"results/{seed}/checkpoint.pt.partial" for seed in SEEDS]
        until(lambda: process.poll() is not None or all(map(os.path.exists, partial)))
        assert process.poll() is None, said.read_text(encoding="utf-8")
        return copy, process, psutil.Process(process.pid).children(recursive=True), said

    yield begin
    for process in begun:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name", "warm"),
    [
        (signal.SIGINT, "Ctrl-C", ""),
        (signal.SIGTERM, "SIGTERM", "off"),
        (signal.SIGHUP, "SIGHUP", ""),
    ],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_a_signal_ends_a_run_and_its_jobs_in_one_line(training, tmp_path, number, name, warm):
    """And before it comes, the folder of its results is for this run alone."""
    copy, process, jobs, said = training(FAULTLINE_WARM=warm)
    if number == signal.SIGINT:
        other = copy_workflow(tmp_path / "other", f"results: {copy.folder}/results\n{LONG}")
        shutil.copy(copy.folder / "slow.py", other.folder)
        copy.run("--unlock")
        for second in (copy, other):
            done = second.snakemake("--cores", "1")
            told = done.stdout.splitlines()[-1]
            assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
            assert told.startswith("error: ") and f"in use by process {process.pid} on " in told
        assert process.poll() is None
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    assert process.wait() == 1
    until(lambda: all(map(over, jobs)))
    *before, last = (text := said.read_text(encoding="utf-8")).splitlines()
    assert last.startswith(f"stopped by {name} after 1 of "), text
    assert any(line.startswith("[ 1/") and "prepare_data" in line for line in before)
    for seed in SEEDS:
        log = (copy.folder / f"results/logs/{seed}/train.log").read_text(encoding="utf-8")
        assert log.splitlines()[-1].startswith("error: stopped by SIGTERM; a training goes on")
    assert not (copy.folder / "results/.lock").exists()
    copy.run("-n")


@pytest.mark.slow
def test_the_jobs_of_a_killed_snakemake_end(training):
    """Those that start by themselves; of others see test_warm.py."""
    copy, process, jobs, _ = training(FAULTLINE_WARM="off")
    process.kill()
    until(lambda: all(map(over, jobs)))
    assert (copy.folder / "results/.lock").exists()
    copy.run("--unlock")
