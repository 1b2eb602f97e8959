"""Types of columns as a spec spells them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from featureflow.spec.suggest import did_you_mean

#: types of ``columns:``, and other spellings that mean the same
COLUMN_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "string", "binary", "date", "timestamp", "time", "duration"),
    # numbers since 1970 in this unit, or times without a zone in the source's
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)
_SAME_TYPE = {
    "boolean": "bool",
    "str": "string",
    "utf8": "string",
    "double": "float64",
    "datetime": "timestamp",
}
_LIKELY_TYPE = {
    "int": "int64",
    "integer": "int64",
    "bigint": "int64",
    "long": "int64",
    "smallint": "int16",
    "float": "float64",
    "number": "float64",
    "numeric": "decimal(18, 2)",
    "decimal": "decimal(18, 2)",
    "text": "string",
    "varchar": "string",
    "bytes": "binary",
}
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")


def parse_type(given: Any) -> str:
    """Read a column type; returns its one canonical spelling.

    Raises
    ------
    ValueError
        For an unknown type.
    """
    if isinstance(given, str):
        text = given.strip().lower()
        text = _SAME_TYPE.get(text, text)
        decimal = _DECIMAL.fullmatch(text)
        if decimal is not None and 1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1]):
            return f"decimal({int(decimal[1])}, {int(decimal[2])})"
        if text in COLUMN_TYPES:
            return text
        if text.startswith("decimal("):  # in {…} YAML takes its comma for the end of the value
            raise ValueError(
                f"unknown type {given!r}. Put it in quotes, with 1 to 38 digits: 'decimal(18, 2)'."
            )
        if text in _LIKELY_TYPE:
            known = ", ".join((*COLUMN_TYPES, "decimal(p, s)"))
            raise ValueError(f"unknown type {given!r}. Did you mean {_LIKELY_TYPE[text]!r}? Known: {known}.")
    raise ValueError(f"unknown type {given!r}. {did_you_mean(given, (*COLUMN_TYPES, 'decimal(p, s)'))}")


ColumnType = Annotated[
    str,
    BeforeValidator(parse_type),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [*COLUMN_TYPES, *_SAME_TYPE]},
                {"type": "string", "pattern": r"^decimal\(\s*\d{1,2}\s*,\s*\d{1,2}\s*\)$"},
            ]
        }
    ),
]
