"""`featureflow demo` at its full size, and its tables against DuckDB."""

from __future__ import annotations

import contextlib
import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
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


def dataset(demo: tuple[Path, str]) -> featureflow.Dataset:
    return featureflow.open(str(demo[0] / "store")).dataset("late_flights")


def test_it_builds_twice_and_says_so(demo: tuple[Path, str]) -> None:
    store = featureflow.open(str(demo[0] / "store"))
    assert {one: store.table(one).version for one in store.tables()} == dict.fromkeys(store.tables(), 2)
    assert len(store.tables()) == 6
    assert dataset(demo).version == 1
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


def test_the_training_set_has_the_flights_in_their_order(demo: tuple[Path, str]) -> None:
    made = dataset(demo).to_polars(encoded=False)
    files = sorted((demo[0] / "data" / "flights").glob("*.parquet"))
    given = pl.concat([pl.read_parquet(file) for file in files])
    own = ["flight", "scheduled_departure", "carrier", "origin", "dest", "tailnum", "distance"]
    assert made.select(own).equals(given.select(own))
    assert made["late"].equals((given["arr_delay"] > 15).alias("late"))
    # nothing that is known later is a feature
    assert {"arr_delay", "dep_delay", "arrived_at", "late"}.isdisjoint(dataset(demo).features)


def test_an_aircrafts_last_delay_is_the_one_of_duckdb(demo: tuple[Path, str]) -> None:
    ours = dataset(demo).to_arrow(
        columns=["tailnum", "scheduled_departure", "arr_delay_last_1d"], encoded=False
    )
    flights = f"read_parquet('{demo[0]}/data/flights/*.parquet')"
    with duckdb.connect(config={"threads": "2"}) as connection:
        connection.register("ours", ours)
        # of landings at the same instant either may be the last: rows that have such are left out
        wrong, compared = connection.execute(
            f"WITH past AS (SELECT tailnum, arrived_at, arr_delay FROM {flights} WHERE arrived_at IS NOT NULL AND "
            "tailnum IS NOT NULL), last AS (SELECT tailnum, arrived_at, any_value(arr_delay) AS delay FROM past "
            "GROUP BY ALL HAVING count(*) = 1) SELECT count(*) FILTER (arr_delay_last_1d IS DISTINCT FROM CASE WHEN "
            "l.arrived_at > o.scheduled_departure - INTERVAL 1 DAY THEN delay END), count(delay) "
            "FROM ours o ASOF LEFT JOIN last l ON o.tailnum = l.tailnum AND o.scheduled_departure >= l.arrived_at"
        ).fetchone() or (1, 0)
    assert wrong == 0
    assert compared > 300_000


def test_no_label_of_train_is_from_the_time_of_another_split(demo: tuple[Path, str]) -> None:
    rows = dataset(demo).to_polars(columns=["scheduled_departure", "late", "split"])
    files = sorted((demo[0] / "data" / "flights").glob("*.parquet"))
    known = rows.with_columns(arrived_at=pl.concat([pl.read_parquet(file) for file in files])["arrived_at"])
    ends = [datetime(2013, 10, 1, tzinfo=UTC), datetime(2013, 11, 1, tzinfo=UTC)]
    for split, end in zip(("train", "valid"), ends, strict=True):
        assert known.filter(split=split)["arrived_at"].max() < end
    for split, end in zip(("valid", "test"), ends, strict=True):
        assert known.filter(split=split)["scheduled_departure"].min() >= end
    # without the two days some would be
    near = known.filter(split="embargoed")
    assert near.filter(pl.col("arrived_at") >= ends[1]).height > 0


def test_the_late_share_of_an_aircraft_knows_no_label_that_was_not_known(demo: tuple[Path, str]) -> None:
    one = "N11106"
    columns = ["tailnum", "scheduled_departure", "late", "split"]
    raw = dataset(demo).to_polars(columns=columns, encoded=False)
    encoded = dataset(demo).to_polars(columns=["tailnum"])["tailnum"].rename("share")
    train = raw.filter(pl.col("split") == "train", pl.col("late").is_not_null())
    mine = raw.with_columns(encoded).filter(tailnum=one, split="train").sort("scheduled_departure")
    assert mine.height > 30
    for row in mine.iter_rows(named=True):
        before = train.filter(pl.col("scheduled_departure") <= row["scheduled_departure"] - timedelta(days=2))
        if before.is_empty():
            expected = 0.2
        else:
            labels = before.filter(tailnum=one)["late"]
            expected = (labels.sum() + 50 * before["late"].mean()) / (labels.len() + 50)
        assert row["share"] == pytest.approx(expected, rel=1e-9)


def test_the_models_beat_the_naive_ones(demo: tuple[Path, str]) -> None:
    scores = {
        name.strip(): float(auc) for name, auc in re.findall(r"^(.+?)  +(0\.\d{3})  ", demo[1], re.MULTILINE)
    }
    assert scores["the same for all: how many are late in train"] == 0.5
    carrier = scores["how many of its carrier's are late in train"]
    assert 0.5 < carrier < 0.65
    assert scores["logistic regression"] > carrier + 0.1
    assert scores["boosted trees (scikit-learn)"] > carrier + 0.1
    # and not by magic: a flight's own delay at departure, which nobody knew, would do much better
    assert max(scores.values()) < 0.85


def test_the_shards_are_the_rows_whose_label_is_known(demo: tuple[Path, str]) -> None:
    shards = featureflow.load_shards(str(demo[0] / "store" / "exports" / "late_flights"))
    rows = dataset(demo).to_polars(columns=[*dataset(demo).features, "late", "split"])
    for split in ("train", "valid", "test"):
        batches = list(shards.numpy(20_000, split, shuffle=False))
        known = rows.filter(pl.col("split") == split, pl.col("late").is_not_null())
        assert sum(len(batch["late"]) for batch in batches) == known.height
        labels = np.concatenate([batch["late"] for batch in batches])
        place = next(column.names.index("distance") for column in shards.manifest.columns if column.names)
        distance = np.concatenate([batch["x"][:, place] for batch in batches])
        both = pl.DataFrame({"late": labels, "distance": distance}).sort("late", "distance")
        theirs = known.select("late", pl.col("distance").cast(pl.Float32)).sort("late", "distance")
        assert both.equals(theirs)
