"""A fingerprint of the code that a script really uses, for Snakemake's `params`.

It is the sha256 of the syntax trees of the script and of every top-level definition of this package
that the script reaches, directly or through other definitions. Comments, docstrings and definitions
that are not reached do not count, so editing one function reruns the stages that use it.
"""

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent


class _Module:
    """Definitions, imports and loose statements of one source file."""

    def __init__(self, path: Path):
        self.tree = tree = without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
        self.name = path.stem
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.loose: list[ast.stmt] = []
        self.imports: dict[str, tuple[str, str | None]] = {}
        for node in ast.walk(tree):
            self._note_import(node)
        for statement in tree.body:
            names = _defined(statement)
            for name in names:
                self.definitions.setdefault(name, []).append(statement)
            if not names and not isinstance(statement, ast.Import | ast.ImportFrom):
                self.loose.append(statement)

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.ImportFrom):
            package, _, module = (node.module or "").partition(".")
            if node.level:  # relative
                package, module = PACKAGE.name, node.module
            for alias in node.names if package == PACKAGE.name else []:
                local = alias.asname or alias.name
                self.imports[local] = (module, alias.name) if module else (alias.name, None)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(PACKAGE.name + ".") and alias.asname:
                    self.imports[alias.asname] = (alias.name.split(".", 1)[1], None)


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


@functools.cache
def _references(statement: ast.AST) -> set[tuple[str, str | None]]:
    """(name, attribute) pairs that a statement mentions; attribute is None for a bare name."""
    attributes, names = [], {}
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            names[id(node)] = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.append(node)
    pairs = {(names.pop(id(node.value), node.value.id), node.attr) for node in attributes}
    return pairs | {(name, None) for name in names.values()}


@functools.cache
def _dump(statement: ast.AST) -> str:
    return ast.dump(statement)


@functools.cache
def _module(path: Path) -> _Module:
    return _Module(path)


def fingerprint(script: Path, package: Path = PACKAGE) -> str:
    """Hexadecimal sha256 of the code that `script` uses, itself included."""
    seen: dict[tuple[str, str | None], None] = {}
    parts: list[str] = []
    main = _module(script)
    tree = main.tree
    parts.append(_dump(tree))
    queue = [(main, name, attribute) for name, attribute in _references(tree)]
    while queue:
        module, name, attribute = queue.pop()
        if name == PACKAGE.name and attribute:  # import faultline.x
            target, member = attribute, None
        elif name in module.imports:
            target, member = module.imports[name]
            if member is None:
                member = attribute
        elif name in module.definitions and module is not main:
            target, member = module.name, name
        else:
            continue
        path = package / f"{target}.py"
        if (target, member) in seen or not path.is_file():
            continue
        seen[(target, member)] = None
        other = _module(path)
        if member in other.definitions:
            found = other.definitions[member]
        elif member in other.imports:  # handed on
            found = []
            queue.append((other, member, None))
        else:
            found = [s for group in other.definitions.values() for s in group]
        for statement in [*found, *other.loose]:
            parts.append(f"{target}:{_dump(statement)}")
            queue += [(other, n, a) for n, a in _references(statement)]
    return hashlib.sha256("\n".join(sorted(set(parts))).encode()).hexdigest()
