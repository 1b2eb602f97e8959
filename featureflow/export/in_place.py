"""Shards whose patches are written once, to where they stay: no spill, and no copy from it.

Some formats store values as they are. Where in its files each row of a shard lies is known before there are values:
the format encodes zeros that nobody reads, and what it hands on of them is where the values go. The first pass then
writes patches into files that nobody sees, and the second pass adds what is around them, and gives them their names.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.shard_format import Encoded, ShardPlace
from featureflow.contracts.shard_manifest import ShardFile
from featureflow.core.errors import ComputeError
from featureflow.core.meter import spending
from featureflow.core.storage import full_disks_named, join, local_path
from featureflow.export.folder import hidden_file, name_file, write_file
from featureflow.export.inputs import Plan, SplitLayout
from featureflow.library.shards.columns import arrow_column, element_type_and_shape, numpy_dtype
from featureflow.library.shards.registry import shard_format

#: Shuffled rows of fewer bytes are joined in a spill first: each would be a call to the system.
SMALLEST_ROW = 4096
_LOCK = ".tmp-placing"
#: Rows that say whether a format stores values as they are.
_FEW = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows of a column that lie one behind the other in a file; ``path`` and ``offset`` say where the first is."""

    path: str
    offset: int
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The files of a shard that hold patches: bytes of each, and the slots of each column in the order of rows."""

    sizes: dict[str, int]
    slots: dict[str, tuple[Slot, ...]]


def placed_columns(plan: Plan) -> tuple[str, ...]:
    """Names of the columns that can be written in place; none if not all patches can."""
    patches = plan.patches
    virtual = set() if patches is None else {field.name for field in patches.fields}
    mine = [column for column in plan.columns if column.stored in virtual]
    if not mine or plan.matrix or any(column.kind != "number" for column in plan.columns):
        return ()
    for column in mine:
        element, shape = element_type_and_shape(column.written)
        width = element.bit_width // 8 * int(np.prod(shape, dtype=np.int64))
        if column.spilled != column.written or (plan.bake and column.scaled):
            return ()
        if plan.seed is not None and width < SMALLEST_ROW:
            return ()
    names = tuple(column.name for column in mine)
    return names if frame_of(plan, ShardPlace("all/part", 0, 1, 0, _FEW), _FEW, names) else ()


def blanks(plan: Plan, rows: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Zeros in place of columns: addresses, not memory, as long as nobody reads them."""
    kinds = {column.name: column.written for column in plan.columns if column.name in names}
    return {
        name: np.zeros((rows, *element_type_and_shape(kind)[1]), numpy_dtype(kind))
        for name, kind in kinds.items()
    }


def frame_of(plan: Plan, place: ShardPlace, rows: int, names: Sequence[str]) -> Frame | None:
    """Where the rows of columns lie in a shard's files; None if the format does not store them as they are."""
    empty = blanks(plan, rows, names)
    arrays = []
    for field in plan.schema:
        values = empty.get(field.name)
        if values is None:
            values = np.zeros((rows, *element_type_and_shape(field.type)[1]), numpy_dtype(field.type))
        arrays.append(arrow_column(values, field.type))
    table = pa.Table.from_arrays(arrays, schema=plan.schema)
    frame = _found(shard_format(plan.format).encode(table, place, plan.options), empty)
    whole = all(sum(slot.rows for slot in frame.slots[name]) == rows for name in names)
    return frame if whole else None


def _found(encoded: Encoded, empty: Mapping[str, NDArray[Any]]) -> Frame:
    """Find the memory of arrays among what a format hands on."""
    sizes: dict[str, int] = {}
    slots: dict[str, list[Slot]] = {name: [] for name in empty}
    for path, buffers in encoded.files.items():
        at, holds = 0, False
        for buffer in buffers:
            size = memoryview(buffer).nbytes
            slot = _slot(buffer, size, path, at, empty) if size else None
            if slot is not None:
                slots[slot[0]].append(slot[1])
                holds = True
            at += size
        if holds:
            sizes[path] = at
    return Frame(
        sizes, {name: tuple(sorted(mine, key=lambda slot: slot.first)) for name, mine in slots.items()}
    )


def _slot(
    buffer: Any, size: int, path: str, at: int, empty: Mapping[str, NDArray[Any]]
) -> tuple[str, Slot] | None:
    address = np.frombuffer(buffer, np.uint8).ctypes.data
    for name, values in empty.items():
        begin = address - values.ctypes.data
        if len(values) and 0 <= begin < values.nbytes:
            width = values.nbytes // len(values)
            if begin % width == 0 and size % width == 0 and begin + size <= values.nbytes:
                return name, Slot(path, at, begin // width, size // width)
    return None


@contextmanager
def alone(folder: str) -> Iterator[bool]:
    """Say whether no other process places patches in a folder, and keep others from it meanwhile."""
    path = os.path.join(local_path(folder), _LOCK)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        yield False
        return
    try:
        mine = _locked(handle, path)
        try:
            yield mine
        finally:
            if mine:
                with suppress(FileNotFoundError):
                    os.unlink(path)
    finally:
        os.close(handle)


def _locked(handle: int, path: str) -> bool:
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        return os.path.samestat(os.fstat(handle), os.stat(path))  # else it was removed by who had it before
    return False


def markers(plan: Plan) -> str:
    """Folder of the markers of the first pass: after a crash of the system, files may lack what was written to them."""
    boot = "none"
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    return join(plan.scratch, f"placed-{boot}")


def make_files(
    plan: Plan, layouts: Sequence[SplitLayout], names: Sequence[str], done: set[str]
) -> dict[str, Frame]:
    """Make the hidden files of all shards but those that are done; those of an interrupted export are kept.

    Returns
    -------
    dict
        The frame of each shard, by its stem.
    """
    frames: dict[str, Frame] = {}
    for layout in layouts:
        for place, rows in layout.places():
            if place.stem not in done:
                frame = frame_of(plan, place, rows, names)
                if frame is None:
                    raise ComputeError(
                        f"export: {plan.format} lays out {place.stem} in another way. Report this."
                    )
                frames[place.stem] = frame
    files = [(_hidden(plan, path), size) for frame in frames.values() for path, size in frame.sizes.items()]
    missing = [(path, size) for path, size in files if not _has_size(path, size)]
    if missing:  # first, so that nobody takes empty files for those that the markers are of
        shutil.rmtree(local_path(markers(plan)), ignore_errors=True)
    for path, size in missing:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
    return frames


def remove_files(plan: Plan, frames: Mapping[str, Frame]) -> None:
    """Remove hidden files that will not get a name."""
    for frame in frames.values():
        for path in frame.sizes:
            with suppress(FileNotFoundError):
                os.unlink(_hidden(plan, path))


def _hidden(plan: Plan, path: str) -> str:
    return hidden_file(local_path(join(plan.folder, path)))


def _has_size(path: str, size: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.getsize(path) == size
    return False


@spending("write")
def write_rows(plan: Plan, slots: Sequence[Slot], places: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Write rows of a column to their places in a shard.

    Parameters
    ----------
    places
        Rising.
    values
        ``(n, …)``, C-contiguous; row i goes to row ``places[i]`` of the shard.
    """
    data = values.reshape(-1).view(np.uint8).data
    width = values.nbytes // max(len(values), 1)
    for slot in slots:
        first, last = np.searchsorted(places, [slot.first, slot.first + slot.rows]).tolist()
        if first == last:
            continue
        breaks = (first + 1 + np.flatnonzero(np.diff(places[first:last]) != 1)).tolist()
        path = _hidden(plan, slot.path)
        with full_disks_named(path, (last - first) * width), _opened(path) as file:
            for start, stop in zip([first, *breaks], [*breaks, last], strict=True):
                offset = slot.offset + (int(places[start]) - slot.first) * width
                _write_at(file.fileno(), data[start * width : stop * width], offset)


def _opened(path: str) -> BinaryIO:
    try:
        return cast("BinaryIO", open(path, "r+b", buffering=0))
    except FileNotFoundError as error:
        raise ComputeError(
            f"export: {path} was removed meanwhile. Is another export to this folder on its way? Export again."
        ) from error


def _write_at(handle: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


@spending("write")
def finish_shard(
    plan: Plan, encoded: Encoded, empty: Mapping[str, NDArray[Any]], frame: Frame
) -> tuple[ShardFile, ...]:
    """Write what lies around the patches, and name the files of a shard.

    Parameters
    ----------
    encoded
        The shard, with ``empty`` in place of its patches.
    """
    if _found(encoded, empty) != frame:
        raise ComputeError(f"export: {plan.format} laid out a shard in another way than before. Report this.")
    files = []
    for path, buffers in encoded.files.items():
        if path not in frame.sizes:
            files.append(write_file(plan.folder, path, buffers))
            continue
        hidden = _hidden(plan, path)
        with full_disks_named(hidden, frame.sizes[path]), _opened(hidden) as file:
            at = 0
            for buffer in buffers:
                size = memoryview(buffer).nbytes
                if size and _slot(buffer, size, path, at, empty) is None:
                    _write_at(file.fileno(), memoryview(buffer).cast("B"), at)
                at += size
        files.append(name_file(plan.folder, path, hidden))
    return tuple(files)
