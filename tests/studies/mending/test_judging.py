"""A mend judged beside the network that was given, and what is handed back."""

import copy

import numpy as np
import pandas as pd
import torch
from trainings import dataset_of, network_of

from faultline.attacks.run import correct_under, crafters
from faultline.data.splits import images_of
from faultline.data.splits import test_images as images_of_test
from faultline.networks.architectures import Network, Normalise
from faultline.networks.evaluation import predict, predicted
from faultline.networks.weights import dtype_of
from faultline.studies.mending.judging import (
    Judgement,
    judge_all,
    judge_mends,
    ramp,
    verdict_on,
)

PGD = {"method": "pgd", "norm": "linf", "eps": 0.1, "steps": 3, "normalised_units": False}
PGD |= {"step_size": None}


def states(count):
    return {f"net{seed}": copy.deepcopy(network_of(seed).state_dict()) for seed in range(count)}


def test_the_worst_case_is_over_all_images_that_were_crafted():
    dataset, network = dataset_of(test=40), network_of().eval()
    several = states(3)
    judgement = judge_all(network, several, dataset, attacks={"pgd": PGD}, seed=0)
    images, labels = images_of_test(dataset)
    craft = crafters({"pgd": PGD}, dataset, seed=0, until_fooled=True)["pgd"]
    crafted = {}
    for name, state in several.items():
        network.load_state_dict(state)
        crafted[name] = craft(network, images, labels)
        own = correct_under({"pgd": PGD}, network, dataset, split="test", seed=0)
        for sets, hits in own.items():
            assert np.array_equal(judgement.correct[name][sets], hits)
    for name, state in several.items():
        network.load_state_dict(state)
        right = predicted(predict(network, images)) == labels
        for moved in crafted.values():
            right &= predicted(predict(network, moved)) == labels
        assert np.array_equal(judgement.correct[name]["worst case"], right.numpy())
    assert [*judgement.masked.values()] == [""] * 3


def judged(gained, lost, clean_lost, n=100, masked=""):
    """A mend that stands on `gained` images more and `lost` fewer under attack."""
    worst, clean = np.zeros(n, bool), np.ones(n, bool)
    worst[:20] = True
    mended = worst.copy()
    mended[:lost], mended[20 : 20 + gained] = False, True
    fewer = clean.copy()
    fewer[:clean_lost] = False
    correct = {
        "given": {"clean": clean, "worst case": worst},
        "harden": {"clean": fewer, "worst case": mended},
    }
    return Judgement(correct, {"given": "", "harden": masked})


def test_what_test_images_bear_out_is_handed_back():
    limits = {"clean_loss": 0.05, "confidence": 0.95}
    verdict = verdict_on("harden", judged(30, 0, 3), **limits)
    assert verdict.handed_back and verdict.why == ""
    assert verdict.worst[0] == 0.3 and np.isclose(verdict.clean[0], -0.03)
    assert verdict.worst[1] > 0 > verdict.clean[1]
    assert "No gain" in verdict_on("harden", judged(3, 2, 0), **limits).why
    # a loss beyond the budget that is told refuses it; one that may be chance does not
    assert verdict_on("harden", judged(30, 0, 8), **limits).handed_back
    assert "clean_loss" in verdict_on("harden", judged(30, 0, 20), **limits).why
    refused = verdict_on("harden", judged(30, 0, 0, masked="false_gradients: ..."), **limits)
    assert not refused.handed_back and refused.why.startswith("false_gradients")


def path_of(*, gain, best=1):
    rows = [(0.0, 0.4, 0.2, 0, ""), (1.0, 0.4, 0.2 + gain, 100, "")]
    table = pd.DataFrame(rows, columns=["share", "clean", "adversarial", "passes", "note"])
    return table.assign(rate=[np.nan, 0.01], n=20, best=[i == best for i in range(2)])


def mend(*, gain=0.5, best=1, rounded=None, **more):
    """The mend says one class, the most frequent, of nearly all that it is shown."""
    dataset = dataset_of(test=200)
    body = network_of().eval()
    network = Network(Normalise(0.5, 0.3, shape=(2, 6, 6)), body).eval()
    mended = copy.deepcopy(network.state_dict())
    most = images_of_test(dataset)[1].bincount().argmax()
    mended["body.5.weight"].mul_(0.01)
    mended["body.5.bias"].zero_()[most] = 1.0
    outcome = judge_mends(
        *(network, dataset),
        **{
            "states": {"harden": rounded or mended},
            "paths": {"harden": path_of(gain=gain, best=best)},
        },
        **{"abouts": {"harden": "all weights"}, "attacks": {"pgd": PGD}, "clean_loss": 0.3},
        **{"confidence": 0.95, "name": "tiny", "seed": 0, **more},
    )
    return outcome, mended


def test_where_a_network_is_at_chance_weaker_attacks_are_looked_at():
    dataset, network = dataset_of(validation=60), network_of().eval()
    images, labels = images_of(dataset, "validation")
    chance = labels.bincount().max().item() / 60

    def accuracy(eps):
        of = {"pgd": PGD | {"eps": eps}}
        return correct_under(of, network, dataset, split="validation", seed=0)["pgd"].mean()

    with torch.no_grad():  # right on more than chance without an attack
        network[5].weight.zero_()
        network[5].bias.zero_()[labels.bincount().argmax()] = 1.0
    assert ramp(network, dataset, attacks={"pgd": PGD | {"eps": 0.1}}, seed=0) == {}  # for ever
    trained = network_of()
    optimizer = torch.optim.Adam(trained.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(trained(images), labels).backward()
        optimizer.step()
    network = trained.eval()
    eps = 0.001
    while accuracy(eps) > chance:
        eps *= 2
    assert accuracy(eps / 2) > chance >= accuracy(eps)
    attack = PGD | {"eps": 2 * eps}
    expected = {f"pgd at {eps / 2:g}": attack | {"eps": eps / 2}}
    assert accuracy(2 * eps) <= chance
    assert ramp(network, dataset, attacks={"pgd": attack, "other": PGD}, seed=0) == expected
    assert ramp(network, dataset, attacks={"pgd": PGD | {"eps": eps / 2}}, seed=0) == {}
    assert ramp(network, dataset, attacks={"pgd": PGD | {"eps": 64 * eps}}, seed=0) == {}


def test_weights_are_handed_back_as_the_networks_own_class_names_them():
    outcome, mended = mend()
    own = network_of()
    own.load_state_dict(outcome.weights)  # strictly
    assert torch.equal(own[5].bias, mended["body.5.bias"])
    assert outcome.result["candidate"].tolist() == ["given", "harden"]
    assert outcome.result["handed_back"].tolist() == [False, True]
    assert "mended by harden" in outcome.note and "n = 200" not in outcome.note
    assert "mean [0.5, 0.5] and std [0.3, 0.3]" in outcome.note
    assert {*outcome.correct} == {
        f"{network}|{images}"
        for network in ("given", "harden")
        for images in ("clean", "pgd", "worst case")
    }


def test_weights_are_handed_back_in_the_type_that_was_given_and_judged_so():
    half, own = torch.bfloat16, network_of()
    outcome, mended = mend(dtype=half)
    assert {v.dtype for v in outcome.weights.values() if v.is_floating_point()} == {half}
    own.load_state_dict(outcome.weights)
    rounded = {name: value.to(half).float() for name, value in mended.items()}
    again, _ = mend(rounded=rounded)
    for images, hits in again.correct.items():
        assert np.array_equal(outcome.correct[images], hits)
    state = {"a": torch.ones(2, dtype=half), "n": torch.tensor(3)}
    assert dtype_of([state]) == half and dtype_of([]) is None
    assert dtype_of([state, {"b": torch.ones(2)}]) is None


def test_nothing_is_handed_back_where_nothing_gains():
    outcome, _ = mend(gain=-0.1)
    assert outcome.weights is None and "is not mended" in outcome.note
    assert not outcome.result["chosen"].any()
    dropped, _ = mend(best=0)
    assert dropped.result["candidate"].tolist() == ["given"] and dropped.weights is None
