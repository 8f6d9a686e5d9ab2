"""The layers of a mended network, swept as if it had been the given one."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from trainings import dataset_of, network_of

from faultline.ablation.run import Base
from faultline.attacks.run import crafters
from faultline.data.splits import images_of
from faultline.studies.mending.swept import swept
from faultline.studies.synaptic.checkpoint import score_tables
from faultline.studies.synaptic.classes import classify_units
from faultline.studies.synaptic.sweeps import filtered

FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.1, "normalised_units": False}
PLACE = {"dataset": "d", "network": "n", "training": "t", "seed": "3", "epoch": "7"}
SWEEP = {"count": 3, "random_draws": 2}
SCORES = {"baseline": "random", "integration": "trapezoid", "confidence": 0.95}
TAU = {"S_clean": 0.1, "S_adv": 0.1, "S_diff": 0.1}


@pytest.mark.parametrize("stored", [False, True])
def test_it_is_swept_as_a_network_with_these_weights_would_be(stored):
    dataset, network, other = dataset_of(validation=40), network_of(0).eval(), network_of(1).eval()
    images, labels = images_of(dataset, "validation")
    how = {"recrafted": {} if stored else {"fgsm": FGSM}, "seed": 3, "memory": lambda: 1e9}
    base = Base(network, dataset, {"clean": images}, labels, **how)
    table = swept(
        base,
        copy.deepcopy(other.state_dict()),
        **{"layers": ["0", "5"], "stored": {"fgsm": FGSM} if stored else {}, "place": PLACE},
        **{"filters": ["pulse"], "thresholds": 3, "random_draws": 2},
        **{"scores": SCORES, "tau": TAU},
    )
    expected = replace(base, network=other)
    if stored:
        craft = crafters({"fgsm": FGSM}, dataset, seed=3)["fgsm"]
        crafted = craft(other, images, labels)
        assert not torch.equal(crafted, craft(network_of(0).eval(), images, labels))
        expected = replace(expected, images={"clean": images, "fgsm transfer": crafted})
    facts = {
        layer: filtered(expected, layer, place=PLACE, kinds=["pulse"], **SWEEP)
        for layer in ("0", "5")
    }
    rows = classify_units(score_tables(facts, None, {}, **SCORES)["layers"], "layers", tau=TAU)
    rows = rows[rows["filter"] == "combined"].reset_index(drop=True)
    assert len(rows) == 6  # two layers and three scores
    pd.testing.assert_frame_equal(table[[*rows]].reset_index(drop=True), rows)
    assert {key: {*table[key]} for key in PLACE} == {key: {of} for key, of in PLACE.items()}
