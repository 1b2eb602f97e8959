"""One schema for all files: what is refused, with which words, and what a declaration allows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from featureflow.contracts.source import SourceSpec
from featureflow.core.errors import SourceError
from featureflow.library.sources.inspection import inspect_source
from featureflow.library.sources.registry import format_named, format_of


def refused(lake: Any, pattern: Any = "", **spec: Any) -> str:
    with pytest.raises(SourceError) as caught:
        lake.inspect(pattern, **spec)
    return str(caught.value)


def test_another_type_is_refused(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1]})
    second = lake.parquet("2.parquet", {"a": [2.5]})
    text = refused(lake)
    assert f"{second}: column 'a' is float64, but int64 in" in text
    assert "`columns: {a: float64}`" in text


def test_declared_widening_reads_both(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1, None]})
    lake.parquet("2.parquet", {"a": [2.5]})
    assert lake.read(columns={"a": "float64"})["a"].to_list() == [1.0, None, 2.5]


def test_missing_and_extra_columns_are_refused(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1], "b": [1]})
    lake.parquet("2.parquet", {"a": [1], "c": ["x"]})
    text = refused(lake)
    assert "column 'b' (int64) is missing" in text
    assert "column 'c' (string) is extra" in text


def test_declared_columns_must_still_be_there(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1], "b": [1]})
    lake.parquet("2.parquet", {"a": [1]})
    assert "column 'b' (int64) is missing" in refused(lake, columns={"b": "int64"})
    assert "is in no file" in refused(lake, columns={"nope": "int64"})


def test_optional_columns_are_null_where_missing(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1]})
    lake.parquet("2.parquet", {"a": [2], "late": ["x"]})
    frame = lake.read(columns={"late": "string?"})
    assert frame.rows() == [(1, None), (2, "x")]


def test_the_order_of_columns_does_not_matter(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1], "b": ["x"]})
    lake.parquet("2.parquet", {"b": ["y"], "a": [2]})
    assert lake.read().rows() == [(1, "x"), (2, "y")]


def test_all_mistakes_at_once_and_twenty_shown(lake: Any) -> None:
    lake.parquet("000.parquet", {"a": [1]})
    for i in range(1, 31):
        lake.parquet(f"{i:03}.parquet", {"a": ["x"]})
    text = refused(lake)
    assert text.count("column 'a' is string") == 20
    assert "and 10 more" in text
    assert "30 file(s)" in text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.timestamp("us", "UTC"), pa.timestamp("us", "America/New_York")),
        (pa.timestamp("us", "UTC"), pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("ns")),
    ],
)
def test_mixed_zones_are_refused_unless_declared(lake: Any, first: pa.DataType, second: pa.DataType) -> None:
    moment = [dt.datetime(2026, 1, 1)]
    lake.parquet("1.parquet", {"t": pa.array(moment, first)})
    lake.parquet("2.parquet", {"t": pa.array(moment, second)})
    assert "column 't' is timestamp" in refused(lake)
    frame = lake.read(columns={"t": "timestamp"}, time="t")
    # a value of pa.array without a zone is UTC's clock in a column with one
    assert frame["t"].to_list() == [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 2


def test_string_kinds_and_dictionaries_are_one_type(lake: Any) -> None:
    for i, kind in enumerate([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]):
        lake.parquet(f"{i}.parquet", {"s": pa.array(["a", None]).cast(kind)})
    assert lake.read()["s"].to_list() == ["a", None] * 3


def test_all_null_files(lake: Any) -> None:
    lake.parquet("1.parquet", {"s": ["a"]})
    lake.parquet("2.parquet", {"s": pa.array([None], pa.null())})
    assert "column 's' is null, but string" in refused(lake)
    assert lake.read(columns={"s": "string"})["s"].to_list() == ["a", None]


def test_damaged_files_are_named(lake: Any) -> None:
    whole = lake.parquet("1.parquet", {"a": list(range(1000))}).read_bytes()
    for name, content, words in [
        ("empty", b"", "is empty \\(0 bytes\\)"),
        ("truncated", whole[: len(whole) // 2], "can't be read as Parquet"),
        ("text", b"a,b\n1,2\n" * 100, "can't be read as Parquet"),
    ]:
        path = lake.text("2.parquet", content)
        with pytest.raises(SourceError, match=f"{path}: {words}"):
            lake.inspect()
        assert name


def test_flipped_bit_is_found(lake: Any) -> None:
    path = lake.parquet(
        "1.parquet",
        {"a": list(range(1000))},
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    reader, found = lake.reader()
    data = bytearray(path.read_bytes())
    place = data.index((500).to_bytes(8, "little"))
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=str(path)):
        reader.read(found.facts[0])


def test_a_file_that_changed_since_the_plan(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1, 2]})
    reader, found = lake.reader()
    lake.parquet("1.parquet", {"a": [1, 2, 3]})
    with pytest.raises(SourceError, match="has changed since"):
        reader.read(found.facts[0])
    Path(found.facts[0].file.path).unlink()
    with pytest.raises(SourceError, match="is gone"):
        reader.read(found.facts[0])


def test_hive_columns(lake: Any) -> None:
    lake.parquet("n=1/c=x/1.parquet", {"a": [1]})
    lake.parquet("n=2/c=007/1.parquet", {"a": [2]})
    frame = lake.read()
    assert frame.rows() == [(1, 1, "x"), (2, 2, "007")]
    assert frame.schema["n"] == pl.Int64
    assert lake.read(columns={"n": "string", "c": "string"})["n"].to_list() == ["1", "2"]
    assert lake.read(columns={"n": "float64"})["n"].to_list() == [1.0, 2.0]
    with pytest.raises(SourceError, match="folder c=x"):
        lake.read(columns={"c": "int64"})


def test_hive_dates_and_null(lake: Any) -> None:
    lake.parquet("day=2026-01-01/1.parquet", {"a": [1]})
    lake.parquet("day=__HIVE_DEFAULT_PARTITION__/1.parquet", {"a": [2]})
    frame = lake.read(columns={"day": "date"}, time="day")
    assert frame["day"].to_list() == [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None]


def test_folders_must_agree(lake: Any) -> None:
    lake.parquet("day=1/1.parquet", {"a": [1]})
    lake.parquet("2.parquet", {"a": [2]})
    assert "same key=value folders" in refused(lake)


def test_the_file_wins_over_the_folder(lake: Any) -> None:
    lake.parquet("a=1/1.parquet", {"a": [7]})
    assert lake.read().rows() == [(7,)]


def test_pinned_schema_of_the_last_build(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1]})
    spec, before = lake.inspect()
    lake.parquet("0.parquet", {"a": ["x"]})  # sorts first: without the pin it would rule
    with pytest.raises(SourceError, match=r"0\.parquet: column 'a' is string, but int64 in the last build"):
        inspect_source(spec, pinned=before.schema)


def test_facts_are_taken_from_the_cache(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.parquet("1.parquet", {"a": [1]})
    spec, before = lake.inspect()
    cached = {(f.file.path, f.file.size, f.file.version): f for f in before.facts}

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("opened a file whose facts are known")

    monkeypatch.setattr(type(format_named("parquet")), "facts", fail)
    assert inspect_source(spec, cached).facts == before.facts


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/*.parquet", "parquet"),
        ("s3://b/x.CSV.gz", "csv"),
        ("x.tsv", "csv"),
        ("x.ndjson", "json"),
        ("x.jsonl.zst", "json"),
        ("x.feather", "arrow"),
        ("folder/", None),
        ("x.xlsx", None),
    ],
)
def test_format_of(path: str, name: str | None) -> None:
    assert format_of(path) == name


def test_formats_that_are_not_known(lake: Any) -> None:
    lake.text("a.xlsx", "x")
    assert "Write `format:`" in refused(lake)
    assert "format 'exel' is not known. Known: arrow, csv, delta" in refused(lake, format="exel")
    lake.parquet("b.parquet", {"a": [1]})
    assert "found several" in refused(lake)


def test_no_such_declared_type(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1]})
    assert "columns.a: 'flaot' is not a type" in refused(lake, columns={"a": "flaot"})


def test_structs_lie_in_files_but_are_no_columns(lake: Any) -> None:
    lake.parquet("1.parquet", {"p": [{"q": 1}], "t": pa.array([dt.datetime(2026, 1, 1)], pa.timestamp("us"))})
    reader, found = lake.reader(time="t")
    assert list(reader.output_schema) == ["t"]
    assert found.facts[0].groups[0].min_time == 1_767_225_600_000_000


def test_folder_of_no_files_and_source_spec_is_plain(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file is there"):
        inspect_source(SourceSpec("raw", (str(tmp_path),)))
