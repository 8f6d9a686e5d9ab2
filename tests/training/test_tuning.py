"""The search for settings: by itself, and in a run on a few images in the format of CIFAR-10."""

import json
import pickle
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from support import ROOT, Copy, copy_workflow
from trainings import dataset_of, network_of, settings_of, trained

from faultline.attacks.ascent import Ball, fgsm
from faultline.base.errors import UserError
from faultline.data.splits import DataSet
from faultline.training.tuning import applied, candidates, choose, judge, loss_of, search
from faultline.training.unfinished import Unfinished

ATTACK = {"method": "fgsm", "norm": "linf", "eps": 0.1, "eps_grid": [0.0, 0.1]}
ATTACK |= {"normalised_units": False}
GRID = {"adversarial.eps": [0.1, 0.2], "regularisation.gamma": [0.3, 1.0, 3.0]}


def test_candidates_are_every_combination():
    tried = candidates(GRID)
    assert len(tried) == 6 and tried[0] == {"adversarial.eps": 0.1, "regularisation.gamma": 0.3}
    assert len({tuple(candidate.values()) for candidate in tried}) == 6
    assert candidates({}) == [{}]


def test_chosen_settings_are_put_where_they_belong():
    settings = {"lr": 0.1, "adversarial": {"eps": 0.1, "steps": 3}, "regularisation": None}
    chosen = {"lr": 0.2, "adversarial.eps": 0.3, "regularisation.gamma": 1.0}
    found = applied(settings, chosen)
    assert found == {"lr": 0.2, "adversarial": {"eps": 0.3, "steps": 3}, "regularisation": None}
    assert settings["adversarial"]["eps"] == 0.1


def test_loss_is_minus_the_sum_or_the_distance():
    assert loss_of([90, 50], None) == -140
    assert loss_of([90, 50], [80, 55]) == 7.5


def rows(accuracies, error=""):
    """One row per candidate of a grid of lr, and seed."""
    return [
        {"lr": lr, "seed": seed, "error": error, "eps_0": clean, "eps_0.1": attacked}
        for lr, by_seed in accuracies.items()
        for seed, (clean, attacked) in enumerate(by_seed)
    ]


def test_the_best_mean_over_seeds_is_chosen():
    found = {0.1: [(90, 10), (90, 70)], 0.2: [(80, 50), (80, 51)], 0.3: [(70, 99), (20, 0)]}
    table, best = choose(rows(found), {"lr": list(found)})
    assert best == {"lr": 0.2}
    assert list(table["chosen"]) == [False, False, True, True, False, False]
    assert list(table["rg_score"]) == [100, 160, 130, 131, 169, 20]
    assert list(table["loss"]) == [-130, -130, -130.5, -130.5, -94.5, -94.5]
    _, best = choose(rows(found), {"lr": list(found)}, towards=[45, 50])
    assert best == {"lr": 0.3}


def test_the_first_of_equals_is_chosen_alone():
    found = {0.2: [(80, 50)], 0.1: [(80, 50)]}
    table, best = choose(rows(found), {"lr": [0.2, 0.1]})
    assert best == {"lr": 0.2} and list(table["chosen"]) == [True, False]


def test_candidates_that_fail_are_bad_ones_unless_all_do():
    grid = {"lr": [0.1, 9.0]}
    diverged = rows({9.0: [(0, 0)]}, error="the loss is not finite")
    table, best = choose(rows({0.1: [(20, 10)]}) + diverged, grid)
    assert best == {"lr": 0.1} and list(table["error"]) == ["", "the loss is not finite"]
    with pytest.raises(UserError, match="no candidate could be trained: the loss is not finite"):
        choose(diverged, {"lr": [9.0]})


def test_candidates_are_judged_on_validation_images():
    torch.manual_seed(0)
    images = torch.rand(40, 1, 4, 4)
    labels = (images.mean((1, 2, 3)) > 0.5).long()
    nothing = torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.long)
    splits = {"train": nothing, "validation": (images, labels), "test": nothing}
    given = {"bounds": (0.0, 1.0), "levels": None, "mean": (0.0,), "std": (1.0,)}
    dataset = DataSet(name="grey", classes=2, splits=splits, **given)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    clean, attacked = judge(network, dataset, attack=ATTACK, name="fgsm", seed=0)
    pixels = dataset.pixels(images)
    moved = fgsm(network, pixels, labels, ball=Ball(0.1, bounds=(0.0, 1.0)))
    for accuracy, x in ((clean, pixels), (attacked, moved)):
        expected = 100 * (network(x).argmax(1) == labels).float().mean().item()
        assert accuracy == pytest.approx(expected)


def test_a_search_trains_each_candidate_from_each_seed(tmp_path, capsys):
    dataset = dataset_of(validation=30)
    settings = settings_of(adversarial=None, regularisation=None)
    tune = {"grid": {"lr": [0.001, 0.1]}, "seeds": [7, 8], "towards": None}
    asked = []

    def regularised(of_candidate, at):
        asked.append((of_candidate["lr"], of_candidate["weight_decay"], at))

    def searched():
        return search(
            *(dataset, network_of),
            **{"tune": tune, "settings": settings, "epochs": 2, "attack": {"fgsm": ATTACK}},
            **{"taken": {"weight_decay": 0.5}, "regularised": regularised},
            unfinished=Unfinished(tmp_path / "chosen.json", [], files=[]),
        )

    found, best = searched()
    assert asked == [(lr, 0.5, at) for lr in (0.001, 0.1) for at in (0, 1)]
    rows = []
    for lr, seed in product((0.001, 0.1), (7, 8)):
        run = {"settings": settings | {"lr": lr, "weight_decay": 0.5}, "seed": seed}
        network, *_ = trained(range(2), network=network_of(seed), dataset=dataset, **run)
        accuracies = judge(network.eval(), dataset, attack=ATTACK, name="fgsm", seed=seed)
        rows.append([0.5, lr, seed, *accuracies])
    columns = ["weight_decay", "lr", "seed", "eps_0", "eps_0.1"]
    assert found[columns].to_numpy(float).tolist() == rows
    sums = {lr: sum(row[3] + row[4] for row in rows if row[1] == lr) for lr in (0.001, 0.1)}
    assert best == {"weight_decay": 0.5, "lr": max(sums, key=sums.get)}
    assert len({*sums.values()}) == 2
    capsys.readouterr()
    again, _ = searched()  # all that was done is there
    assert "resuming after 4 of 4 trainings" in capsys.readouterr().out and len(asked) == 4
    pd.testing.assert_frame_equal(again, found)


# A run

SEARCH = "results/lsa-cifar10/cifar10/small_resnet"


def tiny(config: dict) -> dict:
    """configs/lsa-cifar10.yaml with a small network, few images and short trainings."""
    config["networks"] = ["small_resnet"]
    config["datasets"] = {"cifar10": {"folder": "data", "validation": 20}}
    config["seeds"] = [0]
    for training in config["trainings"].values():
        training |= {"batch_size": 20, "epochs": [1]}
        training["schedule"]["epochs"] = 2
        training["tune"]["epochs"] = 1
        if "adversarial" in training:
            training["adversarial"]["steps"] = 1
    del config["trainings"]["normal"]["tune"], config["sustainability"]["epochs"]
    regularised = config["trainings"]["at-apgd-lr-l1"]
    regularised["regularisation"] = {"layers": "mvl", "gamma": 0.1, "eta": 0}
    regularised["tune"]["grid"] = {"regularisation.gamma": [0.1, 1.0]}
    config["trainings"]["at-apgd"]["tune"]["grid"] = {"lr": [0.01, 0.03]}
    for attack in config["attacks"].values():
        attack["eps_grid"] = [0, 0.03]
    config["attacks"]["apgd"]["steps"] = 2
    return config


def make_search(folder: Path) -> None:
    """The tiny run of configs/lsa-cifar10.yaml, in a folder."""
    copy = copy_workflow(folder)
    text = (ROOT / "configs/lsa-cifar10.yaml").read_text(encoding="utf-8")
    copy.configure(tiny(yaml.safe_load(text)))
    rng = np.random.default_rng(0)
    (copy.folder / "data").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images = rng.integers(256, size=(20, 3072), dtype=np.uint8)
        content = {"labels": [i % 10 for i in range(20)], "data": images}
        (copy.folder / "data" / name).write_bytes(pickle.dumps(content))
    copy.run("--cores", "2")


@pytest.fixture
def searched(shared, tmp_path) -> Copy:
    return shared("searched", make_search).duplicate(tmp_path / "run")


def table(copy: Copy, name: str) -> pd.DataFrame:
    return pd.read_csv(copy.folder / f"results/lsa-cifar10/tables/{name}.tsv", sep="\t")


def chosen(copy: Copy, training: str) -> dict:
    return json.loads((copy.folder / f"{SEARCH}/{training}/tuning/chosen.json").read_text())


@pytest.mark.slow
def test_a_search_is_made_applied_and_told(searched):
    made = table(searched, "tuning")
    assert set(made["training"]) == {"at-apgd", "at-apgd-lr-l1"} and set(made["seed"]) == {100}
    for training, part in made.groupby("training"):
        best = part[part["chosen"]].iloc[0]
        assert best["loss"] == part["loss"].min()
        assert {key: best[key] for key in chosen(searched, training)} == chosen(searched, training)
    # what another training chose is taken first
    lr = chosen(searched, "at-apgd")["lr"]
    assert chosen(searched, "at-apgd-lr-l1")["lr"] == lr
    logs = searched.folder / "results/lsa-cifar10/logs/cifar10/small_resnet"
    log = (logs / "at-apgd-lr-l1/seed-0/epoch-1/train.log").read_text(encoding="utf-8")
    assert f"'lr': {lr}" in log and "most vulnerable layers" in log
    page = (searched.folder / "results/lsa-cifar10/report.html").read_text(encoding="utf-8")
    assert "Robustness of the trainings" in page and "Chosen settings" in page


@pytest.mark.slow
def test_attacks_that_are_evaluated_together_join_the_tables(searched):
    accuracy, checks = table(searched, "accuracy"), table(searched, "checks")
    assert set(accuracy["attack"]) == {"fgsm", "apgd", "worst case"}
    assert not (searched.folder / f"{SEARCH}/normal/seed-0/epoch-1/attacks").exists()
    assert {"eps_zero_identity", "inside_ball", "fgsm_near_apgd"} <= set(checks["check"])
    robust, changes = table(searched, "robustness"), table(searched, "robustness_differences")
    part = robust[(robust["training"] == "normal") & (robust["attack"] == "apgd")]
    values = dict(zip(part["eps"], part["value"], strict=True))
    assert values["rg_score"] == pytest.approx(values["0"] + values["0.03"])
    assert set(changes["training"]) == {"at-apgd-lr-l1"} and set(changes["base"]) == {"at-apgd"}


@pytest.mark.slow
def test_a_finished_search_is_left_alone(searched):
    assert "Nothing to be done" in searched.run("--cores", "1")


@pytest.mark.slow
def test_another_grid_with_the_same_choice_needs_no_training(searched):
    copy = searched
    config, before = copy.config(), chosen(copy, "at-apgd")
    config["trainings"]["at-apgd"]["tune"]["grid"]["lr"] = [before["lr"]]
    copy.configure(config)
    assert {"tune", "train"} <= {job["rule"] for job in copy.announced()}
    # within one run, Snakemake remakes what follows a remade file; a run of its own compares first
    copy.run("--cores", "2", "--until", "tune")
    assert chosen(copy, "at-apgd") == before
    assert {job["rule"] for job in copy.announced()} == {"tabulate_robustness", "report"}


@pytest.mark.slow
def test_a_killed_search_goes_on_after_its_last_training(searched):
    copy, target = searched, Path(f"{SEARCH}/at-apgd/tuning/chosen.json")
    whole = [
        (copy.folder / target.parent / f).read_bytes() for f in ("chosen.json", "candidates.tsv")
    ]
    for file in ("chosen.json", "candidates.tsv"):
        (copy.folder / target.parent / file).unlink()
    shutil.rmtree(copy.folder / "results/lsa-cifar10/.kept")
    copy.interrupt(str(target))
    copy.run("--unlock")
    copy.run("--cores", "1", str(target))
    log = copy.folder / "results/lsa-cifar10/logs/cifar10/small_resnet/at-apgd/tune.log"
    assert "resuming after 1 of 2 trainings" in log.read_text(encoding="utf-8")
    again = [
        (copy.folder / target.parent / f).read_bytes() for f in ("chosen.json", "candidates.tsv")
    ]
    assert again == whole and not (copy.folder / f"{target}.partial").exists()
