"""Options of formats, and what files with missing or extra columns give, from the YAML to the rows."""

from __future__ import annotations

import pytest

from featureflow.core.errors import SourceError
from featureflow.plan.scan import scan_source
from featureflow.spec.load import load_text


def read(folder, text, *, file=None):
    source = load_text(f"sources: {{s: {text}}}").project.sources["s"]
    found = scan_source("s", source, str(folder), str(folder / "scratch"))
    rows = [found.reader.read(facts) for facts in found.facts]
    return [row for frame in rows for row in frame.rows()], list(rows[0].columns)


def test_csv_options(tmp_path):
    (tmp_path / "a.csv").write_text("made by hand\nid;name;n\n# a note\n1;'x;y';NULL\n2;;7\n")
    options = """{delimiter: ";", quote: "'", null_values: ["", "NULL"], comment: "#", skip_rows: 1}"""
    rows, names = read(tmp_path, f"{{path: a.csv, options: {options}}}")
    assert names == ["id", "name", "n"]
    assert rows == [(1, "x;y", None), (2, None, 7)]


def test_csv_without_a_header_and_without_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('1,"a\n2,b"\n')
    rows, names = read(tmp_path, "{path: a.csv, options: {header: false, quote: null}}")
    assert names == ["column_1", "column_2"]
    assert rows == [(1, '"a'), (2, 'b"')]


def test_an_empty_text_is_a_value_where_null_values_do_not_have_it(tmp_path):
    (tmp_path / "a.csv").write_text("id,name\n1,\n2,NA\n")
    assert read(tmp_path, "{path: a.csv, options: {null_values: NA}}")[0] == [(1, ""), (2, None)]


def test_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,name\n1,caf\xe9\n")
    with pytest.raises(SourceError, match=r"a\.csv"):
        read(tmp_path, "{path: a.csv}")
    assert read(tmp_path, "{path: a.csv, options: {encoding: utf8-lossy}}")[0] == [(1, "caf\ufffd")]


def test_tabs_stay_the_default_of_tsv(tmp_path):
    (tmp_path / "a.tsv").write_text("id\tname\n1\ta,b\n")
    assert read(tmp_path, "{path: a.tsv, format: csv, options: {null_values: NA}}")[0] == [(1, "a,b")]


def test_facts_of_other_options_are_not_reused(tmp_path):
    (tmp_path / "a.csv").write_text("id\nNA\n2\n")
    assert read(tmp_path, "{path: a.csv}")[0] == [("NA",), ("2",)]
    assert read(tmp_path, "{path: a.csv, options: {null_values: NA}}")[0] == [(None,), (2,)]


@pytest.mark.parametrize("word", ["null", '"null"'])
def test_missing_columns_can_be_null(tmp_path, word):
    (tmp_path / "a.csv").write_text("id,old\n1,5\n")
    (tmp_path / "b.csv").write_text("id,new\n2,x\n")
    with pytest.raises(SourceError, match="missing_columns: null"):
        read(tmp_path, '{path: "*.csv"}')
    rows, names = read(tmp_path, f'{{path: "*.csv", missing_columns: {word}}}')
    assert names == ["id", "old", "new"]
    assert rows == [(1, 5, None), (2, None, "x")]


def test_extra_columns_can_be_ignored_but_missing_ones_stay_errors(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("id,new\n2,x\n")
    with pytest.raises(SourceError, match="extra_columns: ignore"):
        read(tmp_path, '{path: "*.csv"}')
    assert read(tmp_path, '{path: "*.csv", extra_columns: ignore}')[0] == [(1,), (2,)]
    (tmp_path / "c.csv").write_text("other\n2\n")
    with pytest.raises(SourceError, match="missing"):
        read(tmp_path, '{path: "*.csv", extra_columns: ignore}')


@pytest.mark.parametrize("unit, number", [("s", 1_767_225_600), ("ms", 1_767_225_600_000)])
def test_numbers_since_1970_are_times_where_declared(tmp_path, unit, number):
    (tmp_path / "a.csv").write_text(f"t\n{number}\n")
    rows, _ = read(tmp_path, f'{{path: a.csv, time: t, columns: {{t: "timestamp[{unit}]"}}}}')
    assert rows[0][0].isoformat() == "2026-01-01T00:00:00+00:00"
