"""Functions of the user's own, named as "file.py:function" in the config.

They are the user's code, run on purpose. What can be told without running it is: whether the
function is there, and a fingerprint of its file and of the modules beside it. No torch.
"""

import ast
import functools
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from faultline.base.errors import UserError, nearest
from faultline.base.fingerprint import PACKAGE, without_docstrings

NETWORKS: dict[str, dict[str, Any]] = {}
"""The networks of the config's section own_networks, name -> settings, for `registry.build`."""

CODES: dict[str, str] = {}
"""Function of the user's -> fingerprint of its code when the run began, in a job."""
_LOADED: set[str] = set()

TORCHVISION = "torchvision"


def is_own(name: object) -> bool:
    """Whether a text of the config names a function and not something built in."""
    return ":" in str(name)


def of_torchvision(name: object) -> bool:
    """Whether it names one of torchvision's networks."""
    return str(name).startswith(f"{TORCHVISION}:")


def is_users(name: object) -> bool:
    """Whether it names a function in a file of the user's."""
    return is_own(name) and not of_torchvision(name)


def parts(function: str) -> tuple[Path, str]:
    """(file, name of the function) of "file.py:function"."""
    path, _, name = function.rpartition(":")
    return Path(path).expanduser(), name


def check(key: str, function: str) -> None:
    """Raises UserError, which names the config key, where the file is missing or no Python, or
    holds no such function. The file is not run."""
    path, name = parts(function)
    if path.suffix != ".py" or not name.isidentifier():
        raise UserError(f"config key {key}: {function!r} is no function; write file.py:function")
    if not path.is_file():
        raise UserError(f"config key {key}: no such file: {path}; name a Python file of yours")
    try:
        tree = _tree(path)
    except UserError as error:
        raise UserError(f"config key {key}: {error}") from None
    definitions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    names = {node.name for node in definitions}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    if name not in names and "*" not in names:
        raise UserError(
            f"config key {key}: {_absent(path, name, [node.name for node in definitions])}"
        )


def _absent(path: Path, name: str, functions: list[str]) -> str:
    hint = nearest(name, functions) if functions else "it holds none"
    return f"{path} has no function {name!r}; {hint}"


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno or 1}: {error.msg}; mend the file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as Python ({error})") from None


def code(function: str) -> str:
    """Hexadecimal sha256 of the code behind a function: its file and the modules beside it that it
    imports, and that these import. Comments and docstrings do not count; data files, and what is
    imported from elsewhere, do not either."""
    start, _ = parts(function)
    folder = start.parent
    seen: dict[Path, str] = {}
    queue = [start]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        tree = _tree(path)
        queue += [p for name in _imports(tree, path, folder) for p in _files(folder / name)]
        seen[path] = ast.dump(without_docstrings(tree))
    texts = sorted(f"{path.relative_to(folder)}:{dump}" for path, dump in seen.items())
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _imports(tree: ast.Module, path: Path, folder: Path) -> Iterator[str]:
    """Paths, without a suffix and from the folder on, of what the imports may mean."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(folder).parts[: -node.level] if node.level else ()
            base = [*above, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for name in names:  # importing a.b.c runs a, a.b and a.b.c
            yield from ("/".join(name[:stop]) for stop in range(1, len(name) + 1))


def _files(module: Path) -> list[Path]:
    candidates = (module.with_name(f"{module.name}.py"), module / "__init__.py")
    return [path for path in candidates if path.is_file()]


@functools.cache
def _module(path: Path) -> ModuleType:
    """The module in a file, run once; modules beside it can be imported by it."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = f"own_{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}_{hash(path) & 0xFFFFFF:x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, "a file of Python, see `check`"
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(function: str) -> Callable[..., Any]:
    """The function behind "file.py:function". Raises UserError as `told` does, and where its code
    has changed since the run began."""
    path, name = parts(function)
    if not path.is_file():
        raise UserError(f"{path}: no such file; it holds the function {name}")
    with told(function):
        module = _module(path.resolve())
    if not callable(getattr(module, name, None)):
        there = [n for n, value in vars(module).items() if callable(value)]
        raise UserError(_absent(path, name, there))
    _LOADED.add(function)
    check_loaded()
    of_users: Callable[..., Any] = getattr(module, name)
    return of_users


def check_loaded() -> None:
    """UserError where the code of a function that was loaded has changed since the run began."""
    for function in _LOADED & CODES.keys():
        if code(function) != CODES[function]:
            raise UserError(changed(f"{parts(function)[0]} or a module beside it"))


def changed(file: object) -> str:
    """What is said of a file that has changed since the run began."""
    return f"{file}: changed since the run began; run again, and what comes from it is made anew"


@contextmanager
def told(function: str) -> Iterator[None]:
    """Inside the block, an error of the user's code becomes a UserError: file, line and error."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        text = (str(error).strip().splitlines() or ["no message"])[0]
        where = _place(error, parts(function)[0])
        raise UserError(f"{where}: {type(error).__name__}: {text}; from {function}") from None


def _place(error: BaseException, path: Path) -> str:
    """file:line of the user's that an error comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    folder = path.resolve().parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        mine = file.is_relative_to(folder) and "site-packages" not in file.parts
        if mine and not file.is_relative_to(PACKAGE.parent):
            return f"{path.parent / file.relative_to(folder)}:{frame.lineno}"
    return str(path)
