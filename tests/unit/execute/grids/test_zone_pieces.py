"""Parts of a grid of zones as pieces of a table's input: named by values and labels, with the times they reach."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.execute.grids.stored import GridCube
from featureflow.execute.grids.zone_rows import zone_pieces
from featureflow.plan.grid_nodes import RowShape

DAY = 86_400_000_000


def cube(
    days: int = 10, start: str = "1970-01-01", known: int = 0, names: tuple[str, ...] = ("a", "b", "c")
) -> GridCube:
    time = pd.date_range(start, periods=days).as_unit("ns")
    outline = xr.Dataset(
        {"sst_mean": (("zone", "time"), np.zeros((2, days), "f4"))},
        {"zone": ["north", "south"], "time": time, "known_at": ("time", time + pd.Timedelta(days=known))},
    )
    named = {(0, k): name for k, name in enumerate(names)}
    return GridCube("store/belts", outline, {"zone": (2,), "time": (4, 4, 2)}, named, {"zone": 2, "time": 4})


SHAPE = RowShape(("zone",), "time")


def test_pieces_reach_from_their_first_time_to_their_last() -> None:
    found = zone_pieces(cube(), SHAPE)
    assert [(one.min_us, one.max_us) for one in found] == [
        (0, 3 * DAY),
        (4 * DAY, 7 * DAY),
        (8 * DAY, 9 * DAY),
    ]
    assert [one.rows for one in found] == [8, 8, 4]
    assert not any(one.null_times for one in found)


def test_times_that_do_not_rise_are_reached_too() -> None:
    turned = cube()
    turned.outline = turned.outline.isel(time=slice(None, None, -1))
    assert next((one.min_us, one.max_us) for one in zone_pieces(turned, SHAPE)) == (6 * DAY, 9 * DAY)


def test_names_are_those_of_values_and_of_labels() -> None:
    ids = [one.id for one in zone_pieces(cube(), SHAPE)]
    assert len(set(ids)) == 3
    assert [one.id for one in zone_pieces(cube(names=("a", "x", "c")), SHAPE)][0::2] == ids[0::2]
    assert [one.id for one in zone_pieces(cube(names=("a", "x", "c")), SHAPE)][1] != ids[1]
    grown = [one.id for one in zone_pieces(cube(12, names=("a", "b", "d")), SHAPE)]
    assert (grown[:2], grown[2] == ids[2]) == (ids[:2], False)
    moved = [one.id for one in zone_pieces(cube(start="1970-01-02"), SHAPE)]
    later = [one.id for one in zone_pieces(cube(known=1), SHAPE)]
    assert not set(ids) & set(moved)
    assert not set(ids) & set(later)


def test_zones_without_time_are_one_moment() -> None:
    plain = cube()
    plain.outline = plain.outline.isel(time=0, drop=True)
    plain.unit, plain.named = {"zone": 2}, {(0,): "a"}
    (one,) = zone_pieces(plain, RowShape(("zone",), None))
    assert (one.min_us, one.max_us, one.rows) == (0, 0, 2)
