"""Values of grids at points, against a loop over the rows in plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.contracts.cube import CubePiece, Region, slices_of
from featureflow.execute.grids.points import chunks_of_rows, is_longitude, look_up_points
from featureflow.execute.windows.sorted_rows import NO_TIME
from featureflow.plan.grid_lookups import (
    GridLookup,
    axis_problem,
    grid_input,
    time_of,
    time_problem,
    value_type,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class MemoryCube:
    """A dataset in memory as a cube that remembers what was read of it."""

    outline: xr.Dataset
    chunks: dict[str, tuple[int, ...]]
    reads: list[tuple[Region, tuple[str, ...]]] = field(default_factory=list)

    def pieces(self) -> list[CubePiece]:
        return []

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        self.reads.append((region, tuple(variables)))
        return self.outline[list(variables)].isel(slices_of(region))


def cut(size: int, chunk: int) -> tuple[int, ...]:
    return tuple(min(chunk, size - start) for start in range(0, size, chunk))


def cube_of(data: xr.Dataset, **chunks: int) -> MemoryCube:
    return MemoryCube(data, {str(d): cut(n, chunks.get(str(d), n)) for d, n in data.sizes.items()})


def lookup_of(data: xr.Dataset, at: dict[str, str], **given: Any) -> GridLookup:
    method = given.pop("method", "nearest")
    names = [str(name) for name in data.data_vars]
    kinds = [value_type(data[name].dtype, method) for name in names]
    assert all(kind is not None for kind in kinds)
    return GridLookup(
        right=grid_input("sst", data, time_of(data), method),
        at=tuple(at.items()),
        columns=tuple((name, name) for name in names),
        types=tuple(kind for kind in kinds if kind is not None),
        method=method,
        ttl_us=given.pop("ttl_us", None),
        allow_exact=given.pop("allow_exact", True),
        place="datasets.d.lookup[0]",
        **given,
    )


def micro(moment: datetime | None) -> int:
    return (
        NO_TIME
        if moment is None
        else int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    )


def grid(n_time: int = 5, n_lat: int = 4, n_lon: int = 6, *, seed: int = 0, nan: float = 0.1) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_time, n_lat, n_lon)).astype(np.float32)
    values[rng.random(values.shape) < nan] = np.nan
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), values)},
        {
            "time": np.datetime64("2026-01-01", "ns") + np.arange(n_time) * np.timedelta64(1, "D"),
            "lat": np.linspace(50.0, 50.0 - 2.0 * (n_lat - 1), n_lat),
            "lon": 10.0 + np.arange(n_lon),
        },
    )


# ------------------------------------------------------------ the oracle


def oracle_cell(centres: list[float], value: float | None) -> int | None:
    """The cell that a value is in: of equally near centres the larger one."""
    if value is None or math.isnan(value):
        return None
    order = sorted(range(len(centres)), key=lambda i: centres[i])
    rising = [centres[i] for i in order]
    low = rising[0] - (rising[1] - rising[0]) / 2 if len(rising) > 1 else rising[0]
    high = rising[-1] + (rising[-1] - rising[-2]) / 2 if len(rising) > 1 else rising[0]
    if not low <= value <= high:
        return None
    return min(range(len(centres)), key=lambda i: (abs(centres[i] - value), -centres[i]))


def oracle_step(
    times: list[int], known: list[int], at: int | None, ttl: int | None, allow_exact: bool
) -> int | None:
    if at is None:
        return None
    seen = [
        i
        for i in range(len(times))
        if (max(times[i], known[i]) <= at if allow_exact else max(times[i], known[i]) < at)
    ]
    if not seen:
        return None
    latest = max(seen, key=lambda i: times[i])
    return None if ttl is not None and times[latest] < at - ttl else latest


@st.composite
def cases(draw: st.DrawFn) -> tuple[xr.Dataset, dict[str, int], list[tuple[Any, Any, Any]], int | None, bool]:
    data = grid(
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.integers(2, 6)),
        seed=draw(st.integers(0, 99)),
    )
    if draw(st.booleans()):
        late = draw(st.lists(st.integers(0, 4), min_size=data.sizes["time"], max_size=data.sizes["time"]))
        known = data["time"].values + np.array(late) * np.timedelta64(1, "D")
        data = data.assign_coords(known_at=("time", known))
    if draw(st.booleans()):
        data = data.isel(lat=slice(None, None, -1))
    chunks = {dim: draw(st.integers(1, n)) for dim, n in data.sizes.items()}
    rows = draw(
        st.lists(
            st.tuples(
                st.none() | st.floats(40, 53) | st.sampled_from([50.0, 49.0, 51.0, 43.0, math.nan]),
                st.none() | st.floats(8, 17) | st.sampled_from([9.5, 10.5, 15.5, 12.0]),
                st.none() | st.integers(-24, 24 * 12).map(lambda h: START + timedelta(hours=h)),
            ),
            max_size=30,
        )
    )
    return (
        data,
        {str(d): n for d, n in chunks.items()},
        rows,
        draw(st.none() | st.integers(0, 3)),
        draw(st.booleans()),
    )


def asked(rows: list[tuple[Any, Any, Any]]) -> tuple[dict[str, pa.Array], np.ndarray[Any, Any]]:
    columns = {
        "y": pa.array([row[0] for row in rows], pa.float64()),
        "x": pa.array([row[1] for row in rows], pa.float64()),
    }
    return columns, np.array([micro(row[2]) for row in rows], np.int64)


@settings(max_examples=30, deadline=None)
@given(cases())
def test_each_row_has_the_cell_that_it_is_in_at_the_latest_step_known(
    case: tuple[xr.Dataset, dict[str, int], list[Any], int | None, bool],
) -> None:
    data, chunks, rows, ttl_days, allow_exact = case
    ttl = None if ttl_days is None else ttl_days * 86_400_000_000
    lookup = lookup_of(data, {"lat": "y", "lon": "x"}, ttl_us=ttl, allow_exact=allow_exact)
    (found,) = look_up_points(lookup, cube_of(data, **chunks), *asked(rows))
    stamps = [int(t) for t in data["time"].values.astype("datetime64[us]").astype(int)]
    known = (
        [int(t) for t in data["known_at"].values.astype("datetime64[us]").astype(int)]
        if "known_at" in data.coords
        else stamps
    )
    lats, lons = (data[d].values.tolist() for d in ("lat", "lon"))
    expected = []
    for y, x, t in rows:
        at = (
            oracle_step(stamps, known, None if t is None else micro(t), ttl, allow_exact),
            oracle_cell(lats, y),
            oracle_cell(lons, x),
        )
        value = None if None in at else float(data["sst"].values[at])
        expected.append(None if value is None or math.isnan(value) else value)
    assert found.to_pylist() == expected
    assert found.type == pa.float32()


@settings(max_examples=30, deadline=None)
@given(cases())
def test_linear_is_the_weighted_mean_of_the_centres_around_a_row(
    case: tuple[xr.Dataset, dict[str, int], list[Any], int | None, bool],
) -> None:
    data, chunks, rows, _, _ = case
    lookup = lookup_of(data, {"lat": "y", "lon": "x"}, method="linear")
    nearest = lookup_of(data, {"lat": "y", "lon": "x"})
    (found,) = look_up_points(lookup, cube_of(data, **chunks), *asked(rows))
    stamps = [int(t) for t in data["time"].values.astype("datetime64[us]").astype(int)]
    known = data["known_at"].values if "known_at" in data.coords else data["time"].values
    known = known.astype("datetime64[us]").astype(int).tolist()
    del nearest
    for (y, x, t), value in zip(rows, found.to_pylist(), strict=True):
        step = oracle_step(stamps, known, None if t is None else micro(t), None, True)
        cells = [oracle_cell(data[d].values.tolist(), v) for d, v in (("lat", y), ("lon", x))]
        if step is None or None in cells:
            assert value is None
            continue
        total, weighed = 0.0, 0.0
        sides = [oracle_sides(data[d].values.tolist(), v) for d, v in (("lat", y), ("lon", x))]
        for i, a in sides[0]:
            for j, b in sides[1]:
                if a * b > 0:
                    total += a * b * float(data["sst"].values[step, i, j])
                    weighed += a * b
        if math.isnan(total):
            assert value is None
        else:
            assert weighed == pytest.approx(1)
            assert value == pytest.approx(total, rel=1e-5, abs=1e-5)


def oracle_sides(centres: list[float], value: float) -> list[tuple[int, float]]:
    below = [i for i, c in enumerate(centres) if c <= value]
    above = [i for i, c in enumerate(centres) if c > value]
    if not below:
        return [(min(above, key=lambda i: centres[i]), 1.0)]
    low = max(below, key=lambda i: centres[i])
    if not above or centres[low] == value:
        return [(low, 1.0)]
    high = min(above, key=lambda i: centres[i])
    share = (value - centres[low]) / (centres[high] - centres[low])
    return [(low, 1 - share), (high, share)]


def test_half_way_is_the_cell_of_the_larger_coordinate_and_half_a_cell_outside_is_the_end() -> None:
    for centres in ([44.0, 46.0, 48.0], [48.0, 46.0, 44.0]):
        data = xr.Dataset({"v": (("y",), np.array(centres))}, {"y": centres})
        asked_for = [45.0, 47.0, 43.0, 49.0, 42.999, 49.001, 46.999]
        (found,) = look_up_points(
            lookup_of(data, {"y": "y"}), cube_of(data, y=2), {"y": pa.array(asked_for)}, None
        )
        assert found.to_pylist() == [46.0, 48.0, 44.0, 48.0, None, None, 46.0]


def test_uneven_axes_are_searched() -> None:
    rng = np.random.default_rng(5)
    centres = np.cumsum(rng.choice([0.01, 1.0, 50.0], 200))
    data = xr.Dataset({"v": (("y",), np.arange(200))}, {"y": centres})
    values = np.concatenate([rng.uniform(centres[0], centres[-1], 2000), centres])
    (found,) = look_up_points(lookup_of(data, {"y": "y"}), cube_of(data, y=7), {"y": pa.array(values)}, None)
    expected = [oracle_cell(centres.tolist(), float(value)) for value in values]
    assert found.to_pylist() == expected


# ------------------------------------------------------------ what is read


def test_each_chunk_is_read_once_and_only_those_with_points() -> None:
    data = grid(10, 4, 6, nan=0)
    cube = cube_of(data, time=2, lat=2, lon=3)
    rows = [(50.0, 10.0 + k % 3, START + DAY * (k % 2)) for k in range(50)] + [
        (44.0, 15.0, START + DAY * 9)
    ] * 7
    look_up_points(lookup_of(data, {"lat": "y", "lon": "x"}), cube, *asked(rows))
    assert sorted((r["time"], r["lat"], r["lon"]) for r, _ in cube.reads) == [
        ((0, 2), (0, 2), (0, 3)),
        ((8, 10), (2, 4), (3, 6)),
    ]


def test_linear_reads_each_chunk_once_though_its_corners_are_in_several() -> None:
    data = grid(3, 4, 6, nan=0)
    cube = cube_of(data, lat=2, lon=3)
    rows = [(47.0, 12.5, START)] * 4 + [(47.5, 12.25, START + DAY)]
    look_up_points(lookup_of(data, {"lat": "y", "lon": "x"}, method="linear"), cube, *asked(rows))
    regions = [(r["lat"], r["lon"]) for r, _ in cube.reads]
    assert sorted(regions) == [((0, 2), (0, 6)), ((2, 4), (0, 6))]  # neighbours in one read


def test_neighbours_are_read_together_and_what_lies_between_is_not() -> None:
    data = grid(1, 4, 12, nan=0)
    at = [(50.0, 10.0 + x, START) for x in (0, 2, 6, 9, 10)] + [(46.0, 10.0, START)]
    cube = cube_of(data, lat=2, lon=2)
    (found,) = look_up_points(lookup_of(data, {"lat": "y", "lon": "x"}), cube, *asked(at))
    spans = sorted((r["lat"], r["lon"]) for r, _ in cube.reads)
    assert spans == [((0, 2), (0, 4)), ((0, 2), (6, 12)), ((2, 4), (0, 2))]
    values = data["sst"].values[0]
    assert found.to_pylist() == [*values[0, [0, 2, 6, 9, 10]].tolist(), values[2, 0].item()]


def test_threads_change_nothing() -> None:
    data = grid(30, 4, 6)
    rng = np.random.default_rng(1)
    rows = [
        (float(y), float(x), START + timedelta(hours=int(h)))
        for y, x, h in zip(
            rng.uniform(42, 52, 500), rng.uniform(9, 16, 500), rng.integers(-50, 800, 500), strict=True
        )
    ]
    for method in ("nearest", "linear"):
        lookup = lookup_of(data, {"lat": "y", "lon": "x"}, method=method)
        one = look_up_points(lookup, cube_of(data, time=4, lat=2, lon=2), *asked(rows))
        four = look_up_points(lookup, cube_of(data, time=4, lat=2, lon=2), *asked(rows), threads=4)
        other = look_up_points(lookup, cube_of(data, time=7), *asked(rows))
        assert one == four == other


def test_values_of_the_future_change_no_look_up() -> None:
    data = grid(10, nan=0)
    rows = [(48.0, 12.0, START + timedelta(hours=h)) for h in range(0, 24 * 6, 5)]
    for method in ("nearest", "linear"):
        lookup = lookup_of(data, {"lat": "y", "lon": "x"}, method=method)
        before = look_up_points(lookup, cube_of(data), *asked(rows))
        changed = data.copy(deep=True)
        changed["sst"][6:] = 1e9  # from the seventh day on
        assert look_up_points(lookup, cube_of(changed), *asked(rows)) == before


def test_a_month_is_known_at_its_end() -> None:
    data = grid(3, nan=0).assign_coords(
        time=np.array(["2026-01-01", "2026-02-01", "2026-03-01"], "datetime64[ns]"),
        known_at=("time", np.array(["2026-02-01", "2026-03-01", "2026-04-01"], "datetime64[ns]")),
    )
    days = [
        datetime(2026, 1, 31, 23, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 3, 2, tzinfo=UTC),
    ]
    (found,) = look_up_points(
        lookup_of(data, {"lat": "y", "lon": "x"}), cube_of(data), *asked([(50.0, 10.0, d) for d in days])
    )
    values = data["sst"].values[:, 0, 0].tolist()
    assert found.to_pylist() == [None, values[0], values[1]]
    within = lookup_of(data, {"lat": "y", "lon": "x"}, ttl_us=30 * 86_400_000_000)
    (found,) = look_up_points(within, cube_of(data), *asked([(50.0, 10.0, d) for d in days]))
    assert found.to_pylist() == [None, None, values[1]]  # January's label is 31 days old when it is known


# ------------------------------------------------------------ longitudes


def world(first: float, n: int = 36, **attrs: str) -> xr.Dataset:
    lon = xr.DataArray(first + np.arange(n) * 10.0, dims="lon", attrs=attrs)
    return xr.Dataset({"v": (("lon",), np.arange(n, dtype=np.float64))}, {"lon": lon})


@pytest.mark.parametrize("first", [0.0, -180.0, 5.0, -175.0])
def test_longitudes_of_both_conventions_are_the_same_place(first: float) -> None:
    data = world(first, units="degrees_east")
    values = [-180.0, -170.0, -4.0, 0.0, 3.0, 90.0, 179.0, 181.0, 356.0, 359.9, 360.0]
    lookup = lookup_of(data, {"lon": "x"})
    (found,) = look_up_points(lookup, cube_of(data, lon=5), {"x": pa.array(values)}, None)
    for value, answer in zip(values, found.to_pylist(), strict=True):
        away = [abs((c - value + 180) % 360 - 180) for c in data["lon"].values]
        assert away[int(answer)] == pytest.approx(min(away))


def test_linear_goes_across_the_seam_of_a_globe() -> None:
    data = world(0.0, standard_name="longitude")
    lookup = lookup_of(data, {"lon": "x"}, method="linear")
    (found,) = look_up_points(
        lookup, cube_of(data, lon=7), {"x": pa.array([355.0, -2.5, 350.0, 0.0, 352.5])}, None
    )
    assert found.to_pylist() == pytest.approx([17.5, 8.75, 35.0, 0.0, 26.25])


def test_a_part_of_the_globe_has_an_outside_and_no_seam() -> None:
    data = world(200.0, 10, units="degrees_east")  # 200 … 290
    lookup = lookup_of(data, {"lon": "x"}, method="linear")
    (found,) = look_up_points(
        lookup, cube_of(data), {"x": pa.array([-160.0, 205.0, -65.0, -64.9, 0.0, 194.9])}, None
    )
    assert found.to_pylist() == [0.0, 0.5, 9.0, None, None, None]


def test_other_coordinates_do_not_go_around() -> None:
    data = world(0.0, units="km")
    lookup = lookup_of(data, {"lon": "x"})
    (found,) = look_up_points(lookup, cube_of(data), {"x": pa.array([-10.0, 10.0, 365.0])}, None)
    assert found.to_pylist() == [None, 1.0, None]
    assert not is_longitude(xr.DataArray([1.0], dims="x", coords={"x": [1.0]})["x"])


# ------------------------------------------------------------ kinds of values and axes


def test_names_positions_and_numbers_are_axes() -> None:
    data = xr.Dataset(
        {"v": (("band", "k", "depth"), np.arange(12, dtype=np.int16).reshape(2, 3, 2))},
        {"band": np.array(["red", "nir"], object), "depth": [0.0, 10.0]},
    )
    given = {
        "b": pa.array(["nir", "red", "blue", None]),
        "k": pa.array([2, 0, 1, 1], pa.int32()),
        "d": pa.array([9.0, 0.0, 0.0, 0.0]),
    }
    lookup = lookup_of(data, {"band": "b", "k": "k", "depth": "d"})
    (found,) = look_up_points(lookup, cube_of(data), given, None)
    assert found.to_pylist() == [11, 0, None, None]
    assert found.type == pa.int16()


def test_times_flags_and_halves_have_their_types() -> None:
    data = xr.Dataset(
        {
            "when": (("x",), np.array(["2026-01-01T00:00:00.5", "NaT"], "datetime64[ns]")),
            "flag": (("x",), np.array([True, False])),
            "half": (("x",), np.array([1.5, np.nan], np.float16)),
        },
        {"x": [0.0, 1.0]},
    )
    found = look_up_points(lookup_of(data, {"x": "x"}), cube_of(data), {"x": pa.array([1, 0, 7])}, None)
    assert found[0].to_pylist() == [None, datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC), None]
    assert found[1].to_pylist() == [False, True, None]
    assert found[2].to_pylist() == [None, 1.5, None]
    assert found[2].type == pa.float32()


def test_variables_may_have_fewer_dimensions() -> None:
    data = grid(3, nan=0)
    data["land"] = (("lat", "lon"), np.arange(24).reshape(4, 6))
    rows = [(48.0, 13.0, START - DAY), (48.0, 13.0, START + DAY)]
    sst, land = look_up_points(
        lookup_of(data, {"lat": "y", "lon": "x"}), cube_of(data, lat=3, lon=4), *asked(rows)
    )
    assert sst.to_pylist() == [None, float(data["sst"].values[1, 1, 3])]
    assert land.to_pylist() == [9, 9]  # it has no time to wait for


def test_rows_go_to_the_chunk_of_their_cell() -> None:
    data = grid(4, nan=0)
    rows = [(50.0, 10.0, START), (44.0, 15.0, START + 3 * DAY), (44.0, 15.0, None), (60.0, 10.0, START)]
    cube = cube_of(data, time=2, lat=2, lon=2)
    numbers, n_chunks = chunks_of_rows(lookup_of(data, {"lat": "y", "lon": "x"}), cube, *asked(rows))
    assert n_chunks == 12
    assert numbers.tolist() == [0, 11, -1, -1]
    assert cube.reads == []


# ------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("coordinate", "column", "text"),
    [
        (np.array([0.0, 2.0, 1.0]), pl.Float64(), "neither rises nor falls"),
        (np.array([0.0, np.nan, 1.0]), pl.Float64(), "neither rises nor falls"),
        (np.array([0.0, 1.0, 2.0]), pl.String(), "must be a number"),
        (np.array(["a", "b", "c"], object), pl.Int64(), "must be text"),
        (np.array([1, 2, 3], "datetime64[D]").astype("datetime64[ns]"), pl.Int64(), "holds times"),
    ],
)
def test_an_axis_that_rows_can_not_be_placed_on_is_told(
    coordinate: Any, column: pl.DataType, text: str
) -> None:
    data = xr.Dataset({"v": (("x",), np.zeros(3))}, {"x": coordinate})
    assert text in (axis_problem(data, "x", column) or "")


def test_calendars_without_the_rows_days_are_told() -> None:
    import cftime

    data = xr.Dataset(
        {"v": (("time",), np.zeros(2))}, {"time": [cftime.DatetimeNoLeap(2000, 1, d) for d in (1, 2)]}
    )
    assert time_of(data) == "time"
    assert "noleap" in (time_problem(data, "time") or "")
    assert time_problem(grid(), "time") is None


@pytest.mark.slow
def test_many_more_cases() -> None:
    for test in (
        test_each_row_has_the_cell_that_it_is_in_at_the_latest_step_known,
        test_linear_is_the_weighted_mean_of_the_centres_around_a_row,
    ):
        again = given(cases())(test.hypothesis.inner_test)
        settings(max_examples=500, deadline=None)(again)()
