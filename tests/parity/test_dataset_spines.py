"""What a spine and a label can be made from: formats, row groups, duplicates, files of its own, feature tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest
import yaml
from deltalake import write_deltalake
from oracle.datasets import dataset_differences, evaluate_dataset

import featureflow

START = 1_767_225_600_000_000  # 2026-01-01
HOUR = 3_600_000_000
INSTANT = pl.Datetime("us", "UTC")
EVENT = {"k": pl.String, "t": INSTANT, "x": pl.Float64}
SPINE = {"id": pl.Int64, "k": pl.String, "at": INSTANT}


def rows_of(n: int, seed: int) -> list[dict[str, Any]]:
    """Events or spine rows on the half hours of two days."""
    chance = random.Random(seed)
    return [
        {"k": chance.choice("aabc"), "t": START + chance.randrange(96) * HOUR // 2, "x": chance.random()}
        for _ in range(n)
    ]


EVENTS = rows_of(60, 1)
ROWS = [{"id": n, "k": row["k"], "at": row["t"] + n % 2} for n, row in enumerate(rows_of(50, 2))]
TABLE = {
    "source": "events",
    "keys": ["k"],
    "keep": ["x"],
    "aggregate": [{"column": "x", "ops": ["count", "sum"], "windows": ["1h", "1d"]}],
}
LABEL = {"source": "events", "keys": ["k"], "op": "count", "horizon": "6h"}


def frame(rows: list[dict[str, Any]], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema, orient="row")


def parquet_of_small_groups(data: pl.DataFrame, folder: Path) -> str:
    data.write_parquet(folder / "rows.parquet", row_group_size=7)
    return "rows.parquet"


def csv(data: pl.DataFrame, folder: Path) -> str:
    for number in range(3):
        data.slice(number * 20, 20).write_csv(
            folder / f"{number}.csv", datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ"
        )
    return "*.csv"


def json_lines(data: pl.DataFrame, folder: Path) -> str:
    data.with_columns(pl.col(INSTANT).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_ndjson(
        folder / "rows.jsonl"
    )
    return "rows.jsonl"


def arrow(data: pl.DataFrame, folder: Path) -> str:
    pyarrow.feather.write_feather(data.to_arrow(), str(folder / "rows.arrow"), compression="uncompressed")
    return "rows.arrow"


def delta(data: pl.DataFrame, folder: Path) -> str:
    write_deltalake(str(folder / "rows"), data.to_arrow().cast(plain(data)))
    return "rows"


def plain(data: pl.DataFrame) -> pa.Schema:
    """Arrow's usual strings, which every Delta writer takes."""
    kinds = {"k": pa.string(), "id": pa.int64(), "x": pa.float64()}
    return pa.schema([(name, kinds.get(name, pa.timestamp("us", "UTC"))) for name in data.columns])


WRITERS: dict[str, Callable[[pl.DataFrame, Path], str]] = {
    "parquet": parquet_of_small_groups,
    "csv": csv,
    "json": json_lines,
    "arrow": arrow,
    "delta": delta,
}
CASTS = {"spine": {"id": "int64", "at": "timestamp"}, "events": {"x": "float64", "t": "timestamp"}}


def build(root: Path, spec: dict[str, Any]) -> Any:
    (root / "spec.yaml").write_text(
        yaml.safe_dump({"featureflow": 1, "project": "p", **spec}, sort_keys=False)
    )
    project = featureflow.Project(
        root / "spec.yaml", store=str(root / "store"), scratch=str(root / "scratch")
    )
    project.build()
    return featureflow.open(str(root / "store")).dataset("d")


def written(root: Path, name: str, rows: list[dict[str, Any]], writer: str = "parquet") -> dict[str, Any]:
    """A source of these rows in files."""
    folder = root / name
    folder.mkdir(parents=True)
    path = WRITERS[writer](frame(rows, SPINE if name == "spine" else EVENT), folder)
    source = {"path": str(folder / path), "format": writer, "time": "at" if name == "spine" else "t"}
    return {**source, "columns": CASTS[name]} if writer in ("csv", "json") else source


def spec_of(root: Path, *, writer: str = "parquet", **dataset: Any) -> dict[str, Any]:
    sources = {
        "events": written(root, "events", EVENTS, writer),
        "spine": written(root, "spine", ROWS, writer),
    }
    given = {"spine": {"source": "spine", "keys": ["k"]}, "features": ["table"], "label": LABEL, **dataset}
    return {"sources": sources, "features": {"table": TABLE}, "datasets": {"d": given}}


def expected(spec: dict[str, Any], **events: Any) -> Any:
    """What the oracle says; ``events`` are functions in place of SQL."""
    sources = {
        "events": {**spec["sources"]["events"], "rows": EVENTS, **events},
        "spine": {**spec["sources"]["spine"], "rows": ROWS},
    }
    return evaluate_dataset({**spec, "sources": sources}, "d")


def agree(wanted: Any, dataset: Any) -> None:
    found = dataset_differences(wanted, dataset.to_arrow(encoded=False).to_pylist())
    assert not found, "\n".join(line[:800] for line in found)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_format(tmp_path: Path, writer: str) -> None:
    spec = spec_of(tmp_path, writer=writer)
    wanted = expected(spec)
    values = [row["label"] for row in wanted.rows]
    assert None in values
    assert any(values)
    agree(wanted, build(tmp_path, spec))


def test_a_spine_of_its_own_files(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    path = spec["sources"].pop("spine")["path"]
    spec["datasets"]["d"]["spine"] = {"path": path, "keys": ["k"], "time": "at"}
    spine = {"rows": ROWS, "keys": ["k"], "time": "at"}
    dataset = {**spec["datasets"]["d"], "spine": spine}
    sources = {"events": {**spec["sources"]["events"], "rows": EVENTS}}
    agree(
        evaluate_dataset({**spec, "sources": sources, "datasets": {"d": dataset}}, "d"), build(tmp_path, spec)
    )


def test_a_spine_without_its_repeated_rows(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    spec["sources"]["spine"]["deduplicate"] = ["k", "at"]
    spec["sources"]["spine"]["sequence"] = "id"
    wanted = expected(spec)
    assert 10 < len(wanted.rows) < len(ROWS)
    agree(wanted, build(tmp_path, spec))


def test_a_feature_table_as_the_spine(tmp_path: Path) -> None:
    """Its rows as its files hold them, which is another order than that of its source."""
    spec = spec_of(tmp_path, spine={"source": "table", "keys": ["k"], "columns": ["x_count_1h"]})
    del spec["sources"]["spine"]
    spec["datasets"]["d"]["features"] = [{"table": "table", "columns": ["x_sum_1d"]}]
    sources = {"events": {**spec["sources"]["events"], "rows": EVENTS}}
    wanted = evaluate_dataset({**spec, "sources": sources}, "d")
    found = build(tmp_path, spec).to_arrow().to_pylist()
    places = [(row["t"].date(), row["k"], row["t"]) for row in found]
    assert places == sorted(places)  # day by day, as the table's files are
    wanted.rows.sort(key=key_of)
    agree(wanted, In(sorted(found, key=key_of)))


class In:
    """Rows in the role of a dataset."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_arrow(self, *, encoded: bool) -> In:
        return self

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.rows


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    moment = row["t"]
    us = moment if isinstance(moment, int) else round(moment.timestamp() * 1e6)
    return (row["k"], us, row["x_count_1h"])


@pytest.mark.parametrize("partition", ["day", "month", "none"])
def test_labels_of_a_feature_table_end_where_its_rows_end(tmp_path: Path, partition: str) -> None:
    """Not where the table's last folder ends: what has not happened yet is null."""
    spec = spec_of(tmp_path, label={**LABEL, "source": "table", "column": "x"})
    spec["sources"]["events"]["where"] = "t < '2026-01-02T18:00'"
    spec["features"]["table"] = {**TABLE, "partition": partition}
    wanted = expected(spec, where=lambda row: row["t"] < START + 42 * HOUR)
    assert None in [row["label"] for row in wanted.rows]
    agree(wanted, build(tmp_path, spec))


@pytest.mark.parametrize("partition", ["day", "none"])
def test_labels_of_a_filtered_source_end_where_its_files_end(tmp_path: Path, partition: str) -> None:
    """``where`` that leaves out the last rows does not make the others' horizons longer or shorter."""
    spec = spec_of(tmp_path)
    spec["sources"]["events"]["where"] = "t < '2026-01-02'"
    spec["features"]["table"] = {**TABLE, "partition": partition}
    agree(expected(spec, where=lambda row: row["t"] < START + 24 * HOUR), build(tmp_path, spec))


def test_keys_of_other_widths_are_equal_numbers(tmp_path: Path) -> None:
    events = [{**row, "k": ord(row["k"])} for row in EVENTS]
    spine = [{**row, "k": ord(row["k"])} for row in ROWS]
    (tmp_path / "events").mkdir()
    (tmp_path / "spine").mkdir()
    frame(events, {**EVENT, "k": pl.Int64}).write_parquet(tmp_path / "events" / "0.parquet")
    frame(spine, {**SPINE, "k": pl.Int16}).write_parquet(tmp_path / "spine" / "0.parquet")
    sources = {
        name: {"path": str(tmp_path / name / "*.parquet"), "time": time}
        for name, time in (("events", "t"), ("spine", "at"))
    }
    dataset = {"spine": {"source": "spine", "keys": ["k"]}, "features": ["table"], "label": LABEL}
    spec = {"sources": sources, "features": {"table": TABLE}, "datasets": {"d": dataset}}
    rows = {"events": {**sources["events"], "rows": events}, "spine": {**sources["spine"], "rows": spine}}
    agree(evaluate_dataset({**spec, "sources": rows}, "d"), build(tmp_path, spec))
