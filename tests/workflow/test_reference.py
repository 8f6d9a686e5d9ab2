"""The pages to look things up in say what the code says."""

import importlib.util
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest
from pandas.api.types import is_numeric_dtype as is_numeric
from support import ROOT, SCHEMA

from faultline.base.columns import PLACE
from faultline.base.files import load_table
from faultline.studies.order import described
from faultline.studies.robustness.scores import differences
from faultline.studies.stresses.tables import accuracies, losses

WORDS = {
    *("type", "description", "default", "enum", "properties", "additionalProperties", "required"),
    *(
        "propertyNames",
        "pattern",
        "maxLength",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
    ),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "oneOf", "anyOf"),
}
"""Of JSON Schema, those that the schema uses and `docs/reference.py` can read."""


def parts(schema: dict, path: str = "", key: str = ""):
    """(path, key, schema) of every key of the config."""
    yield path, key, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}", name)
    if isinstance(named := schema.get("additionalProperties"), dict):
        yield from parts(named, f"{path}.NAME")


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for path, _, part in [*parts(SCHEMA)]:
        assert set(part) <= WORDS, f"{path}: a comma in a description without quotes?"


def test_every_key_of_the_config_is_described():
    for path, key, part in parts(SCHEMA):
        assert not key or "description" in part, path


def test_what_is_made_of_the_models_is_not_stale():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    spec.loader.exec_module(reference := importlib.util.module_from_spec(spec))
    for file, text in reference.pages().items():
        assert file.read_text(encoding="utf-8") == text, "run python docs/reference.py"


CONFIGS = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_names_the_schema_to_editors(file):
    first, *_ = file.read_text(encoding="utf-8").splitlines()
    told, path = first.split("=")
    assert told == "# yaml-language-server: $schema"
    assert (file.parent / path).resolve() == ROOT / "workflow/schemas/config.schema.yaml"


# The dictionary of the tables

PAGE = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
SHARED, TABLES, FILES, JOB = PAGE.split("\n## ")[1:]
SOMETIMES = {"nonfinite", "stands_for"}
"""Columns that not every run has."""
MINE = {"what", "share"}
"""Columns of the variants of the tests' own ablation."""


def columns(text: str) -> dict[str, tuple[str, str]]:
    """Column -> (type, meaning) of the tables in a part of the page."""
    found = {}
    for names, kind, _, meaning in re.findall(
        r"^\| (`.*?`) \| (.*?) \| (.*?) ?\| (.*) \|$", text, flags=re.MULTILINE
    ):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), (kind, meaning))
    return found


def listed(text: str) -> list[str]:
    (line,) = re.findall(r"^Columns: (.*)\.$", text, flags=re.MULTILINE)
    return re.findall(r"`(\w+)`", line)


DICTIONARY = {
    section.split(".tsv")[0]: (listed(section), columns(section), section)
    for section in TABLES.split("\n### ")[1:]
}
KINDS = {
    "text": lambda column: not is_numeric(column) or column.isna().all(),
    "integer": lambda column: is_numeric(column) and (column.dropna() % 1 == 0).all(),
    "number": is_numeric,
    "true or false": pd.api.types.is_bool_dtype,
}

HIT = np.ones(9, bool)


def test_every_table_has_its_place_on_the_page():
    assert list(DICTIONARY) == list(described())
    shared = columns(SHARED)
    for name, what in described().items():
        names, own, section = DICTIONARY[name]
        assert what[1:] in section, f"{name}: {what}"
        assert set(own) <= set(names) <= {*own, *shared}, name
    for column in shared:
        assert sum(column in names for names, *_ in DICTIONARY.values()) > 1, column


def test_the_page_has_the_columns_of_the_tables(finished):
    shared = columns(SHARED)
    tables = (finished.folder / "results/tables").glob("*.tsv")
    tables = {path.stem: load_table(path) for path in tables}
    # the tiny run searches for nothing, has one training, no stresses and no compression
    hits = [(dict(zip(PLACE, ("a", "b", "c", 0, 1), strict=True)), {"clean": HIT, "fog@2": HIT})]
    tables["stresses"] = accuracies(hits, confidence=0.95)
    tables["stress_losses"] = losses(hits, confidence=0.95)
    tables["stress_sets"] = pd.DataFrame(
        [["a", "fog", 2, 0.1, 0.0]], columns=listed(DICTIONARY["stress_sets"][2])
    )
    for name in ("compression", "compressed"):
        tables[name] = pd.DataFrame(columns=DICTIONARY[name][0])
    tables["robustness_differences"] = differences(tables["robustness"], {}, confidence=0.95)
    assert set(tables) == set(DICTIONARY) - {"tuning"}
    for name, table in tables.items():
        names, own, _ = DICTIONARY[name]
        there = [c for c in table if not (name == "ablations" and c in MINE)]
        assert there == [c for c in names if c in table or c not in SOMETIMES], name
        for column in there if len(table) else []:
            kind, _ = own.get(column, shared.get(column))
            assert any(KINDS[one](table[column]) for one in re.split(" or (?!false)|, ", kind)), (
                f"{name}.{column} is no {kind}"
            )


def test_the_tables_of_a_checkpoint_have_columns_of_those_of_the_run(finished):
    like = {
        re.sub(r"\{\w+\}", "[^/]+", file): set(DICTIONARY[table][0])
        for files, table in re.findall(r"^\| (`.*`) \| \[(\w+)\.tsv\]", FILES, flags=re.MULTILINE)
        for file in re.findall(r"`(.*?)`", files)
    }
    for path in finished.files("results/digits") + finished.files("results/logs"):
        place = str(path.relative_to(finished.folder / "results"))
        if place.endswith(".used.tsv"):
            assert list(load_table(path)) == listed(JOB) == list(columns(JOB))
        elif path.suffix == ".tsv":
            folder = r"(.*/epoch-\d+|[^/]+/[^/]+)"  # of a checkpoint, or of a network
            (known,) = [c for file, c in like.items() if re.fullmatch(f"{folder}/{file}", place)]
            assert set(load_table(path)) <= known, place
