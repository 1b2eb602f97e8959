"""What a format of training shards must implement.

A shard is a few thousand to a million rows in the layout of one reader's library. A format turns an Arrow table into
the bytes of one shard, and back; it knows no other shard, no Dask and no file system, so that one call is one task.
What one shard can't know (the index over all of them) is made at the end from what every call reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

#: Anything with the buffer protocol. A shard is given as a list of them, so that nothing is copied to be joined.
Buffer = Any


@dataclass(frozen=True, slots=True)
class ShardOptions:
    """How shards of one export are written.

    Parameters
    ----------
    compression
        ``none``, ``zstd``, ``lz4``, ``gzip``; a format refuses those that its readers do not know.
    rows_per_record
        Rows in one record of a record format (webdataset, mds, tfrecord, litdata): 1 is what their users know;
        more makes columns of shape (n, …) and their readers 10 to 190 times faster.
    block_rows
        Rows in one record batch (arrow) or row group (parquet), the unit that loaders interleave.
    """

    compression: str = "none"
    rows_per_record: int = 1
    block_rows: int = 16_384


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """Which shard it is.

    Parameters
    ----------
    stem
        Path without suffix inside the export, with ``/``: ``train/part-00003-of-00032``.
    number, count
        Its number within the split, from 0, and how many the split has.
    first_row
        Position of its first row within the split.
    split_rows
        Rows of the whole split.
    """

    stem: str
    number: int
    count: int
    first_row: int
    split_rows: int

    @property
    def split(self) -> str:
        """The folder: the split's name."""
        return self.stem.rpartition("/")[0]


@dataclass(slots=True)
class Encoded:
    """One encoded shard.

    Parameters
    ----------
    files
        Path inside the export (``train/part-00003-of-00032.tar``) to its bytes, as a list of buffers; the first is
        the shard, others (a ``.idx``) belong to it.
    entry
        Plain JSON values that the format's index needs about this shard; kept in the manifest.
    """

    files: dict[str, list[Buffer]]
    entry: dict[str, Any] = field(default_factory=dict)


class ShardFormat(Protocol):
    """A format of shards, by the name that a spec gives it."""

    name: str
    #: of the shard's main file, with the dot
    suffix: str
    compressions: tuple[str, ...]
    #: whether `rows_per_record` above 1 means something
    records: bool
    #: whether all shards of a split but the last must have the same number of rows, ``ceil(split_rows / count)``;
    #: the exporter then cuts the order by rank, not by ranges of hashes
    equal_shards: bool

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Raise `ComputeError` naming the column and what to do, if the format can't hold such a table."""

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Encode one shard; the same table gives the same bytes, always."""

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """Make the split's own index files of the format: path inside the export to bytes; often none.

        ``entries`` are those that `encode` gave, in shard order; the size in bytes of every file is in each under
        ``"bytes"`` by then, and its hash under ``"xxh3_64"`` (hexadecimal).
        """

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read a shard back: the files of `encode` to the table it was given, with ``schema``."""
