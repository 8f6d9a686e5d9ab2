"""Results in a checkout that did not make them; files that were deleted, damaged or exchanged."""

import fcntl
import os
import re
import shutil

import pytest

PLACE = "results/digits/small_conv/standard/seed-0/epoch-2"
SWEEP = "synaptic-filtering.npz"


def put(file, content: bytes) -> None:
    """Behind Snakemake's back, and without a trace in what else shares the bytes."""
    made = file.stat()
    file.unlink()
    file.write_bytes(content)
    os.utime(file, ns=(made.st_atime_ns, made.st_mtime_ns))


def listed(said: str, what: str) -> list[list[str]]:
    """What a dry run lists of every job, such as its outputs."""
    return [line.split(", ") for line in re.findall(rf"^    {what}: (.*)$", said, re.MULTILINE)]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--config", "ablation={target: both, images: 100, choose: margin}"),
        ("--config", "ablation={target: both}", "perturbations={epochs: all}", "classes={}"),
        ("--configfile", "configs/lsa-mnist.yaml"),
        ("--configfile", "configs/transformers.yaml"),
    ],
)
def test_a_run_asks_for_a_file_of_every_job(fresh, arguments):
    said = fresh.run("-n", "-p", *arguments)
    wanted = re.search(r"^(?:local)?rule all:\n    input: (.*)$", said, re.MULTILINE)[1].split(", ")
    made = listed(said, "output")
    assert all(files[0] in wanted for files in made)
    assert {*wanted} <= {file for files in made for file in files}


def test_whichever_file_of_a_job_is_lost_that_job_runs(finished, rerun):
    """Of each rule a job with several files."""
    jobs = {job["rule"]: job for job in finished.announced("--forceall") if len(job["output"]) > 1}
    assert len(jobs) > 15
    for job in jobs.values():
        (rerun.folder / job["output"][-1]).unlink()
    again = {job["output"][0] for job in rerun.announced()}
    assert {job["output"][0] for job in jobs.values()} <= again


@pytest.mark.slow
def test_deleted_outputs_take_their_records_and_what_is_kept_with_them(rerun):
    results = rerun.folder / "results"
    records = [*results.rglob(".*.made")]
    assert len(records) > 90 and (results / ".kept").is_dir()
    other, of_other = results / "tables/other.tsv", results / "tables/.other.tsv.made"
    other.touch(), of_other.touch()  # of another config
    beside = [rerun.folder / PLACE / name for name in ("mended.pt", "mended.bounds.json")]
    for file in beside:  # whether its job made it or not
        file.touch()
    rerun.run("-n", "--delete-all-output")
    assert {*results.rglob(".*.made")} == {*records, of_other} and (results / ".kept").is_dir()
    with (results / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = rerun.snakemake("--delete-all-output", "--cores", "1")
        assert done.returncode and "error: results: in use by another run" in done.stdout
    rerun.run("--delete-all-output", "--cores", "1")
    assert [*results.rglob(".*.made")] == [of_other] and other.exists()
    assert not (results / ".kept").exists() and not any(file.exists() for file in beside)
    assert len(rerun.announced()) == len(rerun.announced("--forceall"))


@pytest.mark.slow
def test_one_of_each_kind_of_file_that_was_deleted_is_made_again(finished, rerun):
    kinds = {}
    for files in listed(rerun.run("-n", "-p", "--forceall"), "output"):
        for file in files:
            kinds.setdefault(re.sub(r"seed-.*?/epoch-\d+|layers/[^/]+|\d+-\d+", "", file), file)
    assert len(kinds) > 50
    for file in kinds.values():
        (rerun.folder / file).unlink()
    said = rerun.run("--cores", "2")
    first = sorted(kinds.values())[:3]
    assert f"made again, as they are missing: {', '.join(first)} and {len(kinds) - 3} more" in said
    for file in kinds.values():
        assert (rerun.folder / file).exists()
        if not file.endswith((".html", ".yaml")):
            assert (rerun.folder / file).read_bytes() == (finished.folder / file).read_bytes(), file


@pytest.mark.slow
def test_results_without_snakemakes_memory_are_made_again_where_they_do_not_fit(rerun):
    shutil.rmtree(rerun.folder / ".snakemake")
    assert rerun.announced() == []
    report = rerun.folder / "results/report.html"
    before = report.read_bytes()
    rerun.edit("config.yaml", "eps: 0.1}\n  pgd", "eps: 0.2}\n  pgd")
    rules = {job["rule"] for job in rerun.announced()}
    assert {"attack", "tabulate_accuracy", "report"} <= rules
    assert not rules & {"train", "ablate_layer", "retrain", "tabulate_own"}
    said = rerun.run("--cores", "2")
    assert "made again, as their settings or their code have changed: results/digits" in said
    assert report.read_bytes() != before
    assert "Nothing to be done" in rerun.run("--cores", "2")


def without_last_row(content: bytes) -> bytes:
    return content[: content.rstrip().rindex(b"\n") + 1]


def header(content: bytes) -> bytes:
    return content[: content.index(b"\n") + 1]


def without_a_column(content: bytes) -> bytes:
    return b"".join(line.rpartition(b"\t")[0] + b"\n" for line in content.splitlines())


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGED = {
    "report": [("results/tables/history.tsv", without_last_row, "report")],
    "header": [("results/tables/layers.tsv", header, "report")],
    "several": [
        (f"{PLACE}/classes/bands.tsv", without_a_column, "tabulate_synaptic"),
        (f"{PLACE}/checkpoint.pt", flipped, "target_filters"),
        (f"{PLACE}/attacks/pgd/correct.npz", flipped, "tabulate_accuracy"),
    ],
    "exchanged": [
        ("results/digits/data.pt", f"{PLACE}/checkpoint.pt", "target_filters"),
        (f"{PLACE}/layers/fc/{SWEEP}", f"{PLACE}/global/{SWEEP}", "score"),
    ],
}
"""What is damaged at once: files, how, and a rule that reads each."""


@pytest.mark.slow
@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=[*DAMAGED])
def test_what_was_damaged_is_refused_by_whoever_reads_it(rerun, damaged):
    files, readers = ([each[part] for each in damaged] for part in (0, 2))
    whole = {file: (rerun.folder / file).read_bytes() for file in files}
    for file, damage, _ in damaged:
        by = (rerun.folder / damage).read_bytes() if isinstance(damage, str) else None
        other = by or damage(whole[file])
        assert other != whole[file]
        put(rerun.folder / file, other)
    done = rerun.snakemake("--cores", "2", "--forcerun", *readers, "--until", *readers)
    assert done.returncode != 0 and "Traceback" not in done.stdout
    for file in files:
        assert re.search(rf"error: {re.escape(file)}: .*; delete it and run again\n", done.stdout)
        (rerun.folder / file).unlink()
    rerun.run("--cores", "2", "--", *files)
    for file, content in whole.items():
        assert (rerun.folder / file).read_bytes() == content, file
