"""CSV and TSV files: read as text, then parsed into declared or pinned types by the same rules as every cast.

What readers usually guess, and what happens here: an empty field is null, ``""`` is an empty string, and ``NA`` or
``null`` are text like any other; ``00123`` and numbers beyond 64 bits stay strings; a row with too few or too many
fields, bytes that are not UTF-8 and a repeated column name are errors that name the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from featureflow.contracts.source import FileFacts, TimeColumn
from featureflow.core.errors import SourceError
from featureflow.core.raw_files import RawFile
from featureflow.library.sources.casts import MisfitError, cast
from featureflow.library.sources.files import group_of, misfit, open_stream, reading

#: In the order of trial: the first that every value fits is the column's type
_SHAPES = (
    ("int64", r"^-?(?:0|[1-9]\d*)$"),
    ("float64", r"^-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$"),
    ("bool", r"^(?i:true|false)$"),
    ("date", r"^\d{4}-\d{2}-\d{2}$"),
    ("timestamp", r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?$"),
)


@dataclass(frozen=True)
class Csv:
    """Comma separated values with a header; ``.tsv`` has tabs. Compressed files are recognised by their suffix.

    Parameters
    ----------
    delimiter
        Between two values; None: by the suffix.
    quote
        Around a value; None: quotes are characters like others.
    header
        Whether the first row holds the names; otherwise they are ``column_1``, ``column_2``, …
    null_values
        Texts that mean null where they are not quoted.
    comment
        Lines that begin with it are left out, also inside of quotes.
    skip_rows
        So many lines at the beginning are left out, before comments are.
    encoding
        ``utf8``, or ``utf8-lossy``: bytes that are none become U+FFFD.
    """

    delimiter: str | None = None
    quote: str | None = '"'
    header: bool = True
    null_values: tuple[str, ...] = ("",)
    comment: str | None = None
    skip_rows: int = 0
    encoding: str = "utf8"
    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    typed: ClassVar[bool] = False

    def facts(
        self,
        file: RawFile,
        *,
        time: TimeColumn | None,
        declared: Mapping[str, str],
        pinned: Mapping[str, str] | None,
        timezone: str,
    ) -> FileFacts:
        """Parse the whole file once."""
        table = self._read_text(file, None)
        frame = {name: pl.Series(name, table.column(name)) for name in table.column_names}
        return text_facts(file, frame, table.num_rows, time, declared, pinned, timezone)

    def read(
        self,
        file: RawFile,
        *,
        columns: Sequence[str],
        groups: Sequence[int] | None,
        stored: Mapping[str, str],
    ) -> pa.Table:
        """Read as text; the caller casts."""
        del groups, stored  # one group, and text is all the types there are
        return self._read_text(file, columns)

    def _names(self, file: RawFile) -> list[str]:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL
        with io.TextIOWrapper(self._open(file), encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text, delimiter=self._delimiter(file), quotechar=self.quote, quoting=quoting)
            names = next(rows, [])
        if not names:
            raise ValueError("the file has no header line" if self.header else "the file has no row")
        if not self.header:
            return [f"column_{place}" for place in range(1, len(names) + 1)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or "" in names:
            what = f"column names {twice} stand twice" if twice else "a column has no name"
            raise SourceError(f"{file.path}: {what} in the header. Repair the file.")
        return names

    def _delimiter(self, file: RawFile) -> str:
        return self.delimiter or ("\t" if ".tsv" in file.path.rpartition("/")[2] else ",")

    def _open(self, file: RawFile) -> pa.NativeFile:
        if self.comment is None and not self.skip_rows and self.encoding == "utf8":
            return open_stream(file)
        with open_stream(file) as stream:
            data = stream.read()
        text = data.decode("utf-8-sig", errors="strict" if self.encoding == "utf8" else "replace")
        lines = text.split("\n")[self.skip_rows :]
        if self.comment is not None:
            lines = [line for line in lines if not line.startswith(self.comment)]
        return pa.BufferReader("\n".join(lines).encode())

    def _read_text(self, file: RawFile, columns: Sequence[str] | None) -> pa.Table:
        with reading(file, "CSV"):
            names = self._names(file)
            wanted = names if columns is None else [name for name in columns if name in names]
            convert = pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=list(self.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                include_columns=wanted,
            )
            parse = pacsv.ParseOptions(
                delimiter=self._delimiter(file), quote_char=self.quote or False, newlines_in_values=True
            )
            read = pacsv.ReadOptions(column_names=None if self.header else names)
            with self._open(file) as stream:
                return pacsv.read_csv(stream, read_options=read, parse_options=parse, convert_options=convert)


def text_facts(
    file: RawFile,
    frame: Mapping[str, pl.Series],
    rows: int,
    time: TimeColumn | None,
    declared: Mapping[str, str],
    pinned: Mapping[str, str] | None,
    timezone: str,
) -> FileFacts:
    """Facts of a file that was parsed into text (or JSON's types): its types, and whether its values fit them.

    A column that does not fit its pinned type is reported with the type that it would have alone, so that the
    check of all schemas can name both.
    """
    fields = []
    for name, series in frame.items():
        wanted = declared.get(name, (pinned or {}).get(name))
        if name in declared or (wanted is not None and series.dtype != pl.Null):
            fields.append(
                (name, _fitting_type(file, series, str(wanted), timezone, declared=name in declared))
            )
        else:
            fields.append((name, wanted or infer(series)))
    if pinned is None and rows == 0 and any(name not in declared for name in frame):
        raise SourceError(
            f"{file.path}: is the first file and has no rows, so there is nothing to take types from. "
            "Declare `columns:` of the source."
        )
    column = None
    if time is not None and time.name in frame:
        column = frame[time.name].to_arrow()
        kind = dict(fields)[time.name]
        time = TimeColumn(
            time.name, time.declared or ("timestamp" if kind in ("date", "timestamp") else None), timezone
        )
    group = group_of(file, column, time, index=0, first_row=0, size=file.size, rows=rows)
    return FileFacts(file, tuple(fields), rows, (group,))


def _fitting_type(file: RawFile, series: pl.Series, wanted: str, timezone: str, *, declared: bool) -> str:
    stored = "string" if series.dtype == pl.String else infer(series)
    try:
        cast(series, wanted, timezone)
    except MisfitError as error:
        if declared:
            raise misfit(file, series.name, error, 0) from None
        return infer(series)
    return stored if declared else wanted


def infer(series: pl.Series) -> str:
    """Type that a column of text has if nobody says: the narrowest that keeps every character's meaning.

    ``00123``, ``+5``, numbers beyond 64 bits and integers beyond 2^53 among floats stay ``string``.
    """
    if series.dtype != pl.String:
        from featureflow.core.types import to_arrow, type_name

        return "string" if series.dtype == pl.Null else type_name(to_arrow(series.dtype))
    values = series.drop_nulls()
    if values.is_empty():
        return "string"
    for kind, shape in _SHAPES:
        if values.str.contains(shape).all():
            return kind if _keeps(values, kind) else "string"
    return "string"


def _keeps(values: pl.Series, kind: str) -> bool:
    """Whether the shape is enough: numbers must also fit, dates must exist."""
    if kind == "float64":
        longest = values.filter(~values.str.contains(r"[.eE]")).str.len_chars().max()
        return longest is None or int(longest) <= 15  # type: ignore[arg-type]
    try:
        cast(values, kind, "UTC")
    except MisfitError:
        return False
    return True
