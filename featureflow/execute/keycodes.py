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

    A key of the left that the right does not have is -1, as is a null key on either side: null never equals null.
    """
    pairs = [_of_one_type(a, b) for a, b in zip(left, right, strict=True)]
    aligned, right = [a for a, _ in pairs], [b for _, b in pairs]
    vocabularies = [sorted_distinct(column) for column in right]
    right_codes, size = _combined(right, vocabularies)
    left_codes, _ = _combined(aligned, vocabularies)
    if len(right) > 1:
        used = np.unique(right_codes[right_codes >= 0])
        right_codes = np.where(right_codes >= 0, np.searchsorted(used, right_codes), -1)
        found = np.searchsorted(used, left_codes)
        hit = (left_codes >= 0) & (found < len(used))
        hit[hit] = used[found[hit]] == left_codes[hit]
        left_codes = np.where(hit, found, -1)
        size = len(used)
    return left_codes, right_codes, size


def _of_one_type(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Integers of different widths meet as int64, strings as large strings; other types are equal by compilation."""
    if left.type == right.type:
        return left, right
    common = pa.int64() if pa.types.is_integer(left.type) else pa.large_string()
    return left.cast(common), right.cast(common)


def sorted_distinct(column: pa.Array) -> pa.Array:
    """List the distinct non-null values in ascending order (strings by bytes)."""
    distinct = pc.unique(column).drop_null()
    return distinct.take(pc.sort_indices(distinct))


def _combined(columns: list[pa.Array], vocabularies: list[pa.Array]) -> tuple[Codes, int]:
    total: Any = None
    size = 1
    missing: Any = None
    for column, words in zip(columns, vocabularies, strict=True):
        found = pc.index_in(column, value_set=words, skip_nulls=True)
        absent = np.asarray(found.is_null())
        codes = found.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        total = codes if total is None else total * len(words) + codes
        missing = absent if missing is None else missing | absent
        size *= max(1, len(words))
        if size > 2**62:
            raise OverflowError("The key columns have more than 2**62 combinations; use fewer key columns.")
    return np.where(missing, -1, total), size
