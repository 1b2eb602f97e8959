"""Where rows come from, whatever the format: tables of Arrow, one for each shard of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from featureflow.contracts.shard_manifest import ShardColumn


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """A split: rows of each shard, and about how many bytes a row has."""

    shard_rows: tuple[int, ...]
    row_bytes: float


class Source(Protocol):
    """Shards to read.

    Notes
    -----
    Threads: `table` is called by two threads at most, for different shards or the same.
    """

    name: str
    #: rows lie in memory: the shuffle is one permutation of all
    in_memory: bool
    columns: tuple[ShardColumn, ...]
    schema: pa.Schema
    splits: dict[str, SplitInfo]
    normalization: dict[str, dict[str, float]]

    @property
    def identity(self) -> str:
        """Text that differs if the rows or their order do."""

    def table(self, split: str, shard: int, columns: Sequence[str]) -> pa.Table:
        """Read a shard; at least these columns, in any order.

        Raises
        ------
        CorruptionError
            If its bytes are not what was written; names the shard.
        """

    def fetch_ahead(self, split: str, shards: Sequence[int]) -> None:
        """Say which shards come next, soonest first; where they are far away, they are fetched meanwhile."""
