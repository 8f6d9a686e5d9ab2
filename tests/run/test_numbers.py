"""Every number of the config: what it may be, and that nothing else ends in a traceback."""

import copy
import math

import numpy as np
import pytest
import yaml
from support import SCHEMA, TINY

from faultline.base.errors import UserError
from faultline.run.plan import Plan
from faultline.studies.config import resolve

VALUES = [2.0, 0.3, math.nan, math.inf, -math.inf, 10**30, 16**6000, 1e308, -1, 0, True, "1"]

# The smallest run with something at nearly every place that takes a number.
WIDE = yaml.safe_load(TINY)
WIDE["datasets"]["digits"] |= {"mean": [0.5], "std": [0.5]}
WIDE["synaptic_filtering"]["global_range"] = [-1, 1]
WIDE["sustainability"]["noises"] = {"dust": {"kind": "gaussian", "strength": 0.1}}
WIDE["perturbations"]["kinds"] = ["synapse_knockout", "gaussian", "bit_faults"]
WIDE["stresses"] = {"dull": {"kind": "contrast"}}
WIDE["trainings"]["regularised"] = {
    "recipe": "at-trades-lr",
    "epochs": [1, 2],
    "adversarial": {"eps": 0.1},
    "regularisation": {"layers": "mvl", "gamma": 1},
    "optimizer": "sgd",
    "schedule": {"kind": "step"},
    "tune": {"grid": {"lr": [0.1]}, "attack": "pgd", "towards": [90.0, 10.0]},
}
LAYERS = copy.deepcopy(WIDE)
LAYERS["ablation"]["stresses"] = {"dull": 3}
LAYERS["mending"] = {"from_epochs": [2], "under": ["bit_faults"]}
LAYERS["trainings"]["regularised"]["regularisation"] = {
    "layers": ["fc"],
    "gamma": {"fc": 1},
    "at": "layer",
}
MOONS = {
    "datasets": {"moons": {"test": 60}},
    "networks": ["lsa_moons"],
    "trainings": {"standard": {"epochs": [1]}},
    "attacks": {
        "fgsm": {"method": "fgsm", "eps": 0.1},
        "square": {"method": "square", "eps": 0.1},
    },
    "retraining": {"from_epochs": []},
}


def numbers(schema: dict, path: tuple = ()):
    """(path, schema) of every number; NAME stands for a name, 0 for a place in a list."""
    if {"integer", "number"} & {*np.atleast_1d(schema.get("type", ""))}:
        yield path, schema
    for option in schema.get("oneOf", ()):
        yield from numbers(option, path)
    for name, part in schema.get("properties", {}).items():
        yield from numbers(part, (*path, name))
    for name, key in (("NAME", "additionalProperties"), (0, "items")):
        if isinstance(schema.get(key), dict):
            yield from numbers(schema[key], (*path, name))


def key_of(path: tuple) -> str:
    return ".".join(map(str, path))


def put(config, path: tuple, value):
    """The config with a value at a path: under the last name, and as the first of a list."""
    if not path:
        return value
    first, *rest = path
    if first == 0:
        return [put(None, rest, value), *(config or [])[1:]]
    config = dict(config) if isinstance(config, dict) else {}
    name = first if first != "NAME" else [*config, "fc"][-2 if config else 0]
    return config | {name: put(config.get(name), rest, value)}


def plan_of(config: dict) -> str:
    """All that the rules are made of."""
    config = resolve(config)
    plan = Plan(config)
    parts = [plan.classes, plan.checkpoints(), plan.layer_batches(), plan.tuned(), plan.scored()]
    parts += [plan.policies(), plan.remedies(), plan.attacks(), plan.image_sets(), config.dump()]
    for place in plan.checkpoints("last"):
        parts.append(plan.dropout_jobs(place["network"], place["dataset"]))
        parts.append(plan.segment_settings(place["training"], place["network"]))
    return repr(parts)


@pytest.mark.parametrize(
    ("path", "schema"), [pytest.param(*found, id=key_of(found[0])) for found in numbers(SCHEMA)]
)
def test_any_number(path, schema):
    assert {"maximum", "exclusiveMaximum"} & {*schema}
    assert {"minimum", "exclusiveMinimum"} & {*schema}
    limits = [schema[limit] for limit in ("minimum", "maximum") if limit in schema]
    planned = []
    for config in (WIDE, LAYERS, MOONS):
        for value in VALUES + limits:
            try:
                planned.append(plan_of(put(config, path, value)))
            except UserError as error:
                said = str(error)
                assert said.startswith("config key ") and "\n" not in said and len(said) < 400
    assert planned or path[-1] == "classes"  # which is for files of arrays


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=key_of(p)) for p, s in numbers(SCHEMA) if "integer" in s["type"]]
)
def test_a_whole_number_with_a_point_is_an_integer(path):
    for config in (WIDE, MOONS):
        plans = []
        for value in (300, 300.0):
            try:
                plans.append(plan_of(put(config, path, value)))
            except UserError as error:
                plans.append(str(error).replace("300.0", "300"))
        assert plans[0] == plans[1]
    with pytest.raises(UserError, match=r"300\.5 has the wrong type; expected integer"):
        resolve(put(WIDE, path, 300.5))
