"""Work that is kept: found where all it comes from is as it was, and never otherwise."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from snakemake.iocontainers import Namedlist, Snakemake
from support import ROOT

from faultline.base.files import load_table
from faultline.command.__main__ import main
from faultline.run.job import job
from faultline.snake import kept, states
from faultline.snake.kept import Kept, entries, trim

OWN = "def make():\n    return {}\n"
BYTES = {"checkpoint.pt": b"weights" * 1000, "history.tsv": b"epoch\n1\n"}


def described(**changes):
    """What the script of a job gets; changes: parts of its description."""
    place = "results/digits/mine/standard/seed-0/epoch-1"
    parts = {
        "rulename": "train",
        "input_": {"data": "results/digits/data.pt", "previous": [], "weights": ["given.pt"]},
        "output": {name.split(".")[0]: f"{place}/{name}" for name in BYTES},
        "params": {"settings": {"lr": 0.1, "layers": None}, "device": "auto", "code": "3f"},
        "wildcards": {"network": "mine", "seed": "0"},
        "threads": 1,
        "resources": {"gpu": 0},
        "log": {"log": "train.log"},
        "config": {
            "results": "results",
            "keep": {"folder": None, "gb": 1},
            "own_networks": {"mine": {"function": "own.py:make", "normalise": True}},
            "attacks": {"fgsm": {"method": "fgsm"}},
            "ablations": {},
            "criteria": {"methods": []},
        },
    }
    for key, value in changes.items():
        parts[key] = {**parts[key], **value} if isinstance(value, dict) else value
    named = {
        key: Namedlist(fromdict=part)
        for key, part in parts.items()
        if isinstance(part, dict) and key not in ("config", "input_")
    }
    named["input_"] = Namedlist()
    for name, value in parts["input_"].items():
        several = isinstance(value, list)
        start = len(named["input_"])
        named["input_"].extend(value if several else [value])
        named["input_"]._set_name(name, start, end=len(named["input_"]) if several else None)
    return Snakemake(**parts | named, bench_iteration=None)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory in which a run has begun."""
    monkeypatch.chdir(tmp_path)
    Path("results/digits").mkdir(parents=True)
    Path("results/digits/data.pt").write_bytes(b"data")
    Path("given.pt").write_bytes(b"given")
    Path("own.py").write_text(OWN)
    yield tmp_path
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write(snakemake, said: str = "done\n") -> None:
    """The work of a job."""
    for path in map(Path, snakemake.output):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(BYTES[path.name])
    Path(snakemake.log[0]).write_text(said)


def done(**changes) -> Kept:
    """A job that was asked for, and did its work where that was not found."""
    snakemake = described(**changes)
    for path in snakemake.output:
        Path(path).unlink(missing_ok=True)
    store = Kept(snakemake)
    if store.log is None:
        write(snakemake)
        store.put(Path(snakemake.log[0]))
    for path in map(Path, snakemake.output):
        assert path.read_bytes() == BYTES[path.name]
    return store


CHANGES = {
    "rule": {"rulename": "tune"},
    "wildcard": {"wildcards": {"seed": "1"}},
    "setting": {"params": {"settings": {"lr": 0.2, "layers": None}}},
    "code": {"params": {"code": "40"}},
    "device": {"params": {"device": "cpu"}},
    "one input more": {"input_": {"previous": ["given.pt"]}},
    "another place": {"output": {"history": "results/history.tsv"}},
    "threads": {"threads": 2},
    "GPU": {"resources": {"gpu": 1}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_comes_from_other_things_is_not_found(change):
    assert done().log is None
    assert Kept(described(**CHANGES[change])).log is None
    assert "What was said then:\ndone\n" in done().log


@pytest.mark.parametrize(
    ("file", "content"),
    [("given.pt", "others"), ("results/digits/data.pt", "others"), ("own.py", OWN + "x = 1\n")],
)
def test_a_file_with_other_content(file, content):
    assert done().log is None
    before = Path(file).read_text()
    Path(file).write_text(content)
    assert done().log is None
    Path(file).write_text(before)
    assert done().log
    assert len([*entries(Path("results/.kept"))]) == 2


def test_a_variable_that_steers_the_arithmetic(monkeypatch):
    assert done().log is None
    with monkeypatch.context() as other:
        other.setenv("MKL_CBWR", "COMPATIBLE")
        assert done().log is None
    assert done().log


def test_times_comments_and_where_the_results_lie_do_not_count(folder, monkeypatch):
    config = described().config | {"keep": {"folder": str(folder / "store"), "gb": 1}}
    assert done(config=config).log is None
    for file in ("given.pt", "results/digits/data.pt"):
        os.utime(file, (1, 1))
    Path("own.py").write_text("# a remark\n" + OWN)
    shutil.move("results", "elsewhere")
    moved = {
        "config": config | {"results": "elsewhere"},
        "input_": {"data": "elsewhere/digits/data.pt"},
        "output": {
            key: path.replace("results", "elsewhere") for key, path in described().output.items()
        },
    }
    assert done(**moved).log
    Path("given.pt").rename("moved.pt")
    assert done(**moved | {"input_": moved["input_"] | {"weights": ["moved.pt"]}}).log


def entry_of_one() -> Path:
    (entry,) = entries(Path("results/.kept"))
    return entry.path


def in_place(name: str, content: bytes):
    def damage(entry: Path) -> None:
        with (entry / name).open("r+b") as file:
            file.truncate(0)
            file.write(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        in_place("0", b"weights"),
        in_place("1", b"epoch\n2\n"),
        in_place("entry.json", b"{"),
        in_place("entry.json", b"{}"),
        in_place("entry.json", b'{"made": "", "log": "", "files": [1, 2]}'),
        in_place("entry.json", b'{"made": "", "log": null, "files": []}'),
        lambda entry: (entry / "1").unlink(),
        lambda entry: (entry / "entry.json").unlink(),
    ],
    ids=[
        "cut",
        "other bytes",
        "no JSON",
        "empty",
        "no files",
        "no log",
        "a file lost",
        "its description lost",
    ],
)
def test_a_damaged_entry_is_dropped_and_made_anew(damage):
    assert done().log is None
    damage(entry_of_one())
    assert trim(Path("results/.kept"), 1e9) == []
    again = done()
    assert again.log is None and "damaged" in again.notes[0] and "dropped" in again.notes[0]
    assert done().log


def test_an_output_that_is_edited_in_place_is_not_taken_for_the_work():
    """It shares its bytes with what is kept."""
    path = Path(done().job.output[0])
    assert path.samefile(entry_of_one() / "0")
    with path.open("ab") as file:
        file.write(b"mine")
    assert done().log is None


def test_what_is_found_is_a_file_of_its_own_time_and_takes_no_more_room():
    path = Path(done().job.output[0])
    backup = Path("backup.pt")
    backup.hardlink_to(path)
    os.utime(path, (1, 1))
    assert done().log
    assert backup.stat().st_mtime == 1 and path.stat().st_mtime > 1e9
    assert path.samefile(entry_of_one() / "0")


def test_on_another_file_system_it_is_copied():
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == Path.cwd().stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        config = described().config | {"keep": {"folder": folder, "gb": 1}}
        path = Path(done(config=config).job.output[0])
        assert path.stat().st_nlink == 1
        path.write_bytes(b"mine")
        assert done(config=config).log
        assert [entry.size for entry in trim(Path(folder), 0)] == [sum(map(len, BYTES.values()))]


@pytest.mark.parametrize(("threads", "kept_then"), [(1, True), (2, False)])
def test_resumed_work_is_kept_only_if_it_began_alike(threads, kept_then):
    """Half of it on another device, or with other versions, has the bits of neither."""
    Kept(snakemake := described())  # stopped on its way
    partial = Path(f"{snakemake.output[0]}.partial")
    partial.parent.mkdir(parents=True)
    partial.touch()
    done(threads=threads)
    assert bool([*entries(Path("results/.kept"))]) == kept_then
    if not kept_then:
        done()  # nor where it goes on as it had begun at first
        partial.unlink()
        assert not [*entries(Path("results/.kept"))]
        assert done().log is None
    assert done().log


def test_a_forced_job_does_its_work_once():
    assert done().log is None
    kept.force(described().config, [described().output[0]])
    assert done().log is None
    assert done().log


def test_large_inputs_are_read_once(monkeypatch):
    monkeypatch.setattr(states, "QUIET", 0)
    large, folder = Path("results/digits/data.pt"), Path("results/.kept")
    large.write_bytes(bytes(2_000_000))
    first = states.remembered(large, folder)
    (mark,) = (folder / ".digests").iterdir()
    mark.write_text(mark.read_text().replace(first, first[::-1]))
    assert states.remembered(large, folder) == first[::-1]  # it was not read
    times = large.stat()
    with large.open("r+b") as file:
        file.write(b"1")
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert states.remembered(large, folder) not in (first, first[::-1])  # of the same size and time
    for damaged in ("no digest", "3"):
        mark.write_text(damaged)
        assert len(states.remembered(large, folder)) == 64


def test_what_was_used_longest_ago_goes_first():
    folder, made = Path("results/.kept"), {}
    for number in range(4):
        made[number] = done(params={"code": str(number)})._entry
        os.utime(made[number] / "entry.json", (number, number))
    assert done(params={"code": "0"}).log  # used again; its bytes are those of the results
    size = sum(map(len, BYTES.values()))
    assert [entry.path for entry in trim(folder, 2 * size)] == [made[1]]
    assert [entry.path for entry in trim(folder, 0)] == [made[2], made[3]]
    assert entry_of_one() == made[0]
    shutil.rmtree("results/digits/mine")
    assert [entry.path for entry in trim(folder, 0)] == [made[0]]


def test_what_is_not_ours_never_goes():
    """As where keep.folder is the home folder by mistake."""
    mine = [Path("home/project/data/images.npz"), Path("home/project/.git/HEAD")]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1000))
        os.utime(path.parent, (0, 0))
    assert trim(Path("home"), 0) == [] == [*entries(Path("home"))]
    assert all(path.exists() for path in mine)


def test_a_full_store_makes_room_by_itself(monkeypatch):
    monkeypatch.setattr(kept, "TRIM_EVERY", -1)
    config = described().config | {"keep": {"folder": None, "gb": 1e-5}}  # one job, of 7 kB
    made = [done(config=config, params={"code": str(number)})._entry for number in range(4)]
    assert {entry.path for entry in entries(Path("results/.kept"))} == {*made[2:]}


@pytest.mark.parametrize("place", ["folder", "entry"])
def test_a_store_that_cannot_be_used_stops_no_job(place, capsys):
    config = described().config | {"keep": {"folder": "file", "gb": 1}}
    if place == "folder":
        Path("file").touch()
    else:
        done(config=config)
        shutil.rmtree("file/train")
        Path("file/train").touch()
    again = done(config=config)
    assert again.log is None
    assert "can be used" in "".join(again.notes) or "not kept" in capsys.readouterr().out


LOOP = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import test_kept
from faultline.snake import kept
config = test_kept.described().config
config["keep"]["folder"] = "store"
print("ready", flush=True)
while True:
    kept.force(config, [test_kept.described().output[0]])
    test_kept.done(config=config)
"""


def test_a_killed_process_leaves_nothing_that_is_half(folder):
    rng, times = random.Random(0), 6
    config = described().config | {"keep": {"folder": "store", "gb": 1}}
    for _ in range(times):
        paths = [str(ROOT / "tests/snake"), str(ROOT / "tests")]
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, *paths],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")},
        )
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.01, 0.1))
        process.kill()
        process.wait()
        shutil.rmtree("store/.forced", ignore_errors=True)
        assert done(config=config).notes == []
    assert done(config=config).log


def test_a_job_that_is_found_says_so_and_runs_nothing():
    with job(snakemake := described(), kept=True):
        print("worked")
        for path in map(Path, snakemake.output):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(BYTES[path.name])
    (took,) = load_table("train.used.tsv").to_dict("records")
    assert not took["found"]
    for path in snakemake.output:
        Path(path).unlink()
    with pytest.raises(SystemExit) as end, job(described(), kept=True):
        raise AssertionError("the work is done again")
    assert end.value.code == 0
    assert "found in results/.kept/train/" in Path("train.log").read_text()
    assert "then:\nworked\n" in Path("train.log").read_text()
    (took,) = load_table("train.used.tsv").to_dict("records")
    assert took["found"] and took["rule"] == "train"
    for path in map(Path, snakemake.output):
        assert path.read_bytes() == BYTES[path.name]


def test_with_no_room_nothing_is_kept_or_found():
    config = described().config | {"keep": {"folder": None, "gb": 0}}
    done()
    ran_again = []
    with job(described(config=config), kept=True):
        ran_again.append(True)
    assert ran_again and len([*entries(Path("results/.kept"))]) == 1


def test_the_command_tells_what_may_go(capsys):
    for number in range(3):
        done(params={"code": str(number)})
    main(["kept"])
    assert "train" in capsys.readouterr().out and len([*entries(Path("results/.kept"))]) == 3
    main(["kept", "results/.kept", "--remove"])
    assert "removed: 2 jobs" in capsys.readouterr().out
    assert done(params={"code": "2"}).log  # the results share its bytes
    with pytest.raises(SystemExit, match="error: elsewhere: nothing is kept there"):
        main(["kept", "elsewhere"])
