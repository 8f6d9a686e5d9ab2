"""Candidates of a mend: how each trains, what is tried of it, and what validation images choose."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from support import ROOT, fenced
from trainings import dataset_of, network_of, settings_of

from faultline.attacks.run import correct_under
from faultline.base.errors import UserError
from faultline.data.splits import images_of
from faultline.networks.layers import layers
from faultline.studies.fragile.remedy import feature_energy, gains, nodal_fragility, remedied
from faultline.studies.mending.candidates import CANDIDATES, Task, candidate
from faultline.studies.mending.cost import counted
from faultline.studies.mending.library import mend
from faultline.studies.mending.mended import (
    antifragile_filters,
    bought,
    chosen,
    fragile_layers,
    mend_by,
    quick,
)
from faultline.training.finetuning import finetune

ATTACK = {"method": "standard", "norm": "linf", "eps": 0.1, "steps": 2, "queries": 2}
ATTACK |= {"normalised_units": False, "step_size": None}
TRAINING = settings_of(adversarial=None, regularisation=None)
HARDENING = TRAINING | {
    "adversarial": {"eps": 0.1, "norm": "linf", "steps": 2, "step_size": None, "beta": 6}
}
HOW = {"training": TRAINING, "attack": ATTACK, "batch_size": 25, "epochs": 1, "seed": 0}
HOW |= {"rates": [0.001, 0.01], "shares": [0.5, 1.0], "clean_loss": 0.1, "fragile": ["0"]}


@pytest.fixture
def given():
    return network_of().eval()


def trained(network, before):
    """The layers whose weights are other ones."""
    names = layers(network)
    after = network.state_dict()
    return {n for n in names if not torch.equal(after[f"{n}.weight"], before[f"{n}.weight"])}


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        *((name, {"0", "5"}) for name in ("harden", "harden_pgd", "harden_trades")),
        *(("first_layers", {"0"}), ("picked", {"0"}), ("selective", {"5"})),
    ],
)
def test_a_candidate_trains_its_layers(given, name, moved):
    before = copy.deepcopy(given.state_dict())
    candidate(name).mend(Task(given, dataset_of(), HARDENING, epochs=1, seed=0, fragile=["0"]))
    assert trained(given, before) == moved
    assert not torch.equal(given[1].weight, before["1.weight"])  # normalisations always train
    assert all(parameter.isfinite().all() for parameter in given.parameters())


def test_a_parameter_that_layers_share_is_the_first_ones():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3), torch.nn.Conv2d(2, 2, 3))
    network.append(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3)))
    network[1].weight = network[0].weight
    before = copy.deepcopy(network.state_dict())
    task = Task(network, dataset_of(), HARDENING, epochs=1, seed=0, fragile=["1", "a norm"])
    CANDIDATES["selective"].mend(task)
    after = network.state_dict()
    kept = {key for key in after if torch.equal(after[key], before[key])}
    assert kept == {"1.bias"}


def test_every_rate_and_share_is_tried_and_the_best_is_kept(given):
    dataset, before = dataset_of(), copy.deepcopy(given.state_dict())
    path, weights = mend_by("harden", given, dataset, **HOW)
    assert path["share"].tolist() == [0, 0.5, 1, 0.5, 1]
    assert path["rate"].tolist()[1:] == [0.001, 0.001, 0.01, 0.01] and np.isnan(path["rate"][0])
    assert (path["n"] == 20).all() and path["best"].sum() == 1
    # an epoch of 50 images: the noisy step forth and back, the minimised forward and its backward,
    # and the 20 validation images and those of the statistics
    assert path["passes"].tolist() == [0, *[50 * 4 + 20 + 50] * 4]
    inside = path[path["clean"] >= path["clean"][0] - 0.1 - 1e-9].iloc[1:]
    if len(inside):
        assert path.loc[path["best"], "adversarial"].item() == inside["adversarial"].max()
    network = network_of()
    network.load_state_dict(weights)
    of = {"adversarial": quick(ATTACK)}
    correct = correct_under(of, network.eval(), dataset, split="validation", seed=0)
    best = path[path["best"]].iloc[0]
    assert correct["clean"].mean() == best["clean"]
    assert correct["adversarial"].mean() == best["adversarial"]
    assert trained(network, before)


def test_a_rate_that_comes_to_nothing_is_told_and_not_taken(given, tmp_path):
    source = "from faultline import UserError\ndef mine(network, dataset, settings):\n"
    source += "    if settings['lr'] > 0.005:\n        raise UserError('training diverged')\n"
    source += "    network[5].bias.data[0] += 1\n"
    (tmp_path / "my_mends.py").write_text(source)
    path, _ = mend_by(f"{tmp_path}/my_mends.py:mine", given, dataset_of(), **HOW)
    assert path["note"].tolist() == ["", "", "", "training diverged"]
    assert path.loc[path["best"], "rate"].item() == 0.001


def test_the_candidate_of_the_docs_trains_the_last_layer(given, tmp_path):
    page = (ROOT / "docs/own.md").read_text(encoding="utf-8")
    ((_, source),) = [block for block in fenced(page) if "# my_mends.py" in block[1]]
    (tmp_path / "my_mends.py").write_text(source)
    before = copy.deepcopy(given.state_dict())
    path, _ = mend_by(f"{tmp_path}/my_mends.py:last_layer", given, dataset_of(), **HOW)
    assert path["note"].eq("").all() and trained(given, before) <= {"5"}


def test_without_what_it_goes_by_a_candidate_leaves_the_network(given):
    before = copy.deepcopy(given.state_dict())
    path, weights = mend_by("picked", given, dataset_of(), **HOW | {"fragile": []})
    assert path["best"].tolist() == [True, False, False]
    assert path["note"][1] == "no layer is fragile by S_adv, decided on validation images"
    assert all(torch.equal(value, before[key]) for key, value in weights.items())
    task = Task(given, dataset_of(), TRAINING, epochs=1, seed=0)
    with pytest.raises(UserError, match="have no classes"):
        CANDIDATES["picked"].mend(task)


def test_in_one_call_the_given_network_stays_as_it_is(given):
    before = copy.deepcopy(given.state_dict())
    how = {"epochs": 1, "rates": [0.01], "shares": [1], "batch_size": 25}
    attack = {"method": "pgd", "eps": 0.1, "steps": 2}
    outcome = mend(given, dataset_of(), attack=attack, candidates=["harden"], **how)
    assert outcome.result["candidate"][0] == "given" and "Sequential" in outcome.note
    assert all(torch.equal(value, before[key]) for key, value in given.state_dict().items())
    with pytest.raises(UserError, match="did you mean 'harden'"):
        mend(given, dataset_of(), attack=attack, candidates=["harde"])
    with pytest.raises(UserError, match="eps"):
        mend(given, dataset_of(), attack={"method": "pgd"})
    with pytest.raises(UserError, match="fragile"):
        mend(given, dataset_of(), attack=attack, fragile=["6"])


def test_quick_is_the_first_part_of_the_judge_and_other_attacks_as_they_are():
    assert quick(ATTACK | {"steps": 50}) == ATTACK | {"method": "apgd", "steps": 20}
    pgd = {"method": "pgd", "eps": 0.1, "steps": 30}
    assert quick(pgd) == pgd


def test_passes_are_counted_forth_and_back(given):
    images = torch.rand(4, 2, 6, 6)
    with counted(given) as passes:
        with torch.no_grad():
            given(images)
        given(images[:3]).sum().backward()
    given(images)
    assert passes.count == 4 + 3 + 3


def path_of(*rows, best):
    table = pd.DataFrame(rows, columns=["share", "clean", "adversarial"])
    return table.assign(best=[index == best for index in range(len(table))])


PATHS = {
    "a": path_of((0, 0.9, 0.4), (0.5, 0.87, 0.6), (1, 0.8, 0.8), best=1),
    "b": path_of((0, 0.9, 0.4), (1, 0.895, 0.5), best=1),
}


def test_the_highest_within_the_budget_is_chosen():
    assert chosen(PATHS, clean_loss=0.05) == "a"
    assert chosen({"b": PATHS["b"]}, clean_loss=0.005) == "b"
    assert chosen(PATHS, clean_loss=0.001) is None
    worse = path_of((0, 0.9, 0.4), (1, 0.9, 0.4), best=1)
    assert chosen({"worse": worse}, clean_loss=0.5) is None


def test_what_a_budget_buys():
    table = bought(PATHS, (0.001, 0.01, 0.05, 0.1))
    assert table["candidate"].tolist() == ["", "b", "a", "a"]
    assert table["adversarial"].tolist() == [0.4, 0.5, 0.6, 0.8]
    assert table["share"].tolist() == [0, 1, 0.5, 1]


def test_antifragile_filters_are_those_decided():
    rows = [
        ("a", 0, "S_adv", "fgsm", "antifragile", True),
        ("a", 1, "S_adv", "fgsm", "antifragile", False),
        ("a", 2, "S_clean", "none", "antifragile", True),
        ("b", 3, "S_adv", "pgd", "antifragile", True),
        ("b", 4, "S_adv", "fgsm", "robust", True),
        ("c", 5, "S_adv", "fgsm", "antifragile", True),
        ("a", 6, "S_adv", "fgsm", "antifragile", True),
    ]
    table = pd.DataFrame(rows, columns=["layer", "filter", "score", "attack", "class", "decided"])
    assert antifragile_filters(table, attack="fgsm") == {"a": [0, 6], "c": [5]}
    assert antifragile_filters(pd.DataFrame(columns=["layer"]), attack="fgsm") == {}


def test_antifragile_filters_are_removed(given):
    before = copy.deepcopy(given.state_dict())
    how = HOW | {"antifragile": {"0": [1]}, "shares": [0.5, 1]}
    path, weights = mend_by("remove", given, dataset_of(), **how)
    assert path["share"].tolist() == [0, 0.5, 1] and path["rate"].isna().all()  # no rate, once
    assert path["passes"].eq(0).all()
    share = path.loc[path["best"], "share"].item()
    assert torch.allclose(weights["0.weight"][1], (1 - share) * before["0.weight"][1])
    assert torch.allclose(weights["0.bias"][1], (1 - share) * before["0.bias"][1])
    others = torch.arange(len(before["0.weight"])) != 1
    assert torch.equal(weights["0.weight"][others], before["0.weight"][others])
    path, _ = mend_by("remove", given, dataset_of(), **HOW | {"antifragile": {}})
    assert "no filter is antifragile" in path["note"][1] and path["best"].tolist() == [True, False]


def test_the_remedy_of_the_first_layer(given):
    dataset, before = dataset_of(), copy.deepcopy(given)
    candidate("remedy").mend(Task(given, dataset, HARDENING, epochs=1, seed=0))
    images, labels = images_of(dataset, "validation")
    lost = nodal_fragility(before, "0", images, labels, at="weights")
    energy = feature_energy(before, ["0"], dataset.splits["train"][0], pixels=dataset.pixels)
    expected = remedied(before, {"0": gains(lost, energy["0"], strength=1.0)})
    state = given.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in expected.state_dict().items())
    assert not torch.equal(state["1.weight"], before[1].weight)  # of the normalisation behind it


def test_the_most_vulnerable_layers_are_regularised(given, capsys):
    before = copy.deepcopy(given.state_dict())
    dataset = dataset_of()
    candidate("regularised").mend(Task(given, dataset, HARDENING, epochs=1, seed=0))
    assert trained(given, before) == {"0", "5"}
    said = capsys.readouterr().out
    listed = said.partition("regularised: ")[2].splitlines()[0].split(", ")
    other = network_of().eval()
    settings = HARDENING | {"recipe": "at-nfgsm-lr", "regularisation": {"at": "layer"}}
    how = {"epochs": 1, "seed": 0, "regularised": dict.fromkeys(listed, 0.1)}
    finetune(other, dataset, settings=settings, **how)
    for key, value in other.state_dict().items():
        assert torch.equal(value, given.state_dict()[key]), key


def test_fragile_layers_are_those_decided():
    rows = [
        ("a", "local", "combined", "S_adv", "fgsm", "fragile", True),
        ("b", "local", "combined", "S_adv", "fgsm", "fragile", False),
        ("c", "local", "combined", "S_adv", "fgsm", "robust", True),
        ("d", "local", "pulse", "S_adv", "fgsm", "fragile", True),
        ("e", "local", "combined", "S_clean", "none", "fragile", True),
        ("f", "local", "combined", "S_adv", "pgd", "fragile", True),
        ("all layers", "global", "combined", "S_adv", "fgsm", "fragile", True),
    ]
    columns = ["layer", "scope", "filter", "score", "attack", "class", "decided"]
    assert fragile_layers(pd.DataFrame(rows, columns=columns), attack="fgsm") == ["a"]
