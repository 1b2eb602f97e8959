"""Which Parquet encoding and codec each column gets, from a sample of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

SAMPLE_ROWS: Final = 20_000
DICTIONARY_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class Encoding:
    """Options of the Parquet writer for one file."""

    dictionary: list[str] = field(default_factory=list)
    compression: str | dict[str, str] = "zstd"
    levels: int | dict[str, int] | None = 1
    column_encoding: dict[str, str] = field(default_factory=dict)
    page_bytes: int = 1 << 20


def choose_encoding(table: pa.Table) -> Encoding:
    """Dictionary where a sample repeats itself, plain elsewhere; zstd 1 throughout.

    Notes
    -----
    Determinism: the sample is the table's first rows, so the choice depends on the rows only.
    """
    return Encoding(dictionary=[name for name in table.schema.names if _repeats(table.column(name))])


def _repeats(column: pa.ChunkedArray) -> bool:
    if pa.types.is_nested(column.type) or pa.types.is_boolean(column.type):
        return False
    sample = column.slice(0, SAMPLE_ROWS)
    return len(sample) > 0 and pc.count_distinct(sample, mode="all").as_py() <= DICTIONARY_SHARE * len(sample)
