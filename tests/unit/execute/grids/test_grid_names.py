"""Chunks are named by what they depend on, and by nothing else; sizes of chunks are chosen so that series are short."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from unit.execute.grids.fake_grids import Centred, FakeCube, Trailing, compiled, values

from featureflow.contracts.cube import CubePiece
from featureflow.contracts.outlines import outline_of
from featureflow.execute.grids.naming import Naming
from featureflow.execute.grids.packing import joined, pack, unpack
from featureflow.execute.grids.piece_index import PieceIndex
from featureflow.execute.grids.units import Lattice
from featureflow.plan.grid_chunks import choose_chunks, time_dimension

STORED = {"time": 10, "lat": 8, "lon": 8}
CHUNKS = {"time": 10, "lat": 8, "lon": 8}


def names(cube: FakeCube, steps: list) -> dict[tuple[int, ...], str]:
    grid = compiled(cube, steps, CHUNKS)
    lattice = Lattice.of({str(d): int(n) for d, n in grid.outline.sizes.items()}, grid.unit)
    naming = Naming(grid, {"fake": cube})
    return {cell: naming.chunk(lattice.region(cell)) for cell in lattice}


def cube(days: int = 40) -> FakeCube:
    whole = values({"time": 60, "lat": 16, "lon": 8})[["sst"]]
    return FakeCube(whole.isel(time=slice(0, days)), STORED)


def changed(one: dict, other: dict) -> set[tuple[int, ...]]:
    return {cell for cell in other if one.get(cell) != other[cell]}


def test_a_changed_piece_renames_what_reaches_it():
    one, other = cube(), cube()
    other.renamed[1, 0, 0] = "another"
    assert changed(names(one, []), names(other, [])) == {(1, 0, 0)}
    assert changed(names(one, [Trailing("time", 3)]), names(other, [Trailing("time", 3)])) == {
        (1, 0, 0),
        (2, 0, 0),
    }
    learned = [Centred("time", 15)]  # its period is in the first two chunks
    assert changed(names(one, learned), names(other, learned)) == {(t, 0, 0) for t in range(4)}
    late = cube()
    late.renamed[3, 1, 0] = "another"
    assert changed(names(one, learned), names(late, learned)) == {(3, 1, 0)}


def test_appended_days_rename_the_chunk_that_was_not_full():
    steps = [Centred("time", 15), Trailing("time", 3)]
    assert changed(names(cube(35), steps), names(cube(50), steps)) == {
        (t, y, 0) for t in (3, 4) for y in (0, 1)
    }


def test_another_parameter_coordinate_or_dtype_is_another_name():
    one = names(cube(), [Trailing("time", 3)])
    assert changed(one, names(cube(), [Trailing("time", 4)])) == set(one)
    shifted = cube()
    shifted.data = shifted.data.assign_coords(lat=shifted.data.lat + 0.5)
    assert changed(one, names(shifted, [Trailing("time", 3)])) == set(one)


def test_pieces_that_do_not_name_a_dimension_are_touched_by_every_box():
    index = PieceIndex(
        [CubePiece("a", {"y": (0, 4)}, 5), CubePiece("b", {"y": (4, 9), "x": (0, 2)}, 7)], ["y", "x"]
    )
    assert [p.id for p in index.touching({"y": (0, 9), "x": (5, 6)})] == ["a"]
    assert [p.id for p in index.touching({"y": (3, 5), "x": (1, 2)})] == ["a", "b"]
    assert (
        index.bytes,
        index.bytes_of({"y": (4, 5), "x": (0, 9)}),
        index.bytes_of({"y": (2, 2), "x": (0, 9)}),
    ) == (
        12,
        7,
        0,
    )


def test_what_is_packed_comes_back_as_it_was():
    data = values({"time": 3, "lat": 4, "lon": 2}).assign_coords(zone=("lat", ["a", "bb", "c", "d"]))
    assert pack(data) == pack(data.copy(deep=True))
    back = unpack(pack(data), "here")
    for name in data.variables:
        assert back[name].dims == data[name].dims
        np.testing.assert_array_equal(back[name].values, data[name].values)
    halves = [({"lat": slice(i, i + 2)}, data.isel(lat=slice(i, i + 2))) for i in (0, 2)]
    xr.testing.assert_equal(joined(outline_of(data), halves).drop_vars("zone"), data.drop_vars("zone"))


@pytest.mark.parametrize(
    ("sizes", "given", "near", "expected"),
    [
        ({"time": 9000, "lat": 720, "lon": 1440}, {}, {"time": 1, "lat": 720, "lon": 1440}, {"time": 4}),
        ({"time": 9000, "lat": 720, "lon": 1440}, {}, {}, {"time": 9000}),
        (
            {"time": 20, "lat": 10, "lon": 10},
            {},
            {"time": 5, "lat": 5, "lon": 5},
            {"time": 20, "lat": 10, "lon": 10},
        ),
        (
            {"time": 9000, "lat": 720, "lon": 1440},
            {"time": 100, "lat": 64, "lon": 64},
            {},
            {"time": 100, "lat": 64},
        ),
    ],
)
def test_chunks_have_about_sixteen_megabytes(sizes, given, near, expected):
    time = np.datetime64("2000-01-01", "ns") + np.arange(sizes["time"]).astype("m8[D]")
    empty = np.broadcast_to(np.float32(0), tuple(sizes.values()))
    outline = outline_of(xr.Dataset({"a": (tuple(sizes), empty)}, {"time": time}))
    assert time_dimension(outline) == "time"
    chunks = choose_chunks(outline, given, near)
    assert {dim: chunks[dim] for dim in expected} == expected
    size = 4 * int(np.prod(list(chunks.values())))
    whole = 4 * int(np.prod(list(sizes.values())))
    assert given or min(whole, 8 << 20) <= size <= 17 << 20
