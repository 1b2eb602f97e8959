"""Pass 0: how many rows go where. Only the columns that decide it are read, and text for its length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import exists, is_local, join, read_bytes, write_atomic
from featureflow.export.inputs import Plan, RowsFile, SplitLayout
from featureflow.export.markers import read_marker, whole_file, write_marker
from featureflow.export.selection import (
    REASONS,
    choose_rows,
    needed_to_choose,
    open_parquet,
    read_columns,
    shuffle_keys,
)
from featureflow.library.shards.columns import element_type_and_shape

#: Decoded bytes that one task of the first pass reads; a row group is never cut, so it may be more.
CHUNK_BYTES = 96_000_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some row groups of a file: what one task of the first pass reads.

    Parameters
    ----------
    kept, bytes
        By split: rows that are exported, and bytes of their values of varying length.
    out
        By reason: rows that are not.
    keys
        File of the sorted shuffle keys of the kept rows, split after split as in ``kept``; None if not shuffled, and of
        patches, whose keys are their ranks.
    """

    url: str
    first_group: int
    groups: int
    first_row: int
    rows: int
    kept: dict[str, int]
    bytes: dict[str, int]
    out: dict[str, int]
    keys: str | None

    @property
    def id(self) -> str:
        """Name of the rows."""
        return fingerprint([self.url, self.first_group, self.groups, self.first_row, self.rows])


def survey_file(plan: Plan, file: RowsFile) -> list[dict[str, Any]]:
    """Count the rows of a file by split, chunk by chunk, and sort their shuffle keys.

    Returns
    -------
    list of dict
        The fields of each `Chunk`.

    Notes
    -----
    Cost: reads the split, weight and label columns and those of varying length; memory of one chunk.
    """
    path = join(plan.scratch, f"survey-{fingerprint([file.url, file.rows, file.first_row])}")
    done = read_marker(f"{path}.json")
    if done is not None and all(c["keys"] is None or exists(c["keys"]) for c in done["chunks"]):
        return list(done["chunks"])
    with open_parquet(file.url) as opened:
        if opened.metadata.num_rows != file.rows:
            raise ComputeError(
                f"export: {file.url} has {opened.metadata.num_rows:,} rows, and should have {file.rows:,}."
            )
        row, chunks = file.first_row, []
        for first, groups, rows in _ranges(opened.metadata, plan):
            keys = None if plan.seed is None else f"{path}-{first}.npy"
            counts = _survey_chunk(opened, plan, range(first, first + groups), row, keys)
            if counts["rows"] != rows:
                raise ComputeError(f"export: {file.url}: {counts['rows']:,} rows were read, not {rows:,}.")
            chunks.append(
                {
                    "url": file.url,
                    "first_group": first,
                    "groups": groups,
                    "first_row": row,
                    "keys": keys,
                    **counts,
                }
            )
            row += rows
    write_marker(f"{path}.json", {"chunks": chunks})
    return chunks


def row_width(schema: pa.Schema) -> int:
    """Bytes of a row's values of fixed size."""
    size = 0
    for kind in schema.types:
        element, shape = element_type_and_shape(kind)
        if not pa.types.is_nested(element) and element not in {pa.string(), pa.binary()}:
            size += max(1, element.bit_width // 8) * int(np.prod(shape, dtype=np.int64))
    return size


def _ranges(metadata: pq.FileMetaData, plan: Plan) -> Iterator[tuple[int, int, int]]:
    """Cut a file's row groups into ranges of about `CHUNK_BYTES`: first, number, rows."""
    width = max(row_width(plan.schema), 1)
    first = groups = rows = size = 0
    for group in range(metadata.num_row_groups):
        found = metadata.row_group(group)
        # a compressed size says little about fixed widths, and the fixed widths nothing about text
        more = max(found.num_rows * width, found.total_byte_size)
        if groups and size + more > CHUNK_BYTES:
            yield first, groups, rows
            first, groups, rows, size = group, 0, 0, 0
        groups, rows, size = groups + 1, rows + found.num_rows, size + more
    if rows:
        yield first, groups, rows


def _survey_chunk(
    file: pq.ParquetFile, plan: Plan, row_groups: range, first_row: int, keys: str | None
) -> dict[str, Any]:
    rows = sum(file.metadata.row_group(group).num_rows for group in row_groups)
    varying = [c.stored for c in plan.columns if c.kind != "number"]
    columns = [*needed_to_choose(plan), *varying]
    # no column to read: all rows are kept
    table = read_columns(file, row_groups, columns) if columns else pa.table({"": pa.nulls(rows)})
    choice = choose_rows(table, plan)
    sizes = sum((_lengths(table.column(name)) for name in varying), np.zeros(rows, np.int64))
    kept, size, order = {}, {}, []
    mixed = None if plan.seed is None else shuffle_keys(first_row, rows, plan.seed)
    for place, name in enumerate(choice.splits):
        mine = choice.codes == place
        kept[name], size[name] = int(np.count_nonzero(mine)), int(sizes[mine].sum())
        if mixed is not None:
            order.append(np.sort(mixed[mine]))
    if keys is not None:
        _write_keys(keys, np.concatenate([np.zeros(0, np.uint64), *order]))
    out = {reason: int(np.count_nonzero(choice.codes == code)) for code, reason in REASONS.items()}
    return {"rows": table.num_rows, "kept": kept, "bytes": size, "out": out}


def _write_keys(path: str, keys: NDArray[np.uint64]) -> None:
    """Write sorted keys of a chunk, whole or not at all."""
    if is_local(path):
        with whole_file(path) as temporary, open(temporary, "wb") as sink:
            np.save(sink, keys, allow_pickle=False)
        return
    data = io.BytesIO()
    np.save(data, keys, allow_pickle=False)
    write_atomic(path, data.getvalue())


def _read_keys(path: str) -> NDArray[np.uint64]:
    """Keys of a chunk: mapped into memory, or all of them from a store, eight bytes a row."""
    if is_local(path):
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    return np.asarray(np.load(io.BytesIO(read_bytes(path)), allow_pickle=False))


def _lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Bytes of each value of varying length; a list counts 8 an element that is no text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 8 * _filled(pc.list_value_length(column))
    if pa.types.is_fixed_size_list(kind) or pa.types.is_nested(kind):
        return np.full(len(column), 8, np.int64)
    return _filled(pc.binary_length(column.cast(pa.large_binary())))


def _filled(lengths: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(lengths.fill_null(0).to_numpy(), np.int64)


def lay_out_splits(
    plan: Plan, chunks: list[Chunk], names: tuple[str, ...], shard_size: int, equal: bool
) -> list[SplitLayout]:
    """Decide how many shards each split has, and where each begins.

    Shards of a split differ by one row at most; where a format wants them ``equal``, or has records of several rows,
    all but the last have the same number.

    Notes
    -----
    Determinism: a function of the kept rows alone: counts, bytes and keys add up to the same for any files.
    Cost: 64 binary searches in each chunk's keys; memory of one number a shard.
    """
    layouts, first = [], 0
    for name in names:
        n = sum(chunk.kept.get(name, 0) for chunk in chunks)
        size = n * row_width(plan.schema) + sum(chunk.bytes.get(name, 0) for chunk in chunks)
        wanted = min(n, max(1, -(-size // shard_size)))
        starts = _starts(n, wanted, plan.options.rows_per_record, equal)
        ranks = np.array(starts[1:], np.int64)
        shuffled = plan.seed is not None and plan.patches is None and len(ranks)  # keys of patches are ranks
        bounds = order_statistics(list(_runs(chunks, name)), ranks) if shuffled else ranks.astype(np.uint64)
        layouts.append(SplitLayout(name, n, starts, first, bounds))
        first += len(starts)
    return layouts


def _starts(n: int, count: int, rows_per_record: int, equal: bool) -> tuple[int, ...]:
    """Rank of the first row of each shard."""
    if not n:
        return ()
    if not equal and rows_per_record == 1:
        return tuple(n * shard // count for shard in range(count))
    each = -(-n // count)
    if not equal:
        each = -(-each // rows_per_record) * rows_per_record
    return tuple(range(0, n, each))


def _runs(chunks: list[Chunk], split: str) -> Iterator[NDArray[np.uint64]]:
    for chunk in chunks:
        if chunk.keys is None or not chunk.kept.get(split):
            continue
        at = 0
        for name, rows in chunk.kept.items():
            if name == split:
                yield _read_keys(chunk.keys)[at : at + rows]
            at += rows


def order_statistics(runs: list[NDArray[np.uint64]], ranks: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Give the values of these ranks (from 0) among all values of sorted runs, without merging them.

    Bit by bit from the top: the value of rank r is the largest v with at most r values below it.
    """
    found = np.zeros(len(ranks), np.uint64)
    for bit in range(63, -1, -1):
        candidate = found | np.uint64(1 << bit)
        below = np.zeros(len(ranks), np.int64)
        for run in runs:
            below += np.searchsorted(run, candidate, side="left")
        found = np.where(below <= ranks, candidate, found)
    return found


def first_ranks(chunks: list[Chunk], names: tuple[str, ...]) -> list[dict[str, int]]:
    """For each chunk: how many rows of each split come before it in the spine's order."""
    before = dict.fromkeys(names, 0)
    ranks = []
    for chunk in chunks:
        ranks.append(dict(before))
        for name, rows in chunk.kept.items():
            before[name] += rows
    return ranks
