"""A small project whose sources are on S3 in four formats, and copies of its files on a local disk."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl

from featureflow.core import storage

SPEC = """
featureflow: 1
project: shop
store: {store}
sources:
  orders: {{path: "{lake}/orders/*.parquet", time: ts}}
  shops: {{path: {lake}/shops.csv, time: since, columns: {{shop: string, since: timestamp, rent: float64}}}}
  visits: {{path: {lake}/visits.jsonl, time: ts, columns: {{ts: timestamp}}}}
  rates: {{path: {lake}/rates, time: ts, format: delta}}
features:
  spend:
    source: orders
    keys: [customer]
    aggregate:
      - {{column: amount, ops: [count, sum, max], windows: [1d, 3d]}}
    lookup:
      - {{from: shops, keys: {{shop: shop}}, columns: [rent]}}
      - {{from: rates, keys: {{shop: shop}}, columns: [rate]}}
    keep: [amount, shop]
  footfall:
    source: visits
    keys: [shop]
    at: {{every: 1d}}
    aggregate:
      - {{column: n, ops: [sum], windows: [2d]}}
datasets:
  again:
    spine: {{source: orders, keys: [customer], columns: [shop]}}
    features:
      - {{table: spend, columns: [amount_sum_3d, rent]}}
      - {{table: footfall, keys: {{shop: shop}}, columns: [n_sum_2d], prefix: shop_}}
    label: {{source: orders, op: count, gap: 1s, horizon: 1d, as: buys, derive: "buys > 0"}}
    split: {{by: time, train: "< 2026-01-05", test: rest}}
    encode:
      - {{columns: [amount_sum_3d, shop_n_sum_2d, rent], with: [{{impute: median}}, standard]}}
      - {{columns: [shop], with: onehot}}
"""


def orders(day: int) -> pl.DataFrame:
    """Orders of one day."""
    n = 20
    return pl.DataFrame(
        {
            "customer": [(i * 7 + day) % 5 for i in range(n)],
            "shop": [f"s{(i + day) % 3}" for i in range(n)],
            "amount": [float((i * 13 + day * 5) % 50) for i in range(n)],
            "ts": [f"2026-01-{day:02d}T{i:02d}:30:00" for i in range(n)],
            "note": [f"nobody asks for {i}" for i in range(n)],
        }
    ).with_columns(pl.col("ts").str.to_datetime(time_zone="UTC", time_unit="us"))


def put_orders(lake: str, *days: int) -> None:
    """Add the orders of some days, one file each."""
    for day in days:
        sink = io.BytesIO()
        orders(day).write_parquet(sink)
        storage.write_atomic(f"{lake}/orders/{day:02d}.parquet", sink.getvalue())


def put_lake(lake: str) -> None:
    """Write all sources: a folder of Parquet, a CSV, JSON lines, a Delta table."""
    from deltalake import write_deltalake

    from featureflow.core.s3 import delta_options

    put_orders(lake, *range(1, 7))
    storage.write_atomic(
        f"{lake}/shops.csv",
        b"shop,since,rent\ns0,2025-12-01,100\ns1,2025-12-01,200\ns1,2026-01-03,250\ns2,2025-12-05,\n",
    )
    visits = [{"shop": f"s{i % 3}", "ts": f"2026-01-0{1 + i % 6}T12:00:00", "n": i} for i in range(30)]
    storage.write_atomic(f"{lake}/visits.jsonl", "\n".join(map(json.dumps, visits)).encode())
    rates = pl.DataFrame(
        {"shop": ["s0", "s1", "s2"], "rate": [0.1, 0.2, 0.3], "ts": ["2025-12-01"] * 3}
    ).with_columns(pl.col("ts").str.to_datetime(time_zone="UTC", time_unit="us"))
    write_deltalake(f"{lake}/rates", rates.to_arrow(), storage_options=delta_options(lake) or None)


def spec_text(lake: str, store: str) -> str:
    """The project's YAML."""
    return SPEC.format(lake=lake, store=store)


def files_below(url: str) -> dict[str, bytes]:
    """Bytes of all Parquet files of a store, by path."""
    return {
        path: storage.read_bytes(storage.join(url, path))
        for path, _, _ in sorted(storage.walk(url))
        if path.endswith(".parquet") and "checkpoint" not in path
    }


def project_file(folder: Path, lake: str, store: str) -> Path:
    """Write the spec into a folder."""
    path = folder / "featureflow.yaml"
    path.write_text(spec_text(lake, store))
    return path
