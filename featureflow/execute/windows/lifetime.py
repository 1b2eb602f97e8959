"""State of ``lifetime`` windows: rows that stand for everything before an instant.

A table's state holds, for each key of a bucket, the rows that its ``lifetime`` features can still need of the events
before an instant: real rows (the largest one, the first one), and carriers, copies of the key's first row that carry
how many values there were and doubles that add up to exactly their sum. A run that begins with a state puts these rows
before its events and computes as ever: the same kernels give the same bits as with all of the history.

The instant lies so far before the slice that the state is for that no finite window and no ``delay`` reaches behind
it: an event is in the state, or among those read, never in both. Other windows never see a row of the state.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.core.errors import ComputeError
from featureflow.core.meter import spending
from featureflow.core.storage import join, read_bytes, write_atomic
from featureflow.execute.windows.arrays import booleans
from featureflow.execute.windows.sorted_rows import SortedRows, column, sort_rows
from featureflow.kernels.columns import dense
from featureflow.kernels.compaction import split_sums, whole_sums
from featureflow.kernels.exact_sums import banded_prefix_sums, decoded, infinities, prefix_sums
from featureflow.kernels.gather import take_rows
from featureflow.library.aggregations import make
from featureflow.library.aggregations.history import history_of, kept_rows
from featureflow.plan.nodes import CompiledTable, Feature

_MAGIC = b"FFLIFE01"
_HEADER = struct.Struct("<8sIQQ")  # magic, checksum of the rest, its bytes, rows
_PREFIX = "__ff_"  # no column of a source may begin with it

Columns = Callable[[Feature], EventColumn]


@dataclass(frozen=True, slots=True)
class Group:
    """Lifetime features that need the same rows of the history; ``place`` numbers their columns in the state."""

    place: int
    feature: Feature
    sums: bool
    adds: bool

    @property
    def marks(self) -> tuple[str, ...]:
        """Columns of the state that belong to the group."""
        if not self.sums:
            return (f"{_PREFIX}keep_{self.place}",)
        counts = f"{_PREFIX}count_{self.place}"
        return (counts, f"{_PREFIX}sum_{self.place}") if self.adds else (counts,)


def operation_of(feature: Feature) -> str | dict[str, object]:
    """Form of a feature's aggregation in a spec."""
    return {feature.op: dict(feature.params)} if feature.params else feature.op


def groups_of(table: CompiledTable) -> dict[str, Group]:
    """Group of each lifetime feature, by the feature's name."""
    members: dict[object, list[Feature]] = {}
    for feature in table.features:
        if feature.window.length_us is None:
            sums = history_of(feature.op) == "sums"
            own = (feature.op, feature.params, feature.other)
            members.setdefault((feature.series, sums, None if sums else own), []).append(feature)
    found = {}
    for place, ((_, sums, _), features) in enumerate(members.items()):  # type: ignore[misc]
        adds = sums and any(feature.op != "count" for feature in features)
        found.update({feature.name: Group(place, features[0], sums, adds) for feature in features})
    return found


def needs_all(table: CompiledTable) -> tuple[str, ...]:
    """Lifetime features of which nothing less than all history will do."""
    return tuple(
        feature.name
        for feature in table.features
        if feature.window.length_us is None and history_of(feature.op) == "all"
    )


@dataclass(slots=True)
class History:
    """State that the events of a run begin with.

    ``marks`` has a row for each event: null, or for those before ``before_us`` what they stand for.
    """

    before_us: int
    marks: pa.Table

    def column(self, group: Group, events: EventColumn) -> EventColumn:
        """Column of a lifetime feature, in which the state's rows stand for the history."""
        is_state = events.times < self.before_us
        values, weights = events.values, None
        if group.sums:
            counts = column(self.marks, group.marks[0])
            valid = np.where(is_state, counts.is_valid().to_numpy(zero_copy_only=False), events.valid)
            weights = np.where(is_state, counts.fill_null(0).to_numpy(), 1)
            if group.adds and values is not None:
                sums = column(self.marks, group.marks[1]).fill_null(0).to_numpy()
                values = np.where(is_state, sums, values.astype(sums.dtype, copy=False))
        else:
            kept = column(self.marks, group.marks[0]).fill_null(True)
            valid = events.valid & kept.to_numpy(zero_copy_only=False)
        return EventColumn(
            values, valid, events.times, events.type, events.categories, events.other, weights=weights
        )


def sort_with_history(
    table: CompiledTable, events: pa.Table, state: pa.Table, before_us: int
) -> tuple[SortedRows, History]:
    """Sort a run's events with the rows of a state before them."""
    marks = state.column_names[len(events.column_names) :]
    for name in marks:
        events = events.append_column(name, pa.nulls(events.num_rows, state.schema.field(name).type))
    joined = pa.concat_tables([state.cast(events.schema), events])
    rows = sort_rows(joined, table.keys, table.source.time, table.source.order, aside=tuple(marks))
    history = History(before_us, rows.events.select(marks))
    rows.table = rows.table.drop_columns(marks)
    return rows, history


@spending("compute:state")
def make_state(table: CompiledTable, rows: SortedRows, columns: Columns, before_us: int) -> pa.Table | None:
    """Rows that stand for all events before an instant.

    Parameters
    ----------
    rows
        Events of a bucket from the first one on, or with a state in place of the first ones.
    columns
        Gives the events of a lifetime feature as its aggregation takes them.

    Returns
    -------
    pa.Table or None
        None where no doubles can carry a sum: one beyond all doubles, or of integers beyond 64 bits. A build then goes
        on reading all history.

    Notes
    -----
    Cost: O(n) for most aggregations, O(n log n) for distinct values and the k best.
    """
    # as windows of the keys: from its first event to the first one at or after the instant
    ends = np.concatenate(([0], np.cumsum(rows.times < before_us)))
    lo = rows.offsets[:-1]
    windows = Windows(lo, lo + ends[rows.offsets[1:]] - ends[lo], np.full(len(lo), before_us))
    before = rows.times < before_us
    kept: dict[Group, NDArray[np.int64]] = {}
    sums: dict[Group, list[_Part]] = {}
    for group in dict.fromkeys(groups_of(table).values()):
        events = columns(group.feature)
        if group.sums:
            parts = _parts(group, events, windows)
            if parts is None:
                return None
            sums[group] = parts
        else:
            past = EventColumn(
                events.values, events.valid & before, events.times, events.type, other=events.other
            )
            kept[group] = kept_rows(make(operation_of(group.feature)), past, rows.codes)
    return _state_rows(rows, windows, kept, sums)


@dataclass(slots=True)
class _Part:
    """A carrier of each key, or of those in ``present``: the count and the summand that it carries."""

    present: NDArray[np.bool_]
    counts: NDArray[np.int64]
    summands: NDArray[np.float64] | NDArray[np.int64] | None


def _parts(group: Group, events: EventColumn, windows: Windows) -> list[_Part] | None:
    selected = dense(events, windows)
    counts = selected.counts
    some = selected.hi > selected.lo
    if not group.adds:
        return [_Part(some, counts, None)]
    held = decoded(events, selected)
    prefix = prefix_sums(events, held)
    if events.values is None or events.values.dtype != np.float64:
        whole = None if prefix is None else whole_sums(prefix, selected.lo, selected.hi)
        return None if whole is None else [_Part(some, counts, whole)]
    summands: list[NDArray[np.float64]] = []
    for band, exponent in banded_prefix_sums(held) if prefix is None else ((prefix, held.low),):
        split = split_sums(band, selected.lo, selected.hi, exponent)
        if split is None:
            return None
        summands += split
    none = np.zeros_like(counts)
    first = summands[0] if summands else np.zeros(len(counts))
    parts = [_Part(some, counts, first), *(_Part(part != 0, none, part) for part in summands[1:])]
    infinite = infinities(held, selected)
    if infinite is not None:
        parts += [
            _Part(has, none, np.full(len(has), inf))
            for has, inf in zip(infinite, (np.inf, -np.inf), strict=True)
        ]
    return parts


def _state_rows(
    rows: SortedRows,
    windows: Windows,
    kept: dict[Group, NDArray[np.int64]],
    sums: dict[Group, list[_Part]],
) -> pa.Table:
    """Real rows first, then the carriers: at least one for each key, so that none is forgotten."""
    real = np.unique(np.concatenate([np.empty(0, np.int64), *kept.values()]))
    keys = np.flatnonzero(windows.hi > windows.lo)
    layers = [keys]
    for depth in range(1, max((len(parts) for parts in sums.values()), default=1)):
        wanted = np.zeros(len(windows.lo), np.bool_)
        for parts in sums.values():
            if depth < len(parts):
                wanted |= parts[depth].present
        layers.append(np.flatnonzero(wanted))
    state = take_rows(rows.table, np.concatenate((real, windows.lo[np.concatenate(layers)])) + rows.n_apart)
    rest = state.num_rows - len(real)
    for group, places in kept.items():
        marks = np.concatenate((np.isin(real, places), np.zeros(rest, np.bool_)))
        state = state.append_column(group.marks[0], booleans(marks))
    for group, parts in sums.items():
        for name, values in zip(group.marks, _carried(group, parts, layers, len(real)), strict=True):
            state = state.append_column(name, values)
    return state


def _carried(
    group: Group, parts: list[_Part], layers: list[NDArray[np.int64]], n_real: int
) -> list[pa.Array]:
    """Columns of a group's counts and summands; null in rows that carry nothing of it."""
    first = parts[0].summands
    kind = np.float64 if first is None else first.dtype
    present, counts, summands = (
        [np.zeros(n_real, np.bool_)],
        [np.zeros(n_real, np.int64)],
        [np.zeros(n_real, kind)],
    )
    for depth, layer in enumerate(layers):
        part = parts[depth] if depth < len(parts) else None
        present.append(np.zeros(len(layer), np.bool_) if part is None else part.present[layer])
        counts.append(np.zeros(len(layer), np.int64) if part is None else part.counts[layer])
        carried = None if part is None else part.summands
        summands.append(np.zeros(len(layer), kind) if carried is None else carried[layer])
    missing = ~np.concatenate(present)
    columns = [np.concatenate(counts), np.concatenate(summands)] if group.adds else [np.concatenate(counts)]
    return [pa.array(values, mask=missing) for values in columns]


# ---------------------------------------------------------------- files


def state_url(table_url: str, mark: str, bucket: int) -> str:
    """Where the state of a bucket is."""
    return join(table_url, "_ff", "state", state_name(mark, bucket))


def state_name(mark: str, bucket: int) -> str:
    """Name of a state's file."""
    return f"{mark}-b{bucket:03d}.arrow"


def write_state(state: pa.Table, url: str) -> None:
    """Write a state, whole or not at all. Not waited for: one that a power cut damages is as good as none."""
    sink = pa.BufferOutputStream()
    state = state.replace_schema_metadata(None)
    with pa.ipc.new_stream(sink, state.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(state.combine_chunks())
    content = sink.getvalue().to_pybytes()
    write_atomic(
        url, _HEADER.pack(_MAGIC, zlib.crc32(content), len(content), state.num_rows) + content, durable=False
    )


def sound_state(url: str) -> tuple[bytes, int] | None:
    """Content and number of rows of a state; None if it is missing or damaged."""
    try:
        data = read_bytes(url)
    except FileNotFoundError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, checksum, size, n_rows = _HEADER.unpack_from(data)
    content = data[_HEADER.size :]
    sound = magic == _MAGIC and size == len(content) and checksum == zlib.crc32(content)
    return (content, n_rows) if sound else None


def read_state(url: str) -> pa.Table:
    """Read a state that was sound when the build was planned."""
    found = sound_state(url)
    if found is None:
        raise ComputeError(f"{url}: the state of lifetime windows went away while it was used. Build again.")
    with pa.ipc.open_stream(found[0]) as reader:
        return reader.read_all()
