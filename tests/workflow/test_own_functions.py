"""Networks, attacks and ablations of the user's own: what they may be, and what is said if not."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from statsmodels.stats.contingency_tables import mcnemar
from support import OWN_CODE, TINY, copy_workflow, error_of
from torch import nn

from faultline.ablation.facts import Facts
from faultline.ablation.plugins import own_variants
from faultline.ablation.sweep import sweep
from faultline.attacks.craft import craft
from faultline.attacks.selfchecks import checks
from faultline.base import plugins
from faultline.base.files import load_arrays, load_table
from faultline.base.statistics import benjamini_hochberg
from faultline.networks import asking, inspect
from faultline.networks.asking import own_facts
from faultline.networks.layers import layers
from faultline.networks.reach import reach
from faultline.networks.registry import build
from faultline.networks.weights import load_weights
from faultline.run.plan import with_code
from faultline.studies.config import Config, resolve
from faultline.studies.own.scores import accuracy_changes
from faultline.studies.own.section import findings, section
from faultline.studies.own.tables import corrected

SMALL = ((1, 8, 8), 10)
PROBER = "faultline.studies.probing"
PLAIN = "import torch\nfrom torch import nn\n"


def write(folder, text: str, name: str = "mine.py") -> str:
    """A file with this text; "file:make"."""
    (folder / name).write_text(PLAIN + text, encoding="utf-8")
    return f"{folder / name}:make"


# What is said before anything is run


@pytest.mark.parametrize(
    ("text", "function", "expected"),
    [
        ("", "make", ["key k", "is no function", "file.py:function"]),
        ("", "other.txt:make", ["is no function"]),
        ("", "gone.py:make", ["no such file", "gone.py"]),
        (
            "def mkae(shape, classes):\n    pass\n",
            "mine.py:make",
            ["mine.py", "did you mean 'mkae'"],
        ),
        ("x =\n", "mine.py:make", ["mine.py:3: invalid syntax"]),
    ],
)
def test_mistakes_that_need_no_run(tmp_path, text, function, expected):
    write(tmp_path, "raise SystemExit('run')\n" * (text != "x =\n") + text)
    said = error_of(plugins.check, "k", f"{tmp_path}/{function}" if "." in function else function)
    for part in expected:
        assert part in said


@pytest.mark.parametrize(
    "text",
    [
        "make = nn.Flatten\n",
        "from other import make\n",
        "from other import *\n",
        "class make: pass\n",
    ],
)
def test_a_function_may_come_from_anywhere(tmp_path, text):
    plugins.check("k", write(tmp_path, text))


def test_the_fingerprint_covers_what_lies_beside_and_is_used(tmp_path):
    files = {
        "mine.py": "import parts.deep as d\nfrom helpers import size\ndef make(): return size\n",
        "helpers.py": "from parts import wide\nsize = 3\n",
        "parts/__init__.py": "from . import wide\n",
        "parts/wide.py": "width = 1\n",
        "parts/deep.py": "from .wide import width\n",
        "lonely.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    function = f"{tmp_path}/mine.py:make"
    first = plugins.code(function)
    for name, text in files.items():
        (tmp_path / name).write_text(f'"""Words."""\n# A remark.\n{text}')
        assert plugins.code(function) == first
        (tmp_path / name).write_text(text + "more = 2\n")
        assert (plugins.code(function) != first) == (name != "lonely.py"), name
        (tmp_path / name).write_text(text)
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    shutil.copytree(tmp_path, moved)
    assert plugins.code(f"{moved}/mine.py:make") == first


def test_a_file_may_be_called_as_torchvision_is(tmp_path):
    function = write(tmp_path, "def make(): pass\n", "torchvision_nets.py")
    assert plugins.is_users(function) and "code" in with_code({"function": function}, "function")
    name = "torchvision:resnet34"
    assert plugins.is_own(name) and not plugins.is_users(name)
    assert "code" not in with_code({"function": name}, "function")


# Networks

LINEAR = "nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def make():\n    return 1 / 0\n", ["mine.py:4: ZeroDivisionError: division by zero"]),
        ("1 / 0\ndef make(): pass\n", ["mine.py:3: ZeroDivisionError"]),
        ("import not_there\ndef make(): pass\n", ["mine.py:3: ModuleNotFoundError", "not_there"]),
        ("def make():\n    raise SystemExit(2)\n", ["mine.py:4: SystemExit: 2"]),
        ("def make(): pass\n", ["returned nothing", "torch.nn.Module"]),
        ("def make(): return {'a': 1}\n", ["returned a dict", "torch.nn.Module"]),
        ("def make(): return nn.Flatten()\n", ["Flatten without a layer", "convolution"]),
        ("def make(): return nn.Linear(64, 10)\n", ["layer ''", "put the network in a module"]),
        ("def make(a, b, c): pass\n", ["make(a, b, c)", "(shape, classes)"]),
        (
            f"def make(): return {LINEAR.replace('10', '9')}\n",
            ["[2, 9]", "expected logits [2, 10]"],
        ),
        (f"def make(): return {LINEAR.replace('64', '63')}\n", ["RuntimeError", "mat1"]),
        (
            "def make(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))\n",
            ["layer 1", "lazy"],
        ),
        (
            "def make():\n    return nn.Sequential(nn.Flatten(), "
            "nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))\n",
            ["layer 1", "remove_parametrizations"],
        ),
        (
            f"class Pair(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        self.net = {LINEAR}\n"
            "    def forward(self, x):\n        return self.net(x)[None], x\n"
            "def make(): return Pair()\n",
            ["in training mode it gives [1, 2, 10], [2, 1, 8, 8]", "docs/own.md"],
        ),
    ],
)
def test_mistakes_of_a_network(tmp_path, text, expected):
    said = error_of(inspect.probe, write(tmp_path, text), [SMALL])
    for part in ["mine.py", *expected]:
        assert part in said


@pytest.mark.parametrize(
    ("signature", "inner"),
    [
        ("shape, classes", "nn.Linear(shape[-1] ** 2, classes)"),
        ("shape=(1, 8, 8), classes=10", "nn.Linear(shape[-1] ** 2, classes)"),
        ("width=64, classes=10", "nn.Linear(width, classes)"),
        ("", "nn.Linear(64, 10)"),
    ],
)
def test_how_the_function_is_called(tmp_path, signature, inner):
    function = write(
        tmp_path, f"def make({signature}):\n    return nn.Sequential(nn.Flatten(), {inner})\n"
    )
    assert inspect.probe(function, [SMALL])["layers"] == [["1", "linear", 10]]


def test_layers_over_several_data_sets(tmp_path):
    parts = "nn.Conv2d(s[0], {}, 3), nn.Flatten(), nn.Linear({}, c)"
    text = f"def make(s, c):\n    return nn.Sequential({parts})\n"
    function = write(tmp_path, text.format("4", "4 * (s[1] - 2) ** 2"), "several.py")
    facts = inspect.probe(function, [((1, 8, 8), 10), ((1, 9, 9), 4), ((1, 8, 8), 4)])
    assert facts["layers"] == [["0", "conv", 4], ["2", "linear", "classes"]]
    function = write(tmp_path, text.format("s[1]", "s[1] * (s[1] - 2) ** 2"), "sized.py")
    said = error_of(inspect.probe, function, [((1, 8, 8), 10), ((1, 9, 9), 10)])
    assert "layer 0 has 9 filters for 1x9x9" in said and "run these data sets apart" in said


def test_layers_that_are_never_called_are_left_out():
    facts = inspect.probe(f"{OWN_CODE}:Branching", [SMALL])
    assert facts.pop("seconds") and facts.pop("work")
    assert facts == {
        "form": "",
        "input": "image",
        "min_size": 1,
        "layers": [["first", "conv", 4], ["last", "linear", 10]],
        "parameters": 40 + 12 + 1450,
        "unseen": [["unused", "Linear", 12, "unused"]],
        "tried": 256,
    }


def test_torchvision_by_name():
    facts = inspect.probe("torchvision:squeezenet1_0", [((1, 32, 32), 7)])
    network = own_networks_build("torchvision:squeezenet1_0", (1, 32, 32), 7)
    assert [name for name, *_ in facts["layers"]] == list(layers(network))
    assert facts["layers"][0] == ["features.0", "conv", 96]
    said = error_of(inspect.probe, "torchvision:squeezenet2_0", [((1, 32, 32), 7)])
    assert "did you mean 'squeezenet" in said


def own_networks_build(function, shape, classes, *, seed=0, normalise=True):
    plugins.NETWORKS["tested"] = {"function": function, "normalise": normalise}
    try:
        return build("tested", shape=shape, classes=classes, mean=0.5, std=0.25, seed=seed)
    finally:
        del plugins.NETWORKS["tested"]


def test_normalisation_before_the_network_and_its_seed(tmp_path):
    function = write(tmp_path, f"def make(): return {LINEAR}\n")
    with_it, again, other = (own_networks_build(function, *SMALL, seed=seed) for seed in (1, 1, 2))
    without = own_networks_build(function, *SMALL, seed=1, normalise=False)
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(with_it(images), again(images))
    assert not torch.equal(with_it(images), other(images))
    assert torch.equal(with_it(images), without((images - 0.5) / 0.25))
    assert not any(name.startswith("normalise") for name in without.state_dict())


def test_state_dict_of_a_network_whose_parts_are_called_as_ours_are(tmp_path):
    text = f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.normalise, self.body = nn.BatchNorm2d(1), {LINEAR}
    def forward(self, x):
        return self.body(self.normalise(x))
def make(): return Net()
"""
    function = write(tmp_path, text)
    state = plugins.load(function)().state_dict()
    network = own_networks_build(function, *SMALL)
    load_weights(network, state, origin="f")
    assert all(torch.equal(value, network.body.state_dict()[name]) for name, value in state.items())
    load_weights(network, network.state_dict(), origin="f")  # our own names do as well
    del state["body.1.bias"]
    assert "1 missing (body.1.bias)" in error_of(load_weights, network, state, origin="f")


def test_facts_are_found_once_and_kept(tmp_path):
    function = write(
        tmp_path,
        "from pathlib import Path\n"
        f"print('a word', file=(Path({str(tmp_path)!r}) / 'ran').open('a'))\n"
        f"def make(): return {LINEAR}\n",
    )
    cache = tmp_path / "results/.networks"

    def facts(fits=(SMALL,)):
        settings = {"function": function, "normalise": True}
        return own_facts({"tested": settings}, fits, folder=cache, prober=PROBER)["tested"]

    found = facts()
    assert found["layers"] == [["1", "linear", 10]]
    assert facts() == facts([SMALL, SMALL]) == found
    assert (tmp_path / "ran").read_text() == "a word\n"
    (file,) = cache.glob("tested-*")
    assert json.loads(file.read_text()) == found
    file.write_text("{")  # a damaged one is made anew
    assert facts() == found and json.loads(file.read_text()) == found
    assert (tmp_path / "ran").read_text() == "a word\n" * 2


INTERRUPTED = """signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)"""
"""Where the tests run behind a terminal's back, the signal is ignored."""


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("os._exit(3)", ["reading the layers of", "ended the process with code 3"]),
        ("sys.exit(3)", ["mine.py:5: SystemExit: 3"]),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ["crashed (SIGSEGV)"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", ["killed (SIGKILL)", "memory"]),
        (INTERRUPTED, ["was interrupted", "run again"]),
    ],
)
def test_a_network_that_ends_the_process(tmp_path, capsys, ending, expected):
    function = write(tmp_path, f"import os, signal, sys\ndef make():\n    {ending}\n")
    said = error_of(
        *(own_facts, {"tested": {"function": function}}, [SMALL]),
        folder=tmp_path / "cache",
        prober=PROBER,
    )
    for part in ("config key own_networks.tested: ", "mine.py", *expected):
        assert part in said
    assert "torch must be installed" not in said
    assert capsys.readouterr().err == "reading the layers of tested\n"


def test_a_network_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "PATIENCE", 1)
    function = write(tmp_path, "import time\ntime.sleep(1000)\ndef make(): pass\n")
    asked = {"tested": {"function": function}}
    said = error_of(own_facts, asked, [SMALL], folder=tmp_path, prober=PROBER)
    assert "own_networks.tested" in said and "took longer than 1 s" in said


def test_several_networks_are_read_by_one_process_and_none_is_lost_where_one_ends_it(
    tmp_path, capsys
):
    text = f"""import os
print("a word", file=open({str(tmp_path / "ran")!r}, "a"))
def one(): return {LINEAR}
def two(): os._exit(3)
def three(): return {LINEAR}
"""
    file = write(tmp_path, text).partition(":")[0]
    asked = {name: {"function": f"{file}:{name}"} for name in ("one", "two", "three")}
    said = error_of(own_facts, asked, [SMALL], folder=tmp_path / "cache", prober=PROBER)
    assert "config key own_networks.two: " in said and "ended the process with code 3" in said
    assert capsys.readouterr().err == "reading the layers of one, two, three\n"
    assert (tmp_path / "ran").read_text() == "a word\n" * 2
    del asked["two"]
    found = own_facts(asked, [SMALL], folder=tmp_path / "cache", prober=PROBER)
    assert capsys.readouterr().err == "" and found["three"]["layers"] == [["1", "linear", 10]]


def test_where_torch_is_missing(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asked = {"tested": {"function": write(tmp_path, "def make(): pass\n")}}
    said = error_of(own_facts, asked, [SMALL], folder=tmp_path, prober=PROBER)
    assert "no torch here" in said and "torch must be installed where Snakemake" in said


# Attacks


@pytest.fixture
def attacked():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    return network, torch.rand(9, 1, 8, 8), torch.arange(9)


def settings(function, **more):
    return {"method": function, "norm": "linf", "eps": 0.1, "options": {}} | more


COMMON = {"eps": 0.1, "bounds": (0.0, 1.0), "seed": 5}


def test_own_attack_by_hand(attacked):
    network, images, labels = attacked
    attack = settings(f"{OWN_CODE}:uphill", options={"share": 0.0})
    adversarial = craft(network, images, labels, attack=attack, **COMMON)
    delta = adversarial - images
    assert 0.04 < delta.abs().max() <= 0.05 + 1e-6  # half of the random start, and no step
    assert torch.equal(adversarial, craft(network, images, labels, attack=attack, **COMMON))
    other = craft(network, images, labels, attack=attack, **COMMON | {"seed": 6})
    assert not torch.equal(adversarial, other)
    assert not adversarial.requires_grad
    assert network.training and all(
        p.requires_grad and p.grad is None for p in network.parameters()
    )


def test_the_seed_also_serves_random_numbers_of_the_users(attacked, tmp_path):
    function = write(
        tmp_path,
        "def make(network, images, labels, *, eps, **rest):\n"
        "    images += eps * (2 * torch.rand_like(images) - 1)\n    return images\n",
    )
    network, images, labels = attacked
    before, state = images.clone(), torch.get_rng_state()
    one, two = (craft(*attacked, attack=settings(function), **COMMON) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one, images)
    assert torch.equal(images, before) and torch.equal(state, torch.get_rng_state())
    # a change beyond the bounds is left as it is, and the self-checks tell
    found = {
        row["check"]: row["status"]
        for row in checks(
            network,
            images,
            labels,
            attack=settings(function),
            eps=0.1,
            bounds=(0.0, 1.0),
            adversarial=one + 1,
            correct={0.0: np.ones(9, bool), 0.1: np.ones(9, bool)},
        )
    }
    assert found["inside_ball"] == "warning" and found["eps_zero_identity"] == "ok"


def test_an_attack_gets_copies(attacked, tmp_path):
    """What it does to them is of no matter to the next batch, nor to who judges its images."""
    body = (
        "    labels.zero_(); start.zero_(); images.add_(rest['attack'].pop('step', 0.05))\n"
        "    return images\n"
    )
    function = write(tmp_path, "def make(network, images, labels, *, start, **rest):\n" + body)
    network, images, labels = attacked
    attack = settings(function, step=0.1)
    adversarial = craft(network, images, labels, attack=attack, batch_size=4, **COMMON)
    assert torch.equal(adversarial, images + 0.1)
    assert torch.equal(labels, torch.arange(9)) and attack["step"] == 0.1


def test_an_attack_on_a_broken_network_does_not_change_it(attacked):
    network, images, labels = attacked
    network[2].weight.data[0] = torch.nan
    craft(network, images, labels, attack=settings(f"{OWN_CODE}:uphill"), **COMMON)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return images[:, :, 1:]", ["returned [9, 1, 7, 8]", "expected images [9, 1, 8, 8]"]),
        ("return None", ["returned a NoneType"]),
        ("return images * torch.nan", ["not finite"]),
        ("return images / 0.0", ["not finite"]),
        ("network[2].weight.data *= 2; return images", ["changes 2.weight of the", "copy"]),
        ("network[2].bias.data[3] = torch.nan; return images", ["changes 2.bias of the"]),
        ("network.register_buffer('mine', images); return images", ["changes mine of the"]),
        ("return network(images[0, 0, 0])", ["mine.py:4: "]),
        ("raise ValueError('no\\nway')", ["mine.py:4: ValueError: no; from"]),
    ],
)
def test_mistakes_of_an_attack(attacked, tmp_path, body, expected):
    function = write(tmp_path, f"def make(network, images, labels, **rest):\n    {body}\n")
    said = error_of(craft, *attacked, attack=settings(function), **COMMON)
    for part in ["mine.py", *expected]:
        assert part in said


# Ablations


def test_own_variants_as_a_plain_loop_sees_them():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    images, labels = torch.rand(40, 1, 8, 8), torch.arange(40) % 10
    variants = own_variants(f"{OWN_CODE}:halve", "0", network[0], options={"share": -1.0})
    facts = sweep(network, variants, {"clean": images}, labels, ablated=["0"])

    def right():
        with torch.inference_mode():
            return (network(images).argmax(1) == labels).numpy()

    assert (facts.base["clean"] == right()).all()
    kept = network[0].weight.data
    network[0].weight.data = -kept
    assert (facts.correct["clean"][0] == right()).all()
    network[0].weight.data = kept.clone()
    network[0].weight.data[0], network[0].bias.data[0] = 0, 0
    assert (facts.correct["clean"][1] == right()).all()


def test_own_variants_of_an_attention_name_any_of_its_parameters(tmp_path):
    layer = nn.MultiheadAttention(6, 3)
    body = (
        "for key in ('in_proj_weight', 'out_proj.weight'):\n"
        "        value = layer.get_parameter(key).detach() * options['share']\n"
        "        yield Variant({'what': key}, key, lambda k=key, v=value: {f'{name}.{k}': v})\n"
        "    yield Variant({'what': 'head'}, 'h', mask=Mask(name, (2,), 'weights'))\n"
    )
    function = write(tmp_path, VARIANT + body)
    inward, outward, head = own_variants(function, "blocks.0", layer, options={"share": 0.5})
    assert torch.equal(inward.replace()["blocks.0.in_proj_weight"], layer.in_proj_weight / 2)
    assert torch.equal(outward.replace()["blocks.0.out_proj.weight"], layer.out_proj.weight / 2)
    assert head.mask.filters == (2,)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("yield Variant({}, 1, mask=Mask(name, (3,), 'weights'))", "filters in 0..2"),
        ("layer.out_proj.weight.data *= 0; yield Variant({}, 1, dict)", "out_proj.weight in place"),
    ],
)
def test_mistakes_of_an_ablation_of_an_attention(tmp_path, body, expected):
    function = write(tmp_path, VARIANT + body + "\n")
    attention = nn.MultiheadAttention(6, 3)
    assert expected in error_of(own_variants, function, "a", attention, options={})


def test_random_numbers_of_an_ablation_are_seeded(tmp_path):
    function, layer = (
        write(
            tmp_path,
            VARIANT + "yield Variant({}, 1, lambda: {f'{name}.weight': "
            "torch.rand_like(layer.weight)})\n",
        ),
        nn.Linear(6, 10),
    )
    made = [own_variants(function, "fc", layer, options={})[0].replace() for _ in range(2)]
    assert torch.equal(made[0]["fc.weight"], made[1]["fc.weight"])


VARIANT = "from faultline import Mask, Variant\ndef make(name, layer, **options):\n    "
SAME = "lambda: {f'{name}.weight': layer.weight}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return []", ["yields no variant of layer fc"]),
        ("yield 3", ["yields a int", "Variant"]),
        ("return 3", ["TypeError", "not iterable"]),
        ("yield Variant({}, 'k')", ["replace and mask"]),
        (f"yield Variant({{'n': 1}}, 'k', {SAME})", ["column 'n'", "rename"]),
        (f"yield Variant({{'a': [1]}}, 'k', {SAME})", ["column 'a' holds a list"]),
        (
            f"yield Variant({{'a': 1}}, 'k', {SAME}); yield Variant({{'b': 1}}, 'l', {SAME})",
            ["columns ['b']", "['a']"],
        ),
        ("yield Variant({}, 'k', mask=Mask(name, (10,), 'weights'))", ["no mask", "0..9"]),
        ("yield Variant({}, 'k', mask=Mask('conv', (1,), 'weights'))", ["no mask"]),
        ("yield Variant({}, 'k', mask=Mask(name, 1, 'weights'))", ["no mask"]),
        ("yield Variant({}, 'k', mask=(1,))", ["(1,) is no mask", "expected Mask('fc'"]),
        ("yield Variant({}, 'k', mask=())", ["() is no mask"]),
        (
            "layer.weight.data *= 0; yield Variant({}, 'k', mask=Mask(name, (1,), 'weights'))",
            ["weight in place"],
        ),
        (f"yield Variant('what', 'k', {SAME})", ["columns of a variant are no dict"]),
        (f"yield Variant({{1: 2}}, 'k', {SAME})", ["columns of a variant are no dict"]),
        (
            "yield Variant({}, 'k', lambda: layer.weight)",
            ["replace gives a Parameter", "{"],
        ),
        ("yield Variant({}, 'k', lambda: None)", ["replace gives a NoneType"]),
        (
            "yield Variant({}, 'k', lambda: {f'{name}.weight': 0})",
            ["replaces 'fc.weight' by a int"],
        ),
        ("yield Variant({}, 'k', lambda: {f'{name}.bias': layer.bias / 0})", ["fc.bias by NaN"]),
        (
            "import random; yield Variant({'x': random.random()}, 'k', " + SAME + ")",
            ["other variants when it is called again", "torch"],
        ),
        (
            "import random\n    yield Variant({}, 'k', lambda: {f'{name}.bias': "
            "layer.bias * random.random()})",
            ["other variants when it is called again", "torch"],
        ),
        (
            "calls = []; yield Variant({}, 'k', lambda: calls.append(1) or "
            "{f'{name}.bias': layer.bias * len(calls)})",
            ["other variants when it is called again"],
        ),
        (
            "yield Variant({}, 'k', lambda: {'weight': layer.weight})",
            ["'weight'", "fc.weight, fc.b"],
        ),
        (
            "yield Variant({}, 'k', lambda: {f'{name}.weight': layer.weight[1:]})",
            ["[9, 6] of torch.float32", "[10, 6]"],
        ),
        ("yield Variant({}, 'k', lambda: 1 / 0)", ["mine.py:5: ZeroDivisionError"]),
        (
            "layer.weight.data *= 0; yield Variant({}, 'k', " + SAME + ")",
            ["weight in place", "copy"],
        ),
        (f"yield Variant({{}}, [1], {SAME})", ["unhashable"]),
        (
            f"yield Variant({{}}, 1, {SAME}); yield Variant({{}}, 1, {SAME})",
            ["2 variants", "key 1"],
        ),
        ("yield Variant({}, None, lambda: {f'{name}.bias': layer.bias + 1})", ["key None"]),
    ],
)
def test_mistakes_of_an_ablation(tmp_path, body, expected):
    function, layer = write(tmp_path, VARIANT + body + "\n"), nn.Linear(6, 10)
    before = layer.weight.detach().clone()
    said = error_of(own_variants, function, "fc", layer, options={})
    for part in ["mine.py", *expected]:
        assert part in said
    assert torch.equal(layer.weight, before)


def test_changes_of_accuracy_by_hand():
    base = np.array([1, 1, 1, 0, 0, 0, 1, 1], bool)
    changed = np.array([1, 0, 0, 1, 0, 0, 1, 0], bool)
    facts = Facts(
        variants={"bits": np.array([2, 3]), "share": np.array([0.5, 1.0])},
        base={"clean": base},
        correct={"clean": np.stack([base, changed])},
        changed={"clean": np.array([0, 6])},
    )
    same, other = accuracy_changes(facts, confidence=0.95).to_dict("records")
    assert same["variant"] == "bits 2, share 0.5" and other["bits"] == 3
    assert same["difference"] == 0 and same["p_value"] == 1 and same["changed_outputs"] == 0
    assert (other["correct"], other["n"], other["accuracy"]) == (3, 8, 3 / 8)
    assert other["base_accuracy"] == 5 / 8 and other["difference"] == -2 / 8
    assert other["p_value"] == pytest.approx(mcnemar([[2, 3], [1, 2]], exact=True).pvalue)
    total, squares = -2, 4 + 1  # Agresti & Min: 0.5 to each of the four cells
    margin = 1.959964 * np.sqrt(squares - total**2 / 10) / 10
    assert other["ci_low"] == pytest.approx(-0.2 - margin)
    assert other["ci_high"] == pytest.approx(-0.2 + margin)


def test_the_report_shows_the_largest_changes_of_many(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.uniform(size=50) < 0.8
    tables = []
    for seed in (0, 1):
        correct = base & (rng.uniform(size=(70, 50)) < np.linspace(1, 0.5, 70)[:, None])
        facts = Facts(
            variants={"level": np.arange(70)},
            base={"clean": base, "pgd": base},
            correct={"clean": correct, "pgd": correct},
            changed={"clean": np.full(70, 5), "pgd": np.full(70, 5)},
        )
        place = {"dataset": "d", "network": "n", "training": "t", "seed": seed, "epoch": 1}
        found = accuracy_changes(facts, confidence=0.95)
        tables.append(found.assign(**place, layer="fc", ablation="fade"))
    table = {"ablations": corrected(pd.concat(tables, ignore_index=True))}
    of_set = table["ablations"].query("seed == 0 and images == 'pgd'")
    assert of_set["q_value"].tolist() == benjamini_hochberg(of_set["p_value"]).tolist()
    mine = {"ablations": {"fade": {"function": "f.py:fade"}}, "ablation": {"split": "test"}}
    config = Config.model_validate(yaml.safe_load(TINY) | mine)
    shown = section(table, config)
    (block,) = shown.blocks
    assert "The 60 of 70 variants" in block.notes[0]
    assert "fc: level 69" in block.figures[0].svg
    assert "fc: level 1<" not in block.figures[0].svg
    ((heading, text),) = findings(table, config)
    assert heading == "fade, n" and "in every one of 2 seeds" in text and "of 70" in text
    assert section({"ablations": pd.DataFrame()}, config).blocks == []


# Through the workflow

MINE = """
datasets:
  digits: {train: 200, validation: 50, test: 60}
networks: [my_code.py:Branching]
own_networks:
  Branching: {function: my_code.py:Branching, normalise: false}
trainings:
  standard: {batch_size: 50, epochs: [1]}
attacks:
  mine: {method: my_code.py:uphill, eps: 0.1, options: {share: 0.5}}
ablation: {attacks: [mine]}
ablations:
  halve: {function: my_ablations.py:halve, layers: first}
synaptic_filtering: {layers: [first], thresholds: 3, random_draws: 2}
retraining: {from_epochs: []}
"""
"""A network that torch.fx cannot trace, attacked and ablated by functions in other files, with
every stage that is on by default."""


def run_mine(folder):
    copy = copy_workflow(folder, MINE)
    shutil.copy(OWN_CODE, copy.folder / "helpers.py")
    for name in ("my_code", "my_ablations"):
        text = f"print({name!r}, file=open('ran', 'a'))\nfrom helpers import *\n"
        (copy.folder / f"{name}.py").write_text(text)
    copy.run("--cores", "2")


@pytest.fixture
def mine(shared, tmp_path):
    return shared("mine", run_mine).duplicate(tmp_path / "run")


@pytest.mark.slow
def test_a_network_that_cannot_be_traced_goes_through_the_chain(mine):
    place = mine.folder / "results/digits/Branching/standard/seed-0/epoch-1"
    log = mine.folder / "results/logs/digits/Branching/standard/seed-0/epoch-1/layers/first"
    assert "gets no shortcuts" in (log / "ablate_layer.log").read_text()
    facts = Facts.from_arrays(load_arrays(place / "layers/first/own/halve.npz"))
    assert set(facts.base) == {"clean", "mine"}
    table = load_table(mine.folder / "results/tables/ablations.tsv")
    assert list(table["variant"][:2]) == ["what weights, share 0.5", "what filter 0, share 1"]
    html = (mine.folder / "results/report.html").read_text(encoding="utf-8")
    for told in (html, mine.run("-n", "--forceall")):
        assert "not reached by 256 images of noise: unused (Linear, 12); it cannot be" in told
        assert "so targeting reads the outputs of its layers" in told
    assert "Ablations of your own" in html and "halve (my_ablations.py:halve)" in html

    ran = (mine.folder / "ran").read_text()
    assert "Nothing to be done" in mine.run("--cores", "1")
    assert (mine.folder / "ran").read_text() == ran  # the layers were kept


@pytest.mark.slow
def test_what_a_change_of_the_users_code_remakes(mine):
    def rules(copy):
        return {job["rule"] for job in copy.announced()}

    mine.edit("my_ablations.py", "print(", "_ = 1\nprint(")
    assert rules(mine) == {"ablate_own", "tabulate_own", "report"}
    mine.edit("helpers.py", "out * 2", "out * 3")  # all three import it
    assert {"train", "attack", "ablate_layer", "ablate_own"} < rules(mine)
    assert "prepare_data" not in rules(mine)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("networks", ["mine.py:make"], ["own_networks.make.function", "no such file: mine.py"]),
        ("networks", [f"{OWN_CODE}:Brunching"], ["own_networks.Brunching", "'Branching'"]),
        ("networks", ["b"], ["networks", "'b'"]),
        ("own_networks", {"small_conv": {"function": "a.py:b"}}, ["small_conv", "built-in"]),
        ("own_networks", {"b": {}}, ["own_networks.b.function", "missing"]),
        ("own_networks", {"b": {"function": "a.py:b", "normalize": 1}}, ["'normalise'"]),
        ("attacks", {"a": {"method": "pgdd", "eps": 1}}, ["attacks.a.method", "'pgd'", "your own"]),
        ("attacks", {"a": {"method": "x.py:f", "eps": 1}}, ["attacks.a.method", "x.py"]),
        ("attacks", {"a": {"method": "pgd", "eps": 1, "options": {"b": 1}}}, ["a.options", "own"]),
        ("ablations", {"a": {"function": "x.py:f"}}, ["ablations.a.function", "x.py"]),
        ("ablations", {"a": {}}, ["ablations.a.function", "missing"]),
        (
            "ablations",
            {"a": {"function": f"{OWN_CODE}:halve", "layers": ["conv9"]}},
            ["ablations.a.layers", "conv9"],
        ),
        (
            "ablations",
            {"a": {"function": f"{OWN_CODE}:halve", "epochs": [9]}},
            ["ablations.a.epochs", "9"],
        ),
    ],
)
def test_mistakes_of_the_config(key, value, expected):
    said = error_of(resolve, yaml.safe_load(TINY) | {key: value})
    for part in ["config key", *expected]:
        assert part in said


def test_snakemake_shows_the_line_of_a_network(fresh):
    write(fresh.folder, "def make(shape, classes):\n    return nn.Linear(shape, 3)\n")
    fresh.edit("config.yaml", "networks: [small_conv]", "networks: [mine.py:make]")
    said = fresh.snakemake("-n")
    assert said.returncode != 0 and "Traceback" not in said.stdout
    (line,) = [line for line in said.stdout.splitlines() if "config key" in line]
    assert "own_networks.make: mine.py:4: TypeError" in line


def test_layers_in_use():
    network = own_networks_build(f"{OWN_CODE}:Branching", *SMALL)
    assert reach(network, [torch.rand(1, 1, 8, 8)]).called == {"first", "last"}
