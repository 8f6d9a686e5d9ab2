"""Every script that computes with a network, once on the pretended second device: what it makes is
what it makes on the CPU, byte for byte."""

import ast
import os
import pickle
import re
import runpy
import traceback
from types import SimpleNamespace

import pretend
import pytest
from snakemake.iocontainers import Namedlist
from support import ROOT

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
    return copy.folder, jobs | others(jobs)


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
    return {
        "evaluate_robustness": of(craft, params={"attacks": {"apgd": apgd}}, output=robustness),
        "choose_images": of(layer, params={"sets": sets}, output={"chosen": "chosen.npz"}),
        "tune": of(
            train,
            params={"settings": train.params.settings, "tune": tune, "epochs": 1, "code": ""}
            | {"attack": {"apgd": apgd}},
            output={"chosen": "chosen.json", "candidates": "candidates.tsv"},
        ),
    }


def ran(script, job, folder, device) -> int:
    """The exit status of a script, in a copy of this process: 2 where it left the device alone."""
    if process := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        os.chdir(folder)
        job.params.device = device
        runpy.run_path(str(ROOT / f"workflow/{script}.py"), init_globals={"snakemake": job})
        code = 0 if device == "cpu" or pretend.operations() else 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_makes_the_same_on_the_device(run, script):
    folder, jobs = run
    job, log = jobs[script], folder / jobs[script].log[0]
    files = [folder / path for path in job.output]
    if not files[0].exists():
        assert ran(script, job, folder, "cpu") == 0, log.read_text("utf-8")
    expected = [file.read_bytes() for file in files]
    assert ran(script, job, folder, pretend.PRETEND) == 0, log.read_text("utf-8")
    for file, content in zip(files, expected, strict=True):
        assert file.read_bytes() == content, file
