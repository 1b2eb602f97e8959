"""Keys as small integers, so that kernels compare integers whatever the keys are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def encode(columns: list[pa.Array]) -> tuple[Codes, list[pa.Array], int]:
    """Number the distinct key values in ascending order.

    Parameters
    ----------
    columns
        One Arrow array for each key column, all of length n.

    Returns
    -------
    tuple
        Codes, int64 of shape (n,), -1 where any key is null; the distinct values of each column in ascending order;
        the number of codes in use is at most the third value (codes of several columns are dense too).
    """
    vocabularies = [sorted_distinct(column) for column in columns]
    codes, size = _combined(columns, vocabularies)
    if len(columns) > 1:
        used = np.unique(codes[codes >= 0])
        codes = np.where(codes >= 0, np.searchsorted(used, codes), -1)
        size = len(used)
    return codes, vocabularies, size


def encode_pair(left: list[pa.Array], right: list[pa.Array]) -> tuple[Codes, Codes, int]:
    """Number the keys of two sides alike: codes of the left, codes of the right, number of codes.

    A null key on either side is -1: null never equals null. A key of the left that the right does not have is -1 or a
    number of its own.
    """
    pairs = [_of_one_type(a, b) for a, b in zip(left, right, strict=True)]
    if len(pairs) > 1:
        codes, _, size = encode([pa.concat_arrays([a, b]) for a, b in pairs])
        return codes[: len(left[0])], codes[len(left[0]) :], size
    aligned, right = [a for a, _ in pairs], [b for _, b in pairs]
    vocabularies = [sorted_distinct(column) for column in right]
    right_codes, size = _combined(right, vocabularies)
    left_codes, _ = _combined(aligned, vocabularies)
    return left_codes, right_codes, size


def _of_one_type(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Integers of different widths meet as int64, strings as large strings; other types are equal by compilation."""
    if left.type == right.type:
        return left, right
    if not pa.types.is_integer(left.type):
        return left.cast(pa.large_string()), right.cast(pa.large_string())
    return _as_int64(left), _as_int64(right)


def _as_int64(values: pa.Array) -> pa.Array:
    """Integers as int64; one above its range can't equal any of the other side, which is signed or narrower."""
    if pa.types.is_uint64(values.type):
        values = pc.if_else(
            pc.greater(values, pa.scalar(2**63 - 1, pa.uint64())), pa.scalar(None, values.type), values
        )
    return values.cast(pa.int64())


def sorted_distinct(column: pa.Array) -> pa.Array:
    """List the distinct non-null values in ascending order (strings by bytes)."""
    distinct = pc.unique(column).drop_null()
    return distinct.take(pc.sort_indices(distinct))


def _combined(columns: list[pa.Array], vocabularies: list[pa.Array]) -> tuple[Codes, int]:
    total: Any = None
    size = 1
    missing: Any = None
    for column, words in zip(columns, vocabularies, strict=True):
        if size * max(1, len(words)) > 2**62:  # number the combinations so far without gaps
            used, total = np.unique(total, return_inverse=True)
            size = len(used)
        found = pc.index_in(column, value_set=words, skip_nulls=True)
        absent = np.asarray(found.is_null())
        codes = found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        total = codes if total is None else total * len(words) + codes
        missing = absent if missing is None else missing | absent
        size *= max(1, len(words))
    return np.where(missing, -1, total), size
