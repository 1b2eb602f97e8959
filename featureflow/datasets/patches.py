"""The index of a dataset of patches: one row a patch, with its place, time and share of values that are there.

Values are not in it: they stay in the grid's version, which the dataset pins, and are cut out of it by exports and
loaders. The grid is read once for the index, box by box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.types import to_arrow
from featureflow.datasets.spine import SpineFile
from featureflow.execute.exchange.exchange_file import (
    bucket_rows,
    exchange_path,
    finished_rows,
    write_buckets,
)
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.exchange.manifest import read_list, write_list
from featureflow.execute.grids.patch_reading import Box, cut_boxes, read_region, region_of
from featureflow.execute.grids.points import steps_of
from featureflow.execute.site import Site
from featureflow.execute.task import Shared, Task
from featureflow.execute.windows.arrays import integers
from featureflow.execute.windows.sorted_rows import column, microseconds
from featureflow.kernels.patches import box_sums, cut_patches
from featureflow.plan.nodes import Input
from featureflow.plan.patches import (
    PATCH,
    VALID,
    PatchField,
    PatchSpine,
    ReducedLabel,
    index_column,
    start_column,
)

if TYPE_CHECKING:
    import xarray as xr

Longs = NDArray[np.int64]
#: Part of every file's name: raise it when the same input gives another index than before.
ENGINE = 1
#: Bytes of a grid that one task looks at.
BOX_BYTES = 96 << 20


@dataclass(frozen=True, slots=True)
class PatchIndexing:
    """How the index of patches is made; ``mark`` names the content of all grids that it reads."""

    spine: PatchSpine
    rows: Input
    cubes: Mapping[str, Cube]
    mark: str
    folder: str

    def path(self, *what: Any) -> str:
        """Where a part of the index is, or will be."""
        name = [ENGINE, self.mark, repr(self.spine.layout), repr(self.spine.fields), *what]
        return exchange_path(self.folder, fingerprint(name))

    @property
    def measured(self) -> tuple[PatchField, ...]:
        """Variables that can have missing values."""
        return tuple(f for f in self.spine.fields if f.role == "feature" and np.dtype(f.dtype).kind == "f")


def index_patches(
    site: Site, name: str, job: PatchIndexing
) -> tuple[list[SpineFile], tuple[int, int] | None]:
    """Write the index of patches of dataset ``name``, and number its rows; also the range of their times."""
    spine = job.spine
    boxes: list[Box] = []
    if job.measured or spine.label is not None:
        chunks = {dim: job.cubes[spine.grid].chunks.get(dim, ()) for dim in spine.layout.dims}
        boxes = cut_boxes(spine.layout, chunks, spine.bytes, BOX_BYTES)
    shared = Shared(f"{name}-patches-{job.mark}", job)
    parts = {box: job.path("part", repr(box), repr(spine.label)) for box in boxes}
    stage = f"{name}: look at patches"
    site.progress.stage(stage, len(boxes))
    tasks = [
        Task(path, measure_box, (shared, box, path), f"{stage}, {place} of {len(boxes)}")
        for place, (box, path) in enumerate(parts.items())
    ]
    site.run(tasks, lambda _, n: site.progress.advance(stage, rows=n))
    listed = write_list(site.board, [[path] for path in parts.values()])
    path = job.path("index", repr(spine.label), spine.valid, spine.time)
    found: list[tuple[int, int | None, int | None]] = []
    task = Task(path, write_index, (shared, listed, path), f"{name}: index of patches")
    site.run([task], lambda _, made: found.append(made))
    ((rows, first, last),) = found
    return [SpineFile(path, 0, rows)], None if first is None or last is None else (first, last)


@spending("compute:patches")
def measure_box(job: PatchIndexing, box: Box, path: str) -> int:
    """Count the values of each patch of a box that are there, and make its label; returns how many patches."""
    found = finished_rows(path)
    if found is not None:
        return found
    layout, label = job.spine.layout, job.spine.label
    numbers = box.numbers(layout)
    starts = layout.starts(numbers)
    region = region_of(layout, starts)
    inside = starts - starts.min(axis=1, keepdims=True)
    there = np.zeros(len(numbers), np.int64)
    measured = job.measured
    if measured:
        cube = job.cubes[job.spine.grid]
        values = read_region(cube, [field.variable for field in measured], region)
        for field, block in zip(measured, values, strict=True):
            there += box_sums(~np.isnan(block), _places(field.dims, layout.dims, inside), field.shape)
    columns = {PATCH: integers(numbers), VALID: integers(there)}
    if label is not None:
        (block,) = read_region(job.cubes[label.source], [label.variable], region)
        shape = _shape(label, job)
        columns[label.name] = reduce_patches(
            cut_patches(block, _places(label.dims, layout.dims, inside), shape), label
        )
    table = pa.table(columns)
    write_buckets(table, np.zeros(len(numbers), np.int64), 1, path)
    return len(numbers)


def _shape(label: ReducedLabel, job: PatchIndexing) -> tuple[int, ...]:
    sizes = dict(zip(job.spine.layout.dims, job.spine.layout.patch, strict=True))
    outline = job.cubes[label.source].outline
    return tuple(sizes.get(dim, int(outline.sizes[dim])) for dim in label.dims)


def _places(dims: tuple[str, ...], cut: tuple[str, ...], inside: Longs) -> Longs:
    """Starts along the dimensions of a variable; 0 along those that are not cut."""
    none = np.zeros(inside.shape[1], np.int64)
    return np.stack([inside[cut.index(dim)] if dim in cut else none for dim in dims])


def reduce_patches(values: NDArray[Any], label: ReducedLabel) -> pa.Array:
    """One value of each patch; null where there is none that is not missing.

    Notes
    -----
    ``center`` is the value at ``size // 2`` along each dimension. ``majority`` is the most frequent value, the
    smallest of those that are. Sums and means are made in float64.
    """
    if label.op == "center":
        middle = values[(slice(None), *(size // 2 for size in values.shape[1:]))]
        return _with_nulls(middle, label.type)
    flat = values.reshape(len(values), -1)
    if label.op == "majority":
        return _majority(flat, label.type)
    valid = ~np.isnan(flat) if flat.dtype.kind == "f" else np.ones(flat.shape, np.bool_)
    counts = valid.sum(axis=1)
    if label.op in ("min", "max"):
        least, most = _limits(flat.dtype)
        ends = np.where(valid, flat, most if label.op == "min" else least)
        made = ends.min(axis=1) if label.op == "min" else ends.max(axis=1)
    else:
        kind = np.float64 if flat.dtype.kind == "f" or label.op == "mean" else np.int64
        made = np.where(valid, flat, 0).astype(kind).sum(axis=1)
        if label.op == "mean":
            made = made / np.maximum(counts, 1)
    return _with_nulls(made, label.type, counts == 0)


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    if dtype.kind == "b":
        return False, True
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _majority(flat: NDArray[Any], kind: pa.DataType) -> pa.Array:
    known, codes = np.unique(flat, return_inverse=True)
    codes = codes.reshape(flat.shape)
    if flat.dtype.kind == "f":
        known = known[~np.isnan(known)]  # missing values come last
    places = np.zeros(len(flat), np.int64)
    missing = np.zeros(len(flat), np.bool_)
    for row, mine in enumerate(codes):
        counts = np.bincount(mine, minlength=len(known))[: len(known)]
        missing[row] = not counts.any()
        places[row] = 0 if missing[row] else int(np.argmax(counts))
    made = known[places] if len(known) else np.zeros(len(flat), flat.dtype)
    return _with_nulls(made, kind, missing)


def _with_nulls(
    values: NDArray[Any], kind: pa.DataType, missing: NDArray[np.bool_] | None = None
) -> pa.Array:
    gone = np.zeros(len(values), np.bool_) if missing is None else missing
    if values.dtype.kind == "f":
        gone = gone | np.isnan(values)
    return pa.array(values.astype(kind.to_pandas_dtype()), kind, mask=gone)


def write_index(job: PatchIndexing, parts: str, path: str) -> tuple[int, int | None, int | None]:
    """Put the index together; returns its rows, and their earliest and latest time."""
    spine = job.spine
    if finished_rows(path) is None:
        table = _index(job, parts)
        write_buckets(table, np.zeros(table.num_rows, np.int64), 1, path)
    rows = int(bucket_rows(path).sum())
    if spine.time is None or not rows:
        return rows, None, None
    (batch,) = read_bucket((path,), 0)
    times = microseconds(batch.column(spine.time))
    return rows, int(times.min()), int(times.max())


def _index(job: PatchIndexing, parts: str) -> pa.Table:
    spine, layout = job.spine, job.spine.layout
    numbers, share, label = _measured(job, parts)
    if spine.valid is not None:
        kept = np.flatnonzero(share >= spine.valid)
        numbers, share = numbers[kept], share[kept]
        label = None if label is None else label.take(pa.array(kept))
    starts = layout.starts(numbers)
    outline = job.cubes[spine.grid].outline
    arrays: dict[str, pa.Array] = {PATCH: integers(numbers)}
    for dim, first in zip(layout.dims, starts, strict=True):
        arrays[index_column(dim)] = integers(first)
        arrays[start_column(dim)] = coordinates(outline, dim, first)
    if spine.time is not None:
        arrays[spine.time] = integers(known_times(spine, outline, starts), pa.timestamp("us", "UTC"))
    arrays[VALID] = pa.array(share)
    if spine.label is not None:
        arrays[spine.label.name] = label
    schema = pa.schema([pa.field(name, to_arrow(kind)) for name, kind in job.rows.columns.items()])
    return pa.table([arrays[name].cast(schema.field(name).type) for name in schema.names], schema=schema)


def _measured(job: PatchIndexing, parts: str) -> tuple[Longs, NDArray[np.float64], pa.Array | None]:
    """Numbers of all patches in order, the share of values that are there, and labels."""
    layout = job.spine.layout
    paths = tuple(path for (path,) in read_list(parts))
    if not paths:
        return np.arange(layout.n_patches), np.ones(layout.n_patches), None
    batches = [batch.replace_schema_metadata(None) for batch in read_bucket(paths, 0)]
    table = pa.Table.from_batches(batches).combine_chunks()
    numbers = column(table, PATCH).to_numpy()
    order = np.argsort(numbers)
    features = [field for field in job.spine.fields if field.role == "feature"]
    full = sum(prod(field.shape) for field in features)
    sure = sum(prod(field.shape) for field in features if field not in job.measured)
    share = (column(table, VALID).to_numpy()[order] + sure) / full
    label = job.spine.label
    return numbers[order], share, None if label is None else column(table, label.name).take(pa.array(order))


def coordinates(outline: xr.Dataset, dim: str, positions: Longs) -> pa.Array:
    """Coordinates at positions along a dimension; the positions where it has none."""
    if dim not in outline.coords:
        return integers(positions)
    values = outline[dim].values
    if values.dtype.kind == "M":
        micro = values.astype("datetime64[us]").astype(np.int64)
        return integers(micro[positions], pa.timestamp("us", "UTC"))
    if values.dtype.kind in "OSU":
        return pa.array([str(values[place]) for place in positions], pa.string())
    return pa.array(values[positions])


def known_times(spine: PatchSpine, outline: xr.Dataset, starts: Longs) -> Longs:
    """When all steps of each patch are known, microseconds."""
    steps = steps_of(outline, spine.time or "")
    since = np.maximum(steps.times, steps.known)
    layout = spine.layout
    if spine.time not in layout.dims:
        return np.full(starts.shape[1], since.max(initial=0), np.int64)
    place = layout.dims.index(spine.time or "")
    latest = np.lib.stride_tricks.sliding_window_view(since, layout.patch[place]).max(axis=1)
    return np.asarray(latest[starts[place]], np.int64)
