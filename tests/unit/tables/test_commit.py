"""Publishing: one commit is one version, and what would lose, double or hide rows is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema, write_deltalake

from featureflow.core.errors import CommitConflict, CorruptionError, TableError
from featureflow.tables import delta_log
from featureflow.tables.layout import file_path, partition_column, storable
from featureflow.tables.state import current_state
from featureflow.tables.versions import head, read_version

Maker = Any  # the fixture of conftest.py
Events = Callable[[list[tuple[Any, ...]]], pa.Table]
DAYS = ["2026-01-01", "2026-01-02"]


def live(url: str, version: int | None = None) -> list[tuple[Any, ...]]:
    frame = pl.read_delta(url, version=version)
    return sorted(frame.select("card", "ts", "amount").rows(), key=repr)


def rows_of(*tables: pa.Table) -> list[tuple[Any, ...]]:
    return sorted(pl.DataFrame(pa.concat_tables(tables)).rows(), key=repr)


def test_first_version_then_an_increment(maker: Maker, make_events: Events) -> None:
    a, b = make_events([(1, 0, 1.0), (2, 5, None)]), make_events([(1, 1440, 2.0)])
    first = maker.publish({(DAYS[0], 0): a, (DAYS[1], 0): b})
    assert (first.version, first.delta_version, first.rows, first.files_added) == (1, 0, 3, 2)
    c = make_events([(3, 1500, 9.0), (4, 1501, 8.0)])
    second = maker.publish({(DAYS[1], 0): c})
    assert (second.version, second.delta_version, second.rows) == (2, 1, 4)
    assert (second.files_added, second.files_removed, second.files_kept) == (1, 1, 1)
    assert live(maker.url) == rows_of(a, c)
    assert live(maker.url, 0) == rows_of(a, b)
    state = current_state(maker.url)
    assert state is not None
    assert list(state.units) == [(DAYS[0], 0), (DAYS[1], 0)]
    assert state.units[DAYS[1], 0].rows == 2
    assert (state.definition_hash, state.record["definition"], state.record["parent"]) == ("h", {"n": 2}, 1)
    assert state.record["statistics"]["amount"] == {
        "count": 3, "nulls": 1, "min": 1.0, "max": 9.0, "sum": 18.0, "mean": 6.0
    }  # fmt: skip


def test_the_same_table_in_every_engine(maker: Maker, make_events: Events) -> None:
    import duckdb

    table = make_events([(1, 0, 1.5), (2, 1, None), (3, None, 3.0)])
    maker.publish({(DAYS[0], 0): table.slice(0, 2), (None, 0): table.slice(2)})
    expected = rows_of(table)
    delta = DeltaTable(maker.url)
    assert (
        sorted(pl.DataFrame(delta.to_pyarrow_table(columns=table.schema.names)).rows(), key=repr) == expected
    )
    assert live(maker.url) == expected
    assert set(pl.read_delta(maker.url)["day"].cast(pl.String)) == {DAYS[0], None}
    frame = delta.to_pandas()
    assert sorted(frame["card"]) == [1, 2, 3] and frame["amount"].isna().sum() == 1
    files = [u.removeprefix("file://") for u in delta.file_uris()]
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    found = con.sql(
        f"select card, amount from read_parquet({files}, hive_partitioning=false) order by card"
    ).fetchall()
    assert found == [(1, 1.5), (2, None), (3, 3.0)]
    assert delta.transaction_version("featureflow") == 1
    assert delta.history(1)[0]["featureflow"]["build"] == "build-1"


@pytest.mark.parametrize(
    ("partition", "slice_", "kind"),
    [("day", DAYS[0], "date"), ("month", "2026-01", "string"), ("year", "2026", "string")],
)
def test_partitions(maker: Maker, make_events: Events, partition: str, slice_: str, kind: str) -> None:
    maker.partition = partition
    maker.publish({(slice_, 0): make_events([(1, 0, 1.0)])})
    field = DeltaTable(maker.url).schema().fields[-1]
    assert (field.name, json.loads(field.to_json())["type"]) == (partition, kind)
    assert DeltaTable(maker.url).metadata().partition_columns == [partition]
    assert live(maker.url) == rows_of(make_events([(1, 0, 1.0)]))


def test_no_partition(maker: Maker, make_events: Events) -> None:
    maker.partition = "none"
    maker.publish({(None, 0): make_events([(1, 0, 1.0)]), (None, 1): make_events([(2, None, 1.0)])})
    assert live(maker.url) == rows_of(make_events([(1, 0, 1.0), (2, None, 1.0)]))
    assert [f.path for f in current_state(maker.url).files] == ["b000-0001.parquet", "b001-0001.parquet"]  # type: ignore[union-attr]


def test_the_storage_column_gives_way_to_a_column_of_the_data(maker: Maker, make_events: Events) -> None:
    table = make_events([(1, 0, 1.0)]).append_column("Day", pa.array([31]))
    maker.publish({(DAYS[0], 0): table})
    assert pl.read_delta(maker.url).columns == ["card", "ts", "amount", "Day", "day_"]
    assert partition_column("month", ["month", "month_"]) == "month__"


def test_zero_rows(maker: Maker, make_events: Events) -> None:
    schema = storable(make_events([]).schema)
    published = maker.publish({}, schema=schema)
    assert (published.version, published.rows) == (1, 0)
    assert pl.read_delta(maker.url).shape == (0, 4)
    assert maker.open().to_polars().shape == (0, 3)
    assert maker.open().to_pandas().shape == (0, 3)
    maker.publish({(DAYS[0], 0): make_events([])})
    assert pl.read_delta(maker.url).shape == (0, 4)
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    assert live(maker.url) == rows_of(make_events([(1, 0, 1.0)]))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.append_column("more", pa.array(["x"] * t.num_rows)),
        lambda t: t.drop(["amount"]).append_column("amount", pa.array(["1"] * t.num_rows)),
        lambda t: t.set_column(0, "card", t["card"].cast(pa.string())),
        lambda t: t.drop(["amount"]),
    ],
    ids=["added", "changed", "key changed", "removed"],
)
def test_another_schema_is_a_full_replacement_in_one_commit(
    maker: Maker, make_events: Events, change: Any
) -> None:
    old = make_events([(1, 0, 1.0)])
    maker.publish({(DAYS[0], 0): old, (DAYS[1], 0): make_events([(1, 1440, 1.0)])})
    new = change(make_events([(5, 0, 5.0)]))
    published = maker.publish({(DAYS[0], 0): new})
    assert (published.delta_version, published.files_removed, published.files_added) == (1, 2, 1)
    assert pl.read_delta(maker.url).drop("day").rows() == pl.DataFrame(new).rows()
    assert pl.read_delta(maker.url, version=0).height == 2
    assert maker.open("1").to_polars().height == 2
    assert maker.open().schema.names == new.schema.names


def test_another_partition_is_a_full_replacement_in_one_commit(maker: Maker, make_events: Events) -> None:
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    old = [f.path for f in current_state(maker.url).files]  # type: ignore[union-attr]
    maker.partition = "month"
    maker.publish({("2026-01", 0): make_events([(2, 0, 2.0)])}, removes=old)
    delta = DeltaTable(maker.url)
    assert (delta.version(), delta.metadata().partition_columns) == (1, ["month"])
    assert pl.read_delta(maker.url).select("card", "month").rows() == [(2, "2026-01")]
    assert pl.read_delta(maker.url, version=0).select("card").rows() == [(1,)]


def test_schema_text_is_what_deltalake_writes() -> None:
    kinds = [
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.float32(),
        pa.float64(),
        pa.string(),
        pa.binary(),
        pa.bool_(),
    ]
    kinds += [pa.date32(), pa.timestamp("us", "UTC"), pa.decimal128(20, 3), pa.list_(pa.float64())]
    kinds += [pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]), pa.map_(pa.string(), pa.int64())]
    schema = storable(pa.schema([pa.field(f"c{i}", kind) for i, kind in enumerate(kinds)]))
    ours = delta_log.metadata_action("id", schema, None, None, [], 0)["metaData"]["schemaString"]
    assert Schema.from_json(ours) == Schema.from_arrow(schema)
    from featureflow.tables.schema_json import schema_from_json, schema_to_json

    assert schema_from_json(schema_to_json(schema)).equals(schema)


def test_nothing_but_a_definition_changed(maker: Maker, make_events: Events) -> None:
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    published = maker.publish({}, record={"definition_hash": "other"})
    assert (published.version, published.files_added, published.files_removed, published.files_kept) == (
        2,
        0,
        0,
        1,
    )
    assert current_state(maker.url).definition_hash == "other"  # type: ignore[union-attr]


def test_planned_against_an_older_version(maker: Maker, make_events: Events) -> None:
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    with pytest.raises(CommitConflict, match="planned against no table, but there is version 1"):
        maker.publish({(DAYS[1], 0): make_events([(1, 0, 1.0)])}, expected_version=None, removes=[])
    with pytest.raises(CommitConflict, match="planned against version 4"):
        maker.publish({(DAYS[1], 0): make_events([(1, 0, 1.0)])}, expected_version=4)
    assert head(maker.url).last_commit == 0  # type: ignore[union-attr]


def test_a_build_publishes_once(maker: Maker, make_events: Events) -> None:
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])}, record={"build": "b"})
    again = maker.publish(
        {(DAYS[1], 0): make_events([(2, 0, 1.0)])}, record={"build": "b"}, expected_version=None
    )
    assert (again.version, again.rows, again.files_added) == (1, 1, 0)
    assert head(maker.url).last_commit == 0  # type: ignore[union-attr]


def test_two_files_for_one_unit_are_refused(maker: Maker, make_events: Events) -> None:
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    with pytest.raises(TableError, match="same slice and bucket"):
        maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])}, removes=[])
    assert len(live(maker.url)) == 1


def test_requests_that_contradict_themselves_are_refused(maker: Maker, make_events: Events) -> None:
    table = make_events([(1, 0, 1.0)])
    maker.publish({(DAYS[0], 0): table})
    with pytest.raises(TableError, match="does not list it"):
        maker.publish({}, removes=["day=2026-01-01/b000-ffff.parquet"])
    wider = maker.stage(DAYS[1], 0, table.append_column("x", pa.array([1])), "aa")
    with pytest.raises(TableError, match="other columns"):
        maker.publish({}, adds=[wider])
    with pytest.raises(TableError, match="replaces every file"):
        maker.publish({(DAYS[1], 0): table.drop(["amount"])}, removes=[])
    maker.partition = "month"
    with pytest.raises(TableError, match="another partition"):
        maker.publish({("2026-01", 0): table})
    maker.partition = "day"
    wrong = maker.stage("2026-01", 0, table, "ab")
    with pytest.raises(TableError, match="does not fit partition: day"):
        maker.publish({}, adds=[wrong])
    with pytest.raises(TableError, match=r"key or time columns \['nope'\]"):
        maker.publish({}, keys=["nope"])
    with pytest.raises(ValueError, match="rows"):
        maker.publish({}, record={"rows": 1})
    assert head(maker.url).last_commit == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_staged_files_must_still_be_there(maker: Maker, make_events: Events, damage: str) -> None:
    staged = maker.stage(DAYS[0], 0, make_events([(1, 0, 1.0)]), "aa")
    path = Path(maker.url) / staged.path
    path.unlink() if damage == "missing" else path.write_bytes(b"PAR1")
    with pytest.raises(CorruptionError, match="missing" if damage == "missing" else "has 4 bytes"):
        maker.publish({}, schema=make_events([]).schema, adds=[staged])
    assert head(maker.url) is None


def test_a_foreign_commit_stops_publishing_until_it_is_undone(maker: Maker, make_events: Events) -> None:
    from featureflow.tables.restore import restore

    table = make_events([(1, 0, 1.0)])
    maker.publish({(DAYS[0], 0): table})
    foreign = pl.DataFrame(make_events([(9, 0, 9.0)])).with_columns(day=pl.date(2026, 1, 1)).to_arrow()
    write_deltalake(maker.url, foreign, mode="append")
    with pytest.raises(TableError, match=r"commit 1 .* was not made by featureflow"):
        maker.publish({(DAYS[1], 0): table})
    assert maker.open().to_polars().height == 1  # our versions never show it
    published = restore(maker.url, "spend", "1", build="undo")
    assert (published.version, published.delta_version) == (2, 2)
    assert live(maker.url) == rows_of(table)
    maker.publish({(DAYS[1], 0): make_events([(2, 1440, 1.0)])})
    assert live(maker.url) == rows_of(table, make_events([(2, 1440, 1.0)]))


def test_a_foreign_overwrite_is_undone(maker: Maker, make_events: Events) -> None:
    from featureflow.tables.restore import restore

    table = make_events([(1, 0, 1.0)])
    maker.publish({(DAYS[0], 0): table})
    write_deltalake(
        maker.url,
        pl.DataFrame({"other": [1]}).to_arrow(),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=[],
    )
    restore(maker.url, "spend", "latest", build="undo")
    assert live(maker.url) == rows_of(table)


def test_a_commit_without_changes_by_others_is_harmless(maker: Maker, make_events: Events) -> None:
    maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    DeltaTable(maker.url).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    published = maker.publish({(DAYS[1], 0): make_events([(1, 1440, 1.0)])})
    assert published.version == 2
    assert len(live(maker.url)) == 2


def test_checkpoints_keep_every_version(
    maker: Maker, make_events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_log, "CHECKPOINT_INTERVAL", 2)
    for i in range(6):
        maker.publish({(DAYS[0], 0): make_events([(i, 0, 1.0)])})
    assert (Path(maker.url) / "_delta_log" / "_last_checkpoint").exists()
    assert DeltaTable(maker.url).transaction_version("featureflow") == 6
    for i in range(6):
        assert [row[0] for row in live(maker.url, i)] == [i]
        assert maker.open(str(i + 1)).to_polars()["card"].to_list() == [i]


def test_published_times_grow_even_if_the_clock_does_not(maker: Maker, make_events: Events) -> None:
    for _ in range(3):
        maker.publish({(DAYS[0], 0): make_events([(1, 0, 1.0)])})
    path = Path(maker.url) / "_ff" / "versions"
    times = [read_version(maker.url, n).published for n in (1, 2, 3)]
    assert times == sorted(set(times))
    assert len(list(path.iterdir())) == 3


def test_paths_are_checked() -> None:
    from featureflow.tables.layout import parse_path

    assert parse_path(file_path("day", None, 12, "ab")) == ("day", None, 12, "ab")
    for bad in (
        "../x",
        "day=2026-01-01/b000-.parquet",
        "day=2026-01-01/b000-zz.parquet",
        "/b000-aa.parquet",
        "b0-aa.parquet",
    ):
        with pytest.raises(TableError):
            parse_path(bad)
