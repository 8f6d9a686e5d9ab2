"""The library as a package, and the workflow beside an installed one."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

NOTEBOOK = """
import torch
from faultline import Mask, Variant, layers, load_network, nodal_variants, sweep
from faultline.networks.facts import networks

network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
variants = list(nodal_variants("1", layers(network)["1"], filters=range(3), at="weights"))
pair = {"filter": -1, "changed_weights": 10}
variants.append(Variant(pair, key="pair", mask=Mask("1", (0, 1), "weights")))
facts = sweep(network.eval(), variants, {"clean": torch.rand(5, 4)}, torch.zeros(5), ablated=["1"])
print(facts.correct["clean"].shape, networks()["small_conv"]["layers"][0][0])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel and the folder that pip installed it to."""
    pytest.importorskip("setuptools", minversion="77", reason="the wheel is built with setuptools")
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("made")
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / part, source)
    shutil.copytree(ROOT / "workflow", source / "workflow")
    pip = [sys.executable, "-m", "pip"]
    offline = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", made, source],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("*.whl")
    subprocess.run([*pip, "install", *offline, "--target", made / "packages", wheel], check=True)
    return wheel, made / "packages"


def outside(packages, folder, *command) -> str:
    """What a command says in a folder that is no checkout, with the package installed."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_library_with_its_data_and_nothing_else(installed):
    wheel = zipfile.ZipFile(installed[0])
    (commands,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert b"faultline = faultline.command.__main__:main" in wheel.read(commands)
    held = {n for n in wheel.namelist() if ".dist-info/" not in n}
    library = ROOT / "workflow/faultline"
    files = {path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert held == {path.relative_to(library.parent).as_posix() for path in files}
    report = {f"faultline/report/{name}" for name in ("report.html.j2", "assets/page.js")}
    assert report | {"faultline/networks/networks.json"} < held


@pytest.mark.slow
def test_a_notebook_elsewhere(installed, tmp_path):
    assert outside(installed[1], tmp_path, "-c", NOTEBOOK) == "(4, 5) conv1\n"
    where = outside(installed[1], tmp_path, "-c", "import faultline; print(faultline.__file__)")
    assert where.startswith(str(installed[1]))


@pytest.mark.slow
def test_benchmarks_use_the_installed_library(installed, tmp_path):
    peak = ROOT / "benchmarks/sweep.py", "small_conv", "--peak", "engine"
    assert outside(installed[1], tmp_path, *peak).strip().isdigit()


def test_the_pins_lie_within_what_the_package_asks_for():
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M))
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["workflow"]]
    asked = {requirement.name: requirement for requirement in map(Requirement, asked)}
    assert set(asked) == set(pinned)
    for name, requirement in asked.items():
        assert requirement.specifier.contains(pinned[name]), requirement


def test_jobs_run_the_code_beside_the_snakefile(fresh, tmp_path):
    other = tmp_path / "packages/faultline"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('raise RuntimeError("another faultline")\n')
    data = "results/digits/data.pt"
    fresh.run("--cores", "1", data, PYTHONPATH=str(other.parent))
    assert (fresh.folder / data).exists()
