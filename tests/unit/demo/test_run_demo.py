"""`featureflow demo` at its full size, and its tables against DuckDB."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import duckdb
import pytest

import featureflow
from featureflow.demo import run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        root = run.run_demo(folder / "flights", scratch=str(folder / "scratch"))
    return root, printed.getvalue()


def table(demo: tuple[Path, str], reference: str) -> featureflow.Table:
    return featureflow.open(str(demo[0] / "store")).table(reference)


def test_it_builds_twice_and_says_so(demo: tuple[Path, str]) -> None:
    store = featureflow.open(str(demo[0] / "store"))
    assert {one.name: one.version for one in store.latest()} == dict.fromkeys(store.tables(), 2)
    assert len(store.tables()) == 5
    assert table(demo, "flight_features@1").rows == 336_000
    assert table(demo, "flight_features@2").rows == 336_776
    for text in ("1. Plan and build", "2. One more day arrives", "flight_features@2", "featureflow history"):
        assert text in demo[1]


def test_it_does_not_touch_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(featureflow.FeatureflowError, match="is there already and is not an empty folder"):
        run.run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_nothing_new_publishes_nothing(demo: tuple[Path, str]) -> None:
    root = demo[0]
    scratch = str(root.parent / "scratch")
    report = featureflow.Project(
        root / "featureflow.yaml", store=str(root / "store"), scratch=scratch
    ).build()
    assert report.status == "nothing to do"
    assert table(demo, "carrier_delays").version == 2


def test_aircraft_delays_are_those_of_duckdb(demo: tuple[Path, str]) -> None:
    ours = table(demo, "aircraft_delays").to_arrow(
        [
            "tailnum",
            "arrived_at",
            "arr_delay_count_1d",
            "arr_delay_mean_7d",
            "arr_delay_max_30d",
            "distance_sum_7d",
        ],
        where="tailnum is not null",
    )
    flights = f"read_parquet('{demo[0]}/data/flights/*.parquet')"
    windows = ", ".join(
        # (t - w, t] in whole microseconds
        f"w{days} AS (PARTITION BY tailnum ORDER BY arrived_at RANGE BETWEEN "
        f"INTERVAL {days * 86_400_000_000 - 1} MICROSECOND PRECEDING AND CURRENT ROW)"
        for days in (1, 7, 30)
    )
    with duckdb.connect(config={"threads": "2"}) as connection:
        connection.register("ours", ours)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE theirs AS SELECT tailnum, arrived_at, count(*) OVER w1 AS n, avg(arr_delay) OVER w7 AS mean, "
            f"max(arr_delay) OVER w30 AS most, sum(distance) OVER w7 AS far FROM {flights} "
            f"WHERE tailnum IS NOT NULL AND arrived_at IS NOT NULL WINDOW {windows}"
        )
        # rows of one aircraft at one time have the same windows
        joined = connection.execute(
            "SELECT count(*), count(*) FILTER (n <> arr_delay_count_1d OR abs(mean - arr_delay_mean_7d) > 1e-9 OR "
            "most <> arr_delay_max_30d OR far <> distance_sum_7d) FROM (SELECT DISTINCT * FROM ours) "
            "JOIN (SELECT DISTINCT * FROM theirs) USING (tailnum, arrived_at)"
        ).fetchone()
        distinct = connection.execute(
            "SELECT count(*) FROM (SELECT DISTINCT tailnum, arrived_at FROM theirs)"
        ).fetchone()
    assert joined is not None
    assert distinct is not None
    assert joined == (distinct[0], 0)


def test_the_weather_is_what_was_known(demo: tuple[Path, str]) -> None:
    ours = table(demo, "flight_features").to_arrow(["origin", "scheduled_departure", "temp", "wind_speed"])
    with duckdb.connect(config={"threads": "2"}) as connection:
        connection.register("ours", ours)
        connection.execute("SET TimeZone = 'UTC'")
        # a report of an hour is known when the hour is over, and is too old 4 hours after it began
        wrong = connection.execute(
            "SELECT count(*), count(w.hour), count(*) FILTER (ours.temp IS DISTINCT FROM w.temp OR "
            "ours.wind_speed IS DISTINCT FROM w.wind_speed) FROM ours ASOF LEFT JOIN (SELECT *, hour + INTERVAL 1 HOUR "
            f"AS known FROM read_parquet('{demo[0]}/data/weather/*.parquet')) w ON ours.origin = w.origin "
            "AND ours.scheduled_departure >= w.known WHERE w.hour IS NULL "
            "OR w.hour >= ours.scheduled_departure - INTERVAL 4 HOUR"
        ).fetchone()
        without = connection.execute("SELECT count(*) FROM ours WHERE temp IS NULL").fetchone()
    assert wrong is not None
    assert without is not None
    assert wrong[2] == 0
    assert wrong[1] > 330_000
    # there is no weather after 30 December, and what is older than the ttl is not used
    assert without[0] > 776
