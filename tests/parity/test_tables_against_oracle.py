"""Whole tables on small random data: the engine, from files to a published version, against the oracle.

Times lie on a coarse grid, so that ties, exact window ends and equal ticks are common; keys, times and values can be
null; rows are doubled. The SQL of a spec and its Python twin stand side by side below.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from oracle.compare import differences
from oracle.engine import evaluate

import featureflow

START = 1_767_225_600_000_000
HOUR = 3_600_000_000
INSTANT = pl.Datetime("us", "UTC")
SCHEMA = {
    "k": pl.String,
    "j": pl.Int64,
    "t": INSTANT,
    "x": pl.Float64,
    "n": pl.Int64,
    "c": pl.String,
    "seen": INSTANT,
}
CONDITIONS: dict[str, Callable[[dict[str, Any]], bool | None]] = {
    "x > 1": lambda row: None if row["x"] is None else row["x"] > 1,
    "c = 'web' or n is null": lambda row: (
        True if row["n"] is None else None if row["c"] is None else row["c"] == "web"
    ),
}
DERIVED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "coalesce(x, 0) + 1": lambda row: (row["x"] or 0.0) + 1,
    "n is not null": lambda row: row["n"] is not None,
}
# Dense, so that ends of windows, ages of look-ups and times of knowledge fall together: a few half hours on each of
# three days, and now and then an odd microsecond.
MOMENTS = st.builds(
    lambda day, half, odd: START + day * 24 * HOUR + half * HOUR // 2 + odd,
    st.integers(0, 2),
    st.integers(0, 4),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
)
MOSTLY = st.integers(0, 7).map(bool)
ROW = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "a", "a", "a", "b", "b", "b", None]),
        "j": st.sampled_from([1, 1, 1, 1, 1, 1, 2, None]),
        "t": st.builds(lambda some, t: t if some else None, MOSTLY, MOMENTS),
        "x": st.sampled_from([0.0, 0.1, 1.5, 2.0, 3.75, -2.25, 1e15, float("nan"), None]),
        "n": st.sampled_from([1, 2, 3, 4, 5, None]),
        "c": st.sampled_from(["web", "web", "pos", "pos", "", None]),
        "seen": st.builds(lambda some, t: t if some else None, MOSTLY, MOMENTS),
    }
)
ROWS = st.lists(ROW, min_size=12, max_size=24).flatmap(
    lambda rows: st.integers(0, 2).map(lambda doubled: rows + rows[:doubled])
)
DURATION = st.sampled_from(["30m", "1h", "90m", "1d", "2d"])
OPS = st.lists(
    st.sampled_from(["count", "sum", "mean", "max", "stddev_samp", "last", "count_distinct"]),
    min_size=1,
    max_size=3,
    unique=True,
)


@st.composite
def entries(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """An aggregate entry; its names begin with its number, so that no two are alike."""
    entry: dict[str, Any] = {
        "column": "x",
        "ops": draw(OPS),
        "windows": draw(
            st.lists(st.one_of(DURATION, st.just("lifetime")), min_size=1, max_size=2, unique=True)
        ),
        "as": f"e{number}_{{column}}_{{op}}_{{window}}",
    }
    if draw(st.integers(0, 3)) == 0:
        entry |= {"column": None, "ops": ["count"], "as": f"e{number}_{{op}}_{{window}}"}
    options = {
        "closed": st.sampled_from(["left", "right", "both", "none"]),
        "delay": st.sampled_from(["30m", "1h"]),
        "tail_hop": st.sampled_from(["10m", "30m"]),
        "where": st.sampled_from(list(CONDITIONS)),
        "fill_empty": st.just(0),
    }
    entry |= {name: draw(values) for name, values in options.items() if draw(st.integers(0, 2)) == 0}
    if draw(st.integers(0, 3)) == 0:
        entry |= {"by": "c", "values": ["web", "pos"]}
    return {name: value for name, value in entry.items() if value is not None}


@st.composite
def look_ups(draw: st.DrawFn) -> dict[str, Any]:
    """A look-up entry."""
    options = {
        "ttl": DURATION,
        "allow_exact": st.sampled_from([True, True, False]),
        "knowledge": st.sampled_from(["created", "created", "event_time"]),
        "nulls": st.sampled_from(["row", "skip"]),
        "availability": st.fixed_dictionaries(
            {"interval": st.sampled_from(["1h", "1d"]), "delay": st.just("30m")}
        ),
    }
    entry: dict[str, Any] = {
        "from": "right",
        "keys": draw(st.sampled_from([{"k": "k"}, {"k": "k", "j": "j"}])),
    }
    entry |= {"columns": ["x", "c"], "prefix": "r_"}
    return entry | {name: draw(values) for name, values in options.items() if draw(st.booleans())}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A project of one table and its look-up's source, as YAML would hold it."""
    grid = draw(st.integers(0, 2)) == 0
    keys = draw(st.sampled_from([["k"], ["k", "j"]]))
    feature: dict[str, Any] = {"source": "left", "keys": keys}
    feature["aggregate"] = [draw(entries(number)) for number in range(draw(st.integers(1, 2)))]
    feature["partition"] = draw(st.sampled_from(["day", "month", "none"]))
    if grid:
        feature["at"] = {"every": draw(st.sampled_from(["1h", "1d"]))}
        if draw(st.booleans()):
            feature["at"] |= {"from": "2026-01-02", "to": "2026-01-03T12:00"}
    else:
        feature["keep"] = ["n", "c"]
    left: dict[str, Any] = {"time": "t"}
    # where a grid ends by itself is a matter of all rows of the files, also of those that `where` leaves out
    if draw(st.booleans()) and (not grid or "to" in feature["at"]):
        left["where"] = draw(st.sampled_from(list(CONDITIONS)))
    if draw(st.booleans()):
        left["sequence"] = "n"
    if keys == ["k", "j"] or not grid:
        feature["lookup"] = [draw(look_ups())]
    elif draw(st.booleans()):
        feature["lookup"] = [draw(look_ups()) | {"keys": {"k": "k"}}]
    right: dict[str, Any] = {"time": "t", "sequence": "n"}
    if draw(st.booleans()):
        right["created"] = "seen"
    if draw(st.booleans()):
        right["derive"] = {f"d{number}": sql for number, sql in enumerate(DERIVED)}
    return {"sources": {"left": left, "right": right}, "features": {"table": feature}}


def with_functions(spec: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The same project for the oracle: rows instead of files, functions instead of SQL."""
    sources = {}
    for name, source in spec["sources"].items():
        changed = {**source, "rows": rows[name]}
        if "where" in source:
            changed["where"] = CONDITIONS[source["where"]]
        changed["derive"] = {column: DERIVED[sql] for column, sql in source.get("derive", {}).items()}
        sources[name] = changed
    feature = dict(spec["features"]["table"])
    feature["aggregate"] = [
        {**entry, **({"where": CONDITIONS[entry["where"]]} if "where" in entry else {})}
        for entry in feature["aggregate"]
    ]
    return {"sources": sources, "features": {"table": feature}}


def build(root: Path, spec: dict[str, Any], rows: dict[str, list[dict[str, Any]]], files: int) -> Any:
    """Write the rows to files and build."""
    written = {"featureflow": 1, "project": "random", **spec}
    written["sources"] = {
        name: {**source, "path": str(root / name / "*.parquet"), "timezone": "UTC"}
        for name, source in spec["sources"].items()
    }
    for name, given_rows in rows.items():
        (root / name).mkdir(parents=True)
        for number in range(files):
            frame = pl.DataFrame(given_rows[number::files], schema=SCHEMA, orient="row")
            frame.write_parquet(root / name / f"{number}.parquet")
    (root / "spec.yaml").write_text(yaml.safe_dump(written))
    project = featureflow.Project(
        root / "spec.yaml", store=str(root / "store"), scratch=str(root / "scratch")
    )
    project.build()
    return project.store.table("table")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A new folder for each example."""
    root = tmp_path_factory.mktemp("tables")
    return (root / str(number) for number in itertools.count())


# no shrinking: an example is a whole build, and is small as it is
@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(spec=specs(), left=ROWS, right=ROWS, files=st.integers(1, 3))
def test_a_random_table(folders: Any, spec: dict[str, Any], left: Any, right: Any, files: int) -> None:
    rows = {"left": left, "right": right}
    expected = evaluate(with_functions(spec, rows), "table")
    note(yaml.safe_dump(spec))
    table = build(next(folders), spec, rows, files)
    assert table.schema.names == expected.columns
    assert table.rows == len(expected.rows)
    found = differences(expected, table.to_arrow().to_pylist())
    assert not found, "\n".join(found)


def test_a_table_without_partitions_keeps_rows_without_a_time(tmp_path: Path) -> None:
    feature = {"source": "left", "keys": ["k"], "partition": "none"}
    feature["aggregate"] = [{"ops": ["count"], "windows": ["1d"]}]
    spec = {"sources": {"left": {"time": "t"}}, "features": {"table": feature}}
    rows = [dict.fromkeys(SCHEMA) | {"k": "a", "t": START}, dict.fromkeys(SCHEMA) | {"k": "a"}]
    table = build(tmp_path, spec, {"left": rows}, 1)
    assert not differences(
        evaluate(with_functions(spec, {"left": rows}), "table"), table.to_arrow().to_pylist()
    )


def dense_rows(seed: int, n: int = 40) -> list[dict[str, Any]]:
    """Rows on few half hours of three days."""
    chance = random.Random(seed)
    rows = []
    for _ in range(n):
        moments = [
            START + chance.choice((0, 24, 48)) * HOUR + chance.randrange(5) * HOUR // 2 for _ in range(2)
        ]
        words = {"k": chance.choice("aab"), "j": 1, "c": chance.choice(("web", "pos", None))}
        numbers = {"x": chance.choice((0.5, 2.0, -1.0, None)), "n": chance.choice((1, 2, None))}
        rows.append({**words, **numbers, "t": moments[0], "seen": chance.choice((*moments, None))})
    return rows


def test_every_combination_of_look_up_options(tmp_path: Path) -> None:
    options = {
        "ttl": [None, "30m", "1h", "1d"],
        "allow_exact": [True, False],
        "knowledge": ["created", "event_time"],
        "nulls": ["row", "skip"],
        "availability": [None, {"interval": "1h", "delay": "30m"}, {"interval": "1d"}, {"delay": "30m"}],
    }
    entries = [
        {"from": "right", "keys": {"k": "k"}, "columns": ["x", "c"], "prefix": f"r{number}_"}
        | {name: value for name, value in zip(options, values, strict=True) if value is not None}
        for number, values in enumerate(itertools.product(*options.values()))
    ]
    right = {"time": "t", "sequence": "n", "created": "seen"}
    feature = {
        "source": "left",
        "keys": ["k"],
        "aggregate": [{"ops": ["count"], "windows": ["1h"]}],
        "lookup": entries,
    }
    spec = {"sources": {"left": {"time": "t"}, "right": right}, "features": {"table": feature}}
    rows = {"left": dense_rows(1), "right": dense_rows(2)}
    table = build(tmp_path, spec, rows, 2)
    found = differences(evaluate(with_functions(spec, rows), "table"), table.to_arrow().to_pylist())
    assert not found, "\n".join(line[:1000] for line in found)


@pytest.mark.parametrize("at", ["events", {"every": "30m"}, {"every": "1d", "timezone": "Europe/Berlin"}])
def test_every_combination_of_window_options(tmp_path: Path, at: Any) -> None:
    options = {
        "closed": ["left", "right", "both", "none"],
        "delay": [None, "30m", "1d"],
        "tail_hop": [None, "1h", "45m"],
    }
    entries = [
        {"column": "x", "ops": ["count", "sum"], "windows": ["1h", "1d", "lifetime"]}
        | {"as": f"e{number}_{{op}}_{{window}}"}
        | {name: value for name, value in zip(options, values, strict=True) if value is not None}
        for number, values in enumerate(itertools.product(*options.values()))
    ]
    feature = {"source": "left", "keys": ["k"], "at": at, "aggregate": entries}
    spec = {"sources": {"left": {"time": "t"}}, "features": {"table": feature}}
    rows = {"left": dense_rows(3)}
    table = build(tmp_path, spec, rows, 2)
    found = differences(evaluate(with_functions(spec, rows), "table"), table.to_arrow().to_pylist())
    assert not found, "\n".join(line[:1000] for line in found)
