"""Any flipped bit of a stored file is an error that names the file, or changes nothing that is read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from featureflow.core.errors import CorruptionError
from featureflow.tables.parquet_files import find_staged
from featureflow.tables.reading import _FORMAT, Scan
from featureflow.tables.verify import verify

Maker = Any  # the fixture of conftest.py
N = 600


def rows() -> pa.Table:
    """A column for every encoding that the writer uses."""
    rng = np.random.default_rng(3)
    return pa.table(
        {
            "card": pa.array(np.sort(rng.integers(0, 50, N))),
            "ts": pa.array(rng.integers(0, 10**10, N), pa.timestamp("us", "UTC")),
            "planes": pa.array(rng.normal(size=N), mask=rng.random(N) < 0.3),
            "few": pa.array(rng.choice([0.5, 1.5, 2.5], N)),
            "runs": pa.array(np.repeat(rng.normal(size=N // 50), 50)),
            "text": pa.array(rng.choice(["ab", "cd", "ef"], N)),
            "unique": pa.array([f"{i:x}" for i in rng.integers(0, 2**40, N)]),
            "flag": pa.array(rng.random(N) < 0.5),
            "list": pa.array([[i, i + 1] for i in range(N)], pa.list_(pa.int64())),
        }
    )


@pytest.fixture
def stored(maker: Maker) -> tuple[Any, Path, pl.DataFrame]:
    maker.publish({("2026-01-01", 0): rows()})
    table = maker.open()
    return table, Path(maker.url) / table.state.files[0].path, table.to_polars(sort=False)


def flips(size: int) -> list[tuple[int, int]]:
    """A bit in every ninth byte, and every bit of the last 64 bytes and the first 8."""
    places = [(i, (i * 5) % 8) for i in range(0, size, 9)]
    edge = [*range(8), *range(size - 64, size)]
    return places + [(i, bit) for i in edge for bit in range(8)]


def flip(path: Path, good: bytes, place: int, bit: int) -> None:
    """Change one bit in place; no sync, so thousands are quick."""
    with open(path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes([good[place] ^ (1 << bit)]), place)


def test_no_flipped_bit_is_silent(stored: tuple[Any, Path, pl.DataFrame]) -> None:
    table, path, expected = stored
    good = path.read_bytes()
    raised = 0
    for place, bit in flips(len(good)):
        flip(path, good, place, bit)
        try:
            found = table.to_polars(sort=False)
        except CorruptionError as error:
            assert path.name in str(error)
            raised += 1
        else:
            assert found.equals(expected), (place, bit)
        path.write_bytes(good)
    # Bytes that nothing reads (the first magic number, fields of page headers that are not used) are few.
    assert raised > 0.97 * len(flips(len(good)))
    assert table.to_polars(sort=False).equals(expected)


def test_without_checksums_flips_would_be_silent(
    stored: tuple[Any, Path, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: with verification off, wrong values come back."""
    import pyarrow.dataset as ds

    table, path, expected = stored
    assert _FORMAT.default_fragment_scan_options.page_checksum_verification
    monkeypatch.setattr("featureflow.tables.reading._FORMAT", ds.ParquetFileFormat())
    monkeypatch.setattr(Scan, "_check_footer", lambda *_: None)
    good, silent = path.read_bytes(), 0
    for place in range(4, len(good) // 2, 40):
        flip(path, good, place, 3)
        with suppress(CorruptionError):
            silent += not table.to_polars(sort=False).equals(expected)
        path.write_bytes(good)
    assert silent > 10


@pytest.mark.parametrize("how", ["truncated", "gone", "empty", "longer", "another file's bytes"])
def test_other_damage(maker: Maker, stored: tuple[Any, Path, pl.DataFrame], how: str) -> None:
    table, path, _ = stored
    good = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "another file's bytes":
        other = maker.stage("2026-01-02", 0, rows(), "ffff")
        path.write_bytes((Path(maker.url) / other.path).read_bytes())
    else:
        path.write_bytes({"truncated": good[:-1], "empty": b"", "longer": good + b"x"}[how])
    with pytest.raises(CorruptionError, match=path.name):
        table.to_polars()
    with pytest.raises(CorruptionError, match=path.name):
        table.to_dask().compute()
    with pytest.raises(Exception, match=path.name):  # Polars wraps what a source raises
        table.scan().collect()
    problems = verify(maker.url, "spend", deep=True).problems
    assert len(problems) == 1 and path.name in problems[0]


def test_verify_reports_every_problem(maker: Maker) -> None:
    days = [f"2026-01-0{i}" for i in range(1, 6)]
    maker.publish({(day, 0): rows() for day in days})
    paths = [Path(maker.url) / f.path for f in maker.open().state.files]
    assert verify(maker.url, "spend", deep=True).problems == ()
    paths[0].unlink()
    paths[1].write_bytes(b"short")
    good = paths[2].read_bytes()
    paths[2].write_bytes(good[:500] + bytes([good[500] ^ 16]) + good[501:])
    shallow = verify(maker.url, "spend")
    assert [p.name in text for p, text in zip(paths, shallow.problems, strict=False)] == [True, True]
    deep = verify(maker.url, "spend", deep=True)
    assert len(deep.problems) == 3 and (deep.files, deep.version) == (5, 1)
    assert "is missing" in deep.problems[0] and "5 bytes instead of" in deep.problems[1]


def test_verify_sees_a_damaged_record(maker: Maker) -> None:
    maker.publish({("2026-01-01", 0): rows()})
    path = Path(maker.url) / f"{maker.open().state.info.record}.files"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert "digest differs" in verify(maker.url, "spend").problems[0]


def test_deep_verification_compares_values_with_their_statistics(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What neither checksums nor digests can see: a writer that stored other values than it described."""
    maker.publish({("2026-01-01", 0): rows()})
    real = Scan.read

    def doubled(self: Scan, file: Any, columns: list[str]) -> pa.Table:
        table = real(self, file, columns)
        return table.set_column(3, "few", pa.array([2 * v for v in table["few"].to_pylist()]))

    monkeypatch.setattr(Scan, "read", doubled)
    assert "columns ['few'] do not have the statistics" in verify(maker.url, "spend", deep=True).problems[0]


def test_a_flip_in_the_footer_of_a_file_that_no_version_lists_yet(maker: Maker) -> None:
    """A build takes over what a stopped one finished, by its footer: rows, statistics and where pages lie."""
    staged = maker.stage("2026-01-02", 0, rows(), "ab12")
    path = Path(maker.url) / staged.path
    good = path.read_bytes()
    length = int.from_bytes(good[-8:-4], "little") + 8
    assert find_staged(maker.url, staged.path) == staged
    for place in range(len(good) - length, len(good), 7):
        for bit in (place % 8, (place + 3) % 8):
            flip(path, good, place, bit)
            with suppress(CorruptionError):
                assert find_staged(maker.url, staged.path) == staged, (place, bit)
                raise AssertionError("taken for whole")
            path.write_bytes(good)
