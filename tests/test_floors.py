"""The house keeps its floors: who may import whom, read from the imports themselves."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faultline.base.fingerprint import PACKAGE

FLOORS = ["base", "networks", "data", "stresses", "attacks", "training", "ablation", "config"]
FLOORS += ["studies", "run", "compare", "command"]
MAY = {floor: {*FLOORS[: place + 1]} for place, floor in enumerate(FLOORS)}
for beside in ("report", "snake"):  # both know nothing but the ground floor
    MAY[beside] = {"base", beside}
    for floor in ("studies", "run", "compare", "command"):
        MAY[floor] |= {beside}
PUBLISHED = {f"studies.synaptic.{name}" for name in ("sweeps", "scores", "checkpoint", "classes")}
PUBLISHED |= {f"studies.sustainability.{name}" for name in ("analysis", "lists")}
PUBLISHED |= {
    "studies.stresses.judged",
    "studies.perturbations.kinds",
    "studies.fragile.remedy",
    "studies.compression.names",
    "studies.compression.verdicts",
}
"""What other studies may use of one."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def is_for_types(node: ast.stmt) -> bool:
    """Whether a statement is read by type checkers alone."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(path: Path) -> set[str]:
    """Modules of the package that a module imports, at its top or inside of a function; not those
    that type checkers alone read."""
    found, tree = set(), ast.parse(path.read_text(encoding="utf-8"))
    for_types = {id(node) for block in tree.body if is_for_types(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: a relative import"
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == PACKAGE.name:
            for alias in node.names:
                whole = [*node.module.split(".")[1:], alias.name]
                is_module = PACKAGE.joinpath(*whole).with_suffix(".py").is_file()
                is_package = PACKAGE.joinpath(*whole, "__init__.py").is_file()
                found.add(".".join(whole if is_module or is_package else whole[:-1]))
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            found |= {".".join(p[1:]) for p in parts if p[0] == PACKAGE.name}
    return found


MODULES = {
    name_of(path): imports(path)
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


@pytest.mark.parametrize("floor", MAY)
def test_no_floor_imports_from_above(floor):
    up = {
        (module, used)
        for module, uses in MODULES.items()
        for used in uses
        if module.split(".")[0] == floor and used.split(".")[0] not in MAY[floor]
    }
    assert not up


def test_every_module_is_on_a_floor():
    assert {module.split(".")[0] for module in MODULES} == {*MAY}


def test_studies_keep_apart():
    studies = {m: uses for m, uses in MODULES.items() if m.startswith("studies.")}
    others = {
        (module, used)
        for module, uses in studies.items()
        for used in uses - PUBLISHED
        if module.count(".") == 2 and used.startswith("studies.")
        if used.split(".")[:2] != module.split(".")[:2]
    }
    assert not others


def test_there_are_no_circles():
    left = {module: {u for u in uses if u != module} for module, uses in MODULES.items()}
    while free := [module for module, uses in left.items() if not uses & {*left}]:
        for module in free:
            del left[module]
    assert not left


def test_packages_run_nothing_when_they_are_imported():
    """Fingerprints do not look into them but for what is taken by name."""
    for path in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            quiet = isinstance(node, ast.Assign | ast.Expr)
            assert quiet or path.parent == PACKAGE, f"{path}:{node.lineno}"


def test_modules_import_no_private_names():
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                private = [a.name for a in node.names if a.name.startswith("_")]
                assert not private, f"{path}: {private}"


def run_beside_the_library(code: str) -> None:
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)})


def test_a_config_is_read_without_what_takes_long_to_import():
    run_beside_the_library(
        "import sys, faultline.studies.config, faultline.run.plan\n"
        "assert not {'torch', 'pandas', 'scipy', 'matplotlib'} & {*sys.modules}"
    )


def test_the_page_is_made_without_torch():
    run_beside_the_library(
        "import sys; from faultline.studies import order, report;"
        "[order.functions(n) for n in (order.SECTIONS, order.VERDICTS, order.FINDINGS)];"
        "assert 'torch' not in sys.modules"
    )
