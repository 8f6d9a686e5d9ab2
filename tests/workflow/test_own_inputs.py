"""Signals and tokens of the user's own through the whole workflow: the examples of docs/own.md."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from support import ROOT, copy_workflow, fenced

from faultline.attacks.craft import craft
from faultline.networks.architectures import TokenNetwork
from faultline.run.loading import load_dataset

pytestmark = pytest.mark.slow


def examples() -> dict[str, str]:
    """Name of a file -> its text, of those that the page shows."""
    page = (ROOT / "docs/own.md").read_text(encoding="utf-8")
    named = [(re.match(r"# (\S+\.\w+)\n", text), text) for _, text in fenced(page)]
    return {name[1]: text for name, text in named if name}


def waves(rng) -> dict[str, np.ndarray]:
    """Two channels of unlike units; the class is the frequency of the first."""
    labels, steps = np.arange(800) % 2, np.arange(24)
    phase = rng.uniform(0, 6, size=(800, 1))
    first = 5 * np.sin((0.5 + labels[:, None]) * steps + phase) + 5 * rng.normal(size=(800, 24))
    second = 0.01 * rng.normal(size=(800, 24)) + 3
    return {"train_signals": np.stack([first, second], 1), "train_labels": labels}


def words(rng) -> dict[str, np.ndarray]:
    """Sequences of which the classes prefer some tokens."""
    labels, tokens = np.arange(800) % 2, rng.integers(0, 20, size=(800, 10))
    chosen = rng.integers(0, 5, size=(800, 10)) + 5 * labels[:, None]
    return {
        "train_tokens": np.where(rng.random((800, 10)) < 0.4, chosen, tokens),
        "train_labels": labels,
    }


@pytest.mark.parametrize("kind", ["wave", "text"])
def test_the_examples_run(kind, tmp_path):
    copy, files = copy_workflow(tmp_path / "run", config=""), examples()
    content = (waves if kind == "wave" else words)(np.random.default_rng(0))
    np.savez(copy.folder / "waves.npz", **content)
    (copy.folder / "my_sequences.py").write_text(files["my_sequences.py"], encoding="utf-8")
    config = yaml.safe_load(files["signals.yaml"])
    config |= {
        "networks": [f"my_sequences.py:{kind}"],
        "ablation": {"attacks": ["fgsm"], "images": 100},
    }
    config |= {"synaptic_filtering": {"layers": "all", "thresholds": 3, "random_draws": 2}}
    config["attacks"]["pgd"]["steps"] = 4
    config["retraining"] = {"from_epochs": [5], "epochs": 1, "random_draws": 1}
    if kind == "text":  # stored images serve as well
        config["ablation"]["target"] = "both"
        config["attacks"] = {
            name: attack | {"eps": 0.3} for name, attack in config["attacks"].items()
        }
    copy.configure(config)
    copy.run("--cores", "2")

    results = copy.folder / "results/signals"
    accuracy = pd.read_csv(results / "tables/accuracy.tsv", sep="\t")
    accuracy = accuracy.set_index(["attack", "eps"])["accuracy"]
    eps = config["attacks"]["pgd"]["eps"]
    assert accuracy["fgsm", 0] > 0.8
    assert accuracy["pgd", eps] <= accuracy["fgsm", eps] + 0.02 < accuracy["fgsm", 0] - 0.1
    checks = pd.read_csv(results / "tables/checks.tsv", sep="\t")
    assert set(checks.loc[checks["check"] == "inside_ball", "status"]) == {"ok"}
    layers = pd.read_csv(results / "tables/layers.tsv", sep="\t")
    assert set(layers["layer"]) >= ({"0", "2", "6"} if kind == "wave" else {"embedding", "fc1"})

    # what is stored, by a network and an attack of our own hand
    place = results / f"waves/{kind}/standard/seed-0/epoch-5"
    stored = torch.load(place / "attacks/fgsm/adversarial.pt", weights_only=True)["images"]
    data = load_dataset(results / "waves/data.pt", torch.device("cpu"))
    state = torch.load(place / "checkpoint.pt", weights_only=True)["network"]
    images, labels = (part[: len(stored)] for part in data.splits["validation"])
    names: dict = {}
    exec(files["my_sequences.py"], names)
    body = names[kind](tuple(images.shape[1:]), 2)
    body.load_state_dict(
        {n.removeprefix("body."): v for n, v in state.items() if n.startswith("body.")}
    )
    if kind == "text":
        weight = body.embedding.weight.detach()
        embedded = weight[images.long()].requires_grad_()
        logits = body.fc2(body.relu(body.fc1(embedded)).mean(1))
        unit, start = weight.square().mean().sqrt(), torch.zeros_like(embedded)
    else:
        mean, std = (torch.tensor(v)[:, None] for v in (data.mean, data.std))
        embedded = images.clone().requires_grad_()
        logits = body.eval()((embedded - mean) / std)
        unit, start = 1.0, images
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    expected = start + eps * unit * embedded.grad.sign()
    if kind == "wave":
        expected = expected.clamp(0, 1)
    else:
        assert torch.equal(stored[..., 0].int(), images)
        stored = stored[..., 1:]
    assert (stored - expected).abs().amax(tuple(range(1, stored.ndim))).quantile(0.95) < 1e-5


def test_a_network_of_tokens_is_built_for_the_notebook():
    names: dict = {}
    exec(examples()["my_sequences.py"], names)
    network = TokenNetwork(names["text"]((10,), 2)).eval()
    tokens = torch.randint(20, (6, 10))
    labels = network(tokens).argmax(1)
    found = craft(network, tokens, labels, attack={"method": "fgsm"}, eps=0.5, bounds=None, seed=0)
    assert found.shape == (6, 10, 17) and network(found).shape == (6, 2)
