"""What results were made from: told beside them, held against what is there."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import Namedlist
from support import ROOT, Copy, error_of

from faultline.snake import records

TABLE = b"layer\tscore\nconv1\t0.5\nfc\t0.25\n"
OTHER = b"layer\tscore\nconv1\t0.125\n"


def job(output: str, *inputs: str, **params):
    """What the script of a job gets."""
    named = Namedlist(fromdict=params)
    config = {"results": "results/"}
    return SimpleNamespace(rule="score", input=inputs, output=[output], params=named, config=config)


def checked(*paths: str) -> list:
    return records.checked(paths, results="results")


def write(output: str, content: bytes, *inputs: str, **params) -> None:
    """The work of a job, recorded."""
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_bytes(content)
    records.write(job(output, *inputs, **params), checked(*inputs))


@pytest.fixture
def table(tmp_path, monkeypatch) -> str:
    """A table that a job wrote, from a file of the user's."""
    monkeypatch.chdir(tmp_path)
    Path("given.npz").write_bytes(b"given")
    write("results/scores/layers.tsv", TABLE, "given.npz", tau={"S_adv": 0.1}, code="3f")
    return "results/scores/layers.tsv"


def test_a_record_tells_settings_code_inputs_and_the_file(table):
    told = json.loads(Path("results/scores/.layers.tsv.made").read_text(encoding="utf-8"))
    assert told == {
        "file": "{results}/scores/layers.tsv",
        "bytes": len(TABLE),
        "sha256": hashlib.sha256(TABLE).hexdigest(),
        "rule": "score",
        "params": {"tau": "{'S_adv': 0.1}", "code": "'3f'"},
        "inputs": [["given.npz", hashlib.sha256(b"given").hexdigest()]],
    }
    digest = hashlib.sha256(TABLE).hexdigest()
    assert checked(table) == [["{results}/scores/layers.tsv", digest]]


def flipped(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[: content.index(b"fc")], "bytes, but rule score wrote 30"),
        (lambda content: content[: content.index(b"conv1")], "12 bytes, but rule score"),
        (lambda content: b"", "0 bytes, but rule score wrote 30"),
        (lambda content: OTHER, "bytes, but rule score wrote 30"),
        (lambda content: content.replace(b"score", b"class"), "not the bytes that rule score"),
        (flipped, "not the bytes that rule score wrote"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(table, damage, said):
    path = Path(table)
    path.write_bytes(damage(path.read_bytes()))
    line = error_of(checked, "given.npz", table)
    assert line.startswith(f"{table}: ") and said in line
    assert line.endswith("; delete it and run again")


def test_files_exchanged_with_their_records_are_refused(table):
    write("results/scores/bands.tsv", OTHER)
    for name in ("{}", ".{}.made"):
        one, other = (Path("results/scores", name.format(f)) for f in ("layers.tsv", "bands.tsv"))
        one.rename("aside")
        other.rename(one)
        Path("aside").rename(other)
    assert error_of(checked, table) == (
        f"{table}: this is results/scores/bands.tsv, moved or copied; run again to make it anew; "
        "if it is a file of yours, name a whole copy, or remove "
        "results/scores/.layers.tsv.made to take it as it is"
    )


@pytest.mark.parametrize("folder", ["results/other", "others", "../others"])
def test_what_another_run_made_is_taken_from_its_place(table, folder):
    """As for weights; nobody is told to delete what the user named."""
    shutil.copytree("results/scores", f"{folder}/scores")
    path = f"{folder}/scores/layers.tsv"
    assert checked(path) == [[path.replace("results/", "{results}/"), records.digest(path)]]
    Path(path).write_bytes(flipped(TABLE))
    assert error_of(checked, path) == (
        f"{path}: not the bytes that rule score wrote; name a whole copy, or remove "
        f"{records.beside(path)} to take it as it is"
    )
    records.beside(path).write_text("{")
    assert "is damaged" in error_of(checked, path)
    records.forget([path])
    assert checked(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null", b'{"file": 1}', b"[" * 10**5]
)
def test_a_damaged_record_is_told(table, content):
    records.beside(table).write_bytes(content)
    assert "its record, results/scores/.layers.tsv.made, is damaged" in error_of(checked, table)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", 1),
        ("bytes", "30"),
        ("sha256", None),
        ("rule", []),
        ("params", {"tau": 0.1}),
        ("inputs", [["given.npz"]]),
        ("inputs", {"given.npz": "3f"}),
        ("more", 1),
    ],
)
def test_so_is_one_with_values_of_other_kinds(table, key, value):
    content = json.loads(records.beside(table).read_text(encoding="utf-8"))
    records.beside(table).write_text(json.dumps(content | {key: value}), encoding="utf-8")
    assert "its record, results/scores/.layers.tsv.made, is damaged" in error_of(checked, table)


def test_a_folder_in_the_place_of_a_record_is_told(table):
    records.beside(table).unlink()
    records.beside(table).mkdir()
    assert error_of(records.forget, [table]).startswith(f"{records.beside(table)}: a folder")


def test_files_without_a_record_are_taken_as_they_are(table):
    records.forget([table, "nowhere"])
    Path(table).write_bytes(OTHER)
    assert checked(table)[0][1] == hashlib.sha256(OTHER).hexdigest()
    Path("images/cat").mkdir(parents=True)
    before = checked("images/cat")
    Path("images/cat/1.png").touch()
    assert checked("images/cat") != before
    assert error_of(checked, "given.pt") == "given.pt: no such file; run the workflow again"


# A workflow of two jobs, which takes a second: the second one reads what the first one wrote.
SNAKEFILE = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(ROOT / "workflow")!r})
from faultline.snake import console, records
from faultline.snake.internals import Workflow

config.setdefault("results", "results")
config |= {{"own_networks": {{}}, "keep": {{"gb": 0}}}}
RESULTS = config["results"]
records.carry(RESULTS, digests=Path(RESULTS, ".kept"))


onstart:
    print(*console.reasons(Workflow(workflow)), sep="\\n")
    if workflow.touch:
        records.forget(file for job in workflow.dag.needrun_jobs() for file in job.output)


rule all:
    input:
        f"{{RESULTS}}/first.txt",
        f"{{RESULTS}}/second.txt",


rule first:
    output:
        f"{{RESULTS}}/first.txt",
    log:
        f"{{RESULTS}}/logs/first.log",
    params:
        value=config.get("first", 1),
        settings=lambda wildcards: {{"b": [1, None], "a": "{{text}}"}},
    script:
        "write.py"


rule second:
    input:
        f"{{RESULTS}}/first.txt",
        given=["given.txt", "given.txt"],
    output:
        f"{{RESULTS}}/second.txt",
        third=f"{{RESULTS}}/third.txt",
    log:
        f"{{RESULTS}}/logs/second.log",
    params:
        value=config.get("second", 1),
    script:
        "write.py"
"""
SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from faultline.run.job import job

with job(snakemake):
    from pathlib import Path
    read = [Path(path).read_text() for path in snakemake.input]
    for path in snakemake.output:
        Path(path).write_text(f"{{snakemake.params.value}} of {{read}}")
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("both"))
    (copy.folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    (copy.folder / "write.py").write_text(SCRIPT, encoding="utf-8")
    (copy.folder / "given.txt").write_text("given", encoding="utf-8")
    shutil.copytree(ROOT / "profiles", copy.folder / "profiles")
    copy.run("--cores", "1")
    return copy


@pytest.fixture
def moved(both, tmp_path) -> Copy:
    """The results in a fresh checkout, copied with their times."""
    copy = both.duplicate(tmp_path / "moved")
    shutil.rmtree(copy.folder / ".snakemake")
    return copy


def again(copy: Copy, *arguments: str) -> set[str]:
    """The jobs that a dry run announces."""
    return {job["rule"] for job in copy.announced(*arguments)}


def test_what_records_tell_is_what_snakemake_knows(both):
    """Else a job would run again for ever, or never."""
    known = [json.loads(file.read_text()) for file in both.files(".snakemake/metadata")]
    assert len(known) == 3
    for rule, names in (("first", ["first"]), ("second", ["second", "third"])):
        for name in names:
            told = json.loads((both.folder / f"results/.{name}.txt.made").read_text())
            there = [part for part in known if part["rule"] == rule == told["rule"]]
            assert len(there) == len(names)
            inputs = [path.replace("{results}", "results") for path, _ in told["inputs"]]
            for part in there:
                assert part["params"] == sorted(told["params"].values())
                assert part["input"] == sorted(inputs)


@pytest.mark.parametrize(
    ("config", "jobs"),
    [([], set()), (["second=2"], {"second"}), (["first=2"], {"first", "second"})],
)
def test_results_that_were_moved_are_made_again_where_settings_differ(moved, config, jobs):
    assert again(moved, *(["--config", *config] if config else [])) == jobs


@pytest.mark.slow
def test_results_may_get_another_name(moved):
    (moved.folder / "results").rename(moved.folder / "elsewhere")
    assert again(moved, "--config", "results=elsewhere") == set()
    assert again(moved, "--config", "results=elsewhere", "second=2") == {"second"}


@pytest.mark.slow
def test_results_of_another_run_are_made_again_whatever_snakemake_remembers(both, tmp_path):
    here = both.duplicate(tmp_path / "here")
    here.run("--cores", "1", "--config", "first=2")
    shutil.rmtree(here.folder / "results")
    shutil.copytree(both.folder / "results", here.folder / "results")
    assert again(here) == set()
    assert again(here, "--config", "first=2") == {"first", "second"}


@pytest.mark.slow
def test_a_part_of_another_run_is_not_taken_for_its_own(moved, both, tmp_path):
    """One file of a run in which the same settings gave other bytes."""
    other = both.duplicate(tmp_path / "other")
    (other.folder / "results/first.txt").unlink()
    (other.folder / "write.py").write_text(SCRIPT.replace(" of ", " for "), encoding="utf-8")
    other.run("--cores", "1", "results/first.txt")
    for name in ("first.txt", ".first.txt.made"):
        shutil.copy2(other.folder / "results" / name, moved.folder / "results")
    os.utime(moved.folder / "results/first.txt", (0, 0))
    assert again(moved) == {"second"}
    assert "as what they were made from has changed: results/second.txt" in moved.run(
        "--cores", "1"
    )
    assert again(moved) == set()


def test_a_file_of_the_users_counts_by_its_content(moved):
    given = moved.folder / "given.txt"
    given.write_text("other", encoding="utf-8")
    os.utime(given, (0, 0))
    assert again(moved) == {"second"}


@pytest.mark.slow
def test_what_nobody_knows_anything_of_is_made_again(moved):
    records.forget([moved.folder / "results/third.txt"])
    assert again(moved) == {"second"}
    said = moved.run("--cores", "1")
    assert "made again, as it is not known what they were made from: results/second.txt" in said
    records.beside(moved.folder / "results/third.txt").write_text("{")
    assert again(moved) == {"second"}
    assert "as the record of what they were made from is damaged" in moved.run("--cores", "1")
    assert again(moved) == set()


@pytest.mark.slow
def test_a_missing_file_is_made_again_and_this_is_said(both, tmp_path):
    here = both.duplicate(tmp_path / "here")
    (here.folder / "results/second.txt").unlink()
    said = here.run("--cores", "1")
    assert "made again, as they are missing: results/second.txt" in said
    said = here.run("--cores", "1", "--config", "second=2")
    assert "as their settings or their code have changed: results/second.txt" in said


@pytest.mark.slow
def test_whoever_touches_takes_what_is_there(moved):
    assert again(moved, "--config", "first=2") == {"first", "second"}
    moved.run("--cores", "1", "--touch", "--config", "first=2")
    assert again(moved, "--config", "first=2") == set()


def test_a_job_does_not_read_what_was_damaged(both, tmp_path):
    here = both.duplicate(tmp_path / "here")
    first = here.folder / "results/first.txt"
    first.write_bytes(flipped(first.read_bytes()))
    done = here.snakemake("--cores", "1")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    said = "results/first.txt: not the bytes that rule first wrote; delete it and run again"
    assert f"error: {said}\n" in done.stdout
    first.unlink()
    here.run("--cores", "1")
    assert first.read_bytes() == (both.folder / "results/first.txt").read_bytes()
