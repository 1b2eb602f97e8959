"""The typed spec of `sources:`: raw data and how it becomes clean rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from featureflow.spec.checks import Check, CheckEntry, expand
from featureflow.spec.column_types import ColumnType
from featureflow.spec.fields import (
    AsTuple,
    ColumnName,
    GivenScalar,
    Number,
    Scalar,
    SpecModel,
    Sql,
    Text,
    TimeZone,
    Url,
)
from featureflow.spec.formats import GRID_FORMATS, format_of

Format = Literal[
    "parquet", "csv", "json", "delta", "arrow", "zarr", "netcdf", "hdf5", "grib", "tiff", "dicom", "nifti"
]
#: dimension to a number of values
Sizes = dict[ColumnName, Annotated[int, Field(ge=1)]]
Columns = Annotated[tuple[ColumnName, ...], AsTuple(single=True, least=1)]
Tags = Annotated[tuple[Text, ...], AsTuple(single=True)]
#: the word null, which YAML reads as no value where it has no quotes
NullWord = Annotated[
    Literal["error", "null"],
    BeforeValidator(lambda given: "null" if given is None else given),
    WithJsonSchema({"enum": ["error", "null", None]}),
]


class SourceOptions(SpecModel):
    """How the files of a source are read.

    ``version`` is for ``delta``, ``group`` for ``zarr``, ``netcdf``, ``hdf5`` and ``grib``, ``engine`` for
    ``netcdf`` and ``hdf5``, ``dims`` for ``hdf5`` and ``tiff``; all others are for ``csv``.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        default=",", description="Between two values."
    )
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default='"', description="Around a value."
    )
    header: bool = Field(default=True, description="Whether the first row holds the names.")
    null_values: Annotated[tuple[str, ...], AsTuple(single=True)] = Field(
        default=("",), description="Texts that mean null."
    )
    comment: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Start of lines to leave out."
    )
    skip_rows: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Lines before the header to leave out."
    )
    encoding: Literal["utf8", "utf8-lossy"] = Field(default="utf8", description="Encoding of the text.")
    version: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Delta version; the latest if omitted."
    )
    group: Text | None = Field(
        default=None, description="Group of arrays within a file or store, such as `a/b`."
    )
    engine: Text | None = Field(
        default=None,
        description="Engine of xarray that opens the files, such as `h5netcdf`; chosen if omitted.",
    )
    dims: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] | None = Field(
        default=None,
        description="Names of the dimensions of `hdf5` and `tiff` files that have none, in order.",
    )


class Udf(SpecModel):
    """A column made by a Python function; needs ``allow_python: true``.

    The function gets one Polars Series for each of ``inputs``, then ``params`` by keyword, and returns a Series
    of the same length and of ``type``. It must be a pure function, row by row.
    """

    function: Text = Field(
        description="`module:function`, or a name of the entry point group `featureflow.udf`."
    )
    inputs: Columns = Field(description="Columns that the function gets, in order.")
    type: ColumnType = Field(description="Type of the result.")
    params: dict[str, Scalar] = Field(default_factory=dict, description="Keyword arguments.")
    version: Text | None = Field(
        default=None, description="Change it to rebuild when the code of the function changed."
    )


class Source(SpecModel):
    """Raw data and how it becomes clean rows: cast, filter, derive, deduplicate, fill, clip, mask, check."""

    description: str | None = None
    owner: str | None = None
    tags: Tags = ()
    path: Annotated[tuple[Url, ...], AsTuple(single=True, least=1)] = Field(
        description="Files, globs or folders, local or of any fsspec URL; `key=value` folders become columns."
    )
    format: Format = Field(description="From the suffix of the path when omitted.")
    options: SourceOptions = SourceOptions()
    time: ColumnName | None = Field(
        default=None,
        description="Event time; windows and look-ups need it. Of N-d data: the dimension of times.",
    )
    chunks: Sizes = Field(
        default_factory=dict,
        description="N-d data: dimension to how many values are read together; as it is stored if omitted.",
    )
    concat: ColumnName | None = Field(
        default=None,
        description="N-d data: a new dimension along which files without a coordinate are put together.",
    )
    created: ColumnName | None = Field(
        default=None, description="When the row became known (knowledge time)."
    )
    sequence: ColumnName | None = Field(default=None, description="Breaks ties of equal time.")
    timezone: TimeZone = Field(default="UTC", description="Zone of a naive time column.")
    columns: dict[ColumnName, ColumnType] = Field(
        default_factory=dict, description="Cast on read; a value that does not fit is an error."
    )
    missing_columns: NullWord = Field(
        default="error", description="A file without a column that others have: refuse it, or read null."
    )
    extra_columns: Literal["error", "ignore"] = Field(
        default="error",
        description="A file with a column that others do not have: refuse it, or leave the column out.",
    )
    where: Sql | None = Field(default=None, description="SQL; rows for which it is not true are left out.")
    derive: dict[ColumnName, Sql] = Field(default_factory=dict, description="New columns, in order.")
    udf: dict[ColumnName, Udf] = Field(
        default_factory=dict, description="Columns made by Python, after `derive`."
    )
    deduplicate: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = Field(
        default=(), description="One row per value of these: the one first known (created, sequence, time)."
    )
    fill: dict[ColumnName, GivenScalar] = Field(
        default_factory=dict, description="Values instead of missing ones."
    )
    clip: dict[ColumnName, Annotated[tuple[Number | None, Number | None], AsTuple()]] = Field(
        default_factory=dict, description="[least, greatest]; either may be null."
    )
    mask: dict[ColumnName, Literal["sha256", "drop"]] = Field(
        default_factory=dict, description="Hash (salted by ${FEATUREFLOW_SALT}), or leave the column out."
    )
    checks: Annotated[tuple[CheckEntry, ...], AsTuple()] = ()

    @model_validator(mode="before")
    @classmethod
    def _format_from_suffix(cls, given: Any) -> Any:
        if isinstance(given, dict) and "format" not in given:
            found = format_of(given.get("path"))
            return given if found is None else {**given, "format": found}
        return given

    @property
    def is_grid(self) -> bool:
        """Whether it holds N-d data."""
        return self.format in GRID_FORMATS

    @property
    def each_check(self) -> tuple[Check, ...]:
        """The checks one by one."""
        return expand(self.checks)
