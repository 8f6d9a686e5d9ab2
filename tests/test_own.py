"""A user's own weights and images, through the whole workflow: the config of the README."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, Copy, copy_workflow
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from faultline.networks import build
from faultline.vision import load_torchvision

NAMES = {"alexnet": "small_conv", "resnet18": "small_resnet"}  # stand in, for speed
GREY, SPREAD = [0.3] * 3, [0.4] * 3


def write_digits(folder, *, classes=4):
    """Train and test images of a few digits as PNG files of unequal sides, some of them grey."""
    digits = load_digits()
    pixels = (digits.images * 255 / 16).astype(np.uint8)
    chosen = [i for i, label in enumerate(digits.target) if label < classes]
    for number, index in enumerate(chosen):
        split = "test" if number % 6 == 0 else "train"
        place = folder / split / f"digit {digits.target[index]}"
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels[index]).resize((20, 16) if number % 2 else (16, 23))
        (image if number % 3 else image.convert("RGB")).save(place / f"{number}.png")


def reader():
    """What torchvision makes of the images, independently of ours: the reference."""
    transforms = load_torchvision().transforms
    steps = [transforms.Resize(12), transforms.CenterCrop(12), transforms.ToTensor()]
    return transforms.Compose(steps)


def loaded(folder) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(
        *load_torchvision().datasets.ImageFolder(str(folder), reader()), strict=True
    )
    return torch.stack(images), torch.tensor(labels)


def trained(name: str, images: torch.Tensor, labels: torch.Tensor):
    """A network of ours, trained for a moment by a loop of its own."""
    network = build(name, shape=(3, 12, 12), classes=4, mean=GREY, std=SPREAD, seed=1).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def own(tmp_path_factory, one_thread) -> tuple[Copy, dict]:
    """The README's config, made small and run, and network -> accuracy as torch says it."""
    copy = copy_workflow(tmp_path_factory.mktemp("own") / "run", config="")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    for theirs, ours in NAMES.items():
        text = text.replace(theirs, ours)
    config = yaml.safe_load(text)
    config["datasets"]["photos"] |= {"size": 12, "train": 200, "validation": 20, "test": None}
    config["datasets"]["photos"] |= {"mean": GREY, "std": SPREAD}
    config["attacks"]["pgd"] |= {"steps": 2}
    config["synaptic_filtering"] |= {"layers": ["conv1"], "thresholds": 3, "global": False}
    copy.configure(config)

    write_digits(copy.folder / "photos")
    images, labels = loaded(copy.folder / "photos/train")
    test_images, test_labels = loaded(copy.folder / "photos/test")
    (copy.folder / "weights").mkdir()
    accuracy = {}
    for network, file in config["trainings"]["given"]["weights"].items():
        net = trained(network, images, labels)
        with torch.inference_mode():
            accuracy[network] = (net(test_images).argmax(1) == test_labels).double().mean().item()
        path = copy.folder / file
        if path.suffix == ".safetensors":
            save_file({f"body.{k}": v for k, v in net.body.state_dict().items()}, path)
        else:
            state = {f"module.{k}": v for k, v in net.body.state_dict().items()}
            torch.save({"state_dict": state, "epoch": 12}, path)
    copy.run("--cores", "2")
    return copy, accuracy


def test_given_networks_are_as_accurate_as_torch_says(own):
    copy, accuracy = own
    table = pd.read_csv(copy.folder / "results/tables/accuracy.tsv", sep="\t")
    clean = table[table["eps"] == 0].set_index("network")["accuracy"]
    assert clean.to_dict() == pytest.approx(accuracy)
    assert min(accuracy.values()) > 0.5  # trained, so not right by chance
    page = (copy.folder / "results/report.html").read_text(encoding="utf-8")
    assert "from given weights of small_conv, small_resnet, which all seeds share" in page


def rules(copy: Copy, key: str = "network") -> dict[str, set[str]]:
    found = {}
    for job in copy.announced():
        found.setdefault(job["rule"], set()).add(job["wildcards"].get(key))
    return found


def test_other_weights_remake_their_network_only(own, tmp_path):
    copy = own[0].duplicate(tmp_path / "run")
    file = copy.folder / "weights/small_conv.pth"
    content = torch.load(file, weights_only=True)
    content["state_dict"]["module.fc.bias"] += 1
    torch.save(content, file)
    found = rules(copy)
    assert found["train"] == found["attack"] == {"small_conv"} and "prepare_data" not in found


def test_training_goes_on_from_given_weights(own, tmp_path):
    copy = own[0].duplicate(tmp_path / "run")
    config = copy.config()
    config["trainings"]["given"]["epochs"] = [0, 1]
    copy.configure(config)
    done = "results/photos/small_conv/given/seed-0/epoch-{}/checkpoint.pt"
    copy.run("--cores", "1", done.format(1))
    first, second = (
        torch.load(copy.folder / done.format(epoch), weights_only=True)["network"]
        for epoch in (0, 1)
    )
    given = torch.load(copy.folder / "weights/small_conv.pth", weights_only=True)["state_dict"]
    assert torch.equal(first["body.fc.weight"], given["module.fc.weight"])
    assert not torch.equal(first["body.fc.weight"], second["body.fc.weight"])


def test_another_image_makes_the_data_anew(own, tmp_path):
    copy = own[0].duplicate(tmp_path / "run")
    Image.new("L", (16, 16)).save(copy.folder / "photos/train/digit 0/new.bmp")
    assert "prepare_data" in rules(copy)
