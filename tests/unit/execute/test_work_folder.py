"""The work folder of a store: old files go, young ones stay; and how a disk is named."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from featureflow.core.storage import write_atomic
from featureflow.execute.exchange.manifest import Holders, read_holders, touching, write_manifest
from featureflow.execute.exchange.places import disk_name
from featureflow.execute.exchange.scratch import evict_work


def test_old_files_go_pieces_first(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for folder in ("pieces", "exchange"):
        for days in (0, 2, 8):
            path = tmp_path / folder / "ab" / f"{days}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"four")
            moment = (now - timedelta(days=days)).timestamp()
            os.utime(path, (moment, moment))
    assert evict_work(str(tmp_path), dry_run=True, now=now) == (3, 12)
    assert evict_work(str(tmp_path), now=now) == (3, 12)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.arrow")) == [
        "exchange/ab/0.arrow",
        "exchange/ab/2.arrow",
        "pieces/ab/0.arrow",
    ]
    assert evict_work(str(tmp_path / "not there"), now=now) == (0, 0)


def test_a_work_folder_in_a_bucket(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/work"
    write_atomic(f"{url}/pieces/x.arrow", b"x")
    assert evict_work(url) == (0, 0)
    assert evict_work(url, now=datetime.now(UTC) + timedelta(days=2)) == (1, 1)


def test_a_disk_keeps_its_name(tmp_path: Path) -> None:
    first = disk_name(str(tmp_path / "a"))
    assert disk_name(str(tmp_path / "a")) == first
    assert disk_name(str(tmp_path / "b")) != first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["disk-name"]


def test_a_manifest_has_one_name_wherever_its_files_are(tmp_path: Path) -> None:
    entries = [("scratch:exchange/a", 0, 5, False), ("scratch:exchange/b", 4, 9, False)]
    held = {"scratch:exchange/a": "one", "scratch:exchange/b": "two"}
    addresses = {"one": ("tcp://1",), "two": ("tcp://2", "tcp://3")}
    path = write_manifest(str(tmp_path), list(entries), Holders(held, addresses))
    assert read_holders(path) == Holders(held, addresses)
    moved = Holders(dict.fromkeys(held, "two"), {"two": ("tcp://2",)})
    assert write_manifest(str(tmp_path), list(entries), moved) == path
    assert read_holders(path) == Holders(held, addresses)  # what was read before
    assert read_holders(path, again=True) == moved
    assert touching(path, 6, 7) == ("scratch:exchange/b",)
