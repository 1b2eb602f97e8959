"""Exports of patches: rows are read box by box of the grid, so that each chunk is read once, not once a shard.

The index of the patches says which go where, as with any dataset; it is read as a whole, and every box gets a file
with its rows, their places in the order, and their splits. The values come from the grid's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.storage import join
from featureflow.datasets.patch_record import StoredPatches
from featureflow.execute.exchange.exchange_file import write_buckets
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.execute.grids.patch_reading import owners
from featureflow.execute.windows.arrays import integers
from featureflow.execute.windows.sorted_rows import column
from featureflow.export.inputs import Plan, RowsFile, SplitLayout
from featureflow.export.markers import read_marker, write_marker
from featureflow.export.selection import (
    REASONS,
    choose_rows,
    needed_to_choose,
    open_parquet,
    read_columns,
    shuffle_keys,
)
from featureflow.export.survey import CHUNK_BYTES, Chunk
from featureflow.library.shards.columns import arrow_column
from featureflow.plan.patches import PATCH, VALID, PatchField, index_column, start_column

#: Columns of a box's file beside those of the index: place in the order, and number of the split (or a reason).
KEY, CODE = "__key", "__code"


def fields_of(plan: Plan) -> list[PatchField]:
    """Fields of the patches that are exported."""
    patches = plan.patches
    stored = {column.stored for column in plan.columns}
    return [] if patches is None else [field for field in patches.fields if field.name in stored]


def survey_patches(plan: Plan, patches: StoredPatches, files: Sequence[RowsFile]) -> list[dict[str, Any]]:
    """Read the index, decide where its rows go, and write the rows of each box that has some.

    Returns
    -------
    list of dict
        The fields of a `Chunk` for each box; ``url`` is the file of its rows.

    Notes
    -----
    Cost: memory of the index: its columns that are exported, and about 100 bytes a patch.
    """
    name = fingerprint([[file.url, file.rows, file.first_row] for file in files])
    path = join(plan.scratch, f"boxes-{name}")
    done = read_marker(f"{path}.json")
    if done is not None:
        return list(done["chunks"])
    fields = fields_of(plan)
    table = _index(plan, files, {field.name for field in fields})
    choice = choose_rows(table, plan)
    keys = _keys(plan, table.num_rows, choice.codes, len(choice.splits))
    target = CHUNK_BYTES
    boxes = patches.boxes(target, fields)
    owner = owners(patches.layout, boxes, column(table, PATCH).to_numpy())
    order = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], np.arange(len(boxes) + 1))
    chunks = []
    for number, (start, stop) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        if start == stop:
            continue
        rows = order[start:stop]
        url = f"{path}-{number}.arrow"
        codes, mine = choice.codes[rows], keys[rows]
        own = table.take(pa.array(rows)).append_column(KEY, arrow_column(mine, pa.uint64()))
        own = own.append_column(CODE, integers(codes))
        write_buckets(own, np.zeros(len(rows), np.int64), 1, url)
        kept = {split: int(np.count_nonzero(codes == place)) for place, split in enumerate(choice.splits)}
        chunks.append(
            {
                "url": url,
                "first_group": 0,
                "groups": 1,
                "first_row": number,
                "rows": len(rows),
                "kept": kept,
                "bytes": dict.fromkeys(kept, 0),
                "out": {reason: int(np.count_nonzero(codes == code)) for code, reason in REASONS.items()},
                "keys": None,
            }
        )
    write_marker(f"{path}.json", {"chunks": chunks})
    return chunks


def _index(plan: Plan, files: Sequence[RowsFile], virtual: set[str]) -> pa.Table:
    """Columns of the index that are needed, of all rows in order."""
    stored = [one.stored for one in plan.columns if one.stored not in virtual]
    wanted = list(dict.fromkeys([PATCH, *needed_to_choose(plan), *stored]))
    parts = []
    for file in files:
        with open_parquet(file.url) as opened:
            parts.append(read_columns(opened, range(opened.metadata.num_row_groups), wanted))
    return pa.concat_tables(parts).combine_chunks()


def _keys(plan: Plan, n: int, codes: NDArray[np.int64], n_splits: int) -> NDArray[np.uint64]:
    """Rank of each row in the order of its split."""
    mixed = None if plan.seed is None else shuffle_keys(0, n, plan.seed)
    keys = np.zeros(n, np.uint64)
    for place in range(n_splits):
        mine = np.flatnonzero(codes == place)
        order = mine if mixed is None else mine[np.argsort(mixed[mine])]
        keys[order] = np.arange(len(mine), dtype=np.uint64)
    return keys


@spending("decode")
def box_rows(
    plan: Plan, patches: StoredPatches, chunk: Chunk, layouts: Sequence[SplitLayout], memory: KeptMemory
) -> tuple[pa.Table, NDArray[np.uint64], NDArray[np.int64]]:
    """Kept rows of a box with the values of their patches, the rank of each in its split, and its shard.

    Notes
    -----
    Order: by shard, and by rank within it.
    Cost: one read of the region that has the box's patches; the rows that are left out are not cut out of it.
    """
    (batch,) = read_bucket((chunk.url,), 0)
    table = pa.Table.from_batches([batch.replace_schema_metadata(None)])
    codes, keys = column(table, CODE).to_numpy(), column(table, KEY).to_numpy()
    shards = np.full(len(codes), -1, np.int64)
    splits = list(chunk.kept)  # in the order of the codes
    for layout in layouts:
        if layout.name in splits:
            mine = np.flatnonzero(codes == splits.index(layout.name))
            shards[mine] = layout.shard_of(keys[mine])
    order = np.lexsort((keys, shards))[np.count_nonzero(shards < 0) :]
    table, keys, shards = table.take(pa.array(order)), keys[order], shards[order]
    values = {}
    for field, found in patches.read(column(table, PATCH).to_numpy(), fields_of(plan), memory):
        values[field.name] = arrow_column(found, field.type)
    for name, array in values.items():
        table = table.append_column(name, array)
    return table.drop_columns([KEY, CODE]), keys, shards


def schema_with(schema: pa.Schema, fields: Sequence[PatchField]) -> pa.Schema:
    """A dataset's schema with the columns of its patches."""
    for field in fields:
        schema = schema.append(pa.field(field.name, field.type))
    return schema


def index_names(patches: StoredPatches) -> list[str]:
    """Columns of the index that say where a patch is and how much of it is there."""
    return [
        *(name for dim in patches.layout.dims for name in (index_column(dim), start_column(dim))),
        VALID,
    ]
