"""Arrays keep what they are given, in versions that share chunks, and any xarray opens them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from unit.tables.array_world import CHUNKS, build, cube, part, regions, write_all

from featureflow.core.errors import TableError
from featureflow.tables.arrays import ArraySpec, begin, open_arrays, project_arrays, write_region
from featureflow.tables.arrays_repository import open_repository


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "features" / "sea")


def plain(url: str, **which: str) -> xr.Dataset:
    """What xarray alone sees."""
    session = open_repository(url).readonly_session(**which)
    return xr.open_zarr(session.store, consolidated=False, chunks=None)


def chunk_objects(url: str) -> set[str]:
    return {path.name for path in Path(url, "_ff/arrays/chunks").glob("*")}


def test_what_was_written_is_read(url: str) -> None:
    data = cube(10)
    snapshot = build(url, data, "b1")
    found = open_arrays(url, snapshot)
    xr.testing.assert_identical(found.load(), data)
    assert found.sst.dtype == np.float32
    xr.testing.assert_identical(plain(url, snapshot_id=snapshot).load(), data)


def test_nothing_is_read_before_it_is_used(url: str) -> None:
    data = cube(9)
    snapshot = build(url, data, "b1")
    found = open_arrays(url, snapshot)
    assert not found.sst.variable._in_memory
    one = found.sst.isel(time=8, lat=0, lon=[5, 0])
    np.testing.assert_array_equal(one.values, data.sst.values[8, 0, [5, 0]])
    points = found.sst.isel(time=xr.DataArray([0, 8], dims="p"), lat=xr.DataArray([4, 0], dims="p"))
    np.testing.assert_array_equal(points.values, data.sst.values[[0, 8], [4, 0]])


def test_dask_arrays_have_the_stored_chunks_and_travel_without_a_session(url: str) -> None:
    data = cube(9)
    snapshot = build(url, data, "b1")
    found = open_arrays(url, snapshot, chunks={})
    assert found.sst.chunks == ((4, 4, 1), (9, 8), (8, 6))
    again = pickle.loads(pickle.dumps(found))
    xr.testing.assert_identical(again.compute(), data)
    assert list(again.sst.__dask_graph__()) == list(
        open_arrays(url, snapshot, chunks={}).sst.__dask_graph__()
    )


def test_appended_times_share_chunks(url: str) -> None:
    first = build(url, cube(10), "b1")
    before = chunk_objects(url)
    second = build(url, cube(13), "b2", first, first=8)
    xr.testing.assert_identical(open_arrays(url, first).load(), cube(10))
    xr.testing.assert_identical(open_arrays(url, second).load(), cube(13))
    added = chunk_objects(url) - before
    assert len(added) <= len(regions(cube(13), first=8)) * 2 + 8  # coordinates are written whole
    assert before <= chunk_objects(url)


def test_a_shorter_version_forgets_what_was_beyond(url: str) -> None:
    first = build(url, cube(13), "b1")
    second = build(url, cube(9), "b2", first, first=8)
    third = build(url, cube(13), "b3", second, first=12)
    found = open_arrays(url, third).sst.values
    np.testing.assert_array_equal(found[:9], cube(9).sst.values)
    np.testing.assert_array_equal(found[12:], cube(13).sst.values[12:])
    assert np.isnan(found[9:12]).all()


def test_another_definition_begins_empty(url: str) -> None:
    first = build(url, cube(10), "b1")
    other = cube(10).assign(sst=cube(10).sst.astype("float64")).rename({"n": "m"})
    write = begin(url, ArraySpec(other, CHUNKS), "b2", first)
    write.merge(write_all(write, other))
    xr.testing.assert_identical(open_arrays(url, write.commit("x")).load(), other)
    xr.testing.assert_identical(open_arrays(url, first).load(), cube(10))


def test_only_metadata_changed(url: str) -> None:
    first = build(url, cube(10), "b1")
    before = chunk_objects(url)
    data = cube(10)
    data.sst.attrs["long_name"] = "surface"
    data.attrs["title"] = "another"
    second = begin(url, ArraySpec(data, CHUNKS), "b2", first).commit("nothing")
    assert second != first
    xr.testing.assert_identical(open_arrays(url, second).load(), data)
    assert chunk_objects(url) == before
    assert begin(url, ArraySpec(data, CHUNKS), "b3", second).commit("nothing") == second


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_calendars(url: str, calendar: str) -> None:
    times = xr.date_range("2000-02-27", periods=6, freq="12h", calendar=calendar, use_cftime=True)
    data = xr.Dataset({"a": (("time",), np.arange(6.0))}, coords={"time": times})
    snapshot = build_one(url, data, {"time": 4})
    found = plain(url, snapshot_id=snapshot)
    assert open_arrays(url, snapshot).time.equals(found.time)
    if calendar == "standard":  # which numpy's times can say
        assert list(found.indexes["time"]) == list(pd.DatetimeIndex(times.to_datetimeindex(time_unit="ns")))
    else:
        assert isinstance(found.time.values[0], cftime.datetime)
        assert list(found.time.values) == list(times)


def build_one(url: str, data: xr.Dataset, chunks: dict[str, int], **options: Any) -> str:
    """Write all of a cube in one region."""
    write = begin(url, ArraySpec(data, chunks, **options), "one", None)
    write.merge([write_region(write.fork(), {}, data)])
    return write.commit("x")


def test_dtypes(url: str) -> None:
    times = np.array(["2001-01-01", "NaT", "2262-01-01T00:00:00.000000001"], dtype="datetime64[ns]")
    columns = {
        **{
            kind: np.array([0, 1, 100]).astype(kind)
            for kind in ("i1", "u2", "i4", "i8", "u8", "f4", "f8", "c8")
        },
        "half": np.array([0.5, np.nan, np.inf], dtype="f2"),
        "bool": np.array([True, False, True]),
        "when": times,
        "took": times - times[0],
        "zero": np.array([0.0, -0.0, np.nan]),
    }
    data = xr.Dataset({name: (("x",), values) for name, values in columns.items()})
    snapshot = build_one(url, data, {"x": 2})
    for found in (open_arrays(url, snapshot).load(), plain(url, snapshot_id=snapshot).load()):
        xr.testing.assert_identical(found, data)
        assert {name: found[name].dtype for name in columns} == {n: v.dtype for n, v in columns.items()}
        assert np.signbit(found.zero.values[1])


def test_shards(url: str) -> None:
    data = cube(10)
    shards = {"time": 8, "lat": 18, "lon": 16}
    write = begin(url, ArraySpec(data, CHUNKS, shards), "b1", None)
    with pytest.raises(TableError, match="not of whole chunks of 8"):
        write_region(write.fork(), {"time": (4, 8)}, data.isel(time=slice(4, 8)))
    done = [
        write_region(write.fork(), {"time": span}, data.isel(time=slice(*span))) for span in ((0, 8), (8, 10))
    ]
    write.merge(done)
    snapshot = write.commit("x")
    xr.testing.assert_identical(open_arrays(url, snapshot).load(), data)
    assert len(chunk_objects(url)) < len(regions(data))
    with pytest.raises(TableError, match="not whole chunks"):
        begin(url, ArraySpec(data, CHUNKS, {"time": 6}), "b2", None)


# ---------------------------------------------------------------- what is refused


def test_regions_that_cut_chunks_are_refused(url: str) -> None:
    data = cube(10)
    fork = begin(url, ArraySpec(data, CHUNKS), "b1", None).fork()
    for span in ((2, 6), (0, 3), (4, 9), (8, 12), (4, 4)):
        with pytest.raises(TableError, match="whole chunks"):
            write_region(fork, {"time": span}, data.isel(time=slice(*span)))


def test_other_shapes_and_dtypes_are_refused(url: str) -> None:
    data = cube(10)
    fork = begin(url, ArraySpec(data, CHUNKS), "b1", None).fork()
    with pytest.raises(TableError, match="float64"):
        write_region(fork, {"time": (0, 4)}, data[["sst"]].isel(time=slice(0, 4)).astype("float64"))
    with pytest.raises(TableError, match="for the region"):
        write_region(fork, {"time": (0, 4)}, data.isel(time=slice(0, 3)))
    with pytest.raises(TableError, match="for the region"):
        write_region(fork, {"time": (0, 4)}, data.isel(time=slice(0, 4)).transpose("lat", "time", "lon"))


def test_a_chunk_written_twice_is_refused(url: str) -> None:
    data = cube(10)
    write = begin(url, ArraySpec(data, CHUNKS), "b1", None)
    done = write_all(write, data)
    with pytest.raises(TableError, match=r"chunk \(0, 0, 0\) was written by two tasks"):
        write.merge([*done, done[0]])


def test_chunks_of_another_array_are_refused(url: str) -> None:
    data = cube(10)
    one = begin(url, ArraySpec(data, CHUNKS), "b1", None)
    other = begin(url, ArraySpec(data, CHUNKS), "b2", None)
    done = write_all(one, data)
    assert one.accepts(done[0])
    assert not other.accepts(done[0])
    other.merge(done)
    with pytest.raises(TableError, match="another array of this name"):
        other.commit("x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": {"z": 1}}, "no dimension 'z'"),
        ({"chunks": {"time": 0}}, "must be 1 or more"),
        ({"variable": np.array(["a"] * 10)}, "has no fixed size"),
        ({"variable": np.zeros(10, dtype="datetime64[D]")}, None),
        ({"attribute": {1, 2}}, "not text, number or list"),
    ],
)
def test_what_can_not_be_stored_is_refused(url: str, change: dict[str, Any], message: str | None) -> None:
    data = cube(10)
    if "variable" in change:
        data["n"] = ("time", change["variable"])
    if "attribute" in change:
        data.sst.attrs["odd"] = change["attribute"]
    spec = ArraySpec(data, change.get("chunks", CHUNKS))
    if message is None:  # xarray makes seconds of days
        assert begin(url, spec, "b1", None)
        return
    with pytest.raises(TableError, match=message):
        begin(url, spec, "b1", None)


# ---------------------------------------------------------------- versions


def test_projection_is_idempotent_and_main_follows_the_newest(url: str) -> None:
    first = build(url, cube(10), "b1")
    second = build(url, cube(13), "b2", first, first=8)
    repository = open_repository(url)
    assert repository.list_branches() == {"main", "build-b1", "build-b2"}
    project_arrays(url, 2, second)
    project_arrays(url, 1, first)
    project_arrays(url, 2, second)
    assert repository.list_branches() == {"main"}
    assert repository.list_tags() == {"v1", "v2"}
    assert repository.lookup_branch("main") == second
    xr.testing.assert_identical(plain(url, tag="v1").load(), cube(10))
    xr.testing.assert_identical(plain(url, branch="main").load(), open_arrays(url, second).load())


def test_a_build_that_lost_a_race_writes_no_chunk_twice(url: str) -> None:
    base = build(url, cube(8), "b0")
    winner, loser = cube(12), cube(16)
    mine = begin(url, ArraySpec(loser, CHUNKS), "b2", base)
    done = write_all(mine, loser, first=8)
    mine.merge(done)
    mine.commit("lost")
    theirs = build(url, winner, "b1", base, first=8)
    project_arrays(url, 2, theirs)
    before = chunk_objects(url)
    again = begin(url, ArraySpec(loser, CHUNKS), "b2", theirs)
    assert all(again.accepts(one) for one in done)
    again.merge(done)
    snapshot = again.commit("won")
    xr.testing.assert_identical(open_arrays(url, snapshot).sst.load(), loser.sst)
    assert len(chunk_objects(url) - before) <= 8  # coordinates


def test_values_of_a_region_hold_for_the_whole_of_dimensions_it_lacks(url: str) -> None:
    data = cube(4)
    write = begin(url, ArraySpec(data, {}), "b1", None)
    write.merge(
        [write_region(write.fork(), {"time": (0, 4)}, part(data, {d: (0, s) for d, s in data.sizes.items()}))]
    )
    xr.testing.assert_identical(open_arrays(url, write.commit("x")).load(), data)
