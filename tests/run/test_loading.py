from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from support import error_of

from faultline.ablation.choosing import choose, expected_changes, margins
from faultline.ablation.run import chosen_images
from faultline.ablation.variants import nodal_variants, synaptic_variants
from faultline.attacks.run import crafters
from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.files import load_tensors, save_arrays, save_tensors
from faultline.base.seeds import seed_of
from faultline.data.splits import images_of, prepare, test_images
from faultline.networks.evaluation import predict
from faultline.run.loading import (
    build_network,
    chosen_settings,
    load_dataset,
    load_network,
    opened_base,
    starting_network,
)
from faultline.studies.stresses.judged import stress_set
from faultline.training.checkpoints import checkpoint
from faultline.training.epochs import make_optimizer

test_images.__test__ = False  # a function of the library, not a test
CPU = torch.device("cpu")
FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.1, "normalised_units": False}


PLACE = {"dataset": "d", "network": "small_conv", "training": "t", "seed": "4", "epoch": "0"}


class Wildcards(dict):
    """Of a job: by attribute or by key."""

    __getattr__ = dict.__getitem__


@pytest.fixture
def stored(tmp_path):
    """Digits and an untrained network as the workflow stores them."""
    dataset = prepare("digits", train=50, validation=10, test=60, split_seed=0)
    save_tensors(dataset.to_tensors(), tmp_path / "data.pt")
    network = build_network("small_conv", dataset, seed=4, device=CPU)
    settings = {"optimizer": "adam", "lr": 0.1, "weight_decay": 0}
    state = checkpoint(network, make_optimizer(network, settings), epoch=0, seed=4)
    save_tensors(state, tmp_path / "checkpoint.pt")
    return tmp_path, dataset, network


def test_data_and_network_and_back(stored):
    folder, dataset, network = stored
    again = load_dataset(folder / "data.pt", CPU)
    images, labels = test_images(again)
    assert images.shape == (60, 1, 8, 8)
    assert images.max() <= 1
    assert torch.equal(labels, dataset.splits["test"][1])
    loaded, state = load_network(folder / "checkpoint.pt", "small_conv", again, device=CPU)
    assert torch.equal(predict(loaded, images), predict(network, images))
    assert not loaded.training
    assert state["seed"] == 4
    with pytest.raises(UserError, match="does not fit its network"):
        load_network(folder / "checkpoint.pt", "small_resnet", again, device=CPU)


OWN = """import torch
def mine(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[1] * shape[2], classes))
"""


def test_a_file_of_a_run_is_opened_by_its_path(stored, tmp_path, monkeypatch):
    folder, dataset, network = stored
    epoch = folder / "results/digits/small_conv/standard/seed-4/epoch-0"
    epoch.mkdir(parents=True)
    (folder / "data.pt").rename(folder / "results/digits/data.pt")
    (folder / "checkpoint.pt").rename(epoch / "checkpoint.pt")
    images, _ = test_images(dataset)
    loaded, state = load_network(epoch / "checkpoint.pt")
    assert torch.equal(predict(loaded, images), predict(network, images)) and state["seed"] == 4
    # a mend of a network of the user's own
    monkeypatch.setattr(plugins, "NETWORKS", {})
    (tmp_path / "my_networks.py").write_text(OWN)
    function = {"function": f"{tmp_path}/my_networks.py:mine", "normalise": False}
    config = folder / "results/config.resolved.yaml"
    config.write_text(yaml.safe_dump({"own_networks": {"mine": function}}))
    mend = folder / "results/digits/mine/standard/seed-4/epoch-0/mended/harden"
    mend.mkdir(parents=True)
    plugins.NETWORKS["mine"] = function
    own = build_network("mine", dataset, seed=4, device=CPU)
    plugins.NETWORKS.clear()
    save_tensors({"network": own.state_dict(), "seed": 4, "epoch": 0}, mend / "network.pt")
    loaded, _ = load_network(mend / "network.pt")
    assert torch.equal(predict(loaded, images), predict(own, images))
    save_tensors({"network": own.state_dict(), "seed": 4}, tmp_path / "elsewhere.pt")
    with pytest.raises(UserError, match="in the results of no run"):
        load_network(tmp_path / "elsewhere.pt")


def test_seeds_and_names_give_different_networks(stored):
    _, dataset, _ = stored
    weights = [
        build_network("small_conv", dataset, seed=seed, device=CPU).body.fc.weight
        for seed in (0, 1, 0)
    ]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(("name", "last"), [("small_conv", True), ("resnet18", False)])
def test_narrow_convolutions_are_laid_out_for_the_cpu(stored, name, last):
    _, dataset, _ = stored
    network = build_network(name, dataset, seed=0, device=CPU)
    weights = [w for w in network.parameters() if w.dim() == 4 and min(w.shape) > 1]
    assert {w.is_contiguous(memory_format=torch.channels_last) for w in weights} == {last}


def test_networks_of_the_users_own_keep_their_layout(stored, tmp_path, monkeypatch):
    """Their forward may use what holds of the usual one alone, such as view."""
    _, dataset, _ = stored
    text = (
        "from torch import nn\n"
        "class Seen(nn.Module):\n"
        "    def __init__(self, shape, classes):\n"
        "        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(1, 3, 3), nn.Linear(108, classes)\n"
        "    def forward(self, x):\n"
        "        return self.fc(self.conv(x).view(len(x), -1))\n"
    )
    (tmp_path / "torchvision_like.py").write_text(text, encoding="utf-8")
    settings = {"function": f"{tmp_path}/torchvision_like.py:Seen", "normalise": True}
    monkeypatch.setitem(plugins.NETWORKS, "seen", settings)
    network = build_network("seen", dataset, seed=0, device=CPU)
    assert network(test_images(dataset)[0]).shape == (60, 10)


def test_a_training_starts_freshly_or_with_weights(stored, capsys):
    folder, dataset, _ = stored
    other = build_network("small_conv", dataset, seed=8, device=CPU)
    torch.save({"mine": other.state_dict()}, folder / "weights.pt")
    job = job_of(folder)
    job.input.weights, job.params.weights_key = [], "mine"
    how = {"seed": 5, "device": CPU}
    fresh, expected = (
        starting_network(job, dataset, **how),
        build_network("small_conv", dataset, **how),
    )
    assert torch.equal(fresh.body.fc.weight, expected.body.fc.weight)
    job.input.weights = [str(folder / "weights.pt")]
    assert torch.equal(starting_network(job, dataset, **how).body.fc.weight, other.body.fc.weight)
    said = capsys.readouterr().out
    assert f"starting from the weights in {folder}/weights.pt, under mine" in said
    assert "bounds" not in said
    (folder / "weights.bounds.json").write_text("{}", encoding="utf-8")
    starting_network(job, dataset, **how)
    assert f"warning: {folder}/weights.bounds.json: the bounds" in capsys.readouterr().out


def test_what_a_search_chose(tmp_path):
    (tmp_path / "chosen.json").write_text('{"lr": 0.5}', encoding="utf-8")
    assert chosen_settings([tmp_path / "chosen.json"]) == {"lr": 0.5} and chosen_settings([]) == {}


def job_of(folder, *, adversarial=(), recraft=True, images=None, split="test", chosen=(), fog=()):
    """adversarial: files of FGSM's images to judge on, beside re-crafted ones or instead; fog: a
    file of images under that stress."""
    sets = {
        "images": images,
        "split": split,
        "transferred": ["fgsm"] * len(adversarial),
        "stressed": {"fog": 3} if fog else {},
        "recrafted": {"fgsm": FGSM} if recraft else {},
    }
    given = {"data": folder / "data.pt", "checkpoint": folder / "checkpoint.pt"}
    return SimpleNamespace(
        input=SimpleNamespace(**given, adversarial=[*adversarial, *fog], chosen=list(chosen)),
        wildcards=Wildcards(PLACE),
        threads=1,
        resources=SimpleNamespace(mem_mb=2000, gpu=0),
        params=SimpleNamespace(sets=sets, device="cpu"),
    )


def test_stored_and_recrafted_attacks(stored):
    folder, dataset, network = stored
    images, labels = test_images(dataset)
    craft = crafters({"fgsm": FGSM}, dataset, seed=4)["fgsm"]
    adversarial = craft(network, images, labels)
    save_tensors({"images": adversarial}, folder / "fgsm.pt")

    def make(layers):
        return synaptic_variants(layers, kinds=["high_pass"], count=3)

    given, files = {"layers": ["conv2"], "make": make}, [folder / "fgsm.pt"]
    reused = opened_base(job_of(folder, adversarial=files, recraft=False)).sweep(**given)
    recrafted = opened_base(job_of(folder)).sweep(**given)
    both = opened_base(job_of(folder, adversarial=files)).sweep(**given)
    expected = (predict(network, adversarial).argmax(1) == labels).numpy()
    assert [*reused.base] == ["clean", "fgsm transfer"] and [*recrafted.base] == ["clean", "fgsm"]
    assert [*both.base] == ["clean", "fgsm transfer", "fgsm"]
    for facts in (reused, recrafted):
        for name, base in facts.base.items():
            assert np.array_equal(both.base[name], base)
            assert np.array_equal(both.correct[name], facts.correct[name])
            assert np.array_equal(both.changed[name], facts.changed[name])
            if name != "clean":
                assert np.array_equal(base, expected) and facts.correct[name].shape == (3, 60)
    assert not np.array_equal(both.correct["fgsm"], both.correct["fgsm transfer"])
    # high_pass at the largest weight removes the whole layer: nothing left to attack
    last = both.correct
    assert np.array_equal(last["fgsm"][-1], last["clean"][-1])
    save_tensors({"images": adversarial[:25]}, folder / "fgsm.pt")  # as few as are asked for
    fewer = opened_base(job_of(folder, adversarial=files, images=25)).sweep(**given)
    for name in both.base:
        assert np.array_equal(fewer.base[name], both.base[name][:25])
        assert np.array_equal(fewer.correct[name], both.correct[name][:, :25])


def test_ablated_networks_are_judged_under_stresses_that_are_stored(stored):
    folder, dataset, network = stored
    stress, (images, labels) = (
        {"kind": "fog", "severities": [1, 3], "options": {}},
        test_images(dataset),
    )
    save_tensors(stress_set(dataset, "fog", stress)[0], folder / "fog.pt")
    save_tensors({"images": images}, folder / "fgsm.pt")

    def make(layers):
        return nodal_variants("conv2", layers["conv2"], filters=range(3), at="weights")

    given = {"adversarial": [folder / "fgsm.pt"], "fog": [folder / "fog.pt"]}
    facts = opened_base(job_of(folder, **given)).sweep(layers=["conv2"], make=make)
    assert [*facts.base] == ["clean", "fgsm transfer", "fog", "fgsm"]
    foggy = dataset.pixels(
        load_tensors(folder / "fog.pt", "a stress", keys=("3",), device=CPU)["3"]
    )
    assert np.array_equal(facts.base["fog"], (predict(network, foggy).argmax(1) == labels).numpy())
    with torch.no_grad():
        network.body.conv2.weight[1] = 0
    expected = (predict(network, foggy).argmax(1) == labels).numpy()
    assert np.array_equal(facts.correct["fog"][1], expected)
    fewer = opened_base(job_of(folder, **given, images=20)).images["fog"]
    assert torch.equal(fewer, foggy[:20])


def test_images_chosen_by_margin(stored):
    folder, dataset, network = stored
    images, labels = test_images(dataset)
    craft = crafters({"fgsm": FGSM}, dataset, seed=4)["fgsm"]
    save_tensors({"images": craft(network, images, labels)}, folder / "fgsm.pt")
    given = {"adversarial": [folder / "fgsm.pt"], "images": 40}
    found = chosen_images(opened_base(job_of(folder, **given), whole=True), 40, place=PLACE)
    index = found["index"]
    assert len(index) == 40 and found["sizes"].sum() == 60
    assert found["chance"] == labels.bincount().max().item() / 60
    again = chosen_images(opened_base(job_of(folder, **given), whole=True), 40, place=PLACE)
    assert all(np.array_equal(again[key], found[key]) for key in found)
    save_arrays(found, folder / "chosen.npz")

    def make(layers):
        return synaptic_variants(layers, kinds=["high_pass"], count=3)

    sweep = {"layers": ["conv2"], "make": make}
    every = opened_base(job_of(folder, adversarial=given["adversarial"])).sweep(**sweep)
    some = opened_base(job_of(folder, **given, chosen=[folder / "chosen.npz"])).sweep(**sweep)
    assert [*some.base] == ["clean", "fgsm transfer", "fgsm"] and some.chance == every.chance
    for name in every.base:  # FGSM draws nothing, so the same facts
        assert np.array_equal(some.base[name], every.base[name][index])
        assert np.array_equal(some.correct[name], every.correct[name][:, index])
    assert some.strata.total == 60 and every.strata is None
    other = chosen_images(opened_base(job_of(folder, **given), whole=True), 40, place={"seed": 5})
    assert not np.array_equal(other["index"], index)
    margin = {"clean": margins(predict(network, images), labels)}
    stored_images = craft(network, images, labels)
    margin["fgsm transfer"] = margins(predict(network, stored_images), labels)
    seed = seed_of("judging images", "d", "small_conv", "t", 4, 0)
    expected, _ = choose(expected_changes(margin), 40, seed=seed)
    assert np.array_equal(index, expected)


def test_validation_images_judge_if_there_are_enough(stored):
    folder, _, network = stored

    def make(layers):
        return synaptic_variants(layers, kinds=["pulse"], count=2)

    given = {"layers": ["conv2"], "make": make}
    message = error_of(opened_base, job_of(folder, split="validation"))
    assert "datasets.digits.validation: 10 images are too few" in message and "200" in message
    dataset = prepare("digits", train=50, validation=210, test=60, split_seed=0)
    save_tensors(dataset.to_tensors(), folder / "data.pt")
    facts = opened_base(job_of(folder, split="validation", images=205)).sweep(**given)
    images, labels = images_of(dataset, "validation", 205)
    expected = (predict(network, images).argmax(1) == labels).numpy()
    assert np.array_equal(facts.base["clean"], expected)
    message = error_of(opened_base, job_of(folder, split="validation", images=250))
    assert "210 images, but ablation.images asks for 250" in message


def test_all_layers_and_active_filters(stored):
    folder, *_ = stored
    seen = []

    def all_layers(layers):
        seen.append(list(layers))
        return synaptic_variants(layers, kinds=["pulse"], count=2, together=True)

    opened_base(job_of(folder)).sweep(layers=None, make=all_layers)
    assert seen == [["conv1", "conv2", "conv3", "fc"]]
    facts = opened_base(job_of(folder)).sweep(
        layers=["conv1"],
        make=lambda layers: list(
            nodal_variants("conv1", layers["conv1"], filters=[2, 5], at="weights")
        ),
        active_at="weights",
    )
    # no filter of the first layer is silent on a whole image
    assert facts.variants["filter"].tolist() == [2, 5]
    assert facts.variants["changed_activations"].tolist() == [60, 60]
