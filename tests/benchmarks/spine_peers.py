"""Peers of the point-in-time benchmark, each run in a process: ``spine_peers.py polars EVENTS SPINE OUTPUT``.

Polars and DuckDB write count, sum, mean, max, stddev_samp of amount over four windows ``t - w <= e < t`` for each row
of the spine, in its order; null for an empty window, but 0 for its count. Feast writes the amount of the latest event.
"""

from __future__ import annotations

import argparse
from pathlib import Path

WINDOWS = {"1h": "1 HOUR", "1d": "1 DAY", "7d": "7 DAY", "30d": "30 DAY"}


def polars_union(events: Path, spine: Path, target: Path) -> None:
    """``rolling(group_by)`` for each window over events and spine together; a row of the spine has no amount.

    The fastest spelling that was found: ``join_where`` makes every pair before it aggregates.
    """
    import polars as pl

    amount = pl.col("amount")
    rows = pl.scan_parquet(spine).with_row_index("row").rename({"t": "ts"})
    found = pl.scan_parquet(events / "*.parquet").select("card_id", "ts", "amount")
    both = pl.concat([found, rows], how="diagonal").sort("card_id", "ts").collect()
    mask = both["row"].is_not_null()
    queries = []
    for window in WINDOWS:
        count = f"amount_count_{window}"
        queries.append(
            both.lazy()
            .rolling("ts", period=window, group_by="card_id", closed="left")
            .agg(
                amount.count().cast(pl.Int64).alias(count),
                amount.sum().alias(f"amount_sum_{window}"),
                amount.mean().alias(f"amount_mean_{window}"),
                amount.max().alias(f"amount_max_{window}"),
                amount.std().alias(f"amount_stddev_samp_{window}"),
            )
            .filter(mask)
            .with_columns(pl.when(pl.col(count) > 0).then(pl.col(f"amount_sum_{window}")))
        )
    parts = [both.filter(mask).select("row", "card_id", "ts")]
    parts += [one.drop("card_id", "ts") for one in pl.collect_all(queries)]
    pl.concat(parts, how="horizontal").sort("row").drop("row").write_parquet(
        target, compression="zstd", compression_level=1
    )


def duckdb_join(events: Path, spine: Path, target: Path) -> None:
    """A range join with the longest window, aggregated with a filter for each."""
    import duckdb

    calls = {"count": "count", "sum": "sum", "mean": "avg", "max": "max", "stddev_samp": "stddev_samp"}
    columns = ", ".join(
        f"{call}(amount) FILTER (ts >= t - INTERVAL {length}) AS amount_{op}_{w}"
        for w, length in WINDOWS.items()
        for op, call in calls.items()
    )
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '8GB'")
        connection.execute(f"SET temp_directory = '{target.parent}/duckdb-scratch'")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"COPY (WITH s AS (SELECT file_row_number AS row, * FROM read_parquet('{spine}', file_row_number = true)) "
            f"SELECT {columns} FROM s LEFT JOIN read_parquet('{events}/*.parquet') e "
            "ON e.card_id = s.card_id AND e.ts < s.t AND e.ts >= s.t - INTERVAL 30 DAY GROUP BY row ORDER BY row) "
            f"TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        )


def feast_latest(events: Path, spine: Path, target: Path) -> None:
    """``get_historical_features`` of Feast's Dask store: the latest event of the card within 30 days."""
    import tempfile
    from datetime import timedelta

    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Float64
    from feast.value_type import ValueType

    rows = pd.read_parquet(spine)
    with tempfile.TemporaryDirectory() as folder:
        whole = f"{folder}/events.parquet"
        pd.read_parquet(events).to_parquet(whole)
        card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.INT64)
        view = FeatureView(
            name="latest",
            entities=[card],
            ttl=timedelta(days=30),
            schema=[Field(name="amount", dtype=Float64)],
            source=FileSource(path=whole, timestamp_field="ts"),
        )
        config = RepoConfig(
            project="bench",
            provider="local",
            registry=f"{folder}/registry.db",
            online_store={"type": "sqlite", "path": f"{folder}/online.db"},
            offline_store={"type": "dask"},
            entity_key_serialization_version=3,
        )
        store = FeatureStore(config=config)
        store.apply([card, view])
        asked = rows.rename(columns={"t": "event_timestamp"}).reset_index(names="row")
        found = store.get_historical_features(entity_df=asked, features=["latest:amount"]).to_df()
    lost = len(rows) - found["row"].nunique()
    # what it loses (rows whose card has only later events) is put back, so that the rest can be compared
    found.set_index("row").reindex(range(len(rows))).to_parquet(target)
    print(f"{len(found)} of {len(rows)} rows came back, {lost} were lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["polars", "duckdb", "feast"])
    parser.add_argument("events", type=Path)
    parser.add_argument("spine", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    peer = {"polars": polars_union, "duckdb": duckdb_join, "feast": feast_latest}[options.peer]
    peer(options.events, options.spine, options.target)


if __name__ == "__main__":
    main()
