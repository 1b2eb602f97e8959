"""Shards as Arrow IPC files: read without decoding, the fastest for featureflow's own loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from featureflow.contracts.shard_format import Buffer, Encoded, ShardOptions, ShardPlace
from featureflow.core.errors import CorruptionError
from featureflow.library.shards.checks import check_columns, check_compression
from featureflow.library.shards.pieces import Pieces
from featureflow.library.shards.plain import bare_schema, plain_table


class Arrow:
    """One IPC file for each shard, in record batches of ``block_rows``; N-d values are nested fixed-size lists.

    Extension types such as Arrow's own tensors are left out on purpose: readers that do not know them refuse the file.
    Compression, if any, is of each buffer, as the Arrow standard defines it.
    """

    name = "arrow"
    suffix = ".arrow"
    compressions = ("none", "lz4", "zstd")
    records = False
    equal_shards = False

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Refuse decimals, dictionaries, structs, maps and unknown compressions."""
        check_compression(self.name, self.compressions, options)
        check_columns(schema, format_name=self.name, lists=True)

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Write the IPC file; uncompressed, its buffers are those of the table, not copied."""
        plain = plain_table(table, bare_schema(table.schema))
        sink = Pieces()
        compression = None if options.compression == "none" else options.compression
        # level 1 is Arrow's default for zstd; tasks have threads enough
        how = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
        with pa.ipc.new_file(sink, plain.schema, options=how) as writer:
            writer.write_table(plain, max_chunksize=options.block_rows)
        return Encoded({f"{place.stem}{self.suffix}": sink.buffers})

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """None: each file says all about itself."""
        return {}

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read the file; uncompressed, the columns are views of it."""
        path = f"{place.stem}{self.suffix}"
        try:
            read = pa.ipc.open_file(pa.py_buffer(files[path])).read_all()
            return pa.Table.from_arrays([read.column(field.name) for field in schema], schema=schema)
        except (pa.ArrowException, KeyError, OSError, TypeError) as error:
            raise CorruptionError(
                f"{path} is not the Arrow file that was exported: {error}. Export again."
            ) from error


FORMAT = Arrow()
