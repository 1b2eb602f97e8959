"""Changes of references take a lock on local disks, and errors say what they mean."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import icechunk
import pytest
from unit.tables.array_world import cube, publish_grid

from featureflow.core.errors import CorruptionError, TableError
from featureflow.tables import arrays_repository
from featureflow.tables.arrays import open_arrays, project_arrays
from featureflow.tables.arrays_repository import changing, make_tag, open_repository
from featureflow.tables.store import open_table


def is_locked(url: str) -> bool:
    """Whether another process would have to wait."""
    handle = os.open(Path(url, "_ff/arrays.lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def test_every_change_of_a_reference_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "sea")
    changes = {
        icechunk.Session: ["commit"],
        icechunk.Repository: ["create", "create_branch", "create_tag", "reset_branch", "delete_branch"],
    }
    seen: dict[str, bool] = {}

    def watched(name: str, real: object) -> object:
        def call(*given: object, **options: object) -> object:
            seen[name] = seen.get(name, True) and is_locked(url)
            return real(*given, **options)  # type: ignore[operator]

        return call

    for kind, names in changes.items():
        for name in names:
            real = getattr(kind, name)
            made = watched(name, real)
            monkeypatch.setattr(kind, name, staticmethod(made) if name == "create" else made)
    publish_grid(url, cube(8), "b1")
    assert seen == dict.fromkeys(["commit", *changes[icechunk.Repository]], True)
    assert not is_locked(url)
    with changing(url):
        assert is_locked(url)


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("fuse.sshfs", True), ("cifs", True), ("ext4", False), ("overlay", False)],
)
def test_shared_file_systems_are_refused(
    tmp_path: Path, kind: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_repository, "_file_system", lambda _path: kind)

    @contextmanager
    def expected() -> Iterator[None]:
        if refused:
            with pytest.raises(TableError, match=f"shared file system \\({kind}\\)"):
                yield
        else:
            yield

    with expected():
        assert open_repository(str(tmp_path / "sea"), create=True)


def test_a_forked_process_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "sea")
    publish_grid(url, cube(8), "b1")
    snapshot = open_table(url, "sea").record["arrays"]["snapshot"]
    monkeypatch.setattr(arrays_repository, "_process", os.getpid() + 1)  # what a child finds
    with pytest.raises(TableError, match="before it was forked"):
        open_arrays(url, snapshot)


def test_what_is_not_there(tmp_path: Path) -> None:
    url = str(tmp_path / "sea")
    with pytest.raises(TableError, match="there are no arrays"):
        open_repository(url)
    with pytest.raises(TableError, match="local disks and S3"):
        open_repository("memory://store/sea")
    publish_grid(url, cube(8), "b1")
    with pytest.raises(CorruptionError, match=r"seals/0+G\.json: is missing"):
        open_arrays(url, "0000000000000000000G")
    with pytest.raises(TableError, match=r"sea/_ff/arrays: .*(snapshot|object not found)"):
        project_arrays(url, 9, "0000000000000000000G")


def test_a_tag_never_moves(tmp_path: Path) -> None:
    url = str(tmp_path / "sea")
    publish_grid(url, cube(8), "b1")
    publish_grid(url, cube(12), "b2", first=8)
    with pytest.raises(CorruptionError, match="tag v1 points to"):
        make_tag(url, open_repository(url), "v1", open_repository(url).lookup_tag("v2"))
