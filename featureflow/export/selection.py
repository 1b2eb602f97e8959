"""Which rows are exported, into which split, and why the others are not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.core.meter import moved, spending
from featureflow.core.remote_parquet import RemoteParquet, open_stored
from featureflow.core.roles import EMBARGOED
from featureflow.core.storage import is_local, local_path
from featureflow.export.inputs import TRAIN, WHOLE, Plan
from featureflow.kernels.hashing import hash_int64

#: Why a row is left out, by its (negative) code in place of a split.
REASONS = {-1: "embargoed", -2: "sampled_out", -3: "unlabelled"}


def open_parquet(url: str) -> pq.ParquetFile | RemoteParquet:
    """Open a Parquet file of the dataset, local or not."""
    if is_local(url):
        return pq.ParquetFile(local_path(url), memory_map=True)
    return open_stored(url)


@spending("decode")
def read_columns(
    file: pq.ParquetFile | RemoteParquet, row_groups: Sequence[int], columns: Sequence[str]
) -> pa.Table:
    """Read columns of some row groups, on this thread alone: a task is the unit of parallelism."""
    names, groups = list(dict.fromkeys(columns)), list(row_groups)
    if isinstance(file, RemoteParquet):
        table = file.read(names, groups, use_threads=False)
    else:
        table = file.read_row_groups(groups, columns=names, use_threads=False)
    moved("decode", table.nbytes)
    return table


def needed_to_choose(plan: Plan) -> tuple[str, ...]:
    """Stored columns by which rows are chosen."""
    return tuple(dict.fromkeys(c for c in (plan.split, plan.weight, *plan.required) if c))


@dataclass(frozen=True, slots=True)
class Choice:
    """The split of each row.

    Parameters
    ----------
    splits
        Names of splits.
    codes
        int64, one a row: the position of its split in ``splits``, or a key of `REASONS`.
    """

    splits: tuple[str, ...]
    codes: NDArray[np.int64]


@spending("compute:choose")
def choose_rows(table: pa.Table, plan: Plan, splits: Sequence[str] = ()) -> Choice:
    """Decide which split each row goes to.

    Parameters
    ----------
    splits
        Names that are known, first; others follow in alphabetical order.

    Raises
    ------
    ComputeError
        For a row without a split, or a split that can't be a folder.

    Notes
    -----
    Order of reasons: outside all splits (embargoed); left out by down-sampling (weight 0, only where models train);
    all labels null, unless they are filled or may be NaN (unlabelled).
    """
    n = table.num_rows
    names, codes = _by_split(table, plan, splits)
    if plan.weight:
        weight = table.column(plan.weight)
        out = _bits(pc.equal(pc.cast(weight, pa.float64()), 0.0).fill_null(False))
        trained = TRAIN if plan.split else WHOLE
        if trained in names:
            codes[out & (codes == names.index(trained))] = -2
    if plan.required:
        unknown = np.ones(n, np.bool_)
        for label in plan.required:
            unknown &= _bits(pc.is_null(table.column(label), nan_is_null=True))
        codes[unknown & (codes >= 0)] = -3
    return Choice(tuple(names), codes)


def _by_split(table: pa.Table, plan: Plan, splits: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    if plan.split is None:
        return [WHOLE], np.zeros(table.num_rows, np.int64)
    column = table.column(plan.split).cast(pa.string())
    if column.null_count:
        raise ComputeError(
            f"export: {column.null_count:,} rows have no {plan.split!r}. A row outside all splits says {EMBARGOED!r}."
        )
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    found = encoded.dictionary.to_pylist()
    names = [*splits, *sorted(set(found) - {*splits, EMBARGOED})]
    for name in names:
        if not name or name.startswith((".", "_")) or os.path.basename(name) != name or "\\" in name:
            raise ComputeError(
                f"export: split {name!r} can't be the name of a folder. Rename it in the spec."
            )
    code_of = {name: place for place, name in enumerate(names)} | {EMBARGOED: -1}
    lookup = np.array([code_of[name] for name in found], np.int64)
    if not found:
        return names, np.zeros(0, np.int64)
    return names, lookup[encoded.indices.to_numpy(zero_copy_only=False)]


def _bits(values: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (
        values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()
    )
    return mask


def shuffle_keys(first_row: int, n: int, seed: int) -> NDArray[np.uint64]:
    """Place of each row in the shuffled order: a 64-bit mix of its position in the spine, different for each.

    A bijection of positions (a shift and a finalizer of MurmurHash3), so that no two rows share a key and the order
    is the same however the rows are cut into files.
    """
    rows = np.arange(first_row, first_row + n, dtype=np.int64)
    return hash_int64(rows, np.ones(n, np.bool_), seed=seed)
