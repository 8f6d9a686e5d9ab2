"""The package as others see it: one version, and names that cost nothing until they are used."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from support import ROOT

import faultline
from faultline.base.fingerprint import PACKAGE

STUB = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")


def test_one_version():
    newest, *_ = re.findall(
        r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert faultline.__version__ == newest == citation


@pytest.mark.parametrize("name", faultline.__all__)
def test_the_stub_says_where_a_name_lives(name):
    assert STUB.count(f" import {name} as {name}\n") == 1
    value = getattr(faultline, name)
    assert f"from {value.__module__} import {name} as {name}\n" in STUB
    assert value.__doc__


def test_the_stub_holds_the_names_and_nothing_else():
    lines = [line for line in STUB.splitlines() if line]
    assert len(lines) == len(faultline.__all__) + 1 and lines[-1] == "__version__: str"
    with pytest.raises(AttributeError, match="no attribute 'sweeps'"):
        faultline.sweeps  # noqa: B018


def test_the_import_alone_costs_nothing():
    code = "import sys; import faultline; print(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-S", "-c", code]  # without site-packages
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert [n for n in said.stdout.split() if n.startswith("faultline")] == ["faultline"]


def test_hooks_need_nothing_but_the_pinned_tools():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert local["repo"] == "local" and {h["language"] for h in local["hooks"]} == {"system"}
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements-dev.txt").read_text("utf-8"), re.M)
    used = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert used - {"bash", "env"} <= {*pinned}
