"""Values of one column on their way into a spill: gathered, nulls dealt with, narrowed, measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.core.meter import spending
from featureflow.export.inputs import Column
from featureflow.export.room import Room, take
from featureflow.export.statistics import count_values, measure
from featureflow.kernels.exact_totals import narrow
from featureflow.library.shards.columns import arrow_column, element_type_and_shape, numpy_column


@dataclass(slots=True)
class Converter:
    """Converts the columns of one chunk.

    Parameters
    ----------
    order
        Positions of the kept rows, by shard; None if they are all of the rows, in order.
    train
        Range of those that statistics are taken of; they lie together, since shards go by split.
    splits
        Range of each split.
    room
        Where gathered values go.
    """

    order: NDArray[np.int64] | None
    train: slice
    splits: dict[str, slice]
    room: Room
    nulls: Counter[str] = field(default_factory=Counter)
    measured: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, dict[str, dict[str, int] | None]] = field(default_factory=dict)

    @spending("compute:convert")
    def convert(self, column: Column, given: pa.ChunkedArray) -> list[pa.Array]:
        """Make a column, and its indicator if it has one, of the chunk's rows.

        Raises
        ------
        ComputeError
            For a finite value that the narrower type can't hold.
        """
        if pa.types.is_dictionary(given.type):
            given = given.cast(given.type.value_type)
        array = given.combine_chunks() if given.num_chunks != 1 else given.chunk(0)
        if isinstance(array, pa.ChunkedArray):  # more than 2 GiB of text
            raise ComputeError(
                f"export: {column.name!r} has more than 2 GiB in one row group. Use smaller ones."
            )
        if column.kind == "number":
            return self._number(column, array)
        taken = array if self.order is None else array.take(arrow_column(self.order, pa.int64()))
        return self._text(column, taken) if column.kind == "text" else self._list(column, taken)

    def _number(self, column: Column, array: pa.Array) -> list[pa.Array]:
        element, _ = element_type_and_shape(column.spilled)
        values, missing = _gathered(column, array, self.order, self.room)
        error = 0.0
        wide = values
        if pa.types.is_float32(element) and values.dtype != np.float32:
            values, n_nan, error = self._narrowed(column, values, self.train)
            missing = np.isnan(wide) if n_nan else missing
        elif pa.types.is_floating(element):
            values = values.astype(element.to_pandas_dtype(), copy=False)
            missing = np.isnan(values) if _has_nan(values) else missing
        absent: Any = None if missing is None else missing.reshape(len(values), -1).any(axis=1)
        if missing is not None:
            values = self._without_nulls(column, values, missing)
        nulls = 0 if absent is None else int(np.count_nonzero(absent[self.train]))
        self.measured[column.name] = measure(column, values[self.train], nulls, error).to_json()
        self._count_labels(column, values)
        made = [arrow_column(values, column.spilled)]
        if column.indicator:
            flags = np.zeros(len(values), np.bool_) if absent is None else absent
            made.append(arrow_column(flags, pa.bool_()))
        return made

    def _narrowed(self, column: Column, wide: NDArray[Any], train: slice) -> tuple[NDArray[Any], int, float]:
        doubles = wide.astype(np.float64, copy=False)
        per_row = int(np.prod(doubles.shape[1:], dtype=np.int64))
        narrowed, n_nan, beyond, error = narrow(doubles, train.start * per_row, train.stop * per_row)
        if beyond >= 0:
            value = doubles.reshape(-1)[beyond]
            raise ComputeError(
                f"export: {column.name!r} has the value {value!r}, which float32 can't hold (at most 3.4e38). "
                "Use `float: float64`, or clip or scale it in the dataset."
            )
        return narrowed, n_nan, error

    def _without_nulls(
        self, column: Column, values: NDArray[Any], missing: NDArray[np.bool_]
    ) -> NDArray[Any]:
        if column.filled:
            fill = column.fill
            if isinstance(fill, bool | int | float):
                fill = np.array(fill, values.dtype)
            else:
                element, _ = element_type_and_shape(column.spilled)
                fill = numpy_column(pa.array([fill], element))[0]
            if not values.flags.writeable:
                values = values.copy()
            values[missing] = fill
        elif not column.nan:
            self._refuse(column, int(np.count_nonzero(missing.reshape(len(values), -1).any(axis=1))))
        return values

    def _text(self, column: Column, taken: pa.Array) -> list[pa.Array]:
        absent = _bits(taken.is_null())
        if column.filled:
            taken = taken.fill_null(pa.scalar(column.fill, column.spilled).cast(taken.type))
        else:
            self._refuse(column, taken.null_count)
        taken = taken.cast(column.spilled)
        self.measured[column.name] = measure(column, None, int(absent[self.train].sum()), 0.0).to_json()
        self._count_labels(column, taken)
        return [taken, arrow_column(absent, pa.bool_())] if column.indicator else [taken]

    def _list(self, column: Column, taken: pa.Array) -> list[pa.Array]:
        absent = _bits(taken.is_null())
        self._refuse(column, taken.null_count)
        self.measured[column.name] = measure(column, None, int(absent[self.train].sum()), 0.0).to_json()
        return [self._items(column, taken, column.spilled)]

    def _items(self, column: Column, array: pa.Array, kind: pa.DataType) -> pa.Array:
        """Convert lists of any length, level by level; a null inside counts as one of the column's."""
        if not pa.types.is_list(kind):
            if not pa.types.is_floating(kind):
                self._refuse(column, array.null_count)
                return array.cast(kind)
            values = numpy_column(array.cast(pa.float64()) if pa.types.is_decimal(array.type) else array)
            if not column.nan:
                self._refuse(column, int(np.count_nonzero(np.isnan(values))))
            if pa.types.is_float32(kind) and values.dtype == np.float64:
                values = self._narrowed(column, values, slice(0, 0))[0]
            return arrow_column(values.astype(kind.to_pandas_dtype(), copy=False), kind)
        lengths = np.asarray(
            pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False), np.int64
        )
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype(np.int32)
        items = self._items(column, array.flatten(), kind.value_type)
        return pa.ListArray.from_arrays(arrow_column(offsets, pa.int32()), items, type=kind)

    def _refuse(self, column: Column, count: int) -> None:
        if count:
            self.nulls[column.name] += count

    def _count_labels(self, column: Column, values: NDArray[Any] | pa.Array) -> None:
        if column.label:
            self.labels[column.name] = {
                name: count_values(values[where])
                for name, where in self.splits.items()
                if where.stop > where.start
            }


def _gathered(
    column: Column, array: pa.Array, order: NDArray[np.int64] | None, room: Room
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values of the kept rows, and which of them are null; of floats not yet (they are NaN)."""
    element, shape = element_type_and_shape(array.type)
    if pa.types.is_decimal(element):
        array = array.cast(_doubles(array.type))
        element = pa.float64()
    missing = None
    if not pa.types.is_floating(element) and _has_nulls(array):
        missing = _nulls_inside(array)
        missing = missing.reshape(len(array), *shape)
        missing = missing if order is None else missing[order]
        array = _zero_filled(array)
    values = numpy_column(array, name=column.name)
    if order is None:
        return values, missing
    kept = element == element_type_and_shape(column.spilled)[0]  # else it is a step to another type
    return take(values, order, room if kept else None), missing


def _has_nan(values: NDArray[Any]) -> bool:
    """Whether a value is NaN: the least value is, then, and to find it takes no memory."""
    with np.errstate(invalid="ignore"):
        return bool(values.size and np.isnan(values.min()))


def _doubles(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_doubles(kind.value_type), kind.list_size)
    return pa.float64()


def _has_nulls(array: pa.Array) -> bool:
    while pa.types.is_fixed_size_list(array.type):
        if array.null_count:
            return True
        array = array.values.slice(array.offset * array.type.list_size, len(array) * array.type.list_size)
    return bool(array.null_count)


def _nulls_inside(array: pa.Array) -> NDArray[np.bool_]:
    """Flat mask of the innermost values that are null, or lie in a list that is."""
    mask = _bits(array.is_null())
    while pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        array = array.values.slice(array.offset * size, len(array) * size)
        mask = np.repeat(mask, size) | _bits(array.is_null())
    return mask


def _zero_filled(array: pa.Array) -> pa.Array:
    """The same without nulls; what is in their place does not matter."""
    if not pa.types.is_fixed_size_list(array.type):
        zero = pa.scalar(False) if pa.types.is_boolean(array.type) else _zero_of(array.type)
        return array.fill_null(zero)
    size = array.type.list_size
    inner = _zero_filled(array.values.slice(array.offset * size, len(array) * size))
    return pa.FixedSizeListArray.from_arrays(inner, size)


def _zero_of(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_integer(kind):
        return pa.scalar(0, kind)
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.scalar(0, width).cast(kind)


def _bits(array: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return mask
