"""Times of the rows that chunks of a grid answer, against asking every step for every row."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import xarray as xr
from hypothesis import given, settings

from featureflow.execute.grids.sampling import sampled_pieces
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.stages import PieceIndex
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import Input

LAST = 40


def lookup(ttl: int | None, allow_exact: bool, columns: tuple[str, ...] = ("sst",)) -> GridLookup:
    right = Input("grid", "warm", {"sst": pl.Float32()}, "time")
    pairs = tuple((name, name) for name in columns)
    return GridLookup(
        right, (("lat", "y"),), pairs, (pa.float32(),) * len(pairs), "nearest", ttl, allow_exact, "here"
    )


def cube(times: list[int], known: list[int] | None, size: int, **attrs: Any) -> GridCube:
    n = len(times)
    outline = xr.Dataset(
        {"sst": (("time", "lat"), np.zeros((n, 2), "f4")), "land": (("lat",), np.zeros(2, "f4"))},
        {"time": np.array(times, "M8[us]").astype("M8[ns]"), "lat": ("lat", [0.0, 1.0], attrs)},
    )
    if known is not None:
        outline = outline.assign_coords(known_at=("time", np.array(known, "M8[us]").astype("M8[ns]")))
    chunks = {"time": tuple(min(size, n - low) for low in range(0, n, size)), "lat": (2,)}
    named = {(i, 0): f"chunk {i}" for i in range(len(chunks["time"]))}
    return GridCube("nowhere", outline, chunks, named, {"time": size, "lat": 2})


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, LAST), st.integers(-5, 15)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.none() | st.integers(0, 12),
    st.booleans(),
    st.booleans(),
)
def test_a_chunk_is_for_the_rows_that_it_answers(
    steps: list[tuple[int, int]], size: int, ttl: int | None, exact: bool, late: bool
) -> None:
    times = sorted(time for time, _ in steps)
    known = [time + delay for time, (_, delay) in zip(times, steps, strict=True)] if late else None
    found = cube(times, known, size)
    pieces = sampled_pieces(found, lookup(ttl, exact))
    index = PieceIndex(pieces)
    chunks = {at: _asked(found, at, ttl, exact, size) for at in range(-10, LAST + 40)}
    seen = sorted({chunk for chunk in chunks.values() if chunk is not None})
    ids = dict(zip(seen, [piece.id for piece in pieces], strict=True))  # one that no row sees has no piece
    answered: dict[str, list[int]] = {piece.id: [] for piece in pieces}
    for at, chunk in chunks.items():
        if chunk is not None:
            answered[ids[chunk]].append(at)
            assert ids[chunk] in {piece.id for piece in index.touching(at, at)}
    for piece in pieces:  # and for no other: the range begins and ends with a row that it answers
        assert piece.min_us == answered[piece.id][0]
        assert answered[piece.id][-1] == min(piece.max_us or 0, LAST + 39)


def _asked(found: GridCube, at: int, ttl: int | None, exact: bool, size: int) -> int | None:
    """Chunk of the latest step that is known: of those of equal time the last one."""
    times = found.outline.time.values.astype("M8[us]").astype(np.int64)
    known = times
    if "known_at" in found.outline.coords:
        known = found.outline.known_at.values.astype("M8[us]").astype(np.int64)
    best = None
    for i in range(len(times)):
        since = max(times[i], known[i])
        if (since <= at if exact else since < at) and (best is None or times[i] >= times[best]):
            best = i
    if best is None or (ttl is not None and times[best] < at - ttl):
        return None
    return best // size


def test_what_does_not_vary_in_time_is_for_all_rows() -> None:
    found = cube([1, 2, 3, 4], None, 2)
    pieces = sampled_pieces(found, lookup(None, True, ("sst", "land")))
    assert len(pieces) == 2
    assert all(piece.null_times for piece in pieces)
    index = PieceIndex(pieces)
    assert len(index.touching(-(10**18), -(10**18))) == len(index.touching(10**18, 10**18)) == 2


def test_names_tell_what_decides_on_places() -> None:
    plain, around = cube([1], None, 1), cube([1], None, 1, units="degrees_east")
    assert sampled_pieces(plain, lookup(None, True))[0].id != sampled_pieces(around, lookup(None, True))[0].id
    bare = cube([1, 2], None, 1)
    bare.outline = bare.outline.drop_vars("lat")
    moved = cube([1, 2], None, 1)
    moved.outline = bare.outline
    moved.named = {(0, 0): "chunk 1", (1, 0): "chunk 0"}
    ids = [[piece.id for piece in sampled_pieces(one, lookup(None, True))] for one in (bare, moved)]
    assert all(a != b for a, b in pairwise(ids[0]))
    assert sorted(ids[0]) == sorted(ids[1])  # positions along the time are its labels'
