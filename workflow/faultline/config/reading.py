"""Config files, read more strictly than Snakemake does. No torch."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from faultline.base.errors import UserError, first_line

TEMPLATE = "__use_yte__"
"""The key that makes Snakemake run the expressions in a config."""

MOST = 100_000
"""Values that a config may hold, each where it stands (ours): an alias of YAML is a few letters,
but whatever reads the config meets all that it stands for."""

TOO_MANY = f"more than {MOST:,} values, with what aliases (*name) stand for; write fewer"


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            said, name = None, (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
            if name in seen:  # YAML takes the last
                said = f"the key {key.value} stands here a second time; leave one out"
            if key.value == TEMPLATE:
                said = f"{TEMPLATE} runs code that a config holds; write the values out"
            if said:
                raise yaml.composer.ComposerError(None, None, said, key.start_mark)
            seen.add(name)
        return node

    def construct_document(self, node: yaml.Node) -> Any:
        _count(node, _of_node, {})
        return super().construct_document(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=True)  # which refuses what holds itself
        except (ValueError, AttributeError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, first_line(error), node.start_mark
            ) from None


def _of_node(node: Any) -> Iterable[Any]:
    if isinstance(node, yaml.MappingNode):
        return (part for pair in node.value for part in pair)
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _of_value(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _count(value: Any, of: Callable[[Any], Iterable[Any]], counts: dict[int, int]) -> int:
    """How many values there are in a value and itself, each as often as it stands there, though it
    is looked at once. of: a value -> those right in it; counts: by id. YAMLError beyond MOST."""
    if id(value) not in counts:
        counts[id(value)] = 0  # what holds itself is refused elsewhere
        counts[id(value)] = 1 + sum(_count(part, of, counts) for part in of(value))
        if counts[id(value)] > MOST:
            mark = getattr(value, "start_mark", None)
            raise yaml.composer.ComposerError(None, None, TOO_MANY, mark)
    return counts[id(value)]


def check_size(given: dict[str, Any]) -> None:
    """Raises UserError for a key of `--config` that holds too much, see MOST."""
    for key, value in given.items():
        try:
            _count(value, _of_value, {})
        except yaml.YAMLError:
            raise UserError(f"config key {key}: {TOO_MANY}") from None


def load_yaml(text: str) -> Any:
    """What a text says in YAML; yaml.YAMLError, ValueError or RecursionError where that is nothing
    that a config may hold."""
    return yaml.load(text, _Loader)  # one of SafeLoader's


def check_file(path: str | Path) -> None:
    """Raises UserError, which names file and line, where a config file is not there or no YAML of
    keys and values, gives a key twice, or would have Snakemake run code."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = load_yaml(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name one with --configfile") from None
    except yaml.MarkedYAMLError as error:
        if isinstance(error, yaml.scanner.ScannerError) and _is_json(text):  # tabs may stand there
            return
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        said = error.problem or error.context
        remedy = "" if ";" in (said or "") else "; mend the file"
        raise UserError(f"{path}:{line}: {said}{remedy}") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); mend the file") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds {_kind(found)}; expected lines of key: value")


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict) and TEMPLATE not in text
    except (ValueError, RecursionError):
        return False


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
