"""One checkpoint retrained: what each policy freezes of it, and what judges it."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from trainings import assert_same_bits, dataset_of, network_of, settings_of, trained

from faultline.ablation.facts import counted
from faultline.attacks.run import correct_under
from faultline.networks.layers import layers as layers_of
from faultline.studies.retraining.frozen import freezable, frozen
from faultline.studies.retraining.retrained import retrain
from faultline.training.checkpoints import checkpoint

SETTINGS = settings_of(adversarial=None, regularisation=None)
PGD = {"method": "pgd", "norm": "linf", "eps": 0.1, "steps": 2, "normalised_units": False}
CHOICE = {"by": "band", "score": "S_adv", "attack": "pgd", "filter": "combined"}
SIZES = {"0": 72, "5": 192}  # weights of the convolution and of the linear layer


@pytest.fixture(scope="module")
def begun():
    dataset = dataset_of(test=23)
    network, optimizer, _ = trained(range(1), settings=SETTINGS, seed=3, dataset=dataset)
    return copy.deepcopy(checkpoint(network, optimizer, epoch=1, seed=3)), dataset


def classes(network):
    """Four bands a layer, of which every other one is fragile by the score that is asked for."""
    rows = []
    for name, layer in layers_of(network).items():
        centres = layer.weight.detach().quantile(torch.tensor([0.125, 0.375, 0.625, 0.875]))
        for score, attack, fragile in (("S_adv", "pgd", 0), ("S_clean", "none", 1)):
            for band, threshold in enumerate(centres.tolist()):
                what = "fragile" if band % 2 == fragile else "robust"
                row = {"layer": name, "band": band, "threshold": threshold, "class": what}
                rows.append(row | {"score": score, "attack": attack})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("policy", ["regular", "selective", "fragile_only", "random-1"])
def test_a_policy_freezes_its_bands_and_test_images_judge(begun, policy):
    state, dataset = begun
    network = network_of()
    network.load_state_dict(state["network"])
    table = None if policy == "regular" else classes(network)
    masks, fragile = {}, {}
    if table is not None:
        parts = freezable(layers_of(network), table, **CHOICE)
        name, _, draw = policy.partition("-")
        masks = frozen(parts, policy=name, seed=3, draw=int(draw or 0))
        fragile = frozen(parts, policy="selective", seed=3)
        assert {name.split(".")[0]: mask.numel() for name, mask in masks.items()} == SIZES
    found = retrain(
        *(network, dataset, copy.deepcopy(state)),
        **{"policy": policy, "classes": table, "choice": CHOICE, "settings": SETTINGS},
        **{"epochs": 2, "attacks": {"pgd": PGD}, "regularised": None},
    )
    start, optimizer, _ = trained(range(1), settings=SETTINGS, seed=3, dataset=dataset)
    run = {"settings": SETTINGS, "seed": 3, "dataset": dataset, "frozen": masks}
    network, _, rows = trained(range(1, 3), network=start, optimizer=optimizer, **run)
    assert_same_bits(dict(found.checkpoint["network"]), dict(network.state_dict()))
    assert (found.checkpoint["epoch"], found.checkpoint["seed"]) == (3, 3)
    pd.testing.assert_frame_equal(found.history, pd.DataFrame(rows))
    correct = correct_under({"pgd": PGD}, network.eval(), dataset, split="test", seed=3)
    assert len(correct["clean"]) == 23 and [*found.correct] == ["clean", "pgd"]
    assert all(np.array_equal(found.correct[name], hits) for name, hits in correct.items())
    both = sum(int((mask & fragile[name]).sum()) for name, mask in masks.items())
    counts = {"frozen": sum(int(m.sum()) for m in masks.values())}
    counts |= {"freezable": sum(SIZES.values()) if masks else 0}
    counts |= {"fragile": sum(int(m.sum()) for m in fragile.values()), "fragile_frozen": both}
    expected = pd.DataFrame(counted(correct)).assign(**counts, masked="")
    pd.testing.assert_frame_equal(found.result, expected)
    if masks:
        assert 0 < counts["frozen"] < 264 and 0 < counts["fragile"] < 264
    assert both == {"selective": counts["fragile"]}.get(policy, both)
    assert (both == 0) == (policy in ("regular", "fragile_only"))
