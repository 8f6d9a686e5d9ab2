"""Every script that computes with a network, once on the pretended second device: what it makes is
what it made on the CPU, byte for byte."""

import ast
import os
import pickle
import re
import runpy
import traceback
from types import SimpleNamespace

import pretend
import pytest
from support import ROOT

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
        jobs[script.name.split(".")[1]] = pickle.loads(ast.literal_eval(told))
    return finished, copy, jobs


def run_on_it(script, told, folder) -> int:
    """The exit status of a script, in a copy of this process: 2 where it left the device alone."""
    if process := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        os.chdir(folder)
        params = told.params
        params.device = pretend.PRETEND
        changed = {"params": params, "config": told.config | {"keep": {"gb": 0}}}
        job = SimpleNamespace(**vars(told) | changed)
        runpy.run_path(str(ROOT / f"workflow/{script}.py"), init_globals={"snakemake": job})
        code = 0 if pretend.operations() else 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_makes_the_same_on_the_device(run, script):
    finished, copy, jobs = run
    told = jobs[script]
    assert run_on_it(script, told, copy.folder) == 0, (copy.folder / told.log[0]).read_text("utf-8")
    for path in told.output:
        assert (copy.folder / path).read_bytes() == (finished.folder / path).read_bytes(), path
