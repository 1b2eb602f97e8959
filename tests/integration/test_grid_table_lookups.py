"""Feature tables whose rows look grids up at their own places, against plain xarray."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from integration.grid_projects import append, sea, write

from featureflow.api import Project
from featureflow.core.errors import PlanError, SpecError
from featureflow.execute.windows import window_task

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
  ships: {path: ships.parquet, time: seen}
features:
  warm:
    source: sst
    steps: [{coarsen: {lat: 2, lon: 2, op: mean}}]
    chunks: {time: 10, lat: 4, lon: 6}
  tens:
    source: sst
    steps: [{resample: {dim: time, every: 10d, op: mean}}]
    chunks: {time: 4, lat: 8, lon: 12}
  still:
    source: sst
    steps: [{reduce: {dims: time, op: max}}]
  met:
    source: ships
    keys: [ship]
    keep: [y, x]
    aggregate: [{column: speed, ops: [mean], windows: [5d]}]
    lookup:
      - {from: warm, at: {lat: y, lon: x}, ttl: 3d}
      - {from: warm, at: {lat: y, lon: x}, method: linear, columns: [sst], prefix: between_}
      - {from: tens, at: {lat: y, lon: x}, allow_exact: false, prefix: tens_}
      - {from: still, at: {lat: y, lon: x}, prefix: still_}
    derive: {odd: sst - tens_sst}
"""
DAYS = 45
TABLES = ["warm", "tens", "still", "met"]


def ships(n: int = 400, days: float = DAYS + 6) -> pl.DataFrame:
    """Places and times, some exactly of a step, outside of the grid, or missing."""
    rng = np.random.default_rng(1)
    start = datetime(1999, 12, 30)
    hours = np.where(rng.random(n) < 0.2, rng.integers(0, int(days), n) * 24.0, rng.uniform(0, days * 24, n))
    frame = pl.DataFrame(
        {
            "ship": rng.integers(0, 7, n),
            "seen": [start + timedelta(hours=float(hour)) for hour in hours],
            "y": rng.uniform(-80, 80, n),
            "x": rng.uniform(-180, 355, n),
            "speed": rng.normal(10, 2, n),
        }
    )
    return frame.with_columns(
        y=pl.when(pl.col("ship") == 3).then(None).otherwise("y"),
        seen=pl.when(pl.int_range(n) % 50 == 7).then(None).otherwise("seen"),
    )


def made(folder: Path, days: int = DAYS) -> None:
    """Write the sources."""
    write(folder, sea(days), stored={"time": 5, "lat": 8, "lon": 12})
    ships().write_parquet(folder / "ships.parquet")


def project(folder: Path, text: str = SPEC, store: str = "store", **where: Any) -> Project:
    """A project of these sources with a store of its own."""
    (folder / f"{store}.yaml").write_text(text)
    given = {"scheduler": "threads", "workers": 2, "scratch": folder / f"{store}_scratch", **where}
    return Project(folder / f"{store}.yaml", store=str(folder / store), **given)


def rows_of(folder: Path, text: str = SPEC, store: str = "store", **options: Any) -> pl.DataFrame:
    """Rows of the table, built in a store."""
    climate = project(folder, text, store, **options)
    climate.build(select=["+met"])
    return in_order(climate.table("met").to_polars())


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("ship", "seen", "x")


def at_places(data: xr.DataArray, y: Any, x: Any, method: str = "nearest") -> np.ndarray[Any, Any]:
    """Values at places, ``(…, rows)``: half a cell around the outermost centres, and around the Earth."""
    turns = [data.assign_coords(lon=data.lon + turn) for turn in (-360, 0, 360)]
    around = xr.concat(turns, dim="lon", join="override")
    low, high = float(data.lat.min()), float(data.lat.max())
    half = abs(float(data.lat[1] - data.lat[0])) / 2
    lat, lon = xr.DataArray(np.clip(np.nan_to_num(y), low, high), dims="row"), xr.DataArray(x, dims="row")
    nearest = method == "nearest"
    found = around.sel(lat=lat, lon=lon, method="nearest") if nearest else around.interp(lat=lat, lon=lon)
    inside = xr.DataArray((y >= low - half) & (y <= high + half), dims="row")
    return np.asarray(found.where(inside).transpose(..., "row").values)


def expected(data: xr.DataArray, rows: dict[str, Any], *, method: str = "nearest", **asof: Any) -> Any:
    """Values at places, of the latest step that was known at the time of each row."""
    known, ttl, exact = asof.get("known"), asof.get("ttl"), asof.get("exact", True)
    since = data.time.values if known is None else known
    values = at_places(data, rows["y"], rows["x"], method)
    found = np.full(len(rows["seen"]), np.nan)
    for i, at in enumerate(rows["seen"]):
        there = np.flatnonzero(since <= at if exact else since < at)  # nothing is before or after NaT
        if len(there) and (ttl is None or data.time.values[there[-1]] >= at - ttl):
            found[i] = values[there[-1], i]
    return found


def columns_of(rows: pl.DataFrame) -> dict[str, Any]:
    """Places and times of rows."""
    seen = rows["seen"].dt.replace_time_zone(None).to_numpy().astype("M8[ns]")
    return {"seen": seen, "y": rows["y"].cast(pl.Float64).to_numpy(), "x": rows["x"].to_numpy()}


def check(rows: pl.DataFrame, days: int = DAYS) -> None:
    """Compare every value with plain xarray's."""
    sst = sea(days).sst
    warm = sst.coarsen(lat=2, lon=2).mean()
    tens = sst.resample(time="10D").mean()
    ends = sst.time.resample(time="10D").max().values  # a mean is known with its last value
    asked = columns_of(rows)
    wanted = {
        "sst": expected(warm, asked, ttl=np.timedelta64(3, "D")),
        "between_sst": expected(warm, asked, method="linear"),
        "tens_sst": expected(tens, asked, known=ends, exact=False),
        "still_sst": at_places(sst.max("time"), asked["y"], asked["x"]),
    }
    for name, values in wanted.items():
        found = rows[name].cast(pl.Float64).to_numpy()
        np.testing.assert_allclose(found, values, rtol=1e-5, err_msg=name)
        assert np.isfinite(values).sum() > rows.height / 2


def test_rows_sample_grids_at_their_own_places_and_times(tmp_path: Path) -> None:
    made(tmp_path)
    rows = rows_of(tmp_path)
    assert rows.height == 400
    assert rows["sst"].dtype == pl.Float32
    check(rows)
    assert rows["odd"].to_list() == (rows["sst"] - rows["tens_sst"]).to_list()


@pytest.mark.parametrize("how", ["buckets", "tight", pytest.param("processes", marks=pytest.mark.slow)])
def test_values_do_not_depend_on_how_they_are_computed(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path)
    plain = rows_of(tmp_path)
    if how == "buckets":
        monkeypatch.setattr("featureflow.execute.planner.choose_buckets", lambda *_: 5)
    if how == "tight":
        monkeypatch.setattr(window_task, "_surely_fits", lambda *_: False)
    options = {"scheduler": "local", "workers": 2} if how == "processes" else {}
    other = rows_of(tmp_path, SPEC, "other", **options)
    assert other.equals(plain)


def missing(climate: Any) -> list[str]:
    """Slices of the table that a build would compute."""
    return list(next(e for e in climate.plan().summary()["tables"] if e["name"] == "met")["compute"])


def test_only_slices_whose_chunks_changed_are_computed_again(tmp_path: Path) -> None:
    made(tmp_path)
    text = SPEC.replace("      - {from: still, at: {lat: y, lon: x}, prefix: still_}\n", "")
    text = text.replace("      - {from: tens, at: {lat: y, lon: x}, allow_exact: false, prefix: tens_}\n", "")
    text = text.replace("    derive: {odd: sst - tens_sst}\n", "")
    climate = project(tmp_path, text)
    climate.build(select=["+met"])
    assert missing(climate) == []
    before = in_order(climate.table("met").to_polars())
    # a value of day 3, which is in the first of five chunks of days
    late = sea(DAYS).isel(time=slice(0, 5)).drop_vars(["lat", "lon"])
    late.sst[3, 1, 1] = 1000.0
    late.to_zarr(tmp_path / "sst.zarr", region={"time": slice(0, 5)}, consolidated=False)
    days = pd.date_range("2000-01-01", "2000-01-10").strftime("%Y-%m-%d").tolist()
    seen = set(ships()["seen"].drop_nulls().dt.date().cast(str))
    assert missing(climate) == [day for day in days if day in seen]
    climate.build(select=["+met"])
    found = in_order(climate.table("met").to_polars())
    assert found.equals(rows_of(tmp_path, text, "again"))
    assert not found.equals(before)


def test_a_grown_grid_changes_the_rows_that_its_new_steps_answer(tmp_path: Path) -> None:
    made(tmp_path, days=40)
    climate = project(
        tmp_path, SPEC.replace("      - {from: still, at: {lat: y, lon: x}, prefix: still_}\n", "")
    )
    climate.build(select=["+met"])
    append(tmp_path, sea(DAYS), since=40)
    todo = missing(climate)
    assert todo and min(todo) == "2000-02-10"  # 40 days fill four chunks
    climate.build(select=["+met"])
    grown = in_order(climate.table("met").to_polars())
    full = rows_of(tmp_path, SPEC, "full")
    assert grown.equals(full.drop("still_sst"))
    check(full)
    assert missing(climate) == []


def test_a_grid_that_is_not_selected_is_taken_as_published(tmp_path: Path) -> None:
    made(tmp_path, days=40)
    climate = project(tmp_path, SPEC)
    with pytest.raises(PlanError, match=r"features\.warm has no version yet"):
        climate.plan(select=["met"])
    climate.build(select=["+met"])
    before = in_order(climate.table("met").to_polars())
    append(tmp_path, sea(DAYS), since=40)
    assert climate.build(select=["met"]).status == "nothing to do"
    assert in_order(climate.table("met").to_polars()).equals(before)


def test_lineage_and_plan_name_the_grid(tmp_path: Path) -> None:
    made(tmp_path)
    climate = project(tmp_path, SPEC)
    table = climate.compile()["met"]
    assert table.lineage["between_sst"] == ("warm.sst",)
    assert set(table.lineage["odd"]) == {"warm.sst", "tens.sst"}
    plan = climate.plan(select=["+met"]).summary()["tables"]
    assert [entry["name"] for entry in plan][-1] == "met"
    assert {"kind": "grid", "name": "tens", "use": "look-up"} in plan[-1]["reads"]
    climate.build(select=["+met"])
    assert climate.table("met").record["inputs"]["warm"]["definition_hash"]


def test_a_dataset_evaluates_such_a_table_at_its_own_rows(tmp_path: Path) -> None:
    made(tmp_path)
    rng = np.random.default_rng(2)
    start = datetime(2000, 1, 5)
    spine = pl.DataFrame(
        {
            "ship": rng.integers(0, 7, 60),
            "asked": [start + timedelta(hours=float(hour)) for hour in rng.uniform(0, 900, 60)],
            "y": rng.uniform(-70, 70, 60),
            "x": rng.uniform(0, 350, 60),
        }
    )
    spine.write_parquet(tmp_path / "spine.parquet")
    text = SPEC + (
        "datasets:\n  train:\n    spine: {path: spine.parquet, keys: [ship], time: asked}\n"
        "    features: [{table: met, columns: [sst, tens_sst, odd]}]\n"
        "    lookup: [{from: warm, at: {lat: y, lon: x}, ttl: 3d, prefix: own_}]\n"
    )
    climate = project(tmp_path, text)
    climate.build()
    rows = climate.dataset("train").to_polars()
    assert rows["sst"].to_list() == rows["own_sst"].to_list()
    assert rows["sst"].drop_nulls().len() > 50
    assert rows["odd"].to_list() == (rows["sst"] - rows["tens_sst"]).to_list()


def test_rows_of_a_time_grid_start_from_their_keys(tmp_path: Path) -> None:
    write(tmp_path, sea(DAYS))
    pl.DataFrame(
        {"cell": [10.0, 10.0, -30.0], "hit": [datetime(2000, 1, day) for day in (3, 9, 6)], "n": [1, 2, 3]}
    ).write_parquet(tmp_path / "ships.parquet")
    head = SPEC[: SPEC.index("  tens:")].replace("seen", "hit")
    text = head + (
        "  daily:\n    source: ships\n    keys: [cell]\n    at: {every: 1d}\n"
        "    aggregate: [{column: n, ops: [sum], windows: [4d]}]\n"
        "    lookup: [{from: warm, at: {lat: cell, lon: cell}}]\n"
    )
    climate = project(tmp_path, text)
    climate.build()
    rows = climate.table("daily").to_polars()
    warm = sea(DAYS).sst.coarsen(lat=2, lon=2).mean()
    asked = columns_of(rows.select(seen="hit", y="cell", x="cell"))
    np.testing.assert_allclose(rows["sst"].to_numpy(), expected(warm, asked), rtol=1e-6)
    assert rows.height > 5
    with pytest.raises(SpecError, match="'n' is no key of the table"):
        project(tmp_path, text.replace("lon: cell", "lon: n")).compile()


@pytest.mark.parametrize(
    ("wrong", "line", "message"),
    [
        ("{from: warm, at: {lat: y}}", 24, "say where the rows are on lon of 'warm': at: {lon: column}."),
        ("{from: warm, at: {lat: y, lon: z}}", 24, "'ships' has no column 'z'."),
        ("{from: warm, at: {lat: y, lon: seen}}", 24, "'lon' holds numbers; the column must be a number"),
        ("{from: warm, at: {lat: y, lon: x, time: seen}}", 24, "'time' is the grid's time"),
        ("{from: warm, at: {lat: y, lon: x}, columns: [ssd]}", 24, "'warm' has no column 'ssd'"),
        (
            "{from: warm, at: {lat: y, lon: x}, prefix: t}\n      - {from: warm, at: {lat: y, lon: x}, prefix: t}",
            25,
            "the table has a column 'tsst' already",
        ),
    ],
)
def test_mistakes_are_told_with_their_places(tmp_path: Path, wrong: str, line: int, message: str) -> None:
    made(tmp_path)
    text = SPEC[: SPEC.index("      - {from: warm")] + f"      - {wrong}\n"
    with pytest.raises(SpecError) as told:
        project(tmp_path, text).compile()
    assert f"store.yaml:{line}:" in str(told.value)
    assert message in str(told.value)
