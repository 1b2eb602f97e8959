"""A table's schema as Delta spells it in JSON, and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from featureflow.core.errors import TableError

_NAMES = {
    pa.string(): "string",
    pa.int64(): "long",
    pa.int32(): "integer",
    pa.int16(): "short",
    pa.int8(): "byte",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.binary(): "binary",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
}
_TYPES = {name: kind for kind, name in _NAMES.items()}


def field_to_json(field: pa.Field) -> dict[str, Any]:
    """A field of a storable schema; every column may hold nulls."""
    return {"name": field.name, "type": _to_json(field.type), "nullable": True, "metadata": {}}


def _to_json(kind: pa.DataType) -> Any:
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _to_json(kind.value_type), "containsNull": True}
    if pa.types.is_map(kind):
        inner = {"keyType": _to_json(kind.key_type), "valueType": _to_json(kind.item_type)}
        return {"type": "map", **inner, "valueContainsNull": True}
    if pa.types.is_struct(kind):
        return {"type": "struct", "fields": [field_to_json(f) for f in kind]}
    return _NAMES[kind]


def schema_to_json(schema: pa.Schema) -> list[dict[str, Any]]:
    """All fields in order."""
    return [field_to_json(field) for field in schema]


def schema_from_json(fields: list[dict[str, Any]]) -> pa.Schema:
    """The schema that :func:`schema_to_json` wrote."""
    return pa.schema([pa.field(f["name"], _from_json(f["type"])) for f in fields])


def _from_json(kind: Any) -> pa.DataType:
    if isinstance(kind, dict):
        if kind["type"] == "array":
            return pa.list_(pa.field("element", _from_json(kind["elementType"])))
        if kind["type"] == "map":
            return pa.map_(_from_json(kind["keyType"]), _from_json(kind["valueType"]))
        return pa.struct(schema_from_json(kind["fields"]))
    if kind.startswith("decimal("):
        precision, scale = kind[8:-1].split(",")
        return pa.decimal128(int(precision), int(scale))
    if kind not in _TYPES:
        raise TableError(
            f"the table's record names a type {kind!r} that this featureflow does not know. Upgrade it."
        )
    return _TYPES[kind]
