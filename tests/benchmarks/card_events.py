"""Synthetic card events for the benchmarks: seeded, written file by file, so that memory stays small.

20 million rows have 300,000 cards; other sizes scale the cards with the rows. 30 % of the rows are on hot cards, chosen
with Zipf's law (weight 1 / rank); the others are uniform. The rows of a file are roughly in the order of their
times: each was moved by up to a minute. Amounts are lognormal, with two decimals.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_CARD = 20_000_000 / 300_000
HOT_SHARE = 0.3
CARDS_PER_HOT_CARD = 300
DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01
CHUNK = 1_000_000


def n_cards(rows: int) -> int:
    """Cards for a number of rows; 50 at least."""
    return max(50, round(rows / ROWS_PER_CARD))


def write_events(
    folder: Path, rows: int, *, days: int = 90, files: int | None = None, seed: int = 1
) -> list[Path]:
    """Write Parquet files, one for three days by default, that share ``rows`` rows and ``days`` days evenly."""
    folder.mkdir(parents=True, exist_ok=True)
    files = files or days // 3
    edges = [round(place * rows / files) for place in range(files + 1)]
    paths = []
    for place in range(files):
        begin = START_US + place * days * DAY_US // files
        end = START_US + (place + 1) * days * DAY_US // files
        path = folder / f"part-{place:03d}.parquet"
        write_file(path, edges[place + 1] - edges[place], begin, end, n_cards(rows), seed=(seed, place))
        paths.append(path)
    return paths


def write_day(folder: Path, rows: int, *, days: int = 90, seed: int = 1) -> Path:
    """Write one more day after ``days`` days, with an average day's rows."""
    begin = START_US + days * DAY_US
    path = folder / f"day-{days + 1:03d}.parquet"
    write_file(path, rows // days, begin, begin + DAY_US, n_cards(rows), seed=(seed, 1_000 + days))
    return path


def write_file(path: Path, rows: int, begin: int, end: int, cards: int, *, seed: tuple[int, int]) -> None:
    """Write one file with times in ``[begin, end)``, chunk after chunk."""
    chance = np.random.default_rng(seed)
    n_hot = max(1, cards // CARDS_PER_HOT_CARD)
    weights = 1 / np.arange(1, n_hot + 1)
    weights /= weights.sum()
    with pq.ParquetWriter(path, schema(), compression="zstd") as writer:
        for first in range(0, rows, CHUNK):
            n = min(CHUNK, rows - first)
            low = begin + (end - begin) * first // rows
            high = begin + (end - begin) * (first + n) // rows
            times = np.sort(chance.integers(low, high, n))
            times = times[np.argsort(times + chance.integers(0, 60_000_000, n), kind="stable")]
            hot = chance.random(n) < HOT_SHARE
            # hot cards are spread over all numbers, so that no range of keys is hot
            hot_cards = chance.choice(n_hot, n, p=weights) * CARDS_PER_HOT_CARD
            columns = [
                pa.array(np.where(hot, hot_cards, chance.integers(0, cards, n)).astype(np.int64)),
                pa.array(times.astype(np.int64)).cast(pa.timestamp("us", "UTC")),
                pa.array(np.round(chance.lognormal(3.2, 1.1, n), 2)),
                pa.array(chance.integers(0, 5_000, n).astype(np.int64)),
                pa.array(np.array(["pos", "web", "atm"])[chance.integers(0, 3, n)]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema()))


def schema() -> pa.Schema:
    """Columns of the events."""
    return pa.schema(
        [
            ("card_id", pa.int64()),
            ("ts", pa.timestamp("us", "UTC")),
            ("amount", pa.float64()),
            ("merchant_id", pa.int64()),
            ("channel", pa.string()),
        ]
    )
