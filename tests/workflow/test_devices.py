"""Every script that computes with a network, once on the pretended second device: what it makes is
what it makes on the CPU, byte for byte."""

import ast
import os
import pickle
import re
from types import SimpleNamespace

import pytest
import torch
from pretend import PRETEND
from scripts import Scripts
from snakemake.iocontainers import Namedlist
from support import ROOT

from faultline.base.files import save_tensors

pytestmark = pytest.mark.slow

SCRIPTS = [
    path.stem
    for path in sorted((ROOT / "workflow").glob("*.py"))
    if re.search(r"\b(opened|opened_base|torch_device)\(snakemake", path.read_text("utf-8"))
]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """A copy of the finished run, and of each script the job that Snakemake ran last."""
    copy = finished.duplicate(tmp_path_factory.mktemp("device") / "run")
    jobs = {}
    for script in sorted((copy.folder / ".snakemake/scripts").glob("*.py"), key=os.path.getmtime):
        text = script.read_text(encoding="utf-8")
        (told,) = re.findall(r"snakemake = pickle\.loads\((b.*?)\);from snakemake", text)
        jobs[script.name.split(".")[1]] = of(pickle.loads(ast.literal_eval(told)))
    foggy = torch.randint(256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    save_tensors({"3": foggy.to(torch.uint8)}, copy.folder / "foggy.pt")
    return copy.folder, jobs | others(jobs), Scripts()


def of(job, **changed):
    """A job as its script sees it, with nothing kept; changed: by name, parts of its own."""
    names = ("input", "output", "params", "wildcards", "threads", "resources", "log", "rule")
    parts = {name: getattr(job, name) for name in names}
    parts |= {name: Namedlist(fromdict=part) for name, part in changed.items()}
    return SimpleNamespace(**parts, config=job.config | {"keep": {"gb": 0}})


def others(jobs):
    """Jobs of scripts that the tiny run has no use for."""
    craft, layer, train = jobs["craft"], jobs["ablate_layer"], jobs["train"]
    apgd = craft.params.attack | {"method": "apgd"}
    tune = {"attack": "apgd", "grid": {"lr": [0.001, 0.01]}, "seeds": [0], "towards": None}
    robustness = {"accuracy": "accuracy.tsv", "checks": "checks.tsv", "correct": "correct.npz"}
    sets = layer.params.sets | {"images": 20}
    train.input.taken = []
    judged = of(
        craft,
        input={"data": craft.input.data, "checkpoint": craft.input.checkpoint, "one": "foggy.pt"},
        params={"names": ["fog"], "device": "cpu"},
        output={"correct": "stresses.npz"},
    )
    judged.input._set_name("stressed", 2, end=3)
    return {
        "judge_stresses": judged,
        "compress": of(
            craft,
            params={
                "layers": ["conv1", "fc"],
                "bits": [8, 2],
                "inputs": True,
                "scales": "channel",
                "device": "cpu",
            }
            | {"prune": [0.5], "loss": 0.02, "confidence": 0.95},
            output={name: f"{name}.out" for name in ("alone", "together", "precision")},
        ),
        "evaluate_robustness": of(craft, params={"attacks": {"apgd": apgd}}, output=robustness),
        "choose_images": of(layer, params={"sets": sets}, output={"chosen": "chosen.npz"}),
        "tune": of(
            train,
            params={"settings": train.params.settings, "tune": tune, "epochs": 1, "code": ""}
            | {"attack": {"apgd": apgd}},
            output={"chosen": "chosen.json", "candidates": "candidates.tsv"},
        ),
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_makes_the_same_on_the_device(run, script):
    folder, jobs, scripts = run
    job, log = jobs[script], folder / jobs[script].log[0]
    files = [folder / path for path in job.output]
    if not files[0].exists():
        assert scripts.run(script, job, folder, "cpu") == 0, log.read_text("utf-8")
    expected = [file.read_bytes() for file in files]
    assert scripts.run(script, job, folder, PRETEND) == 0, log.read_text("utf-8")
    for file, content in zip(files, expected, strict=True):
        assert file.read_bytes() == content, file
