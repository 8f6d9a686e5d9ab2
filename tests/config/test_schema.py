"""The config completed from the schema, and what `--config` gives, with its types."""

import pytest
from snakemake.cli import parse_config
from snakemake.common import dict_to_key_value_args
from support import SCHEMA, error_of

from faultline.config.schema import from_command_line
from faultline.studies.synaptic.config import Classes


def test_what_a_mapping_leaves_out_takes_the_defaults_of_that_mapping():
    tau = {"filters": {"S_adv": 0.02}}
    found = Classes.model_validate({"tau": tau}).dump()["tau"]
    assert found["filters"] == {"S_clean": 0.01, "S_adv": 0.02, "S_diff": 0.01}
    assert found["bands"]["S_adv"] == 0.05 and found["layers"]["S_adv"] == 0.1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("device=cpu", {"device": "cpu"}),
        ("seeds=[0, 1]", {"seeds": [0, 1]}),
        ("networks=[small_conv]", {"networks": ["small_conv"]}),
        ("published=null", {"published": None}),
        ("datasets={digits: {mean: [0.5], test: null}}", {"mean": [0.5], "test": None}),
        ("datasets={digits: {download: true}}", {"download": True}),
        ("datasets={digits: {file: 12}}", {"file": "12"}),  # a name may look like a number
        ("synaptic_filtering={layers: [0, 1.10]}", {"layers": ["0", "1.10"]}),
        ("synaptic_filtering={layers: all}", {"layers": "all"}),
        ("remedy={from_epochs: last}", {"from_epochs": "last"}),
        ("remedy={from_epochs: [2, 8]}", {"from_epochs": [2, 8]}),
        ("classes={tau: {layers: {S_adv: 0.2}}}", {"tau": {"layers": {"S_adv": 0.2}}}),
        ("attacks={mine: {method: 'a.py:f', options: {step: 0.5}}}", {"options": {"step": 0.5}}),
        ("trainings={a: {weights: {net: w.pt}}}", {"weights": {"net": "w.pt"}}),
        ("trainings={a: {weights: {net: {file: w.pt, key: 12}}}}", {"file": "w.pt", "key": "12"}),
        ("trainings={a: {regularisation: {gamma: 1}}}", {"regularisation": {"gamma": 1}}),
        ("trainings={a: {regularisation: {gamma: {fc: 1.5}}}}", {"gamma": {"fc": 1.5}}),
        ("trainings={a: {tune: {grid: {lr: [0.1]}}}}", {"tune": {"grid": {"lr": [0.1]}}}),
        ("datasets={digits: {mean: 2.5}}", {"mean": 2.5}),  # for the schema to refuse
        ("sedes=[1]", {"sedes": [1]}),
    ],
)
def test_texts_of_the_command_line_get_the_types_of_the_schema(given, expected):
    def typed(arguments):
        return from_command_line(parse_config(arguments), SCHEMA)

    found = typed([given])
    assert repr(expected)[1:-1] in repr(found)
    # as Snakemake hands it to a job on another node
    handed = dict_to_key_value_args(parse_config([given]), quote_str=False, repr_obj=True)
    assert typed(handed) == found


@pytest.mark.parametrize("given", ["seeds=[0", "classes={tau: {layers: {S_adv: '[0.2'}}}"])
def test_a_text_that_is_no_yaml_is_named(given):
    said = error_of(from_command_line, parse_config([given]), SCHEMA)
    assert said.startswith(f"config key {'seeds' if 'seeds' in given else 'classes.tau.layers'}")
    assert "is no YAML" in said
