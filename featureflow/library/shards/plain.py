"""A table in one layout only, so that equal tables give equal bytes, however they were sliced and chunked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from featureflow.library.shards.columns import (
    arrow_column,
    is_fixed,
    is_text,
    no_nulls,
    numpy_column,
    string_buffers,
    string_column,
)


def plain_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Lay a table out as one chunk without nulls, offsets and metadata of its own.

    Parameters
    ----------
    table
        Numbers, times, text, and lists of these, of one size or of any.
    schema
        What the result says: the same columns, types that differ in no more than whether nulls are allowed and in
        how the entries of lists are called.

    Raises
    ------
    ComputeError
        For a null that is not in floating values.

    Notes
    -----
    Nulls: in floats NaN; elsewhere an error.
    Cost: as `numpy_column`: none for one chunk of numbers.
    """
    columns = [plain_column(table.column(field.name), field.type, name=field.name) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def plain_column(array: pa.Array | pa.ChunkedArray, arrow_type: pa.DataType, *, name: str = "") -> pa.Array:
    """`plain_table` for one column."""
    if is_fixed(arrow_type):
        return arrow_column(numpy_column(array, name=name), arrow_type)
    if is_text(arrow_type):
        return string_column(*string_buffers(array, name=name), arrow_type)
    no_nulls(array, name)
    whole = _one_array(array)
    if pa.types.is_fixed_size_list(arrow_type):
        size = arrow_type.list_size
        inner = whole.values.slice(whole.offset * size, len(whole) * size)
        child = plain_column(inner, arrow_type.value_type, name=name)
        return pa.Array.from_buffers(arrow_type, len(whole), [None], children=[child])
    offsets = _offsets(whole)
    inner = whole.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    child = plain_column(inner, arrow_type.value_type, name=name)
    ends = pa.py_buffer(offsets - offsets[0])
    return pa.Array.from_buffers(arrow_type, len(whole), [None, ends], children=[child])


def strict_schema(schema: pa.Schema) -> pa.Schema:
    """Say of every column and every entry of a list that it is never null; without metadata."""
    return pa.schema([pa.field(field.name, _strict(field.type), nullable=False) for field in schema])


def bare_schema(schema: pa.Schema) -> pa.Schema:
    """Drop the metadata of a schema and of its columns."""
    return pa.schema([field.remove_metadata() for field in schema])


def _strict(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(arrow_type):
        entry = pa.field("element", _strict(arrow_type.value_type), nullable=False)
        return pa.list_(entry, arrow_type.list_size)
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        entry = pa.field("element", _strict(arrow_type.value_type), nullable=False)
        return pa.list_(entry) if pa.types.is_list(arrow_type) else pa.large_list(entry)
    return arrow_type


def _one_array(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(array, pa.ChunkedArray):
        return array
    return (
        array.chunk(0)
        if array.num_chunks == 1
        else pa.concat_arrays(array.chunks or [pa.array([], array.type)])
    )


def _offsets(lists: pa.Array) -> np.ndarray[Any, Any]:
    width = np.int64 if pa.types.is_large_list(lists.type) else np.int32
    ends = lists.buffers()[1]
    if ends is None or not len(lists):
        return np.zeros(1, width)
    return np.frombuffer(ends, width)[lists.offset : lists.offset + len(lists) + 1]
