"""Tell Dask what Polars and Arrow data weigh.

By default it takes a DataFrame of 16 MB for 56 bytes (never spilled, free to move) and a slice of 1,000 rows for the
whole buffer under it (spilled for nothing).
"""

from __future__ import annotations

from typing import Any


def register(sizeof: Any) -> None:
    """Register sizes on Dask's dispatcher; called through the ``dask.sizeof`` entry point."""

    @sizeof.register_lazy("polars")
    def register_polars() -> None:
        import polars as pl

        @sizeof.register(pl.DataFrame)
        def size_of_frame(frame: pl.DataFrame) -> int:
            return int(frame.estimated_size()) + 56

        @sizeof.register(pl.Series)
        def size_of_series(series: pl.Series) -> int:
            return int(series.estimated_size()) + 56

    @sizeof.register_lazy("pyarrow")
    def register_arrow() -> None:
        import pyarrow as pa

        @sizeof.register((pa.Table, pa.RecordBatch, pa.ChunkedArray, pa.Array))
        def size_of_arrow(data: pa.Table) -> int:
            return int(data.nbytes) + 56
