"""Zarr stores as cubes: values, pieces that keep their names, damage."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from featureflow.contracts.cube import Cube
from featureflow.core.errors import CorruptionError, SourceError

PART = {"time": (2, 7), "lat": (1, 6), "lon": (0, 3)}
CUT = {"time": slice(2, 7), "lat": slice(1, 6), "lon": slice(0, 3)}


def bare(data: xr.Dataset) -> xr.Dataset:
    return data.load().drop_encoding()


@pytest.mark.parametrize(
    ("zarr_format", "encoding", "chunks"),
    [
        (2, {"chunks": (4, 3, 8)}, {"time": (4, 4, 2), "lat": (3, 3), "lon": (8,)}),
        (3, {"chunks": (4, 3, 8)}, {"time": (4, 4, 2), "lat": (3, 3), "lon": (8,)}),
        (3, {"chunks": (2, 3, 8), "shards": (4, 6, 8)}, {"time": (2,) * 5, "lat": (3, 3), "lon": (8,)}),
    ],
)
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_versions_and_shards_give_what_xarray_gives(
    tmp_path, opened, weather, zarr_format, encoding, chunks, consolidated
):
    weather.to_zarr(
        tmp_path / "a.zarr", zarr_format=zarr_format, encoding={"sst": encoding}, consolidated=consolidated
    )
    cube = opened("a.zarr")
    assert isinstance(cube, Cube)
    assert cube.chunks == chunks
    expected = xr.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=consolidated)
    xr.testing.assert_identical(bare(cube.read(PART, ["sst", "land"])), bare(expected.isel(CUT)))
    assert cube.outline.sizes == expected.sizes
    for name, variable in expected.variables.items():
        assert cube.outline[name].dtype == variable.dtype
        assert cube.outline[name].dims == variable.dims
        assert cube.outline[name].attrs == variable.attrs


def test_a_cube_travels_without_its_values(tmp_path, opened, weather):
    weather.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    cube = opened("a.zarr")
    assert len(pickle.dumps(cube)) < 3000
    with pytest.raises(RuntimeError, match="no values"):
        cube.outline["sst"].values
    there = pickle.loads(pickle.dumps(cube))
    xr.testing.assert_identical(there.read(PART, ["sst"]), cube.read(PART, ["sst"]))


def save(weather: xr.Dataset, path: Path, **more) -> None:
    weather.to_zarr(path, zarr_format=3, consolidated=False, encoding={"sst": {"chunks": (4, 6, 8)}}, **more)


def later(weather: xr.Dataset, days: int) -> xr.Dataset:
    """The days after, without what has no time."""
    start = pd.Timestamp(weather.time.values[-1]) + pd.Timedelta("1D")
    return (
        (weather[["sst"]] + 1)
        .isel(time=slice(0, days))
        .assign_coords(time=pd.date_range(start, periods=days))
    )


def ids(cube, variables=None) -> dict[tuple[int, int], str]:
    return {piece.region["time"]: piece.id for piece in cube.pieces(variables)}


def test_a_piece_keeps_its_name_when_the_cube_grows(tmp_path, opened, weather):
    save(weather, tmp_path / "a.zarr")
    before = ids(opened("a.zarr"), ["sst"])
    later(weather, 4).to_zarr(tmp_path / "a.zarr", append_dim="time", consolidated=False)
    after = ids(opened("a.zarr"), ["sst"])
    assert list(before) == [(0, 4), (4, 8), (8, 10)]
    assert list(after) == [(0, 4), (4, 8), (8, 12), (12, 14)]
    assert after[0, 4] == before[0, 4]
    assert after[4, 8] == before[4, 8]
    assert after[8, 12] != before[8, 10], "the last chunk was filled up"
    assert len(set(after.values())) == 4


def test_pieces_together_cover_the_cube(tmp_path, opened, weather):
    weather.to_zarr(
        tmp_path / "a.zarr", zarr_format=3, consolidated=False, encoding={"sst": {"chunks": (3, 4, 5)}}
    )
    covered = np.zeros((10, 6, 8), int)
    for piece in opened("a.zarr").pieces(["sst"]):
        assert (
            piece.size
            == os.stat(tmp_path / "a.zarr/sst/c" / piece.id.split(":")[1].replace(".", "/")).st_size
        )
        covered[tuple(slice(*piece.region[dim]) for dim in ("time", "lat", "lon"))] += 1
    assert (covered == 1).all()


def test_only_what_changes_values_changes_names(tmp_path, opened, weather):
    save(weather, tmp_path / "a.zarr")
    before = ids(opened("a.zarr"), ["sst"])
    array = zarr.open_group(tmp_path / "a.zarr")["sst"]
    array.attrs["long_name"] = "temperature of the sea"
    assert ids(opened("a.zarr"), ["sst"]) == before
    array.attrs["scale_factor"] = 0.5
    assert not set(ids(opened("a.zarr"), ["sst"]).values()) & set(before.values())


def test_a_chunk_that_is_not_stored_has_a_name_too(tmp_path, opened, weather):
    save(weather, tmp_path / "a.zarr")
    before = ids(opened("a.zarr"), ["sst"])
    (tmp_path / "a.zarr/sst/c/1/0/0").unlink()
    cube = opened("a.zarr")
    after = ids(cube, ["sst"])
    assert after[4, 8] != before[4, 8]
    assert after[0, 4] == before[0, 4]
    assert np.isnan(cube.read({"time": (4, 8)}, ["sst"])["sst"]).all(), "what zarr says of it"


def test_a_changed_chunk_changes_its_own_name_only(tmp_path, opened, weather):
    save(weather, tmp_path / "a.zarr")
    before = ids(opened("a.zarr"), ["sst"])
    zarr.open_group(tmp_path / "a.zarr")["sst"][5] = 0
    after = ids(opened("a.zarr"), ["sst"])
    assert {key for key in after if after[key] != before[key]} == {(4, 8)}


def test_a_damaged_chunk_is_an_error_that_names_it(tmp_path, opened, weather):
    save(weather, tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr/sst/c/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-40])
    cube = opened("a.zarr")
    cube.read({"time": (0, 4)}, ["sst"])
    with pytest.raises(CorruptionError, match=r"'weather'.*a\.zarr.*'sst', region \[3:6, 0:6, 0:8\]"):
        cube.read({"time": (3, 6)}, ["sst"])


def test_a_store_that_was_written_again_is_refused(tmp_path, opened, weather):
    save(weather, tmp_path / "a.zarr")
    cube = pickle.loads(pickle.dumps(opened("a.zarr")))
    shutil.rmtree(tmp_path / "a.zarr")
    save(weather.astype("f8"), tmp_path / "a.zarr")
    from featureflow.library.cubes import handles

    handles.close_all()
    with pytest.raises(SourceError, match="another one than when the source was opened"):
        cube.read(PART, ["sst"])


def test_groups(tmp_path, opened, weather):
    weather.to_zarr(tmp_path / "a.zarr", group="deep/down", zarr_format=3, consolidated=False)
    cube = opened("a.zarr", options={"group": "deep/down"})
    xr.testing.assert_identical(bare(cube.read({}, ["sst", "land"])), weather)
    assert {piece.size > 0 for piece in cube.pieces()} == {True}


def test_nothing_there(tmp_path, opened):
    with pytest.raises(SourceError, match=r"'weather': .*a\.zarr: nothing is there"):
        opened("a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(SourceError, match=r"b\.zarr"):
        opened("b.zarr")


def test_the_order_in_which_a_store_lists_its_arrays_does_not_matter(tmp_path, opened, weather, monkeypatch):
    three = weather.assign(a=weather.sst.isel(time=0, drop=True), z=weather.sst + 1)
    three.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    whole = xr.open_zarr
    names = sorted(map(str, three.data_vars))

    def listed(order):
        def open_zarr(*args, **given):
            found = whole(*args, **given)
            return found[[name for name in order if name in found.data_vars]]

        monkeypatch.setattr(xr, "open_zarr", open_zarr)
        outline = opened("a.zarr").outline
        return list(outline.variables), list(outline.sizes)

    first, last = listed(names), listed(names[::-1])
    assert first == last
    assert first[1] == ["time", "lat", "lon"]


def test_names_along_a_dimension_are_read_without_a_warning(tmp_path, opened, recwarn):
    data = xr.Dataset({"volt": ("channel", np.arange(2.0))}, {"channel": ["left", "right"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of Zarr tell that no specification knows such names
        data.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    recwarn.clear()
    cube = opened("a.zarr")
    assert cube.read({"channel": (1, 2)}, ["volt"]).channel.values.tolist() == ["right"]
    assert not recwarn.list
