"""Config files, read more strictly than Snakemake does. No torch."""

import json
from pathlib import Path

import yaml

from faultline.base.errors import UserError, first_line

TEMPLATE = "__use_yte__"
"""The key that makes Snakemake run the expressions in a config."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor):
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

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep=True)  # which refuses what holds itself
        except (ValueError, AttributeError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, first_line(error), node.start_mark
            ) from None


def check_file(path: str | Path) -> None:
    """Raises UserError, which names file and line, where a config file is not there or no YAML of
    keys and values, gives a key twice, or would have Snakemake run code."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = yaml.load(text, _Loader)  # one of SafeLoader's
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name one with --configfile") from None
    except yaml.MarkedYAMLError as error:
        if isinstance(error, yaml.scanner.ScannerError) and _is_json(text):  # tabs may stand there
            return
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        said = error.problem or error.context
        remedy = "" if ";" in said else "; mend the file"
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


def _kind(value) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
