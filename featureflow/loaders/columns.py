"""How a column of Arrow becomes arrays, and which columns share one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.library.shards.columns import (
    element_type_and_shape,
    is_fixed,
    is_text,
    numpy_column,
    numpy_dtype,
)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column as loaders give it.

    Parameters
    ----------
    name
        Of the column.
    dtype
        Of its arrays; None for what stays a list of Python values: text, bytes, lists of any length.
    shape
        Of one row's value.
    mean, scale
        ``(x - mean) / scale`` is given; None if values are given as they are.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] = ()
    mean: Array | None = None
    scale: Array | None = None


def describe(field: pa.Field) -> Column:
    """Say how a column of that type is given.

    Raises
    ------
    ComputeError
        If arrays hold no such type: decimals, structs, maps.

    Notes
    -----
    Time: timestamps and durations are int64 microseconds (UTC), dates int32 days since 1970.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if is_fixed(kind):
        return Column(field.name, numpy_dtype(kind), element_type_and_shape(kind)[1])
    if is_text(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Column(field.name, None)
    raise ComputeError(
        f"column {field.name!r} is {field.type}, and no array holds it. "
        "Leave it out with `columns=[…]`, or cast it in the dataset."
    )


def normalized(
    column: Column, names: Sequence[str], normalization: Mapping[str, Mapping[str, float]]
) -> Column:
    """Add the normalization that the manifest says; ``names`` are those of a matrix column's entries.

    Notes
    -----
    A scale of 0 (a constant column) counts as 1, as in scikit-learn. Integers become float32.
    """
    entries = list(names) or [column.name]
    if column.dtype is None or not any(name in normalization for name in entries):
        return column
    dtype = column.dtype if column.dtype.kind == "f" else np.dtype(np.float32)
    nothing = {"mean": 0.0, "scale": 1.0}
    given = [normalization.get(name, nothing) for name in entries]
    mean = np.array([one["mean"] for one in given]).astype(dtype)
    scale = np.array([one["scale"] or 1.0 for one in given]).astype(dtype)
    if names and len(column.shape) > 1:  # channels of arrays: one mean for each
        mean, scale = (one.reshape(-1, *(1 for _ in column.shape[1:])) for one in (mean, scale))
    return Column(column.name, dtype, column.shape, mean, scale)


def choose(known: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Names of the wanted columns, all if None.

    Raises
    ------
    ComputeError
        If there is no such column; says which name is close.
    """
    if isinstance(wanted, str):
        raise ComputeError(f"columns={wanted!r}: give a list of names, [{wanted!r}].")
    for name in wanted or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ComputeError(f"there is no column {name!r}.{hint} Columns: {', '.join(known)}.")
    return list(dict.fromkeys(known if wanted is None else wanted))


def is_plain(kind: pa.DataType) -> bool:
    """Whether arrays hold such values as Arrow does."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def to_array(values: pa.Array, column: Column, *, plain: bool = False) -> Array:
    """Turn Arrow values into an array of ``(n, *shape)``, without a copy where bytes are the same.

    Raises
    ------
    ComputeError
        If a value is null that is not a float.

    Notes
    -----
    Nulls: NaN where the column is of floats; an error everywhere else.
    """
    if plain and not values.null_count and len(values):
        # `to_numpy` imports pandas first, which takes longer than the first batch
        kind = np.dtype(values.type.to_pandas_dtype())
        return np.frombuffer(values.buffers()[1], kind, len(values), values.offset * kind.itemsize)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if column.dtype is None or column.dtype.kind != "f":
        _refuse_nulls(values, column)
    return numpy_column(values, name=column.name)


def _refuse_nulls(values: pa.Array, column: Column) -> None:
    if values.null_count:
        raise ComputeError(
            f"column {column.name!r} has {values.null_count} nulls in {len(values)} rows, and {values.type} "
            "has no value that says so. Fill them (`impute`), keep rows that have one, or leave the column "
            "out with `columns=[…]`."
        )


def python_values(values: pa.Array, column: Column) -> list[Any]:
    """Text, bytes and lists as Python values; lists of numbers as arrays.

    Raises
    ------
    ComputeError
        If a value is null.
    """
    _refuse_nulls(values, column)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        inner = describe(pa.field(column.name, values.type.value_type))
        if inner.dtype is not None:
            offsets = values.offsets.to_numpy()
            flat = to_array(values.flatten(), inner)
            return (
                [part.copy() for part in np.split(flat, (offsets - offsets[0])[1:-1])] if len(values) else []
            )
    listed: list[Any] = values.to_pylist()
    return listed
