"""The pages to look things up in say what the code says."""

import importlib.util

import jsonschema
import pytest
from support import ROOT, SCHEMA

WORDS = {
    *("type", "description", "default", "enum", "properties", "additionalProperties", "required"),
    *("propertyNames", "pattern", "items", "minItems", "maxItems", "uniqueItems", "minProperties"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "oneOf", "anyOf", "$ref"),
}
"""Of JSON Schema, those that the schema uses and `docs/reference.py` can read."""


def parts(schema: dict, path: str = "", key: str = ""):
    """(path, key, schema) of every key of the config."""
    yield path, key, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}", name)
    if isinstance(named := schema.get("additionalProperties"), dict):
        yield from parts(named, f"{path}.NAME")


ALL = [*parts(SCHEMA), *((f"$defs.{k}", k, part) for k, part in SCHEMA["$defs"].items())]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for path, _, part in ALL[1:]:
        assert set(part) <= WORDS, f"{path}: a comma in a description without quotes?"


def test_every_key_of_the_config_is_described():
    for path, key, part in parts(SCHEMA):
        referred = SCHEMA["$defs"].get(part.get("$ref", "").rpartition("/")[2], {})
        assert not key or "description" in {**referred, **part}, path


def test_the_page_of_the_config_is_that_of_the_schema():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    spec.loader.exec_module(reference := importlib.util.module_from_spec(spec))
    page = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    assert page == reference.main(SCHEMA), "python docs/reference.py > docs/config.md"


CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_names_the_schema_to_editors(file):
    first, *_ = file.read_text(encoding="utf-8").splitlines()
    told, path = first.split("=")
    assert told == "# yaml-language-server: $schema"
    assert (file.parent / path).resolve() == ROOT / "workflow/schemas/config.schema.yaml"
