"""What a version takes over from the one before is there, however the arrays' description changed in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from integration.grid_projects import SPEC, append, project, sea, stored, write
from zarr.codecs import BloscCodec, ZstdCodec

from featureflow.core.errors import TableError
from featureflow.execute.grids import naming
from featureflow.plan import compile_grid
from featureflow.tables import arrays_layout
from featureflow.tables.arrays_reading import open_group
from featureflow.tables.verify import verify

WIDE = SPEC.replace("chunks: {time: 50, lat: 4, lon: 6}", "chunks: {time: 365, lat: 4, lon: 400}")


def test_chunks_that_are_longer_than_their_dimension_stay(tmp_path: Path) -> None:
    write(tmp_path, sea(200))
    made = project(tmp_path, WIDE)
    made.build()
    first = stored(made.table("calm"))
    assert int(first.sst.notnull().sum())
    assert made.build().status == "nothing to do"
    append(tmp_path, sea(230), 200)
    made.build()
    grown = stored(made.table("calm"))
    assert grown.sst.isel(time=slice(0, 190)).identical(first.sst)
    assert made.build().status == "nothing to do"
    made.build(full=True)
    assert stored(made.table("calm")).identical(grown)


def test_another_unit_in_the_source_takes_no_values_away(tmp_path: Path) -> None:
    write(tmp_path, sea(200))
    made = project(tmp_path)
    made.build()
    first = stored(made.table("calm"))
    zarr.open_group(tmp_path / "sst.zarr", mode="r+")["sst"].attrs["units"] = "kelvin"
    report = made.build()
    assert (report.tables[0].reason, report.tables[0].slices_computed) == (
        "coordinates or attributes changed since version 1",
        0,
    )
    found = stored(made.table("calm"))
    assert found.sst.attrs["units"] == "kelvin"
    np.testing.assert_array_equal(found.sst.values, first.sst.values)


def test_nothing_is_published_if_what_should_stay_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, sea(240))
    made = project(tmp_path)
    made.build()
    append(tmp_path, sea(270), 240)
    with monkeypatch.context() as patch:
        patch.setattr(arrays_layout, "_matches", lambda *_: False)
        with pytest.raises(TableError, match="its stored array is another one"):
            made.build()
    assert made.table("calm").version == 1
    made.build()
    assert stored(made.table("calm")).sizes["time"] == 260


def test_a_table_that_is_compressed_as_it_was_before_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, sea(200))
    made = project(tmp_path)
    with monkeypatch.context() as before:
        before.setattr(arrays_layout, "compressors", lambda *_: (ZstdCodec(level=1, checksum=True),))
        for module in (compile_grid, naming):
            before.setattr(module, "ENGINE", 2)
        made.build()
    first = stored(made.table("calm"))
    append(tmp_path, sea(230), 200)
    report = made.build()
    assert report.tables[0].slices_computed == made.table("calm").to_polars().height
    assert stored(made.table("calm")).isel(time=slice(0, first.sizes["time"])).identical(first)
    assert stored(made.table("calm@1")).identical(first)
    for version, codec in ((1, ZstdCodec), (2, BloscCodec)):
        table = made.table(f"calm@{version}")
        arrays = open_group(table.url, table.record["arrays"]["snapshot"])
        assert isinstance(arrays["sst"].compressors[0], codec)
        assert verify(table.url, "calm", str(version), deep=True).problems == ()
