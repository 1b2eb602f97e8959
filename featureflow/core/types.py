"""Type names as specs write them, and what they are in Arrow, Polars and a stored table."""

from __future__ import annotations

import re

import polars as pl
import pyarrow as pa

INSTANT = pa.timestamp("us", tz="UTC")

_SIMPLE: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": INSTANT,
    "time": pa.time64("us"),
    "duration": pa.duration("us"),
    "null": pa.null(),
}
_ALIASES = {
    "boolean": "bool",
    "int": "int64",
    "integer": "int64",
    "bigint": "int64",
    "smallint": "int16",
    "tinyint": "int8",
    "float": "float64",
    "double": "float64",
    "real": "float32",
    "str": "string",
    "text": "string",
    "varchar": "string",
    "utf8": "string",
    "datetime": "timestamp",
    "timestamptz": "timestamp",
    "date32": "date",
}
_DECIMAL = re.compile(r"(?:decimal|numeric)\((\d+)(?:,\s*(\d+))?\)")
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:,\s*(?:tz=)?([^\]]+))?\]")
_NAME_OF = {arrow: name for name, arrow in _SIMPLE.items()}
#: What `columns:` may ask for
DECLARABLE = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 string binary date timestamp "
    "timestamp[s|ms|us|ns] decimal(p,s) list<type>"
)


def parse_type(name: str) -> pa.DataType:
    """Read a type name.

    Parameters
    ----------
    name
        One of ``bool int8…int64 uint8…uint64 float32 float64 string binary date timestamp decimal(p,s) list<type>``
        or a usual alias (``int``, ``double``, ``text``). ``timestamp`` is an instant in microseconds;
        ``timestamp[ns]`` is a wall clock without a zone, ``timestamp[us, UTC]`` names its zone.

    Raises
    ------
    ValueError
        If there is no such type; lists those that there are.

    Examples
    --------
    >>> parse_type("decimal(10, 2)"), parse_type("timestamp"), parse_type("list<int64>")
    (Decimal128Type(decimal128(10, 2)), TimestampType(timestamp[us, tz=UTC]), ListType(list<item: int64>))
    """
    text = name.strip()
    low = text.lower()
    low = _ALIASES.get(low, low)
    if low in _SIMPLE:
        return _SIMPLE[low]
    if match := _DECIMAL.fullmatch(low):
        precision, scale = int(match[1]), int(match[2] or 0)
        if not 1 <= precision <= 38 or scale > precision:
            raise ValueError(
                f"{name!r}: a decimal has 1 to 38 digits, and not more after the point than in all."
            )
        return pa.decimal128(precision, scale)
    if match := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(match[1], tz=match[2])
    if low.startswith("list<") and low.endswith(">"):
        return pa.list_(parse_type(text[5:-1]))
    raise ValueError(f"{name!r} is not a type. Known: {DECLARABLE}.")


def type_name(arrow: pa.DataType) -> str:
    """Write a type as :func:`parse_type` reads it, without what makes no difference to values.

    Large, view and dictionary encoded strings are ``string``, all kinds of lists ``list<…>``.
    """
    if pa.types.is_dictionary(arrow):
        return type_name(arrow.value_type)
    if pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return "string"
    if (
        pa.types.is_large_binary(arrow)
        or pa.types.is_binary_view(arrow)
        or pa.types.is_fixed_size_binary(arrow)
    ):
        return "binary"
    if pa.types.is_decimal(arrow):
        return f"decimal({arrow.precision},{arrow.scale})"
    if pa.types.is_timestamp(arrow):
        if arrow == INSTANT:
            return "timestamp"
        return f"timestamp[{arrow.unit}, {arrow.tz}]" if arrow.tz else f"timestamp[{arrow.unit}]"
    if pa.types.is_date(arrow):
        return "date"
    if pa.types.is_time(arrow):
        return "time"
    if pa.types.is_duration(arrow):
        return "duration"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return f"list<{type_name(arrow.value_type)}>"
    return _NAME_OF.get(arrow, str(arrow))


def to_polars(arrow: pa.DataType) -> pl.DataType:
    """Polars' type for an Arrow type."""
    if arrow in (pa.float16(), pa.date64()):
        return pl.Float32() if arrow == pa.float16() else pl.Date()
    dtype = pl.Schema(pa.schema([pa.field("c", arrow)]))["c"]
    return pl.String() if isinstance(dtype, pl.Categorical) else dtype


def to_arrow(dtype: pl.DataType) -> pa.DataType:
    """Arrow's type for a Polars type, with plain strings and lists instead of large ones."""
    return _plain(pl.Series([], dtype=dtype).to_arrow().type)


def _plain(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(arrow):
        return _plain(arrow.value_type)
    if pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return pa.string()
    if pa.types.is_large_binary(arrow) or pa.types.is_binary_view(arrow):
        return pa.binary()
    if pa.types.is_map(arrow):
        return pa.map_(_plain(arrow.key_type), _plain(arrow.item_type))
    if pa.types.is_large_list(arrow) or pa.types.is_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return pa.list_(_plain(arrow.value_type))
    if pa.types.is_struct(arrow):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in arrow])
    return arrow


def storage_type(arrow: pa.DataType) -> pa.DataType:
    """Type of a column in a stored table, readable by every Delta reader.

    Notes
    -----
    Signed integers up to 64 bits, ``float32``, ``float64``, ``bool``, ``string``, ``binary``, ``date``, ``decimal``,
    ``timestamp[us, UTC]``, lists, structs and maps of them. Unsigned integers become the next larger signed ones,
    ``uint64`` becomes ``int64`` (a larger value is an error when it is written), ``float16`` ``float32``.

    Raises
    ------
    ValueError
        For ``time``, ``duration``, ``null`` and anything else that Delta tables don't have; says what to do.
    """
    plain = _plain(arrow)
    larger = {
        pa.uint8(): pa.int16(),
        pa.uint16(): pa.int32(),
        pa.uint32(): pa.int64(),
        pa.uint64(): pa.int64(),
        pa.float16(): pa.float32(),
    }
    if plain in larger:
        return larger[plain]
    if pa.types.is_timestamp(plain):
        return INSTANT
    if pa.types.is_date(plain):
        return pa.date32()
    if pa.types.is_list(plain):
        return pa.list_(storage_type(plain.value_type))
    if pa.types.is_map(plain):
        return pa.map_(storage_type(plain.key_type), storage_type(plain.item_type))
    if pa.types.is_struct(plain):
        return pa.struct([pa.field(f.name, storage_type(f.type)) for f in plain])
    if pa.types.is_integer(plain) or plain in (
        pa.float32(),
        pa.float64(),
        pa.bool_(),
        pa.string(),
        pa.binary(),
    ):
        return plain
    if pa.types.is_decimal(plain) and plain.precision <= 38:
        return pa.decimal128(plain.precision, plain.scale)
    instead = {
        "duration": "Derive its seconds: extract(epoch from a) - extract(epoch from b).",
        "time": "Derive what is needed of it, such as extract(hour from t).",
        "null": "Give it a type: cast(null as double), or `columns:` of the source.",
    }.get(type_name(plain), "Derive a column of another type from it.")
    raise ValueError(f"a table can't hold the type {type_name(plain)}. {instead}")
