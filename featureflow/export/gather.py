"""Pass 2: the slices of one shard, put in order, normalised if asked for, encoded and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.shard_format import ShardPlace
from featureflow.contracts.shard_manifest import Shard, ShardFile
from featureflow.core.errors import ComputeError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending, spent
from featureflow.core.storage import join
from featureflow.execute.exchange.fetching import read_batches
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.export.columns import MATRIX
from featureflow.export.folder import is_whole, write_file
from featureflow.export.in_place import Frame, blanks, finish_shard
from featureflow.export.inputs import Column, Plan
from featureflow.export.markers import read_marker, write_marker
from featureflow.export.room import Room, take
from featureflow.export.survey import row_width
from featureflow.library.shards.columns import arrow_column, element_type_and_shape, numpy_column
from featureflow.library.shards.registry import shard_format

#: Rows of so many bytes are copied one by one to where they belong; smaller ones are joined first.
WIDE_BYTES = 512
#: Place of a slice: the spill, and the number of the batch in it.
Slice = tuple[str, int]


def write_shard(
    plan: Plan,
    place: ShardPlace,
    rows: int,
    slices: Sequence[Slice],
    scales: dict[str, dict[str, float]],
    memory: KeptMemory,
    frame: Frame | None,
) -> Shard:
    """Write one shard, unless its marker and its very bytes are there already.

    Parameters
    ----------
    memory
        For values on their way.
    frame
        Where the columns are that were written in place.

    Notes
    -----
    Order: by shuffle key; without a shuffle, as in the spine (slices come in its order).
    Cost: O(rows log rows); memory about three times the shard.
    """
    marker = _marker(plan, place, rows, scales)
    done = written_shard(plan, place, rows, scales)
    if done is not None:
        return done
    empty = blanks(plan, rows, plan.in_place)
    table = read_shard(plan, slices, scales, empty, memory)
    if table.num_rows != rows:
        raise ComputeError(f"export: {place.stem} has {table.num_rows:,} rows, and should have {rows:,}.")
    with spent("encode"):
        encoded = shard_format(plan.format).encode(table, place, plan.options)
    if frame is not None:
        files = finish_shard(plan, encoded, empty, frame)
    elif plan.in_place:
        raise ComputeError(f"export: {place.stem} was whole, and has changed since. Export again.")
    else:
        files = tuple(write_file(plan.folder, path, buffers) for path, buffers in encoded.files.items())
    write_marker(
        marker,
        {
            "stem": place.stem,
            "rows": rows,
            "files": [{"path": f.path, "bytes": f.bytes, "xxh3_64": f.xxh3_64} for f in files],
            "entry": encoded.entry,
        },
    )
    return Shard(place.stem, rows, files, encoded.entry)


def written_shard(
    plan: Plan, place: ShardPlace, rows: int, scales: dict[str, dict[str, float]]
) -> Shard | None:
    """A shard of an interrupted export, if its marker and its very bytes are there."""
    done = read_marker(_marker(plan, place, rows, scales))
    if done is None:
        return None
    shard = Shard(done["stem"], done["rows"], tuple(ShardFile(**f) for f in done["files"]), done["entry"])
    return shard if all(is_whole(plan.folder, file) for file in shard.files) else None


def _marker(plan: Plan, place: ShardPlace, rows: int, scales: dict[str, dict[str, float]]) -> str:
    return join(plan.scratch, f"shard-{fingerprint([place.stem, rows, _as_list(scales)])}.json")


def _as_list(scales: dict[str, dict[str, float]]) -> list[Any]:
    return [[name, scale["mean"].hex(), scale["scale"].hex()] for name, scale in sorted(scales.items())]


@spending("compute:shuffle")
def read_shard(
    plan: Plan,
    slices: Sequence[Slice],
    scales: dict[str, dict[str, float]],
    empty: Mapping[str, NDArray[Any]],
    memory: KeptMemory,
) -> pa.Table:
    """Read the rows of a shard, in order, as the format is given them; with ``empty`` for what is in place already."""
    batches = read_batches(slices)
    parts = {name: [batch.column(name) for batch in batches] for name in plan.spill_schema.names}
    order = None
    if plan.keyed:
        order = np.argsort(np.concatenate([numpy_column(part) for part in parts.pop("__key")]))
    room = Room(sum(batch.num_rows for batch in batches) * row_width(plan.spill_schema), memory)
    made: dict[str, pa.Array] = {}
    matrix: list[NDArray[Any]] = []
    for column in plan.columns:
        for name in (column.name, column.indicator):
            if name is None:
                continue
            if name in empty:
                made[name] = arrow_column(empty[name], column.written)
                continue
            pieces = parts.pop(name)
            if name in plan.matrix:
                values = _numbers(pieces, order, room)
                matrix.append(_scaled(values, column, scales) if name == column.name else values)
            elif name == column.name and column.kind != "number":
                made[name] = _others(pieces, order)
            elif name == column.name and name in scales:
                made[name] = arrow_column(
                    _scaled(_numbers(pieces, order, room), column, scales), column.written
                )
            else:
                made[name] = arrow_column(_numbers(pieces, order, room), pieces[0].type)
    if matrix:
        made[MATRIX] = _stacked(matrix, plan)
    return pa.Table.from_arrays([made[name] for name in plan.schema.names], schema=plan.schema)


def _numbers(pieces: list[pa.Array], order: NDArray[np.int64] | None, room: Room) -> NDArray[Any]:
    values = [numpy_column(piece) for piece in pieces]
    if len(values) == 1:
        together = values[0]
    elif order is None:
        shape = (sum(map(len, values)), *values[0].shape[1:])
        return np.concatenate(values, out=room.array(shape, values[0].dtype))
    elif values[0].nbytes >= WIDE_BYTES * max(len(values[0]), 1):
        return _placed(values, order, room)
    else:
        together = np.concatenate(values)
    return together if order is None else take(together, order, room)


def _placed(values: list[NDArray[Any]], order: NDArray[np.int64], room: Room) -> NDArray[Any]:
    """Rows in order, each copied once to its place; of wide rows that is half of the work."""
    out = room.array((order.size, *values[0].shape[1:]), values[0].dtype)
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    start = 0
    for part in values:
        out[place[start : start + len(part)]] = part
        start += len(part)
    return out


def _others(pieces: list[pa.Array], order: NDArray[np.int64] | None) -> pa.Array:
    together = pa.concat_arrays(pieces)
    return together if order is None else together.take(arrow_column(order, pa.int64()))


def _scaled(values: NDArray[Any], column: Column, scales: dict[str, dict[str, float]]) -> NDArray[Any]:
    """Normalise in float64, then round once to the type of the shards."""
    scale = scales.get(column.name)
    if scale is None:
        return values
    result = (values.astype(np.float64) - scale["mean"]) / scale["scale"]
    element, _ = element_type_and_shape(column.written)
    with np.errstate(over="ignore"):
        narrowed = result.astype(element.to_pandas_dtype())
    if (np.isinf(narrowed) & np.isfinite(values)).any():
        raise ComputeError(
            f"export.normalize: {column.name!r} has normalised values that {element} can't hold. "
            "Clip it in the dataset, or use `float: float64`."
        )
    return narrowed


def _stacked(matrix: list[NDArray[Any]], plan: Plan) -> pa.Array:
    """One row-major matrix of columns; built column by column and turned once, ten times as fast as row by row."""
    kind = plan.schema.field(MATRIX).type
    dtype = element_type_and_shape(kind)[0].to_pandas_dtype()
    if matrix[0].ndim > 1:  # patches: the channels of a row lie behind each other
        return arrow_column(np.stack(matrix, axis=1, dtype=dtype), kind)
    across = np.empty((len(matrix), len(matrix[0])), dtype)
    for place, values in enumerate(matrix):
        across[place] = values
    return arrow_column(np.ascontiguousarray(across.T), kind)
