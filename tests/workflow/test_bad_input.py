"""What a user gets wrong: one line that names the key or the file, and nothing lost."""

import copy
import gzip
import math
import os
import pickle
import re

import numpy as np
import pytest
import yaml
from support import OWN_CODE, ROOT, TINY, Code, error_of, idx

from faultline.base.errors import UserError
from faultline.base.files import load_arrays, load_table, load_tensors
from faultline.snake.records import forget
from faultline.studies.config import resolve

EPOCH = "results/digits/small_conv/standard/seed-0/epoch-1"
MOONS = {"source": "moons", "test": 60}
GONE = object()

AT = {"recipe": "at-pgd", "epochs": [1, 2], "adversarial": {"eps": 0.1}}


def lr(**chosen):
    """A training with recipe at-pgd-lr."""
    return AT | {"recipe": "at-pgd-lr", "regularisation": {"layers": "mvl", "gamma": 1} | chosen}


# Key of the tiny config, the value put there, and what the message must hold.
MISTAKES = [
    # misspelt, with the nearest name
    ("atacks", {}, ["config key atacks", "'attacks'"]),
    ("attacks.pgd.epz", 0.1, ["config key attacks.pgd.epz", "'eps'"]),
    ("trainings.standard.schedule", {"kinds": "step"}, ["schedule.kinds", "'kind'"]),
    ("classes", {"tau": {"layers": {"S_cleen": 1}}}, ["classes.tau.layers.S_cleen", "'S_clean'"]),
    ("networks", ["small_cnv"], ["config key networks", "'small_cnv'", "'small_conv'"]),
    ("datasets", {"digitz": {"test": 60}}, ["config key datasets.digitz", "'digits'"]),
    ("datasets.digits.source", "fashion-mnist", ["datasets.digits.source", "'fashion_mnist'"]),
    ("ablation.attacks", ["pdg"], ["config key ablation.attacks", "'pdg'", "'pgd'"]),
    ("attacks.pgd.method", "gpd", ["config key attacks.pgd.method", "'pgd'"]),
    ("device", "gpu", ["config key device", "'cpu'"]),
    ("synaptic_filtering.layers", ["conv9"], ["synaptic_filtering.layers", "'conv9'"]),
    ("nodal_dropout.layers", ["fcc"], ["config key nodal_dropout.layers", "'fc'"]),
    ("perturbations", {"layers": ["cnv1"]}, ["perturbations.layers", "'cnv1'", "'conv1'"]),
    ("perturbations", {"kinds": ["gausian"]}, ["config key perturbations.kinds.0", "'gaussian'"]),
    ("perturbations", {"epochs": [7]}, ["config key perturbations.epochs", "7", "1, 2"]),
    ("retraining.filter", "pulze", ["config key retraining.filter", "'pulse'"]),
    ("retraining.by", "bands", ["config key retraining.by", "'band'"]),
    ("targeting", {"layers": ["convv1"]}, ["config key targeting.layers", "'conv1'"]),
    ("targeting", {"attacks": ["pdg"]}, ["config key targeting.attacks", "'pdg'", "'pgd'"]),
    ("targeting", {"at": "weights"}, ["config key targeting.at", "'weights'", "activation"]),
    ("remedy.layers", ["conv9"], ["config key remedy.layers", "'conv9'", "'conv"]),
    ("remedy.judged_under", ["pdg"], ["config key remedy.judged_under", "'pdg'", "'pgd'"]),
    ("sustainability", {"perturbers": ["pdg"]}, ["sustainability.perturbers", "'pdg'", "'pgd'"]),
    (
        "sustainability",
        {"noises": {"dust": {"kind": "peper", "strength": 0.1}}},
        ["config key sustainability.noises.dust.kind", "'peper'", "'pepper'"],
    ),
    ("sustainability", {"epochs": [7]}, ["config key sustainability.epochs", "7", "1, 2"]),
    ("sustainability", {"split": "valid"}, ["sustainability.split", "'valid'", "'validation'"]),
    # missing
    ("ablation.choose", "margin", ["config key ablation.images", "None", "at least 100"]),
    ("ablation", {"choose": "margin", "images": 50}, ["ablation.images", "50", "at least 100"]),
    ("ablation.choose", "margins", ["config key ablation.choose", "'margin'"]),
    (
        "sustainability",
        {"noises": {"dust": {"kind": "pepper"}}},
        ["config key sustainability.noises.dust.strength", "missing"],
    ),
    ("attacks.pgd.method", GONE, ["config key attacks.pgd.method", "missing"]),
    ("trainings.standard.epochs", GONE, ["config key trainings.standard.epochs", "missing"]),
    ("datasets.digits.test", GONE, ["config key datasets.digits.test", "missing"]),
    ("datasets", {}, ["config key datasets", "empty"]),
    # of the wrong type
    ("trainings.standard.lr", "fast", ["config key trainings.standard.lr", "'fast'", "number"]),
    ("trainings.standard.lr", "1e-3", ["config key trainings.standard.lr", "1.0e-3"]),
    ("seeds", 0, ["config key seeds", "list"]),
    ("seeds", ["a"], ["config key seeds.0", "'a'", "integer"]),
    ("scores", None, ["config key scores", "key: value"]),
    ("synaptic_filtering.layers", "conv1", ["config key synaptic_filtering.layers", "list"]),
    ("datasets", {"my data": {"source": "digits"}}, ["config key datasets.my data", "rename"]),
    ("datasets", {"tables": {"source": "digits", "test": 60}}, ["datasets.tables", "rename"]),
    ("datasets", {"nan": {"source": "digits", "test": 60}}, ["datasets.nan", "rename"]),
    ("trainings.nan", {"epochs": [1]}, ["config key trainings.nan", "missing number", "rename"]),
    ("trainings", {"standard\n": {"epochs": [1]}}, ["trainings.standard\\n", "letters", "rename"]),
    ("attacks", {"p" * 101: {"method": "pgd", "eps": 1}}, ["pppp", "at most 100", "rename"]),
    ("networks", [f"{OWN_CODE}:{'n' * 101}"], ["config key networks", "own_networks"]),
    ("networks", [f"{OWN_CODE}:n\n"], ["config key networks", "'n\\n'", "own_networks"]),
    ("results", "results\n", ["config key results", "'results\\n'"]),
    ("results", "", ["config key results"]),
    ("results", "/", ["config key results"]),
    ("results", "my{run}", ["config key results"]),
    ("sustainability", {"eta": "one"}, ["config key sustainability.eta", "'one'", "number"]),
    # out of range
    (
        "sustainability",
        {"noises": {"dust": {"kind": "gaussian", "strength": -0.1}}},
        ["config key sustainability.noises.dust.strength", "-0.1", "more than 0"],
    ),
    (
        "sustainability",
        {"noises": {"dust": {"kind": "salt", "strength": 1.5}}},
        ["config key sustainability.noises.dust.strength", "1.5", "at most 1"],
    ),
    ("sustainability", {"images": 0}, ["config key sustainability.images", "at least 1"]),
    ("attacks.pgd.eps", -0.1, ["config key attacks.pgd.eps", "-0.1", "at least 0"]),
    ("attacks.pgd.eps", math.nan, ["config key attacks.pgd.eps", "finite"]),
    ("attacks.pgd.eps_grid", [math.inf], ["config key attacks.pgd.eps_grid", "finite"]),
    ("datasets.digits.test", 0, ["config key datasets.digits.test", "at least 1"]),
    ("trainings.standard.epochs", [2, 1], ["config key trainings.standard.epochs", "go up"]),
    ("trainings.standard.epochs", [1, 1], ["config key trainings.standard.epochs", "go up"]),
    ("trainings.standard.epochs", [], ["config key trainings.standard.epochs", "at least 1"]),
    ("scores", {"confidence": 95}, ["config key scores.confidence", "less than 1"]),
    ("seeds", [1, 1], ["config key seeds", "once"]),
    ("seeds", [1, 1.0], ["config key seeds", "once"]),
    ("seeds", [2**32], ["config key seeds.0", "4294967296", "at most 4294967295"]),
    ("seeds", [10**400], ["config key seeds.0", "more than 300 digits", "finite"]),
    ("retraining", {"from_epochs": [-1]}, ["retraining.from_epochs.0", "-1", "at least 0"]),
    ("synaptic_filtering.layers", [1], ["synaptic_filtering.layers.0", "1", "text"]),
    (
        "trainings.standard.augmentation",
        {"shift": 8},
        ["config key trainings.standard.augmentation.shift", "8", "side of 8"],
    ),
    ("perturbations", {"shares": [0.5, 1.1]}, ["perturbations.shares.1", "1.1", "at most 1"]),
    ("perturbations", {"sigmas": [-0.5]}, ["perturbations.sigmas.0", "-0.5", "at least 0"]),
    ("perturbations", {"shares": [0]}, ["config key perturbations.shares", "only 0"]),
    ("perturbations", {"repeats": 1}, ["config key perturbations.repeats", "at least 2"]),
    ("datasets.digits.size", 0, ["config key datasets.digits.size", "at least 1"]),
    ("networks", ["squeezenet1_1"], ["squeezenet1_1", "8x8", "small_conv", "datasets.digits.size"]),
    ("remedy.strengths", [0.5, 1.5], ["config key remedy.strengths.1", "1.5", "at most 1"]),
    ("remedy.strengths", [-0.5], ["config key remedy.strengths.0", "-0.5", "at least 0"]),
    ("remedy.strengths", [], ["config key remedy.strengths", "at least 1"]),
    ("targeting", {"permutations": 9}, ["config key targeting.permutations", "at least 99"]),
    # recipes of training
    ("trainings.at", AT | {"recipe": "at-pdg"}, ["trainings.at.recipe", "'at-pdg'", "'at-pgd'"]),
    ("trainings.at", AT | {"adversarial": None}, ["trainings.at.adversarial", "missing"]),
    ("trainings.at", AT | {"adversarial": {}}, ["trainings.at.adversarial.eps", "missing"]),
    ("trainings.at", AT | {"adversarial": {"eps": 0}}, ["trainings.at.adversarial.eps", "more"]),
    ("trainings.standard.adversarial", {"eps": 0.1}, ["trainings.standard.adversarial", "leave"]),
    (
        "trainings.at",
        AT | {"recipe": "at-fgsm", "adversarial": {"eps": 0.1, "norm": "l2"}},
        ["trainings.at.adversarial.norm", "at-pgd"],
    ),
    ("trainings.at", lr() | {"recipe": "at-pgd"}, ["trainings.at.regularisation", "leave it out"]),
    ("trainings.at", lr() | {"regularisation": None}, ["trainings.at.regularisation", "missing"]),
    ("trainings.at", lr(gamma="much"), ["regularisation.gamma", "'much'", "number of at least 0"]),
    ("trainings.at", lr(gamma=-1), ["trainings.at.regularisation.gamma", "-1", "at least 0"]),
    ("trainings.at", lr(gamma=math.nan), ["trainings.at.regularisation.gamma", "finite"]),
    ("trainings.at", lr(gamma={"conv1": 1}), ["regularisation.gamma", "mvl", "one number"]),
    ("trainings.at", lr(eta="half"), ["trainings.at.regularisation.eta", "'half'", "number"]),
    ("trainings.at", lr(layers="mlv"), ["regularisation.layers", "'mlv'", "mvl", "list"]),
    ("trainings.at", lr(layers=[]), ["trainings.at.regularisation.layers"]),
    ("trainings.at", lr(layers=["cnv1"]), ["regularisation.layers", "small_conv", "'conv1'"]),
    ("trainings.at", lr(layers=["conv1"], gamma={"fc": 1}), ["regularisation.gamma", "each"]),
    ("trainings.at", lr(layers=["conv1"], eta=1), ["trainings.at.regularisation.eta", "mvl only"]),
    ("trainings.at", lr(of="standrad"), ["trainings.at.regularisation.of", "'standard'"]),
    ("trainings", {"at": lr(), "base": AT}, ["trainings.at.regularisation.of", "missing", "0"]),
    ("trainings", {"at": lr(of="base"), "base": AT}, ["trainings.at.regularisation.of", "'base'"]),
    ("trainings.at", lr(perturber="pdg"), ["regularisation.perturber", "'pdg'", "'pgd'"]),
    ("trainings.at", lr(at="layer"), ["trainings.at.regularisation.at", "sustainability.at"]),
    ("trainings.at", lr(on_empty="go"), ["regularisation.on_empty", "'go'", "base"]),
    # that do not go together
    ("ablation.split", "test", ["config key ablation.split", "retraining", "validation"]),
    ("ablation.split", "valid", ["config key ablation.split", "'valid'", "'validation'"]),
    ("ablation.target", "network", ["config key ablation.target", "'network'", "both"]),
    ("ablation.images", 201, ["datasets.digits.validation", "200", "ablation.images", "201"]),
    ("datasets.digits.validation", 199, ["datasets.digits.validation", "199", "at least 200"]),
    (
        "sustainability",
        {"noises": {"pgd": {"kind": "salt", "strength": 0.1}}},
        ["config key sustainability.noises.pgd", "rename"],
    ),
    ("sustainability", {"perturbers": [], "noises": {}}, ["sustainability.perturbers", "nothing"]),
    ("robustness", {"attacks": ["pdg"]}, ["config key robustness.attacks", "'pdg'", "'pgd'"]),
    ("robustness", {"epochs": [7]}, ["config key robustness.epochs", "7", "1, 2"]),
    ("robustness", {"masking": -1}, ["config key robustness.masking", "-1", "at least 0"]),
    ("targeting", {"epochs": [7]}, ["config key targeting.epochs", "7", "1, 2"]),
    ("remedy.from_epochs", [7], ["config key remedy.from_epochs", "7", "1, 2"]),
    ("datasets", {"moons": MOONS}, ["config key networks", "small_conv", "moons", "vector"]),
    ("datasets", {"moons": MOONS | {"size": 9}}, ["config key datasets.moons.size", "vectors"]),
    ("networks", ["lsa_moons"], ["config key networks", "lsa_moons", "digits", "image"]),
    ("attacks.fgsm.norm", "l2", ["config key attacks.fgsm.norm", "pgd"]),
    ("attacks.clean", {"method": "fgsm", "eps": 0.1}, ["config key attacks.clean", "rename"]),
    ("retraining.from_epochs", [7], ["config key retraining.from_epochs", "7", "1, 2"]),
    ("retraining.attack", "fgsm", ["config key retraining.attack", "'fgsm'", "pgd"]),
    ("ablation.attacks", [], ["config key ablation.attacks", "S_adv", "S_clean"]),
    ("synaptic_filtering.random_draws", 1, ["config key scores.baseline", "random_draws", "2"]),
    ("synaptic_filtering.filters", ["low_pass"], ["config key retraining.by", "pulse"]),
    ("synaptic_filtering.layers", "none", ["config key retraining.from_epochs"]),
    ("synaptic_filtering.global_range", [1, 0], ["synaptic_filtering.global_range", "go up"]),
]


@pytest.mark.parametrize(("key", "value", "expected"), MISTAKES)
def test_mistake_in_the_config(key, value, expected):
    config = yaml.safe_load(TINY)
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    before = copy.deepcopy(config)
    message = error_of(resolve, config)
    for part in expected:
        assert part in message
    assert repr(config) == repr(before)


def test_a_list_that_training_uses_must_not_come_from_test_images():
    config = yaml.safe_load(TINY)
    config["sustainability"]["split"] = "test"
    resolve(copy.deepcopy(config))
    config["trainings"]["at"] = lr()
    message = error_of(resolve, config)
    for part in ("config key sustainability.split", "trainings.at", "set it to validation"):
        assert part in message


def test_one_random_draw_tells_nothing_of_the_spread():
    config = yaml.safe_load(TINY)
    config["scores"] = {"baseline": "unfiltered"}
    config["synaptic_filtering"]["random_draws"] = 1
    message = error_of(resolve, config)
    assert "config key synaptic_filtering.random_draws" in message and "at least 2" in message


def test_the_tiny_config_is_right():
    resolve(yaml.safe_load(TINY))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_every_config_is_right(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    resolve(yaml.safe_load((ROOT / "configs" / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("config", [[], None, "text", 5])
def test_config_that_is_no_mapping(config):
    with pytest.raises(UserError, match="key: value"):
        resolve(config)


def test_noise_that_needs_bounds_is_refused_where_there_are_none():
    config = yaml.safe_load(TINY)
    config["datasets"], config["networks"] = {"moons": MOONS}, ["lsa_moons"]
    for section in ("synaptic_filtering", "perturbations", "nodal_dropout", "remedy", "retraining"):
        del config[section]
    del config["criteria"]
    config["retraining"], config["targeting"] = {"from_epochs": []}, {"layers": "none"}
    noises = resolve(config).dump()["sustainability"]["noises"]
    assert sorted(noises) == ["gaussian", "speckle"]
    config["sustainability"]["noises"] = {"dust": {"kind": "salt", "strength": 0.1}}
    with pytest.raises(UserError, match="salt sets pixels to a bound, and data set moons"):
        resolve(config)


AT = {"epochs": [1, 2], "recipe": "at-fgsm", "adversarial": {"eps": 0.1}}
LR = AT | {"recipe": "at-fgsm-lr", "regularisation": {"layers": ["conv1"], "gamma": 1}}
LR_OF = {"grid": {"regularisation.gamma": [0.1, 1]}}


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (AT | {"tune": {"grid": {"adversarial.epz": [0.1]}}}, ["adversarial.epz", "unknown"]),
        (AT | {"tune": {"grid": {"adversarial.eps": [0]}}}, ["adversarial.eps.0", "more than 0"]),
        (AT | {"tune": {"grid": {"lr": []}}}, ["tune.grid.lr", "at least 1"]),
        (AT | {"tune": LR_OF}, ["tune.grid.regularisation.gamma", "no such setting"]),
        (
            AT | {"tune": {"grid": {"adversarial.beta": [1]}}},
            ["tune.grid.adversarial.beta", "no such setting"],
        ),
        (
            LR | {"tune": {"grid": {"regularisation.eta": [0]}}},
            ["tune.grid.regularisation.eta", "no such setting"],
        ),
        (AT | {"tune": {}}, ["tune.grid: missing", "name a training under as"]),
        (AT | {"tune": {"as": "standrad"}}, ["tune.as", "'standrad'", "there is none"]),
        (AT | {"tune": {"as": "one"}}, ["tune.as", "'one'", "expected one of: two"]),
        (AT | {"tune": {"as": "one", "grid": {"lr": [1]}}}, ["tune.as", "'one'", "there is none"]),
        (AT | {"tune": {"grid": {"lr": [1]}, "seeds": [0, 7]}}, ["tune.seeds", "0 is a seed"]),
        (AT | {"tune": {"grid": {"lr": [1]}, "attack": "fgms"}}, ["tune.attack", "'fgsm'"]),
        (
            AT | {"tune": {"grid": {"lr": [1]}, "attack": "fgsm", "towards": [90, 50, 10]}},
            ["tune.towards", "3 accuracies", "expected 2", "0, 0.1"],
        ),
        (AT | {"tune": {"grid": {"lr": [1]}, "epochs": 0}}, ["tune.epochs", "at least 1"]),
        (LR | {"regularisation": {"layers": ["convv1"], "gamma": 1}}, ["layers", "'conv1'"]),
        (AT | {"published": "at-fgms"}, ["published", "'at-fgms'", "did you mean 'at-fgsm'"]),
    ],
)
def test_mistake_in_a_search(training, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = yaml.safe_load(TINY) | {"published": "configs/published/lsa-moons.tsv"}
    config["trainings"]["one"] = training
    if training.get("tune", {}).get("as") == "one" and "grid" not in training["tune"]:
        config["trainings"]["two"] = AT | {"tune": {"grid": {"lr": [0.1]}}}
    message = error_of(resolve, config)
    assert "config key trainings.one." in message
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot read"),
        ("row\teps_0\nnormal\t90\n", "no column training"),
        ("training\teps_0\nnormal\tmany\n", "line 2"),
        ("training\teps_0\trg_score\nnormal\t90\n", "line 2"),
        ("training\teps_0\nnormal\tnan\n", "line 2"),
        ("training\teps_inf\nnormal\t90\n", "line 2"),
    ],
)
def test_published_table_that_is_none(text, expected, tmp_path):
    file = tmp_path / "published.tsv"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    config = yaml.safe_load(TINY) | {"published": str(file)}
    with pytest.raises(UserError, match=f"config key published: .*{expected}"):
        resolve(config)


def test_layers_of_several_networks_each_take_their_own():
    config = yaml.safe_load(TINY) | {"networks": ["small_conv", "small_resnet"]}
    layers = ["conv2", "layer1.conv1"]
    config["trainings"]["one"] = LR | {"regularisation": {"layers": layers, "gamma": 1}}
    resolve(copy.deepcopy(config))
    layers.remove("conv2")
    with pytest.raises(UserError, match="none of them is a layer of network small_conv; add one"):
        resolve(config)


def test_scaled_images_fit_larger_networks():
    config = yaml.safe_load(TINY) | {"networks": ["vgg16"]}
    config["synaptic_filtering"]["layers"] = config["perturbations"]["layers"] = "all"
    del config["criteria"]
    config["datasets"]["digits"]["size"] = 32
    resolve(config)
    config["datasets"]["digits"]["size"] = 31
    with pytest.raises(UserError, match="32x32, but data set digits has 31x31"):
        resolve(config)


def refused(workflow, *arguments: str) -> str:
    """What Snakemake says of a run that must fail, without a traceback."""
    done = workflow.snakemake(*arguments)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def failed(workflow, *arguments: str) -> str:
    """The one line of a job that must fail because of the user's input."""
    said = refused(workflow, "--cores", "1", *arguments)
    lines = [line.strip() for line in said.splitlines()]
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert f"1 with {line}" in lines  # again at the end
    return line


def test_snakemake_shows_the_line(fresh):
    fresh.edit("config.yaml", "small_conv", "small_cnv")
    said = refused(fresh, "-n")
    lines = [line for line in said.splitlines() if "config key" in line]
    assert len(lines) == 1 and lines[0].endswith(
        "config key networks: 'small_cnv' is not known; did you mean 'small_conv'?"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sedes=[1]", "error: --config: config key sedes: unknown; did you mean 'seeds'?"),
        ("seeds=[0", "error: --config: config key seeds: '[0' is no YAML; write it on one line"),
        ("seeds=3", "error: --config: config key seeds: 3 has the wrong type; expected a list; "),
        (
            "attacks={pgd: {eps: -1}}",
            "error: --config: config key attacks.pgd.eps: -1 is too small; expected at least 0",
        ),
        ("attacks={pdg: {eps: 1}}", "config.yaml, --config: config key attacks.pdg.method: miss"),
        ("results=rules", "error: --config: config key results: rules is part of the workflow"),
        ("keep={gb: .nan}", "error: --config: config key keep.gb: nan is no finite number"),
        ("datasets={digits: {noise: 1}}", "--config: config key datasets.digits.noise: is for so"),
    ],
)
def test_mistake_on_the_command_line(fresh, given, expected):
    (line,) = [i for i in refused(fresh, "-n", "--config", given).splitlines() if "error:" in i]
    assert expected in line


def test_mistake_in_the_file_is_not_laid_to_the_command_line(fresh):
    fresh.edit("config.yaml", "thresholds: 3", "thresholds: 1")
    said = refused(fresh, "-n", "--config", "seeds=[0]", "synaptic_filtering={random_draws: 2}")
    assert re.search(r"error: \S*config.yaml, --config: config key synaptic_filtering.thr", said)


def test_nested_values_on_the_command_line_are_merged_into_the_file(fresh):
    nested = ["seeds=[3, 4]", "retraining={by: layer}", "synaptic_filtering={layers: [fc]}"]
    jobs = fresh.announced("--config", *nested)
    assert {j["wildcards"]["seed"] for j in jobs if j["rule"] == "train"} == {"3", "4"}
    assert {j["wildcards"]["layer"] for j in jobs if j["rule"] == "ablate_layer"} == {"fc"}
    epochs = {j["wildcards"]["epoch"] for j in jobs if j["rule"] == "retrain"}
    assert epochs == {"2"}  # of the file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("networks: [small_conv\nseeds: {", "config.yaml:2: expected ',' or ']'"),
        ("- small_conv\n- small_resnet\n", "config.yaml: holds a list; expected lines of"),
        ("", "config.yaml: holds nothing; expected lines of key: value"),
        (f"{TINY}device: cpu\ndevice: cuda\n", "the key device stands here a second time"),
        (f"__use_yte__: true\n{TINY}", "config.yaml:1: __use_yte__ runs code"),
        (None, "config.yaml: no such file; name one with --configfile"),
    ],
)
def test_config_file_that_is_no_config(fresh, text, expected):
    (fresh.folder / "config.yaml").unlink()
    if text is not None:
        (fresh.folder / "config.yaml").write_text(text, encoding="utf-8")
    (line,) = [i for i in refused(fresh, "-n").splitlines() if "error" in i.lower()]
    assert line.startswith("error: config.yaml") and expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__use_yte__: true\n", ":1: __use_yte__ runs code"),
        ("seeds: [0]\nseeds: [1]\n", ":2: the key seeds stands here a second time"),
    ],
)
def test_config_file_of_the_command_line(fresh, text, expected):
    (fresh.folder / "mine.yaml").write_text(text + TINY, encoding="utf-8")
    said = refused(fresh, "-n", "--configfile", "mine.yaml")
    (line,) = [i for i in said.splitlines() if "error" in i.lower()]
    assert line.startswith("error: ") and f"mine.yaml{expected}" in line


def test_code_in_the_config_does_not_run(fresh, tmp_path):
    code = f"__use_yte__: true\npublished: ?open('{tmp_path / 'ran'}', 'w').name\n"
    fresh.configure(code + TINY)
    refused(fresh, "-n")
    assert not (tmp_path / "ran").exists()


def test_config_file_that_is_not_there(fresh):
    done = fresh.snakemake("-n", "--configfile", "nowhere.yaml")
    assert done.returncode != 0  # Snakemake itself stops here, with a traceback of its own
    last = done.stdout.strip().splitlines()[-1]
    assert "nowhere.yaml" in last and "No such file" in last


def test_results_that_are_a_file(fresh):
    (fresh.folder / "taken").write_text("mine", encoding="utf-8")
    for results in ("taken", "taken/below"):
        fresh.configure(fresh.config() | {"results": results})
        assert "config key results: taken" in refused(fresh, "--cores", "1")
    assert (fresh.folder / "taken").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_results_that_are_write_protected(fresh):
    (fresh.folder / "locked").mkdir(mode=0o500)
    fresh.configure(fresh.config() | {"results": "locked"})
    assert "config key results: locked" in refused(fresh, "--cores", "1")


def fashion_mnist(workflow, **settings) -> None:
    config = workflow.config()
    config["datasets"] = {"fashion_mnist": {"validation": 2, "test": 2} | settings}
    config["retraining"]["from_epochs"] = []
    del config["criteria"], config["mending"]
    workflow.configure(config)


def test_truncated_data_file(fresh):
    fashion_mnist(fresh, folder="data")
    (fresh.folder / "data").mkdir()
    for part in ("train", "t10k"):
        images, labels = idx(np.zeros((20, 28, 28))), idx(np.zeros(20))
        if part == "t10k":
            images = images[:-100]
        (fresh.folder / f"data/{part}-images-idx3-ubyte").write_bytes(images)
        (fresh.folder / f"data/{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    line = failed(fresh, "results/fashion_mnist/data.pt")
    assert "data/t10k-images-idx3-ubyte" in line
    assert not (fresh.folder / "results/fashion_mnist/data.pt").exists()


def test_more_images_than_there_are(fresh):
    fresh.edit("config.yaml", "test: 60", "test: 6000")
    line = failed(fresh, "results/digits/data.pt")
    assert "datasets.digits.test" in line and "6000" in line and "1797" in line


@pytest.mark.slow
def test_truncated_checkpoint(rerun):
    checkpoint = rerun.folder / EPOCH / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    before = {path: path.stat().st_mtime_ns for path in rerun.files("results")}
    line = failed(rerun, "--forcerun", "attack", "--", f"{EPOCH}/attacks/fgsm/accuracy.tsv")
    assert f"{EPOCH}/checkpoint.pt" in line and "1000 bytes, but rule train" in line
    assert "delete it and run again" in line

    lost = {
        path
        for path, time in before.items()
        if not path.exists() or path.stat().st_mtime_ns != time
    }
    lost.discard(rerun.folder / "results/run.html")  # tells of the failed run, too
    mine = {path for path in lost if path.parent.name == "fgsm" or "attack-fgsm" in path.name}
    assert lost == mine  # only what the failed job was about to make anew

    checkpoint.unlink()  # as the line says; the segment is trained anew, the next one is not asked
    made = rerun.announced(f"{EPOCH}/attacks/fgsm/accuracy.tsv")
    assert [job["rule"] for job in made] == ["train", "attack"]


def test_checkpoint_that_carries_code(rerun, tmp_path):
    checkpoint = rerun.folder / EPOCH / "checkpoint.pt"
    checkpoint.write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    forget([checkpoint])
    line = failed(rerun, "--forcerun", "attack", "--", f"{EPOCH}/attacks/fgsm/accuracy.tsv")
    assert f"{EPOCH}/checkpoint.pt" in line and "code" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"text\n\xff", bytes(64)]
)
@pytest.mark.parametrize(
    "load", [lambda path: load_tensors(path, "a checkpoint"), load_arrays, load_table]
)
def test_any_damaged_file_is_named(tmp_path, load, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        assert load(path) is not None  # some content is a table, or an empty dict of tensors
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    "load", [lambda path: load_tensors(path, "a checkpoint"), load_arrays, load_table]
)
def test_lost_file_is_named(tmp_path, load):
    with pytest.raises(UserError, match="file: no such file"):
        load(tmp_path / "file")
