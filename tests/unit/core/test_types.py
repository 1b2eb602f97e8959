"""Type names, and the types that a stored table has."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from featureflow.core.types import parse_type, storage_type, to_arrow, to_polars, type_name

NAMES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "string",
    "binary", "date", "timestamp", "timestamp[ns]", "timestamp[ms, Europe/Berlin]", "time", "duration", "null",
    "decimal(10,2)", "list<string>", "list<list<int8>>",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_go_both_ways(name: str) -> None:
    arrow = parse_type(name)
    assert type_name(arrow) == name
    assert type_name(to_arrow(to_polars(arrow))) == name


@pytest.mark.parametrize(
    ("alias", "name"), [("int", "int64"), ("double", "float64"), ("text", "string"), (" Boolean ", "bool")]
)
def test_aliases(alias: str, name: str) -> None:
    assert type_name(parse_type(alias)) == name


@pytest.mark.parametrize(
    "name", ["", "flaot64", "decimal(40,2)", "decimal(2,4)", "list<x>", "int65", "timestamp[m]"]
)
def test_no_type(name: str) -> None:
    with pytest.raises(ValueError, match=r"not a type|1 to 38 digits"):
        parse_type(name)


@pytest.mark.parametrize(
    "arrow", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string()), pa.string()]
)
def test_strings_are_one_type(arrow: pa.DataType) -> None:
    assert type_name(arrow) == "string"
    assert to_polars(arrow) == pl.String
    assert storage_type(arrow) == pa.string()


@pytest.mark.parametrize(
    ("arrow", "stored"),
    [
        (pa.uint8(), pa.int16()),
        (pa.uint32(), pa.int64()),
        (pa.uint64(), pa.int64()),
        (pa.float16(), pa.float32()),
        (pa.timestamp("ns"), pa.timestamp("us", "UTC")),
        (pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
        (pa.date64(), pa.date32()),
        (pa.large_list(pa.large_string()), pa.list_(pa.string())),
        (pa.map_(pa.large_string(), pa.uint32()), pa.map_(pa.string(), pa.int64())),
    ],
)
def test_storage_types(arrow: pa.DataType, stored: pa.DataType) -> None:
    assert storage_type(arrow) == stored


@pytest.mark.parametrize(
    ("arrow", "hint"), [(pa.duration("us"), "epoch"), (pa.time64("us"), "hour"), (pa.null(), "cast")]
)
def test_types_that_no_table_has(arrow: pa.DataType, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        storage_type(arrow)
