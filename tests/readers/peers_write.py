"""Write rows with the libraries' own writers; runs in an environment of `make_environment.py`.

`python peers_write.py WRITER ROWS.npz OUT '{"option": …}'`: each array of the file is a column, text as ``U``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Rows = dict[str, np.ndarray]


def python_rows(rows: Rows, *, scalars: bool = True) -> Iterator[dict[str, Any]]:
    """Rows as dicts; numbers are Python's unless ``scalars`` is false."""
    n = len(next(iter(rows.values())))
    columns = {
        name: values.tolist() if values.ndim == 1 and (scalars or values.dtype.kind == "U") else list(values)
        for name, values in rows.items()
    }
    for i in range(n):
        yield {name: column[i] for name, column in columns.items()}


def mds(
    rows: Rows, out: str, columns: dict[str, str], shards: dict[str, int], compression: str | None
) -> None:
    """One shard for each of ``shards``, name to number of rows, and one index over all."""
    from streaming import MDSWriter

    class Named(MDSWriter):
        def _name_next_shard(self, extension: str | None = None) -> tuple[str, str | None]:
            name = list(shards)[len(self.shards)]
            return name, f"{name}.{self.compression}" if self.compression else None

    with Named(
        columns=columns, out=out, hashes=["xxh3_64"], size_limit=None, compression=compression
    ) as writer:
        given = python_rows(rows)
        for count in shards.values():
            for _ in range(count):
                writer.write(next(given))
            writer.flush_shard()
            writer._reset_cache()


def litdata(rows: Rows, out: str, chunk_size: int) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(out, chunk_size=chunk_size)
    for i, row in enumerate(python_rows(rows)):
        writer[i] = row
    writer.done()
    writer._merge_no_wait()


def litdata_dtypes(rows: Rows, out: str) -> None:
    """The library's numbers of dtypes."""
    from litdata.constants import _NUMPY_DTYPES_MAPPING

    with open(out, "w") as file:
        json.dump({str(dtype): number for number, dtype in _NUMPY_DTYPES_MAPPING.items()}, file)


def tfrecord(rows: Rows, out: str) -> None:
    from tfrecord import TFRecordWriter

    kinds = {"f": "float", "i": "int", "b": "int", "u": "int"}
    writer = TFRecordWriter(os.path.join(out, "part.tfrecord"))
    for row in python_rows(rows, scalars=False):
        writer.write({name: (value, kinds[rows[name].dtype.kind]) for name, value in row.items()})
    writer.close()


def webdataset(rows: Rows, out: str) -> None:
    from webdataset import TarWriter

    with TarWriter(os.path.join(out, "part.tar"), mtime=0) as writer:
        for i, row in enumerate(python_rows(rows, scalars=False)):
            members = {
                f"{n}.npy" if np.ndim(v) else f"{n}.cls": v if np.ndim(v) else int(v) for n, v in row.items()
            }
            writer.write({"__key__": f"{i:09d}", **members})


WRITERS: dict[str, Callable[..., None]] = {
    "mds": mds,
    "litdata": litdata,
    "litdata_dtypes": litdata_dtypes,
    "tfrecord": tfrecord,
    "webdataset": webdataset,
}

if __name__ == "__main__":
    writer, given, out = sys.argv[1:4]
    with np.load(given) as file:
        loaded = {name: file[name] for name in file.files}
    WRITERS[writer](loaded, out, **json.loads(sys.argv[4] if len(sys.argv) > 4 else "{}"))
