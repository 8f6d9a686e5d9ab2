"""The remedy of one checkpoint: which images say what, which choose, and which judge."""

import numpy as np
import pandas as pd
import pytest
import torch
from trainings import dataset_of, settings_of, trained

from faultline.ablation.facts import counted
from faultline.attacks.run import correct_under
from faultline.data.splits import images_of
from faultline.networks.evaluation import predict
from faultline.studies.fragile.mending import choose_gains, mend
from faultline.studies.fragile.remedy import feature_energy, gains, remedied, table_gains

FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.05, "normalised_units": False}
STRENGTHS, POLICIES = [0.3, 0.9], ["fragile", "random-1"]
UNDER = {"attacks": {"f": FGSM}, "seed": 3}


@pytest.fixture(scope="module")
def chosen():
    """(network, data, gains, strengths) of the one convolution, behind which is a BatchNorm."""
    dataset = dataset_of(validation=31, test=23)
    settings = settings_of(adversarial=None, regularisation=None, lr=0.1)
    network, *_ = trained(range(3), settings=settings, dataset=dataset)
    network.eval()
    tables = choose_gains(
        *(network, dataset),
        **{"layers": ["0"], "policies": POLICIES, "strengths": STRENGTHS, "at": "activation"},
        **UNDER,
        memory=lambda: 1e9,
    )
    return network, dataset, *tables


def test_fragility_is_of_validation_images_and_energy_of_training_images(chosen):
    network, dataset, table, _ = chosen
    images, labels = images_of(dataset, "validation")
    right, lost = (predict(network, images).argmax(1) == labels).numpy(), []
    for index in range(4):  # silent behind its ReLU
        hook = network[2].register_forward_hook(
            lambda _, __, out, index=index: out.index_fill(1, torch.tensor([index]), 0.0)
        )
        lost.append(right.mean() - (predict(network, images).argmax(1) == labels).numpy().mean())
        hook.remove()
    energy = feature_energy(network, ["0"], dataset.splits["train"][0], pixels=dataset.pixels)
    assert len({*lost}) > 1 and {*table["n"]} == {31}
    for _, part in table.groupby("policy"):
        assert part["fragility"].tolist() == pytest.approx(lost)
        assert part["energy"].tolist() == energy["0"].tolist()


def test_each_policy_has_its_own_strength_by_validation_images(chosen):
    network, dataset, table, tried = chosen
    accuracy = tried.set_index(["policy", "strength", "images"])["accuracy"]
    assert [*dict.fromkeys(tried["strength"])] == [0.0, *STRENGTHS]
    filters = table[table["policy"] == "fragile"]
    for policy in POLICIES:
        mean = {}
        for strength in STRENGTHS:
            gain = table_gains(filters, policy=policy, strength=strength, seed=3)
            mended = remedied(network, gain)
            hits = correct_under(UNDER["attacks"], mended, dataset, split="validation", seed=3)
            assert [*hits] == ["clean", "f"]
            for name, right in hits.items():
                assert accuracy[policy, strength, name] == right.mean()
            mean[strength] = np.mean([right.mean() for right in hits.values()])
        best = max(STRENGTHS, key=lambda strength: (round(mean[strength], 12), -strength))
        rows = tried[tried["policy"] == policy]
        assert {*rows.loc[rows["chosen"], "strength"]} == {best}
        (gain,) = table_gains(filters, policy=policy, strength=best, seed=3).values()
        part = table[table["policy"] == policy]
        assert {*part["strength"]} == {best} and part["gain"].tolist() == gain.tolist()
    one, other = (table.loc[table["policy"] == policy, "gain"].tolist() for policy in POLICIES)
    assert one != other and filters["gain"].tolist() == one
    d, energy = (torch.tensor(filters[key].to_numpy()) for key in ("fragility", "energy"))
    assert one == gains(d, energy, strength=filters["strength"].iloc[0]).tolist()


@pytest.mark.parametrize("policy", ["none", *POLICIES])
def test_test_images_judge_what_is_mended(chosen, policy):
    network, dataset, table, _ = chosen
    part = table[table["policy"] == policy]
    gain = {"0": torch.tensor(part["gain"].to_numpy())} if len(part) else {}
    expected = remedied(network, gain)
    found = mend(network, dataset, table, policy=policy, **UNDER)
    assert all(map(torch.equal, found.network.parameters(), expected.parameters()))
    correct = correct_under(UNDER["attacks"], expected, dataset, split="test", seed=3)
    assert len(correct["f"]) == 23 and [*found.correct] == ["clean", "f"]
    assert all(np.array_equal(found.correct[name], hits) for name, hits in correct.items())
    strength = part["strength"].iloc[0] if len(part) else 0.0
    result = pd.DataFrame(counted(correct)).assign(strength=strength)
    pd.testing.assert_frame_equal(found.result, result)
