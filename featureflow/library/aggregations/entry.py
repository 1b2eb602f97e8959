"""What all aggregations share: their name, their label, and which column types they take.

Nothing here imports NumPy, Arrow or Numba before a column is looked at: ``featureflow validate`` makes entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from featureflow.kernels.columns import Dense


class Entry:
    """An aggregation without parameters of its own; parameters are frozen dataclass fields of subclasses."""

    name: ClassVar[str]
    null_when_empty: ClassVar[bool] = True

    def label(self) -> str:
        """Text for ``{op}`` in column names."""
        return self.name

    def require(self, column: pa.DataType | None, *accepted: str) -> pa.DataType:
        """Return the column's type if one of the ``accepted`` kinds holds it.

        Raises
        ------
        TypeError
            Naming the type and what is accepted.
        """
        if column is None:
            raise TypeError(f"{self.name}: needs a column; only count works without one. Add `column:`.")
        if any(_KINDS[kind](column) for kind in accepted):
            return column
        raise TypeError(
            f"{self.name}: does not take a column of type {column}; it takes {', '.join(accepted)}. "
            "Cast it in the source's `columns:` or with a `derive:`."
        )

    def require_scalar(self, column: pa.DataType | None) -> pa.DataType:
        """Return the column's type if it can be compared: everything but nested types and decimals."""
        return self.require(column, *_KINDS)


def _is_number(column: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_integer(column) or t.is_floating(column))


def _is_bool(column: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_boolean(column))


def _is_time(column: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_temporal(column) and not t.is_interval(column))


def _is_text(column: pa.DataType) -> bool:
    import pyarrow.types as t

    return bool(
        t.is_string(column)
        or t.is_large_string(column)
        or t.is_string_view(column)
        or t.is_binary(column)
        or t.is_large_binary(column)
        or t.is_binary_view(column)
        or t.is_fixed_size_binary(column)
    )


_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "numbers": _is_number,
    "booleans": _is_bool,
    "dates, times and durations": _is_time,
    "strings": _is_text,
}
NUMBERS = "numbers"
BOOLEANS = "booleans"


def floats(values: NDArray[np.float64], selected: Dense, *, at_least: int = 1) -> pa.Array:
    """Wrap results as ``float64``, null in windows of fewer than ``at_least`` values."""
    import pyarrow as pa

    from featureflow.kernels.columns import fixed_width

    return fixed_width(values, selected.counts >= at_least, pa.float64())


def positive_integer(name: str, parameter: str, value: object) -> None:
    """Refuse anything but an integer of at least 1.

    Raises
    ------
    ValueError
        Naming the aggregation, the parameter and what was given.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: `{parameter}` must be an integer of at least 1; got {value!r}.")
