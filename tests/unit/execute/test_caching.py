"""A process reads remote objects through its host's cache: hits, budget, what is told when it gives up."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import polars as pl
import pytest

from featureflow.core.meter import metering
from featureflow.core.remote import fetch_ranges, use_cache
from featureflow.execute.placement.caching import FOLDER, cache_warnings, caching, open_cache


@pytest.fixture
def remote() -> Iterator[str]:
    """A folder of a store that is not S3."""
    folder = f"memory://{uuid4().hex}"
    yield folder
    fsspec.filesystem("memory").rm(folder, recursive=True)


def test_the_second_read_is_local_until_the_content_is_another(tmp_path: Path, remote: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"{remote}/a", b"0123456789" * 1000)
    with caching(str(tmp_path), None) as cache:
        assert cache is not None
        for version, kind in (("v1", "remote read"), ("v1", "nvme read"), ("v2", "remote read")):
            with metering() as found:
                assert fetch_ranges(f"{remote}/a", version, [(0, 10), (5000, 6000)]) == [
                    b"0123456789",
                    b"0123456789" * 100,
                ]
            assert found.bytes[kind] >= 1010
    with metering() as found:
        fetch_ranges(f"{remote}/a", "v1", [(0, 10)])
    assert not found.counts, "nothing is used outside"


def test_no_bytes_is_no_cache(tmp_path: Path) -> None:
    with caching(str(tmp_path), 0) as cache:
        assert cache is None
        assert use_cache(None) is None
    assert not list(tmp_path.iterdir())


def test_a_process_has_one_cache_for_a_folder(tmp_path: Path) -> None:
    before = use_cache(None)
    try:
        cache = open_cache(str(tmp_path), None)
        assert open_cache(str(tmp_path), None) is cache
        assert open_cache(str(tmp_path), 1000) is not cache
    finally:
        use_cache(before)


SPEC = """
featureflow: 1
project: cached
sources:
  events: {path: "REMOTE/*.parquet", time: ts, where: "amount > -N"}
features:
  spend:
    source: events
    keys: [card]
    aggregate:
      - {column: amount, ops: [sum], windows: [1d]}
"""


def build(make_project: Callable[..., Any], remote: str, n: int, scratch: Path, **options: Any) -> Any:
    spec = SPEC.replace("REMOTE", remote).replace("N", str(n))
    project = make_project(spec, name=f"project{n}")
    return project.open(scratch=str(scratch), scheduler="threads", workers=2, **options).build()


def counts(
    make_project: Callable[..., Any], remote: str, n: int, scratch: Path, tmp_path: Path
) -> dict[str, int]:
    import json

    build(make_project, remote, n, scratch)
    (profile,) = (tmp_path / f"project{n}" / "store" / "runs").glob("*/profile.json")
    found: dict[str, int] = json.loads(profile.read_text())["counts"]
    return found


def put_events(remote: str) -> None:
    rng = np.random.default_rng(0)  # more than a footer's request brings along
    frame = pl.DataFrame(
        {"card": np.arange(20_000) % 9, "amount": rng.random(20_000), "ts": np.arange(20_000)}
    )
    frame = frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    for i in range(3):
        with fsspec.open(f"{remote}/{i}.parquet", "wb") as file:
            frame.write_parquet(file)


def test_builds_on_threads_read_raw_files_once(
    make_project: Callable[..., Any], remote: str, tmp_path: Path
) -> None:
    put_events(remote)
    first = counts(make_project, remote, 1, tmp_path / "scratch", tmp_path)
    assert first["cache misses"] > 0
    second = counts(make_project, remote, 2, tmp_path / "scratch", tmp_path)
    assert second["cache hits"] > 0
    assert second.get("cache misses", 0) == 0


def test_a_build_goes_on_without_the_cache_and_says_so_once(
    make_project: Callable[..., Any], remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_events(remote)
    real = os.writev

    def full(file: int, parts: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", full)
    report = build(make_project, remote, 3, tmp_path / "scratch")
    assert report.status == "done"
    assert [str(tmp_path / "scratch" / FOLDER) in warning for warning in report.warnings] == [True]
    assert "No space left" in report.warnings[0]
    monkeypatch.setattr(os, "writev", real)
    assert build(make_project, remote, 4, tmp_path / "scratch").warnings == []
    assert cache_warnings(None) == []
