"""Names for versions: numbers, tags, times, builds; and what the errors say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featureflow.core import storage
from featureflow.core.errors import CorruptionError, TableError
from featureflow.tables import records, tags, versions
from featureflow.tables.references import resolve, split_reference
from featureflow.tables.store import Store
from featureflow.tables.store import open as open_store

Maker = Any  # the fixture of conftest.py
DAY = "2026-01-01"


def tag_moves(table_url: str, tag: str) -> list[tuple[int, dict[str, Any]]]:
    """All moves of a tag by number, as they were written."""
    files = sorted(Path(table_url, "_ff/tags", tag).iterdir())
    return [(int(file.stem), json.loads(file.read_bytes())) for file in files]


@pytest.fixture
def three(maker: Maker, make_events: Any, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Versions published on 1, 2 and 3 November 2026 at noon UTC."""
    import datetime as dt

    from featureflow.tables import commit

    for day in (1, 2, 3):

        class Clock(dt.datetime):
            @classmethod
            def now(cls, tz: Any = None, day: int = day) -> dt.datetime:
                return dt.datetime(2026, 11, day, 12, tzinfo=tz)

        monkeypatch.setattr(commit, "datetime", Clock)
        maker.publish({(DAY, 0): make_events([(day, 0, 1.0)])})
    return maker


@pytest.mark.parametrize(
    ("which", "version"),
    [
        ("latest", 3), ("1", 1), ("3", 3), ("build:build-2", 2), ("prod", 2),
        ("2026-11-01", 1), ("2026-11-02", 2), ("2027-01-01", 3),
        ("2026-11-02T00:00", 1), ("2026-11-02T12:00", 2), ("2026-11-02T11:59:59.999999", 1), ("2026-11-02T12:00Z", 2),
        ("2026-11-02T13:59+02:00", 1), ("2026-11-02T14:00+02:00", 2), ("2026-11-02 12:00", 2),
    ],
)  # fmt: skip
def test_every_way_to_name_a_version(three: Maker, which: str, version: int) -> None:
    tags.set_tag(three.url, "prod", 1)
    tags.set_tag(three.url, "prod", 2)
    assert resolve(three.url, "spend", which).version == version
    assert three.open(which).to_polars()["card"].to_list() == [version]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("4", "spend@4: there is no such version; spend has versions 1 to 3."),
        ("0", "no such version"),
        ("prd", "Did you mean 'prod'? Known: latest, prod. Versions: 1 to 3."),
        ("v2", "Version 2 is spend@2."),
        (
            "2026-10-31",
            "there was no version yet; the first was published at 2026-11-01T12:00:00.000000+00:00",
        ),
        ("2026-13-01", "not a time"),
        ("2026-11-01Tx", "not a time"),
        ("build:nope", "published no version of spend. The latest is 3, by build build-3."),
    ],
)
def test_errors_say_what_there_is(three: Maker, which: str, message: str) -> None:
    tags.set_tag(three.url, "prod", 1)
    with pytest.raises(TableError) as caught:
        resolve(three.url, "spend", which)
    assert message in str(caught.value)


def test_split() -> None:
    assert split_reference("a") == ("a", "latest")
    assert split_reference("a@build:x@y") == ("a", "build:x@y")
    for bad in ("", "@7", "a@"):
        with pytest.raises(TableError):
            split_reference(bad)


def test_a_store(three: Maker, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert store.tables() == ["spend"]
    assert store.table("spend@2").version == 2
    assert store.versions("spend") == [1, 2, 3]
    assert [t.version for t in store.latest()] == [3]
    with pytest.raises(TableError, match=r"no table 'spent'\. Did you mean 'spend'"):
        store.table("spent")
    assert Store(str(tmp_path / "none")).tables() == []
    with pytest.raises(TableError, match="was never published"):
        resolve(str(tmp_path / "none"), "x", "latest")


def test_moves_of_a_tag(three: Maker) -> None:
    tags.set_tag(three.url, "prod", 1, by="ann")
    tags.set_tag(three.url, "prod", 3)
    tags.set_tag(three.url, "staging", 3)
    assert tags.list_tags(three.url) == {"prod": 3, "staging": 3}
    assert [(number, said["version"], said["by"]) for number, said in tag_moves(three.url, "prod")] == [
        (1, 1, "ann"),
        (2, 3, None),
    ]
    assert three.open("3").tags == ["prod", "staging"]
    tags.set_tag(three.url, "prod", None)
    assert tags.list_tags(three.url) == {"staging": 3}
    assert tags.current(three.url, "prod") is None


@pytest.mark.parametrize(
    "name", ["7", "Prod", "latest", "2026-11-01", "../x", "a/b", "a:b", "", "-a", "x" * 64]
)
def test_names_that_are_no_tags(three: Maker, name: str) -> None:
    with pytest.raises(TableError, match="tag"):
        tags.set_tag(three.url, name, 1)


def test_a_tag_needs_a_version(three: Maker) -> None:
    with pytest.raises(TableError, match="has no version 9"):
        tags.set_tag(three.url, "prod", 9)


def test_projections_are_made_up_for(three: Maker) -> None:
    folder = Path(three.url) / "_ff" / "versions"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for gone in ([3], [2, 3], [1, 2, 3]):
        for number in gone:
            storage.delete(f"{three.url}/{versions.version_path(number)}")
        assert three.open().version == 3
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_reader_that_may_not_write_still_reads(three: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.delete(f"{three.url}/{versions.version_path(3)}")

    def denied(*_: Any) -> bool:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(storage, "write_new", denied)
    assert three.open().version == 3


def test_a_lost_log_entry_is_an_error(three: Maker) -> None:
    storage.delete(f"{three.url}/{versions.version_path(3)}")
    storage.delete(f"{three.url}/{versions.version_path(2)}")
    (Path(three.url) / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(TableError, match="lost entries"):
        three.open()


def test_every_byte_of_the_small_objects_is_guarded(three: Maker) -> None:
    info = resolve(three.url, "spend", "2")
    for name in (f"{info.record}.json", f"{info.record}.files", versions.version_path(2)):
        path = Path(three.url) / name
        good = path.read_bytes()
        for place in range(0, len(good), max(1, len(good) // 150)):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
            with pytest.raises(CorruptionError) as caught:
                three.open("2")
            assert name in str(caught.value)
        path.write_bytes(good)
    assert three.open("2").version == 2


def test_a_record_of_a_newer_engine_is_refused(three: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    info = resolve(three.url, "spend", "2")
    path = Path(three.url) / f"{info.record}.json"
    record = json.loads(path.read_bytes())
    data = json.dumps({**record, "format": 2}).encode()
    path.write_bytes(data)
    with pytest.raises(TableError, match=r"newer featureflow \(record format 2"):
        records.read_record(three.url, info.record, records.digest(data))
