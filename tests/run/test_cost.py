"""What a run will cost, worked out by hand."""

import json
import re

import pytest
from support import ROOT, error_of

from faultline.networks import asking
from faultline.networks.facts import work_of
from faultline.run import cost
from faultline.run.plan import Plan
from faultline.studies.config import resolve

PLACE = {"dataset": "digits", "network": "small_conv", "training": "t", "seed": "0", "epoch": "20"}
CONFIG = {
    "datasets": {"digits": {"validation": 400, "test": 500}},
    "networks": ["small_conv"],
    "trainings": {"t": {"epochs": [8, 20], "batch_size": 50}},
    "attacks": {
        "pgd": {"method": "pgd", "steps": 10, "eps": 0.1, "eps_grid": [0, 0.1, 0.2]},
        "fgsm": {"method": "fgsm", "eps": 0.1},
        "standard": {"method": "standard", "eps": 0.1},
    },
    "ablation": {"attacks": ["pgd"], "images": 200, "split": "validation"},
    "synaptic_filtering": {"thresholds": 12, "random_draws": 2},
    "mending": {"from_epochs": "last"},
    "retraining": {"from_epochs": []},
}
FIT = (1, 8, 8), 10


def plan_of(**more):
    return Plan(resolve(CONFIG | more))


def work(rule, *, plan=None, output=(), **more):
    prices = cost.Prices(plan or plan_of(), {})
    return cost.RULES[rule](prices, cost.Job(rule, PLACE | more, output))


def test_a_training_goes_on_from_the_checkpoint_before():
    of = work("train")
    assert of.passes == 12 * (3 * 897 + 400) and of.at_once == 50
    assert of.bytes == 12 * 14674


@pytest.mark.parametrize(
    ("attack", "passes"),
    [
        ("pgd", 2 * (2 * 10 + 1) + 10),
        ("fgsm", 2 + 1 + 10),
        # half of the images stand: 1 + 9 times 50 gradients, 100 queries, and on 200 images
        # 150 steps and 500 queries
        ("standard", 0.5 * (2 * 50 * 10 + 100) + 1 + 10 + (2 * 150 + 500) * 0.5 * 200 / 500),
    ],
)
def test_attacks(attack, passes):
    assert work("attack", attack=attack).passes == pytest.approx(500 * passes)


def test_stresses_are_a_pass_each():
    stresses = {"fog": {"kind": "fog"}, "dull": {"kind": "contrast", "severities": [2]}}
    of = work("judge_stresses", plan=plan_of(stresses=stresses))
    assert of.passes == 500 * (1 + 3 + 1) and of.at_once == 500


def test_sweeps_begin_at_the_layer():
    whole = work_of("small_conv", FIT)[""][1]
    rest = work_of("small_conv", FIT)["fc"][1] / whole
    variants = 3 * 12 + 2 * 9
    fc = "results/digits/small_conv/t/seed-0/epoch-20/layers/fc/synaptic-filtering.npz"
    of = work("ablate_layer", output=[fc])
    assert (of.variants, of.judged) == (variants, variants * 200 * 2)
    assert of.passes == pytest.approx(variants * 200 * (rest + rest + 20))
    every = work("ablate_global")
    assert every.passes == variants * 200 * (1 + 1 + 20)


def test_a_filter_is_a_term_of_low_rank_to_the_layer_after():
    known = work_of("small_conv", FIT)
    whole, behind = known[""][1], known["conv3"][1]
    of = work("ablate_filters", layer="conv1", first="0", last="15")
    assert of.variants == 16
    first = known["conv1"][1] / whole
    assert of.passes == pytest.approx(16 * 200 * (behind / whole + first + 20))


def test_every_rule_that_may_take_a_gpu_is_counted():
    rules, one = set(), re.compile(r"^ *rule (\w+):(.*?)(?=^ *(?:use )?rule |\Z)", re.M | re.S)
    for file in (ROOT / "rules").glob("*.smk"):
        rules |= {name for name, body in one.findall(file.read_text()) if "gpu=GPU" in body}
    assert rules - set(cost.RULES) == {"craft_examples"}


def jobs():
    folder = "results/digits/small_conv/t/seed-0/epoch-20/layers"
    files = [f"{folder}/{name}/synaptic-filtering.npz" for name in ("conv1", "fc")]
    batch = ("ablate_layers_small_conv_1", PLACE, files)
    return [batch, ("ablate_global", PLACE, []), ("mend", PLACE | {"candidate": "harden"}, [])]


def test_lines_and_what_would_be_cheaper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of = cost.estimate(plan_of(), jobs(), timed=False)
    assert {name: stage.jobs for name, stage in of.stages.items()} == {
        "ablate_layer": 1,
        "ablate_global": 1,
        "mend": 1,
    }
    quick = plan_of(ablation=CONFIG["ablation"] | {"attacks": ["fgsm"]})
    before, after = of.total.macs, cost.estimate(quick, jobs(), timed=False).total.macs
    first, second, third = of.lines(cores=2)
    assert first.startswith("cost: 3 jobs, 64,800 images judged under 162 variants, ")
    assert f"{cost.flop(before)} (" in first and first.endswith("MAC)")
    assert second == "time: not known, as its networks could not be timed"
    assert third.startswith("dearest: ablate_layer, ")
    assert third.endswith(
        f"; with ablation.attacks: [fgsm] {cost.flop(after)}, not {cost.flop(before)}"
    )


def test_a_run_of_more_hours_than_are_allowed_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of(hours=0.001)
    file = asking.speeds_file(tmp_path / "results/.networks")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"small_conv [[1, 8, 8], 10]": [0.0, 1e-3]}))
    of = cost.estimate(plan, jobs())
    passes = of.total.macs / work_of("small_conv", FIT)[""][1]
    assert of.timed and of.total.seconds == pytest.approx(3 * 0.5 + passes * 1e-3)
    said = error_of(cost.check, plan, jobs(), 1)
    assert "config key hours: " in said and "--config hours=" in said
    cost.check(plan_of(hours=24), jobs(), 1)
    cost.check(plan_of(hours=None), jobs(), 1)
    cost.check(plan, jobs(), 1, gpu=True)


def test_numbers_in_words():
    assert [cost.flop(n) for n in (5e5, 2.5e9, 7.8e17)] == ["1 MFLOP", "5 GFLOP", "1.56 EFLOP"]


def test_an_attack_of_one_step_is_added_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attacks = {"pgd": {"method": "pgd", "steps": 10, "eps": 0.1}}
    plan = plan_of(attacks=attacks, ablation={"attacks": ["pgd"]}, mending={"from_epochs": []})
    (cheaper, *_) = cost.changes(plan, "ablate_layer", 500)
    assert cheaper.words == "ablation.attacks: [fgsm] (attacks.fgsm: of method fgsm)"
    before, after = (
        cost.Prices(of, {}).stages([cost.Job(*jobs()[0])])["ablate_layer"].macs
        for of in (plan, cheaper.plan)
    )
    assert 0 < after < before
