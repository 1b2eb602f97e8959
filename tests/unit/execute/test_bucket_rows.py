"""Rows by bucket from handles: exact with few buckets, right about the hot ones with many."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from featureflow.execute.exchange.exchange_file import BucketRows, Chunk, Rekey, bucket_rows, rekey


class _Rows:
    id = "rows"

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys

    def read(
        self, chunk: Chunk, columns: tuple[str, ...], *, row_position: str | None = None
    ) -> pl.DataFrame:
        assert row_position is None
        return pl.DataFrame({"key": self._keys}).select(columns)


def _chunk(name: str, rows: int) -> Chunk:
    return Chunk(name, None, rows, 1, 0, 0, 0, name)


@pytest.mark.parametrize("n_buckets", [1, 7, 64])
def test_few_buckets_are_counted_exactly(tmp_path: Path, n_buckets: int) -> None:
    total, truth = BucketRows(n_buckets), np.zeros(n_buckets, np.int64)
    for i in range(3):
        keys = np.random.default_rng(i).integers(0, 50, 1000)
        job = Rekey(_Rows(keys), ("key",), ("key",), n_buckets, str(tmp_path), None)
        chunk = _chunk(f"c{i}", 1000)
        handle = rekey(job, chunk, job.path(chunk))
        again = rekey(job, chunk, job.path(chunk))
        assert (again.largest, again.rows, again.reused) == (handle.largest, 1000, True)
        total.add(handle)
        truth += bucket_rows(handle.path)
    assert total.counts() == truth.tolist()


def test_hot_buckets_of_many_are_known_and_the_handle_stays_small(tmp_path: Path) -> None:
    total, truth = BucketRows(2000), np.zeros(2000, np.int64)
    for i in range(4):
        keys = np.random.default_rng(i).integers(0, 10**9, 200_000)
        keys[:40_000] = 7
        job = Rekey(_Rows(keys), ("key",), ("key",), 2000, str(tmp_path), None)
        chunk = _chunk(f"c{i}", len(keys))
        handle = rekey(job, chunk, job.path(chunk))
        assert len(pickle.dumps(handle)) < 1000
        total.add(handle)
        truth += bucket_rows(handle.path)
    counts = np.array(total.counts())
    assert counts.sum() == pytest.approx(truth.sum(), rel=1e-3)
    assert counts.argmax() == truth.argmax()
    assert counts.max() == truth.max()
    others = np.delete(np.arange(2000), truth.argmax())
    # 320 rows each: about even
    assert (np.abs(counts[others] - truth[others]) < 100).all()
