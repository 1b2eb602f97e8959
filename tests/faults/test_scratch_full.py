"""A scratch disk without space: refused before the start where that can be known, else an error at once; no litter.

The disk is a file system in memory, mounted for the test: only root can do that.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest

import featureflow as ff
from featureflow.core.errors import ComputeError
from tests.properties.test_memory_budgets import little_memory

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root"),
]

SPEC = """
featureflow: 1
project: full
sources:
  events: {path: "data/*.parquet", time: ts, timezone: UTC}
features:
  t:
    source: events
    keys: [k]
    aggregate: [{column: v, ops: [sum, mean, max], windows: [1h]}]
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"this machine does not mount: {mounted.stderr!r}")
    yield folder
    # lazily: an error that the test holds on to still maps files of the disk
    subprocess.run(["umount", "-l", str(folder)], check=True)


def project(folder: Path, scratch: Path, rows: int) -> ff.Project:
    (folder / "data").mkdir()
    chance = np.random.default_rng(3)
    times = np.sort(chance.integers(0, 86_400_000_000, rows)) + 1_767_225_600_000_000
    frame = pl.DataFrame(
        {"k": chance.integers(0, 50, rows), "ts": times, "v": chance.random(rows)}
    ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    for place, part in enumerate(frame.iter_slices(rows // 4)):
        part.write_parquet(folder / "data" / f"{place}.parquet")
    (folder / "featureflow.yaml").write_text(SPEC)
    return ff.Project(
        folder / "featureflow.yaml",
        store=str(folder / "store"),
        scheduler="threads",
        workers=1,
        scratch=scratch,
    )


def left_on(disk: Path) -> list[str]:
    """Files that nobody would find again: not under the name of what they hold."""
    return [path.name for path in disk.rglob("*") if path.is_file() and path.suffix == ".tmp"]


def assert_nothing_published(folder: Path) -> None:
    assert "t" not in ff.open(str(folder / "store")).tables()
    assert list((folder / "store").rglob("*.parquet")) == []


def test_refused_before_the_start(tmp_path: Path, disk: Path) -> None:
    made = project(tmp_path, disk / "scratch", 600_000)
    with pytest.raises(ComputeError) as refused:
        made.build()
    text = str(refused.value)
    needed, free = (
        int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:bytes, and|free)", text)
    )
    assert needed == 600_000 * 24
    assert 7_000_000 < free < needed
    assert str(disk / "scratch") in text
    assert "--scratch" in text
    assert not list(disk.rglob("*.arrow"))
    assert_nothing_published(tmp_path)


def test_full_on_the_way(tmp_path: Path, disk: Path) -> None:
    """Something else fills the disk after the build has begun."""
    made = project(tmp_path, disk / "scratch", 600_000)
    with (
        mock.patch("featureflow.execute.exchange.rekeying.free_bytes", lambda _: 1 << 40),
        pytest.raises(ComputeError) as failed,
    ):
        made.build()
    text = str(failed.value)
    assert "scratch disk is full" in text
    assert re.search(r"[\d,]+ of 8,388,608 bytes are free", text)
    assert str(disk / "scratch") in text
    assert left_on(disk) == []
    assert_nothing_published(tmp_path)


def test_full_while_rows_are_sorted(tmp_path: Path, disk: Path) -> None:
    """The exchange fits, the sorted runs of a bucket do not: they are gone afterwards; a larger disk goes on."""
    made = project(tmp_path, disk / "scratch", 200_000)
    with little_memory(20_000, batch_rows=4_096), pytest.raises(ComputeError) as failed:
        made.build()
    text = str(failed.value)
    assert "scratch disk is full" in text
    assert re.search(r"[\d,]+ bytes were to be written; [\d,]+ of 8,388,608 bytes are free", text)
    assert list((disk / "scratch" / "spill").iterdir()) == []
    assert left_on(disk) == []
    assert "t" not in ff.open(str(tmp_path / "store")).tables()
    elsewhere = ff.Project(
        tmp_path / "featureflow.yaml", store=str(tmp_path / "store"), scratch=tmp_path / "large"
    )
    elsewhere.build()
    assert elsewhere.table("t").to_polars().height == 200_000
