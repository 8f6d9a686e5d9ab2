"""faultline: which parts of a network are fragile, robust or antifragile, and how to mend it.

What a notebook needs is here by name: `from faultline import sweep, Variant, Mask, load_network`.
Each is imported when it is first used, so that `import faultline` alone costs nothing; which names
there are and where they live stands in `__init__.pyi`, which editors and type checkers read, too.
"""

import importlib
import re
from pathlib import Path

__version__ = "0.2.0"

_HOME = {
    name: home
    for home, name in re.findall(
        r"^from (\S+) import (\w+)", Path(__file__).with_suffix(".pyi").read_text("utf-8"), re.M
    )
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
