"""The config checked against its schema and completed. No torch."""

import copy
import re
import sys

import jsonschema
import yaml

from faultline.base.errors import UserError, nearest, short
from faultline.config.reading import load_yaml


def check_schema(config: dict, schema: dict) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(config), key=lambda e: [str(p) for p in e.absolute_path])
    if not errors:
        return
    error = _closest(errors[0])
    where = ".".join(str(part) for part in error.absolute_path)
    value, rule = error.instance, error.validator
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = sorted(str(key) for key in value if key not in known)
        key = ".".join(filter(None, [where, unknown[0]]))
        raise UserError(f"config key {key}: unknown; {nearest(unknown[0], known)}")
    if rule == "required":
        missing = next(key for key in error.validator_value if key not in value)
        key = ".".join(filter(None, [where, missing]))
        raise UserError(f"config key {key}: missing; {_expected(error.schema, missing)}")
    if rule == "enum":
        hint = nearest(value, error.validator_value)
        raise UserError(f"config key {where}: {_shown(value)} is not known; {hint}")
    if "propertyNames" in error.absolute_schema_path:
        key = ".".join(filter(None, [where, str(value)]))
        what = "letters, digits, '-' and '_' only"
        if rule == "maxLength":
            what = f"at most {error.validator_value} characters"
        raise UserError(f"config key {short(key)}: a name may hold {what}; rename it")
    if rule == "pattern":
        raise UserError(
            f"config key {where}: {_shown(value)} is no folder; letters, digits and . _ - / only"
        )
    if rule == "anyOf":  # one of ours, or a function of the user's
        hint = nearest(value, error.validator_value[0]["enum"])
        raise UserError(
            f"config key {where}: {_shown(value)} is not known; {hint}, or file.py:function of "
            "your own"
        )
    if rule == "oneOf":
        flat = ", ".join(_option(option) for option in error.validator_value)
        raise UserError(f"config key {where}: {_shown(value)} does not fit; expected {flat}")
    raise UserError(f"config key {where or '(top)'}: {_problem(error)}")


def _closest(error):
    """Of several things that a key may be, what is wrong with the one of the value's type."""
    while error.validator == "oneOf":
        inner = [e for e in error.context if e.relative_path or e.validator not in ("type", "enum")]
        if not inner:
            break
        error = inner[0]
    return error


def check_finite(value, where: str = "") -> None:
    """Raises UserError for NaN, an infinity or what is beyond all floats, anywhere in a config."""
    if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:  # NaN is not
        number = value if isinstance(value, float) else "an integer of more than 300 digits"
        raise UserError(f"config key {where}: {number} is no finite number; give one")
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        check_finite(part, f"{where}.{key}".lstrip("."))


def _expected(schema: dict, key: str) -> str:
    about = schema.get("properties", {}).get(key, {}).get("description", "it is required")
    return f"add it ({about.rstrip('.')})"


def _problem(error) -> str:
    value, limit = error.instance, error.validator_value
    return {
        "type": lambda: _wrong_type(value, limit),
        "minimum": lambda: f"{_shown(value)} is too small; expected at least {limit}",
        "exclusiveMinimum": lambda: f"{_shown(value)} is too small; expected more than {limit}",
        "maximum": lambda: f"{_shown(value)} is too large; expected at most {limit}",
        "exclusiveMaximum": lambda: f"{_shown(value)} is too large; expected less than {limit}",
        "minItems": lambda: f"the list is too short; expected at least {limit} entries",
        "maxItems": lambda: f"the list is too long; expected at most {limit} entries",
        "minProperties": lambda: f"it is empty; expected at least {limit} entries",
        "uniqueItems": lambda: f"{_shown(value)} names something twice; name each once",
    }.get(error.validator, lambda: error.message)()


def _shown(value) -> str:
    return short(repr(value))


def _types(types) -> str:
    words = {"array": "a list", "object": "lines of key: value", "string": "text"}
    return " or ".join(words.get(t, t) for t in ([types] if isinstance(types, str) else types))


def _option(schema: dict) -> str:
    """One of several things that a key may be, in words."""
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema["type"] == "array":
        return "a list of names or numbers"
    least = f" of at least {schema['minimum']}" if "minimum" in schema else ""
    return _types(schema["type"]) + least


def _wrong_type(value, types) -> str:
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value):  # YAML 1.1: a text
        hint = f"; write {value.replace('e', '.0e')}"
    elif types == "array" and not isinstance(value, dict):
        hint = f"; write [{value}]"
    return f"{_shown(value)} has the wrong type; expected {_types(types)}{hint}"


def from_command_line(value, schema: dict, root: dict, key: str = ""):
    """What `--config` gave, with the types that the schema asks for: Snakemake leaves what stands
    in lists and mappings as text. A text that the schema takes as one stays one.

    Raises UserError for a text that is no YAML.
    """
    schema = _followed(schema, root)
    for option in (options := schema.get("oneOf", schema.get("anyOf", []))):
        found = from_command_line(value, option, root, key)
        if _fits(found, option, root) or option is options[-1]:
            return found
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        of = {name: known.get(name, other if isinstance(other, dict) else {}) for name in value}
        return {
            name: from_command_line(part, of[name], root, f"{key}.{name}".lstrip("."))
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [from_command_line(part, schema.get("items", {}), root, key) for part in value]
    if not isinstance(value, str) or (schema and value != "null" and _fits(value, schema, root)):
        return value
    try:
        return load_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(
            f"config key {key}: {_shown(value)} is no YAML; write it on one line, in quotes, such "
            "as 'seeds=[0, 1]' or 'classes={tau: {layers: {S_adv: 0.2}}}'"
        ) from None


def told(error: UserError, given: dict) -> bool:
    """Whether the key that an error names is one of those given."""
    found = re.match(r"config key ([^:]+):", str(error))
    for part in found[1].split(".") if found else [""]:
        if not isinstance(given, dict):
            break
        if part not in given:
            return False
        given = given[part]
    return True


def _fits(value, schema: dict, root: dict) -> bool:
    return jsonschema.Draft202012Validator({**schema, "$defs": root["$defs"]}).is_valid(value)


def _followed(schema: dict, root: dict) -> dict:
    """A part of the schema with what it refers to."""
    while "$ref" in schema:
        target = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def with_defaults(value, schema: dict, root: dict):
    """A value with the defaults of the schema filled in, and 2.0 as 2 where it asks for an integer:
    both name the same files and parameters."""
    schema = _followed(schema, root)
    for option in schema.get("oneOf", ()):
        if _fits(value, option, root):
            return with_defaults(value, option, root)
    if isinstance(value, float) and value.is_integer():
        whole = "integer" in schema.get("type", "") or value in schema.get("enum", ())
        return int(value) if whole else value
    if isinstance(value, list):
        return [with_defaults(part, schema.get("items", {}), root) for part in value]
    if isinstance(value, dict):
        for key, part in schema.get("properties", {}).items():
            if key not in value and "default" in part:
                value[key] = copy.deepcopy(part["default"])
            elif isinstance(value.get(key), dict) and isinstance(part.get("default"), dict):
                value[key] = copy.deepcopy(part["default"]) | value[key]
            if key in value:
                value[key] = with_defaults(value[key], part, root)
        other = schema.get("additionalProperties")
        if isinstance(other, dict):
            known = schema.get("properties", {})
            for key in value:
                if key not in known:
                    value[key] = with_defaults(
                        {} if value[key] is None else value[key], other, root
                    )
    return value
