"""Types of single values in a spec: durations, SQL, column types, lists that may be written as one value.

Validators raise ``ValueError`` for wrong types too: pydantic collects only those.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from featureflow.core.urls import WHERE_THEY_BELONG, has_credentials
from featureflow.spec.ops import Op, op_json_schema, parse_op

#: longest SQL text that is accepted; an expression that needs more belongs into several ``derive:`` columns
SQL_LIMIT_CHARACTERS = 4096

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
_TABLE_NAME = re.compile(NAME_PATTERN.strip("^$"))
#: what Rust's regex crate, which Polars uses, does not have but Python's does
_NOT_IN_RUST = re.compile(r"\(\?(?:=|!|<=|<!|P=)|\\[1-9]")


class SpecModel(BaseModel):
    """A part of a spec: frozen, no unknown fields, no silent conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AsTuple:
    """Marks a tuple that YAML writes as a list; with ``single`` also as one bare value."""

    def __init__(self, *, single: bool = False, least: int = 0) -> None:
        self.single = single
        self.least = least

    def _convert(self, given: Any) -> Any:
        # not pydantic's min_length: that one also counts items that are wrong as missing
        if isinstance(given, list | tuple) and len(given) < self.least:
            raise ValueError("is empty; it needs at least one.")
        if isinstance(given, list):
            return tuple(given)
        return (given,) if self.single and given is not None and not isinstance(given, tuple) else given

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Convert before pydantic's own check of the tuple."""
        return core_schema.no_info_before_validator_function(self._convert, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A list, or one of its items."""
        made = handler(schema)
        if self.least:
            made["minItems"] = self.least
        return {"anyOf": [made["items"], made]} if self.single and "items" in made else made


class Shorthand:
    """Marks a value that may also be written in a shorter form, which ``convert`` makes the long one of."""

    def __init__(self, convert: Callable[[Any], Any], schema: dict[str, Any]) -> None:
        self.convert = convert
        self.schema = schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Convert before pydantic's own check of the long form."""
        return core_schema.no_info_before_validator_function(self.convert, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Either form."""
        return {"anyOf": [self.schema, handler(schema)]}


class Misplaced(ValueError):
    """A mistake at a place below the model that finds it."""

    def __init__(self, place: tuple[str | int, ...], message: str, at_key: bool = True) -> None:
        super().__init__(place, message, at_key)
        self.place, self.message, self.at_key = place, message, at_key

    def __str__(self) -> str:
        """The message alone."""
        return self.message


def _article(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{value!r}"


def parse_timestamp(given: Any) -> datetime:
    """Read an ISO 8601 date or date and time; naive if it names no zone.

    Raises
    ------
    ValueError
        If it is none.
    """
    if isinstance(given, datetime):
        return given
    if isinstance(given, str):
        try:
            return datetime.fromisoformat(given)
        except ValueError:
            pass
    raise ValueError(
        f"must be a date or time such as 2026-01-01 or 2026-01-01T06:00Z; got {_article(given)}."
    )


def _text(given: Any, what: str) -> str:
    if not isinstance(given, str):
        hint = f" Put it in quotes: '{given}'." if isinstance(given, int | float) else ""
        raise ValueError(f"must be {what}; got {_article(given)}.{hint}")
    if not given.strip():
        raise ValueError(f"must be {what}; it is empty.")
    return given


def _sql(given: Any) -> str:
    if given is None:
        raise ValueError(
            "must be an SQL expression; it is empty. In {…} a comma ends a value: put the expression in quotes."
        )
    text = _text(given, "an SQL expression in quotes")
    if len(text) > SQL_LIMIT_CHARACTERS:
        raise ValueError(
            f"the expression has {len(text)} characters; at most {SQL_LIMIT_CHARACTERS} are accepted. "
            "Split it into several derive columns."
        )
    return text


def _regex(given: Any) -> str:
    text = _text(given, "a regular expression in quotes")
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}.") from None
    unknown = _NOT_IN_RUST.search(text)
    if unknown is not None:
        raise ValueError(f"{unknown[0]!r} (look-around or back-reference) is not supported in {text!r}.")
    return text


def _timezone(given: Any) -> str:
    text = _text(given, "the name of a time zone such as Europe/Berlin")
    try:
        ZoneInfo(text)
    except (
        ValueError,
        OSError,
        KeyError,
    ):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        raise ValueError(f"unknown time zone {text!r}. Use a name of the IANA list, such as UTC.") from None
    return text


def _table_name(given: Any) -> str:
    if isinstance(given, str) and _TABLE_NAME.fullmatch(given):
        return given
    raise ValueError(
        f"{given!r} can't be a name: it needs a small letter first, then small letters, digits and _ "
        "(63 characters at most)."
    )


def _scalar(given: Any) -> Any:
    if given is None or isinstance(given, str | int | float | bool):
        return given
    raise ValueError(f"must be one text, number, true, false or null; got {_article(given)}.")


def _given_scalar(given: Any) -> Any:
    if given is None:
        raise ValueError("must be a text, a number, true or false; got null.")
    return _scalar(given)


def _number(given: Any) -> Any:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return given
    raise ValueError(f"must be a number; got {_article(given)}.")


def _share(given: Any) -> float:
    value = _number(given)
    if not 0 < value <= 1:
        raise ValueError(f"must be a share of the rows, more than 0 and at most 1; got {given!r}.")
    return float(value)


_TEXT_SCHEMA = {"type": "string", "minLength": 1}


def _text_field(what: str) -> Any:
    return BeforeValidator(lambda given: _text(given, what))


def _without_credentials(given: str) -> str:
    if has_credentials(given):
        raise ValueError(WHERE_THEY_BELONG)
    return given


OpField = Annotated[
    Op,
    PlainValidator(parse_op),
    PlainSerializer(lambda op: op.spelled()),
    WithJsonSchema(op_json_schema()),
]
Timestamp = Annotated[
    datetime,
    PlainValidator(parse_timestamp),
    PlainSerializer(lambda at: at.isoformat(), return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}"}),
]
Text = Annotated[str, _text_field("text"), WithJsonSchema(_TEXT_SCHEMA)]
#: a path or URL, which must not carry credentials: specs are recorded and shared
Url = Annotated[str, _text_field("text"), AfterValidator(_without_credentials), WithJsonSchema(_TEXT_SCHEMA)]
ColumnName = Annotated[str, _text_field("the name of a column"), WithJsonSchema(_TEXT_SCHEMA)]
Reference = Annotated[str, _text_field("the name of a source or feature table"), WithJsonSchema(_TEXT_SCHEMA)]
TableName = Annotated[
    str,
    BeforeValidator(_table_name),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN}),
]
Sql = Annotated[
    str, BeforeValidator(_sql), WithJsonSchema({**_TEXT_SCHEMA, "maxLength": SQL_LIMIT_CHARACTERS})
]
Regex = Annotated[str, BeforeValidator(_regex), WithJsonSchema(_TEXT_SCHEMA)]
TimeZone = Annotated[str, BeforeValidator(_timezone), WithJsonSchema(_TEXT_SCHEMA)]


def _same_names(given: Any) -> Any:
    """``k`` and ``[k, l]`` stand for ``{k: k, l: l}``."""
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return {name: name for name in names}
    return given


_ONE_COLUMN = {"type": "string", "minLength": 1}
#: this table's column to the other's; also one column or a list, if they are named alike
KeyMapping = Annotated[
    dict[ColumnName, ColumnName],
    Shorthand(_same_names, {"anyOf": [_ONE_COLUMN, {"type": "array", "items": _ONE_COLUMN}]}),
]
_SCALAR_TYPES = ["string", "number", "boolean"]
#: text, number, boolean or null, as YAML gave it
Scalar = Annotated[Any, PlainValidator(_scalar), WithJsonSchema({"type": [*_SCALAR_TYPES, "null"]})]
#: the same without null
GivenScalar = Annotated[Any, PlainValidator(_given_scalar), WithJsonSchema({"type": _SCALAR_TYPES})]
Number = Annotated[int | float, PlainValidator(_number), WithJsonSchema({"type": "number"})]
#: more than 0, at most 1
Share = Annotated[
    float,
    PlainValidator(_share),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]
