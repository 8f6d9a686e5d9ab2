"""Keys that nothing makes use of are refused, and told what they belong to."""

import copy

import pytest
import yaml
from support import TINY, error_of

from faultline.config.fields import OnlyFor, keys
from faultline.studies.config import resolve

MOONS = {"source": "moons", "test": 60}
AT = {"epochs": [1, 2], "adversarial": {"eps": 0.1}}
LR = {"layers": ["fc"], "gamma": 1, "at": "layer"}


def recipe(name: str, **adversarial) -> dict:
    return {"recipe": name, "epochs": [1, 2], "adversarial": {"eps": 0.1} | adversarial}


# What is put into the tiny config, the key that is for nothing, and what it is for.
UNUSED = [
    ("datasets.digits", {"test": 60, "noise": 0.5}, "noise", "source moons"),
    ("datasets.digits", {"test": 60, "samples": 99}, "samples", "source moons"),
    ("datasets.digits", {"test": 60, "folder": "data"}, "folder", "source fashion_mnist, mnist"),
    ("datasets.digits", {"test": 60, "download": True}, "download", "source fashion_mnist"),
    ("datasets.digits", {"test": 60, "file": "a.npz"}, "file", "source npz"),
    ("datasets.digits", {"test": 60, "classes": 10}, "classes", "source npz"),
    ("datasets.digits", {"test": 60, "channels": 1}, "channels", "source image_folder"),
    ("datasets.digits", {"test": 60, "also": {"n": "x"}}, "also", "source image_folder, npz"),
    ("datasets.digits", {"test": 60, "on_bad_image": "skip"}, "on_bad_image", "image_folder"),
    ("datasets.moons", MOONS | {"folder": "data"}, "folder", "source fashion_mnist"),
    ("trainings.standard", {"epochs": [1, 2], "momentum": 0.5}, "momentum", "optimizer sgd"),
    ("trainings.standard", {"epochs": [1, 2], "base": "standard"}, "base", "recipes with -lr"),
    (
        "trainings.standard",
        {"epochs": [1, 2], "schedule": {"epochs": 5}},
        "schedule.epochs",
        "schedule.kind step, cosine",
    ),
    (
        "trainings.standard",
        {"epochs": [1, 2], "schedule": {"kind": "cosine", "factor": 0.5}},
        "schedule.factor",
        "schedule.kind step",
    ),
    ("trainings.at", recipe("at-fgsm", steps=3), "adversarial.steps", "recipe at-pgd, at-trades"),
    ("trainings.at", recipe("at-fast", steps=3), "adversarial.steps", "recipe at-pgd, at-trades"),
    ("trainings.at", recipe("at-apgd", step_size=1), "adversarial.step_size", "recipe at-pgd"),
    ("trainings.at", recipe("at-pgd", beta=1), "adversarial.beta", "recipe at-trades"),
    (
        "trainings.at",
        recipe("at-pgd-lr") | {"regularisation": LR | {"on_empty": "stop"}},
        "regularisation.on_empty",
        "layers mvl",
    ),
    ("attacks.a", {"method": "fgsm", "eps": 0.1, "steps": 9}, "steps", "methods of several steps"),
    ("attacks.a", {"method": "apgd", "eps": 0.1, "step_size": 1}, "step_size", "method pgd or one"),
    ("attacks.a", {"method": "apgd", "eps": 0.1, "queries": 9}, "queries", "methods that search"),
    ("attacks.a", {"method": "pgd", "eps": 0.1, "options": {"a": 1}}, "options", "a method of"),
    ("synaptic_filtering", {"global": False, "global_range": [-1, 1]}, "global_range", "global"),
    ("perturbations", {"kinds": ["gaussian"], "shares": [0.5]}, "shares", "kinds but gaussian"),
    ("mending", {"from_epochs": [2], "fault_rate": 1e-5}, "fault_rate", "under bit_faults"),
    ("mending", {"from_epochs": [2], "fault_draws": 2}, "fault_draws", "under bit_faults"),
    ("perturbations", {"kinds": ["gaussian"], "rates": [0.001]}, "rates", "kinds bit_faults"),
    ("perturbations", {"kinds": ["resample"], "sigmas": [0.5]}, "sigmas", "kind gaussian"),
    (
        "perturbations",
        {"kinds": ["node_knockout"], "parameters": ["bias"]},
        "parameters",
        "kinds but node_knockout",
    ),
    ("retraining", {"by": "band", "filter": "pulse"}, "filter", "by: layer"),
]


def with_part(place: str, part: dict) -> dict:
    config = yaml.safe_load(TINY)
    section, _, name = place.partition(".")
    if name:
        config[section][name] = part
    else:
        config[section] = part
    return config


@pytest.mark.parametrize(("place", "part", "key", "owner"), UNUSED)
def test_a_key_without_a_use_is_refused(place, part, key, owner):
    config = with_part(place, part)
    said = error_of(resolve, config)
    assert said.startswith(f"config key {place}.{key}: is for ") and "leave it out" in said
    assert f"is for {owner}" in said or owner in said
    if place.startswith("datasets.moons"):
        return
    *within, last = key.split(".")
    for name in within:
        part = part[name]
    del part[last]
    assert resolve(config)


def test_every_such_key_is_tried():
    tried = {f"{place}.{key}" for place, _, key, _ in UNUSED}
    wide = with_part("trainings.at", recipe("at-pgd-lr") | {"regularisation": LR})
    wide["attacks"] = {"a": {"method": "pgd", "eps": 0.1}}
    wide["ablation"] = {"attacks": ["a"]}
    for name in ("digits", "standard"):
        tried |= {key.replace(f".{name}.", ".at.") for key in tried if key.startswith("trainings")}
    marked = {key.where for key in keys(resolve(wide)) if key.marked(OnlyFor)}
    assert {key.replace("trainings.standard", "trainings.at") for key in marked} <= tried


def test_what_the_report_keeps_is_a_config():
    config = with_part("trainings.at", recipe("at-trades", steps=3, step_size=1, beta=2))
    config["trainings"]["more"] = recipe("at-fast", step_size=1) | {"optimizer": "sgd"}
    config["attacks"]["apgd"] = {"method": "apgd", "eps": 0.1, "steps": 9}
    resolved = resolve(copy.deepcopy(config)).dump()
    assert resolve(copy.deepcopy(resolved)).dump() == resolved
