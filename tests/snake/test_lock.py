"""One run at a time in a folder: who keeps it, and who loses it."""

import json
import os
import socket
import subprocess
import sys

import pytest
from support import ROOT, error_of

from faultline.snake import lock

TAKE = """
import sys
sys.path.insert(0, sys.argv[1])
from faultline.base.errors import UserError
from faultline.snake import lock
sys.stdin.readline()
try:
    lock.take(sys.argv[2])
except UserError as error:
    print(error, flush=True)
else:
    print("taken", flush=True)
    sys.stdin.read()
"""


def rival(folder):
    """A process that takes a folder, once it is told to, until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(ROOT / "workflow"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process) -> str:
    return process.stdout.readline().strip()


def taking(folder):
    process = rival(folder)
    process.stdin.write("now\n")
    process.stdin.flush()
    return process, answer(process)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def test_a_living_run_keeps_it_and_leaves_nothing(results):
    one, said = taking(results)
    assert said == "taken"
    other, said = taking(results)
    owner = json.loads((results / ".lock").read_text(encoding="utf-8"))
    assert owner["process"] == one.pid and owner["host"] == socket.gethostname()
    assert f"{results}: in use by process {one.pid} on {owner['host']}, since 20" in said
    assert "config key results" in said
    other.communicate()
    one.communicate()
    assert not [*results.iterdir()]
    again, said = taking(results)
    assert said == "taken"
    again.communicate()


def test_a_killed_run_loses_it_to_one_of_many(results):
    killed, _ = taking(results)
    killed.kill()
    killed.communicate()
    assert (results / ".lock").exists()
    rivals = [rival(results) for _ in range(6)]
    for process in rivals:
        process.stdin.write("now\n")
        process.stdin.flush()
    said = [answer(process) for process in rivals]
    assert said.count("taken") == 1 and sum("in use by" in line for line in said) == 5
    for process in rivals:
        process.communicate()


@pytest.mark.parametrize("planted", ["link", "pipe", "nested"])
def test_what_was_planted_in_its_place_is_left_alone(results, planted):
    results.mkdir()
    path, other = results / ".lock", results / "other"
    other.touch()
    if planted == "link":
        path.symlink_to(other)
    elif planted == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("[" * 100_000, encoding="utf-8")
    assert f"{path}: " in error_of(lock.take, results)
    assert not other.read_bytes()


def test_a_run_of_another_host_may_live(results):
    results.mkdir()
    owner = {"host": "elsewhere", "process": 17, "start": "2026-01-02 03:04 UTC"}
    (results / ".lock").write_text(json.dumps(owner), encoding="utf-8")
    said = error_of(lock.take, results)
    assert "process 17 on elsewhere, since 2026-01-02 03:04 UTC" in said
    assert f"remove {results}/.lock" in said


@pytest.mark.parametrize("text", ["no lock", "[1]", '{"host": "here"}'])
def test_another_file_in_its_place_is_refused(results, text):
    results.mkdir()
    (results / ".lock").write_text(text, encoding="utf-8")
    assert "remove it" in error_of(lock.take, results)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "results").touch()
    assert str(tmp_path / "results") in error_of(lock.take, tmp_path / "results")
