"""A user's own weights and images, through the whole workflow: the config of docs/own.md."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from support import ROOT, Copy, copy_workflow

from faultline.networks.registry import build
from faultline.networks.vision import load_torchvision

pytestmark = pytest.mark.slow

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


def run_own(folder) -> None:
    """The config of docs/own.md, made small and run for one network; its accuracy as torch says it
    lies beside."""
    copy = copy_workflow(folder, config="")
    page = (ROOT / "docs/own.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(datasets:.*?)```", page, flags=re.DOTALL)
    for theirs, ours in NAMES.items():
        text = text.replace(theirs, ours)
    config = yaml.safe_load(text)
    config["datasets"]["photos"] |= {"size": 12, "train": 200, "validation": 20, "test": None}
    config["datasets"]["photos"] |= {"mean": GREY, "std": SPREAD}
    config["attacks"]["pgd"] |= {"steps": 2}
    config["synaptic_filtering"] |= {"layers": ["conv1"], "thresholds": 3, "global": False}

    write_digits(copy.folder / "photos")
    images, labels = loaded(copy.folder / "photos/train")
    test_images, test_labels = loaded(copy.folder / "photos/test")
    (copy.folder / "weights").mkdir()
    files = config["trainings"]["given"]["weights"]
    for network, file in files.items():
        net = trained(network, images, labels)
        with torch.inference_mode():
            accuracy = (net(test_images).argmax(1) == test_labels).double().mean().item()
        state = net.body.state_dict()
        if file.endswith(".safetensors"):
            save_file(
                {f"body.{name}": tensor for name, tensor in state.items()}, copy.folder / file
            )
        else:
            state = {f"module.{name}": tensor for name, tensor in state.items()}
            torch.save({"state_dict": state, "epoch": 40}, copy.folder / file)
    copy.configure(config)
    assert {job["wildcards"].get("network") for job in copy.announced()} == {*files, None}
    copy.configure(config | {"networks": [network], "trainings": given({network: file})})
    copy.run("--cores", "2")
    (folder / "accuracy").write_text(str(accuracy))


@pytest.fixture
def own(shared, tmp_path) -> Copy:
    return shared("own", run_own).duplicate(tmp_path / "run")


def given(weights: dict[str, str], *, epochs: int = 0) -> dict:
    return {"given": {"weights": weights, "epochs": [epochs]}}


def test_a_given_network_is_as_accurate_as_torch_says(own):
    accuracy = float((own.folder / "accuracy").read_text())
    table = pd.read_csv(own.folder / "results/tables/accuracy.tsv", sep="\t")
    (clean,) = table.loc[table["eps"] == 0, "accuracy"]
    assert clean == pytest.approx(accuracy) and accuracy > 0.5  # trained, so not right by chance
    page = (own.folder / "results/report.html").read_text(encoding="utf-8")
    assert "from given weights of small_resnet, which all seeds share" in page


def test_what_other_weights_and_images_remake(own):
    file = own.folder / "weights/small_resnet.safetensors"
    file.touch()
    assert not own.announced()
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    remade = {job["rule"] for job in own.announced()}
    assert {"train", "attack", "ablate_layer"} < remade and "prepare_data" not in remade
    Image.new("L", (16, 16)).save(own.folder / "photos/train/digit 0/new.bmp")
    assert "prepare_data" in {job["rule"] for job in own.announced()}


def test_training_goes_on_from_given_weights(own):
    file = "weights/small_conv.pth"
    start = {"networks": ["small_conv"], "trainings": given({"small_conv": file}, epochs=1)}
    own.configure(own.config() | start)
    done = "results/photos/small_conv/given/seed-0/epoch-1/checkpoint.pt"
    own.run("--cores", "1", done)
    before = torch.load(own.folder / file, weights_only=True)["state_dict"]["module.fc.weight"]
    after = torch.load(own.folder / done, weights_only=True)["network"]["body.fc.weight"]
    assert 0 < (after - before).abs().max() < 0.02  # a few steps of Adam at lr 0.001


def test_of_several_state_dicts_the_config_names_one(own):
    """The weights of torchvision's training, with its moving average, judged on a folder val/."""
    (own.folder / "photos/test").rename(own.folder / "photos/val")
    file = own.folder / "weights/both.pth"
    last = load_file(own.folder / "weights/small_resnet.safetensors")
    last = {name.removeprefix("body."): tensor for name, tensor in last.items()}
    average = {"n_averaged": torch.tensor(9)} | {f"module.{n}": 2 * t for n, t in last.items()}
    torch.save({"model": last, "model_ema": average}, file)
    done = "results/photos/small_resnet/given/seed-0/epoch-0/checkpoint.pt"

    def configure(weights):
        own.configure(own.config() | {"trainings": given({"small_resnet": weights})})

    configure("weights/both.pth")
    said = own.snakemake("--cores", "1", done)
    assert said.returncode and "weights/both.pth: holds several state dicts, model, model_ema" in (
        said.stdout
    )
    for key, factor in (("model_ema", 2), ("model", 1)):
        configure({"file": "weights/both.pth", "key": key})
        assert "train" in {job["rule"] for job in own.announced(done)}
        own.run("--cores", "1", done)
        state = torch.load(own.folder / done, weights_only=True)["network"]
        assert torch.equal(state["body.fc.weight"], factor * last["fc.weight"])
    data = torch.load(own.folder / "results/photos/data.pt", weights_only=True)
    _, labels = loaded(own.folder / "photos/val")
    assert data["test_labels"].bincount().tolist() == labels.bincount().tolist()
    assert "may have been trained on" not in own.run("-n", "--forceall")
    own.configure(own.config() | {"ablation": {"split": "validation"}})
    config = own.config()
    config["datasets"]["photos"]["validation"] = 200
    own.configure(config)
    assert "Given weights: The validation images of photos are drawn from" in own.run("-n")


def test_trained_weights_are_judged_and_mended_where_there_are_test_images_alone(own):
    """And what would learn says that it cannot."""
    shutil.rmtree(own.folder / "photos/train")
    config = own.config()
    said = own.snakemake("-n").stdout
    assert "there is no folder" in said and "say datasets.photos.train: 0" in said
    config["datasets"]["photos"] |= {"train": 0, "validation": 40, "test": None}
    own.configure(config | {"mending": {"from_epochs": "last"}})
    assert "mending.candidates: harden learns, but data set photos has no training images" in (
        own.snakemake("-n").stdout
    )
    own.configure(config | {"mending": {"from_epochs": "last", "candidates": ["remedy"]}})
    assert "drawn from the training set" not in own.run("--cores", "2")
    _, labels = loaded(own.folder / "photos/test")
    data = torch.load(own.folder / "results/photos/data.pt", weights_only=True)
    counts = {split: len(data[f"{split}_labels"]) for split in ("train", "validation", "test")}
    assert counts == {"train": 0, "validation": 40, "test": len(labels) - 40}
    dealt = torch.cat([data["validation_labels"], data["test_labels"]])
    assert dealt.bincount().tolist() == labels.bincount().tolist()
    table = pd.read_csv(own.folder / "results/tables/mending.tsv", sep="\t")
    assert {*table["policy"]} == {"remedy"} and {*table["n"]} == {len(labels) - 40}
