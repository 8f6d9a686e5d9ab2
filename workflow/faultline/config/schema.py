"""The schema of the config, made of its models; a config checked against it. No torch."""

import ast
import functools
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import jsonschema
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.types import StringConstraints

from faultline.base.errors import UserError, nearest, short
from faultline.config.fields import Absent, OneOf, Section, Unique, mark_of
from faultline.config.reading import load_yaml

Json = dict[str, Any]

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}
_LIMITS = {
    annotated_types.Ge: ("ge", "minimum"),
    annotated_types.Gt: ("gt", "exclusiveMinimum"),
    annotated_types.Le: ("le", "maximum"),
    annotated_types.Lt: ("lt", "exclusiveMaximum"),
}


@functools.cache
def descriptions(model: type[Section]) -> dict[str, str]:
    """Field -> the text below it, of a model and those that it extends."""
    texts: dict[str, str] = {}
    for part in reversed(model.__mro__[: model.__mro__.index(Section)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                texts[field.target.id] = " ".join(below.value.value.split())
    return texts


@functools.cache
def schema_of(model: type[Section], *, described: bool = False) -> Json:
    """The JSON schema of a model; described: with the descriptions of its keys, for which its
    source is read."""
    texts = descriptions(model) if described else {}
    properties, required = {}, []
    for name, field in model.model_fields.items():
        key = field.alias or name
        part = {**_of_field(field, described)}
        if text := texts.get(name):
            part["description"] = text
        properties[key] = part
        if field.is_required():
            required.append(key)
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
    if described and model.__doc__:
        schema["description"] = " ".join(model.__doc__.split())
    return schema | ({"required": required} if required else {}) | {"properties": properties}


def _of_field(field: FieldInfo, described: bool) -> Json:
    mark = mark_of(field, Absent)
    annotation = field.annotation
    if mark and not mark.null:
        annotation = _without_none(annotation)
    part = _with_marks(_of_type(annotation, described), field.metadata)
    if described and field.description:
        part["description"] = field.description
    if not field.is_required() and not mark:
        part["default"] = _plain(field.get_default(call_default_factory=True))
    return part


def _plain(default: Any) -> Any:
    if not isinstance(default, Section):
        return default
    said = [name for name in type(default).model_fields if name in default.model_fields_set]
    return {name: _plain(getattr(default, name)) for name in said}


def _without_none(annotation: Any) -> Any:
    """Of a union with None, the rest."""
    rest = [part for part in get_args(annotation) if part is not types.NoneType]
    return Union[tuple(rest)]  # noqa: UP007


def _with_marks(part: Json, marks: Iterable[Any]) -> Json:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            if mark.description:
                part["description"] = mark.description
            part = _with_marks(part, mark.metadata)
        elif isinstance(mark, OneOf):
            names = {"enum": [*mark.names]}
            part = {"anyOf": [names, {"type": "string", "pattern": ":"}]} if mark.own else names
        elif isinstance(mark, Unique):
            part["uniqueItems"] = True
        elif isinstance(mark, StringConstraints):
            part |= {"maxLength": mark.max_length, "pattern": mark.pattern}
        elif type(mark) in _LIMITS:
            attribute, key = _LIMITS[type(mark)]
            part[key] = getattr(mark, attribute)
        elif isinstance(mark, annotated_types.MinLen | annotated_types.MaxLen):
            of = "Properties" if part["type"] == "object" else "Items"
            if isinstance(mark, annotated_types.MinLen):
                part[f"min{of}"] = mark.min_length
            else:
                part[f"max{of}"] = mark.max_length
        elif pattern := getattr(mark, "pattern", None):
            part["pattern"] = pattern
    return part


def _of_type(annotation: Any, described: bool) -> Json:
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _with_marks(_of_type(annotation.__origin__, described), annotation.__metadata__)
    if origin in (Union, types.UnionType):
        return _of_union(parts, described)
    if origin is Literal:
        return {"enum": [*parts]}
    if origin is list:
        return {"type": "array", "items": _of_type(parts[0], described)}
    if origin is dict:
        if parts[1] is Any:
            return {"type": "object"}
        named = {"propertyNames": _of_type(parts[0], described)} if parts[0] is not str else {}
        entry = {k: v for k, v in _of_type(parts[1], described).items() if k != "description"}
        return {"type": "object", "additionalProperties": entry} | named
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return {**schema_of(annotation, described=described)}
    return {"type": _TYPES[annotation]}


def _of_union(parts: tuple[Any, ...], described: bool) -> Json:
    options = [_of_type(part, described) for part in parts if part is not types.NoneType]
    if len(options) > 1:
        return {"oneOf": options}
    (option,) = options
    if types.NoneType in parts:
        if "enum" in option:
            return option | {"enum": [*option["enum"], None]}
        return option | {"type": [option["type"], "null"]}
    return option


def check_schema(given: Json, model: type[Section]) -> None:
    """UserError with one line on the first key that is not as a model has it."""
    if _fits(given, schema_of(model)):
        return
    validator = jsonschema.Draft202012Validator(schema_of(model, described=True))
    errors = sorted(validator.iter_errors(given), key=lambda e: [str(p) for p in e.absolute_path])
    error = _closest(errors[0])
    where = ".".join(str(part) for part in error.absolute_path)
    value, rule = error.instance, error.validator
    if rule == "additionalProperties":
        keys = list(error.schema.get("properties", {}))
        unknown = sorted(str(key) for key in value if key not in keys)
        key = ".".join(filter(None, [where, unknown[0]]))
        raise UserError(f"config key {key}: unknown; {nearest(unknown[0], keys)}")
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


def _closest(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """Of several things that a key may be, what is wrong with the one of the value's type."""
    while error.validator == "oneOf":
        inner = [e for e in error.context if e.relative_path or e.validator not in ("type", "enum")]
        if not inner:
            break
        error = inner[0]
    return error


def check_finite(value: Any, where: str = "") -> None:
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


def _expected(schema: Json, key: str) -> str:
    about = schema.get("properties", {}).get(key, {}).get("description", "it is required")
    return f"add it ({about.rstrip('.')})"


def _problem(error: jsonschema.ValidationError) -> str:
    value, limit = error.instance, error.validator_value
    texts: dict[str, Callable[[], str]] = {
        "type": lambda: _wrong_type(value, limit),
        "minimum": lambda: f"{_shown(value)} is too small; expected at least {limit}",
        "exclusiveMinimum": lambda: f"{_shown(value)} is too small; expected more than {limit}",
        "maximum": lambda: f"{_shown(value)} is too large; expected at most {limit}",
        "exclusiveMaximum": lambda: f"{_shown(value)} is too large; expected less than {limit}",
        "minItems": lambda: f"the list is too short; expected at least {limit} entries",
        "maxItems": lambda: f"the list is too long; expected at most {limit} entries",
        "minProperties": lambda: f"it is empty; expected at least {limit} entries",
        "uniqueItems": lambda: f"{_shown(value)} names something twice; name each once",
    }
    return texts.get(error.validator, lambda: str(error.message))()


def _shown(value: Any) -> str:
    return short(repr(value))


def _types(types: Any) -> str:
    words = {"array": "a list", "object": "lines of key: value", "string": "text"}
    return " or ".join(words.get(t, t) for t in ([types] if isinstance(types, str) else types))


def _option(schema: Json) -> str:
    """One of several things that a key may be, in words."""
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema["type"] == "array":
        return "a list of names or numbers"
    least = f" of at least {schema['minimum']}" if "minimum" in schema else ""
    return _types(schema["type"]) + least


def _wrong_type(value: Any, types: Any) -> str:
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value):  # YAML 1.1: a text
        hint = f"; write {value.replace('e', '.0e')}"
    elif types == "array" and not isinstance(value, dict):
        hint = f"; write [{value}]"
    return f"{_shown(value)} has the wrong type; expected {_types(types)}{hint}"


def from_command_line(value: Any, schema: Json, key: str = "") -> Any:
    """What `--config` gave, with the types that the schema asks for: Snakemake leaves what stands
    in lists and mappings as text. A text that the schema takes as one stays one.

    Raises UserError for a text that is no YAML.
    """
    options: list[Json] = schema.get("oneOf") or schema.get("anyOf") or []
    for option in options:
        typed = from_command_line(value, option, key)
        if _fits(typed, option) or option is options[-1]:
            return typed
    if isinstance(value, dict):
        keys, other = schema.get("properties", {}), schema.get("additionalProperties")
        of = {name: keys.get(name, other if isinstance(other, dict) else {}) for name in value}
        return {
            name: from_command_line(part, of[name], f"{key}.{name}".lstrip("."))
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [from_command_line(part, schema.get("items", {}), key) for part in value]
    if not isinstance(value, str) or (schema and value != "null" and _fits(value, schema)):
        return value
    try:
        return load_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(
            f"config key {key}: {_shown(value)} is no YAML; write it on one line, in quotes, such "
            "as 'seeds=[0, 1]' or 'classes={tau: {layers: {S_adv: 0.2}}}'"
        ) from None


def names_one_of(error: UserError, given: Json) -> bool:
    """Whether the key that an error names is one of those given."""
    key = re.match(r"config key ([^:]+):", str(error))
    for part in key[1].split(".") if key else [""]:
        if not isinstance(given, dict):
            break
        if part not in given:
            return False
        given = given[part]
    return True


def _fits(value: Any, schema: Json) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))
