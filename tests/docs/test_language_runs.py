"""Whatever the language documents goes through a build and comes back: every aggregation, every kind of check."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from deltalake import DeltaTable

import featureflow as ff
from featureflow.library.aggregations import make
from featureflow.spec.checks import KINDS
from featureflow.spec.ops import OPS, Op

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = [
    {
        "k": i % 3,
        "ts": START + timedelta(minutes=37 * i),
        "number": None if i % 7 == 0 else i * 0.5,
        "whole": i,
        "text": "abc"[i % 3],
        "flag": i % 2 == 0,
        "day": date(2026, 1, 1 + i % 9),
    }
    for i in range(60)
]
PARAMETERS = {"q": 0.95, "k": 2, "half_life": "1h", "of": "whole"}
HEAD = 'sources: {e: {path: "{data}/e/*.parquet", time: ts%s}}\n'


def ops_of(column):
    """Every aggregation that takes a column, with parameters."""
    kind = pl.DataFrame(ROWS)[column].to_arrow().type
    found = []
    for name, spec in OPS.items():
        given = {key: PARAMETERS[key] for key, p in spec.params.items() if p.required}
        try:
            make({name: given} if given else name).output_type(kind)
        except TypeError:
            continue
        found.append(Op(name, tuple(given.items())))
    return found


@pytest.mark.parametrize("column", ["number", "whole", "text", "flag", "day", "ts"])
def test_every_aggregation_of_a_column_is_built_and_read_back(column, make_project, monkeypatch):
    ops = ops_of(column)
    spelled = ", ".join(str(op.spelled()).replace("'", "") for op in ops)
    entry = f"{{column: {column}, ops: [{spelled}], windows: [1d, lifetime]}}"
    spec = HEAD % "" + f"features: {{f: {{source: e, keys: k, aggregate: [{entry}]}}}}"
    project = make_project(spec, e=ROWS)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(project.folder / "scratch"))
    opened = project.open()
    opened.build()
    table = opened.table("f")
    names = [f"{column}_{op.label}_{window}" for op in ops for window in ("1d", "lifetime")]
    assert table.to_polars().columns == ["k", "ts", *names]
    assert table.to_arrow().num_rows == len(table.to_pandas()) == len(ROWS)
    stored = DeltaTable(str(project.store / "features" / "f"))
    assert pl.scan_delta(stored).collect().height == len(ROWS)
    assert [n for n in names if table.to_polars()[n].null_count() == len(ROWS)] == []


CHECKS = {
    "not_null": ("{column: whole, not_null: true}", "{column: number, not_null: true}"),
    "min": ("{column: whole, min: 0}", "{column: whole, min: 1}"),
    "max": ("{column: whole, max: 59}", "{column: whole, max: 58}"),
    "in_set": ("{column: text, in_set: [a, b, c]}", "{column: text, in_set: [a, b]}"),
    "matches": ('{column: text, matches: "^[abc]$"}', '{column: text, matches: "^[ab]$"}'),
    "unique": ("{column: whole, unique: true}", "{column: day, unique: true}"),
    "row_count": ("{row_count: {min: 60, max: 60}}", "{row_count: {max: 59}}"),
    "freshness": ("{freshness: 36500d}", "{freshness: 1ms}"),
    "schema": ("{schema: {whole: int64}}", "{schema: {whole: string}}"),
    "expression": ('{expression: "whole >= 0"}', '{expression: "whole > 0"}'),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "drift"])
def test_every_kind_of_check_passes_and_fails(kind, make_project, monkeypatch):
    good, bad = CHECKS[kind]
    for name, check in (("good", good), ("bad", bad)):
        spec = HEAD % f", checks: [{check}]" + "features: {f: {source: e, keys: k, keep: [whole]}}"
        project = make_project(spec, name, e=ROWS)
        monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(project.folder / "scratch"))
        if name == "good":
            project.open().build()
            assert project.open().table("f").version == 1
            continue
        with pytest.raises(ff.CheckFailed):
            project.open().build()
        assert project.open().store.tables() == []
