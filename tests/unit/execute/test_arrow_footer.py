"""Batches of Arrow files by their ranges of bytes: as Arrow's own reader gives them, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.execute.exchange.arrow_footer import footer_bytes, parse_footer, read_message
from featureflow.execute.exchange.exchange_file import bucket_rows, write_buckets
from featureflow.execute.exchange.fetching import read_bucket


def written(path: Path, rows: int, n_buckets: int) -> pa.Table:
    table = pa.table(
        {
            "n": pa.array([None if i % 5 == 0 else i for i in range(rows)], pa.int64()),
            "text": pa.array(["x" * (i % 7) for i in range(rows)], pa.large_string()),
            "lists": pa.array([[i] * (i % 3) for i in range(rows)], pa.list_(pa.int32())),
        }
    )
    write_buckets(table, np.arange(rows) % n_buckets, n_buckets, str(path))
    return table


@given(st.integers(0, 60), st.integers(1, 9))
def test_every_batch_is_found(tmp_path_factory: pytest.TempPathFactory, rows: int, n_buckets: int) -> None:
    path = tmp_path_factory.mktemp("footer") / "x.arrow"
    written(path, rows, n_buckets)
    data = path.read_bytes()
    footer = parse_footer(data[-footer_bytes(data) :])
    assert footer.file_bytes == len(data)
    assert len(footer.offsets) == n_buckets
    with pa.ipc.open_file(data) as reader:
        assert footer.schema.equals(reader.schema, check_metadata=True)
        for i in range(n_buckets):
            start, length = int(footer.offsets[i]), int(footer.lengths[i])
            assert length % 8 == 0
            batch = read_message(data[start : start + length], footer.schema)
            assert batch.to_pydict() == reader.get_batch(i).to_pydict()


def test_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    written(path, 20, 3)
    data = path.read_bytes()
    with pytest.raises(ValueError, match="not the end"):
        parse_footer(data[:-1])
    with pytest.raises(ValueError, match="not the end"):
        footer_bytes(b"ARROW1")
    with pytest.raises(ValueError, match="were given"):
        parse_footer(data[-20:])
    size = footer_bytes(data)
    for at in range(0, size - 10, 3):
        broken = bytearray(data[-size:])
        broken[at] ^= 0xFF
        try:
            found = parse_footer(bytes(broken))
        except ValueError:
            continue
        assert found.offsets is not None  # a name or an unused byte: nothing that a range could be wrong by
    footer = parse_footer(data[-size:])
    with pytest.raises(ValueError, match="damaged"):
        read_message(data[8:40], footer.schema)


def test_a_store_gives_the_same_batches_as_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featureflow.core.storage import write_atomic
    from featureflow.execute.exchange import fetching

    path = tmp_path / "x.arrow"
    written(path, 5000, 7)
    for tail in (100, 1500, 1 << 20):  # shorter than the footer, without data, all of the file
        url = f"memory://footers/{tmp_path.name}/{tail}.arrow"
        write_atomic(url, path.read_bytes())
        monkeypatch.setattr(fetching, "TAIL_BYTES", tail)
        for bucket in (0, 6):
            ours, theirs = read_bucket([url, str(path)], bucket)
            assert ours.to_pydict() == theirs.to_pydict()
        assert bucket_rows(url).tolist() == bucket_rows(str(path)).tolist()
