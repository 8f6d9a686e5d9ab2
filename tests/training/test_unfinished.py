import hashlib
import tracemalloc

import numpy as np
import pytest
import torch

from faultline.base.files import save_tensors
from faultline.training.unfinished import Unfinished

SETTINGS = [{"lr": 0.1}, "code"]


@pytest.fixture
def begin(tmp_path):
    """Begins some work on a file, from settings and a file beside it."""
    data = tmp_path / "data"
    data.write_bytes(b"one")
    return lambda settings=SETTINGS, files=(data,): Unfinished(
        tmp_path / "made.pt", settings, files=files
    )


def test_a_state_comes_back_as_it_was(begin):
    unfinished = begin()
    assert unfinished.load() is None
    state = {"weights": torch.tensor([0.1, -2.0]), "done": [{"lr": 0.1, "error": "", "seed": 3}]}
    unfinished.save({"done": []})
    unfinished.save(state)
    found = begin().load()
    assert found.keys() == state.keys() and found["done"] == state["done"]
    assert torch.equal(found["weights"], state["weights"])
    unfinished.discard()
    unfinished.discard()
    assert begin().load() is None
    assert not unfinished.path.exists()


def test_what_began_from_other_things_is_left_alone(begin):
    data = begin().path.with_name("data")
    begin().save({"epoch": 3})
    assert begin(settings=[{"lr": 0.2}, "code"]).load() is None
    assert begin(files=()).load() is None
    data.write_bytes(b"two")
    assert begin().load() is None
    data.write_bytes(b"one")
    assert begin().load() == {"epoch": 3}


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"no such file",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole.replace(b"\x40" * 256, b"\x40" * 255 + b"\x41"),
    ],
)
def test_a_state_that_cannot_be_read_is_told(begin, damage, capsys):
    unfinished = begin()
    unfinished.save({"epoch": 3, "weights": torch.full((256,), 64, dtype=torch.uint8)})
    unfinished.path.write_bytes(damage(unfinished.path.read_bytes()))
    assert begin().load() is None
    assert capsys.readouterr().out.startswith("cannot resume, starting again: ")


def test_a_state_of_another_version_is_left_alone(begin):
    unfinished = begin()
    save_tensors({"epoch": 3}, unfinished.path)
    assert unfinished.load() is None


def test_files_are_read_in_blocks(begin):
    data = begin().path.with_name("data")
    data.write_bytes(np.arange(4_000_000, dtype=np.int64).tobytes())
    tracemalloc.start()
    identity = begin().identity
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000 < data.stat().st_size
    whole = hashlib.sha256(data.read_bytes()).digest()
    assert identity == hashlib.sha256(f"{SETTINGS[0]} code".encode() + whole).hexdigest()
