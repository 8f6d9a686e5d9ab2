import ast
import json

import pytest
from support import add_statement, copy_code, fingerprints

from faultline.base.fingerprint import PACKAGE, fingerprint, remembered

WORKFLOW = PACKAGE.parent

SCRIPT = '''"""A script."""
from contextlib import suppress

with suppress(KeyError):
    from faultline import whole
    from faultline.model import Network, train as fit

    fit(Network())
    whole.used()
'''

MODEL = '''"""A module."""
from functools import cache

from faultline.helpers import LIMIT, shared as common

RATE = 0.1
UNUSED_RATE = 0.2
FIRST, SECOND = 1, 2
TABLE = {"a": 1}
TABLE["b"] = 2


class Base:
    size = 3


class Network(Base):
    """A class."""

    depth = 4

    def forward(self):
        return self.depth + FIRST


@cache
def train(network, rate=RATE):
    """Trains."""
    # a comment
    return common(network, rate) + TABLE["a"]


def unused():
    return UNUSED_RATE
'''

HELPERS = """
LIMIT = 5
OTHER = 6


def shared(*given):
    from faultline.deep import bottom

    return bottom(given)


def lonely():
    return OTHER
"""

DEEP = """
def bottom(given):
    return inner(given)


def inner(given):
    return given


def unreached():
    return 0
"""

WHOLE = """
def used():
    return 1


def other():
    return 2
"""

FILES = {
    "faultline/model.py": MODEL,
    "faultline/helpers.py": HELPERS,
    "faultline/deep.py": DEEP,
    "faultline/whole.py": WHOLE,
    "script.py": SCRIPT,
}


@pytest.fixture
def fingerprint_of(tmp_path):
    """The fingerprint of the script with some text of one file replaced."""
    numbers = iter(range(100))

    def make(name=None, before="", after="", more=None):
        folder = tmp_path / str(next(numbers))  # a new path: sources are read once
        for path, text in {**FILES, **(more or {})}.items():
            if path == name:
                assert before in text
                text = text.replace(before, after)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return fingerprint(folder / "script.py", package=folder / "faultline")

    return make


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("faultline/model.py", "# a comment", "# another\n    # comment"),
        ("faultline/model.py", '"""Trains."""', '"""Trains well."""'),
        ("faultline/model.py", '"""A class."""', ""),
        ("faultline/model.py", '"""A module."""', '"""The module."""\n\n\n'),
        ("faultline/model.py", "UNUSED_RATE = 0.2", "UNUSED_RATE = 0.3"),
        ("faultline/model.py", "return UNUSED_RATE", "return UNUSED_RATE + 1"),
        ("faultline/model.py", "def unused():", "def fresh():\n    pass\n\n\ndef unused():"),
        ("faultline/helpers.py", "OTHER = 6", "OTHER = 7"),
        ("faultline/helpers.py", "def lonely()", "def lonely(more=1)"),
        ("faultline/deep.py", "return 0", "return 1"),
        ("faultline/whole.py", "return 2", "return 3"),
        ("faultline/deep.py", "def bottom(given):", "def bottom( given ) :"),
        ("script.py", '"""A script."""', '"""The script."""  # it is'),
    ],
)
def test_what_does_not_count(fingerprint_of, name, before, after):
    assert fingerprint_of(name, before, after) == fingerprint_of()


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("script.py", "fit(Network())", "fit(Network(), 0.2)"),
        ("faultline/model.py", "return common(network, rate)", "return 1 + common(network, rate)"),
        ("faultline/model.py", "RATE = 0.1\nUN", "RATE = 0.3\nUN"),
        ("faultline/model.py", "@cache\n", ""),
        ("faultline/model.py", "depth = 4", "depth = 5"),
        ("faultline/model.py", "return self.depth", "return 1 - self.depth"),
        ("faultline/model.py", "size = 3", "size = 4"),
        ("faultline/model.py", "FIRST, SECOND = 1, 2", "FIRST, SECOND = 2, 2"),
        ("faultline/model.py", 'TABLE["b"] = 2', 'TABLE["b"] = 3'),
        ("faultline/model.py", 'TABLE = {"a": 1}', 'TABLE = {"a": 2}'),
        ("faultline/helpers.py", "return bottom(given)", "return bottom(given[0])"),
        ("faultline/deep.py", "return inner(given)", "return inner(given) + 1"),
        ("faultline/deep.py", "return given", "return -given"),
        ("faultline/whole.py", "return 1", "return 4"),
    ],
)
def test_what_counts(fingerprint_of, name, before, after):
    assert fingerprint_of(name, before, after) != fingerprint_of()


def test_code_that_runs_on_import_counts(fingerprint_of):
    loose = "\nprint(LIMIT)\n"
    assert fingerprint_of("faultline/helpers.py", HELPERS, HELPERS + loose) != fingerprint_of()


def test_a_module_passed_around_counts_wholly(fingerprint_of):
    script = {"script.py": SCRIPT.replace("whole.used()", "print(whole)")}
    changed = fingerprint_of("faultline/whole.py", "return 2", "return 3", more=script)
    assert changed != fingerprint_of(more=script)


@pytest.mark.parametrize(
    "line",
    ["from faultline.model import shared", "from faultline.model import common as shared"],
)
def test_what_is_imported_through_another_module_counts(fingerprint_of, line):
    # model hands on what it has from helpers
    more = {
        "script.py": f"{line}\nshared()\n",
        "faultline/model.py": "from faultline.helpers import shared\n"
        "from faultline.helpers import shared as common\n",
    }
    changed = fingerprint_of("faultline/deep.py", "return given", "return -given", more=more)
    assert changed != fingerprint_of(more=more)


def test_an_import_under_its_full_name_counts(fingerprint_of):
    more = {"script.py": "import faultline.whole\n\nfaultline.whole.used()\n"}
    changed = fingerprint_of("faultline/whole.py", "return 1", "return 4", more=more)
    assert changed != fingerprint_of(more=more)


def test_a_relative_import_counts(fingerprint_of):
    more = {"faultline/model.py": MODEL.replace("from faultline.helpers", "from .helpers")}
    changed = fingerprint_of("faultline/deep.py", "return given", "return -given", more=more)
    assert changed != fingerprint_of(more=more)


def test_it_does_not_depend_on_the_place_or_on_the_run(tmp_path):
    copied = copy_code(tmp_path / "workflow")
    for script in ("train", "score", "ablate_layer"):
        here = fingerprint(WORKFLOW / f"{script}.py")
        assert here == fingerprint(WORKFLOW / f"{script}.py")
        assert here == fingerprint(copied / f"{script}.py", package=copied / "faultline")
        assert len(here) == 64


@pytest.mark.parametrize(
    ("module", "function", "reruns", "stays"),
    [
        (
            "studies/synaptic/figures",
            None,
            {"report"},
            {"train", "attack", "ablate_layer", "score", "classify"},
        ),
        (
            "studies/synaptic/scores",
            None,
            {"score"},
            {"train", "attack", "ablate_layer", "classify", "retrain"},
        ),
        (
            "studies/synaptic/classes",
            "classify",
            {"classify"},
            {"train", "attack", "ablate_layer", "score"},
        ),
        (
            "ablation/sweep",
            "sweep",
            {"ablate_layer", "ablate_global"},
            {"train", "attack", "score"},
        ),
        (
            "training/epochs",
            "train_epochs",
            {"train", "retrain"},
            {"attack", "ablate_layer", "score"},
        ),
        (
            "training/checkpoints",
            "restore",
            {"train", "retrain", "attack", "ablate_layer"},
            {"score"},
        ),
        (
            "ablation/variants",
            "synaptic_variants",
            {"ablate_layer", "ablate_global"},
            {"ablate_filters"},
        ),
        (
            "ablation/variants",
            "nodal_variants",
            {"ablate_filters"},
            {"ablate_layer", "train", "retrain"},
        ),
        ("ablation/variants", "band_of", {"retrain"}, {"ablate_layer", "train"}),
        ("data/splits", "prepare", {"prepare_data"}, {"train", "attack", "score"}),
        (
            "networks/architectures",
            "small_conv",
            {"train", "attack", "ablate_layer"},
            {"score", "classify"},
        ),
    ],
)
def test_an_edit_reruns_what_uses_it_and_nothing_else(tmp_path, module, function, reruns, stays):
    edited = copy_code(tmp_path / "workflow")
    add_statement(edited, module, function)
    before, after = fingerprints(WORKFLOW), fingerprints(edited)
    changed = {name for name in before if after[name] != before[name]}
    assert reruns <= changed
    assert not stays & changed


def test_other_formatting_changes_nothing(tmp_path):
    other = copy_code(tmp_path / "workflow")
    for file in other.rglob("*.py"):
        file.write_text(ast.unparse(ast.parse(file.read_text(encoding="utf-8"))), encoding="utf-8")
    assert fingerprints(other) == fingerprints(WORKFLOW)


def test_what_was_found_is_remembered_until_a_source_differs(tmp_path, monkeypatch):
    workflow = copy_code(tmp_path / "workflow")
    package, folder, script = workflow / "faultline", tmp_path / "memory", workflow / "classify.py"
    first = remembered(folder, package)(script)
    assert first == fingerprint(script, package=package)

    def raises(*_, **__):
        raise AssertionError("found anew")

    with monkeypatch.context() as patch:
        patch.setattr("faultline.base.fingerprint.fingerprint", raises)
        assert remembered(folder, package)(script) == first
        with pytest.raises(AssertionError, match="found anew"):
            remembered(folder, package)(workflow / "score.py")
    (folder / "fingerprints.json").write_text('{"cut sho')
    assert remembered(folder, package)(script) == first

    changed = copy_code(tmp_path / "changed")
    add_statement(changed, "studies/synaptic/classes", "classify")
    assert remembered(folder, changed / "faultline")(changed / "classify.py") != first
    assert len(json.loads((folder / "fingerprints.json").read_text())) == 1
