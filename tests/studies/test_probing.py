"""What stages need of the user's own networks: found when their layers are read, refused before
anything runs."""

import copy

import pytest
import torch
import yaml
from own_code import Branching
from support import OWN_CODE, OWN_NETWORKS, TINY, error_of

from faultline.networks.registry import REGISTRY
from faultline.run.plan import Plan
from faultline.studies.config import resolve
from faultline.studies.probing import abilities


def test_what_a_network_can():
    torch.manual_seed(0)
    network = REGISTRY["small_conv"].build((1, 8, 8), 10).eval()
    layers = ["conv1", "conv2", "conv3", "fc"]
    found = abilities(network, layers, torch.rand(2, 1, 8, 8))
    assert found == {"hidden": {}, "probes": layers[:3], "no_gain": {}}


def test_what_an_untraceable_network_cannot():
    found = abilities(Branching().eval(), ["first", "last"], torch.rand(2, 1, 8, 8))
    assert list(found["hidden"]) == list(found["no_gain"]) == ["first", "last"]
    assert "cannot be traced by torch.fx" in found["hidden"]["first"]
    assert found["probes"] == ["first"]


BRANCHING, PLAIN = f"{OWN_CODE}:Branching", f"{OWN_NETWORKS}:plain"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all that is read of networks is kept."""
    return str(tmp_path_factory.mktemp("results"))


@pytest.fixture
def config(folder):
    tiny = yaml.safe_load(TINY) | {"networks": [BRANCHING], "results": folder}
    for section in ("perturbations", "remedy", "retraining", "sustainability", "criteria"):
        del tiny[section]
    tiny["retraining"] = {"from_epochs": []}
    tiny["synaptic_filtering"]["layers"] = "all"
    return tiny


@pytest.mark.parametrize(
    ("network", "key", "value", "expected"),
    [
        (BRANCHING, "targeting", {"at": "activation"}, ["targeting.at", "set it to output"]),
        (BRANCHING, "nodal_dropout", {"at": "activation"}, ["nodal_dropout.at", "to weights"]),
        (BRANCHING, "remedy", {"layers": ["last"]}, ["remedy.layers", "gains cannot act on last"]),
        (PLAIN, "sustainability", {"epochs": [1]}, ["sustainability.at", "set it to layer"]),
    ],
)
def test_what_would_fail_after_minutes_is_refused_at_once(config, network, key, value, expected):
    config |= {"networks": [network], key: value}
    said = error_of(resolve, config)
    for part in (network.rpartition(":")[2], *expected):
        assert part in said
    config["networks"].append("small_conv")
    config["synaptic_filtering"]["layers"] = "all"
    assert error_of(resolve, config) == said
    config["networks"] = ["small_conv"]
    if key != "remedy":
        resolve(config)


def test_a_layer_that_is_regularised_must_have_an_activation(config):
    lr = {"recipe": "at-fgsm-lr", "adversarial": {"eps": 0.1}, "epochs": [1, 2]}
    config["trainings"]["one"] = lr | {"regularisation": {"layers": ["last"], "gamma": 1}}
    said = error_of(resolve, config)
    assert "regularisation.layers: no activation function follows last" in said
    assert "choose from: first" in said
    config["trainings"]["one"]["regularisation"] |= {"at": "layer"}
    resolve(config)


def test_targeting_reads_what_it_can_by_default(config):
    config["networks"].append("small_conv")
    whole = resolve(copy.deepcopy(config))
    resolved = whole.dump()
    assert "at" not in resolved["targeting"]
    assert [Plan(whole).targeted_at(name) for name in ("Branching", "small_conv")] == [
        "output",
        "activation",
    ]
    assert resolve(copy.deepcopy(resolved)).dump() == resolved  # what the report keeps
    config["networks"] = ["small_conv"]
    assert resolve(config).dump()["targeting"]["at"] == "activation"
