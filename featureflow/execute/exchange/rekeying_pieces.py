"""Re-keying a chunk that is more than its task may hold: group by group into files of its own, then into one.

The exchange file has the same batches as one that was made in one go.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.meter import spent

#: A re-keying task holds its decoded rows about so often: as they are read, and on their way to the buckets.
COPIES = 2

Rows = tuple[pa.Table, NDArray[np.int64]]


def parts_of(chunk: Any, row_bytes: int, room_bytes: int) -> list[Any]:
    """Cut a chunk into runs of its file's groups that fit; one group that does not fit stays whole.

    Parameters
    ----------
    row_bytes
        A decoded row.
    room_bytes
        What the task may hold; 0 for no limit.
    """
    groups = getattr(chunk.file, "groups", None)
    if not room_bytes or not groups or chunk.rows * row_bytes * COPIES <= room_bytes:
        return [chunk]
    chosen = [group for group in groups if chunk.row_groups is None or group.index in set(chunk.row_groups)]
    runs: list[list[Any]] = []
    rows = 0
    for group in chosen:
        if runs and (rows + group.rows) * row_bytes * COPIES <= room_bytes:
            runs[-1].append(group)
            rows += group.rows
        else:
            runs.append([group])
            rows = group.rows
    return [
        replace(
            chunk,
            row_groups=tuple(group.index for group in run),
            rows=sum(group.rows for group in run),
            size=sum(group.bytes for group in run),
        )
        for run in runs
    ]


def gathered(
    parts: Iterator[Rows],
    n_buckets: int,
    folder: str,
    write: Callable[[str, pa.Table, NDArray[np.int64]], None],
) -> tuple[Callable[[], Iterator[pa.Table]], NDArray[np.int64], Callable[[], None]]:
    """Write the rows of each part, ordered by bucket, to a file of its own, below ``folder``, which is made.

    Returns
    -------
    tuple
        Gives the rows of one bucket after the other; rows of each bucket; removes the files.
    """
    files: list[str] = []
    counts = np.zeros(n_buckets, np.int64)

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def buckets() -> Iterator[pa.Table]:
        for bucket in range(n_buckets):
            with spent("spill"):
                batches = [_batch(file, bucket).replace_schema_metadata(None) for file in files]
                yield pa.Table.from_batches(batches).combine_chunks()

    try:
        for table, own_counts in parts:
            counts += own_counts
            file = os.path.join(folder, f"{len(files)}.arrow")
            write(file, table, own_counts)
            files.append(file)
            del table
    except BaseException:
        remove()
        raise
    return buckets, counts, remove


def _batch(path: str, bucket: int) -> pa.RecordBatch:
    with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
        return reader.get_batch(bucket)
