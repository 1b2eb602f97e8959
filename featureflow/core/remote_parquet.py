"""Parquet files of a remote store: the footer by one request, then only the column chunks that are needed.

Row groups are read in windows: while one is decoded, the next is on its way. So memory is what was decoded plus two
windows, however large the file is.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Self

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from featureflow.core.meter import spent
from featureflow.core.remote import Fetch, Range, RangedFile, begin_fetch, fetch_ranges, fetch_tail

#: Footers of most files are smaller; a larger one is a second request.
TAIL_BYTES = 64 << 10
#: Compressed bytes that are fetched before they are decoded.
WINDOW_BYTES = 32 << 20
_PYTHON_OBJECT_READS = ds.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=False)
_FORMAT = ds.ParquetFileFormat(default_fragment_scan_options=_PYTHON_OBJECT_READS)


class RemoteParquet:
    """A remote Parquet file whose footer is known.

    Parameters
    ----------
    url, version, size
        Of the file.
    tail
        Its last bytes, with the whole footer.

    """

    def __init__(self, url: str, version: str, size: int, tail: bytes) -> None:
        self.url, self.version, self.size, self.tail = url, version, size, tail

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open."""

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """The parsed footer; ArrowInvalid if it is none."""
        return pq.read_metadata(pa.BufferReader(self.tail))

    @property
    def names(self) -> list[str]:
        """All columns."""
        return list(self.metadata.schema.to_arrow_schema().names)

    def read(
        self, columns: Sequence[str], groups: Sequence[int] | None = None, *, use_threads: bool = True
    ) -> pa.Table:
        """Read columns (those that are there) of row groups, in order; page checksums are verified."""
        file = self._file()
        parquet = pq.ParquetFile(
            pa.PythonFile(file, mode="r"),
            metadata=self.metadata,
            page_checksum_verification=True,
            pre_buffer=False,
        )
        there = [name for name in columns if name in parquet.schema_arrow.names]
        wanted = range(parquet.num_row_groups) if groups is None else groups
        parts = []
        for window in self._windows(file, there, wanted):
            with spent("decode"):
                parts.append(parquet.read_row_groups(window, columns=there, use_threads=use_threads))
        return pa.concat_tables(parts) if parts else parquet.read_row_groups([], columns=there)

    def scan(
        self,
        schema: pa.Schema,
        columns: Sequence[str],
        where: ds.Expression | None,
        where_columns: Sequence[str],
    ) -> pa.Table:
        """Read the rows of a condition; row groups whose statistics rule it out are not asked for."""
        file = self._file()
        fragment = _FORMAT.make_fragment(pa.PythonFile(file, mode="r"))
        chosen = fragment.subset(where, schema=schema) if where is not None else fragment
        wanted = [group.id for group in chosen.row_groups]
        parts = [schema.empty_table().select(list(columns))]
        for window in self._windows(file, [*columns, *where_columns], wanted):
            with spent("decode"):
                part = fragment.subset(row_group_ids=window)
                parts.append(
                    part.to_table(schema=schema, columns=list(columns), filter=where, use_threads=False)
                )
        return pa.concat_tables(parts)

    def _file(self) -> RangedFile:
        return RangedFile(self.url, self.version, self.size, self.tail)

    def _windows(
        self, file: RangedFile, columns: Collection[str], groups: Sequence[int]
    ) -> Iterator[list[int]]:
        """Runs of row groups whose chunks ``file`` holds while a run is looked at."""
        runs = list(self._runs(set(columns), groups))
        ahead: Fetch | None = None
        try:
            for place, (window, ranges) in enumerate(runs):
                fetch = ahead or self._begin(file, ranges)
                got = fetch.result()
                ahead = self._begin(file, runs[place + 1][1]) if place + 1 < len(runs) else None
                for (start, _), data in zip(file.missing(ranges), got, strict=True):
                    file.hold(start, data)
                yield window
                file.release()
        finally:
            if ahead is not None:
                ahead.cancel()

    def _begin(self, file: RangedFile, ranges: list[Range]) -> Fetch:
        return begin_fetch(self.url, self.version, file.missing(ranges))

    def _runs(self, columns: set[str], groups: Sequence[int]) -> Iterator[tuple[list[int], list[Range]]]:
        window: list[int] = []
        ranges: list[Range] = []
        size = 0
        leaves = self._leaves(columns)
        for group in groups:
            chunks = self._chunks(group, leaves)
            more = sum(stop - start for start, stop in chunks)
            if window and size + more > WINDOW_BYTES:
                yield window, ranges
                window, ranges, size = [], [], 0
            window.append(group)
            ranges += chunks
            size += more
        if window:
            yield window, ranges

    def _leaves(self, columns: set[str]) -> list[int]:
        """Positions of the stored columns; a nested one has several."""
        paths = (self.metadata.schema.column(i).path for i in range(self.metadata.num_columns))
        return [i for i, path in enumerate(paths) if path in columns or path.partition(".")[0] in columns]

    def _chunks(self, group: int, leaves: Sequence[int]) -> list[Range]:
        """Where the chunks of some stored columns lie."""
        part = self.metadata.row_group(group)
        found = []
        for i in leaves:
            chunk = part.column(i)
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            found.append((start, start + chunk.total_compressed_size))
        return found


def open_listed(url: str, version: str, size: int) -> RemoteParquet:
    """Open a file of a source, as it was listed; the footers of the last files are kept.

    Raises
    ------
    SourceError, FileNotFoundError, Unreachable
        As of :func:`featureflow.core.remote.fetch_ranges`.
    """
    if version.startswith("etag:"):
        return _kept(url, version, size)
    return _open(url, version, size)


def _open(url: str, version: str, size: int) -> RemoteParquet:
    tail = fetch_ranges(url, version, [(max(0, size - TAIL_BYTES), size)])[0]
    return RemoteParquet(url, version, size, _whole_footer(url, version, size, tail))


_kept = lru_cache(maxsize=64)(_open)


def open_stored(url: str) -> RemoteParquet:
    """Open a file that nobody has listed; its version is the one of the footer that is read now."""
    tail = fetch_tail(url, TAIL_BYTES)
    return RemoteParquet(url, tail.version, tail.size, _whole_footer(url, tail.version, tail.size, tail.data))


def _whole_footer(url: str, version: str, size: int, tail: bytes) -> bytes:
    """The tail with the whole footer; what is none is for Arrow to refuse."""
    length = struct.unpack("<I", tail[-8:-4])[0] + 8 if len(tail) >= 8 and tail[-4:] == b"PAR1" else 0
    if length <= len(tail) or length > size:
        return tail
    return fetch_ranges(url, version, [(size - length, size)])[0]
