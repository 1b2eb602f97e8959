"""Whole datasets on small random data: the engine, from files to a published version, against the oracle.

Times lie on a coarse grid, so that ties and exact ends of windows, horizons and ages are common. The spine is in no
order, has doubled rows, null keys and null times, and times before and after all events. The SQL of a spec and its
Python twin stand side by side below.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
import yaml
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from oracle.datasets import dataset_differences, evaluate_dataset

import featureflow
from featureflow.datasets import build as dataset_build
from featureflow.datasets import planning

START = 1_767_225_600_000_000  # 2026-01-01
HOUR = 3_600_000_000
INSTANT = pl.Datetime("us", "UTC")
EVENT = {
    "k": pl.String,
    "j": pl.Int64,
    "t": INSTANT,
    "x": pl.Float64,
    "n": pl.Int64,
    "c": pl.String,
    "seen": INSTANT,
}
SPINE = {
    "id": pl.Int64,
    "k": pl.String,
    "other": pl.String,
    "j": pl.Int64,
    "at": INSTANT,
    "later": INSTANT,
    "c": pl.String,
    "y": pl.Float64,
}
SCHEMAS = {"left": EVENT, "right": EVENT, "spine": SPINE}
Condition = Callable[[dict[str, Any]], bool | None]
CONDITIONS: dict[str, Condition] = {
    "x > 1": lambda row: None if row["x"] is None else row["x"] > 1,
    "c = 'web' or n is null": lambda row: (
        True if row["n"] is None else None if row["c"] is None else row["c"] == "web"
    ),
}
SPINE_CONDITIONS: dict[str, Condition] = {
    "y > 0": lambda row: None if row["y"] is None else row["y"] > 0,
    "id < 0": lambda row: row["id"] < 0,
    "at >= '2026-01-02' or at is null": lambda row: row["at"] is None or row["at"] >= START + 24 * HOUR,
}
LABEL_DERIVED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "label > 0": lambda row: None if row["label"] is None else row["label"] > 0,
    "coalesce(label, -1)": lambda row: -1 if row["label"] is None else row["label"],
}
INFINITY = float("inf")

# ---------------------------------------------------------------- rows

# Dense: a few half hours on each of three days, and now and then an odd microsecond.
MOMENTS = st.builds(
    lambda day, half, odd: START + day * 24 * HOUR + half * HOUR // 2 + odd,
    st.integers(0, 2),
    st.integers(0, 4),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
)
MOSTLY = st.integers(0, 7).map(bool)
MAYBE_MOMENTS = st.builds(lambda some, t: t if some else None, MOSTLY, MOMENTS)
KEYS = st.sampled_from(["a", "a", "a", "a", "b", "b", "b", None])
NUMBERS = st.sampled_from([1, 1, 1, 1, 1, 1, 2, None])
EVENT_ROW = st.fixed_dictionaries(
    {
        "k": KEYS,
        "j": NUMBERS,
        "t": MAYBE_MOMENTS,
        "x": st.sampled_from([0.0, 0.1, 1.5, 2.0, 3.75, -2.25, 1e15, float("nan"), None, INFINITY]),
        "n": st.sampled_from([1, 2, 3, 4, 5, None]),
        "c": st.sampled_from(["web", "web", "pos", "pos", "", None]),
        "seen": MAYBE_MOMENTS,
    }
)
SPINE_ROW = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "a", "a", "b", "b", "never seen", None]),
        "other": KEYS,
        "j": NUMBERS,
        "at": st.one_of(MAYBE_MOMENTS, st.sampled_from([START - 9 * 24 * HOUR, START + 90 * 24 * HOUR])),
        "later": MAYBE_MOMENTS,
        "c": st.sampled_from(["web", "pos", "a", None]),
        "y": st.sampled_from([0.0, 1.5, -2.0, float("nan"), INFINITY, None]),
    }
)


def doubled(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """The first n rows once more, behind the others."""
    return rows + rows[:n]


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spine rows with an id that doubled rows share."""
    return [{"id": number, **row} for number, row in enumerate(rows)]


EVENTS = st.builds(doubled, st.lists(EVENT_ROW, min_size=10, max_size=24), st.integers(0, 2))
SPINES = st.builds(
    doubled,
    st.lists(SPINE_ROW, min_size=0, max_size=16).map(numbered),
    st.integers(0, 3),
)

# ---------------------------------------------------------------- specs

LENGTHS = ["30m", "1h", "90m", "1d", "2d"]
DURATION = st.sampled_from(LENGTHS)
OPS = st.lists(
    st.sampled_from(["count", "sum", "mean", "max", "stddev_samp", "last", "count_distinct"]),
    min_size=1,
    max_size=2,
    unique=True,
)


def some(draw: st.DrawFn, options: Mapping[str, st.SearchStrategy[Any]], one_in: int) -> dict[str, Any]:
    """Each option with a chance of one in so many."""
    return {name: draw(values) for name, values in options.items() if draw(st.integers(1, one_in)) == 1}


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
        del entry["column"]
        entry |= {"ops": ["count"], "as": f"e{number}_{{op}}_{{window}}"}
    options = {
        "closed": st.sampled_from(["left", "right", "both", "none"]),
        "delay": st.sampled_from(["30m", "1h"]),
        "tail_hop": st.sampled_from(["10m", "30m"]),
        "where": st.sampled_from(list(CONDITIONS)),
        "fill_empty": st.just(0),
    }
    entry |= some(draw, options, 3)
    if draw(st.integers(0, 3)) == 0:
        entry |= {"by": "c", "values": ["web", "pos"]}
    return entry


@st.composite
def look_ups(draw: st.DrawFn, keys: list[dict[str, str]], prefix: str) -> dict[str, Any]:
    """A look-up entry in the source `right`."""
    options = {
        "ttl": DURATION,
        "allow_exact": st.sampled_from([True, True, False]),
        "knowledge": st.sampled_from(["created", "created", "event_time"]),
        "nulls": st.sampled_from(["row", "skip"]),
        "availability": st.fixed_dictionaries(
            {"interval": st.sampled_from(["1h", "1d"]), "delay": st.just("30m")}
        ),
    }
    entry = {"from": "right", "keys": draw(st.sampled_from(keys)), "columns": ["x", "c"], "prefix": prefix}
    return entry | some(draw, options, 2)


@st.composite
def labels(draw: st.DrawFn) -> dict[str, Any]:
    """A label of later events."""
    label: dict[str, Any] = {
        "source": draw(st.sampled_from(["left", "right"])),
        "keys": draw(st.sampled_from([["k"], ["k", "j"], {"other": "k"}])),
        "op": draw(st.sampled_from(["count", "sum", "max", "last", "stddev_pop", {"first_k": {"k": 2}}])),
        "horizon": draw(DURATION),
    }
    if label["op"] != "count" or draw(st.booleans()):
        label["column"] = "x"
    label |= some(
        draw, {"gap": st.sampled_from(["30m", "1h"]), "where": st.sampled_from(list(CONDITIONS))}, 2
    )
    if label["op"] in ("count", "sum", "max") and draw(st.booleans()):
        label["fill_empty"] = 7
    if label["op"] == "count" and draw(st.booleans()):
        label["derive"] = draw(st.sampled_from(list(LABEL_DERIVED)))
    return label


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A project of two sources, a table at events, a table on a grid and a dataset of both, as YAML holds it."""
    left, right = {"time": "t"}, {"time": "t", "sequence": "n"}
    left |= some(draw, {"where": st.sampled_from(list(CONDITIONS)), "sequence": st.just("n")}, 2)
    right |= some(draw, {"created": st.just("seen")}, 2)
    rich: dict[str, Any] = {"source": "left", "keys": draw(st.sampled_from([["k"], ["k", "j"]]))}
    rich["aggregate"] = [draw(entries(number)) for number in range(draw(st.integers(1, 2)))]
    rich |= some(draw, {"keep": st.just(["n", "c"])}, 2)
    if draw(st.booleans()):
        # `c` is a column of the spine, too; `n` is not, so that the look-up and what is made of it is left out
        rich["lookup"] = [draw(look_ups([{"k": "k"}, {"c": "k"}, {"n": "n"}], "l_"))]
        rich["derive"] = {"of_look_up": "l_x is null"}
    grid: dict[str, Any] = {"source": "left", "keys": ["k"], "aggregate": [draw(entries(8))]}
    grid["at"] = {
        "every": draw(st.sampled_from(["1h", "1d"])),
        "from": "2026-01-01",
        "to": "2026-01-03T12:00",
    }
    spine = {"source": "spine", "keys": ["k", "j"]}
    spine |= some(
        draw,
        {
            "where": st.sampled_from(list(SPINE_CONDITIONS)),
            "columns": st.sampled_from([["id"], ["other", "y"]]),
            "time": st.sampled_from(["later", "at"]),
        },
        3,
    )
    dataset: dict[str, Any] = {"spine": spine, "features": ["rich"]}
    if draw(st.booleans()):
        dataset["features"].append({"table": "rich", "keys": {"other": "k"}, "prefix": "other_"})
    if draw(st.booleans()):
        used = {"table": "daily", **some(draw, {"ttl": DURATION, "prefix": st.just("g_")}, 2)}
        dataset["features"].append(used)
    if draw(st.booleans()):
        dataset["lookup"] = [draw(look_ups([{"k": "k"}, {"other": "k", "j": "j"}, {"c": "k"}], "r_"))]
        dataset["derive"] = {"no_match": "r_x is null", "and_again": "not no_match"}
    if draw(st.booleans()):
        dataset["label"] = draw(labels())
    if draw(st.integers(0, 2)) == 0:
        ends = {"train": "< 2026-01-02", "valid": "< 2026-01-02T01:00", "test": "rest"}
        dataset["split"] = {"by": "time", **ends, **some(draw, {"embargo": DURATION}, 2)}
    return {
        "sources": {"left": left, "right": right, "spine": {"time": "at"}},
        "features": {"rich": rich, "daily": grid},
        "datasets": {"d": dataset},
    }


# ---------------------------------------------------------------- both sides

#: SQL of derived columns and its twin
DERIVED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "l_x is null": lambda row: row["l_x"] is None,
    "r_x is null": lambda row: row["r_x"] is None,
    "not no_match": lambda row: not row["no_match"],
    "c_x is null": lambda row: row["c_x"] is None,
    "n_x is null": lambda row: row["n_x"] is None,
    "not lost": lambda row: not row["lost"],
    "n_later > 0": lambda row: None if row["n_later"] is None else row["n_later"] > 0,
    "x_sum_1h / nullif(count_1d, 0)": lambda row: (
        None if row["x_sum_1h"] is None or not row["count_1d"] else row["x_sum_1h"] / row["count_1d"]
    ),
}
SQL = {**CONDITIONS, **SPINE_CONDITIONS, **LABEL_DERIVED, **DERIVED}


def with_functions(part: Any, key: str = "") -> Any:
    """The same spec for the oracle: functions instead of SQL."""
    if isinstance(part, dict):
        if key == "derive":
            return {name: SQL[sql] for name, sql in part.items()}
        return {name: with_functions(value, name) for name, value in part.items()}
    if isinstance(part, list):
        return [with_functions(value) for value in part]
    return SQL[part] if key in ("where", "derive") else part


def for_the_oracle(spec: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The project with rows instead of files."""
    project = with_functions(spec)
    for name, source in project["sources"].items():
        source["rows"] = [{column: row[column] for column in SCHEMAS[name]} for row in rows[name]]
    return project


def in_order(rows: list[dict[str, Any]], files: int) -> list[list[dict[str, Any]]]:
    """Rows in so many files, one behind the other."""
    edges = [len(rows) * number // files for number in range(files + 1)]
    return [rows[low:high] for low, high in itertools.pairwise(edges)]


def build(root: Path, spec: dict[str, Any], rows: dict[str, list[dict[str, Any]]], files: int) -> Any:
    """Write the rows to files, build, and open the dataset."""
    written = {"featureflow": 1, "project": "random", **spec}
    written["sources"] = {
        name: {**source, "path": str(root / name / "*.parquet"), "timezone": "UTC"}
        for name, source in spec["sources"].items()
    }
    for name, given_rows in rows.items():
        (root / name).mkdir(parents=True)
        for number, part in enumerate(in_order(given_rows, files)):
            frame = pl.DataFrame(part, schema=SCHEMAS[name], orient="row")
            frame.write_parquet(root / name / f"{number}.parquet")
    (root / "spec.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    project = featureflow.Project(
        root / "spec.yaml", store=str(root / "store"), scratch=str(root / "scratch")
    )
    project.build()
    return featureflow.open(str(root / "store")).dataset("d")


def compare(root: Path, spec: dict[str, Any], rows: dict[str, list[dict[str, Any]]], files: int = 1) -> Any:
    """Build, and fail with words if the dataset is not the oracle's; returns the dataset."""
    expected = evaluate_dataset(for_the_oracle(spec, rows), "d")
    dataset = build(root, spec, rows, files)
    table = dataset.to_arrow(encoded=False)
    found = dataset_differences(expected, table.to_pylist())
    assert not found, "\n".join(line[:1500] for line in found)
    if expected.rows:
        assert table.schema.names == expected.columns
    assert dataset.rows == len(expected.rows)
    return dataset


@contextmanager
def cut_small(rows: int = 5) -> Iterator[None]:
    """Files of a few rows, several buckets, buckets cut by time: as if there were millions of rows."""
    with (
        mock.patch.object(dataset_build, "TASK_BYTES", 2_000),
        mock.patch.object(planning, "MAX_PIECE_ROWS", rows),
        mock.patch.object(planning, "MIN_PIECE_ROWS", rows),
        mock.patch.object(planning, "WORTH_SPLITTING_ROWS", 0),
    ):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A new folder for each example."""
    root = tmp_path_factory.mktemp("datasets")
    return (root / str(number) for number in itertools.count())


# no shrinking: an example is a whole build, and is small as it is
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(spec=specs(), left=EVENTS, right=EVENTS, spine=SPINES, files=st.integers(1, 3), small=st.booleans())
def test_a_random_dataset(
    folders: Any, spec: dict[str, Any], left: Any, right: Any, spine: Any, files: int, small: bool
) -> None:
    note(yaml.safe_dump(spec, sort_keys=False))
    with cut_small() if small else nullcontext():
        compare(next(folders), spec, {"left": left, "right": right, "spine": spine}, files)


# ---------------------------------------------------------------- every combination, on dense rows


def dense_events(seed: int, n: int = 40) -> list[dict[str, Any]]:
    """Events on few half hours of three days."""
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


def dense_spine(seed: int, n: int = 60) -> list[dict[str, Any]]:
    """Spine rows at the same half hours, a microsecond beside them, and somewhat later."""
    chance = random.Random(seed)
    rows = []
    for number in range(n):
        moment = START + chance.choice((0, 24, 48)) * HOUR + chance.randrange(9) * HOUR // 2
        row = {"id": number, "k": chance.choice("aab"), "other": chance.choice("ab"), "j": 1}
        at = moment + chance.choice((0, 0, 0, 1, -1))
        rows.append({**row, "at": at, "later": None, "c": chance.choice("ab"), "y": None})
    return rows


ROWS = {"left": dense_events(1), "right": dense_events(2), "spine": dense_spine(3)}
SOURCES = {
    "left": {"time": "t"},
    "right": {"time": "t", "sequence": "n", "created": "seen"},
    "spine": {"time": "at"},
}


def project(tables: dict[str, Any] | None = None, **dataset: Any) -> dict[str, Any]:
    """A spec of one dataset, which uses all tables if it does not say which."""
    tables = tables or {}
    given = {"spine": {"source": "spine", "keys": ["k"]}, "features": list(tables), **dataset}
    return {"sources": SOURCES, "features": tables, "datasets": {"d": given}}


def test_every_combination_of_window_options(tmp_path: Path) -> None:
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
    features = {"table": {"source": "left", "keys": ["k"], "aggregate": entries}}
    with cut_small(17):
        compare(tmp_path, project(features), ROWS, 2)


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
    compare(tmp_path, project(lookup=entries), ROWS, 2)


def test_every_combination_of_label_options(tmp_path: Path) -> None:
    options = {
        "op": ["count", "sum", "last"],
        "horizon": ["30m", "1h", "1d"],
        "gap": [None, "30m", "1d"],
        "where": [None, "x > 1"],
        "source": ["left", "right"],
    }
    labels = [
        {"column": "x", "keys": ["k"], "as": f"label_{number}"}
        | {name: value for name, value in zip(options, values, strict=True) if value is not None}
        for number, values in enumerate(itertools.product(*options.values()))
    ]
    compare(tmp_path, project(label=labels), ROWS, 2)


# ---------------------------------------------------------------- one case each

COUNTS = {"aggregate": [{"column": "x", "ops": ["count", "sum"], "windows": ["1h", "1d"]}]}
BY_KEY = {"source": "left", "keys": ["k"], **COUNTS}


def test_tables_in_the_roles_of_sources(tmp_path: Path) -> None:
    """Look-ups in tables at events and on a grid, with and without ttl."""
    features = {
        "events": BY_KEY | {"keep": ["n"]},
        "daily": BY_KEY | {"at": {"every": "1h"}},
        "upon": {
            "source": "left",
            "keys": ["k"],
            "aggregate": [{"ops": ["count"], "windows": ["1d"]}],
            "lookup": [{"from": "daily", "columns": ["x_sum_1h"], "ttl": "1h"}],
            "derive": {"share": "x_sum_1h / nullif(count_1d, 0)"},
        },
    }
    lookup = [
        {"from": "events", "columns": ["x_count_1d"], "prefix": "e_"},
        {"from": "daily", "keys": {"other": "k"}, "columns": ["x_count_1d"], "prefix": "g_", "ttl": "30m"},
    ]
    used = ["upon", {"table": "daily", "ttl": "30m", "columns": ["x_count_1h"]}]
    compare(tmp_path, project(features, lookup=lookup, features=used), ROWS, 2)


def test_the_same_table_in_three_roles(tmp_path: Path) -> None:
    used = [
        "table",
        {"table": "table", "keys": {"other": "k"}, "prefix": "other_"},
        {"table": "table", "keys": {"c": "k"}, "prefix": "c_", "columns": ["x_sum_1d"]},
    ]
    compare(tmp_path, project({"table": BY_KEY}, features=used), ROWS, 3)


def test_what_the_spine_lacks_is_left_out(tmp_path: Path) -> None:
    lookups = [
        {"from": "right", "keys": {"c": "k"}, "columns": ["x"], "prefix": "c_"},
        {"from": "right", "keys": {"n": "n"}, "columns": ["x"], "prefix": "n_"},
    ]
    derive = {"fine": "c_x is null", "lost": "n_x is null", "too": "not lost"}
    features = {"table": BY_KEY | {"keep": ["n", "c"], "lookup": lookups, "derive": derive}}
    spec = project(features)
    expected = evaluate_dataset(for_the_oracle(spec, ROWS), "d")
    assert expected.left_out == ["n_x", "lost", "too"]
    dataset = compare(tmp_path, spec, ROWS, 2)
    assert "fine" in dataset.schema.names


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_rows(tmp_path: Path, n: int) -> None:
    spec = project(
        {"table": BY_KEY},
        lookup=[{"from": "right", "keys": ["k"], "columns": ["x"]}],
        label={"source": "left", "op": "count", "horizon": "1h"},
        split={"by": "time", "train": "< 2026-01-02", "test": "rest"},
    )
    whole = compare(tmp_path / "whole", spec, ROWS)
    few = compare(tmp_path / "few", spec, {**ROWS, "spine": ROWS["spine"][:n]})
    assert few.schema == whole.schema
    without = compare(tmp_path / "without", spec, {**ROWS, "left": [], "right": []})
    assert without.schema == whole.schema


def test_only_null_keys_and_null_times(tmp_path: Path) -> None:
    spine = [row | {name: None} for row in ROWS["spine"][:6] for name in ("k", "at")]
    spec = project(
        {"table": BY_KEY | {"aggregate": [COUNTS["aggregate"][0] | {"fill_empty": 5}]}},
        lookup=[{"from": "right", "keys": ["k"], "columns": ["x"]}],
        label={"source": "left", "op": "count", "horizon": "1h", "fill_empty": 3},
    )
    dataset = compare(tmp_path, spec, {**ROWS, "spine": spine})
    assert set(dataset.to_arrow()["x_count_1d"].to_pylist()) == {None}


def test_a_spine_that_is_a_hundred_times_one_row(tmp_path: Path) -> None:
    spec = project({"table": BY_KEY})
    with cut_small(7):
        compare(tmp_path, spec, {**ROWS, "spine": ROWS["spine"][:1] * 100}, 3)


def test_the_spine_is_its_own_event_source(tmp_path: Path) -> None:
    spec = project(
        {"table": BY_KEY},
        label={"source": "left", "op": "count", "horizon": "1h"},
        spine={"source": "left", "keys": ["k"]},
        features=[{"table": "table", "columns": ["x_count_1h"]}],
    )
    compare(tmp_path, spec, ROWS, 2)


def test_labels_from_the_spine_and_from_later(tmp_path: Path) -> None:
    labels = [
        {"column": "y"},
        {
            "source": "left",
            "keys": ["k"],
            "op": "count",
            "horizon": "1h",
            "as": "n_later",
            "derive": "n_later > 0",
        },
    ]
    dataset = compare(
        tmp_path, project(label=labels, spine={"source": "spine", "keys": ["k"], "columns": ["id"]}), ROWS
    )
    assert dataset.labels == ["y", "n_later"]
    assert "y" not in dataset.features


def test_files_of_another_cut_and_order_of_events_change_no_value(tmp_path: Path) -> None:
    features = {"table": BY_KEY | {"aggregate": [{"column": "x", "ops": ["last", "sum"], "windows": ["1d"]}]}}
    lookup = [{"from": "right", "keys": ["k"], "columns": ["x", "c"], "prefix": "r_"}]
    spec = project(features, lookup=lookup)
    first = compare(tmp_path / "one", spec, ROWS, 1).to_arrow()
    mixed = {**ROWS, "left": ROWS["left"][::-1], "right": ROWS["right"][::-1]}
    with cut_small(9):
        second = compare(tmp_path / "three", spec, mixed, 3).to_arrow()
    assert second.equals(first)


@pytest.mark.parametrize("day", [0, 1, 2])
def test_files_in_the_order_of_time(tmp_path: Path, day: int) -> None:
    """Files that no row of the spine can see are not read; those that a label or a look-back needs are."""
    begin = START + day * 24 * HOUR
    spine = [row for row in ROWS["spine"] if begin <= row["at"] < begin + 24 * HOUR]
    sides = {name: sorted(ROWS[name], key=lambda row: row["t"]) for name in ("left", "right")}
    tables = {"table": BY_KEY, "hourly": BY_KEY | {"at": {"every": "1h"}}}
    spec = project(
        tables,
        features=["table", {"table": "hourly", "prefix": "h_"}],
        lookup=[
            {"from": "right", "keys": ["k"], "columns": ["x"], "prefix": "any_"},
            {"from": "right", "keys": ["k"], "columns": ["x"], "prefix": "r_", "ttl": "1d"},
            {"from": "table", "columns": ["x_sum_1d"], "prefix": "t_"},
        ],
        label=[
            {"source": "left", "op": "count", "horizon": "1d", "as": "soon"},
            {"source": "left", "op": "count", "horizon": "1h", "gap": "1d", "as": "later_on"},
        ],
    )
    assert spine
    with cut_small(11):
        compare(tmp_path, spec, {**sides, "spine": spine}, 8)
