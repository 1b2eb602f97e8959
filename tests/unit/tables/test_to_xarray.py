"""Grids and tables as xarray Datasets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from unit.tables.array_world import cube, publish_grid

from featureflow.core.errors import TableError
from featureflow.tables.store import open as open_store

Rows = list[tuple[Any, ...]]


@pytest.fixture
def store(tmp_path: Any) -> Any:
    """A store with two versions of a grid."""
    url = str(tmp_path / "features" / "sea")
    publish_grid(url, cube(8), "b1")
    publish_grid(url, cube(12), "b2", first=8)
    return open_store(str(tmp_path))


def test_grids_are_opened_by_version(store: Any) -> None:
    xr.testing.assert_identical(store.table("sea@1").to_xarray().load(), cube(8))
    newest = store.table("sea").to_xarray(chunks={})
    assert newest.chunks["time"] == (4, 4, 4)
    xr.testing.assert_identical(newest.compute(), cube(12))
    assert list(store.table("sea").to_xarray(["n"]).data_vars) == ["n"]
    with pytest.raises(TableError, match=r"no variable 'ssd'\. Did you mean '?sst"):
        store.table("sea").to_xarray(["ssd"])


def test_a_grid_says_what_it_is(store: Any) -> None:
    table = store.table("sea")
    assert table.is_grid
    assert table.schema.names == ["n", "sst"]
    field = table.schema.field("sst")
    assert field.type == pa.float32()
    about = {key.decode(): value.decode() for key, value in field.metadata.items()}
    assert about["units"] == "K"
    assert json.loads(about["dims"]) == ["time", "lat", "lon"]
    assert json.loads(about["shape"]) == [12, 17, 14]
    values = cube(12).sst.values
    sst = table.stats.row(1, named=True)
    assert (sst["column"], sst["count"], sst["nulls"]) == (
        "sst",
        np.sum(~np.isnan(values)),
        np.sum(np.isnan(values)),
    )
    assert float(sst["max"]) == np.nanmax(values)
    assert sst["mean"] == pytest.approx(np.nanmean(values, dtype="float64"), rel=1e-12)
    assert "n, sst, time 12 x lat 17 x lon 14" in repr(table)
    html = table._repr_html_()
    assert "time 12" in html
    assert '<td class="">K</td>' in html


def test_rows_of_a_grid_are_its_chunks(store: Any) -> None:
    rows = store.table("sea").to_polars(where="variable = 'sst'")
    assert rows.height == 12
    assert rows["bytes"].sum() == 12 * 17 * 14 * 4
    assert set(rows["time_start"]) == {0, 4, 8}
    assert store.table("sea").sample(3).height == 3


def test_differences_of_grids_are_told_by_variable(store: Any) -> None:
    found = store.table("sea@2").diff("sea@1")
    (n, sst) = found.variables
    assert (sst.name, sst.chunks_shared, sst.chunks_changed, sst.chunks_added, sst.chunks_removed) == (
        "sst",
        8,
        0,
        4,
        0,
    )
    assert (n.name, n.chunks_shared, n.chunks_added) == ("n", 2, 1)
    assert found.sizes_before == {"time": 8, "lat": 17, "lon": 14}
    assert found.sizes_after["time"] == 12
    text = "\n".join(found.lines())
    assert "sizes: time 8 -> 12" in text
    assert "variable sst: 8 chunks shared, 0 changed, 4 added, 0 removed" in text
    assert "files" not in text
    assert set(found.statistics["column"]) == {"sst", "n"}
    assert store.table("sea@1").diff("sea@1").same


def test_tables_are_arrays_over_keys_and_time(maker: Any, make_events: Callable[[Rows], pa.Table]) -> None:
    maker.publish({("2026-01-01", 0): make_events([(1, 0, 0.5), (1, 10, 1.5), (2, 0, 2.5)])})
    found = maker.open().to_xarray()
    assert dict(found.sizes) == {"card": 2, "ts": 2}
    np.testing.assert_array_equal(found.amount.values, [[0.5, 1.5], [2.5, np.nan]])
    assert found.ts.dtype.kind == "M"
    assert found.ts.values[0] == np.datetime64("2026-01-01")
    assert found.attrs == {"table": "spend", "version": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 0, 0.5), (1, 0, 1.5)], "do not name a row: there are several with card=1"),
        ([(None, 0, 0.5)], "'card' has nulls"),
        ([(i, i, 0.5) for i in range(1001)], "1,002,001 values a column for 1,001 rows"),
    ],
)
def test_tables_that_are_no_arrays(
    maker: Any, make_events: Callable[[Rows], pa.Table], rows: Rows, message: str
) -> None:
    maker.publish({("2026-01-01", 0): make_events(rows)})
    with pytest.raises(TableError, match=message):
        maker.open().to_xarray()


def test_a_table_without_keys_and_time_has_no_dimensions(maker: Any) -> None:
    table = pa.table({"a": [1.0]})
    from featureflow.tables.layout import file_path
    from featureflow.tables.parquet_files import write_file

    file = write_file(table, maker.url, file_path(None, None, 0, "ab"), keys=[], time=None)
    maker.publish({}, schema=table.schema, partition="none", keys=[], time=None, adds=[file])
    assert maker.open().to_polars().equals(pl.DataFrame({"a": [1.0]}))
    with pytest.raises(TableError, match="needs keys or a time"):
        maker.open().to_xarray()


def test_show_and_diff_tell_of_grids(store: Any) -> None:
    from featureflow.observe.differences import describe_difference, difference_text
    from featureflow.observe.stored import describe_stored, stored_text

    described = describe_stored(store.table("sea"))
    json.dumps(described, allow_nan=False)
    assert described["grid"]["sizes"] == {"time": 12, "lat": 17, "lon": 14}
    sst = described["schema"][1]
    assert (sst["name"], sst["units"], sst["dims"]) == ("sst", "K", ["time", "lat", "lon"])
    text = stored_text(described, None)
    assert "15 chunks" in text
    assert "float32 time, lat, lon K" in " ".join(text.split())
    difference = describe_difference(store.table("sea@2").diff("sea@1"))
    json.dumps(difference, allow_nan=False)
    assert {"name": "sst", "shared": 8, "changed": 0, "added": 4, "removed": 0} in difference["variables"]
    told = difference_text(difference)
    assert "sizes   time 8 → 12" in told
    assert "chunks  sst: 8 shared, 0 changed, 4 added, 0 removed" in told
    assert "files" not in told
