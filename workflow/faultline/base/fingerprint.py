"""A fingerprint of the code that a script really uses, for Snakemake's `params`.

It is the sha256 of the syntax trees of the script and of every top-level definition of this package
that the script reaches, directly or through other definitions, each with what the names in it stand
for. Comments, docstrings, import statements and definitions that are not reached do not count, nor
does the module that a definition stands in: editing one function reruns the stages that use it, and
moving it reruns nothing.
"""

import ast
import functools
import hashlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from faultline.base.files import save_text

PACKAGE = Path(__file__).parents[1]


class _Target(NamedTuple):
    """What a name stands for: a module of the package, or a member of one; member None: all of it.
    path None: something of another package, told by `member`."""

    path: Path | None
    member: str | None


class _Module:
    """Definitions, imports and loose statements of one source file."""

    def __init__(self, path: Path, package: Path):
        self.path, self.package = path, package
        self.imports: dict[str, _Target] = {}
        self.named: list[_Target] = []  # by `import faultline.x`, as faultline.x
        self.tree, imports = _parsed(source(path))
        for node in imports:
            self._note(node)
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.loose: list[ast.stmt] = []
        for statement in self.tree.body:
            names = _defined(statement)
            for name in names:
                self.definitions.setdefault(name, []).append(statement)
            if not names:
                self.loose.append(statement)

    def _note(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts, local = alias.name.split("."), alias.asname or alias.name.split(".")[0]
                if parts[0] != self.package.name:
                    self.imports[local] = _Target(None, alias.name)
                elif alias.asname:
                    self.imports[local] = _Target(self._file(parts[1:], node), None)
                else:
                    self.named.append(_Target(self._file(parts[1:], node), None))
            return
        parts = node.module.split(".") if node.module else []
        if node.level:
            parts = [self.package.name, *self._own_folder()[: -node.level + 1 or None], *parts]
        for alias in node.names:
            target = _Target(None, f"{'.'.join(parts)}.{alias.name}")
            if parts[0] == self.package.name:
                inner = _file_of(self.package, [*parts[1:], alias.name])
                target = _Target(
                    inner or self._file(parts[1:], node), None if inner else alias.name
                )
            self.imports[alias.asname or alias.name] = target

    def _own_folder(self) -> tuple[str, ...]:
        return self.path.parent.relative_to(self.package).parts

    def _file(self, parts: list[str], node: ast.stmt) -> Path:
        path = _file_of(self.package, parts)
        if path is None:
            name = ".".join([self.package.name, *parts])
            raise ModuleNotFoundError(f"{self.path}:{node.lineno}: there is no module {name}")
        return path

    def resolve(self, name: str, attribute: str | None) -> list[_Target]:
        """What a name, or an attribute of it, stands for in this module; nothing where it is
        local or built in."""
        if name in self.imports:
            path, member = self.imports[name]
            if path and member is None:
                inner = attribute and _file_of(path.parent, [attribute])
                if path.name == "__init__.py" and inner:
                    return [_Target(inner, None)]
                return [_Target(path, attribute)]
            if path and member and not _module(path, self.package).may_hold(member):
                raise ModuleNotFoundError(f"{self.path}: {path} holds no {member}")
            return [_Target(path, member)]
        if name in self.definitions:
            return [_Target(self.path, name)]
        return self.named if name == self.package.name else []

    def statements(self, member: str | None) -> list[ast.stmt]:
        """The definitions of a member, or all of them."""
        if member in self.definitions:
            return self.definitions[member]
        return [s for group in self.definitions.values() for s in group]

    def may_hold(self, name: str) -> bool:
        """Whether the module can have such a member, be it defined inside of a block."""
        return name in self.definitions or name in self.imports or name in self._stored

    @functools.cached_property
    def _stored(self) -> set[str]:
        nodes = list(ast.walk(self.tree))
        names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        return names | {n.name for n in nodes if hasattr(n, "name")}


def _file_of(folder: Path, parts: list[str]) -> Path | None:
    path = folder.joinpath(*parts)
    candidates = ([path.with_name(f"{path.name}.py")] if parts else []) + [path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _blocks(tree: ast.Module) -> Iterator[tuple[ast.AST, list[Any]]]:
    """Every list of statements, or of what holds such lists, with the node that it belongs to."""
    queue: deque[ast.AST] = deque([tree])
    while queue:
        node = queue.popleft()
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            if block := getattr(node, field, None):
                yield node, block
                queue.extend(block)


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree itself, its docstrings removed."""
    for node, block in _blocks(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and isinstance(block[0], ast.Expr)
            and isinstance(block[0].value, ast.Constant)
            and isinstance(block[0].value.value, str)
        ):
            del block[0]
    return tree


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


@functools.cache
def source(path: Path) -> bytes:
    """What a file held when it was first asked for."""
    return path.read_bytes()


@functools.cache
def _parsed(source: bytes) -> tuple[ast.Module, list[ast.Import | ast.ImportFrom]]:
    """Syntax tree of a source, without docstrings and imports, and these."""
    tree, imports = without_docstrings(ast.parse(source)), []
    for block in [block for _, block in _blocks(tree)]:
        imports += [n for n in block if isinstance(n, ast.Import | ast.ImportFrom)]
        block[:] = [n for n in block if not isinstance(n, ast.Import | ast.ImportFrom)]
    return tree, imports


@functools.cache
def _references(statement: ast.AST) -> list[tuple[str, str | None]]:
    """(name, attribute) pairs that a statement mentions; attribute is None for a bare name."""
    of_attributes: set[int] = set()
    pairs: set[tuple[str, str | None]] = set()
    for node in ast.walk(statement):  # an attribute before what it is of
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pairs.add((node.value.id, node.attr))
            of_attributes.add(id(node.value))
        elif isinstance(node, ast.Name) and id(node) not in of_attributes:
            pairs.add((node.id, None))
    return sorted(pairs, key=str)


@functools.cache
def _dump(statement: ast.AST) -> str:
    return ast.dump(statement)


@functools.cache
def _module(path: Path, package: Path) -> _Module:
    return _Module(path, package)


def _follow(target: _Target, package: Path) -> Iterator[_Target]:
    """The target, or where a module that hands it on has it from."""
    path, member = target
    if path and member:
        module = _module(path, package)
        if member not in module.definitions and member in module.imports:
            yield from _follow(module.imports[member], package)
            return
    yield target


@functools.cache
def _links(path: Path, statement: ast.AST, package: Path) -> tuple[str, tuple[_Target, ...]]:
    """What a statement is, the definitions behind its names included, and these."""
    module, words, targets = _module(path, package), [_dump(statement)], []
    for name, attribute in _references(statement):
        for first in module.resolve(name, attribute):
            for target in _follow(first, package):
                said = target.member or ""
                if target.path:
                    targets.append(target)
                    statements = _module(target.path, package).statements(target.member)
                    said = "".join(map(_dump, statements))
                digest = hashlib.sha256(said.encode()).hexdigest()
                words.append(f"{name} {attribute} {digest}")
    return "\n".join(words), tuple(targets)


def fingerprint(*files: Path, package: Path = PACKAGE) -> str:
    """Hexadecimal sha256 of the code that some files use, themselves included.

    Raises ModuleNotFoundError where one of these imports from the package what is not in it.
    """
    parts: set[str] = set()
    queue: list[_Target] = []
    seen: set[_Target] = set()

    def take(path: Path, statement: ast.AST) -> None:
        said, targets = _links(path, statement, package)
        parts.add(said)
        queue.extend(targets)

    for path in files:
        take(path, _module(path, package).tree)
    while queue:
        target = queue.pop()
        if target in seen or target.path is None or target.path in files:
            continue
        seen.add(target)
        module = _module(target.path, package)
        for statement in [*module.statements(target.member), *module.loose]:
            take(target.path, statement)
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def remembered(folder: Path, package: Path = PACKAGE) -> Callable[..., str]:
    """`fingerprint`, of which a file in a folder holds what was found, until a source differs:
    to find it takes a second of every start, and of every job's on a cluster."""
    sources = sorted(set(package.rglob("*.py")) | set(package.parent.glob("*.py")))
    digest = hashlib.sha256(sys.version.encode())
    for path in sources:
        content = source(path)
        digest.update(f"{path.relative_to(package.parent)} {len(content)} ".encode() + content)
    key, file = digest.hexdigest(), folder / "fingerprints.json"
    fingerprints: dict[str, str] = {}
    with suppress(OSError, ValueError, AttributeError):
        fingerprints = dict(json.loads(file.read_text(encoding="utf-8")).get(key, {}))

    def of_files(*files: Path) -> str:
        name = " ".join(str(path.relative_to(package.parent)) for path in files)
        if name not in fingerprints:
            fingerprints[name] = fingerprint(*files, package=package)
            with suppress(OSError):  # then it is found anew each time
                save_text(json.dumps({key: fingerprints}), file, durable=False)
        return fingerprints[name]

    return of_files
