"""Opening a source's files with Arrow, and saying which file it was when one is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa

from featureflow.contracts.source import Group, TimeColumn
from featureflow.core.errors import SourceError, Unreachable
from featureflow.core.raw_files import RawFile
from featureflow.core.remote import fetch_ranges
from featureflow.core.storage import is_local
from featureflow.library.sources.casts import MisfitError, cast


def open_file(file: RawFile) -> pa.NativeFile:
    """Open for random access; a remote file is fetched as a whole, in several requests at a time."""
    if is_local(file.path):
        return pa.OSFile(file.path, "rb")
    return pa.BufferReader(fetch_ranges(file.path, file.version, [(0, file.size)])[0])


def open_stream(file: RawFile) -> pa.NativeFile:
    """Open for reading once, decompressed by the suffix (``.gz``, ``.zst``, ``.bz2``, ``.lz4``)."""
    codec = pa.Codec.detect(file.path).name if file.path.endswith((".gz", ".zst", ".bz2", ".lz4")) else None
    raw = open_file(file)
    return pa.CompressedInputStream(raw, codec) if codec else raw


@contextmanager
def reading(file: RawFile, format_name: str) -> Iterator[None]:
    """Name the file in every error of what happens inside.

    Raises
    ------
    SourceError
        For a missing or damaged file, and for one of another format.
    Unreachable
        If the store stops answering.
    """
    try:
        yield
    except (SourceError, Unreachable):
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{file.path}: is gone; it was there when the files were listed.") from error
    except PermissionError as error:
        raise SourceError(f"{file.path}: permission denied.") from error
    except (pa.ArrowException, ValueError, KeyError, NotImplementedError, EOFError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        what = "is empty (0 bytes)" if file.size == 0 else f"can't be read as {format_name}: {said}"
        raise SourceError(f"{file.path}: {what}. Repair or remove the file.") from error
    except OSError as error:
        if is_local(file.path):
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise SourceError(
                f"{file.path}: can't be read as {format_name}: {said}. Repair or remove the file."
            ) from error
        raise Unreachable(f"{file.path}: {error}") from error


def misfit(file: RawFile, column: str, error: MisfitError, first_row: int) -> SourceError:
    """Say which value of which file does not fit."""
    row = first_row + error.position + 1
    return SourceError(f"{file.path}: column {column!r}, row {row}: {error.value!r} {error.reason}.")


def group_of(
    file: RawFile,
    column: pa.ChunkedArray | pa.Array | None,
    time: TimeColumn | None,
    *,
    index: int,
    first_row: int,
    size: int,
    rows: int,
) -> Group:
    """Describe a group by reading its time column; ``column`` is None where the file has none."""
    if column is None or time is None:
        return Group(index, rows, size)
    if not pa.types.is_primitive(column.type):
        column.validate(full=True)  # Polars crashes on text that is not UTF-8
    series = pl.Series(time.name, column)
    try:
        instants = as_instants(series, time)
    except MisfitError as error:
        raise misfit(file, time.name, error, first_row) from None
    if instants is None:
        return Group(index, rows, size)
    numbers = instants.cast(pl.Int64)
    low, high = numbers.min(), numbers.max()
    if low is None or high is None:
        return Group(index, rows, size, null_times=rows)
    return Group(index, rows, size, int(low), int(high), numbers.null_count())  # type: ignore[arg-type]


def as_instants(series: pl.Series, time: TimeColumn) -> pl.Series | None:
    """Times of a column as instants; None if it can't hold times, which the check of all schemas reports."""
    declared = time.declared
    if declared is None:
        is_time = series.dtype == pl.Date or isinstance(series.dtype, pl.Datetime)
        return cast(series, "timestamp", time.timezone) if is_time else None
    if declared == "date":
        return cast(cast(series, "date", time.timezone), "timestamp", time.timezone)
    return cast(series, declared, time.timezone) if declared.startswith("timestamp") else None
