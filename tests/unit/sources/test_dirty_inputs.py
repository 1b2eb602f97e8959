"""What readers get wrong by default, file by file: each has one declared outcome, and none is silent."""

from __future__ import annotations

import datetime as dt
import gzip
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from featureflow.core.errors import SourceError

UTC = dt.UTC


def refused(lake: Any, pattern: Any = "", **spec: Any) -> str:
    with pytest.raises(SourceError) as caught:
        lake.read(pattern, **spec)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def types(lake: Any, content: str, name: str = "a.csv") -> dict[str, pl.DataType]:
    lake.text(name, content)
    return dict(lake.read(name).schema)


# ---------------------------------------------------------------- CSV


def test_csv_inference_is_conservative(lake: Any) -> None:
    content = (
        "id,n,f,b,d,t,z,big,plus,mix,lead,empty,day\n"
        "00123,1,1.5,true,2026-01-31,2026-01-31 10:00,2026-01-31T10:00:00Z,9223372036854775808,+5,1,007.5,,2026-02-30\n"
        "00456,-2,1e3,FALSE,2026-02-01,2026-02-01T00:00:01,2026-01-31T10:00:00+02:00,1,6,x,1.5,,2026-01-01\n"
    )
    assert types(lake, content) == {
        "id": pl.String,  # an int would lose the zeros
        "n": pl.Int64,
        "f": pl.Float64,
        "b": pl.Boolean,
        "d": pl.Date,
        "t": pl.Datetime("us", "UTC"),
        "z": pl.Datetime("us", "UTC"),
        "big": pl.String,  # a float64 would lose digits
        "plus": pl.String,
        "mix": pl.String,
        "lead": pl.String,
        "empty": pl.String,
        "day": pl.String,  # looks like dates, but one does not exist
    }


def test_csv_big_integers_among_floats_stay_text(lake: Any) -> None:
    assert types(lake, "a\n9007199254740993\n1.5\n")["a"] == pl.String
    assert types(lake, "a\n9007199254740993\n\n")["a"] == pl.Int64


def test_csv_nulls_and_texts(lake: Any) -> None:
    lake.text("a.csv", 'name,x\nNA,1\nnull,\n"",3\n,4\nNaN,5\n')
    frame = lake.read()
    assert frame["name"].to_list() == ["NA", "null", "", None, "NaN"]
    assert frame["x"].to_list() == [1, None, 3, 4, 5]


def test_csv_words_for_missing_are_errors_in_numbers(lake: Any) -> None:
    path = lake.text("a.csv", "x\n1\nNA\n")
    assert (
        refused(lake, columns={"x": "float64"})
        == f"{path}: column 'x', row 2: 'NA' does not fit into float64."
    )


def test_csv_nan_is_null_and_infinity_a_value(lake: Any) -> None:
    lake.text("a.csv", "x\nnan\ninf\n-inf\n1\n")
    assert lake.read(columns={"x": "float64"})["x"].to_list() == [None, float("inf"), float("-inf"), 1.0]


@pytest.mark.parametrize("row", ["1\n", "1,2,3\n", '"1,2\n'])
def test_csv_ragged_rows_are_refused(lake: Any, row: str) -> None:
    path = lake.text("a.csv", "a,b\n1,2\n" + row)
    assert refused(lake).startswith(f"{path}: can't be read as CSV")


def test_csv_latin_1_is_refused(lake: Any) -> None:
    path = lake.text("a.csv", "name\nJosé\n".encode("latin-1"))
    assert refused(lake).startswith(f"{path}: can't be read as CSV")


def test_csv_names(lake: Any) -> None:
    lake.text("a.csv", "a,a\n1,2\n")
    assert "stand twice" in refused(lake)
    lake.text("a.csv", "a,\n1,2\n")
    assert "has no name" in refused(lake)


def test_csv_empty_files(lake: Any) -> None:
    lake.text("a.csv", "")
    assert "is empty (0 bytes)" in refused(lake)
    lake.text("a.csv", "a,b\n")
    assert "Declare `columns:`" in refused(lake)
    assert lake.read(columns={"a": "int64", "b": "string"}).height == 0
    lake.text("0.csv", "a,b\n1,x\n")
    assert lake.read().rows() == [(1, "x")]


def test_csv_text_with_newlines_quotes_and_byte_order_mark(lake: Any) -> None:
    lake.text("a.csv", '\ufeffa,b\n"line 1\nline 2, more","say ""hi"""\n')
    assert lake.read().rows() == [("line 1\nline 2, more", 'say "hi"')]
    assert lake.read().columns == ["a", "b"]


def test_csv_newlines_in_text_across_blocks(lake: Any) -> None:
    field = "line\n" * 50
    lake.text("a.csv", "a,b\n" + f'"{field}",1\n' * 10_000)  # 2.5 MB: several blocks of Arrow's reader
    frame = lake.read()
    assert frame["a"].unique().to_list() == [field]
    assert frame["b"].sum() == 10_000


def test_csv_windows_line_ends_gzip_and_tabs(lake: Any) -> None:
    lake.text("a.csv.gz", gzip.compress(b"a,b\r\n1,x\r\n2,y\r\n"))
    assert lake.read("a.csv.gz").rows() == [(1, "x"), (2, "y")]
    lake.text("b.tsv", "a\tb\n1\tx,y\n")
    assert lake.read("b.tsv").rows() == [(1, "x,y")]


def test_csv_types_are_pinned_by_the_first_file(lake: Any) -> None:
    lake.text("1.csv", "a,b\n1,2.5\n")
    lake.text("2.csv", "b,a\n3,4\n")  # ints are floats too, where floats are pinned
    assert lake.read().rows() == [(1, 2.5), (4, 3.0)]
    third = lake.text("3.csv", "a,b\n1.5,x\n")
    text = refused(lake)
    assert f"{third}: column 'a' is float64, but int64 in" in text
    assert f"{third}: column 'b' is string, but float64 in" in text


def test_csv_extra_and_missing_columns(lake: Any) -> None:
    lake.text("1.csv", "a,b\n1,2\n")
    lake.text("2.csv", "a,c\n1,2\n")
    text = refused(lake)
    assert "'b' (int64) is missing" in text
    assert "'c' (int64) is extra" in text


def test_csv_declared_strings_keep_their_zeros(lake: Any) -> None:
    lake.text("a.csv", "id,when\n0012,2026-01-31\n")
    frame = lake.read(columns={"id": "string", "when": "timestamp"}, time="when")
    assert frame.rows() == [("0012", dt.datetime(2026, 1, 31, tzinfo=UTC))]


def test_csv_times_in_the_facts(lake: Any) -> None:
    lake.text("a.csv", "t\n2026-01-02 00:00\n2026-01-01 00:00\n\n")
    _, found = lake.inspect(time="t", timezone="America/New_York")
    group = found.facts[0].groups[0]
    five = 5 * 3_600_000_000
    assert (group.min_time, group.max_time) == (1_767_225_600_000_000 + five, 1_767_312_000_000_000 + five)


# ---------------------------------------------------------------- JSON lines


def test_json_types(lake: Any) -> None:
    lake.text(
        "a.jsonl",
        '{"i": 1, "f": 1.5, "s": "00123", "b": true, "t": "2026-01-31T00:00:00+02:00", '
        '"d": "2026-01-31", "l": [1, 2]}\n'
        '{"i": 2, "f": 2, "b": null, "s": "x", "t": "2026-01-31T00:00:00Z", "l": []}\n',
    )
    frame = lake.read(time="t")
    assert frame.select("i", "f", "s", "b", "d").rows() == [
        (1, 1.5, "00123", True, dt.date(2026, 1, 31)),
        (2, 2.0, "x", None, None),
    ]
    assert frame["t"].to_list() == [
        dt.datetime(2026, 1, 30, 22, tzinfo=UTC),
        dt.datetime(2026, 1, 31, tzinfo=UTC),
    ]
    assert frame["l"].to_list() == [[1, 2], []]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n\n",
        '{"a": 1}\n{"a": "x"}\n',
        '{"a": true}\n{"a": 1}\n',
        '{"a": 1}\n{"a":\n',
        '{"a": 1, "a": 2}\n',
        '{"a": 1}\n[1]\n',
        '{"a": 9223372036854775808}\n',
        '{"a": 1.5}\n{"a": 9007199254740993}\n',
        "not json\n",
    ],
)
def test_json_that_is_refused(lake: Any, content: str) -> None:
    path = lake.text("a.jsonl", content)
    assert refused(lake).startswith(f"{path}: ")


def test_json_large_floats_are_fine(lake: Any) -> None:
    lake.text("a.jsonl", '{"a": 1e20, "id": 12345678901234567}\n')
    assert lake.read("a.jsonl", columns={"id": "int64"}).rows() == [(1e20, 12_345_678_901_234_567)]


def test_json_latin_1_is_refused(lake: Any) -> None:
    path = lake.text("a.jsonl", '{"name": "José"}\n'.encode("latin-1"))
    assert refused(lake).startswith(f"{path}: can't be read as JSON lines")


def test_json_types_are_pinned_by_the_first_file(lake: Any) -> None:
    lake.text("1.jsonl", '{"a": 1.5, "b": "x"}\n')
    lake.text("2.jsonl", '{"a": 2, "b": null}\n')
    assert lake.read().rows() == [(1.5, "x"), (2.0, None)]
    lake.text("3.jsonl", '{"a": "x"}\n')
    text = refused(lake)
    assert "column 'a' is string, but float64" in text
    assert "column 'b' (string) is missing" in text


def test_json_declared_epochs(lake: Any) -> None:
    lake.text("a.json", '{"t": 1769817600000}\n{"t": null}\n')
    assert "not a time" in lake.reader(time="t")[0].problems[0][1]
    frame = lake.read(time="t", columns={"t": "timestamp[ms]"})
    assert frame["t"].to_list() == [dt.datetime(2026, 1, 31, tzinfo=UTC), None]


# ---------------------------------------------------------------- Arrow


@pytest.mark.parametrize("kind", ["file", "stream", "feather"])
def test_arrow_files(lake: Any, kind: str) -> None:
    table = pa.table({"t": pa.array([1, 2, 3, None], pa.timestamp("ms")), "a": ["x", "y", None, "z"]})
    path = lake.text("a.arrow", b"")
    if kind == "feather":
        import pyarrow.feather as feather

        feather.write_feather(table, str(path), compression="lz4")
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    reader, found = lake.reader(time="t")
    groups = found.facts[0].groups
    assert sum(group.rows for group in groups) == 4
    assert lake.read(time="t")["a"].to_list() == ["x", "y", None, "z"]
    late = reader.read(found.facts[0], ["a"], time_range=(3000, None), row_position=True)
    assert late.rows() == [(None, 2)]


def test_arrow_damage(lake: Any) -> None:
    path = lake.text("a.arrow", b"ARROW1 and then rubbish")
    assert refused(lake).startswith(f"{path}: can't be read as Arrow IPC")
    path = lake.text("a.arrow", b"")
    assert refused(lake).startswith(f"{path}: is empty")


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_bytes_that_are_not_text(lake: Any, kind: pa.DataType) -> None:
    latin = pa.array([b"caf\xe9, a name of more than twelve bytes"])
    text = pa.Array.from_buffers(pa.string(), 1, latin.buffers())
    if pa.types.is_dictionary(kind):
        text = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), text)
    path = lake.parquet("1.parquet", {"name": text})
    assert refused(lake).startswith(f"{path}: column 'name' is damaged")


# ---------------------------------------------------------------- Delta


def delta_table(lake: Any) -> str:
    import deltalake

    path = str(lake.root / "table")
    instants = pa.array([dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2)], pa.timestamp("us", "UTC"))
    first = pa.table(
        {"t": instants, "x": pa.array([1, 2], pa.int32()), "d": pa.array([dt.date(2026, 1, 1)] * 2)}
    )
    deltalake.write_deltalake(path, first, partition_by=["d"])
    later = pa.table(
        {"t": instants[1:], "x": pa.array([3], pa.int32()), "d": pa.array([None], pa.date32()), "new": ["n"]}
    )
    deltalake.write_deltalake(path, later, mode="append", schema_mode="merge")
    return path


def test_delta_versions_partitions_and_new_columns(lake: Any) -> None:
    delta_table(lake)
    reader, found = lake.reader("table", time="t")
    assert (found.format, found.delta_version) == ("delta", 1)
    rows = sorted(row for facts in found.facts for row in reader.read(facts, ["x", "d", "new"]).rows())
    assert rows == [(1, dt.date(2026, 1, 1), None), (2, dt.date(2026, 1, 1), None), (3, None, "n")]
    assert lake.read("table", time="t", version=0).columns == ["t", "x", "d"]
    assert lake.read("table", version=0, columns={"x": "float64"})["x"].to_list() == [1.0, 2.0]


def test_delta_overwritten_files_are_not_read(lake: Any) -> None:
    import deltalake

    path = delta_table(lake)
    deltalake.DeltaTable(path).delete("x = 1")
    assert sorted(lake.read("table")["x"].to_list()) == [2, 3]


def test_delta_mistakes(lake: Any) -> None:
    delta_table(lake)
    assert "at version 9" in refused(lake, "table", version=9)
    assert "no such folder" in refused(lake, "nope", format="delta")
    (lake.root / "plain").mkdir()
    assert "no Delta table" in refused(lake, "plain", format="delta")
