"""What CONTRIBUTING.md shows: each of its diffs fits, and what it adds works."""

import html
import json
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from support import ROOT, Copy, fenced

pytestmark = pytest.mark.slow

PLAIN = {
    "datasets": {"digits": {"train": 200, "validation": 200, "test": 60}},
    "networks": ["small_conv"],
    "trainings": {"standard": {"batch_size": 50, "epochs": [1]}},
    "seeds": [0],
    "attacks": {"pgd": {"method": "pgd", "steps": 2, "eps": 0.1}},
    "ablation": {"attacks": ["pgd"]},
}
CHECKPOINT = "results/digits/small_conv/standard/seed-0/epoch-1"


def blocks(heading: str) -> list[tuple[str, str]]:
    """(language, text) of every fenced block below a heading of CONTRIBUTING.md."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S)
    return fenced(section)


def follow(copy: Copy, heading: str) -> list[str]:
    """Do what a section shows: apply its diffs, run its commands; the files that it changed."""
    changed = []
    for language, text in blocks(heading):
        command = ["git", "apply", "-"] if language == "diff" else shlex.split(text)
        if language == "bash":
            assert command[0] == "python"
            command[0] = sys.executable
        done = subprocess.run(
            command,
            cwd=copy.folder,
            input=text if language == "diff" else "",
            env=copy.environment(PYTHONPATH=str(copy.folder / "workflow")),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        changed += re.findall(r"^\+\+\+ b/(\S+)$", text, flags=re.MULTILINE)
    for path in changed:
        there = (ROOT / path).read_bytes() if (ROOT / path).exists() else None
        assert (copy.folder / path).read_bytes() != there, path
    linted = ["check", "--config", ROOT / "pyproject.toml"]
    linted += [path for path in changed if path.endswith(".py")]
    subprocess.run([sys.executable, "-m", "ruff", *linted], cwd=copy.folder, check=True)
    return changed


def test_an_ablation(fresh):
    assert len(follow(fresh, "Add an ablation")) == 1
    perturbed = {"layers": ["fc"], "kinds": ["sign_flip"], "shares": [0, 0.5, 1], "repeats": 2}
    fresh.configure(PLAIN | {"perturbations": perturbed})
    curves = f"{CHECKPOINT}/perturbations/curves.tsv"
    fresh.run("--cores", "1", curves)
    table = pd.read_csv(fresh.folder / curves, sep="\t").query("images == 'clean'")
    weights = table[table["parameter"] == "weight"].set_index("strength")
    assert set(table["kind"]) == {"sign_flip"} and weights.index.tolist() == [0, 0.5, 1]
    assert weights.loc[0, "value"] == 1 > weights.loc[1, "value"]
    assert weights.loc[1, "std"] == 0  # every sign, in each draw
    assert "sign_flip" not in (ROOT / "workflow/schemas/config.schema.yaml").read_text("utf-8")


def test_an_attack(fresh):
    assert len(follow(fresh, "Add an attack")) == 1
    attacks = {"noise": {"method": "noise", "eps": 0.1}, **PLAIN["attacks"]}
    fresh.configure(PLAIN | {"attacks": attacks})
    found = {}
    for name in attacks:
        accuracy = f"{CHECKPOINT}/attacks/{name}/accuracy.tsv"
        fresh.run("--cores", "1", accuracy)
        found[name] = pd.read_csv(fresh.folder / accuracy, sep="\t").set_index("eps")["accuracy"]
    assert found["noise"][0.1] > found["pgd"][0.1]
    checks = pd.read_csv(fresh.folder / CHECKPOINT / "attacks/noise/checks.tsv", sep="\t")
    assert len(checks)


def test_a_criterion(fresh):
    assert len(follow(fresh, "Add a criterion")) == 1
    fresh.configure(PLAIN | {"criteria": {"methods": ["gradient_norm"]}})
    judged = f"{CHECKPOINT}/criteria/judged.tsv"
    fresh.run("--cores", "1", judged)
    table = pd.read_csv(fresh.folder / judged, sep="\t")
    assert set(table["criterion"]) == {"gradient_norm"} and set(table["passes"]) == {400}
    whole = table[table["filter"].isna()].set_index("layer")["score"]
    units = table.dropna(subset="filter").groupby("layer")["score"]
    assert list(whole.index) == ["conv1", "conv2", "conv3", "fc"] and (whole > 0).all()
    squares = units.agg(lambda scores: (scores**2).sum())
    assert squares.to_dict() == pytest.approx((whole**2).to_dict())


def test_a_network(fresh):
    assert len(follow(fresh, "Add a network")) == 2
    kept = "workflow/faultline/networks/networks.json"
    before, after = (
        json.loads((folder / kept).read_text("utf-8")) for folder in (ROOT, fresh.folder)
    )
    layers = [["fc1", "linear", 100], ["fc2", "linear", 100], ["fc3", "linear", "classes"]]
    made = after.pop("perceptron")
    assert made.pop("parameters") and made.pop("work")
    assert made == {"input": "image", "min_size": 1, "layers": layers}
    assert after == before
    fresh.configure(yaml.safe_dump(PLAIN | {"networks": ["perceptron"]}))
    jobs = [job for job in fresh.announced() if job["rule"] == "ablate_layer"]
    assert {job["wildcards"]["layer"] for job in jobs} == {"fc1", "fc2", "fc3"}
    fresh.run("--cores", "1", f"{CHECKPOINT.replace('small_conv', 'perceptron')}/checkpoint.pt")


def test_a_table_and_a_figure(rerun):
    assert len(follow(rerun, "Add a table and a figure")) == 3
    rules = {job["rule"] for job in rerun.announced()}
    assert rules == {"tabulate_accuracy", "tabulate_robustness", "report"}
    rerun.run("--cores", "1")
    tables = rerun.folder / "results/tables"
    left, accuracy = (pd.read_csv(tables / f"{n}.tsv", sep="\t") for n in ("left", "accuracy"))
    for row in left.to_dict("records"):
        same = [column for column in row if column != "left"]
        own = accuracy[(accuracy[same] == pd.Series(row)[same]).all(axis=1)].set_index("eps")
        assert row["left"] == own["accuracy"][own.index.max()] / own["accuracy"][0]
    assert len(left) == len(accuracy[accuracy["eps"] == 0])
    page = (rerun.folder / "results/report.html").read_text("utf-8")
    assert 'id="figure-left-0"' in page


def test_a_study(rerun):
    assert len(follow(rerun, "Add a study")) == 5
    assert {job["rule"] for job in rerun.announced()} == {"tabulate_depth", "report"}
    rerun.run("--cores", "1")
    table = pd.read_csv(rerun.folder / "results/tables/depth.tsv", sep="\t")
    assert set(table["score"]) == {"S_clean", "S_adv", "S_diff"} and set(table["layers"]) == {2}
    page = (rerun.folder / "results/report.html").read_text("utf-8")
    assert page.count('<section id="depth">') == 1
    assert "rank correlation of the layers' scores" in html.unescape(page)
