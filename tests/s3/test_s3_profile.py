"""Profiles of builds on S3: what came over the network, and what came from the host's disk the second time."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import featureflow as ff
from featureflow.core import storage
from featureflow.tables.runs import read_profile

ROWS = 100_000
SPEC = """
featureflow: 1
project: shop
store: {store}
sources:
  orders: {{path: "{lake}/*.parquet", time: ts}}
features:
  spend:
    source: orders
    keys: [customer]
    aggregate:
      - {{column: amount, ops: [count, sum], windows: [1d]}}
"""


@pytest.fixture
def profiles(bucket: str, tmp_path: Path) -> list[dict[str, Any]]:
    """The same build into two stores; the second finds what the first has read in the host's cache."""
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"customer": rng.integers(0, 100, ROWS), "amount": rng.random(ROWS)})
    frame = frame.with_columns(
        (
            pl.lit("2026-01-01T00:00:00Z").str.to_datetime(time_zone="UTC")
            + pl.duration(seconds=pl.row_index())
        ).alias("ts")
    )
    sink = io.BytesIO()
    frame.write_parquet(sink)
    storage.write_atomic(f"{bucket}/lake/orders.parquet", sink.getvalue())
    found = []
    for name in ("first", "second"):
        spec = tmp_path / f"{name}.yaml"
        spec.write_text(SPEC.format(lake=f"{bucket}/lake", store=f"{bucket}/{name}"))
        ff.Project(spec, scratch=tmp_path / "scratch", scheduler="threads", workers=2).build()
        found.append(read_profile(f"{bucket}/{name}"))
        for folder in (tmp_path / "scratch").iterdir():
            if folder.name != "cache":
                shutil.rmtree(folder)
    return found


def test_remote_reads_and_the_cache_are_told_apart(profiles: list[dict[str, Any]], s3: Any) -> None:
    first, second = (
        next(stage for stage in profile["stages"] if stage["name"] == "spend: re-key orders")
        for profile in profiles
    )
    values = ROWS * 8  # of random amounts, which no encoding makes smaller
    assert first["bytes"]["remote read"] > values
    assert first["spent"]["remote read"] > 0
    assert first["counts"]["cache misses"] > 0
    assert second["bytes"]["nvme read"] > values
    assert second["bytes"].get("remote read", 0) == 0
    assert second["counts"]["cache hits"] > 0
    assert first["bytes"]["decode"] == second["bytes"]["decode"] > values
    for profile in profiles:
        assert profile["total"]["spent"]["write"] > 0, "results go over the network, too"
        assert profile["total"]["accounted"] == pytest.approx(1, abs=0.05)
        phases = {stage["name"]: stage for stage in profile["stages"] if stage["where"] == "driver"}
        assert phases["plan"]["spent"]["remote read"] > 0, "listings, and states of tables"
        assert set(phases["commit"]["spent"]) <= {"commit", "driver"}, (
            "what a commit asks the store is the commit's"
        )
    text = json.dumps(profiles)
    secrets = [value for name, value in os.environ.items() if name.startswith("AWS_") and "KEY" in name]
    assert secrets
    assert not [secret for secret in secrets if secret in text]
