"""What the models of the config's sections are made of. No torch.

A section is a `Section`; its keys are typed fields, each with a description below it, as here:

    images: int | None = Field(None, ge=1)
    \"\"\"How many of them; null for all.\"\"\"

The schema, docs/config.md and the resolved config are made of the models, see `config.schema`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
)
from pydantic.fields import FieldInfo

T = TypeVar("T")


@dataclass(frozen=True)
class Absent:
    """Marks a key that may be left out, and then says nothing until a check fills it in: None.

    null: whether null is a value of its own.
    """

    null: bool = False


Inferred = Annotated[T | None, Absent()]
"""A key without a default of its own, as that follows from the rest of the config."""


@dataclass(frozen=True)
class OneOf:
    """Marks a text that is one of some names; own: or a function of the user's own,
    file.py:function."""

    names: Iterable[str]
    own: bool = False


@dataclass(frozen=True)
class OnlyFor:
    """Marks a key that is for some choices alone: beside others it says nothing but its default.

    what: these in words. fits: whether a section, or what the user has named in it, is such.
    """

    what: str
    fits: Callable[[Any], bool]


def only_for(key: str, *values: str) -> OnlyFor:
    """For those whose `key` ("schedule.kind") has one of some values."""

    def fits(whole: Any) -> bool:
        for name in key.split("."):
            whole = getattr(whole, name)
        return whole in values

    return OnlyFor(f"{key} {', '.join(values)}", fits)


class Unique:
    """Marks a list that names nothing twice."""


class OnDisk:
    """Marks a text that names a file or folder, or texts that do."""


class Code:
    """Marks a text that may name a function of the user's own, file.py:function, or such texts."""


UNIQUE, ON_DISK, CODE = Unique(), OnDisk(), Code()

Name = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(?!\n)$")
]
"""Of the user's choice; it becomes a folder."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Draws = Annotated[int, Field(ge=1, le=1000)]
Images = Annotated[int, Field(ge=1, le=1_000_000_000)]
Epoch = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, le=4_294_967_295)]
Eps = Annotated[float, Field(ge=0, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Severity = Annotated[int, Field(ge=1, le=5)]
Eta = Annotated[float, Field(ge=-1000, le=1000)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]
Permutations = Annotated[int, Field(ge=99, le=1_000_000)]
Norm = Literal["linf", "l2"]
Names = Annotated[list[str], UNIQUE]
Some = Annotated[list[T], UNIQUE, Field(min_length=1)]
"""A list of one value or more, each once."""

LAYERS = "all, first (the first conv layer), none, or a list of layer names; * and ? match."
Layers = Annotated[Literal["all", "first", "none"] | Some[str], Field(description=LAYERS)]

EPOCHS = "all or last, or a list of checkpoint epochs; an empty list switches the stage off."
Epochs = Annotated[
    Literal["all", "last"] | Annotated[list[Epoch], UNIQUE], Field(description=EPOCHS)
]


def mark_of(field: FieldInfo, kind: type[T]) -> T | None:
    """A field's mark of a kind."""
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)


def as_written(value: Any, checked: Any) -> Any:
    """A checked value, but 1 where 1 is written for a float: both name the same parameter."""
    if type(value) is int and type(checked) is float:
        return value
    if isinstance(value, list) and isinstance(checked, list):
        return [as_written(*pair) for pair in zip(value, checked, strict=True)]
    if isinstance(value, dict) and isinstance(checked, dict):
        return {key: as_written(value[key], part) for key, part in checked.items()}
    return checked


class Section(BaseModel):
    """A section of the config, or a part of one."""

    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, defer_build=True, regex_engine="python-re"
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _completed(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """What is left out of a section in a section is as the outer one has it by default."""
        default = cls.model_fields[str(info.field_name)].default
        if isinstance(value, dict) and isinstance(default, Section):
            value = default.dump() | value
        return as_written(value, handler(value))

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            mark = mark_of(field, Absent)
            says_null = mark and mark.null and name in self.model_fields_set
            if mark and getattr(self, name) is None and not says_null:
                values.pop(field.alias or name, None)
        return values

    def dump(self, *keys: str) -> dict[str, Any]:
        """Plain values under the keys of the config, without those that are absent; of some keys,
        or of all."""
        values = self.model_dump(by_alias=True)
        return {key: values[key] for key in keys} if keys else values


class Key(NamedTuple):
    """A key of a config: where it stands (trainings.at.lr), the section that holds it, its field
    and the name of that, and the section, or what the user has named in it, that it is part of."""

    where: str
    holder: Section
    name: str
    field: FieldInfo
    whole: Section

    def marked(self, kind: type[T]) -> T | None:
        """The field's mark of a kind."""
        return mark_of(self.field, kind)


def keys(section: Section, where: str = "", whole: Section | None = None) -> Iterator[Key]:
    """Every key of a section and of those in it, in their order."""
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), f"{where}.{field.alias or name}".lstrip(".")
        yield Key(key, section, name, field, whole or section)
        if isinstance(value, Section):
            yield from keys(value, key, whole or value)
        elif isinstance(value, dict):
            for entry, part in value.items():
                if isinstance(part, Section):
                    yield from keys(part, f"{key}.{entry}", whole or part)
