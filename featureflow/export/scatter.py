"""Pass 1: rows of one chunk, converted and sorted by shard, into one spill file with a batch for each shard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.meter import spending
from featureflow.core.storage import is_local, join, size_of, write_atomic
from featureflow.execute.exchange.exchange_file import stable_order
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.export.conversion import Converter
from featureflow.export.in_place import Frame, markers, write_rows
from featureflow.export.inputs import TRAIN, WHOLE, Plan, SplitLayout
from featureflow.export.markers import read_marker, whole_file, write_marker
from featureflow.export.patches import box_rows
from featureflow.export.room import Room
from featureflow.export.selection import (
    choose_rows,
    needed_to_choose,
    open_parquet,
    read_columns,
    shuffle_keys,
)
from featureflow.export.survey import Chunk, row_width
from featureflow.library.shards.columns import arrow_column, numpy_column


def spill_path(plan: Plan, chunk: Chunk) -> str:
    """Where the spill of a chunk is, or will be."""
    return join(plan.scratch, f"spill-{chunk.id}.arrow")


def scatter_chunk(
    plan: Plan,
    chunk: Chunk,
    layouts: tuple[SplitLayout, ...],
    before: dict[str, int],
    memory: KeptMemory,
    frames: Mapping[str, Frame],
) -> dict[str, Any]:
    """Read a chunk once; write its spill, unless it is there already.

    Parameters
    ----------
    before
        Kept rows of each split before this chunk: ranks count on from there.
    memory
        For values on their way.
    frames
        Where the columns that are written in place go, by the stem of the shard; shards that are done are not in it.

    Returns
    -------
    dict
        ``counts``: rows by shard; ``nulls``: by column, those that nothing was said about (there is no spill then);
        ``measured`` and ``labels``: statistics.

    Notes
    -----
    Order: within a shard's batch, that of the rows.
    Cost: O(rows) time; memory about three times the chunk's decoded columns.
    """
    path = spill_path(plan, chunk)
    marker = join(markers(plan), f"{chunk.id}.json") if plan.in_place else f"{path}.json"
    done = read_marker(marker)
    if done is not None and (done["nulls"] or _whole(path, done["bytes"])):
        return done
    order: NDArray[np.int64] | None = None
    if plan.patches is not None:
        table, keys, shards = box_rows(plan, plan.patches, chunk, layouts, memory)
    else:
        table = _read(plan, chunk)
        order, keys, shards = _sorted(plan, chunk, layouts, before, table)
    n_shards = sum(layout.count for layout in layouts)
    counts = np.bincount(shards, minlength=n_shards)
    converter = _converter(plan, layouts, order, counts, memory)
    arrays = [] if not plan.keyed else [arrow_column(keys, pa.uint64())]
    for column in plan.columns:
        made = converter.convert(column, table.column(column.stored))
        if column.name in plan.in_place:
            _place(plan, layouts, frames, column.name, made.pop(0), keys, counts)
        arrays += made
        if column.stored not in needed_to_choose(plan) and _last_use(plan, column.stored, column.name):
            table = table.drop_columns([column.stored])
    result: dict[str, Any] = {
        "counts": counts.tolist(),
        "nulls": dict(converter.nulls),
        "measured": converter.measured,
        "labels": converter.labels,
        "bytes": 0,
    }
    if not converter.nulls:
        result["bytes"] = _write_spill(path, pa.Table.from_arrays(arrays, schema=plan.spill_schema), counts)
    write_marker(marker, result)
    return result


def _sorted(
    plan: Plan, chunk: Chunk, layouts: tuple[SplitLayout, ...], before: dict[str, int], table: pa.Table
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Positions of the kept rows by shard, and their keys and shards."""
    keys, shards = _places(plan, chunk, layouts, before, table)
    kept = np.flatnonzero(shards >= 0)
    order = kept[stable_order(shards[kept])]
    return order, keys[order], shards[order]


def _place(
    plan: Plan,
    layouts: tuple[SplitLayout, ...],
    frames: Mapping[str, Frame],
    name: str,
    made: pa.Array,
    ranks: NDArray[np.uint64],
    counts: NDArray[np.int64],
) -> None:
    """Write the rows of a column, which are sorted by shard and rank, into the files of their shards."""
    values, start = numpy_column(made), 0
    for layout in layouts:
        for place, _ in layout.places():
            stop = start + int(counts[layout.first_shard + place.number])
            frame = frames.get(place.stem)
            if stop > start and frame is not None:
                places = ranks[start:stop].astype(np.int64) - place.first_row
                write_rows(plan, frame.slots[name], places, values[start:stop])
            start = stop


def _read(plan: Plan, chunk: Chunk) -> pa.Table:
    with open_parquet(chunk.url) as file:
        groups = range(chunk.first_group, chunk.first_group + chunk.groups)
        stored = [*needed_to_choose(plan), *(column.stored for column in plan.columns)]
        return read_columns(file, groups, stored)


def _whole(path: str, size: int) -> bool:
    with suppress(FileNotFoundError):
        return size_of(path) == size
    return False


def _last_use(plan: Plan, stored: str, name: str) -> bool:
    return [column.name for column in plan.columns if column.stored == stored][-1] == name


def _places(
    plan: Plan, chunk: Chunk, layouts: tuple[SplitLayout, ...], before: dict[str, int], table: pa.Table
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Key and shard of each row; shard -1 for rows that are left out."""
    choice = choose_rows(table, plan, [layout.name for layout in layouts])
    if plan.seed is not None:
        keys = shuffle_keys(chunk.first_row, chunk.rows, plan.seed)
    else:
        keys = np.zeros(chunk.rows, np.uint64)
    shards = np.full(chunk.rows, -1, np.int64)
    for place, layout in enumerate(layouts):
        mine = np.flatnonzero(choice.codes == place)
        if plan.seed is None:
            first = before[layout.name]
            keys[mine] = np.arange(first, first + mine.size, dtype=np.uint64)
        shards[mine] = layout.shard_of(keys[mine])
    return keys, shards


def _converter(
    plan: Plan,
    layouts: tuple[SplitLayout, ...],
    order: NDArray[np.int64] | None,
    counts: NDArray[np.int64],
    memory: KeptMemory,
) -> Converter:
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    splits = {
        layout.name: slice(int(ends[layout.first_shard]), int(ends[layout.first_shard + layout.count]))
        for layout in layouts
    }
    return Converter(
        order,
        splits.get(TRAIN, splits.get(WHOLE, slice(0, 0))),
        splits,
        Room(0 if order is None else order.size * row_width(plan.spill_schema), memory),
    )


@spending("exchange")
def _write_spill(path: str, table: pa.Table, counts: NDArray[np.int64]) -> int:
    """Write one record batch for each shard that has rows; give the file's size."""
    if not is_local(path):
        memory = pa.BufferOutputStream()
        _write_batches(memory, table, counts)
        data = memory.getvalue().to_pybytes()
        write_atomic(path, data)
        return len(data)
    with whole_file(path) as temporary:
        with pa.OSFile(temporary, "wb") as sink:
            _write_batches(sink, table, counts)
        return os.path.getsize(temporary)


def _write_batches(sink: pa.NativeFile, table: pa.Table, counts: NDArray[np.int64]) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        start, batches = 0, table.to_batches()
        for count in counts[counts > 0].tolist():
            writer.write_batch(batches[0].slice(start, count))
            start += count
