"""One file: its bytes, its handle, and that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureflow.core.errors import CorruptionError, TableError
from featureflow.core.meter import metering
from featureflow.tables import parquet_files
from featureflow.tables.delta_stats import delta_stats
from featureflow.tables.parquet_files import StagedFile, find_staged, write_file

PATH = "day=2026-01-01/b000-ab12.parquet"
N = 3000


def rows(n: int = N) -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table(
        {
            "card": pa.array(np.sort(rng.integers(0, 50, n))),
            "ts": pa.array(rng.integers(0, 10**15, n), pa.timestamp("us", "UTC")),
            "gauss": pa.array(rng.normal(size=n), mask=rng.random(n) < 0.3),
            "price": pa.array(rng.choice([0.99, 1.49, 9.99], n)),
            "running": pa.array(np.maximum.accumulate(rng.normal(size=n))),
            "scattered": pa.array(rng.choice(rng.integers(0, 2**60, 8), n)),
            "small": pa.array(rng.integers(0, 9, n).astype(np.int16)),
            "text": pa.array(rng.choice(["a", "b", None, "c"], n), pa.string()),
            "unique_text": pa.array([f"row {i * 7919 % n}" for i in range(n)]),
            "flag": pa.array(rng.random(n) < 0.5),
            "list": pa.array([[i, None] if i % 3 else None for i in range(n)], pa.list_(pa.int64())),
            "map": pa.array([[("k", i)] for i in range(n)], pa.map_(pa.string(), pa.int64())),
        }
    )


def write(table: pa.Table, root: Path, path: str = PATH) -> StagedFile:
    return write_file(table, str(root), path, keys=["card"], time="ts")


def test_round_trip_in_every_reader(tmp_path: Path) -> None:
    import duckdb

    table = rows()
    staged = write(table, tmp_path)
    url = str(tmp_path / PATH)
    assert pq.ParquetFile(url, page_checksum_verification=True).read().equals(table)
    frame = pl.read_parquet(url, hive_partitioning=False)
    assert frame["gauss"].to_list() == table["gauss"].to_pylist()
    assert frame["list"].to_list() == table["list"].to_pylist()
    assert duckdb.sql(
        f"select count(*), sum(card), count(gauss), count(distinct scattered) from '{url}'"
    ).fetchall()[0] == (
        N,
        sum(table["card"].to_pylist()),
        N - table["gauss"].null_count,
        8,
    )
    assert staged.rows == N and staged.size == Path(url).stat().st_size


def test_encodings_are_chosen_by_type(tmp_path: Path) -> None:
    write(rows(), tmp_path)
    group = pq.read_metadata(tmp_path / PATH).row_group(0)
    found = {group.column(i).path_in_schema: set(group.column(i).encodings) for i in range(group.num_columns)}
    assert {name for name, used in found.items() if "DELTA_BINARY_PACKED" in used} == {
        "card",
        "ts",
        "scattered",
    }
    assert {name for name, used in found.items() if "BYTE_STREAM_SPLIT" in used} == {
        "gauss",
        "price",
        "running",
    }
    assert {name for name, used in found.items() if "RLE_DICTIONARY" in used} == {"text", "unique_text"}


@pytest.mark.parametrize("n", [0, 1, 2, 511, 5000])
def test_any_number_of_rows(tmp_path: Path, n: int) -> None:
    staged = write(rows(5000).slice(0, n), tmp_path)
    assert staged.rows == n
    assert pq.read_table(tmp_path / PATH, partitioning=None).num_rows == n


def test_all_null_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            name: pa.nulls(10, kind)
            for name, kind in zip(rows().schema.names, rows().schema.types, strict=True)
        }
    )
    staged = write(table, tmp_path)
    assert staged.columns["gauss"] == {"count": 0, "nulls": 10}
    assert json.loads(staged.delta_stats) == {
        "numRecords": 10, "minValues": {}, "maxValues": {}, "nullCount": {"card": 10, "ts": 10}
    }  # fmt: skip


def test_same_rows_same_bytes_whatever_the_chunks(tmp_path: Path) -> None:
    table = rows()
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 1000), table.slice(1007)])
    offset = pa.concat_tables([rows().slice(0, 5), table]).combine_chunks().slice(5)
    digests = set()
    for i, same in enumerate([table, chunked, offset, table.replace_schema_metadata({"a": "b"})]):
        write(same, tmp_path / str(i))
        digests.add(hashlib.sha256((tmp_path / str(i) / PATH).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_what_is_measured_has_the_same_bytes(tmp_path: Path) -> None:
    """While somebody measures, the writes are seen one by one."""
    table = rows()
    plain = write(table, tmp_path / "plain")
    with metering() as found:
        measured = write(table, tmp_path / "measured")
    assert measured == plain
    files = [(tmp_path / name / PATH).read_bytes() for name in ("plain", "measured")]
    assert files[0] == files[1]
    assert found.bytes["write"] == len(files[0])
    assert set(found.seconds) == {"encode", "write", "compute:statistics"}


def test_a_full_disk_is_told_while_somebody_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_files, "moved", full)
    with metering(), pytest.raises(OSError, match="No space left"):
        write(rows(), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_footer_gives_the_handle_back(tmp_path: Path) -> None:
    staged = write(rows(), tmp_path)
    assert find_staged(str(tmp_path), PATH) == staged
    assert find_staged(str(tmp_path), "day=2026-01-02/b000-ab12.parquet") is None
    assert StagedFile.of(**json.loads(json.dumps(staged.to_json()))) == staged
    assert (staged.slice, staged.bucket, staged.fingerprint) == ("2026-01-01", 0, "ab12")
    assert (
        len(pickle.dumps(write(rows().select(["card", "ts", "gauss", "price"]), tmp_path / "narrow"))) < 1500
    )


def test_a_file_of_another_name_is_not_reused(tmp_path: Path) -> None:
    write(rows(), tmp_path)
    other = "day=2026-01-01/b001-ab12.parquet"
    (tmp_path / PATH).rename(tmp_path / other)
    with pytest.raises(CorruptionError, match="holds the file day=2026-01-01/b000"):
        find_staged(str(tmp_path), other)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" + b"x" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_an_error(tmp_path: Path, damage: bytes) -> None:
    write(rows(), tmp_path)
    (tmp_path / PATH).write_bytes(damage)
    with pytest.raises(CorruptionError, match=r"b000-ab12\.parquet"):
        find_staged(str(tmp_path), PATH)


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(*arguments: Any) -> None:
        next(each for each in arguments if hasattr(each, "write")).write(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_files, "_write", half)
    with pytest.raises(OSError, match="No space"):
        write(rows(), tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_file_appears_only_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    real = parquet_files._write

    def watched(*arguments: Any) -> None:
        real(*arguments)
        seen.append([p.name for p in tmp_path.rglob("*.parquet")])

    monkeypatch.setattr(parquet_files, "_write", watched)
    write(rows(), tmp_path)
    assert seen == [[]]
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["b000-ab12.parquet"]
    assert (tmp_path / PATH).stat().st_mode & 0o777 == 0o644


def test_types_that_are_not_stored_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="stored types"):
        write(
            pa.table({"card": pa.array([1], pa.uint32()), "ts": pa.array([0], pa.timestamp("us", "UTC"))}),
            tmp_path,
        )
    with pytest.raises(TableError, match="column 'd'"):
        write(pa.table({"d": pa.array([1], pa.duration("s"))}), tmp_path)


def test_statistics_in_the_file_are_only_of_keys_and_time(tmp_path: Path) -> None:
    write(rows(), tmp_path)
    group = pq.read_metadata(tmp_path / PATH).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    assert {c.path_in_schema for c in columns if c.statistics is not None} == {"card", "ts"}
    assert {c.compression for c in columns} == {"ZSTD"}


def test_row_groups(tmp_path: Path) -> None:
    n = 300_000
    write(pa.table({"card": np.arange(n), "ts": pa.array(np.arange(n), pa.timestamp("us", "UTC"))}), tmp_path)
    metadata = pq.read_metadata(tmp_path / PATH)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        131_072,
        131_072,
        37_856,
    ]


def test_delta_statistics_enclose_the_values() -> None:
    table = pa.table(
        {
            "t": pa.array([1_999, 86_400_000_001, None], pa.timestamp("us", "UTC")),
            "early": pa.array([-1, -1_001, -2_000], pa.timestamp("us", "UTC")),
            "s": ["z" * 40, "b" * 40, "c"],
            "f": [1.5, 2.5, float("nan")],
        }
    )
    stats = json.loads(delta_stats(table, ["t", "early", "s", "f"]))
    assert stats["minValues"]["t"] == "1970-01-01T00:00:00.001Z"
    assert stats["maxValues"]["t"] == "1970-01-02T00:00:00.001Z"  # rounded up from .000001
    assert stats["minValues"]["early"] == "1969-12-31T23:59:59.998Z"
    assert stats["maxValues"]["early"] == "1970-01-01T00:00:00.000Z"
    assert stats["minValues"]["s"] == "b" * 32
    assert stats["maxValues"]["s"] == "z" * 32 + "\U0010ffff" > "z" * 40
    assert "f" not in stats["minValues"] and stats["nullCount"] == {"t": 1, "early": 0, "s": 0, "f": 0}
