"""Dask must know what Polars and Arrow data weigh: the entry point is found without importing featureflow."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import polars as pl, pyarrow as pa
from dask.sizeof import sizeof
table = pa.table({"a": list(range(100_000))})
sizes = [
    sizeof(pl.DataFrame({"a": range(1000)})), sizeof(pl.Series(range(1000))),
    sizeof(table), sizeof(table.slice(0, 10)), sizeof(table.slice(0, 10).column(0)),
    sizeof(table.to_batches()[0].slice(0, 5)),
]
import sys
assert "featureflow" in sys.modules and "numba" not in sys.modules
print(*sizes)
"""


def test_frames_and_slices_are_weighed_as_they_are() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    frame, series, whole, part, column, batch = (int(size) - 56 for size in done.stdout.split())
    assert (frame, series) == (8000, 8000)
    # Dask alone takes a slice for the whole buffer under it
    assert (whole, part, column, batch) == (800_000, 80, 80, 40)
