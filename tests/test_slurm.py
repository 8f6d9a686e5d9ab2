"""The workflow on a real SLURM, started here and stopped again: the same results as at home."""

import shutil

import pytest
import yaml
from cluster import Cluster, missing
from conftest import ROOT, Copy, copy_workflow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here"),
]

# A test has no hours to wait: SLURM is asked at once and often.
SOON = ["--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"]

SMALL = """
datasets:
  digits: {train: 200, validation: 50, test: 60}
networks: [small_conv]
trainings:
  standard: {batch_size: 50, epochs: [1]}
seeds: [0]
attacks:
  pgd: {method: pgd, steps: 2, eps: 0.1}
synaptic_filtering: {layers: [conv1, conv2, fc], thresholds: 3}
targeting: {layers: none}
retraining: {from_epochs: []}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster") / "slurm") as started:
        yield started


def on_cluster(folder, config: str) -> Copy:
    copy = copy_workflow(folder, config)
    shutil.copytree(ROOT / "slurm", copy.folder / "slurm")
    return copy


def submitted(cluster: Cluster) -> list[dict]:
    """Every job that the cluster knows of, as the fields of scontrol."""
    said = cluster.run("scontrol", "show", "jobs", "--oneliner").splitlines()
    return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in said]


def test_a_run_on_the_cluster_gives_the_tables_of_a_run_at_home(cluster, tmp_path):
    home = copy_workflow(tmp_path / "home", SMALL)
    home.run("--cores", "2")
    away = on_cluster(tmp_path / "away", SMALL)
    away.run("--profile", "slurm", *SOON, PATH=cluster.environment["PATH"])
    tables = sorted(path.name for path in (home.folder / "results/tables").iterdir())
    assert "layers.tsv" in tables
    for name in tables:
        made = (away.folder / "results/tables" / name).read_bytes()
        assert made == (home.folder / "results/tables" / name).read_bytes(), name
    jobs = submitted(cluster)
    assert all(job["JobState"] == "COMPLETED" for job in jobs)
    assert sum("ArrayJobId" in job for job in jobs) >= 3  # the layers are one array


def test_jobs_that_ask_for_a_gpu_never_share_one(cluster, tmp_path):
    before = {job["JobId"] for job in submitted(cluster)}
    config = yaml.safe_load(SMALL) | {"seeds": [0, 1, 2, 3]}
    away = on_cluster(tmp_path / "away", yaml.safe_dump(config))
    wanted = [
        f"results/digits/small_conv/standard/seed-{s}/epoch-1/checkpoint.pt" for s in range(4)
    ]
    gpu = ["--set-resources", "train:gpu=1"]
    away.run("--profile", "slurm", *SOON, *gpu, *wanted, PATH=cluster.environment["PATH"])
    jobs = [job for job in submitted(cluster) if job["JobId"] not in before]
    training = [
        job for job in jobs if "gres/gpu" in job.get("TresPerNode", "") + job.get("TRES", "")
    ]
    assert len(training) == 4
    spans = sorted((job["StartTime"], job["EndTime"]) for job in training)
    for start, _ in spans:  # of two GPUs, never a third job at once
        assert sum(begin <= start < end for begin, end in spans) <= 2


def test_the_log_of_a_job_that_fails_is_shown(cluster, tmp_path):
    away = on_cluster(tmp_path / "away", SMALL)
    away.run(
        "--profile", "slurm", *SOON, "results/digits/data.pt", PATH=cluster.environment["PATH"]
    )
    (away.folder / "results/digits/data.pt").write_bytes(b"truncated")
    checkpoint = "results/digits/small_conv/standard/seed-0/epoch-1/checkpoint.pt"
    failed = away.snakemake(
        "--profile",
        "slurm",
        *SOON,
        *("--retries", "0", checkpoint),
        PATH=cluster.environment["PATH"],
    )
    assert failed.returncode
    assert "results/digits/data.pt: cannot be read, expected a prepared data set" in failed.stdout
