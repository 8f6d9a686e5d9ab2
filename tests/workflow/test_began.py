"""A run is what it was when it began, whatever is edited meanwhile."""

import shutil
from pathlib import Path

import pytest
import yaml
from support import LAST_EPOCH, Copy, eps_edited_meanwhile, wait_for

from faultline.base.files import load_table
from faultline.snake.records import earlier

CLUSTER = [
    *("--executor", "cluster-generic", "--cluster-generic-submit-cmd", "bash"),
    *("--jobs", "1", "--cores", "1", "--seconds-between-status-checks", "1"),
]


@pytest.mark.slow
def test_a_config_that_is_edited_is_the_next_runs(rerun):
    """Jobs of a cluster start Snakemake anew, so each would read the config of its own moment."""
    assert eps_edited_meanwhile(rerun, *CLUSTER, "--config", "seeds=[0]") == {0, 0.1}
    assert not (rerun.folder / "results/.run").exists()
    again = rerun.announced(f"{LAST_EPOCH}/attacks/pgd/accuracy.tsv")
    assert {job["rule"] for job in again} == {"attack"}


SCORES = "workflow/faultline/studies/synaptic/scores.py"


@pytest.fixture
def unscored(rerun) -> Copy:
    """The tiny run without scores of its last checkpoint and what they are made of."""
    shutil.rmtree(rerun.folder / "results/.kept")
    for file in (rerun.folder / LAST_EPOCH).glob("layers/*/synaptic-filtering.npz"):
        file.unlink()
    shutil.rmtree(rerun.folder / LAST_EPOCH / "scores")
    return rerun


@pytest.mark.slow
def test_code_that_is_edited_and_put_back_leaves_no_result(unscored):
    source, scores = unscored.folder / SCORES, f"{LAST_EPOCH}/scores/layers.tsv"
    before = source.read_text()
    with (unscored.folder / "said").open("w") as said:
        process = unscored.start("--cores", "1", "--nolock", scores, said=said)
        wait_for("results/.run/*/states.json", unscored, process)
        unscored.edit(SCORES, "def integrate(", "_ = 1\n\n\ndef integrate(")
        assert process.wait() == 1
    source.write_text(before)
    said = (unscored.folder / "said").read_text()
    line = f"{SCORES}: changed since the run began; run again, and what comes from it is made anew"
    assert f"error: {line}\n" in said and "Traceback" not in said
    assert not (unscored.folder / scores).exists()
    assert {job["rule"] for job in unscored.announced(scores)} == {"score"}


def records(copy: Copy) -> set[str]:
    results = copy.folder / "results"
    return {
        str(path.with_name(path.name[1:].removesuffix(".made")).relative_to(results))
        for path in results.rglob(".*.made")
    }


def listed(copy: Copy) -> dict[str, str]:
    return dict(load_table(copy.folder / "results/files.tsv").itertuples(index=False))


def test_a_list_names_the_files_of_a_run(finished):
    rules = listed(finished)
    assert rules.keys() == records(finished)
    assert rules[f"{LAST_EPOCH.removeprefix('results/')}/checkpoint.pt"] == "train"
    assert earlier(finished.folder / "results") == []


@pytest.mark.slow
def test_what_the_config_no_longer_asks_for_is_named(rerun):
    rerun.configure({**rerun.config(), "perturbations": {"layers": "none"}})
    of_another_run = rerun.folder / "results/mine/digits/.data.pt.made"
    of_another_run.parent.mkdir(parents=True)
    shutil.copy(rerun.folder / "results/digits/.data.pt.made", of_another_run)
    of_another_run.with_name("data.pt").touch()
    said = rerun.run("--cores", "2")
    earlier = records(rerun) - listed(rerun).keys() - {"mine/digits/data.pt"}
    assert f"{LAST_EPOCH.removeprefix('results/')}/layers/fc/perturbations.npz" in earlier
    assert f"{len(earlier)} files in the results are of earlier runs, not of this one" in said
    named = rerun.faultline("kept", "--earlier").stdout.splitlines()
    assert {str(Path(name).relative_to("results")) for name in named} == earlier
    assert f"{len(earlier)} files" in rerun.faultline("kept").stdout


@pytest.mark.slow
def test_weights_that_another_run_made(rerun):
    weights = f"{LAST_EPOCH}/checkpoint.pt"
    (rerun.folder / "results").rename(rerun.folder / "other")
    (rerun.folder / "results").mkdir()
    (rerun.folder / "other").rename(rerun.folder / "results/other")
    weights = weights.replace("results/", "results/other/")
    config = rerun.config() | {
        "trainings": {"given": {"weights": {"small_conv": weights}, "epochs": [0]}},
        "retraining": {"from_epochs": []},
    }
    for key in ("perturbations", "remedy", "mending", "sustainability", "criteria", "ablations"):
        config.pop(key)
    rerun.configure(yaml.safe_dump(config))
    goal = "results/digits/small_conv/given/seed-0/epoch-0/attacks/fgsm/accuracy.tsv"
    rerun.run("--cores", "1", goal)
    there = weights.replace("checkpoint.pt", "attacks/fgsm/accuracy.tsv")
    assert (rerun.folder / goal).read_bytes() == (rerun.folder / there).read_bytes()

    config["trainings"]["given"]["weights"]["small_conv"] = goal.replace(
        "given/seed-0/epoch-0/attacks/fgsm/accuracy.tsv", "standard/seed-0/epoch-2/checkpoint.pt"
    )
    own = rerun.folder / config["trainings"]["given"]["weights"]["small_conv"]
    own.parent.mkdir(parents=True)
    shutil.copy(rerun.folder / weights, own)
    rerun.configure(yaml.safe_dump(config))
    said = rerun.snakemake("-n").stdout
    assert "lies where this run would write a checkpoint of its own; name another folder" in said
