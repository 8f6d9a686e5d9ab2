"""Mends for bits of weights that flip."""

import copy
import json

import numpy as np
import pytest
import torch
from trainings import BRIEF_MEND, dataset_of, network_of, settings_of

from faultline.base.errors import UserError
from faultline.data.splits import images_of
from faultline.networks.clipping import bounds_of, clip
from faultline.networks.layers import layers
from faultline.studies.mending.candidates import CANDIDATES
from faultline.studies.mending.faults import (
    Faults,
    apart,
    correct_under_faults,
    faulty,
    learning,
    load,
    state_of,
)
from faultline.studies.mending.judging import judge_under
from faultline.studies.mending.library import mend
from faultline.studies.mending.mended import mend_by
from faultline.studies.mending.names import GIVEN, WORST
from faultline.studies.perturbations.kinds import KINDS

FAULTS = Faults(["bit_faults_int8"], 0.003, 3)
TRAINING = settings_of(adversarial=None, regularisation=None)
HOW = BRIEF_MEND | {"training": TRAINING, "attack": {}, "seed": 0}
HOW |= {"shares": [0.5, 1.0], "clean_loss": 0.5, "fragile": None}


def same(network, state) -> bool:
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_inside_the_block_bits_flip_as_a_perturbation_has_them():
    network = network_of().eval()
    before = copy.deepcopy(network.state_dict())
    with faulty(network, "bit_faults_int8", 0.01, seed=7):
        rng = np.random.default_rng(7)
        for layer in layers(network).values():
            for name, parameter in layer.named_parameters():
                of = next(key for key, p in network.named_parameters() if p is parameter)
                expected = KINDS["bit_faults_int8"].function(before[of], 0.01, rng)
                assert torch.equal(parameter, expected), name
        assert not same(network, before)
    assert same(network, before)
    with pytest.raises(ZeroDivisionError), faulty(network, "bit_faults", 0.01, seed=1):
        raise ZeroDivisionError
    assert same(network, before)


def test_images_are_judged_under_each_draw_and_splits_see_others():
    network, dataset = network_of().eval(), dataset_of()
    sets = correct_under_faults(network, dataset, FAULTS, split="test", seed=3)
    assert [*sets] == ["clean", *(f"bit_faults_int8@{draw}" for draw in range(3))]
    images, labels = images_of(dataset, "test")
    with torch.no_grad():
        assert np.array_equal(sets["clean"], (network(images).argmax(1) == labels).numpy())
    again = correct_under_faults(network, dataset, FAULTS, split="test", seed=3)
    assert all(np.array_equal(sets[key], again[key]) for key in sets)
    judged = judge_under(
        network, {GIVEN: state_of(network)}, dataset, FAULTS, under=FAULTS.kinds, seed=3
    ).correct[GIVEN]
    assert np.array_equal(judged[WORST], np.logical_and.reduce([*sets.values()]))


def test_half_of_the_steps_learn_with_flipped_bits():
    network = network_of().eval()
    before = copy.deepcopy(network.state_dict())
    changed = []
    for seed in range(200):
        with learning(network, FAULTS, seed):
            changed.append(not same(network, before))
    assert 70 < sum(changed) < 130 and same(network, before)


def test_a_state_holds_bounds_beside_weights():
    network = network_of().eval()
    names = [*layers(network)]
    clip(network, {names[0]: (-0.5, 2.0)})
    state = state_of(network)
    weights, bounds = apart(state)
    assert weights.keys() == network.state_dict().keys() and bounds == {names[0]: (-0.5, 2.0)}
    other = network_of().eval()
    load(other, state)
    assert bounds_of(other) == bounds and same(other, weights)
    load(other, weights)
    assert not bounds_of(other)


def test_clipping_is_chosen_where_it_holds_and_training_leaves_no_bounds_behind():
    network, dataset = network_of().eval(), dataset_of()
    faults = Faults(["bit_faults"], 0.003, 2)
    path, state = mend_by("clip", network, dataset, faults=faults, **HOW)
    assert path["share"].tolist() == [0.0, 1.0] and not path["passes"].any()
    assert bool(apart(state)[1]) == bool(path["best"].iloc[1]) == bool(bounds_of(network))
    _, bounds = apart(state)
    images, _ = images_of(dataset, "validation")
    clip(network, {})
    for name, (low, high) in bounds.items():
        seen = []
        hook = layers(network)[name].register_forward_hook(
            lambda *of, seen=seen: seen.append(of[2])
        )
        network(images)
        hook.remove()
        assert (low, high) == pytest.approx((seen[0].min().item(), seen[0].max().item()))
    _, state = mend_by("harden", network, dataset, faults=FAULTS, **HOW)
    assert not apart(state)[1]


def test_in_one_call_a_network_is_mended_and_its_note_says_how_to_load_it(monkeypatch, tmp_path):
    dataset = dataset_of()
    outcome = mend(
        network_of().eval(),
        dataset,
        faults=Faults(["bit_faults"], 0.003, 2),
        candidates=["clip", "harden"],
        **BRIEF_MEND,
    )
    assert next(iter(outcome.result["candidate"])) == GIVEN
    assert any(name.endswith("bit_faults@1") for name in outcome.correct)
    if outcome.bounds:  # as a reader would load it
        text = outcome.note
        code = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
        torch.save(outcome.weights, tmp_path / "mended.pt")
        (tmp_path / "mended.bounds.json").write_text(json.dumps({**outcome.bounds}))
        monkeypatch.chdir(tmp_path)
        space = {}
        exec(code.replace("network = ...", "network = made"), {"made": network_of()}, space)
        assert bounds_of(space["network"]) == {k: tuple(v) for k, v in outcome.bounds.items()}


def test_what_is_for_something_else_is_refused():
    network, dataset = network_of().eval(), dataset_of()
    with pytest.raises(UserError, match="clip is against faults alone"):
        mend(network, dataset, attack={"method": "fgsm", "eps": 0.1}, candidates=["clip"])
    with pytest.raises(UserError, match="harden_pgd is against attacks alone"):
        mend(network, dataset, faults=FAULTS, candidates=["harden_pgd"])
    with pytest.raises(UserError, match="mend: faults: kinds"):
        mend(network, dataset, faults=FAULTS._replace(kinds=["bit_fault"]))
    with pytest.raises(UserError, match="mend: faults: rate"):
        mend(network, dataset, faults=FAULTS._replace(rate=0))
    with pytest.raises(UserError, match="one of them"):
        mend(network, dataset, faults=FAULTS, attack={"method": "fgsm", "eps": 0.1})
    assert CANDIDATES["clip"].fits(stresses=False, faults=True)
