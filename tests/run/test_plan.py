"""What a config makes of a run, without Snakemake."""

import pytest
import yaml

from faultline.networks.selection import count_filters, has_probe, select_layers
from faultline.run.plan import Plan, fill, ordered, with_each
from faultline.studies.config import resolve

CONFIG = """
datasets:
  digits: {train: 200, validation: 200, test: 60}
networks: [small_resnet, small_conv]
trainings:
  standard: {epochs: [0, 2, 5]}
  given: {epochs: [1], weights: {small_conv: WEIGHTS}}
seeds: [3, 0]
attacks:
  pgd: {method: pgd, steps: 2, eps: 0.1}
  fgsm: {method: fgsm, eps: 0.1}
ablation: {attacks: [pgd]}
nodal_dropout: {layers: [conv1, fc], filters_per_job: 6}
"""


@pytest.fixture
def plan_of(tmp_path):
    (tmp_path / "w.pt").touch()
    text = CONFIG.replace("WEIGHTS", str(tmp_path / "w.pt"))

    def make(**sections):
        return Plan(resolve(yaml.safe_load(text) | sections))

    return make


def short(places):
    return [tuple(place.values())[1:] for place in places]


def test_checkpoints_by_hand(plan_of):
    plan = plan_of()
    last = [
        ("small_resnet", "standard", 3, 5),
        ("small_resnet", "standard", 0, 5),
        ("small_conv", "given", 3, 1),  # weights of one network are for no other
        ("small_conv", "given", 0, 1),
        ("small_conv", "standard", 3, 5),
        ("small_conv", "standard", 0, 5),
    ]
    assert short(plan.checkpoints("last")) == last
    assert len(plan.checkpoints()) == 4 * 3 + 2
    assert {place["epoch"] for place in plan.checkpoints([0, 2])} == {0, 2}
    assert plan.checkpoints([]) == []
    assert list(plan.checkpoints()[0]) == ["dataset", "network", "training", "seed", "epoch"]


def test_examples_are_of_the_first_seed_and_of_a_standard_training(plan_of):
    found = short(plan_of().illustrated())
    assert {*found} == {("small_resnet", "standard", 3, 5), ("small_conv", "given", 3, 1)}
    trainings = {
        "at": {"recipe": "at-fgsm", "adversarial": {"eps": 0.1}, "epochs": [1]},
        "b": {"epochs": [2]},
        "c": {"epochs": [2, 4]},
    }
    found = plan_of(trainings=trainings).illustrated()
    assert {place["training"] for place in found} == {"b"} and len(found) == 2
    moons = {"datasets": {"moons": {"test": 50}}, "networks": ["lsa_moons"]}
    moons |= {"nodal_dropout": {"layers": "none"}, "trainings": {"a": {"epochs": [1]}}}
    assert plan_of(**moons).illustrated() == []


def test_segments_follow_one_another(plan_of):
    plan = plan_of()
    assert [plan.previous_epoch("standard", epoch) for epoch in (0, 2, 5)] == [None, 0, 2]
    assert plan.given_weights("small_conv", "given", 1).endswith("w.pt")
    assert plan.given_weights("small_conv", "standard", 0) is None
    assert plan.weights_key("small_conv", "given", 1) is None
    file = plan.given_weights("small_conv", "given", 1)
    weights = {"small_conv": {"file": file, "key": "model_ema"}}
    plan = plan_of(
        networks=["small_conv"], trainings={"given": {"weights": weights, "epochs": [1, 2]}}
    )
    for epoch, expected in ((1, (file, "model_ema")), (2, (None, None))):
        chosen = [f("small_conv", "given", epoch) for f in (plan.given_weights, plan.weights_key)]
        assert tuple(chosen) == expected


def test_attacks_are_evaluated_one_by_one_or_together(plan_of):
    plan = plan_of()
    assert plan.together() == []
    assert len(plan.attacked()) == 2 * 14
    plan = plan_of(robustness={"attacks": ["fgsm"], "epochs": "last"})
    assert {place["attack"] for place in plan.attacked()} == {"pgd"}
    assert plan.together() == plan.checkpoints("last")
    assert list(plan.attacks()) == ["fgsm", "pgd"] and list(plan.attacks(["pgd"])) == ["pgd"]


@pytest.mark.parametrize(
    ("target", "stored", "recrafted", "scored"),
    [
        ({}, [], ["fgsm", "pgd"], "pgd"),
        ({"target": "base"}, ["pgd", "fgsm"], [], "pgd transfer"),
        ({"target": "both"}, ["pgd", "fgsm"], ["fgsm", "pgd"], "pgd"),
    ],
)
def test_which_network_is_attacked(plan_of, target, stored, recrafted, scored):
    plan = plan_of(ablation={"attacks": ["pgd", "fgsm"], "images": 150} | target)
    sets = plan.image_sets()
    assert plan.transferred() == sets["transferred"] == stored
    assert [*sets["recrafted"]] == recrafted and plan.config.scored_attack == scored
    if recrafted:  # stored sets need no settings of the attack
        assert sets["recrafted"]["pgd"]["steps"] == 2
    assert (sets["images"], sets["split"]) == (150, "validation")


@pytest.mark.parametrize(
    ("choose", "target", "crafted"),
    [("first", "base", 150), ("margin", "base", None), ("margin", "ablated", 150)],
)
def test_stored_images_of_a_choice_by_margin_are_those_of_the_whole_split(
    plan_of, choose, target, crafted
):
    ablation = {"attacks": ["pgd"], "images": 150, "choose": choose, "target": target}
    plan = plan_of(ablation=ablation)
    assert plan.by_margin() == (choose == "margin")
    assert plan.crafted_images("pgd") == crafted
    assert plan.crafted_images("fgsm") == 150  # targeting's, which reads the first ones


def test_ablated_networks_are_judged_on_images_that_retraining_is_not(plan_of):
    none = {"retraining": {"from_epochs": []}}
    assert plan_of().config.ablation.split == "validation"
    assert plan_of(**none).config.ablation.split == "test"
    chosen = plan_of(**none, ablation={"split": "validation"})
    assert chosen.image_sets()["split"] == "validation"


def test_filters_are_shared_out_over_jobs(plan_of):
    jobs = plan_of().dropout_jobs("small_conv", "digits")
    conv = [("conv1", 0, 5), ("conv1", 6, 11), ("conv1", 12, 15)]
    assert [tuple(job.values()) for job in jobs] == [*conv, ("fc", 0, 5), ("fc", 6, 9)]


def test_layers_are_shared_out_over_rules(plan_of):
    (any_layer,) = plan_of().layer_batches()
    assert any_layer["rule"] == "ablate_layer" and any_layer["layers"] == ["{layer}"]
    swept = {"synaptic_filtering": {"layers_per_job": 3}}
    batches = plan_of(**swept, networks=["small_conv"]).layer_batches()
    assert {batch["rule"]: batch["layers"] for batch in batches} == {
        "ablate_layers_small_conv_1": ["conv1", "conv2", "conv3"],
        "ablate_layers_small_conv_2": ["fc"],
    }
    assert {batch["network"] for batch in batches} == {"small_conv"}


def test_scores_need_layers(plan_of):
    none = {"synaptic_filtering": {"layers": "none", "global": False}}
    chosen = {"nodal_dropout": {"layers": ["layer3.*"]}, "retraining": {"from_epochs": []}}
    assert {p["network"] for p in plan_of(**none, **chosen).scored()} == {"small_resnet"}
    assert len(plan_of(**chosen).scored()) == 14
    targeted = plan_of(**chosen, targeting={"layers": ["layer1.*"]})
    assert {p["network"] for p in targeted.of_section("targeting")} == {"small_resnet"}


def test_policies_and_remedies(plan_of):
    plan = plan_of(retraining={"random_draws": 2}, remedy={"random_draws": 1})
    assert plan.policies() == ["regular", "selective", "fragile_only", "random-0", "random-1"]
    assert plan.remedies() == ["none", "fragile", "random-0"]
    fixed = plan_of(retraining={"random_draws": 1, "tests": ["regular", "random"]})
    assert fixed.policies() == ["regular", "selective", "random-0"]


def test_an_attack_may_be_measured_at_no_checkpoint(plan_of):
    judge = {"method": "standard", "eps": 0.1}
    attacks = {"pgd": {"method": "pgd", "eps": 0.1}, "standard": judge}
    measured = {place["attack"] for place in plan_of(attacks=attacks).attacked()}
    assert measured == {"pgd", "standard"}
    attacks["standard"] = judge | {"epochs": []}
    plan = plan_of(attacks=attacks)
    assert {place["attack"] for place in plan.attacked()} == {"pgd"}
    assert plan.config.retraining.judged_under == ["standard"]


def test_a_segment_depends_on_what_changes_it_alone(plan_of):
    settings = plan_of().segment_settings("standard", "small_conv")
    assert not {"epochs", "weights", "tune"} & {*settings}
    assert list(settings) == sorted(settings)


def test_lists_of_vulnerable_layers_come_from_a_standard_training(plan_of):
    regularised = {
        "recipe": "at-fgsm-lr",
        "epochs": [4],
        "adversarial": {"eps": 0.1},
        "regularisation": {"layers": "mvl", "gamma": 0.1},
    }
    plan = plan_of(trainings={"standard": {"epochs": [0, 2, 5]}, "lr": regularised})
    assert plan.standard_checkpoint("lr") == ("standard", 5)
    assert plan.standard_checkpoint("standard") is None
    assert plan.bases() == {}  # there is no at-fgsm to be compared with


def test_a_search_and_those_that_share_its_choice(plan_of):
    trainings = {
        "searched": {"epochs": [3], "tune": {"grid": {"lr": [0.1, 0.2]}, "seeds": [9]}},
        "sharing": {"epochs": [3], "tune": {"as": "searched", "seeds": [9]}},
        "plain": {"epochs": [3]},
    }
    plan = plan_of(trainings=trainings)
    assert [plan.chosen_by(name) for name in trainings] == ["searched", "searched", None]
    assert [plan.taken_from(name) for name in ("searched", "sharing")] == [None, "searched"]
    assert plan.tuning_epochs("searched") == 3
    found = [tuple(place.values()) for place in plan.tuned()]
    assert found == [("digits", n, "searched") for n in ("small_resnet", "small_conv")]


def test_layers_by_name_pattern_and_place():
    assert select_layers("small_conv", "first") == ["conv1"]
    assert select_layers("lsa_moons", "first") == ["fc1"]  # without convolutions, the first of all
    assert select_layers("small_conv", ["fc", "conv*"]) == ["conv1", "conv2", "conv3", "fc"]
    assert select_layers("small_conv", "none") == []
    assert count_filters("small_conv", "conv1", 10) == 16
    assert count_filters("small_conv", "fc", 7) == 7


def test_words_of_places():
    assert fill("{a}/{b}", with_each([{"a": 1}], "b", [2, 3])) == ["1/2", "1/3"]
    assert list(ordered({"b": {"d": 1, "c": 2}, "a": 0})["b"]) == ["c", "d"]


def test_normalisations_as_layers(plan_of):
    try:
        plan = plan_of(ablation={"norms": True}, synaptic_filtering={"layers": "all"})
        assert plan.filtered_layers("small_conv")[:3] == ["conv1", "bn1", "conv2"]
        assert select_layers("small_conv", "first") == ["conv1"]
        assert select_layers("small_conv", ["bn*"]) == ["bn1", "bn2", "bn3"]
        assert count_filters("small_conv", "bn2", 10) == 32
        assert has_probe("small_conv", "conv1:2") and not has_probe("small_conv", "bn1")
    finally:
        plan_of()
    assert plan.filtered_layers("small_conv") == ["conv1", "conv2", "conv3", "fc"]
