"""Mends for stresses of the inputs in place of attacks."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from trainings import BRIEF_MEND, dataset_of, network_of, settings_of

from faultline.base.errors import UserError
from faultline.data.splits import images_of
from faultline.studies.mending.candidates import CANDIDATES
from faultline.studies.mending.judging import judge_under
from faultline.studies.mending.library import mend
from faultline.studies.mending.mended import mend_by
from faultline.studies.mending.names import GIVEN, WORST
from faultline.studies.mending.under import Stressed, mixed, severities

TRAINING = settings_of(adversarial=None, regularisation=None)
HOW = BRIEF_MEND | {"training": TRAINING, "attack": {}, "seed": 0}
HOW |= {"shares": [0.5, 1.0], "clean_loss": 0.5, "fragile": ["0"]}


def turned(dataset, split):
    """A stress of two severities: images turned about, and their negative."""
    inputs = dataset.splits[split][0]
    return {"turned": {"1": inputs.flip(-1), "2": inputs.flip(-2)}}


def test_each_input_comes_twice_the_second_time_under_a_stress():
    dataset = dataset_of()
    inputs, labels = dataset.splits["train"]
    stored = turned(dataset, "train") | {"black": {"3": torch.zeros_like(inputs)}}
    both = mixed(dataset, stored, seed=4)
    images, twice = both.splits["train"]
    assert torch.equal(images[::2], inputs)
    assert torch.equal(twice[::2], labels) and torch.equal(twice[1::2], labels)
    sets = [of for by in stored.values() for of in by.values()]
    which = [[torch.equal(image, of[i]) for of in sets] for i, image in enumerate(images[1::2])]
    counts = np.sum(which, axis=0)
    assert all(any(row) for row in which) and (counts > len(inputs) / 5).all()
    assert torch.equal(mixed(dataset, stored, seed=4).splits["train"][0], images)
    assert not torch.equal(mixed(dataset, stored, seed=5).splits["train"][0], images)
    assert both.splits["test"] is dataset.splits["test"]


def test_the_worst_case_is_over_the_stresses_that_are_asked_for():
    network, dataset = network_of().eval(), dataset_of()
    stored = turned(dataset, "test") | {"black": {"3": torch.zeros_like(dataset.splits["test"][0])}}
    state = {key: value.clone() for key, value in network.state_dict().items()}
    judgement = judge_under(network, {GIVEN: state}, dataset, stored, under=["turned"])
    sets = judgement.correct[GIVEN]
    assert [*sets] == ["clean", "turned@1", "turned@2", "black@3", WORST]
    right = sets["clean"] & sets["turned@1"] & sets["turned@2"]
    assert np.array_equal(sets[WORST], right) and judgement.masked == {GIVEN: ""}
    _, labels = images_of(dataset, "test")
    with torch.no_grad():
        expected = network(dataset.pixels(stored["turned"]["2"])).argmax(1) == labels
    assert np.array_equal(sets["turned@2"], expected.numpy())


def test_a_candidate_is_chosen_by_what_holds_under_all_of_them():
    network, dataset = network_of().eval(), dataset_of()
    stressed = Stressed(turned(dataset, "train"), turned(dataset, "validation"))
    before = copy.deepcopy(network.state_dict())
    path, weights = mend_by("harden", network, dataset, stressed=stressed, **HOW)
    assert path["share"].tolist() == [0.0, 0.5, 1.0] and path["passes"].max() > 0
    rows = path.set_index("share")
    for share, state in ((0.0, before), (float(path.loc[path["best"], "share"].iloc[0]), weights)):
        network.load_state_dict(state)
        images, labels = images_of(dataset, "validation")
        right = torch.ones(len(labels), dtype=torch.bool)
        with torch.no_grad():
            for of in (images, *map(dataset.pixels, stressed.validation["turned"].values())):
                right &= network(of).argmax(1) == labels
        assert rows.loc[share, "adversarial"] == pytest.approx(right.float().mean().item())
    assert not all(torch.equal(weights[key], before[key]) for key in before)


def test_frozen_layers_stay_under_stresses_too():
    network, dataset = network_of().eval(), dataset_of()
    stressed = Stressed(turned(dataset, "train"), turned(dataset, "validation"))
    before = copy.deepcopy(network.state_dict())
    _, weights = mend_by("picked", network, dataset, stressed=stressed, **HOW)
    assert torch.equal(weights["5.weight"], before["5.weight"])


def test_in_one_call_a_network_is_mended_for_a_stress():
    dataset = dataset_of()
    dataset = replace(dataset, bounds=(0.0, 1.0))
    outcome = mend(
        network_of().eval(),
        dataset,
        stresses={"dull": {"kind": "contrast", "severities": [2]}},
        **BRIEF_MEND,
    )
    assert next(iter(outcome.result["candidate"])) == GIVEN
    assert any(name.endswith("dull@2") for name in outcome.correct)
    assert severities({"dull": {"2": 0}}) == "dull (severity 2)"


@pytest.mark.parametrize("name", [name for name, of in CANDIDATES.items() if of.attacks])
def test_what_is_against_attacks_alone_is_refused(name):
    stresses = {"dull": {"kind": "contrast", "severities": [2]}}
    with pytest.raises(UserError, match=f"{name} is against attacks alone"):
        mend(network_of(), dataset_of(), stresses=stresses, candidates=[name])
    with pytest.raises(UserError, match="one of them"):
        mend(network_of(), dataset_of())
