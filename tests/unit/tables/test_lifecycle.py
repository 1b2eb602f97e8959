"""History, differences, restoring and garbage collection."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from featureflow.core.errors import CommitConflict, CorruptionError, TableError
from featureflow.tables import tags
from featureflow.tables.collect import gc, unpublished
from featureflow.tables.diff import Changed, RowChanges, diff
from featureflow.tables.history import history
from featureflow.tables.parquet_files import find_staged
from featureflow.tables.restore import restore
from featureflow.tables.verify import verify

Maker = Any  # the fixture of conftest.py
Events = Callable[[list[tuple[Any, ...]]], pa.Table]
D1, D2, D3 = "2026-01-01", "2026-01-02", "2026-01-03"
LATER = datetime.now(UTC) + timedelta(days=30)


def files(maker: Maker) -> set[str]:
    return {str(p.relative_to(maker.url)) for p in Path(maker.url).glob("day=*/*")}


def cards(maker: Maker, which: str = "latest") -> list[int]:
    return maker.open(which).to_polars()["card"].to_list()  # type: ignore[no-any-return]


@pytest.fixture
def four(maker: Maker, make_events: Events) -> Maker:
    """Version n holds card n on day 1; day 2 is the same in all."""
    for n in range(1, 5):
        day2 = {(D2, 0): make_events([(9, 1440, 1.0)])} if n == 1 else {}
        rows = make_events([(n, 0, 1.0)])
        maker.publish({(D1, 0): rows, **day2}, record={"definition_hash": f"definition-{n}"})
    return maker


def test_history(four: Maker) -> None:
    tags.set_tag(four.url, "prod", 2)
    entries = history(four.url)
    assert [(e.info.version, e.tags, e.expired) for e in entries] == [
        (4, (), False), (3, (), False), (2, ("prod",), False), (1, (), False)
    ]  # fmt: skip
    assert [e.info.version for e in history(four.url, limit=2)] == [4, 3]
    assert history(four.url + "x") == []


def test_restore_is_a_new_version_with_the_old_content(four: Maker) -> None:
    published = restore(four.url, "spend", "2", build="r", by={"reason": "bad data"})
    assert (published.version, published.files_added, published.files_removed, published.files_kept) == (
        5,
        1,
        1,
        1,
    )
    table = four.open()
    assert cards(four) == [2, 9]
    assert pl.read_delta(four.url)["card"].sort().to_list() == [2, 9]
    assert (table.definition, table.record["restored_from"], table.record["reason"]) == (
        {"n": 2},
        2,
        "bad data",
    )
    assert table.state.definition_hash == "definition-2"
    assert table.record["statistics"] == four.open("2").record["statistics"]
    assert table.diff("2").same and not table.diff("4").same
    assert verify(four.url, "spend", deep=True).problems == ()


def test_restore_over_another_schema_and_partition(maker: Maker, make_events: Events) -> None:
    maker.publish({(D1, 0): make_events([(1, 0, 1.0)])})
    old = maker.open().state.files
    maker.partition = "month"
    maker.publish(
        {("2026-01", 0): make_events([(2, 0, 2.0)]).append_column("x", pa.array(["y"]))},
        removes=[old[0].path],
    )
    restore(maker.url, "spend", "1", build="r")
    assert pl.read_delta(maker.url).columns == ["card", "ts", "amount", "day"]
    assert cards(maker) == [1]


def test_restore_loses_a_race(four: Maker, make_events: Events) -> None:
    def race(phase: str) -> None:
        if phase == "recorded":
            four.publish({(D3, 0): make_events([(7, 2880, 1.0)])})

    with pytest.raises(CommitConflict):
        restore(four.url, "spend", "1", build="r", on_phase=race)
    assert cards(four) == [4, 7, 9]


def test_diff_of_data(maker: Maker, make_events: Events) -> None:
    same = make_events([(5, 1440, 1.0)])
    maker.publish(
        {(D1, 0): make_events([(1, 0, 1.0), (1, 0, 1.0), (2, 0, 2.0), (3, 0, None)]), (D2, 0): same}
    )
    maker.publish({(D1, 0): make_events([(1, 0, 1.0), (2, 0, 2.5), (3, 0, None), (4, 0, 4.0)])})
    found = maker.open().diff("spend@1")
    assert found.rows == RowChanges(added=1, removed=1, changed=1)
    assert (found.slices_changed, found.slices_shared) == ((D1,), 1)
    assert (found.files_shared, found.files_added, found.files_removed) == (1, 1, 1)
    assert found.definition == (Changed("n", 1, 2),)
    assert found.statistics["column"].to_list() == ["card", "amount"]
    assert found.lines()[1:] == [
        "rows: 5 -> 5 (1 added, 1 removed, 1 changed)",
        "files: 1 shared, 1 added, 1 removed",
        "partitions: 1 changed (2026-01-01), 1 shared",
    ]


def test_diff_of_files_with_the_same_rows(maker: Maker, make_events: Events) -> None:
    rows = make_events([(1, 0, 1.0), (2, 0, None), (None, 0, 1.0)])
    maker.publish({(D1, 0): rows})
    maker.publish({(D1, 0): rows})
    assert maker.open().diff("1").rows == RowChanges(0, 0, 0)


def test_diff_of_schema_and_definition(maker: Maker, make_events: Events) -> None:
    maker.publish(
        {(D1, 0): make_events([(1, 0, 1.0)])}, record={"definition": {"a": [{"op": "sum"}], "b": 1}}
    )
    rows = (
        make_events([(1, 0, 1.0)])
        .drop(["amount"])
        .append_column("list", pa.array([[1]], pa.list_(pa.int64())))
    )
    maker.publish({(D1, 0): rows}, record={"definition": {"a": [{"op": "mean"}], "c": 2}})
    found = maker.open().diff("1")
    assert (found.columns_added, found.columns_removed) == (("list",), ("amount",))
    assert found.definition == (
        Changed("a[0].op", "sum", "mean"),
        Changed("b", 1, None),
        Changed("c", None, 2),
    )
    assert found.rows == RowChanges(0, 0, 0)  # compared over what both have
    with pytest.raises(TableError, match="another table"):
        maker.open().diff("other@1")


def test_diff_of_columns_of_lists_and_maps(maker: Maker, make_events: Events) -> None:
    def rows(value: int) -> pa.Table:
        table = make_events([(1, 0, 1.0)]).append_column("l", pa.array([[1, value]], pa.list_(pa.int64())))
        return table.append_column("m", pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())))

    for value in (1, 1, 2):
        maker.publish({(D1, 0): rows(value)})
    assert diff(maker.open("1"), maker.open("2")).rows == RowChanges(0, 0, 0)
    assert diff(maker.open("2"), maker.open("3")).rows == RowChanges(0, 0, 1)


def test_diff_does_not_read_what_is_too_large(four: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featureflow.tables.diff.ROW_BYTES", 10)
    found = four.open().diff("1")
    assert found.rows is None and "rows: 2 -> 2" in found.lines()


def test_gc_keeps_what_kept_versions_need(four: Maker) -> None:
    tags.set_tag(four.url, "prod", 2)
    before = files(four)
    planned = gc(four.url, "spend", keep=1, dry_run=True)
    assert files(four) == before and cards(four, "1") == [1, 9]
    done = gc(four.url, "spend", keep=1)
    assert (done.expired, done.kept, done.files, done.bytes) == (
        planned.expired,
        planned.kept,
        planned.files,
        planned.bytes,
    )
    assert (done.expired, done.kept) == ((1, 3), (2, 4))
    assert before - files(four) == set(done.files) and len(done.files) == 2
    assert cards(four, "prod") == [2, 9] and cards(four) == [4, 9]
    assert (
        verify(four.url, "spend", "2", deep=True).problems
        == ()
        == verify(four.url, "spend", deep=True).problems
    )
    assert gc(four.url, "spend", keep=1).expired == ()


def test_an_expired_version_says_so(four: Maker) -> None:
    open_before = four.open("1")
    gc(four.url, "spend", keep=2)
    for attempt in (
        lambda: four.open("1"),
        lambda: open_before.to_polars(),
        lambda: restore(four.url, "spend", "1", build="r"),
    ):
        with pytest.raises(TableError, match=r"spend@1 has expired.*Versions still there: 3, 4"):
            attempt()
    with pytest.raises(TableError, match="expired"):
        tags.set_tag(four.url, "old", 2)
    assert [e.expired for e in history(four.url)] == [False, False, True, True]


def test_gc_by_age(four: Maker) -> None:
    assert gc(four.url, "spend", older_than=timedelta(days=1)).expired == ()
    assert gc(four.url, "spend", keep=2, older_than=timedelta(days=40), now=LATER, dry_run=True).expired == ()
    assert gc(four.url, "spend", older_than=timedelta(days=1), now=LATER).kept == (4,)
    with pytest.raises(TableError, match="keep must be 1 or more"):
        gc(four.url, "spend", keep=0)


def test_leftovers_of_killed_builds_go_when_they_are_old(four: Maker, make_events: Events) -> None:
    staged = four.stage(D3, 0, make_events([(1, 2880, 1.0)]), "dead")
    temporary = Path(four.url) / f"day={D3}" / ".tmp-abc"
    temporary.write_bytes(b"half")
    orphan = Path(four.url) / "_ff" / "records" / "000000009-killed-00.json"
    orphan.write_bytes(b"{}")
    assert gc(four.url, "spend").files == ()
    assert find_staged(four.url, staged.path) is not None
    done = gc(four.url, "spend", now=LATER)
    assert set(done.files) == {staged.path, f"day={D3}/.tmp-abc", "_ff/records/000000009-killed-00.json"}
    assert not temporary.exists() and not orphan.exists()
    assert find_staged(four.url, staged.path) is None
    assert [cards(four, str(n)) for n in range(1, 5)] == [[n, 9] for n in range(1, 5)]


def test_leftovers_of_a_table_that_was_never_published_go_when_they_are_old(tmp_path: Path) -> None:
    url = tmp_path / "features" / "spend"
    with pytest.raises(TableError, match="was never published"):
        gc(str(url), "spend")
    ours = [
        "day=2026-01-01/b000-ab12.parquet",
        "b001-cd34.parquet",
        "day=2026-01-02/.tmp-1",
        "_ff/progress/x",
    ]
    for name in [*ours, "notes.txt", "day=2026-01-01/mine.parquet"]:
        (url / name).parent.mkdir(parents=True, exist_ok=True)
        (url / name).write_bytes(b"12345")
    assert [(one.kind, one.reference) for one in unpublished(str(tmp_path))] == [("table", "features/spend")]
    assert gc(str(url), "spend").files == (), "a build may be running"
    dry = gc(str(url), "spend", now=LATER, dry_run=True)
    assert sorted(dry.files) == sorted(ours)
    assert dry.bytes == 20
    assert gc(str(url), "spend", now=LATER).files == dry.files
    left = sorted(str(path.relative_to(url)) for path in url.rglob("*") if path.is_file())
    assert left == ["day=2026-01-01/mine.parquet", "notes.txt"], "not ours"


def test_a_file_that_a_build_reuses_outlives_its_version(four: Maker) -> None:
    path = next(f.path for f in four.open("1").state.files if D1 in f.path)
    os.utime(Path(four.url) / path, (0, 0))
    assert find_staged(four.url, path) is not None  # touches it
    gc(four.url, "spend", keep=1)
    assert (Path(four.url) / path).exists()
    gc(four.url, "spend", keep=1, now=LATER)
    assert not (Path(four.url) / path).exists()


def test_gc_refuses_a_table_with_foreign_commits(four: Maker) -> None:
    from deltalake import write_deltalake

    write_deltalake(four.url, pl.read_delta(four.url).to_arrow(), mode="append")
    with pytest.raises(TableError, match="not featureflow's"):
        gc(four.url, "spend", keep=1)


def test_gc_stopped_halfway_leaves_readable_versions(four: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from featureflow.core import storage

    def refuse(url: str) -> bool:
        raise OSError(5, "stopped")

    monkeypatch.setattr(storage, "delete", refuse)
    with pytest.raises(OSError, match="stopped"):
        gc(four.url, "spend", keep=1)
    monkeypatch.undo()
    with pytest.raises(TableError, match="expired"):
        four.open("1")
    assert cards(four) == [4, 9]
    done = gc(four.url, "spend", keep=1, now=LATER)
    assert len(done.files) == 3 and cards(four) == [4, 9]


def test_a_missing_file_of_a_version_that_did_not_expire_is_corruption(four: Maker) -> None:
    table = four.open()
    (Path(four.url) / table.state.files[0].path).unlink()
    with pytest.raises(CorruptionError, match="is missing"):
        table.to_polars()
