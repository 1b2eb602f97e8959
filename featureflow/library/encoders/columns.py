"""Columns as encoders want them: few types, NaN as null, values that plain JSON can hold."""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t
from numpy.typing import NDArray

from featureflow.core.types import INSTANT

#: a value of a category in JSON: text, a whole number (days and microseconds for dates and times), a double, a boolean
Key = str | int | float | bool


def plain_type(given: pa.DataType) -> pa.DataType:
    """Type that a column of a type is encoded as.

    Raises
    ------
    TypeError
        If columns of this type can't be encoded.
    """
    if t.is_dictionary(given):
        return plain_type(given.value_type)
    if t.is_boolean(given) or t.is_integer(given):
        return given
    if t.is_floating(given) or t.is_decimal(given) or t.is_null(given):
        return pa.float64()
    if t.is_string(given) or t.is_large_string(given) or t.is_string_view(given):
        return pa.string()
    if t.is_date(given):
        return pa.date32()
    if t.is_timestamp(given):
        return INSTANT
    raise TypeError(f"takes numbers, booleans, text, dates and times; not {given}.")


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Give a column the type of :func:`plain_type`; NaN becomes null, ``-0.0`` becomes ``0.0``."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    kind = plain_type(array.type)
    if t.is_timestamp(array.type):
        if array.type.tz is None:
            array = array.cast(pa.timestamp(array.type.unit, tz="UTC"))
        array = array if array.type.unit == "us" else pc.floor_temporal(array, unit="microsecond")
    if array.type != kind:
        array = array.cast(kind)
    if t.is_floating(kind):
        values = array.fill_null(np.nan).to_numpy(zero_copy_only=False)
        return numeric(values + 0.0, ~np.isnan(values))
    return array


def is_number(kind: pa.DataType) -> bool:
    """Whether arithmetic makes sense: numbers, and booleans as 0 and 1."""
    return bool(t.is_floating(kind) or t.is_integer(kind) or t.is_boolean(kind))


def need_number(kind: pa.DataType) -> None:
    """Refuse a column that is no number."""
    if not is_number(kind):
        raise TypeError(f"takes numbers; not {kind}. Derive a number from it, or encode it as a category.")


def valid_rows(column: pa.Array) -> NDArray[np.bool_]:
    """Which rows are not null."""
    mask: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return mask


def doubles(column: pa.Array) -> NDArray[np.float64]:
    """All rows of a plain numeric column as doubles; NaN for null."""
    if t.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count:
        found: NDArray[np.float64] = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
        found[~valid_rows(column)] = np.nan
        return found
    found = column.to_numpy(zero_copy_only=False)
    return found.astype(np.float64)


def numeric(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Arrow array of numbers; null where not valid (if not said: where NaN)."""
    if valid is None:
        valid = ~np.isnan(values)
    return pa.array(values, mask=None if valid.all() else ~valid)


def keys_of(column: pa.Array) -> tuple[NDArray[np.int64], list[Key]]:
    """Number of each row's value, -1 for null, and the values as JSON can hold them, sorted ascending."""
    kind = column.type
    if t.is_date(kind):
        column = column.cast(pa.int32())
    elif t.is_timestamp(kind):
        column = column.cast(pa.int64())
    encoded = column.dictionary_encode()
    found: list[Key] = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=found.__getitem__)
    place = np.empty(len(found) + 1, np.int64)
    place[order] = np.arange(len(found))
    place[-1] = -1
    codes = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    return place[codes], [found[i] for i in order]


def codes_in(column: pa.Array, known: list[Key]) -> NDArray[np.int64]:
    """Place of each row's value in a list of keys; -1 for null, -2 for a value that is not in it."""
    codes, found = keys_of(column)
    place = {key: at for at, key in enumerate(known)}
    lookup = np.array([*(place.get(key, -2) for key in found), -1], np.int64)
    return lookup[codes]


def key_text(kind: pa.DataType, key: Key | None) -> str:
    """A category in a column's name, as scikit-learn writes it: ``web``, ``3``, ``1.0``, ``True``, ``nan``."""
    if key is None:
        return "nan"
    if t.is_date(kind):
        return (date(1970, 1, 1) + timedelta(days=int(key))).isoformat()
    if t.is_timestamp(kind):
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(key))).isoformat()
    return str(key)


def keys_to_json(keys: list[Key]) -> list[Key]:
    """Keys that strict JSON can hold: infinities as text."""
    return [repr(key) if isinstance(key, float) and np.isinf(key) else key for key in keys]


def keys_from_json(kind: pa.DataType, keys: list[Key]) -> list[Key]:
    """Read what `keys_to_json` wrote for a column of this type."""
    return [float(key) for key in keys] if t.is_floating(kind) else keys


def pack(array: NDArray[Any]) -> str:
    """Array of 64-bit integers as text."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode()


def unpack(text: str, dtype: Any = np.int64) -> NDArray[Any]:
    """Read what `pack` wrote."""
    return np.frombuffer(base64.b64decode(text), np.dtype(dtype).newbyteorder("<")).astype(dtype)
