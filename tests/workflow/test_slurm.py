"""The workflow on a real SLURM, started here and stopped again: the same results as at home."""

import os
import re
import shutil
import signal
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from cluster import cluster, missing, run, wait
from support import TINY, Copy, copy_workflow, wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here"),
]

# A test has no hours to wait: SLURM is asked at once and often.
ON_SLURM = [
    *("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1"),
    *("--seconds-between-status-checks", "1"),
]
OFTEN = """
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 1, lambda *_: None)
"""
"""Added to the Snakefile: else each look that finds no job ended makes the next one 10 s later."""


@pytest.fixture(scope="module")
def jobs_start_as_on_a_cluster():
    """From a process of their own, on this machine as on any other; without this, from one that
    the tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Copy, "more_environment", dict)
        yield


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """The folder of a running SLURM."""
    with cluster(tmp_path_factory.mktemp("slurm") / "node") as folder:
        yield folder


def submitted() -> list[dict[str, str]]:
    """Every job that the cluster knows of, oldest first, as the fields of scontrol."""
    said = run("scontrol", "show", "jobs", "--oneliner").splitlines()
    jobs = [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in said]
    return sorted(jobs, key=lambda job: int(job.get("JobId", 0)))


def ask_often(copy: Copy) -> Copy:
    with (copy.folder / "Snakefile").open("a", encoding="utf-8") as snakefile:
        snakefile.write(OFTEN)
    return copy


# The tiny run


AT_ONCE = {
    **{"attack": (2, "2"), "ablate_layer": (2, "2"), "ablate_filters": (1, "2")},
    **{"perturb_layer": (1, "2"), "score": (1, "1"), "tabulate_own": (1, None)},
}
"""Rules -> how many jobs of each the cluster makes, and of which epoch, so that none needs another:
arrays and no arrays, with a GPU and without, with each way to ask for memory. Trainings see below.
That the other rules, too, give their scripts on a cluster what they give at home is held without
one, in test_rule_values.py."""


@pytest.fixture(scope="module")
def away(node, finished, tmp_path_factory) -> tuple[Copy, list[str]]:
    """The tiny run, of which the cluster made jobs of some rules anew, those of two rules with a
    GPU, and then the report; and what it made. The config was edited when it began."""
    copy = ask_often(finished.duplicate(tmp_path_factory.mktemp("away") / "run"))
    shutil.rmtree(copy.folder / "results/.kept")
    chosen = defaultdict(list)
    for job in finished.announced("--forceall"):
        most, epoch = AT_ONCE.get(job["rule"], (0, None))
        if job["wildcards"].get("epoch") == epoch and len(chosen[job["rule"]]) < most:
            chosen[job["rule"]].append(job["output"])
    made = [file for jobs in chosen.values() for outputs in jobs for file in outputs]
    for file in (*made, "results/report.html"):
        (copy.folder / file).unlink()
    on_gpus = ("--set-resources", "ablate_layer:gpu=1", "attack:gpu=1")
    run_edited(copy, *on_gpus, "--", *made)
    assert [job["rule"] for job in copy.announced()] == ["report"]
    copy.run(*ON_SLURM)
    return copy, made


def run_edited(copy: Copy, *arguments: str) -> None:
    """A run whose config is edited when it has begun, before its jobs start, and then put back."""
    process = copy.start(*ON_SLURM, *arguments)
    wait_for("results/.run/*/states.json", copy, process)
    before, after = "steps: 2, eps: 0.1", "steps: 2, eps: 0.3"
    copy.edit("config.yaml", before, after)
    assert process.wait() == 0
    copy.edit("config.yaml", after, before)


def test_rules_give_what_a_run_at_home_gives_though_the_config_is_edited(away, finished):
    copy, made = away
    assert any("/pgd/accuracy.tsv" in name for name in made) and len(made) > 15
    for name in made:
        assert (copy.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_jobs_of_a_sweep_are_arrays(away):
    sizes = Counter(job["ArrayJobId"] for job in submitted() if "ArrayTaskId" in job)
    assert sizes and all(size > 1 for size in sizes.values())


def test_jobs_at_the_same_time_have_different_gpus(away, node):
    held, most = set(), 0
    for line in (node / "jobs").read_text().splitlines():
        context, _, *devices = line.split()
        if context.startswith("prolog"):
            assert held.isdisjoint(devices)
            held.update(devices)
            most = max(most, len(held))
        else:
            held.difference_update(devices)
    assert most == 2


# Interruptions

WAITING = """
import time
from pathlib import Path

from torch import nn


class Waiting(nn.Sequential):
    batches = 0

    def forward(self, images):
        self.batches += self.training
        while self.batches > 20 and Path("wait").exists():
            time.sleep(0.1)
        return super().forward(images)


def make_network(shape, classes):
    return Waiting(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
"""
NAMES = ("whole", "disturbed", "orphaned", "stopped", "broken")


def checkpoint(training: str) -> str:
    return f"results/digits/make_network/{training}/seed-0/epoch-40/checkpoint.pt"


@pytest.fixture(scope="module")
def trainings(node, jobs_start_as_on_a_cluster, tmp_path_factory) -> Copy:
    """Trainings that differ in name only, of a network that waits in its sixth epoch for as long
    as there is a file `wait`. The whole one is trained at home."""
    copy = ask_often(copy_workflow(tmp_path_factory.mktemp("trainings") / "run"))
    (copy.folder / "my_networks.py").write_text(WAITING, encoding="utf-8")
    training = {"batch_size": 50, "epochs": [40]}
    config = yaml.safe_load(TINY)
    copy.configure(
        {
            "datasets": config["datasets"],
            "networks": ["my_networks.py:make_network"],
            "trainings": dict.fromkeys(NAMES, training),
            "attacks": {"fgsm": {"method": "fgsm", "eps": 0.1}},
            "retraining": {"from_epochs": []},
        }
    )
    copy.run("--cores", "1", checkpoint("whole"))
    return copy


@contextmanager
def running(copy: Copy, *trainings: str):
    """Snakemake, with each training at work on the cluster and waiting."""
    (copy.folder / "wait").touch()
    with (copy.folder / "said").open("wb") as said:
        process = copy.start(*ON_SLURM, *map(checkpoint, trainings), said=said)
    try:
        for name in trainings:
            partial = copy.folder / f"{checkpoint(name)}.partial"
            wait(lambda partial=partial: partial.exists() or process.poll() is not None)
        assert process.poll() is None, (copy.folder / "said").read_text()
        yield process
    finally:
        (copy.folder / "wait").unlink(missing_ok=True)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def job_of(training: str) -> dict[str, str]:
    return next(job for job in reversed(submitted()) if f"_{training}_" in job.get("Comment", ""))


def started_again(training: str) -> bool:
    """After a preemption; without the two minutes for which SLURM lets it wait."""
    job = job_of(training)
    if job["Restarts"] == "1" and job["JobState"] == "PENDING":
        run("scontrol", "update", f"JobId={job['JobId']}", "StartTime=now")
    return job["Restarts"] == "1" and job["JobState"] == "RUNNING"


def log_of(copy: Copy, training: str) -> Path:
    place = checkpoint(training).replace("results/", "results/logs/")
    return copy.folder / place.replace("checkpoint.pt", "train.log")


def resumed(copy: Copy, training: str) -> bool:
    log = log_of(copy, training)
    said = log.read_text() if log.exists() else ""
    return bool(re.search(r"^resuming after epoch [1-9]", said, flags=re.MULTILINE))


def check(copy: Copy, training: str) -> None:
    """It went on where it was, and came to the bits of the whole one."""
    assert resumed(copy, training)
    made = (copy.folder / checkpoint(training)).read_bytes()
    assert made == (copy.folder / checkpoint("whole")).read_bytes()


def test_preempted_out_of_time_and_cancelled_it_ends_in_the_same_bits(trainings):
    name = "disturbed"
    with running(trainings, name) as snakemake:
        run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
        wait(lambda: started_again(name))
        wait(lambda: resumed(trainings, name))
        for command, state in (
            ("scontrol update TimeLimit=1 JobId={}", "TIMEOUT"),
            ("scancel {}", "CANCELLED"),
        ):
            job = job_of(name)["JobId"]
            run(*command.format(job).split())
            wait(lambda job=job, state=state: state in run("scontrol", "show", "job", job))
            log_of(trainings, name).unlink()
            wait(lambda: resumed(trainings, name))
        (trainings.folder / "wait").unlink()
        assert snakemake.wait(300) == 0, (trainings.folder / "said").read_text()
    check(trainings, name)


def test_a_killed_snakemake_goes_on_where_it_was_and_gives_more_memory_where_it_is_too_little(
    trainings,
):
    with running(trainings, "orphaned") as snakemake:
        snakemake.kill()
        run("scancel", job_of("orphaned")["JobId"])
    trainings.run("--unlock")
    memory = ["--set-resources", "train:mem_mb=400*attempt"]
    said = trainings.run(*ON_SLURM, checkpoint("orphaned"), *memory)
    check(trainings, "orphaned")
    assert "killed, most likely for want of memory" in said
    _, *jobs = [job for job in submitted() if "_orphaned_" in job.get("Comment", "")]
    assert jobs[0]["JobState"] in ("OUT_OF_MEMORY", "FAILED")  # the job, or only its step
    assert jobs[-1]["JobState"] == "COMPLETED"
    assert [job["MinMemoryNode"] for job in jobs[:2]] == ["400M", "800M"]


def test_a_stopped_snakemake_cancels_its_jobs(trainings):
    with running(trainings, "stopped") as snakemake:
        snakemake.terminate()
        assert snakemake.wait(300) == 1
        wait(lambda: job_of("stopped")["JobState"] == "CANCELLED")
    last = (trainings.folder / "said").read_text().splitlines()[-1]
    assert last.startswith("stopped by SIGTERM after 0 of 1 jobs")


def test_the_log_of_a_job_that_fails_is_shown(trainings):
    (trainings.folder / "results/digits/data.pt").write_bytes(b"truncated")
    failed = trainings.snakemake(*ON_SLURM, "--retries", "0", checkpoint("broken"))
    assert failed.returncode
    assert "results/digits/data.pt: 9 bytes, but rule prepare_data wrote" in failed.stdout
    assert "make_network/broken/seed-0/epoch-40/train.log" in failed.stdout
