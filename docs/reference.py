"""What is made of the models of the config: docs/config.md, and the schema for editors.

python docs/reference.py
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow"))

from faultline.config.schema import schema_of  # noqa: E402
from faultline.studies.config import Config  # noqa: E402

HEAD = """# The config, key by key

Made of the models in `workflow/faultline` by `python docs/reference.py`. What the
methods compute, and where "ours" marks a choice, is in [methods.md](methods.md).

What is left out takes its default; a key that nothing makes use of is refused. `NAME` stands for a
name of your choice: at most 100 letters, digits, `-` and `_`. A path may begin with `~`. Any key
can be set on the command line and is merged into the config file:

    snakemake --cores 8 --config device=cpu 'seeds=[0, 1]' 'classes={tau: {layers: {S_adv: 0.2}}}'

The configs name the schema in their first line, so an editor with a YAML language server (VS Code
with its YAML extension is one) completes, explains and checks keys.
"""
KINDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}


def main(schema: dict) -> str:
    """The page. One table of what stands alone at the top, one of each section."""
    sections = schema["properties"]
    alone = {key: part for key, part in sections.items() if not children(part)}
    page = [HEAD, "## At the top\n", *table(alone, schema["required"])]
    for name, part in sections.items():
        if name not in alone:
            about = part["description"] + " Required." * (name in schema["required"])
            page += [f"\n## `{name}`\n", f"{about}\n"]
            page += table(children(part), part.get("required", []))
    return "\n".join(page) + "\n"


def children(part: dict) -> dict:
    """Key -> schema of what a mapping holds; NAME for names of the user's choice."""
    named = part.get("additionalProperties")
    return part.get("properties", {}) | ({"NAME": named} if isinstance(named, dict) else {})


def table(parts: dict, required: list) -> list[str]:
    lines = ["| key | takes | default | what it is |", "|---|---|---|---|"]
    return lines + list(rows(parts, required))


def rows(
    parts: dict, required: list, above: str = "", defaults: dict | None = None
) -> Iterator[str]:
    """defaults: those that the mapping above has of its own."""
    for key, part in parts.items():
        path, inside = f"{above}{key}", children(part)
        if key != "NAME" or "description" in part:
            value = (defaults or {}).get(key, part.get("default", ""))
            default = "required" if key in required else shown(value)
            cells = [f"`{path}`", takes(part), default, escaped(part["description"])]
            yield f"| {' | '.join(cells)} |".replace("|  |", "| |")
        below = part.get("required", []), f"{path}.", part.get("default")
        yield from rows(inside, *below)


def takes(part: dict) -> str:
    """Type, choices and range, in words."""
    for options in (part.get("oneOf"), part.get("anyOf")):
        if options:
            return ", or ".join(takes(option) for option in options)
    if "enum" in part:
        return ", ".join(shown(value) for value in part["enum"])
    types = part["type"] if isinstance(part.get("type"), list) else [part.get("type")]
    words = []
    for kind in types:
        if kind == "array":
            words.append(list_of(part))
        elif kind == "string" and part.get("pattern") == ":":
            words.append("`file.py:function`")
        else:
            words.append(KINDS.get(kind, "anything"))
    if limits := [text.format(part[key]) for key, text in LIMITS.items() if key in part]:
        words[0] += " " + " and ".join(limits)
    return ", or ".join(words)


def list_of(part: dict) -> str:
    items = takes(part["items"])
    least, most = part.get("minItems", 0), part.get("maxItems")
    size = f" of {most}" if most and most == least else f", at least {least}" * (least > 1)
    return f"list{size}: {items}"


def shown(value) -> str:
    """A value as one writes it in YAML; of a long list the ends."""
    if value == "":
        return ""
    if isinstance(value, list) and len(value) > 10:
        return f"`[{value[0]}, {value[1]}, ..., {value[-1]}]`"
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"


def escaped(text: str) -> str:
    """Plain text, in Markdown."""
    return re.sub(r"([*|]|\b_\B|\B_\b)", r"\\\1", text).replace("<", "&lt;")


def for_editors(schema: dict) -> str:
    """The schema as YAML."""
    head = "# Made of the models by `python docs/reference.py`; editors complete and check by it.\n"
    named = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    return head + yaml.dump(named, Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data) -> bool:
        return True


def pages() -> dict[Path, str]:
    """What is made: file -> its text."""
    schema = schema_of(Config, described=True)
    return {
        ROOT / "docs/config.md": main(schema),
        ROOT / "workflow/schemas/config.schema.yaml": for_editors(schema),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
