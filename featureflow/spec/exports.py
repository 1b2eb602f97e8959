"""The typed spec of `export:`: training-ready shards of a dataset."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from featureflow.core.sizes import parse_bytes
from featureflow.spec.fields import AsTuple, ColumnName, Scalar, Shorthand, SpecModel, Url
from featureflow.spec.sources import Columns

ShardFormatName = Literal["arrow", "parquet", "webdataset", "mds", "tfrecord", "npy", "zarr", "litdata"]
#: what the readers of each format can read; webdataset's are files of their own: .tar.gz, .tar.zst
COMPRESSIONS: dict[str, tuple[str, ...]] = {
    "arrow": ("none", "lz4", "zstd"),
    "parquet": ("none", "zstd", "lz4"),
    "webdataset": ("none", "gzip", "zstd"),
    "mds": ("none", "zstd", "gzip"),
    "tfrecord": ("none", "gzip"),
    "npy": ("none",),
    "zarr": ("none", "zstd"),
    "litdata": ("none", "zstd"),
}
#: formats of records; the others are of columns
RECORD_FORMATS = ("webdataset", "mds", "tfrecord", "litdata")
SIZE_PATTERN = r"^\d+(\.\d+)?\s*([kKMGT]i?)?B$"


def parse_size(given: Any) -> int:
    """Read an amount of bytes.

    Raises
    ------
    ValueError
        If it is none, or less than one byte.

    Examples
    --------
    >>> parse_size("256MB"), parse_size("64MiB"), parse_size(1000)
    (256000000, 67108864, 1000)
    """
    written = isinstance(given, str) and re.fullmatch(SIZE_PATTERN, given.strip())
    if not written and (isinstance(given, bool) or not isinstance(given, int)):
        raise ValueError(f"must be a number of bytes such as 256MB or 64MiB; got {given!r}.")
    with suppress(ValueError):  # less than one byte
        size = parse_bytes(given)
        if size <= 2**40:
            return size
    raise ValueError(f"must be from 1 byte to 1TiB; got {given!r}.")


class Shuffle(SpecModel):
    """A global shuffle, the same for any partitioning."""

    seed: int = 0


class Normalize(SpecModel):
    """Scaling of the shards' features by train statistics."""

    method: Literal["standard", "minmax"] = "standard"
    apply: Literal["loader", "bake"] = Field(
        default="loader", description="By whoever loads (raw values stay in the shards), or in the shards."
    )
    columns: Columns | None = Field(default=None, description="Which features; all floating ones if omitted.")


def _shuffle(given: Any) -> Any:
    if isinstance(given, bool):
        return {} if given else None
    return given


def _normalize(given: Any) -> Any:
    return {"method": given} if isinstance(given, str) else given


class Export(SpecModel):
    """Training-ready shards of a dataset."""

    format: ShardFormatName = "arrow"
    path: Url | None = Field(
        default=None,
        description="Folder or URL; shards go to <path>/<dataset>/<version>. The store's exports/ if omitted.",
    )
    shard_size: Annotated[
        int,
        PlainValidator(parse_size),
        WithJsonSchema(
            {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 1}]}
        ),
    ] = Field(default=64_000_000, description="Bytes of a shard before compression, such as 256MB.")
    rows_per_record: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=1, description="Rows in one record of webdataset, mds, tfrecord and litdata."
    )
    shuffle: Annotated[Shuffle | None, Shorthand(_shuffle, {"type": "boolean"})] = Field(
        default=Shuffle(), description="`{seed: 7}`, or false for the spine's order."
    )
    compression: Literal["none", "zstd", "lz4", "gzip"] = "none"
    layout: Literal["columns", "matrix"] = Field(
        default="columns",
        description="matrix: all numeric features in one column `x`, which loads 3 times faster.",
    )
    float_: Literal["float32", "float64", "keep"] = Field(
        default="float32", alias="float", description="Type of floating columns."
    )
    nulls: Literal["error", "nan"] = Field(default="error", description="nan: for floating columns.")
    fill: dict[ColumnName, Scalar] = Field(default_factory=dict, description="Values instead of nulls.")
    indicator: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = Field(
        default=(), description="Columns that get a second one, <column>_missing."
    )
    normalize: Annotated[Normalize | None, Shorthand(_normalize, {"enum": ["standard", "minmax"]})] = Field(
        default=None, description="standard or minmax; or a mapping with more."
    )
    keys: bool = Field(default=True, description="Whether keys and time are in the shards.")
