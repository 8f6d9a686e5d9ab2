"""A few trials of each kind of the fault campaign; docs/reliability.md has its figures."""

import re
import shutil
import sys

import pytest
from support import ROOT, ran


@pytest.mark.slow
def test_a_few_faults_of_each_kind_do_no_harm(finished, tmp_path):
    (tmp_path / "run").mkdir()
    reference = finished.duplicate(tmp_path / "run/reference")
    shutil.rmtree(reference.folder / "results/.kept")
    reference.configure(reference.config() | {"keep": {"gb": 0}})
    command = [sys.executable, "tests/campaign.py", "--quick", "--folder", str(tmp_path / "run")]
    done = ran(command, ROOT)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "0 lost, wrong or in a traceback"
    for kind in ("kills, ", "mutated configs", "damaged files between stages"):
        assert re.search(rf"^[1-9]\d* {kind}", done.stdout, re.MULTILINE), done.stdout
