"""The sweeps that scores come from: which variants they have, and what draws them."""

import numpy as np
import pytest
import torch
from trainings import dataset_of, network_of

from faultline.ablation.run import Base
from faultline.ablation.sweep import sweep
from faultline.ablation.variants import nodal_variants, random_variants, synaptic_variants
from faultline.base.seeds import seed_of
from faultline.data.splits import images_of
from faultline.networks.layers import layers as layers_of
from faultline.studies.synaptic import ALL_LAYERS
from faultline.studies.synaptic.sweeps import dropped, filtered

PLACE = {"dataset": "d", "network": "n", "training": "t", "seed": "3", "epoch": "7"}
KINDS = ["pulse", "high_pass"]


@pytest.fixture
def base():
    return base_of(40)


def base_of(n):
    dataset = dataset_of(validation=n)
    images, labels = images_of(dataset, "validation")
    how = {"recrafted": {}, "seed": 3, "memory": lambda: 1e9}
    return Base(network_of().eval(), dataset, {"clean": images}, labels, **how)


def same(facts, expected):
    one, other = facts.arrays(), expected.arrays()
    assert {*one} == {*other}
    for key, values in other.items():
        assert np.array_equal(one[key], values, equal_nan=values.dtype.kind == "f"), key


@pytest.mark.parametrize("layer", ["5", ALL_LAYERS])
def test_synaptic_filters_and_as_many_weights_drawn_by_checkpoint_and_layer(base, layer):
    together = layer == ALL_LAYERS
    limits = (-0.2, 0.1) if together else None
    seed = seed_of("d", "n", "t", 3, 7, layer)

    def make(layers):
        assert [*layers] == (["0", "5"] if together else ["5"])
        return [
            *synaptic_variants(layers, kinds=KINDS, count=4, limits=limits, together=together),
            *random_variants(layers, draws=2, seed=seed, together=together),
        ]

    given = {"kinds": KINDS, "count": 4, "random_draws": 2, "limits": limits}
    facts = filtered(base, layer, place=PLACE, **given)
    same(facts, base.sweep(layers=None if together else ["5"], make=make))
    other = filtered(base, layer, place=PLACE | {"epoch": "8"}, **given)
    assert not np.array_equal(facts.correct["clean"], other.correct["clean"])


def test_each_part_of_the_images_has_random_draws_of_its_own():
    base, given = base_of(151), {"kinds": KINDS, "count": 4}  # three parts of 50 images or 51
    facts = filtered(base, "5", place=PLACE, random_draws=2, **given)
    assert np.bincount(facts.part).tolist() == [51, 50, 50]
    assert (np.diff(facts.part.astype(int)) != 0).mean() > 0.5  # not one behind the other
    drawn = facts.variants["filter"] == "random"
    plain = filtered(base, "5", place=PLACE, random_draws=0, **given)
    assert plain.part is None
    assert np.array_equal(facts.correct["clean"][~drawn], plain.correct["clean"])
    seed = seed_of("d", "n", "t", 3, 7, "5")
    images, labels = base.images["clean"], base.labels
    for part in range(3):
        where = torch.as_tensor(facts.part == part)
        own = seed_of("part", seed, part)
        variants = random_variants({"5": layers_of(base.network)["5"]}, draws=2, seed=own)
        alone = sweep(
            base.network, variants, {"clean": images[where]}, labels[where], ablated=["5"]
        )
        assert np.array_equal(facts.correct["clean"][drawn][:, where], alone.correct["clean"])
    # of many images not more parts than are worth their time
    assert filtered(base_of(500), "0", place=PLACE, random_draws=2, **given).part.max() == 9


def test_filters_are_dropped_one_by_one(base):
    conv = layers_of(base.network)["0"]
    facts = dropped(base, "0", range(1, 3), at="activation")
    variants = [*nodal_variants("0", conv, filters=[1, 2], at="activation")]
    expected = base.sweep(layers=["0"], make=lambda _: variants, active_at="activation")
    same(facts, expected)
    assert facts.variants["filter"].tolist() == [1, 2] and "changed_activations" in facts.variants
