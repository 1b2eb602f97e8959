"""Write rows with the libraries' own writers; runs in an environment of `make_environment.py`.

`python peers_write.py WRITER ROWS.npz OUT '{"option": …}'`: each array of the file is a column, text as ``U``.
The last line of its output says how long the writing took: ``{"rows": …, "wall": …, "cpu": …}``, without the time
to make Python's rows of the arrays.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Row = dict[str, Any]


def python_rows(columns: dict[str, np.ndarray], *, scalars: bool) -> list[Row]:
    """Rows as dicts; numbers are Python's, or NumPy's if ``scalars`` is false."""
    n = len(next(iter(columns.values()), []))
    lists = {
        name: values.tolist() if values.ndim == 1 and (scalars or values.dtype.kind == "U") else list(values)
        for name, values in columns.items()
    }
    return [{name: values[i] for name, values in lists.items()} for i in range(n)]


def mds(
    rows: list[Row], out: str, columns: dict[str, str], shards: dict[str, int], compression: str | None
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
        given = iter(rows)
        for count in shards.values():
            for _ in range(count):
                writer.write(next(given))
            writer.flush_shard()
            writer._reset_cache()


def litdata(rows: list[Row], out: str, chunk_size: int) -> None:
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(out, chunk_size=chunk_size)
    for i, row in enumerate(rows):
        writer[i] = row
    writer.done()
    writer._merge_no_wait()


def litdata_dtypes(rows: list[Row], out: str) -> None:
    """The library's numbers of dtypes."""
    from litdata.constants import _NUMPY_DTYPES_MAPPING

    with open(out, "w") as file:
        json.dump({str(dtype): number for number, dtype in _NUMPY_DTYPES_MAPPING.items()}, file)


def tfrecord(rows: list[Row], out: str) -> None:
    from tfrecord import TFRecordWriter

    kinds = {"f": "float", "i": "int", "b": "int", "u": "int"}
    of = {name: kinds[np.asarray(value).dtype.kind] for name, value in rows[0].items()}
    writer = TFRecordWriter(os.path.join(out, "part.tfrecord"))
    for row in rows:
        writer.write({name: (value, of[name]) for name, value in row.items()})
    writer.close()


def webdataset(rows: list[Row], out: str) -> None:
    from webdataset import TarWriter

    with TarWriter(os.path.join(out, "part.tar"), mtime=0) as writer:
        for i, row in enumerate(rows):
            members = {
                f"{n}.npy" if np.ndim(v) else f"{n}.cls": v if np.ndim(v) else int(v) for n, v in row.items()
            }
            writer.write({"__key__": f"{i:09d}", **members})


#: with whether numbers are Python's
WRITERS: dict[str, tuple[Callable[..., None], bool]] = {
    "mds": (mds, True),
    "litdata": (litdata, True),
    "litdata_dtypes": (litdata_dtypes, True),
    "tfrecord": (tfrecord, False),
    "webdataset": (webdataset, False),
}

if __name__ == "__main__":
    name, given, out = sys.argv[1:4]
    writer, scalars = WRITERS[name]
    with np.load(given) as file:
        made = python_rows({column: file[column] for column in file.files}, scalars=scalars)
    options = json.loads(sys.argv[4] if len(sys.argv) > 4 else "{}")
    # a first small one pays for imports
    warm = options.pop("warm", None)
    if warm is not None:
        writer(made[:64], warm, **{**options, **({"shards": {"warm": 64}} if name == "mds" else {})})
    wall, cpu = time.perf_counter(), time.process_time()
    writer(made, out, **options)
    took = {"rows": len(made), "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps(took))
