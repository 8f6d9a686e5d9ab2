import hashlib
import io
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import ROOT, Code, error_of

from faultline.base.errors import UserError
from faultline.base.files import (
    atomic,
    digest,
    for_spreadsheets,
    load_arrays,
    load_table,
    load_tensors,
    open_in_place,
    private_folder,
    remove_leftovers,
    save_arrays,
    save_table,
    save_tensors,
    save_text,
    with_texts,
)

TENSORS = {"network": {"w": torch.arange(40.0)}, "history": [{"epoch": 1, "lr": 0.1}], "seed": 3}
ARRAYS = {"n": np.array(13), "bits": np.arange(9, dtype=np.uint8), "names": np.array(["a", "bc"])}
TABLE = pd.DataFrame(
    {
        "attack": ["none", "pgd", "none"],
        "note": ["", "two\twords", 'a "quoted" line\nand another'],
        "value": [0.1, np.nan, -1e-17],
        "n": [1, 2, 3],
        "decided": [True, False, True],
    }
)


def tensors(path):
    return load_tensors(path, "a checkpoint")


KINDS = {
    "x.pt": (save_tensors, TENSORS, tensors),
    "sums.pt": (save_tensors, TENSORS, lambda path: load_tensors(path, "a checkpoint", sums=True)),
    "x.npz": (save_arrays, ARRAYS, load_arrays),
    "x.tsv": (save_table, TABLE, load_table),
    "x.txt": (save_text, "one\ntwo — ü\n", None),
}
kinds = pytest.mark.parametrize("name", KINDS)
loaded_kinds = pytest.mark.parametrize("name", ["x.pt", "x.npz", "x.tsv"])


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_atomic_puts_a_whole_file_in_place(tmp_path):
    path = tmp_path / "new" / "folder" / "x"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # one file system, so that replacing is atomic
    assert path.read_text() == "new"
    assert names(path.parent) == ["x"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    save_tensors(TENSORS, path)
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_tensors({"f": lambda: 0}, path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["x.pt"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            save_text("long " * 100, tmp_path / "x.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "x.txt") and not names(tmp_path)


def test_two_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "x"
    with atomic(path) as one, atomic(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"  # the last to end
    assert names(tmp_path) == ["x"]


def test_leftovers_of_one_file_go(tmp_path):
    path, foreign = tmp_path / "x[1].pt", tmp_path / ".x[1].pt.partial.writing"
    with atomic(path) as one, atomic(tmp_path / "x[1].pt.more") as other:
        one.touch(), other.touch(), foreign.touch()
        remove_leftovers(path)
        assert not one.exists() and other.exists() and foreign.exists()
        one.touch()


@kinds
def test_same_content_same_bytes(name, tmp_path):
    save, content, _ = KINDS[name]
    save(content, tmp_path / name)
    save(content, tmp_path / "elsewhere" / f"another-{name}")
    data = (tmp_path / name).read_bytes()
    assert (tmp_path / "elsewhere" / f"another-{name}").read_bytes() == data
    if name == "x.npz":  # no time of writing in it
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_tensors_and_back(tmp_path):
    save_tensors(TENSORS, tmp_path / "x.pt")
    back = load_tensors(tmp_path / "x.pt", "a checkpoint", device=torch.device("cpu"))
    assert torch.equal(back["network"]["w"], TENSORS["network"]["w"])
    assert back["history"] == TENSORS["history"]
    assert back["seed"] == 3


def test_arrays_and_back(tmp_path):
    save_arrays(ARRAYS, tmp_path / "x.npz")
    back = load_arrays(tmp_path / "x.npz")
    assert list(back) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert back[key].dtype == array.dtype
        assert np.array_equal(back[key], array)


def test_tables_and_back(tmp_path):
    save_table(TABLE, tmp_path / "x.tsv")
    pd.testing.assert_frame_equal(load_table(tmp_path / "x.tsv"), TABLE, check_exact=True)
    assert "\tnan\t" in (tmp_path / "x.tsv").read_text()


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path):
    words = ["none", "None", "NA", "null", "N/A", "", "nan"]
    save_table(pd.DataFrame({"word": words, "n": range(7)}), tmp_path / "x.tsv")
    back = load_table(tmp_path / "x.tsv")["word"]
    assert back[:6].tolist() == words[:6]
    assert pd.isna(back[6])


def test_every_float_comes_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000) * 10.0 ** rng.integers(-300, 300, 5000)
    save_table(pd.DataFrame({"v": values}), tmp_path / "x.tsv")
    assert np.array_equal(load_table(tmp_path / "x.tsv")["v"], values)


def test_a_table_without_rows(tmp_path):
    save_table(TABLE[:0], tmp_path / "x.tsv")
    back = load_table(tmp_path / "x.tsv")
    assert len(back) == 0
    assert list(back) == list(TABLE)


def test_a_table_without_rows_and_columns(tmp_path):
    # what is left of a kind of result that a run does not have
    save_table(pd.DataFrame(), tmp_path / "x.tsv")
    assert load_table(tmp_path / "x.tsv").shape == (0, 0)


def test_text_is_utf8(tmp_path):
    save_text("ü — ε\n", tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_bytes() == "ü — ε\n".encode()


def refused(name, path):
    """The message of the UserError: one line that names the file and what to do."""
    message = error_of(KINDS[name][2], path)
    assert message.startswith(f"{path}: ")
    assert "run" in message
    return message


@loaded_kinds
def test_a_missing_file(name, tmp_path):
    assert "no such file" in refused(name, tmp_path / name)


@loaded_kinds
def test_a_folder_in_the_place_of_a_file(name, tmp_path):
    (tmp_path / name).mkdir()
    refused(name, tmp_path / name)


@loaded_kinds
def test_not_such_a_file(name, tmp_path):
    for content in (b"", b"\xff\xfe\x00\x01", random.Random(0).randbytes(50)):
        (tmp_path / name).write_bytes(content)
        refused(name, tmp_path / name)
    if name != "x.tsv":
        (tmp_path / name).write_text("hello\n")
        refused(name, tmp_path / name)


def test_a_single_array_in_the_place_of_an_archive(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.arange(3))
    refused("x.npz", tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.pt", "x.npz"])
def test_a_truncated_file(name, tmp_path):
    save, content, _ = KINDS[name]
    save(content, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for length in range(0, len(data), max(len(data) // 40, 1)):
        (tmp_path / name).write_bytes(data[:length])
        refused(name, tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["x.pt", "sums.pt", "x.npz"])
def test_a_damaged_file_is_read_or_refused(name, tmp_path):
    save, content, load = KINDS[name]
    save(content, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    rng = random.Random(0)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            load(tmp_path / name)
        except UserError as error:
            assert str(error).startswith(str(tmp_path / name))


def test_what_lacks_a_key_is_told_by_the_file(tmp_path):
    save_tensors({"images": torch.ones(2)}, tmp_path / "x.pt")
    keys = ("train_images", "images", "classes")
    assert error_of(load_tensors, tmp_path / "x.pt", "a prepared data set", keys=keys) == (
        f"{tmp_path / 'x.pt'}: holds no train_images, classes, expected a prepared data set; "
        "delete it and run again to make it anew"
    )
    torch.save([torch.ones(2)], tmp_path / "x.pt")
    assert "holds no images" in error_of(load_tensors, tmp_path / "x.pt", "images", keys=["images"])


def test_the_digest_of_a_file_and_of_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert digest(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    before = digest(tmp_path)
    (tmp_path / "file").write_bytes(b"other")
    assert digest(tmp_path) == before
    (tmp_path / "another").touch()
    assert digest(tmp_path) != before


def test_code_in_a_file_is_never_run(tmp_path):
    trap = tmp_path / "trap"
    plain, zipped = tmp_path / "plain.pt", tmp_path / "zipped.pt"
    plain.write_bytes(pickle.dumps(Code(trap), protocol=2))
    buffer = io.BytesIO()
    torch.save({"network": Code(trap)}, buffer)
    zipped.write_bytes(buffer.getvalue())
    assert "refused" in refused("x.pt", plain)
    assert "refused" in refused("x.pt", zipped)
    refused("x.npz", plain)
    objects = tmp_path / "objects.npz"
    np.savez(objects, a=np.array([Code(trap)], dtype=object))
    refused("x.npz", objects)
    assert not trap.exists()


def test_a_file_in_place_is_opened_as_it_is(tmp_path):
    path = tmp_path / "lock"
    with open_in_place(path) as file:
        file.write("whose")
    with open_in_place(path) as file:
        assert file.read() == "whose"


@pytest.mark.parametrize("planted", ["link", "dangling link", "folder", "pipe"])
def test_nothing_but_a_file_is_opened_in_place(planted, tmp_path):
    other, path = tmp_path / "other", tmp_path / "lock"
    if planted == "link":
        other.write_text("mine", encoding="utf-8")
    if "link" in planted:
        path.symlink_to(other)
    elif planted == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match="lock"):
        open_in_place(path)
    assert other.exists() == (planted == "link")
    assert planted != "link" or other.read_text(encoding="utf-8") == "mine"


def test_a_private_folder_is_made_once_and_is_private(tmp_path):
    for _ in range(2):
        assert private_folder(tmp_path / "own").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["link", "file", "open to all", "of another user"])
def test_what_is_no_private_folder_is_not_taken_for_one(planted, tmp_path):
    path, other = tmp_path / "own", tmp_path / "other"
    other.mkdir(mode=0o700)
    if planted == "link":
        path.symlink_to(other)
    elif planted == "file":
        path.touch(mode=0o600)
    else:
        path.mkdir(mode=0o700)
        if planted == "open to all":
            path.chmod(0o755)
        elif os.getuid():
            pytest.skip("only root can give a folder away")
        else:
            os.chown(path, 1234, -1)
    with pytest.raises(OSError, match="this user's alone"):
        private_folder(path)


def test_a_spreadsheet_computes_nothing_of_a_table():
    table = pd.DataFrame(
        {
            "name": ["=1+1", "@SUM(A1)", "-2+3", "+x", "\uff1d1", "a=b", "-", "conv1", "b"],
            "text": ["-0.5", "+1e3", "-inf", "", "1", "x", "-1", "2", "3"],
            "number": [-1.5, float("nan"), -3, 4, 5, 6, 7, 8, 9],
            "mixed": ["=a", -1, -0.5, True, None, 0, 1, 2, 3],
        }
    )
    found = with_texts(table, for_spreadsheets)
    assert found["name"].tolist() == [
        *("'=1+1", "'@SUM(A1)", "'-2+3", "'+x", "'\uff1d1", "a=b", "-", "conv1", "b")
    ]
    assert found["mixed"].tolist() == ["'=a", *table["mixed"][1:]]
    pd.testing.assert_frame_equal(found[["text", "number"]], table[["text", "number"]])


def test_tensors_are_read_where_they_lie(tmp_path):
    given = {"a": torch.arange(5000), "b": torch.rand(3, 4), "name": "x"}
    save_tensors(given, tmp_path / "t.pt")
    read = load_tensors(tmp_path / "t.pt", "tensors", mapped=True)
    mappings = Path("/proc/self/maps")
    if mappings.is_file():
        assert str(tmp_path / "t.pt") in mappings.read_text(encoding="utf-8")
    save_tensors({"a": torch.zeros(5000)}, tmp_path / "t.pt")  # a new file in its place
    assert read["name"] == "x" and all(torch.equal(read[key], given[key]) for key in "ab")
    read["a"] += 1
    assert torch.equal(load_tensors(tmp_path / "t.pt", "tensors")["a"], torch.zeros(5000))


BEYOND = """
import resource, sys
from faultline.base.files import load_tensors
images = load_tensors(sys.argv[1], "tensors", mapped=True)["images"]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert not images[-3:].any()
print(len(images), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
images[-2] = 7
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory there is")
def test_tensors_larger_than_memory_are_read_and_not_written_to(tmp_path):
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    count = 4 * pages // 2**20
    path, hole = str(tmp_path / "t.pt"), str(tmp_path / "hole")
    images = torch.from_file(hole, shared=True, size=count * 2**20, dtype=torch.uint8)
    with torch.serialization.skip_data():  # a file that takes no room
        torch.save({"images": images.view(count, 2**20)}, path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    command = [sys.executable, "-c", BEYOND, path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    read, grown = map(int, done.stdout.split())
    assert read == count and grown < 100_000  # kB
    assert done.returncode in (0, -signal.SIGSEGV), done.stderr
    assert not load_tensors(path, "tensors", mapped=True)["images"][-2].any()
