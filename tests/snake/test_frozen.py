"""What a job does where the code, or a file of the user's, is no longer what the run began with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.iocontainers import Namedlist, Snakemake
from support import copy_code

from faultline.run.job import job
from faultline.snake import frozen, records
from faultline.snake.states import WRITTEN, state

CONFIG = {
    "own_networks": {"mine": {"function": "mine.py:make"}},
    "attacks": {"fgsm": {"method": "fgsm"}},
    "ablations": {},
    "criteria": {"methods": []},
}
BEGIN = f"from faultline.snake import frozen; print(frozen.sources({CONFIG!r}))"

# A job that has the sources of its run in its environment.
JOB = """
import sys
from faultline.base.errors import UserError
from faultline.snake import frozen
from faultline.base import paths
try:
    frozen.hold()
    print("held", flush=True)
    sys.stdin.readline()
    from faultline.base import plugins
    from faultline.report import svg
    plugins.load("mine.py:make")
    print("imported", flush=True)
    sys.stdin.readline()
    plugins.check_loaded()
    from faultline.report import canvas
except UserError as error:
    print(error, flush=True)
"""


def python(folder: Path, program: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-B", "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "workflow")} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    copy_code(folder / "workflow")
    (folder / "mine.py").write_text("import beside\n\n\ndef make():\n    return 1\n")
    (folder / "beside.py").write_text("VALUE = 1\n")
    return folder


@pytest.fixture(scope="module")
def sources(clone) -> str:
    return python(clone, BEGIN).communicate()[0]


FIRST, LAST = "workflow/faultline/report/svg.py", "workflow/faultline/report/canvas.py"
BEFORE, UNUSED = "workflow/faultline/base/paths.py", "workflow/faultline/studies/report.py"


@pytest.mark.parametrize(
    ("file", "edited", "put_back", "refused"),
    [
        (FIRST, "begun", "", True),
        (FIRST, "held", "", True),
        (FIRST, "held", "imported", True),  # whoever looks later sees no difference
        (FIRST, "imported", "", False),
        (LAST, "held", "imported", False),
        (LAST, "imported", "", True),
        (BEFORE, "begun", "", True),
        (BEFORE, "held", "", False),
        (UNUSED, "begun", "", False),
        ("mine.py", "begun", "", True),
        ("beside.py", "held", "imported", True),
        ("beside.py", "imported", "", True),
    ],
)
def test_a_job_imports_no_code_but_what_its_run_began_with(
    clone, sources, file, edited, put_back, refused
):
    path = clone / file
    content = path.read_text()

    def reached(stage: str) -> None:
        if stage == edited:
            path.write_text(content + "\n_ = 1\n")
        if stage == put_back:
            path.write_text(content)

    try:
        reached("begun")
        process = python(clone, JOB, **{frozen.SOURCES: sources})
        said = []
        for line in process.stdout:
            said.append(line.strip())
            reached(said[-1])
            process.stdin.write("\n")
            process.stdin.flush()
        process.communicate()
    finally:
        path.write_text(content)
    named = file if "/" in file else "mine.py or a module beside it"
    line = f"{named}: changed since the run began; run again, and what comes from it is made anew"
    assert (said[-1] == line) == refused and refused == (said != ["held", "imported"])


def test_a_job_without_a_run_takes_what_there_is(clone):
    said, _ = python(clone, JOB, **{frozen.SOURCES: ""}).communicate("\n\n")
    assert said.split() == ["held", "imported"]


@pytest.fixture
def snakemake(tmp_path, monkeypatch) -> Snakemake:
    """A job that reads a file of the user's and one of another job."""
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    Path("mine.pt").write_bytes(b"mine")
    named = {
        "input_": Namedlist(fromdict={"weights": "mine.pt", "data": "results/data.pt"}),
        "output": Namedlist(fromdict={"table": "results/table.tsv"}),
        "params": Namedlist(fromdict={"code": "3f"}),
        "wildcards": Namedlist(),
        "log": Namedlist(fromdict={"log": "log"}),
    }
    described = Snakemake(
        **named,
        rulename="train",
        threads=1,
        resources=Namedlist(),
        config={"results": "results", "keep": {"gb": 0}} | CONFIG,
        bench_iteration=None,
    )
    Path("results/data.pt").write_bytes(b"data")
    Path(records.beside("results/data.pt")).write_text(
        json.dumps(
            {
                "file": "{results}/data.pt",
                "bytes": 4,
                "sha256": records.digest("results/data.pt"),
                "rule": "prepare_data",
                "params": {},
                "inputs": [],
            }
        )
    )
    return described


def replace(name: str) -> None:
    """Other bytes of the same length, and the time of before."""
    path, times = Path(name), Path(name).stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def link(name: str) -> None:
    """As where what a job made is kept."""
    Path("linked").hardlink_to(name)


@pytest.mark.parametrize(
    ("name", "change", "fails"),
    [
        ("mine.pt", replace, True),
        ("mine.pt", lambda name: Path(name).write_bytes(b"others"), True),
        ("results/data.pt", lambda name: Path(name).write_bytes(b"DATA"), True),
        ("results/data.pt", lambda name: Path(name).unlink(), True),
        ("results/data.pt", link, False),
    ],
)
def test_a_job_whose_input_changes_meanwhile_leaves_no_record(snakemake, name, change, fails):
    try:
        with job(snakemake):
            Path("results/table.tsv").write_text("made")
            change(name)
    except SystemExit as end:
        assert fails and end.code == 1
    said = Path("log").read_text()
    assert (f"error: {name}: changed while the job went on; run again\n" == said) == fails
    assert records.beside("results/table.tsv").exists() == (not fails)


def test_a_job_takes_no_file_of_the_users_that_was_written_to_since_the_run_began(
    snakemake, tmp_path, monkeypatch
):
    monkeypatch.setenv(frozen.RUN, str(tmp_path))
    states = {"mine.pt": state("mine.pt", WRITTEN)}
    (tmp_path / frozen.STATES).write_text(json.dumps(states))
    with job(snakemake):
        Path("results/table.tsv").write_text("made")
    Path("mine.pt").write_bytes(b"other weights")
    with pytest.raises(SystemExit), job(snakemake):
        raise AssertionError("the job goes on")
    assert Path("log").read_text().splitlines()[-1].startswith("error: mine.pt: changed since the")


def test_a_job_of_a_run_that_has_ended_does_nothing(snakemake, monkeypatch):
    monkeypatch.setenv(frozen.RUN, "results/.run/0f0f")
    with pytest.raises(SystemExit), job(snakemake):
        raise AssertionError("the job goes on")
    assert "gone, so the run that this job is of has ended" in Path("log").read_text()
