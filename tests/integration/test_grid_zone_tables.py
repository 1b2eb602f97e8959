"""Tables and datasets made of a grid of zones, against pandas and DuckDB over plain xarray's means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from integration.grid_projects import append, project, sea, write

from featureflow.api import Project
from featureflow.core.errors import PlanError, SpecError, TableError

ZONES = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
  ships: {path: ships.parquet, time: seen}
features:
  belts:
    source: sst
    steps:
STEPS
      - zonal:
          polygons:
            north: [[-1, 0], [350, 0], [350, 90], [-1, 90]]
            south: [[-1, -90], [350, -90], [350, 0], [-1, 0]]
          x: lon
          y: lat
          ops: [mean, count]
    chunks: {time: 20}
"""
DAILY = ZONES.replace("STEPS\n", '      - select: {time: ["2000-01-03", null]}\n')
WEEKLY = ZONES.replace("STEPS\n", "      - resample: {dim: time, every: 7d, op: mean}\n")
TABLES = """
  weeks:
    source: belts
    keys: [zone]
    aggregate: [{column: sst_mean, ops: [mean, max, count], windows: [7d, 21d]}]
    keep: [sst_count]
    derive: {warmer: sst_mean_mean_7d - sst_mean_mean_21d}
    partition: month
  months:
    source: weeks
    keys: [zone]
    aggregate: [{column: warmer, ops: [sum], windows: [28d]}]
    partition: month
  voyages:
    source: ships
    keys: [ship]
    keep: [belt]
    partition: month
    lookup:
      - {from: belts, keys: {belt: zone}, columns: [sst_mean], ttl: 40d}
"""
DATASETS = """
datasets:
  sightings:
    spine: {source: ships, keys: [ship], time: seen, columns: [belt]}
    features:
      - {table: belts, keys: {belt: zone}, columns: [sst_count], prefix: now_}
      - {table: weeks, keys: {belt: zone}, columns: [sst_mean_mean_7d]}
    lookup:
      - {from: belts, keys: {belt: zone}, columns: [sst_mean], ttl: 3d, prefix: late_}
      - {from: belts, at: {zone: belt}, columns: [sst_mean], prefix: at_}
    label: {source: belts, keys: {belt: zone}, column: sst_mean, op: max, horizon: 5d, as: hottest}
  rows:
    spine: {source: belts, keys: [zone]}
    features: [weeks]
"""


def zonal(data: xr.Dataset) -> pd.DataFrame:
    """Daily means of the two halves of the globe: plain xarray, long."""
    found = []
    for zone, part in (("north", data.where(data.lat > 0)), ("south", data.where(data.lat < 0))):
        sums = part.sst.astype("f8")
        found.append(
            pd.DataFrame(
                {
                    "zone": zone,
                    "time": data.time.values.astype("M8[us]"),
                    "sst_mean": sums.mean(("lat", "lon")).values.astype("f4"),
                    "sst_count": sums.count(("lat", "lon")).values,
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def ships(folder: Path, days: int = 90) -> pl.DataFrame:
    """Sightings at odd times, also before the first day, on the hour of labels, and where there is no zone."""
    rng = np.random.default_rng(7)
    seen = pd.Timestamp("1999-12-30") + pd.to_timedelta(rng.integers(0, days * 4, 400) * 6, unit="h")
    frame = pl.DataFrame(
        {
            "ship": rng.integers(0, 20, 400),
            "seen": seen.values.astype("M8[us]"),
            "belt": rng.choice(["north", "south", "nowhere"], 400, p=[0.5, 0.4, 0.1]).tolist(),
        }
    )
    frame = frame.unique(maintain_order=True).with_columns(pl.col("seen").dt.replace_time_zone("UTC"))
    frame.write_parquet(folder / "ships.parquet")
    return frame


def said(sql: str, **frames: pd.DataFrame) -> pd.DataFrame:
    """Ask DuckDB."""
    connection = duckdb.connect()
    for name, frame in frames.items():
        connection.register(name, frame)
    return connection.execute(sql).df()


def plain(frame: pl.DataFrame) -> pd.DataFrame:
    """Times without a zone, as DuckDB gives them."""
    times = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)]
    return frame.with_columns(pl.col(times).dt.replace_time_zone(None)).to_pandas()


def same(found: pd.DataFrame, want: pd.DataFrame, columns: list[str], by: list[str]) -> None:
    found, want = (one.sort_values(by).reset_index(drop=True) for one in (found, want))
    assert len(found) == len(want) > 0
    for column in columns:
        left, right = found[column].astype("f8").to_numpy(), want[column].astype("f8").to_numpy()
        assert not np.isnan(right).all(), column
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5, err_msg=column)


WINDOWS = """
select z.zone, z.time, {} from zones z left join zones e
on e.zone = z.zone and e.time < z.time and e.time >= z.time - interval {} group by all
"""


@pytest.fixture
def made(tmp_path: Path) -> Any:
    write(tmp_path, sea(60), stored={"time": 20, "lat": 8, "lon": 12})
    ships(tmp_path)
    return project(tmp_path, DAILY + TABLES + DATASETS)


def expected_weeks(data: xr.Dataset) -> pd.DataFrame:
    zones = zonal(data.sel(time=slice("2000-01-03", None)))
    week = said(
        WINDOWS.format("avg(e.sst_mean) a, max(e.sst_mean) b, count(e.sst_mean) c", "7 day"), zones=zones
    )
    three = said(WINDOWS.format("avg(e.sst_mean) d", "21 day"), zones=zones)
    return week.merge(three, on=["zone", "time"])


def test_windows_over_zones_are_those_of_any_table(made: Any) -> None:
    made.build(["+weeks", "+months"])
    want = expected_weeks(sea(60))
    found = plain(made.table("weeks").to_polars())
    names = {
        "sst_mean_mean_7d": "a",
        "sst_mean_max_7d": "b",
        "sst_mean_count_7d": "c",
        "sst_mean_mean_21d": "d",
    }
    same(found.rename(columns=names), want, list("abcd"), ["zone", "time"])
    behind = said(
        WINDOWS.format("sum(e.warmer) s", "28 day"), zones=want.assign(warmer=want.a - want.d)
    ).rename(columns={"s": "warmer_sum_28d"})
    same(plain(made.table("months").to_polars()), behind, ["warmer_sum_28d"], ["zone", "time"])


def test_what_datasets_take_of_zones(made: Any, tmp_path: Path) -> None:
    made.build()
    rows = plain(ships(tmp_path))
    zones = zonal(sea(60).sel(time=slice("2000-01-03", None)))
    want = said(
        """
        with latest as (select s.*, max(z.time) as t from ships s left join zones z
                        on z.zone = s.belt and z.time <= s.seen group by all)
        select l.ship, l.seen, l.belt, z.sst_count as now_sst_count,
          case when l.seen - l.t <= interval 3 day then z.sst_mean end as late_sst_mean, z.sst_mean as at_sst_mean,
          (select avg(e.sst_mean) from zones e where e.zone = l.belt and e.time < l.seen
             and e.time >= l.seen - interval 7 day) as sst_mean_mean_7d,
          case when l.seen + interval 5 day <= (select max(time) from zones) then
            (select max(e.sst_mean) from zones e where e.zone = l.belt and e.time >= l.seen
             and e.time < l.seen + interval 5 day) end as hottest
        from latest l left join zones z on z.zone = l.belt and z.time = l.t
        """,
        ships=rows,
        zones=zones,
    )
    found = plain(made.dataset("sightings").to_polars())
    columns = ["now_sst_count", "late_sst_mean", "at_sst_mean", "sst_mean_mean_7d", "hottest"]
    same(found, want, columns, ["ship", "seen", "belt"])
    looked = plain(made.table("voyages").to_polars())
    near = said(
        """select s.ship, s.seen, s.belt, (select z.sst_mean from zones z where z.zone = s.belt and z.time <= s.seen
             and z.time >= s.seen - interval 40 day order by z.time desc limit 1) as sst_mean from ships s""",
        ships=rows,
        zones=zones,
    )
    same(looked, near, ["sst_mean"], ["ship", "seen", "belt"])
    spine = plain(made.dataset("rows").to_polars())
    same(spine.rename(columns={"sst_mean_mean_7d": "a"}), expected_weeks(sea(60)), ["a"], ["zone", "time"])


def test_what_reads_zones_is_computed_again_only_where_they_grew(made: Any, tmp_path: Path) -> None:
    made.build()
    assert made.build().status == "nothing to do"
    append(tmp_path, sea(90), 60)
    plan = made.plan()
    tables = {one.table.name: one for one in plan.tables}
    # parts have 20 days from January 3rd on: the third begins on February 12th, and a window of 28 days reaches back
    assert [part.label for part in tables["weeks"].missing] == ["2000-02", "2000-03"]
    assert tables["weeks"].reused == ("2000-01",)
    made.build()
    grown = {name: made.table(name).to_polars() for name in ("belts", "weeks", "months", "voyages")}
    rows = {name: made.dataset(name).to_polars() for name in ("sightings", "rows")}
    whole = project(tmp_path, DAILY + TABLES + DATASETS, workers=1)
    whole.build(full=True)
    for name, frame in grown.items():
        assert whole.table(name).to_polars().equals(frame), name
    for name, frame in rows.items():
        assert whole.dataset(name).to_polars().equals(frame), name
    names = {
        "sst_mean_mean_7d": "a",
        "sst_mean_max_7d": "b",
        "sst_mean_count_7d": "c",
        "sst_mean_mean_21d": "d",
    }
    found = plain(grown["weeks"]).rename(columns=names)
    same(found, expected_weeks(sea(90)), list("abcd"), ["zone", "time"])


LATE = """
  seen:
    source: ships
    keys: [ship]
    keep: [belt]
    partition: month
    lookup:
      - {from: belts, keys: {belt: zone}, columns: [sst_mean, known_at]}
      - {from: belts, keys: {belt: zone}, columns: [sst_mean], knowledge: event_time, prefix: peek_}
  early: {source: belts, keys: [zone], partition: month, aggregate: [{column: sst_mean, ops: [last], windows: [14d]}]}
  right:
    source: belts
    keys: [zone]
    aggregate: [{column: sst_mean, ops: [last], windows: [14d]}]
    window: {delay: 7d}
    partition: month
datasets:
  now:
    spine: {source: ships, keys: [ship], time: seen, columns: [belt]}
    features: [{table: belts, keys: {belt: zone}, ttl: 60d}]
"""


def test_values_of_a_week_are_seen_when_the_week_is_known(tmp_path: Path) -> None:
    write(tmp_path, sea(60), stored={"time": 20, "lat": 8, "lon": 12})
    rows = plain(ships(tmp_path))
    made = project(tmp_path, WEEKLY + LATE)
    report = made.build()
    (said_early,) = [text for text in report.warnings if "known_at" in text]
    assert said_early.startswith(
        "features.early: windows of 14d see a row of belts from its time on, and its values"
    )
    assert said_early.endswith("up to 6d later (known_at). Give them that delay: window: {delay: 6d}.")
    # a week is labelled by its first day, and known with its last
    week = sea(60).astype("f8").resample(time="7D", origin="start").mean()
    weeks = plain(made.table("belts").to_polars())
    same(weeks, zonal(week), ["sst_mean", "sst_count"], ["zone", "time"])
    ends = np.minimum(weeks.time.to_numpy() + np.timedelta64(6, "D"), np.datetime64("2000-02-29"))
    np.testing.assert_array_equal(weeks.known_at.to_numpy(), ends)
    want = said(
        """select s.ship, s.seen, s.belt, (select w.sst_mean from weeks w where w.zone = s.belt and w.known_at <= s.seen
             order by w.time desc limit 1) as sst_mean, (select w.sst_mean from weeks w where w.zone = s.belt
             and w.time <= s.seen order by w.time desc limit 1) as peek_sst_mean from ships s""",
        ships=rows,
        weeks=weeks,
    )
    found = plain(made.table("seen").to_polars())
    same(found, want, ["sst_mean", "peek_sst_mean"], ["ship", "seen", "belt"])
    assert (found.known_at.dropna() <= found.seen[found.known_at.notna()]).all()
    same(plain(made.dataset("now").to_polars()), want, ["sst_mean"], ["ship", "seen", "belt"])


LABELS = """
project: depths
sources:
  sst: {path: sst.zarr, format: zarr}
  land: {path: land.zarr, format: zarr}
  ports: {path: ports.parquet, time: t}
features:
  by_label: {source: sst, steps: [{zonal: {labels: land.zone, ops: [mean]}}], chunks: {time: 20}}
  whole: {source: sst, steps: [{reduce: {dims: [time], op: mean}}, {zonal: {labels: land.zone, ops: [mean]}}]}
  plain: {source: whole, keys: [zone], keep: [sst_mean], derive: {warm: sst_mean > 280}}
  week: {source: by_label, keys: [zone], aggregate: [{column: sst_mean, ops: [mean], windows: [7d]}]}
datasets:
  there:
    spine: {source: ports, keys: [zone]}
    features: [by_label]
    lookup: [{from: by_label, columns: [sst_mean], prefix: own_}]
"""


def test_labels_are_keys_and_zones_without_time_are_rows(tmp_path: Path) -> None:
    data = sea(40)
    write(tmp_path, data, stored={"time": 20, "lat": 8, "lon": 12})
    zone = (np.arange(16)[:, None] // 4 + np.zeros((1, 24))).astype("i2")
    where = xr.Dataset({"zone": (("lat", "lon"), zone)}, data[["lat", "lon"]].coords)
    where.to_zarr(tmp_path / "land.zarr", zarr_format=2)
    when = pd.date_range("1999-12-30", periods=60, freq="17h")
    ports = pl.DataFrame({"zone": [i % 6 for i in range(60)], "t": when.values.astype("M8[us]")})
    ports = ports.with_columns(pl.col("t").dt.replace_time_zone("UTC"))
    ports.write_parquet(tmp_path / "ports.parquet")
    made = project(tmp_path, LABELS)
    made.build()
    means = data.sst.astype("f8").mean("time").groupby(where.zone).mean(...).values
    rows = made.table("plain").to_polars().sort("zone")
    assert (made.table("plain").time, rows["zone"].to_list()) == (None, [0, 1, 2, 3])
    np.testing.assert_allclose(rows["sst_mean"], means, rtol=1e-6)
    assert rows["warm"].to_list() == [bool(one > 280) for one in means]
    daily = np.stack(
        [data.sst.astype("f8").where(where.zone == k).mean(("lat", "lon")).values for k in range(4)]
    )
    found = made.dataset("there").to_polars()
    for zone_, t, one, two in found.select("zone", "t", "sst_mean", "own_sst_mean").iter_rows():
        day = (t.replace(tzinfo=None) - pd.Timestamp("2000-01-01")).days
        if zone_ > 3 or day < 0:
            assert one is None and two is None
        else:
            np.testing.assert_allclose([one, two], daily[zone_, min(day, 39)], rtol=1e-6)
    frame = made.training_set(ports, ["by_label", "week"])
    assert frame["sst_mean"].equals(found["sst_mean"])


def test_zones_that_are_not_selected_are_read_as_published(made: Any, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"features\.belts has no version yet, and is not selected"):
        made.plan(["weeks"])
    made.build(["belts"])
    version = made.table("belts").version
    report = made.build(["weeks", "rows"])
    assert [one.name for one in report.tables] == ["weeks", "rows"]
    assert made.table("belts").version == version
    same(
        plain(made.table("weeks").to_polars()).rename(columns={"sst_mean_mean_7d": "a"}),
        expected_weeks(sea(60)),
        ["a"],
        ["zone", "time"],
    )
    assert made.table("weeks").state.record["inputs"]["belts"]["table"] == "belts"
    assert made.dataset("rows").table.state.record["inputs"]["belts"]["version"] == version
    assert made.table("weeks").state.record["lineage"]["sst_mean_mean_7d"] == ["belts.sst_mean"]
    assert [one.name for one in made.build(["belts+"]).tables][:3] == ["belts", "weeks", "months"]
    shown = made.plan().summary()["tables"]
    assert [one["name"] for one in shown][:3] == ["belts", "weeks", "months"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("keep: [sst_coutn]", "'belts' has no column 'sst_coutn'. Did you mean 'sst_count'?"),
        ("aggregate: [{column: sst, ops: [mean], windows: [7d]}]", "'belts' has no column 'sst'."),
        ("lookup: [{from: belts, keys: {zone: tiem}, columns: [sst_mean]}]", "'belts' has no column 'tiem'."),
    ],
)
def test_mistakes_about_zones_are_told_with_their_places(tmp_path: Path, wrong: str, message: str) -> None:
    write(tmp_path, sea(30), stored={"time": 20, "lat": 8, "lon": 12})
    ships(tmp_path)
    made = project(tmp_path, DAILY + f"  bad: {{source: belts, keys: [zone], {wrong}}}\n")
    with pytest.raises(SpecError) as caught:
        made.compile()
    assert message in str(caught.value)
    assert "features.bad" in str(caught.value)


def test_zones_without_time_have_no_windows(tmp_path: Path) -> None:
    write(tmp_path, sea(30), stored={"time": 20, "lat": 8, "lon": 12})
    ships(tmp_path)
    spec = ZONES.replace("STEPS\n", "      - reduce: {dims: [time], op: mean}\n").replace("{time: 20}", "{}")
    bad = (
        "  bad: {source: belts, keys: [zone], partition: month, aggregate: [{ops: [count], windows: [7d]}]}\n"
    )
    with pytest.raises(SpecError) as caught:
        project(tmp_path, spec + bad).compile()
    assert "features.bad.aggregate: windows need a time, and 'belts' has none." in str(caught.value)
    assert "features.bad.partition: partition: month needs a time, and 'belts' has none." in str(caught.value)


def test_examples_of_a_spec_expect_nothing_that_builds_on_a_grid(tmp_path: Path) -> None:
    example = "tests: [{name: one, given: {ships: []}, expect: {weeks: [], voyages: []}}]\n"
    with pytest.raises(SpecError) as caught:
        project(tmp_path, DAILY + TABLES + example)
    for name in ("weeks", "voyages"):
        assert f"{name!r} builds on a grid, whose N-d data a test can't give." in str(caught.value)


def test_rows_of_many_zones_are_several_files(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = project(tmp_path, DAILY + TABLES + DATASETS)
    whole.build()
    monkeypatch.setattr("featureflow.execute.grids.zones.ROWS_PER_FILE", 30)
    cut = elsewhere(tmp_path, "cut")
    cut.build()
    table = cut.table("belts")
    assert len(table.state.files) == -(-table.rows // 30) > 2
    assert table.to_polars().equals(whole.table("belts").to_polars())
    for name in ("weeks", "voyages"):
        keys = whole.table(name).keys
        first, second = (one.table(name).to_polars() for one in (whole, cut))
        order = [*keys, *(column for column in first.columns if column not in keys)]
        assert second.sort(order).equals(first.sort(order))
    assert cut.build().status == "nothing to do"


def test_parts_of_a_restored_version_that_are_gone_are_said_to_be(made: Any, tmp_path: Path) -> None:
    climate = project(tmp_path, DAILY + TABLES + DATASETS)
    climate.build()
    for part in (tmp_path / "store" / "features" / "belts" / "_ff" / "zones").glob("*.npz"):
        part.unlink()
    with pytest.raises(TableError, match="a part of this version of a grid of zones is gone"):
        elsewhere(tmp_path).build(select=["sightings"], full=True)
    before = climate.dataset("sightings").to_polars()
    elsewhere(tmp_path).build(select=["+sightings"])  # no new version: the rows are those that were there
    elsewhere(tmp_path).build(select=["sightings"], full=True)  # finds the parts again
    assert climate.dataset("sightings").to_polars().equals(before)


def elsewhere(folder: Path, store: str = "store") -> Project:
    """The project without what builds left in its scratch folder."""
    scratch = folder / f"scratch-{len(list(folder.glob('scratch*')))}"
    return Project(
        folder / "featureflow.yaml", store=str(folder / store), scratch=scratch, scheduler="threads"
    )
