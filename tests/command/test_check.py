"""faultline check: what it prints and leaves, and what it refuses in one line."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from faultline.base import plugins
from faultline.command.__main__ import main

NETWORK = """
from torch import nn
def make(shape, classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A network of random filters that knows digits by their means, its weights, and images."""
    monkeypatch.setattr(plugins, "NETWORKS", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NETWORK)
    digits = load_digits()
    pixels = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    with torch.no_grad():
        found = network[:3](pixels)
        means = torch.stack([found[torch.tensor(digits.target) == c].mean(0) for c in range(10)])
        network[3].weight.copy_(means)
        network[3].bias.copy_(-means.square().sum(1) / 2)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    np.save(tmp_path / "digits.npy", (pixels[:60].numpy() * 255).astype(np.uint8))
    return tmp_path


CHECK = ["check", "mine.py:make", "--images", "digits.npy", "--weights", "net.pt"]


def ended(*words):
    with pytest.raises(SystemExit) as end:
        main([*words])
    return end.value.code


@pytest.mark.parametrize(("limit", "status"), [("0.02", 1), ("1", 0)])
def test_of_a_digits_network(folder, capsys, limit, status):
    assert ended(*CHECK, "--limit", limit) == status
    said = capsys.readouterr().out
    assert "of 14 units that were removed, of 14, change more than" in said
    assert "check/check.html, and its numbers in check/check.json" in said
    numbers = json.loads((folder / "check/check.json").read_text())
    assert len(numbers["units"]) == 14 and bool(numbers["fragile"]) == status
    assert "<h1>mine.py:make: 60 images</h1>" in (folder / "check/check.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "nowhere"], "nowhere: no such file or folder"),
        (["--images", "mine.py"], "mine.py: is no folder, .npy or .npz"),
        (["--images", "."], ".: there is no image in it"),
        (["--images", "large.npy"], "large.npy: values are not all in 0..1"),
        (["--images", "words.npy"], "words.npy: cannot be read"),
        (["--mean", "0.5"], "--mean and --std go together"),
        (["--classes", "7"], "net.pt, for mine.py:make: "),
        (["--minutes", "0"], "check: minutes"),
    ],
)
def test_what_is_refused(folder, words, said):
    np.save(folder / "large.npy", np.full((3, 8, 8), 2.0))
    np.save(folder / "words.npy", np.array(["a", None], object), allow_pickle=True)
    assert ended(*CHECK, *words).startswith(f"error: {said}")
